//! How refusals read on the wire: every ending for every kind of client, compared with `tests/fixtures/refusals.json`,
//! and the rules that hold for all of them.
//!
//! After a change on purpose: `TOLLGATE_WRITE_FIXTURES=1 cargo test --test it refusals`, and read the difference.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tollgate::llm::wire::{Dialect, Endpoint};
use tollgate::policy::budget::{Budget, Limit, ScopeKind, Window};
use tollgate::policy::client::Client;
use tollgate::policy::throttle::Level;
use tollgate::refusal::{Answer, Audience, BudgetRefusal, Ending, Refusal};
use tollgate::units::{Cost, Priority, RequestId};

/// 21 November 2026, 12:21:30 UTC.
const NOW_MS: u64 = 1_795_263_690_000;

fn id() -> RequestId {
    RequestId::new(NOW_MS, 1, 2)
}

/// The session's hourly tokens at 93 %, refused for 12 minutes and a little.
fn spent() -> BudgetRefusal {
    let wait = Duration::from_millis(725_001);
    BudgetRefusal {
        ending: Ending::Final,
        budget: Arc::new(Budget {
            name: "session-tokens-hour".to_owned(),
            scope: ScopeKind::Session,
            only: None,
            window: Window::Hour,
            limit: Limit::Tokens(100_000),
            hard: false,
            counts_cache_reads: false,
        }),
        scope: "session docs".to_owned(),
        level: Level::Hard,
        priority: Priority::Normal,
        settled: 80_000,
        reserved: 13_000,
        asked: 4_000,
        limit: 100_000,
        passes_in: Some(wait),
        passes_at_unix_ms: Some(NOW_MS + wait.as_millis() as u64),
        waited: None,
        line_full: false,
    }
}

/// A month's money, spent to the last cent, for a request that does not fit any more.
fn spent_month() -> BudgetRefusal {
    let usd = |text: &str| text.parse::<Cost>().expect("an amount").attos();
    let wait = Duration::from_secs(9 * 86_400 + 41_910);
    BudgetRefusal {
        budget: Arc::new(Budget {
            name: "global-usd-month".to_owned(),
            scope: ScopeKind::Global,
            only: None,
            window: Window::Month,
            limit: Limit::Usd("1000".parse().expect("an amount")),
            hard: true,
            counts_cache_reads: false,
        }),
        scope: "global".to_owned(),
        level: Level::Critical,
        settled: usd("999.1234567"),
        reserved: 0,
        asked: usd("1.5"),
        limit: usd("1000"),
        passes_in: Some(wait),
        passes_at_unix_ms: Some(NOW_MS + wait.as_millis() as u64),
        ..spent()
    }
}

fn transient() -> BudgetRefusal {
    let wait = Duration::from_millis(11_200);
    BudgetRefusal {
        ending: Ending::Transient { retry_after: wait },
        passes_in: Some(wait),
        passes_at_unix_ms: Some(NOW_MS + 11_200),
        ..spent()
    }
}

fn never_fits() -> BudgetRefusal {
    BudgetRefusal {
        ending: Ending::NeverFits,
        level: Level::None,
        settled: 0,
        reserved: 0,
        asked: 120_000,
        passes_in: None,
        passes_at_unix_ms: None,
        ..spent()
    }
}

fn refusals() -> Vec<(&'static str, Refusal)> {
    let budget = |refusal| Refusal::Budget(Box::new(refusal));
    vec![
        ("transient", budget(transient())),
        ("final", budget(spent())),
        ("final_month", budget(spent_month())),
        ("never_fits", budget(never_fits())),
        (
            "policy",
            Refusal::PolicyViolation {
                rule: "tiers.free.max_output".to_owned(),
                message: "at most 4,096 output tokens are allowed, 64,000 were asked for"
                    .to_owned(),
            },
        ),
        (
            "unknown_price",
            Refusal::UnknownPrice {
                model: "gpt-99".to_owned(),
            },
        ),
        (
            "bad_key",
            Refusal::BadKey {
                why: "this is no tollgate key, or it was revoked; `tollgate keys list` shows those that hold",
            },
        ),
    ]
}

fn audiences() -> Vec<(&'static str, Audience)> {
    let to = |dialect, endpoint, client, stream| Audience {
        dialect,
        endpoint,
        client,
        stream,
    };
    use Client::*;
    use Dialect::*;
    use Endpoint::*;
    vec![
        ("anthropic_sdk", to(Anthropic, Messages, Stainless, false)),
        ("claude_code", to(Anthropic, Messages, ClaudeCode, true)),
        ("anthropic_vercel", to(Anthropic, Messages, VercelAi, false)),
        (
            "openai_sdk_chat",
            to(OpenAi, ChatCompletions, Stainless, false),
        ),
        (
            "openai_sdk_responses",
            to(OpenAi, Responses, Stainless, true),
        ),
        (
            "openai_vercel_chat",
            to(OpenAi, ChatCompletions, VercelAi, false),
        ),
        (
            "openai_vercel_responses",
            to(OpenAi, Responses, VercelAi, false),
        ),
        ("codex", to(OpenAi, Responses, Codex, true)),
        ("codex_compact", to(OpenAi, Responses, Codex, false)),
        (
            "openai_other",
            to(OpenAi, ChatCompletions, Client::Other, false),
        ),
        (
            "google_genai",
            to(Gemini, GenerateContent, GoogleGenAi, false),
        ),
        ("gemini_cli", to(Gemini, GenerateContent, GeminiCli, true)),
        ("ollama", to(Ollama, OllamaChat, Client::Other, true)),
        ("boto", to(Anthropic, Messages, Boto, false)),
    ]
}

fn shown(answer: &Answer, in_stream: &[u8]) -> Value {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let headers = answer
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().expect("ASCII").into()))
        .collect::<Map<_, _>>();
    json!({
        "status": answer.status.as_u16(),
        "content_type": answer.content_type,
        "headers": headers,
        "body": text(&answer.body),
        "in_stream": text(in_stream),
    })
}

#[test]
fn every_ending_reads_as_the_fixture_says_for_every_client() {
    let mut all = Map::new();
    for (ending, refusal) in refusals() {
        for (name, to) in audiences() {
            let shown = shown(&refusal.answer(&to, id()), &refusal.in_stream(&to, id()));
            all.insert(format!("{ending} {name}"), shown);
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/refusals.json");
    let now = format!("{:#}\n", Value::Object(all.clone()));
    if std::env::var_os("TOLLGATE_WRITE_FIXTURES").is_some() {
        std::fs::write(path, &now).expect("the fixture can be written");
    }
    let kept = std::fs::read_to_string(path).expect("the fixture can be read");
    let kept: Map<String, Value> = serde_json::from_str(&kept).expect("JSON");
    for (name, shown) in &all {
        assert_eq!(kept.get(name), Some(shown), "{name}");
    }
    assert_eq!(
        kept.len(),
        all.len(),
        "no refusal of the past is left in the fixture"
    );
}
