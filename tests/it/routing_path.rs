//! Routing through the whole path: what arrives at the provider, what its client gets, what is booked, and who decides.
//!
//! The providers here name in their answer the model that they were asked for, and report 1,000 input and 100 output
//! tokens, so that every cost and saving below is worked out by hand from the catalogue's prices.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;

use serde_json::Value;
use tollgate::config::settings::{Secret, Settings};
use tollgate::policy::priority::Pattern;
use tollgate::policy::routing::{Mode, RouteRule, To};
use tollgate::policy::throttle::Level;
use tollgate::store::record::{Outcome, Record};
use tollgate::units::{Cost, Priority};

use crate::rig::*;
use crate::throttle_path::ONLY;

/// A rule without conditions.
pub(crate) fn rule(name: &str, to: &str) -> RouteRule {
    let is_provider = |name: &str| ["ollama", "openrouter", "anthropic", "openai"].contains(&name);
    RouteRule {
        name: name.to_owned(),
        task: None,
        simple: None,
        model: None,
        provider: None,
        priority: None,
        session: None,
        key: None,
        team: None,
        level: None,
        to: To::read(to, is_provider).unwrap(),
        block: None,
    }
}

/// tollgate with these rules and no budgets but these.
pub(crate) async fn routing(
    upstream: SocketAddr,
    mode: Mode,
    rules: Vec<RouteRule>,
    extra: &[(&str, &str)],
    change: impl FnOnce(&mut Settings),
) -> Tollgate {
    let mut settings = ONLY.to_vec();
    settings.extend_from_slice(extra);
    Tollgate::changed(upstream, &settings, |settings| {
        settings.routing.mode = mode;
        settings.routing.rules = rules;
        change(settings);
    })
    .await
}

/// The same in mode `on`, with one rule and nothing else.
pub(crate) async fn to(upstream: SocketAddr, target: &str) -> Tollgate {
    routing(upstream, Mode::On, vec![rule("all", target)], &[], |_| ()).await
}

pub(crate) fn asked_model(arrived: &Arrived) -> String {
    let asks = arrived.head.asks();
    if let Some((_, model)) = asks.split_once("/models/") {
        return model.split(':').next().unwrap().to_owned();
    }
    let body: Value = serde_json::from_slice(&arrived.body.bytes).unwrap_or_default();
    body["model"].as_str().unwrap_or("none").to_owned()
}

/// A good answer in the format that was asked for, with the model that was asked for and a mark of the provider's own.
pub(crate) fn good(arrived: &Arrived) -> Vec<u8> {
    let (model, asks) = (asked_model(arrived), arrived.head.asks());
    let model = format!("{model}@served");
    json_answer(if asks.contains("/messages") {
        format!(
            r#"{{"id":"m","type":"message","model":"{model}","stop_reason":"end_turn","content":[{{"type":"text","text":"yes"}}],"usage":{{"input_tokens":1000,"output_tokens":100}}}}"#
        )
    } else if asks.contains("/chat/completions") {
        format!(
            r#"{{"id":"c","model":"{model}","choices":[{{"index":0,"finish_reason":"stop","message":{{"role":"assistant","content":"yes"}}}}],"usage":{{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}}}}"#
        )
    } else if asks.contains("/responses") {
        format!(
            r#"{{"id":"r","object":"response","status":"completed","model":"{model}","output":[],"usage":{{"input_tokens":1000,"output_tokens":100,"total_tokens":1100}}}}"#
        )
    } else if asks.contains("/models/") {
        format!(
            r#"{{"candidates":[{{"content":{{"role":"model","parts":[{{"text":"yes"}}]}},"finishReason":"STOP"}}],"usageMetadata":{{"promptTokenCount":1000,"candidatesTokenCount":100,"totalTokenCount":1100}},"modelVersion":"{model}"}}"#
        )
    } else {
        format!(
            r#"{{"model":"{model}","message":{{"role":"assistant","content":"yes"}},"done":true,"done_reason":"stop","prompt_eval_count":1000,"eval_count":100}}"#
        )
    })
}

/// The same with the model's plain name, which the catalogue knows.
pub(crate) fn plain(arrived: &Arrived) -> Vec<u8> {
    let text = String::from_utf8(good(arrived)).unwrap();
    let text = text.replace("@served", "");
    let body = text.split_once("\r\n\r\n").unwrap().1;
    json_answer(body)
}

pub(crate) async fn provider() -> Answering {
    Upstream::start().await.answering(plain)
}

/// A wire format: a request in it, and what becomes of it when the cheap model serves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Format {
    pub(crate) path: &'static str,
    pub(crate) body: &'static str,
    pub(crate) asked: &'static str,
    pub(crate) rung: &'static str,
    pub(crate) provider: &'static str,
    pub(crate) target: &'static str,
    /// What 1,000 input and 100 output tokens cost with the one and the other, in dollars.
    pub(crate) costs: (&'static str, &'static str),
}

