//! Reads the usage objects of OpenAI and everything compatible with it.
//!
//! Prompt counts include cache reads and writes, completion counts include reasoning. Two name families exist
//! (`prompt_tokens`, `input_tokens`), and providers add fields of their own; each field keeps its last non-null figure.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::fields::{Count, Object, Word};
use super::usage::Usage;
use crate::units::Cost;

/// A usage object as it is written.
#[derive(Deserialize)]
pub(super) struct UsageFields<'a> {
    /// Transcriptions: `tokens` or `duration`.
    #[serde(borrow, default, rename = "type")]
    kind: Word<'a>,
    #[serde(default)]
    prompt_tokens: Count,
    #[serde(default)]
    input_tokens: Count,
    #[serde(default)]
    completion_tokens: Count,
    #[serde(default)]
    output_tokens: Count,
    #[serde(default)]
    total_tokens: Count,
    /// Moonshot.
    #[serde(default)]
    cached_tokens: Count,
    /// DeepSeek.
    #[serde(default)]
    prompt_cache_hit_tokens: Count,
    #[serde(default)]
    prompt_tokens_details: Object<InputDetails>,
    #[serde(default)]
    input_tokens_details: Object<InputDetails>,
    /// Transcriptions.
    #[serde(default)]
    input_token_details: Object<InputDetails>,
    #[serde(default)]
    completion_tokens_details: Object<OutputDetails>,
    #[serde(default)]
    output_tokens_details: Object<OutputDetails>,
    /// OpenRouter, in USD.
    #[serde(borrow)]
    cost: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
struct InputDetails {
    #[serde(default)]
    cached_tokens: Count,
    #[serde(default)]
    cache_write_tokens: Count,
    #[serde(default)]
    cache_write_tokens_details: Object<CacheWrites>,
    #[serde(default)]
    audio_tokens: Count,
    #[serde(default)]
    image_tokens: Count,
}

#[derive(Deserialize)]
struct CacheWrites {
    #[serde(default)]
    ttl_12h_tokens: Count,
}

#[derive(Deserialize, Default)]
struct OutputDetails {
    #[serde(default)]
    reasoning_tokens: Count,
    #[serde(default)]
    audio_tokens: Count,
    #[serde(default)]
    image_tokens: Count,
}

/// llama.cpp's own figures, sent whether or not usage was asked for.
#[derive(Deserialize)]
pub(super) struct Timings {
    #[serde(default)]
    cache_n: Count,
    #[serde(default)]
    prompt_n: Count,
    #[serde(default)]
    predicted_n: Count,
}

/// The last known figure of each field of an answer.
#[derive(Debug, Default)]
pub(super) struct Counts {
    input: Option<u64>,
    output: Option<u64>,
    total: Option<u64>,
    cached: Option<u64>,
    cache_write: Option<u64>,
    cache_write_12h: Option<u64>,
    audio_in: Option<u64>,
    image_in: Option<u64>,
    reasoning: Option<u64>,
    audio_out: Option<u64>,
    image_out: Option<u64>,
    timed_input: Option<u64>,
    timed_output: Option<u64>,
    timed_cached: Option<u64>,
    /// Counted from the answer's items, not from its usage.
    pub(super) web_searches: u64,
    /// What the provider says it charged.
    pub(super) cost: Option<Cost>,
}

