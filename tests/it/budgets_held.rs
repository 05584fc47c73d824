//! Budgets, levels, priorities, the waiting line, refusals: what the contract promises about them, tried from outside.
//!
//! Written from the contract alone, apart from the code that decides: requests go in over real sockets, and what is
//! looked at is what people and programs get to see: answers, the admin JSON, metrics, events, the ledger.
//!
//! In these tests a request carries, in a field of its own, what the provider will say that it used.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bad_input;
mod crash;
mod endings;
mod events;
mod formats;
mod hard;
mod keyed;
mod levels;
mod line;
mod restarts;
mod scopes;
mod windows;
mod worst_case;

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::rig::*;

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

const LOW_TO_CRITICAL: [&str; 4] = ["low", "normal", "high", "critical"];

/// A model at $2 for a million input tokens and $10 for a million output tokens.
const MODEL: &str = "claude-sonnet-5-5";

/// The budgets of the built-in configuration, which most tests switch off.
const BUILT_IN: [&str; 7] = [
    "session-tokens-hour",
    "session-tokens-day",
    "session-usd-hour",
    "session-usd-day",
    "global-tokens-hour",
    "global-tokens-day",
    "global-usd-month",
];

/// The settings of a test: no budgets but its own.
#[derive(Debug, Clone)]
struct Rules(Vec<(String, String)>);

impl Rules {
    fn none() -> Self {
        let off = |name: &&str| (format!("budgets.{name}.enabled"), "false".to_owned());
        Self(BUILT_IN.iter().map(off).collect())
    }

    fn set(mut self, key: &str, value: &str) -> Self {
        self.0.push((key.to_owned(), value.to_owned()));
        self
    }

    fn budget(self, name: &str, scope: &str, window: &str, limit: &str) -> Self {
        self.set(&format!("budgets.{name}.scope"), scope)
            .set(&format!("budgets.{name}.window"), window)
            .set(&format!("budgets.{name}.limit"), limit)
    }

    fn hard(self, name: &str, scope: &str, window: &str, limit: &str) -> Self {
        self.budget(name, scope, window, limit)
            .set(&format!("budgets.{name}.hard"), "true")
    }

    fn pairs(&self) -> Vec<(&str, &str)> {
        let pairs = self.0.iter();
        pairs
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect()
    }

    async fn start(&self, upstream: SocketAddr) -> Tollgate {
        Tollgate::with(upstream, &self.pairs()).await
    }

    /// The same before a provider that says what it is told to say.
    async fn before_echo(&self) -> (Tollgate, Answering) {
        let upstream = Upstream::start().await.answering(echo);
        (self.start(upstream.address).await, upstream)
    }
}

/// What is asked, and what the provider will say that it used.
#[derive(Debug, Clone)]
struct Ask<'a> {
    session: &'a str,
    priority: &'a str,
    path: &'a str,
    model: &'a str,
    cap: Option<u64>,
    prompt: &'a str,
    stream: bool,
    /// Uncached input.
    input: u64,
    cached: u64,
    written: u64,
    output: u64,
    headers: Vec<(&'a str, &'a str)>,
}

/// A message of Anthropic's that uses nothing and may write one token.
fn ask<'a>(session: &'a str, priority: &'a str) -> Ask<'a> {
    Ask {
        session,
        priority,
        path: "/anthropic/v1/messages",
        model: MODEL,
        cap: Some(1),
        prompt: "hi",
        stream: false,
        input: 0,
        cached: 0,
        written: 0,
        output: 0,
        headers: Vec::new(),
    }
}

impl Ask<'_> {
    fn body(&self) -> Value {
        let mut body = json!({
            "model": self.model,
            "messages": [{"role": "user", "content": self.prompt}],
            "stream": self.stream,
            "says": [self.input, self.cached, self.written, self.output],
        });
        if let Some(cap) = self.cap {
            let name = match self.path {
                path if path.starts_with("/openai") => "max_completion_tokens",
                path if path.starts_with("/ollama") => "options",
                _ => "max_tokens",
            };
            body[name] = match name {
                "options" => json!({"num_predict": cap}),
                _ => json!(cap),
            };
        }
        body
    }

    fn bytes(&self) -> Vec<u8> {
        let mut headers = vec![
            ("x-tollgate-session", self.session),
            ("x-tollgate-priority", self.priority),
        ];
        headers.extend(&self.headers);
        request(
            &format!("POST {}", self.path),
            &headers,
            self.body().to_string(),
        )
    }

    async fn send(&self, tollgate: &Tollgate) -> (Head, Body) {
        tollgate.ask(self.bytes()).await
    }

    /// Sends it, and insists that it passes.
    async fn passes(&self, tollgate: &Tollgate) -> Head {
        let (head, body) = self.send(tollgate).await;
        assert_eq!(head.status(), 200, "{self:?}: {}", body.text());
        head
    }

    /// Sends it, and insists that a budget refuses it: what the refusal tells to programs.
    async fn is_refused(&self, tollgate: &Tollgate) -> Value {
        let (head, body) = self.send(tollgate).await;
        assert_ne!(
            head.status(),
            200,
            "{self:?} passed at {:?}",
            head.value("x-tollgate-level")
        );
        let told = told(&body);
        assert_eq!(told["code"], "budget_exceeded", "{self:?}: {}", body.text());
        told
    }
}