/// Odd whitespace, escapes and order: none of it may change.
pub(crate) const FORMATS: [Format; 6] = [
    Format {
        path: "POST /anthropic/v1/messages",
        body: "{ \"max_tokens\" : 1e2,\n  \"model\" :\"claude-opus-5-5\", \"messages\":[{\"role\":\"user\",\"content\":\"h\\u00ef \\/ claude-opus-5-5\"}] } ",
        asked: "claude-opus-5-5",
        rung: "claude-haiku-5-5",
        provider: "anthropic",
        target: "cheap",
        // $4 and $20, $0.10 and $0.50 a million.
        costs: ("0.006", "0.00015"),
    },
    Format {
        path: "POST /openai/v1/chat/completions",
        body: "{\"messages\":[{\"content\":\"h\\u00ef gpt-6.1-sol\" , \"role\":\"user\"}],\"seed\": 7e0 ,\"model\":\"gpt-6.1-sol\"}",
        asked: "gpt-6.1-sol",
        rung: "gpt-6-luna",
        provider: "openai",
        target: "cheap",
        // $2 and $10, $0.10 and $0.50.
        costs: ("0.003", "0.00015"),
    },
    Format {
        path: "POST /openai/v1/responses?x=1",
        body: "{\"input\":\"hi gpt-6.1-sol\" ,\"max_output_tokens\":5000,\"model\" : \"gpt-6.1-sol\"\n}",
        asked: "gpt-6.1-sol",
        rung: "gpt-6-luna",
        provider: "openai",
        target: "cheap",
        costs: ("0.003", "0.00015"),
    },
    Format {
        path: "POST /gemini/v1beta/models/gemini-4-argon:generateContent?key=AIza-of-the-client",
        body: "{\"contents\":[{\"parts\":[{\"text\":\"hi gemini-4-argon\"}]}] }",
        asked: "gemini-4-argon",
        rung: "gemini-3.5-flash-lite",
        provider: "gemini",
        target: "cheap",
        // $2 and $10 until 2026-12-01, $0.30 and $2.50.
        costs: ("0.003", "0.00055"),
    },
    Format {
        path: "POST /ollama/api/chat",
        body: "{\"stream\":false , \"model\":\"llama3.3\",\"messages\":[{\"role\":\"user\",\"content\":\"llama3.3\"}]}",
        asked: "llama3.3",
        rung: "llama3.1",
        provider: "ollama",
        target: "llama3.1",
        costs: ("0", "0"),
    },
    Format {
        path: "POST /ollama/api/generate",
        body: "{\"prompt\":\"hi llama3.3\",\"stream\":false , \"model\":\"llama3.3\"}",
        asked: "llama3.3",
        rung: "llama3.1",
        provider: "ollama",
        target: "llama3.1",
        costs: ("0", "0"),
    },
];

fn usd(text: &str) -> Cost {
    text.parse().unwrap()
}

impl Format {
    pub(crate) fn request(&self) -> Vec<u8> {
        request(self.path, &[], self.body)
    }

    /// What the provider must get, byte for byte, when a model serves.
    fn arrives(&self, model: &str) -> (String, String) {
        let path = self
            .path
            .split_once(&format!("/{}", self.provider))
            .unwrap()
            .1;
        let body = self.body.to_owned();
        let body = match body.rfind("\"model\"") {
            None => body,
            Some(at) => {
                let (before, after) = body.split_at(at);
                let own = format!("\"{}\"", self.asked);
                before.to_owned() + &after.replacen(&own, &format!("\"{model}\""), 1)
            }
        };
        (format!("POST {}", path.replace(self.asked, model)), body)
    }
}

fn served(answering: &Answering) -> Vec<String> {
    answering.take().iter().map(asked_model).collect()
}

/// What is told of a decision in a record.
fn told(record: &Record) -> (Option<&str>, Option<&str>, Option<&str>, bool) {
    (
        record.sent_model.as_deref(),
        record.routed_by.as_deref(),
        record.routed_to.as_deref(),
        record.flags.route_shadow,
    )
}

#[tokio::test]
async fn routing_on_changes_the_models_name_and_no_other_byte_in_every_format() {
    for format in FORMATS {
        let answering = Upstream::start().await.answering(good);
        let tollgate = to(answering.address, format.target).await;
        let (head, body) = tollgate.ask(format.request()).await;
        assert_eq!(head.status(), 200, "{format:?} {}", body.text());
        let arrived = answering.take();
        assert_eq!(arrived.len(), 1);
        let (asks, sent) = format.arrives(format.rung);
        assert_eq!(arrived[0].head.asks(), asks);
        assert_eq!(arrived[0].body.text(), sent);
        assert_eq!(
            arrived[0].head.value("content-length"),
            Some(&*sent.len().to_string())
        );
        let own = body.text();
        assert!(own.contains(&format!("{}@served", format.rung)), "{own}");
        assert_eq!(head.value("x-tollgate-model"), Some(format.rung));
        assert_eq!(head.value("x-tollgate-requested-model"), Some(format.asked));
        assert_eq!(head.value("x-tollgate-route"), Some("rule:all"));
        let record = tollgate.record(&head).await;
        assert_eq!(record.requested_model.as_deref(), Some(format.asked));
        assert_eq!(
            told(&record),
            (
                Some(format.rung),
                Some("rule:all"),
                Some(format.rung),
                false
            )
        );
        assert_eq!(
            (&*record.provider, &record.requested_provider),
            (format.provider, &None)
        );
        assert_eq!(record.outcome, Outcome::Complete);
        tollgate.settled().await;
    }
}