impl Counts {
    /// Takes over what a usage object states. Tells whether it states tokens.
    pub(super) fn update(&mut self, usage: Option<UsageFields<'_>>) -> bool {
        let Some(fields) = usage else {
            return false;
        };
        self.cost = fields
            .cost
            .and_then(|raw| stated_cost(raw.get()))
            .or(self.cost);
        if fields.kind.as_str() == "duration" {
            return false;
        }
        let mut stated = false;
        for (known, newer) in [
            (
                &mut self.input,
                fields.prompt_tokens.0.or(fields.input_tokens.0),
            ),
            (
                &mut self.output,
                fields.completion_tokens.0.or(fields.output_tokens.0),
            ),
            (&mut self.total, fields.total_tokens.0),
        ] {
            stated |= newer.is_some();
            *known = newer.or(*known);
        }
        let mut cached = fields.cached_tokens.0.max(fields.prompt_cache_hit_tokens.0);
        for details in [
            fields.prompt_tokens_details,
            fields.input_tokens_details,
            fields.input_token_details,
        ] {
            cached = cached.max(self.update_input(details.0.unwrap_or_default()));
        }
        // Several places may state it; a zero in one must not hide the figure in the other.
        self.cached = cached.or(self.cached);
        for details in [
            fields.completion_tokens_details,
            fields.output_tokens_details,
        ] {
            let details = details.0.unwrap_or_default();
            self.reasoning = details.reasoning_tokens.0.or(self.reasoning);
            self.audio_out = details.audio_tokens.0.or(self.audio_out);
            self.image_out = details.image_tokens.0.or(self.image_out);
        }
        stated
    }

    /// Takes over the details of the prompt, except the cached part, which it returns.
    fn update_input(&mut self, details: InputDetails) -> Option<u64> {
        let writes = details.cache_write_tokens_details.0;
        self.cache_write = details.cache_write_tokens.0.or(self.cache_write);
        self.cache_write_12h = writes
            .and_then(|w| w.ttl_12h_tokens.0)
            .or(self.cache_write_12h);
        self.audio_in = details.audio_tokens.0.or(self.audio_in);
        self.image_in = details.image_tokens.0.or(self.image_in);
        details.cached_tokens.0
    }

    /// Takes over llama.cpp's timings: `cache_n` tokens of the prompt came from its cache, `prompt_n` did not.
    pub(super) fn update_timings(&mut self, timings: Option<Timings>) {
        if let Some(timings) = timings
            && let Some(prompt) = timings.prompt_n.0
        {
            self.timed_cached = timings.cache_n.0;
            self.timed_input = Some(prompt.saturating_add(timings.cache_n.0.unwrap_or(0)));
            self.timed_output = timings.predicted_n.0;
        }
    }

    /// The normal form; `None` until tokens were stated. `image_answer`: all output is images if no split is stated.
    pub(super) fn usage(&self, image_answer: bool) -> Option<Usage> {
        let input = self.input.or(self.timed_input);
        let stated_output = self.output.or(self.timed_output);
        let stated = input.or(stated_output).or(self.total)?;
        // Embeddings may state nothing but a total.
        let input = input.unwrap_or(if stated_output.is_none() { stated } else { 0 });
        let mut output = stated_output.unwrap_or(0);
        let reasoning = self.reasoning.unwrap_or(0);
        // xAI leaves reasoning out of the completion, and its total tells.
        if reasoning > 0
            && self.total
                == input
                    .checked_add(output)
                    .and_then(|sum| sum.checked_add(reasoning))
        {
            output += reasoning;
        }
        let cached_read = self.cached.max(self.timed_cached).unwrap_or(0).min(input);
        // Documented as an unadjusted count, so it can overlap with the cached part.
        let cache_write = self.cache_write.unwrap_or(0).min(input - cached_read);
        let image_out = self
            .image_out
            .unwrap_or(if image_answer { output } else { 0 });
        Some(Usage {
            input,
            cached_read,
            cache_write,
            cache_write_12h: self.cache_write_12h.unwrap_or(0).min(cache_write),
            output,
            reasoning: reasoning.min(output),
            audio_in: self.audio_in.unwrap_or(0).min(input),
            audio_out: self.audio_out.unwrap_or(0).min(output),
            image_in: self.image_in.unwrap_or(0).min(input),
            image_out: image_out.min(output),
            web_searches: self.web_searches,
            ..Usage::default()
        })
    }
}

