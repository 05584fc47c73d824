//! A record as people and scripts see it: JSON with names instead of numbers, money as exact decimals in USD.

use serde_json::{Value, json};

use super::record::Record;
use crate::llm::usage::Usage;
use crate::units::Cost;

impl Record {
    /// The record as JSON. Unknown things are null, above all an unknown cost.
    pub fn shown(&self) -> Value {
        let mut shown = json!({
            "id": self.id.to_string(),
            "arrived_unix_ms": self.id.unix_ms(),
            "finished_unix_ms": self.finished_unix_ms,
            "session": self.session,
            "agent": self.agent,
            "key": self.key,
            "team": self.team,
            "phase": self.phase,
            "depth": self.depth,
            "priority": self.priority.as_str(),
            "task": self.task,
            "provider": self.provider,
            "endpoint": self.endpoint,
            "requested_model": self.requested_model,
            "model": self.model,
            "stream": self.stream,
            "status": self.status,
            "outcome": self.outcome.as_str(),
            "error": self.error,
            "usage": usage(&self.usage),
            "provenance": self.provenance.as_str(),
            "cost_usd": decimal(self.cost),
            "cost_source": self.cost_source.as_str(),
            "table_cost_usd": decimal(self.table_cost),
            "service_tier": self.service_tier,
            "attempts": self.attempts,
            "queued_us": self.queued_us,
            "added_us": self.added_us,
            "first_byte_us": self.first_byte_us,
            "total_us": self.total_us,
            "request_bytes": self.request_bytes,
            "response_bytes": self.response_bytes,
            "answer_id": self.answer_id,
            "level": self.level.as_str(),
            "decided_by": self.decided_by,
            "reserved_tokens": self.reserved_tokens,
            "reserved_cost_usd": decimal(self.reserved_cost),
            "flags": self.flags.names().collect::<Vec<_>>(),
        });
        // Apart from the rest, which is as long as the macro can be.
        for (name, value) in [
            ("requested_provider", json!(self.requested_provider)),
            ("sent_model", json!(self.sent_model)),
            ("routed_by", json!(self.routed_by)),
            ("routed_to", json!(self.routed_to)),
            ("saving_usd", json!(decimal(self.saving))),
        ] {
            shown[name] = value;
        }
        shown
    }
}

fn usage(usage: &Usage) -> Value {
    json!({
        "input": usage.input,
        "cached_read": usage.cached_read,
        "cache_write": usage.cache_write,
        "cache_write_1h": usage.cache_write_1h,
        "cache_write_12h": usage.cache_write_12h,
        "output": usage.output,
        "reasoning": usage.reasoning,
        "audio_in": usage.audio_in,
        "audio_out": usage.audio_out,
        "image_in": usage.image_in,
        "image_out": usage.image_out,
        "video_in": usage.video_in,
        "video_out": usage.video_out,
        "web_searches": usage.web_searches,
    })
}

fn decimal(cost: Option<Cost>) -> Option<String> {
    cost.map(|cost| cost.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::throttle::Level;
    use crate::units::RequestId;

    #[test]
    fn money_is_exact_and_an_unknown_cost_is_null() {
        let mut record = Record::new(RequestId::new(1_795_000_000_000, 1, 1));
        record.cost = "0.0000000375".parse().ok();
        let shown = record.shown();
        assert_eq!(shown["cost_usd"], "0.0000000375");
        assert_eq!(shown["table_cost_usd"], Value::Null);
        assert_eq!(shown["reserved_cost_usd"], Value::Null);
        assert_eq!(shown["arrived_unix_ms"], 1_795_000_000_000_u64);
    }

    #[test]
    fn how_a_request_was_decided_upon_is_shown() {
        let mut record = Record::new(RequestId(1));
        record.level = Level::Warning;
        record.decided_by = Some("global-usd-month".to_owned());
        record.reserved_cost = "0.25".parse().ok();
        record.flags.price_assumed = true;
        let shown = record.shown();
        assert_eq!(shown["level"], "WARNING");
        assert_eq!(shown["decided_by"], "global-usd-month");
        assert_eq!(shown["reserved_cost_usd"], "0.25");
        assert_eq!(shown["flags"], json!(["price_assumed"]));
    }

    #[test]
    fn how_a_request_was_routed_and_what_that_saved_is_shown() {
        let mut record = Record::new(RequestId(1));
        for name in ["requested_provider", "routed_by", "routed_to", "saving_usd"] {
            assert_eq!(record.shown()[name], Value::Null, "{name} is there");
            assert!(record.shown().get(name).is_some(), "{name} is there");
        }
        record.requested_provider = Some("anthropic".to_owned());
        record.routed_by = Some("rule:ui".to_owned());
        record.routed_to = Some("ollama/qwen3:8b".to_owned());
        record.saving = "-0.0025".parse().ok();
        record.flags.route_shadow = true;
        let shown = record.shown();
        assert_eq!(shown["requested_provider"], "anthropic");
        assert_eq!(shown["routed_by"], "rule:ui");
        assert_eq!(shown["routed_to"], "ollama/qwen3:8b");
        assert_eq!(shown["saving_usd"], "-0.0025");
        assert_eq!(shown["flags"], json!(["route_shadow"]));
    }
}