#[tokio::test]
async fn routing_in_shadow_changes_nothing_and_records_what_it_would_have_saved() {
    for format in FORMATS {
        let answering = provider().await;
        let rules = vec![rule("all", format.target)];
        let tollgate = routing(answering.address, Mode::Shadow, rules, &[], |_| ()).await;
        let (head, body) = tollgate.ask(format.request()).await;
        assert_eq!(head.status(), 200, "{format:?} {}", body.text());
        let arrived = answering.take();
        let (asks, sent) = format.arrives(format.asked);
        assert_eq!(arrived[0].head.asks(), asks);
        assert_eq!(arrived[0].body.text(), sent);
        assert_eq!(head.value("x-tollgate-model"), Some(format.asked));
        assert_eq!(head.value("x-tollgate-requested-model"), None);
        let record = tollgate.record(&head).await;
        assert_eq!(
            told(&record),
            (None, Some("rule:all"), Some(format.rung), true)
        );
        let (asked, rung) = (usd(format.costs.0), usd(format.costs.1));
        assert_eq!(record.cost, Some(asked), "{format:?}");
        let saving = asked.attos() - rung.attos();
        assert_eq!(record.saving, Some(Cost::from_attos(saving)));
        let labels = ["mode=\"shadow\"", "rule:all"];
        assert_eq!(tollgate.metric("tollgate_routed_total", &labels), 1.0);
    }
}

#[tokio::test]
async fn routing_off_decides_nothing() {
    for format in FORMATS {
        let answering = provider().await;
        let rules = vec![rule("all", format.target)];
        let tollgate = routing(answering.address, Mode::Off, rules, &[], |_| ()).await;
        let (head, _) = tollgate.ask(format.request()).await;
        let record = tollgate.record(&head).await;
        assert_eq!(told(&record), (None, None, None, false));
        assert_eq!(record.saving, None);
        assert_eq!(served(&answering), [format.asked]);
        assert_eq!(head.value("x-tollgate-route"), None);
        assert_eq!(tollgate.metric("tollgate_routed_total", &[]), 0.0);
    }
}

#[tokio::test]
async fn routing_books_the_cost_of_the_model_that_served_and_its_exact_saving() {
    for format in FORMATS {
        let answering = provider().await;
        let tollgate = to(answering.address, format.target).await;
        let (head, _) = tollgate.ask(format.request()).await;
        let record = tollgate.record(&head).await;
        let (asked, rung) = (usd(format.costs.0), usd(format.costs.1));
        assert_eq!(record.cost, Some(rung), "{format:?}");
        let saving = Cost::from_attos(asked.attos() - rung.attos());
        assert_eq!(record.saving, Some(saving));
        let labels = ["mode=\"on\"", "rule:all"];
        assert_eq!(tollgate.metric("tollgate_routed_total", &labels), 1.0);
        let saved = tollgate.metric("tollgate_saved_usd", &["mode=\"on\""]);
        assert!((saved - saving.as_f64_for_display()).abs() < 1e-12);
    }
}

fn anthropic(model: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let body = format!(
        r#"{{"model":"{model}","max_tokens":100,"messages":[{{"role":"user","content":"hi"}}]}}"#
    );
    request("POST /anthropic/v1/messages", headers, body)
}

#[tokio::test]
async fn routing_takes_the_budgets_of_the_model_that_served_and_of_no_other() {
    let answering = provider().await;
    let per_model = [
        ("budgets.opus.scope", "model:claude-opus-5-5"),
        ("budgets.opus.window", "hour"),
        ("budgets.opus.limit", "1000000 tokens"),
        ("budgets.haiku.scope", "model:claude-haiku-5-5"),
        ("budgets.haiku.window", "hour"),
        ("budgets.haiku.limit", "1000000 tokens"),
    ];
    let rules = vec![rule("all", "cheap")];
    let tollgate = routing(answering.address, Mode::On, rules, &per_model, |_| ()).await;
    for _ in 0..3 {
        tollgate.ask(anthropic("claude-opus-5-5", &[])).await;
    }
    tollgate.settled().await;
    let standing = tollgate.get("/api/v1/throttle").await.json();
    let of = |name: &str| {
        let budgets = standing["budgets"].as_array().unwrap().iter();
        let mut found = budgets.filter(|budget| budget["budget"] == name);
        found.next().map_or((0, 0), |budget| {
            let number = |key: &str| budget[key].as_u64().unwrap_or(0);
            (number("settled"), number("reserved"))
        })
    };
    assert_eq!(of("haiku"), (3_300, 0), "{standing}");
    assert_eq!(of("opus"), (0, 0), "{standing}");
}