/// Says what the request tells it to say, in the format of the path.
fn echo(arrived: &Arrived) -> Vec<u8> {
    // Some numbers of JSON are too large for this reader; then nothing is said to be used.
    let asked: Value = serde_json::from_slice(&arrived.body.bytes).unwrap_or_default();
    let says: Vec<u64> = (0..4)
        .map(|at| asked["says"][at].as_u64().unwrap_or(0))
        .collect();
    let [input, cached, written, output] = says[..] else {
        panic!("four numbers in {asked}");
    };
    let model = &asked["model"];
    let path = arrived.head.asks();
    if asked["stream"] == true && path.contains("/messages") {
        let stream = anthropic_stream(model, [input, cached, written, output]);
        return answer("200 OK", &[("content-type", "text/event-stream")], stream);
    }
    let body = if path.contains("/chat/completions") {
        json!({"id": "c", "object": "chat.completion", "model": model,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": input + cached, "completion_tokens": output, "total_tokens": input + cached + output,
                "prompt_tokens_details": {"cached_tokens": cached}}})
    } else if path.contains("/responses") {
        json!({"id": "r", "object": "response", "status": "completed", "model": model, "output": [],
            "usage": {"input_tokens": input + cached, "input_tokens_details": {"cached_tokens": cached},
                "output_tokens": output, "total_tokens": input + cached + output}})
    } else if path.contains("/api/chat") {
        json!({"model": model, "message": {"role": "assistant", "content": ""}, "done": true, "done_reason": "stop",
            "prompt_eval_count": input, "eval_count": output})
    } else if path.contains(":generateContent") {
        json!({"candidates": [{"content": {"parts": [{"text": ""}]}, "finishReason": "STOP"}],
            "usageMetadata": {"promptTokenCount": input + cached, "cachedContentTokenCount": cached,
                "candidatesTokenCount": output, "totalTokenCount": input + cached + output}})
    } else {
        json!({"id": "m", "type": "message", "model": model, "content": [], "stop_reason": "end_turn",
            "usage": {"input_tokens": input, "cache_read_input_tokens": cached,
                "cache_creation_input_tokens": written, "output_tokens": output}})
    };
    json_answer(body.to_string())
}

/// The events of one of Anthropic's streams that says this usage: input, read from and written to the cache, output.
fn anthropic_stream(model: &Value, [input, cached, written, output]: [u64; 4]) -> String {
    let start = json!({"type": "message_start", "message": {"id": "m", "type": "message", "model": model, "content": [],
        "usage": {"input_tokens": input, "cache_read_input_tokens": cached,
            "cache_creation_input_tokens": written, "output_tokens": 1}}});
    let end = json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": output}});
    format!(
        "event: message_start\ndata: {start}\n\n{}event: message_delta\ndata: {end}\n\nevent: message_stop\ndata: {{\"type\":\"message_stop\"}}\n\n",
        text_delta("hello")
    )
}

/// A piece of text in one of Anthropic's streams.
fn text_delta(text: &str) -> String {
    let delta = json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}});
    format!("event: content_block_delta\ndata: {delta}\n\n")
}

/// What a refusal tells to programs, wherever in its body the format has room for it.
fn told(body: &Body) -> Value {
    fn find(value: &Value) -> Option<&Value> {
        match value {
            Value::Object(fields) => fields
                .get("tollgate")
                // Google's place for such things.
                .or_else(|| {
                    fields
                        .get("metadata")
                        .filter(|_| fields["domain"] == "tollgate")
                })
                .or_else(|| fields.values().find_map(find)),
            Value::Array(items) => items.iter().find_map(find),
            _ => None,
        }
    }
    let json = body.json();
    let found = find(&json);
    found
        .unwrap_or_else(|| panic!("nothing for programs in {json}"))
        .clone()
}

/// The moment at which a refusal promises to pass, in Unix milliseconds.
fn passes_at(told: &Value) -> u64 {
    let text = told["passes_at"].as_str();
    let text = text.unwrap_or_else(|| panic!("no moment in {told}"));
    let moment: jiff::Timestamp = text.parse().unwrap();
    u64::try_from(moment.as_millisecond()).unwrap()
}

/// How a budget of one thing stands, or `None` if that thing has used nothing of it; `name` is null for everything.
async fn standing(tollgate: &Tollgate, budget: &str, name: Option<&str>) -> Option<Value> {
    let throttle = tollgate.get("/api/v1/throttle").await.json();
    let budgets = throttle["budgets"].as_array().unwrap();
    let mut found = budgets
        .iter()
        .filter(|known| known["budget"] == budget && known["name"] == json!(name));
    let first = found.next().cloned();
    assert!(found.next().is_none(), "twice: {throttle}");
    first
}

/// Booked and reserved, of a budget in tokens or requests.
async fn amounts(tollgate: &Tollgate, budget: &str, name: Option<&str>) -> (u64, u64) {
    let Some(standing) = standing(tollgate, budget, name).await else {
        return (0, 0);
    };
    let amount = |field: &str| standing[field].as_u64().unwrap();
    (amount("settled"), amount("reserved"))
}

/// The events of a kind, the newest first. They are written behind the request's back, so they are waited for.
async fn events(tollgate: &Tollgate, kind: &str, count: usize) -> Vec<Value> {
    let path = format!("/api/v1/events?limit=1000&kind={kind}");
    eventually(&format!("{count} events {kind}"), async || {
        let answer = tollgate.get(&path).await.json();
        let events = answer["events"].as_array().unwrap().clone();
        (events.len() >= count).then_some(events)
    })
    .await
}

/// Waits until as many requests wait in line.
async fn waiting(tollgate: &Tollgate, count: usize) {
    eventually(&format!("{count} waiting requests"), async || {
        let now = tollgate.metric("tollgate_waiting_requests", &[]);
        (now == count as f64).then_some(())
    })
    .await;
}