/// An amount that a provider wrote, as a number or a string. Digits beyond 10⁻¹⁸ USD (the noise of binary floats) are
/// cut off; negative amounts and other values are none.
fn stated_cost(json: &str) -> Option<Cost> {
    let text = json.trim_matches('"');
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let shortest = mantissa.find('.').map_or(mantissa.len(), |point| point + 1);
    (shortest..=mantissa.len())
        .rev()
        .filter_map(|end| Some(format!("{}{exponent}", mantissa.get(..end)?)))
        .find_map(|shorter| shorter.parse::<Cost>().ok())
        .filter(|cost| *cost >= Cost::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage_of(json: &str) -> Option<Usage> {
        let fields: Object<UsageFields<'_>> = serde_json::from_str(json).expect("a JSON text");
        let mut counts = Counts::default();
        counts.update(fields.0);
        counts.usage(false)
    }

    #[test]
    fn a_stated_cost_is_exact_and_float_noise_beyond_its_places_is_cut() {
        let attos = |json| stated_cost(json).map(Cost::attos);
        assert_eq!(attos("0.00095"), Some(950_000_000_000_000));
        assert_eq!(attos("9.5e-4"), Some(950_000_000_000_000));
        assert_eq!(attos("0.00012345000000000001"), Some(123_450_000_000_000));
        assert_eq!(attos("\"0.5\""), Some(500_000_000_000_000_000));
        assert_eq!(attos("0"), Some(0));
        assert_eq!(attos("-1"), None);
        assert_eq!(attos("null"), None);
        assert_eq!(attos("{\"total\":1}"), None);
        assert_eq!(attos("1e99"), None);
    }

    #[test]
    fn cache_writes_never_overlap_cache_reads() {
        let usage = usage_of(
            r#"{"input_tokens":100,"input_tokens_details":{"cached_tokens":80,"cache_write_tokens":50,
            "cache_write_tokens_details":{"ttl_30m_tokens":10,"ttl_12h_tokens":40}},"output_tokens":1}"#,
        )
        .expect("stated");
        assert_eq!(
            (usage.cached_read, usage.cache_write, usage.cache_write_12h),
            (80, 20, 20)
        );
        assert_eq!(usage.uncached(), 0);
    }

    #[test]
    fn reasoning_is_added_only_when_the_total_says_so() {
        let with_total = |total: u64| {
            usage_of(&format!(
                r#"{{"prompt_tokens":100,"completion_tokens":20,"total_tokens":{total},
                "completion_tokens_details":{{"reasoning_tokens":300}}}}"#
            ))
            .map(|usage| usage.output)
        };
        assert_eq!(with_total(420), Some(320));
        assert_eq!(with_total(120), Some(20));
    }

    #[test]
    fn cache_hits_count_wherever_they_stand() {
        for json in [
            r#"{"prompt_tokens":9,"prompt_cache_hit_tokens":4}"#,
            r#"{"prompt_tokens":9,"prompt_cache_hit_tokens":4,"prompt_tokens_details":{"cached_tokens":0}}"#,
            r#"{"prompt_tokens":9,"prompt_tokens_details":{"cached_tokens":4}}"#,
            r#"{"prompt_tokens":9,"cached_tokens":4,"prompt_tokens_details":null}"#,
        ] {
            assert_eq!(
                usage_of(json).map(|usage| usage.cached_read),
                Some(4),
                "{json}"
            );
        }
    }

    #[test]
    fn llama_timings_stand_in_for_missing_usage() {
        let timings = serde_json::from_str(r#"{"cache_n":120,"prompt_n":10,"predicted_n":5}"#);
        let mut counts = Counts::default();
        counts.update_timings(Some(timings.expect("timings")));
        let usage = counts.usage(false).expect("stated");
        assert_eq!(
            (usage.input, usage.cached_read, usage.output),
            (130, 120, 5)
        );
    }

    #[test]
    fn durations_and_empty_objects_are_no_usage() {
        assert_eq!(usage_of(r#"{"type":"duration","seconds":42}"#), None);
        assert_eq!(usage_of("{}"), None);
    }
}