/// Asks once and says who served.
async fn serves(rules: Vec<RouteRule>, request: Vec<u8>) -> (String, Option<String>) {
    let answering = provider().await;
    let tollgate = routing(answering.address, Mode::On, rules, &[], |_| ()).await;
    let (head, body) = tollgate.ask(request).await;
    assert_eq!(head.status(), 200, "{}", body.text());
    let route = head.value("x-tollgate-route").map(str::to_owned);
    (served(&answering).remove(0), route)
}

/// A rule, the headers of a request, and whether the rule holds for it.
type Case = (RouteRule, Vec<(&'static str, &'static str)>, bool);

#[tokio::test]
async fn routing_rules_hold_by_each_of_their_conditions() {
    let pattern = |text: &str| Some(Pattern::new(text));
    let all = || rule("r", "cheap");
    let mut cases: Vec<Case> = Vec::new();
    let task = || RouteRule {
        task: pattern("ui"),
        ..all()
    };
    cases.push((task(), vec![("x-tollgate-task", "ui")], true));
    cases.push((task(), vec![("x-tollgate-task", "coding")], false));
    let model = |text| RouteRule {
        model: pattern(text),
        ..all()
    };
    cases.push((model("claude-opus-*"), vec![], true));
    cases.push((model("claude-sonnet-*"), vec![], false));
    let priority = || RouteRule {
        priority: Some(Priority::Low),
        ..all()
    };
    cases.push((priority(), vec![("x-tollgate-priority", "low")], true));
    cases.push((priority(), vec![("x-tollgate-priority", "high")], false));
    let session = || RouteRule {
        session: pattern("dev-*"),
        ..all()
    };
    cases.push((session(), vec![("x-tollgate-session", "dev-1")], true));
    cases.push((session(), vec![("x-tollgate-session", "prod")], false));
    let provider = |text| RouteRule {
        provider: pattern(text),
        ..all()
    };
    cases.push((provider("anthropic"), vec![], true));
    cases.push((provider("openai"), vec![], false));
    let level = || RouteRule {
        level: Some(Level::Soft),
        ..all()
    };
    cases.push((level(), vec![], false));
    let team = || RouteRule {
        team: pattern("*"),
        ..all()
    };
    cases.push((team(), vec![], false));
    for (rule, headers, holds) in cases {
        let told = format!("{rule:?} {headers:?}");
        let (served, route) = serves(vec![rule], anthropic("claude-opus-5-5", &headers)).await;
        let expected = if holds {
            ("claude-haiku-5-5", Some("rule:r"))
        } else {
            ("claude-opus-5-5", None)
        };
        assert_eq!((&*served, route.as_deref()), expected, "{told}");
    }
}

#[tokio::test]
async fn routing_goes_by_the_clients_key() {
    let answering = provider().await;
    let tollgate = routing(answering.address, Mode::Off, vec![], &[], |_| ()).await;
    let key = ("x-api-key", "sk-ant-api03-the-clients-own-key");
    let (head, _) = tollgate.ask(anthropic("claude-opus-5-5", &[key])).await;
    let name = tollgate.record(&head).await.key.unwrap();
    let rules = || {
        vec![RouteRule {
            key: Some(Pattern::new(&name)),
            ..rule("r", "cheap")
        }]
    };
    let (served, _) = serves(rules(), anthropic("claude-opus-5-5", &[key])).await;
    assert_eq!(served, "claude-haiku-5-5");
    let other = ("x-api-key", "sk-ant-api03-somebody-elses-key");
    let (served, _) = serves(rules(), anthropic("claude-opus-5-5", &[other])).await;
    assert_eq!(served, "claude-opus-5-5");
}

#[tokio::test]
async fn routing_goes_by_the_task_that_the_users_words_tell() {
    let rules = || {
        vec![
            RouteRule {
                task: Some(Pattern::new("documentation")),
                ..rule("docs", "cheap")
            },
            RouteRule {
                task: Some(Pattern::new("coding")),
                ..rule("code", "asked")
            },
        ]
    };
    for (text, served_by) in [
        (
            "Write the documentation of the public API of this crate, with an example for each function",
            "claude-haiku-5-5",
        ),
        (
            "Implement a thread-safe LRU cache in Rust with a generic key type and tests for eviction",
            "claude-opus-5-5",
        ),
    ] {
        let body = format!(
            r#"{{"model":"claude-opus-5-5","max_tokens":100,"messages":[{{"role":"user","content":"{text}"}}]}}"#
        );
        let ask = request("POST /anthropic/v1/messages", &[], body);
        assert_eq!(serves(rules(), ask).await.0, served_by, "{text}");
    }
}

