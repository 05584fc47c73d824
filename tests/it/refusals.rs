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
        // All forms of the two endings that programs treat apart; of the others one in each wire format.
        let every = matches!(ending, "transient" | "final");
        let few = [
            "anthropic_sdk",
            "openai_sdk_chat",
            "codex",
            "google_genai",
            "ollama",
        ];
        for (name, to) in audiences() {
            if !every && !few.contains(&name) {
                continue;
            }
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

fn each() -> impl Iterator<Item = (String, Refusal, Audience)> {
    refusals().into_iter().flat_map(|(ending, refusal)| {
        audiences()
            .into_iter()
            .map(move |(name, to)| (format!("{ending} {name}"), refusal.clone(), to))
    })
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    let found = answer.headers.iter().find(|(known, _)| known == name)?;
    found.1.to_str().ok()
}

fn of_budget(refusal: BudgetRefusal) -> Refusal {
    Refusal::Budget(Box::new(refusal))
}

#[test]
fn what_waiting_cannot_cure_has_no_status_that_its_client_repeats() {
    for (name, refusal, to) in each() {
        let answer = refusal.answer(&to, id());
        let told = if refusal.retry_helps() {
            "true"
        } else {
            "false"
        };
        assert_eq!(header(&answer, "x-should-retry"), Some(told), "{name}");
        if refusal.retry_helps() {
            assert_eq!(answer.status.as_u16(), 429, "{name}");
            continue;
        }
        let status = answer.status.as_u16();
        let given_up_on = match to.client {
            Client::ClaudeCode | Client::Stainless => true,
            Client::Codex => matches!(status, 200 | 400),
            Client::VercelAi
            | Client::GeminiCli
            | Client::GoogleGenAi
            | Client::Boto
            | Client::Other => matches!(status, 400..=403),
        };
        assert!(given_up_on, "{name}: {status}");
    }
}

#[test]
fn a_client_is_told_to_come_back_after_whole_seconds_of_a_minute_at_most() {
    for (wait_ms, seconds) in [
        (0, "1"),
        (1, "1"),
        (1_000, "1"),
        (1_001, "2"),
        (59_900, "60"),
        (3_600_000, "60"),
    ] {
        let retry_after = Duration::from_millis(wait_ms);
        let refusal = of_budget(BudgetRefusal {
            ending: Ending::Transient { retry_after },
            ..transient()
        });
        for (name, to) in audiences() {
            let answer = refusal.answer(&to, id());
            assert_eq!(header(&answer, "retry-after"), Some(seconds), "{name}");
            let ms = header(&answer, "retry-after-ms");
            let same = format!("{seconds}000");
            assert_eq!(
                ms,
                (to.dialect == Dialect::OpenAi).then_some(same.as_str()),
                "{name}"
            );
        }
    }
}

#[test]
fn claude_code_gets_its_recipe_for_a_spent_budget_and_nobody_else_does() {
    for (name, refusal, to) in each() {
        let answer = refusal.answer(&to, id());
        let status = header(&answer, "anthropic-ratelimit-unified-status");
        let wanted = to.client == Client::ClaudeCode && name.starts_with("final");
        assert_eq!(status, wanted.then_some("rejected"), "{name}");
        for hides_our_text in ["representative-claim", "overage-status"] {
            let header_name = format!("anthropic-ratelimit-unified-{hides_our_text}");
            assert_eq!(header(&answer, &header_name), None, "{name}");
        }
    }
}

/// opencode took "token limit exceeded" for an overflow of the model's context window: it had the model shorten the
/// conversation, which is a request that costs, and asked again.
#[test]
fn no_budgets_text_reads_like_an_overflow_of_the_context_window() {
    for (name, refusal) in refusals() {
        let text = refusal.message().to_lowercase();
        for phrase in [
            "limit exceeded",
            "too long",
            "too large",
            "too many tokens",
            "context",
            "maximum",
        ] {
            assert!(!text.contains(phrase), "{name}: {text}");
        }
    }
}

#[test]
fn the_text_names_the_priorities_that_would_pass() {
    let text = |refusal| of_budget(refusal).message();
    let at = |level, priority| {
        text(BudgetRefusal {
            level,
            priority,
            ..spent()
        })
    };
    assert!(at(Level::Hard, Priority::Normal).contains("with priority high or critical"));
    assert!(at(Level::Soft, Priority::Low).contains("with priority normal, high or critical"));
    assert!(at(Level::Critical, Priority::High).contains("with priority critical"));
    assert!(!at(Level::Critical, Priority::Critical).contains("with priority"));
    let full = BudgetRefusal {
        asked: 50_000,
        ..spent()
    };
    assert!(
        text(full.clone()).contains("with priority critical"),
        "high does not fit either"
    );
    let hard = Budget {
        hard: true,
        ..(*full.budget).clone()
    };
    assert!(
        !text(BudgetRefusal {
            budget: Arc::new(hard),
            ..full
        })
        .contains("with priority")
    );
}

#[test]
fn the_text_tells_of_the_line() {
    let text = of_budget(BudgetRefusal {
        level: Level::Soft,
        priority: Priority::Low,
        waited: Some(Duration::from_secs(300)),
        ..spent()
    })
    .message();
    assert!(text.contains("It waited 5 min in line."), "{text}");
    let text = of_budget(BudgetRefusal {
        line_full: true,
        ..spent()
    })
    .message();
    assert!(text.contains("The waiting line is full."), "{text}");
}

#[test]
fn the_text_tells_a_request_that_is_only_too_big_for_what_is_left() {
    let text = of_budget(BudgetRefusal {
        level: Level::Warning,
        settled: 75_000,
        reserved: 0,
        asked: 30_000,
        ..spent()
    })
    .message();
    assert!(
        text.starts_with("tollgate: Request throttled: no room for it. Token budget"),
        "{text}"
    );
    assert!(
        text.contains(
            "75 % full (75,000 of 100,000 tokens per hour); this request needs about 30,000 more."
        ),
        "{text}"
    );
    assert!(text.contains("send a smaller request"), "{text}");
}

#[test]
fn numbers_at_the_ends_of_their_range_are_told_without_a_panic() {
    for limit in [1, i128::MAX] {
        for (passes_in, passes_at_unix_ms) in [
            (Some(Duration::MAX), Some(u64::MAX)),
            (Some(Duration::ZERO), Some(0)),
            (None, None),
        ] {
            let refusal = of_budget(BudgetRefusal {
                settled: i128::MAX,
                reserved: i128::MAX,
                asked: i128::MAX,
                limit,
                passes_in,
                passes_at_unix_ms,
                waited: Some(Duration::MAX),
                ..spent_month()
            });
            for (name, to) in audiences() {
                let answer = refusal.answer(&to, id());
                assert!(!answer.body.is_empty(), "{name}");
            }
        }
    }
}

#[test]
fn a_refusal_inside_a_stream_is_one_event_with_the_whole_text() {
    for (name, refusal, to) in each() {
        let bytes = refusal.in_stream(&to, id());
        let text = std::str::from_utf8(&bytes).expect("UTF-8");
        let json = match to.dialect {
            Dialect::Ollama => text.trim_end(),
            Dialect::Anthropic | Dialect::OpenAi | Dialect::Gemini => text
                .lines()
                .find_map(|line| line.strip_prefix("data: "))
                .expect("an event"),
        };
        let event: Value = serde_json::from_str(json).expect("JSON");
        // Both of OpenAI's SDKs raise an exception for a top-level `error` only.
        let error = if to.client == Client::Boto {
            &event
        } else {
            &event["error"]
        };
        let said = error.as_str().or_else(|| error["message"].as_str());
        assert_eq!(said, Some(refusal.message().as_str()), "{name}");
    }
}