#[tokio::test]
async fn routing_obeys_the_first_rule_that_matches() {
    let only_ui = RouteRule {
        task: Some(Pattern::new("ui")),
        ..rule("ui", "bottom")
    };
    let rules = vec![
        only_ui.clone(),
        rule("stay", "asked"),
        rule("never", "cheap"),
    ];
    let (served, route) = serves(rules, anthropic("claude-opus-5-5", &[])).await;
    assert_eq!((&*served, route), ("claude-opus-5-5", None));
    let rules = vec![only_ui, rule("premium", "premium"), rule("never", "cheap")];
    let (served, route) = serves(rules, anthropic("claude-opus-5-5", &[])).await;
    assert_eq!(
        (&*served, route.as_deref()),
        ("claude-sonnet-5-5", Some("rule:premium"))
    );
}

#[tokio::test]
async fn routing_knows_every_direction_and_never_climbs_a_ladder() {
    for (target, asked, served_by) in [
        ("down", "claude-fable-5-2", "claude-opus-5-5"),
        ("down 2", "claude-fable-5-2", "claude-sonnet-5-5"),
        ("down 99", "claude-fable-5-2", "claude-haiku-5-5"),
        ("cheap", "claude-opus-5-5", "claude-haiku-5-5"),
        ("premium", "claude-opus-5-5", "claude-sonnet-5-5"),
        ("premium", "claude-haiku-5-5", "claude-haiku-5-5"),
        ("bottom", "claude-sonnet-5-5", "claude-haiku-5-5"),
        ("claude-sonnet-5-5", "claude-opus-5-5", "claude-sonnet-5-5"),
        // Written by hand it is taken, upwards too.
        ("claude-opus-5-5", "claude-haiku-5-5", "claude-opus-5-5"),
        ("cheap", "claude-opus-4-8", "claude-haiku-5-5"),
        ("cheap", "claude-unheard-of", "claude-unheard-of"),
        ("asked", "claude-opus-5-5", "claude-opus-5-5"),
    ] {
        let served = serves(vec![rule("r", target)], anthropic(asked, &[]))
            .await
            .0;
        assert_eq!(served, served_by, "{asked} to {target}");
    }
}

/// tollgate whose requests to Anthropic and OpenAI go to `first`, with `second` in the place of another provider.
async fn two(
    first: &Answering,
    second: &Answering,
    other: &'static str,
    target: &str,
    change: impl FnOnce(&mut Settings),
) -> Tollgate {
    let address = second.address;
    let rules = vec![rule("away", target)];
    routing(first.address, Mode::On, rules, &[], move |settings| {
        for provider in &mut settings.providers {
            if provider.name == other {
                provider.base_url = format!("http://{address}").parse().unwrap();
            }
        }
        change(settings);
    })
    .await
}

#[tokio::test]
async fn routing_to_another_provider_uses_its_own_key_and_never_the_clients() {
    let keys = [
        ("authorization", "Bearer sk-the-clients-own"),
        ("x-api-key", "sk-2"),
        ("cookie", "session=1"),
    ];
    let body = r#"{"model":"gpt-6.1-sol","messages":[{"role":"user","content":"hi"}]}"#;
    for own in [Some("sk-of-openrouter"), None] {
        let (first, second) = (provider().await, provider().await);
        let tollgate = two(
            &first,
            &second,
            "openrouter",
            "openrouter/openai/gpt-6-luna",
            |settings| {
                let mut providers = settings.providers.iter_mut();
                let openrouter = providers.find(|one| one.name == "openrouter").unwrap();
                openrouter.api_key = own.map(Secret::new);
            },
        )
        .await;
        let ask = request("POST /openai/v1/chat/completions?key=AIza-1", &keys, body);
        let (head, _) = tollgate.ask(ask).await;
        assert_eq!(head.status(), 200);
        assert_eq!(first.take().len(), 0);
        let arrived = second.take();
        let expected = own.map(|key| format!("Bearer {key}"));
        assert_eq!(arrived[0].head.value("authorization"), expected.as_deref());
        for name in ["x-api-key", "cookie"] {
            assert_eq!(arrived[0].head.value(name), None, "{name}");
        }
        assert!(
            !arrived[0].head.line.contains("AIza"),
            "{}",
            arrived[0].head.line
        );
        assert_eq!(
            arrived[0].body.text(),
            body.replace("gpt-6.1-sol", "openai/gpt-6-luna")
        );
        assert_eq!(head.value("x-tollgate-model"), Some("openai/gpt-6-luna"));
        assert_eq!(head.value("x-tollgate-requested-provider"), Some("openai"));
        let record = tollgate.record(&head).await;
        assert_eq!(
            (&*record.provider, record.requested_provider.as_deref()),
            ("openrouter", Some("openai"))
        );
        assert_eq!(
            record.routed_to.as_deref(),
            Some("openrouter/openai/gpt-6-luna")
        );
        tollgate.settled().await;
        assert_eq!(
            tollgate.metric("tollgate_requests_in_flight", &["openai"]),
            0.0
        );
    }
}

#[tokio::test]
async fn routing_asks_no_hosted_provider_without_a_key() {
    let (first, second) = (provider().await, provider().await);
    let tollgate = two(
        &first,
        &second,
        "openrouter",
        "openrouter/openai/gpt-6-luna",
        |settings| {
            let mut providers = settings.providers.iter_mut();
            let openrouter = providers.find(|one| one.name == "openrouter").unwrap();
            (openrouter.local, openrouter.api_key) = (Some(false), None);
        },
    )
    .await;
    let body = r#"{"model":"gpt-6.1-sol","messages":[{"role":"user","content":"hi"}]}"#;
    let (head, _) = tollgate
        .ask(request("POST /openai/v1/chat/completions", &[], body))
        .await;
    assert_eq!((head.status(), second.take().len()), (200, 0));
    assert_eq!(served(&first), ["gpt-6.1-sol"]);
    assert_eq!(tollgate.record(&head).await.routed_by, None);
}

#[tokio::test]
async fn routing_gives_work_to_a_free_local_model_and_saves_all_of_its_price() {
    let (first, second) = (provider().await, provider().await);
    let tollgate = two(&first, &second, "ollama", "ollama/llama3.1", |_| ()).await;
    let (head, body) = tollgate.ask(anthropic("claude-opus-5-5", &[])).await;
    assert_eq!(head.status(), 200, "{}", body.text());
    assert_eq!(second.take()[0].head.asks(), "POST /v1/messages");
    let record = tollgate.record(&head).await;
    assert_eq!(record.routed_to.as_deref(), Some("ollama/llama3.1"));
    assert_eq!(record.cost, Some(Cost::ZERO));
    assert_eq!(record.saving, Some(usd("0.006")));
}

/// A budget that has room for nothing.
fn full(scope: &'static str) -> [(&'static str, &'static str); 3] {
    match scope {
        "opus" => [
            ("budgets.opus.scope", "model:claude-opus-5-5"),
            ("budgets.opus.window", "hour"),
            ("budgets.opus.limit", "1 token"),
        ],
        "sonnet" => [
            ("budgets.sonnet.scope", "model:claude-sonnet-5-5"),
            ("budgets.sonnet.window", "hour"),
            ("budgets.sonnet.limit", "1 token"),
        ],
        "haiku" => [
            ("budgets.haiku.scope", "model:claude-haiku-5-5"),
            ("budgets.haiku.window", "hour"),
            ("budgets.haiku.limit", "1 token"),
        ],
        _ => [
            ("budgets.money.scope", "global"),
            ("budgets.money.window", "month"),
            ("budgets.money.limit", "0.000001 usd"),
        ],
    }
}

#[tokio::test]
async fn routing_goes_down_the_ladder_past_models_whose_budget_is_full() {
    for (budgets, target, served_by, why) in [
        (
            vec!["opus"],
            "asked",
            "claude-sonnet-5-5",
            Some("ladder:anthropic"),
        ),
        (
            vec!["opus", "sonnet"],
            "asked",
            "claude-haiku-5-5",
            Some("ladder:anthropic"),
        ),
        (
            vec!["sonnet"],
            "premium",
            "claude-haiku-5-5",
            Some("ladder:anthropic"),
        ),
        (vec!["haiku"], "cheap", "claude-sonnet-5-5", Some("rule:r")),
        (vec!["sonnet", "haiku"], "cheap", "claude-opus-5-5", None),
    ] {
        let settings: Vec<_> = budgets.iter().flat_map(|scope| full(scope)).collect();
        let answering = provider().await;
        let rules = vec![rule("r", target)];
        let tollgate = routing(answering.address, Mode::On, rules, &settings, |_| ()).await;
        let (head, body) = tollgate.ask(anthropic("claude-opus-5-5", &[])).await;
        assert_eq!(head.status(), 200, "{budgets:?} {}", body.text());
        assert_eq!(served(&answering), [served_by], "{budgets:?}");
        assert_eq!(head.value("x-tollgate-route"), why, "{budgets:?}");
        let record = tollgate.record(&head).await;
        assert_eq!(record.routed_by.as_deref(), why);
        tollgate.settled().await;
    }
}

#[tokio::test]
async fn routing_refuses_with_the_asked_models_refusal_when_all_is_full() {
    let settings: Vec<_> = ["opus", "sonnet", "haiku"]
        .iter()
        .flat_map(|scope| full(scope))
        .collect();
    let answering = provider().await;
    let off = routing(answering.address, Mode::Off, vec![], &settings, |_| ()).await;
    let (expected, text) = off.ask(anthropic("claude-opus-5-5", &[])).await;
    let rules = vec![rule("r", "cheap")];
    let tollgate = routing(answering.address, Mode::On, rules, &settings, |_| ()).await;
    let (head, body) = tollgate.ask(anthropic("claude-opus-5-5", &[])).await;
    assert_eq!(head.status(), expected.status());
    assert_eq!(body.json()["error"]["type"], text.json()["error"]["type"]);
    assert!(body.text().contains("opus"), "{}", body.text());
    assert_eq!(answering.take().len(), 0);
    let record = tollgate.record(&head).await;
    assert_eq!(told(&record), (None, None, None, false));
    assert_eq!(
        (&*record.provider, record.outcome),
        ("anthropic", Outcome::Refused)
    );
    tollgate.settled().await;
}

#[tokio::test]
async fn routing_ends_at_a_free_local_model_when_the_money_is_gone() {
    let (first, second) = (provider().await, provider().await);
    let address = second.address;
    let tollgate = routing(
        first.address,
        Mode::On,
        vec![],
        &full("money"),
        move |settings| {
            let mut providers = settings.providers.iter_mut();
            let ollama = providers.find(|one| one.name == "ollama").unwrap();
            ollama.base_url = format!("http://{address}").parse().unwrap();
            for ladder in &mut settings.routing.ladders {
                ladder.rungs.push(tollgate::policy::routing::Target {
                    provider: Some("ollama".to_owned()),
                    model: "llama3.1".to_owned(),
                });
            }
        },
    )
    .await;
    let (head, body) = tollgate.ask(anthropic("claude-opus-5-5", &[])).await;
    assert_eq!(head.status(), 200, "{}", body.text());
    assert_eq!(
        (first.take().len(), served(&second)),
        (0, vec!["llama3.1".to_owned()])
    );
    let record = tollgate.record(&head).await;
    assert_eq!(record.routed_by.as_deref(), Some("ladder:anthropic"));
    assert_eq!(record.requested_provider.as_deref(), Some("anthropic"));
}

#[tokio::test]
async fn routing_never_exceeds_a_hard_budget_of_a_rung() {
    let answering = provider().await;
    let budgets = [
        ("budgets.haiku.scope", "model:claude-haiku-5-5"),
        ("budgets.haiku.window", "hour"),
        ("budgets.haiku.limit", "5000 tokens"),
        ("budgets.haiku.hard", "true"),
    ];
    let rules = vec![rule("r", "bottom")];
    let tollgate = routing(answering.address, Mode::On, rules, &budgets, |_| ()).await;
    for _ in 0..12 {
        let (head, _) = tollgate.ask(anthropic("claude-opus-5-5", &[])).await;
        assert_eq!(head.status(), 200);
    }
    let served = served(&answering);
    let haiku = served.iter().filter(|model| *model == "claude-haiku-5-5");
    let haiku = haiku.count();
    assert!((1..=4).contains(&haiku), "{served:?}");
    assert!(served.iter().any(|model| model == "claude-sonnet-5-5"));
}

#[tokio::test(flavor = "multi_thread")]
async fn routing_in_parallel_spends_no_more_than_a_hard_budget_of_a_rung_and_refuses_nobody() {
    let answering = provider().await;
    let budgets = [
        ("budgets.haiku.scope", "model:claude-haiku-5-5"),
        ("budgets.haiku.window", "hour"),
        ("budgets.haiku.limit", "0.003 usd"),
        ("budgets.haiku.hard", "true"),
    ];
    let rules = vec![rule("r", "bottom")];
    let tollgate = routing(answering.address, Mode::On, rules, &budgets, |_| ()).await;
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..60 {
        let mut wire = tollgate.connect().await;
        clients.spawn(async move {
            // Longer than what the provider says that it read.
            let body = format!(
                r#"{{"model":"claude-opus-5-5","max_tokens":100,"messages":[{{"role":"user","content":"{}"}}]}}"#,
                "word ".repeat(800)
            );
            let session = format!("s{}", client % 7);
            let headers = [("x-tollgate-session", &*session)];
            wire.send(request("POST /anthropic/v1/messages", &headers, body))
                .await;
            wire.message().await.0.status()
        });
    }
    let statuses = clients.join_all().await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    tollgate.settled().await;
    let records = tollgate.records().await;
    let of_haiku = |record: &&Record| record.sent_model.as_deref() == Some("claude-haiku-5-5");
    let spent: Cost = records
        .iter()
        .filter(of_haiku)
        .filter_map(|record| record.cost)
        .sum();
    assert!(Cost::ZERO < spent && spent <= usd("0.003"), "spent {spent}");
    let saved: i128 = records
        .iter()
        .filter_map(|record| record.saving)
        .map(Cost::attos)
        .sum();
    let shown = tollgate.metric("tollgate_saved_usd", &["mode=\"on\""]);
    assert!((shown - Cost::from_attos(saved).as_f64_for_display()).abs() < 1e-9);
}

#[tokio::test]
async fn routing_sends_to_no_other_wire_format_and_to_nothing_dearer() {
    let to_openai = rule("r", "openai/gpt-6-luna");
    let served = serves(vec![to_openai], anthropic("claude-opus-5-5", &[]))
        .await
        .0;
    assert_eq!(served, "claude-opus-5-5");
    let answering = provider().await;
    let rules = vec![rule("r", "down")];
    let tollgate = routing(answering.address, Mode::On, rules, &[], |settings| {
        let mut ladders = settings.routing.ladders.iter_mut();
        let ladder = ladders.find(|ladder| ladder.name == "anthropic").unwrap();
        ladder.rungs.reverse();
        ladder.unchecked_prices = true;
    })
    .await;
    tollgate.ask(anthropic("claude-sonnet-5-5", &[])).await;
    assert_eq!(self::served(&answering), ["claude-sonnet-5-5"]);
}

#[tokio::test]
async fn routing_starts_lower_when_budgets_get_full() {
    let answering = provider().await;
    let budgets = [
        ("budgets.all.scope", "global"),
        ("budgets.all.window", "hour"),
        ("budgets.all.limit", "20000 tokens"),
    ];
    let soft = RouteRule {
        level: Some(Level::Soft),
        ..rule("soft", "down")
    };
    let tollgate = routing(answering.address, Mode::On, vec![soft], &budgets, |_| ()).await;
    let mut seen = Vec::new();
    for _ in 0..20 {
        let (head, _) = tollgate.ask(anthropic("claude-opus-5-5", &[])).await;
        let level = head.value("x-tollgate-level").unwrap().to_owned();
        seen.push((level, served(&answering).pop()));
    }
    for (level, model) in seen.iter().filter(|(_, model)| model.is_some()) {
        let lower = ["SOFT", "HARD", "CRITICAL"].contains(&&**level);
        let expected = if lower {
            "claude-sonnet-5-5"
        } else {
            "claude-opus-5-5"
        };
        assert_eq!(model.as_deref(), Some(expected), "{seen:?}");
    }
    assert!(
        seen.iter()
            .any(|(_, model)| model.as_deref() == Some("claude-sonnet-5-5")),
        "{seen:?}"
    );
}

#[tokio::test]
async fn routing_spares_low_priority_the_line_where_another_model_has_room() {
    let answering = provider().await;
    let budgets = [
        ("budgets.opus.scope", "model:claude-opus-5-5"),
        ("budgets.opus.window", "hour"),
        ("budgets.opus.limit", "5000 tokens"),
    ];
    let tollgate = routing(answering.address, Mode::On, vec![], &budgets, |_| ()).await;
    for _ in 0..3 {
        tollgate.ask(anthropic("claude-opus-5-5", &[])).await;
    }
    let low = [("x-tollgate-priority", "low")];
    answering.take();
    let mut models = Vec::new();
    for _ in 0..4 {
        let (head, body) = tollgate.ask(anthropic("claude-opus-5-5", &low)).await;
        assert_eq!(head.status(), 200, "{}", body.text());
        assert_eq!(head.value("x-tollgate-queued-ms"), Some("0"));
        models.extend(served(&answering));
    }
    assert_eq!(models.last().map(String::as_str), Some("claude-sonnet-5-5"));
}

#[tokio::test]
async fn routing_works_whatever_the_budgets_do() {
    for mode in ["shadow", "off"] {
        let answering = provider().await;
        let mut settings = full("haiku").to_vec();
        settings.push(("throttle.mode", mode));
        let rules = vec![rule("r", "cheap")];
        let tollgate = routing(answering.address, Mode::On, rules, &settings, |_| ()).await;
        let (head, _) = tollgate.ask(anthropic("claude-opus-5-5", &[])).await;
        assert_eq!(head.status(), 200);
        assert_eq!(served(&answering), ["claude-haiku-5-5"], "{mode}");
        let record = tollgate.record(&head).await;
        assert_eq!(record.routed_by.as_deref(), Some("rule:r"));
        assert_eq!(record.flags.shadow, mode == "shadow");
        tollgate.settled().await;
    }
}

#[tokio::test]
async fn routing_streams_gemini_by_the_path_of_the_other_model() {
    let events = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"yes\"}]},\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":1000,\"candidatesTokenCount\":100},\"modelVersion\":\"gemini-3.5-flash-lite\"}\r\n\r\n";
    let answering = Upstream::start()
        .await
        .answering(move |_| answer("200 OK", &[("content-type", "text/event-stream")], events));
    let tollgate = to(answering.address, "cheap").await;
    let body = r#"{"contents":[{"parts":[{"text":"hi"}]}]}"#;
    let ask = request(
        "POST /gemini/v1beta/models/gemini-4-argon:streamGenerateContent?alt=sse",
        &[("x-goog-api-key", "AIza-own")],
        body,
    );
    let (head, got) = tollgate.ask(ask).await;
    assert_eq!(got.text(), events);
    let arrived = answering.take();
    assert_eq!(
        arrived[0].head.asks(),
        "POST /v1beta/models/gemini-3.5-flash-lite:streamGenerateContent?alt=sse"
    );
    assert_eq!(arrived[0].head.value("x-goog-api-key"), Some("AIza-own"));
    assert_eq!(arrived[0].body.text(), body);
    let record = tollgate.record(&head).await;
    assert_eq!(record.cost, Some(usd("0.00055")));
    assert_eq!(record.saving, Some(usd("0.00245")));
    assert!(record.stream);
}
