//! Routing where it is hard: conversations, what a model cannot do, models that refuse, clients that leave, and keys.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate::config::settings::Secret;
use tollgate::policy::limits::LimitRule;
use tollgate::policy::priority::Pattern;
use tollgate::policy::routing::{Mode, RouteRule, Target};
use tollgate::policy::rules::Policy;
use tollgate::store::record::Outcome;
use tollgate::units::Cost;

use crate::binary::{self, Proxy};
use crate::rig::*;
use crate::routing_path::{asked_model, plain, provider, routing, rule, to};

const MINUTE: u64 = 60_000;
const MESSAGES: &str = "POST /anthropic/v1/messages";
const CHAT: &str = "POST /openai/v1/chat/completions";

fn usd(text: &str) -> Cost {
    text.parse().unwrap()
}

fn served(answering: &Answering) -> Vec<String> {
    answering.take().iter().map(asked_model).collect()
}

/// A rule for a task that the client names.
fn for_task(task: &str, target: &str) -> RouteRule {
    RouteRule {
        task: Some(Pattern::new(task)),
        ..rule(task, target)
    }
}

fn with_task(line: &str, task: Option<&str>, body: &Value) -> Vec<u8> {
    let headers: Vec<_> = task
        .map(|task| ("x-tollgate-task", task))
        .into_iter()
        .collect();
    request(line, &headers, body.to_string())
}

/// A conversation with Claude, so many of its user's turns long; in a loop of tools if it ends with a tool's result.
fn conversation(turns: usize, in_loop: bool, padding: usize) -> Value {
    let mut messages = vec![json!({"role": "user", "content": "x ".repeat(padding / 2) + "begin"})];
    for turn in 1..turns {
        messages.push(json!({"role": "assistant", "content": format!("answer {turn}")}));
        messages.push(json!({"role": "user", "content": format!("go on {turn}")}));
    }
    if in_loop {
        messages.push(json!({"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {}}]}));
        messages.push(json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "seen"}]}));
    }
    json!({
        "model": "claude-opus-5-5",
        "max_tokens": 100,
        "tools": [{"name": "look", "input_schema": {"type": "object"}}],
        "messages": messages,
    })
}

#[tokio::test]
async fn routing_keeps_the_model_inside_a_tool_loop() {
    let answering = provider().await;
    let rules = vec![for_task("ui", "cheap"), for_task("coding", "asked")];
    let tollgate = routing(answering.address, Mode::On, rules, &[], |_| ()).await;
    for (turns, in_loop, task, model) in [
        (1, false, "ui", "claude-haiku-5-5"),
        (1, true, "coding", "claude-haiku-5-5"),
        (2, false, "coding", "claude-opus-5-5"),
        (2, true, "ui", "claude-opus-5-5"),
        (2, true, "ui", "claude-opus-5-5"),
    ] {
        let ask = with_task(MESSAGES, Some(task), &conversation(turns, in_loop, 0));
        let (head, body) = tollgate.ask(ask).await;
        assert_eq!(head.status(), 200, "{}", body.text());
        assert_eq!(served(&answering), [model], "{turns} {in_loop} {task}");
    }
}

/// The model's own thoughts in the loop of tools that it has begun, in each format that has them.
const OWN_LOOPS: [(&str, &str, &str, &str); 4] = [
    (
        MESSAGES,
        r#"{"model":"claude-opus-5-5","max_tokens":9000,"tools":[{"name":"look","input_schema":{"type":"object"}}],"messages":[{"role":"user","content":"begin"}]}"#,
        r#"{"model":"claude-opus-5-5","max_tokens":9000,"tools":[{"name":"look","input_schema":{"type":"object"}}],"messages":[{"role":"user","content":"begin"},{"role":"assistant","content":[{"type":"thinking","thinking":"t","signature":"s"},{"type":"tool_use","id":"t1","name":"look","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":"seen"}]}]}"#,
        "claude-haiku-5-5",
    ),
    (
        CHAT,
        r#"{"model":"gpt-5","tools":[{"type":"function","function":{"name":"look"}}],"messages":[{"role":"user","content":"begin"}]}"#,
        r#"{"model":"gpt-5","tools":[{"type":"function","function":{"name":"look"}}],"messages":[{"role":"user","content":"begin"},{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"look","arguments":"{}"}}]},{"role":"tool","tool_call_id":"c1","content":"seen"}]}"#,
        "gpt-5-mini",
    ),
    (
        "POST /openai/v1/responses",
        r#"{"model":"gpt-6.1-sol","store":false,"include":["reasoning.encrypted_content"],"tools":[{"type":"function","name":"look","parameters":{"type":"object"}}],"input":[{"role":"user","content":"begin"}]}"#,
        r#"{"model":"gpt-6.1-sol","store":false,"include":["reasoning.encrypted_content"],"tools":[{"type":"function","name":"look","parameters":{"type":"object"}}],"input":[{"role":"user","content":"begin"},{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"e"},{"type":"function_call","id":"fc_1","call_id":"c1","name":"look","arguments":"{}"},{"type":"function_call_output","call_id":"c1","output":"seen"}]}"#,
        "gpt-6-luna",
    ),
    (
        "POST /gemini/v1beta/models/gemini-4-argon:generateContent",
        r#"{"tools":[{"functionDeclarations":[{"name":"look"}]}],"contents":[{"role":"user","parts":[{"text":"begin"}]}]}"#,
        r#"{"tools":[{"functionDeclarations":[{"name":"look"}]}],"contents":[{"role":"user","parts":[{"text":"begin"}]},{"role":"model","parts":[{"functionCall":{"name":"look","args":{}},"thoughtSignature":"s"}]},{"role":"user","parts":[{"functionResponse":{"name":"look","response":{}}}]}]}"#,
        "gemini-3.5-flash-lite",
    ),
];

#[tokio::test]
async fn routing_lets_a_model_go_on_with_its_own_thoughts() {
    for (line, begins, goes_on, rung) in OWN_LOOPS {
        let answering = provider().await;
        let rules = vec![for_task("ui", "cheap"), for_task("coding", "asked")];
        let tollgate = routing(answering.address, Mode::On, rules, &[], |_| ()).await;
        let ask = async |task: &str, body: &str| {
            let headers = [("x-tollgate-task", task)];
            let (head, body) = tollgate.ask(request(line, &headers, body)).await;
            assert_eq!(head.status(), 200, "{}", body.text());
            let arrived = answering.take();
            (asked_model(&arrived[0]), arrived[0].body.text())
        };
        assert_eq!(ask("ui", begins).await.0, rung, "{line}");
        for task in ["coding", "ui"] {
            let (model, sent) = ask(task, goes_on).await;
            assert_eq!(model, rung, "{line}");
            let asked = goes_on.split('"').nth(3).unwrap();
            assert_eq!(
                sent,
                goes_on.replacen(asked, rung, usize::from(asked != "functionDeclarations"))
            );
        }
    }
}

#[tokio::test]
async fn routing_leaves_a_loop_to_the_model_whose_thoughts_are_in_it() {
    for (line, begins, goes_on, _) in OWN_LOOPS {
        let answering = provider().await;
        let rules = vec![for_task("ui", "cheap"), for_task("coding", "asked")];
        let tollgate = routing(answering.address, Mode::On, rules, &[], |_| ()).await;
        for (task, body) in [("coding", begins), ("ui", goes_on)] {
            let headers = [("x-tollgate-task", task)];
            let (head, _) = tollgate.ask(request(line, &headers, body)).await;
            let arrived = answering.take();
            assert_eq!(arrived[0].body.text(), body, "{line}");
            assert_eq!(head.value("x-tollgate-route"), None);
        }
    }
}

#[tokio::test]
async fn routing_may_change_the_model_anywhere_if_the_config_says_so() {
    let answering = provider().await;
    let rules = vec![for_task("ui", "cheap"), for_task("coding", "asked")];
    let tollgate = routing(answering.address, Mode::On, rules, &[], |settings| {
        settings.routing.only_at_user_turn = false;
    })
    .await;
    tollgate
        .ask(with_task(MESSAGES, Some("ui"), &conversation(1, false, 0)))
        .await;
    tollgate
        .ask(with_task(
            MESSAGES,
            Some("coding"),
            &conversation(1, true, 0),
        ))
        .await;
    assert_eq!(served(&answering), ["claude-haiku-5-5", "claude-opus-5-5"]);
}

#[tokio::test]
async fn routing_keeps_a_conversation_that_was_moved_for_a_while() {
    let answering = provider().await;
    let rules = vec![for_task("ui", "cheap")];
    let tollgate = routing(answering.address, Mode::On, rules, &[], |_| ()).await;
    for (minute, turns, task, model) in [
        (0, 1, None, "claude-opus-5-5"),
        (1, 2, Some("ui"), "claude-haiku-5-5"),
        (3, 3, None, "claude-haiku-5-5"),
        (7, 4, None, "claude-opus-5-5"),
        (8, 5, Some("ui"), "claude-opus-5-5"),
        (13, 6, Some("ui"), "claude-haiku-5-5"),
    ] {
        tollgate.set_clock(NOON + minute * MINUTE);
        let ask = with_task(MESSAGES, task, &conversation(turns, false, 0));
        let (head, _) = tollgate.ask(ask).await;
        assert_eq!(served(&answering), [model], "minute {minute}");
        let record = tollgate.record(&head).await;
        assert_eq!(record.routed_by.is_some(), model != "claude-opus-5-5");
    }
}

/// A provider whose answers say that all of the prompt was written to the cache, or read from it.
async fn caching(writes: u64, reads: u64) -> Answering {
    let turn = AtomicUsize::new(0);
    Upstream::start().await.answering(move |arrived| {
        let first = turn.fetch_add(1, Ordering::Relaxed) == 0;
        let (write, read) = if first { (writes, 0) } else { (0, reads) };
        let model = asked_model(arrived);
        json_answer(format!(
            r#"{{"id":"m","type":"message","model":"{model}","stop_reason":"end_turn","content":[],"usage":{{"input_tokens":10,"cache_creation_input_tokens":{write},"cache_read_input_tokens":{read},"output_tokens":100}}}}"#
        ))
    })
}

#[tokio::test]
async fn routing_leaves_a_cached_conversation_where_the_lost_cache_costs_more() {
    // 90,000 tokens: read at $0.20 they are $0.018; written anew at $2.50 (sonnet) $0.225, at $0.125 (haiku) $0.01125.
    for (target, minutes, model) in [
        ("premium", 1, "claude-opus-5-5"),
        ("cheap", 1, "claude-haiku-5-5"),
        // By then the cache is gone anyway.
        ("premium", 6, "claude-sonnet-5-5"),
    ] {
        let answering = caching(90_000, 90_000).await;
        let rules = vec![for_task("ui", target)];
        let tollgate = routing(answering.address, Mode::On, rules, &[], |_| ()).await;
        let ask = with_task(MESSAGES, None, &conversation(1, false, 270_000));
        tollgate.ask(ask).await;
        tollgate.set_clock(NOON + minutes * MINUTE);
        let ask = with_task(MESSAGES, Some("ui"), &conversation(2, false, 270_000));
        let (head, _) = tollgate.ask(ask).await;
        let models = served(&answering);
        assert_eq!(models, ["claude-opus-5-5", model], "{target} {minutes}");
        assert_eq!(head.value("x-tollgate-model"), Some(model));
    }
}

#[tokio::test]
async fn routing_counts_the_lost_cache_into_the_saving() {
    let answering = caching(90_000, 0).await;
    let rules = vec![for_task("ui", "cheap")];
    let tollgate = routing(answering.address, Mode::On, rules, &[], |_| ()).await;
    let ask = with_task(MESSAGES, None, &conversation(1, false, 270_000));
    tollgate.ask(ask).await;
    let ask = with_task(MESSAGES, Some("ui"), &conversation(2, false, 270_000));
    let (head, _) = tollgate.ask(ask).await;
    let record = tollgate.record(&head).await;
    // Haiku read 10 tokens at $0.10 and wrote 100 at $0.50 a million; opus would have read those 10 from its cache.
    assert_eq!(record.cost, Some(usd("0.000051")));
    let asked = usd("0.000002").attos() + usd("0.002").attos();
    let saving = asked - usd("0.000051").attos();
    assert_eq!(record.saving, Some(Cost::from_attos(saving)));
}

#[tokio::test]
async fn routing_tells_the_conversations_of_two_sessions_apart() {
    let answering = provider().await;
    let rules = vec![for_task("ui", "cheap"), for_task("coding", "asked")];
    let tollgate = routing(answering.address, Mode::On, rules, &[], |_| ()).await;
    let ask = async |session: &str, task: &str, in_loop: bool| {
        let headers = [("x-tollgate-session", session), ("x-tollgate-task", task)];
        let body = conversation(1, in_loop, 0).to_string();
        tollgate.ask(request(MESSAGES, &headers, body)).await;
    };
    ask("one", "ui", false).await;
    ask("two", "coding", false).await;
    ask("one", "coding", true).await;
    ask("two", "ui", true).await;
    assert_eq!(
        served(&answering),
        [
            "claude-haiku-5-5",
            "claude-opus-5-5",
            "claude-haiku-5-5",
            "claude-opus-5-5"
        ]
    );
}

#[tokio::test]
async fn routing_tells_the_conversations_of_one_session_apart() {
    let answering = provider().await;
    let rules = vec![for_task("ui", "cheap"), for_task("coding", "asked")];
    let tollgate = routing(answering.address, Mode::On, rules, &[], |_| ()).await;
    let ask = async |about: &str, task: &str, in_loop: bool| {
        let mut body = conversation(1, in_loop, 0);
        // Agents begin all of their conversations with the same words.
        let same = "project ".repeat(200);
        body["messages"][0]["content"] = json!([
            {"type": "text", "text": same},
            {"type": "text", "text": format!("{same}{about}")},
        ]);
        tollgate.ask(with_task(MESSAGES, Some(task), &body)).await;
    };
    ask("one", "ui", false).await;
    ask("two", "coding", false).await;
    ask("one", "coding", true).await;
    ask("two", "ui", true).await;
    assert_eq!(
        served(&answering),
        [
            "claude-haiku-5-5",
            "claude-opus-5-5",
            "claude-haiku-5-5",
            "claude-opus-5-5"
        ]
    );
}

/// A conversation in which a model has thought.
const THOUGHT: &str = r#"{"model":"claude-opus-4-6","max_tokens":8000,"messages":[{"role":"user","content":"begin"},{"role":"assistant","content":[{"type":"thinking","thinking":"t","signature":"s"}, {"type":"text","text":"yes"}]},{"role":"user","content":"go on"}]}"#;
const BEGUN: &str = r#"{"model":"claude-opus-4-6","max_tokens":8000,"messages":[{"role":"user","content":"begin"}]}"#;

#[tokio::test]
async fn routing_takes_other_models_thoughts_from_what_the_asked_model_gets() {
    let cut = THOUGHT.replace(
        r#"{"type":"thinking","thinking":"t","signature":"s"}, "#,
        "",
    );
    // The first request's task, the second one's, the mode, and what the second one's model gets.
    for (first, second, mode, expected) in [
        ("ui", "coding", Mode::On, &*cut),
        ("coding", "coding", Mode::On, THOUGHT),
        ("ui", "coding", Mode::Shadow, THOUGHT),
    ] {
        let answering = provider().await;
        let rules = vec![for_task("ui", "cheap"), for_task("coding", "asked")];
        let tollgate = routing(answering.address, mode, rules, &[], |_| ()).await;
        let ask = async |task: &str, body: &str| {
            let headers = [("x-tollgate-task", task)];
            tollgate.ask(request(MESSAGES, &headers, body)).await;
        };
        ask(first, BEGUN).await;
        ask(second, THOUGHT).await;
        let arrived = answering.take();
        assert_eq!(
            arrived[1].body.text(),
            expected,
            "{first} {second} {mode:?}"
        );
        // What was said before stays cut, or the provider would have to read it all anew.
        ask(second, THOUGHT).await;
        assert_eq!(answering.take()[0].body.text(), expected);
    }
}

#[tokio::test]
async fn routing_takes_other_models_thoughts_out_on_the_way_back_too() {
    let turn = AtomicUsize::new(0);
    let answering = Upstream::start().await.answering(move |arrived| {
        match turn.fetch_add(1, Ordering::Relaxed) {
            1 => error("400 Bad Request"),
            _ => plain(arrived),
        }
    });
    let tollgate = to(answering.address, "cheap").await;
    tollgate.ask(request(MESSAGES, &[], BEGUN)).await;
    let (head, _) = tollgate.ask(request(MESSAGES, &[], THOUGHT)).await;
    assert_eq!(head.status(), 200);
    let arrived = answering.take();
    assert_eq!(asked_model(&arrived[2]), "claude-opus-4-6");
    assert!(!arrived[2].body.text().contains("signature"));
}

#[tokio::test]
async fn routing_leaves_the_asked_model_half_of_a_clients_patience() {
    let upstream = Upstream::start().await;
    let local = Upstream::start().await;
    let address = local.address;
    let rules = vec![rule("all", "ollama/llama3.1")];
    let tollgate = routing(upstream.address, Mode::On, rules, &[], move |settings| {
        let mut providers = settings.providers.iter_mut();
        let ollama = providers.find(|one| one.name == "ollama").unwrap();
        ollama.base_url = format!("http://{address}").parse().unwrap();
        settings.limits.push(LimitRule {
            provider: Some(Pattern::new("ollama")),
            concurrency: Some(1),
            ..LimitRule::default()
        });
    })
    .await;
    let mut body = conversation(1, false, 0);
    body.as_object_mut().unwrap().remove("tools");
    let mut first = tollgate.connect().await;
    first.send(request(MESSAGES, &[], body.to_string())).await;
    let (_busy, ..) = local.request().await;
    let mut second = tollgate.connect().await;
    // It waits for its turn for 1.8 of these two seconds.
    let patience = [("x-stainless-timeout", "2")];
    second
        .send(request(MESSAGES, &patience, body.to_string()))
        .await;
    let (mut provider, _, sent) = upstream.request().await;
    assert_eq!(sent.json()["model"], "claude-opus-5-5");
    provider
        .send(json_answer(
            r#"{"id":"m","model":"claude-opus-5-5","stop_reason":"end_turn","content":[],"usage":{"input_tokens":1,"output_tokens":1}}"#,
        ))
        .await;
    let (head, _) = second.message().await;
    assert_eq!(head.status(), 200);
    let waited: u64 = head.value("x-tollgate-queued-ms").unwrap().parse().unwrap();
    assert!((700..1_400).contains(&waited), "{waited} ms");
}

#[tokio::test]
async fn routing_leaves_a_pinned_request_alone_and_refuses_other_words() {
    for mode in [Mode::Off, Mode::Shadow, Mode::On] {
        let answering = provider().await;
        let tollgate = routing(
            answering.address,
            mode,
            vec![rule("all", "cheap")],
            &[],
            |_| (),
        )
        .await;
        let body = conversation(1, false, 0).to_string();
        let pinned = [("x-tollgate-route", "pinned")];
        let (head, _) = tollgate.ask(request(MESSAGES, &pinned, &body)).await;
        let arrived = answering.take();
        assert_eq!(arrived[0].body.text(), body);
        assert_eq!(arrived[0].head.value("x-tollgate-route"), None);
        let record = tollgate.record(&head).await;
        assert_eq!((record.routed_by, record.saving), (None, None));
        for other in ["cheap", "PINNED", "", "pinned, pinned"] {
            let headers = [("x-tollgate-route", other)];
            let (head, body) = tollgate.ask(request(MESSAGES, &headers, &body)).await;
            assert_eq!(head.status(), 400, "{other}");
            let text = body.text();
            assert!(text.contains("x-tollgate-route"), "{text}");
            assert_eq!(body.json()["type"], "error");
        }
        let twice = [
            ("x-tollgate-route", "pinned"),
            ("x-tollgate-route", "pinned"),
        ];
        let (head, _) = tollgate.ask(request(MESSAGES, &twice, &body)).await;
        assert_eq!(head.status(), 400);
        assert_eq!(answering.take().len(), 0);
        tollgate.settled().await;
    }
}

#[tokio::test]
async fn routing_leaves_the_models_of_a_pinned_key_alone() {
    let answering = provider().await;
    let key = ("x-api-key", "sk-ant-api03-the-clients-own-key");
    let headers: http::HeaderMap = [(
        http::HeaderName::from_static(key.0),
        http::HeaderValue::from_static(key.1),
    )]
    .into_iter()
    .collect();
    let name = tollgate::policy::session::client_key(&headers, None).unwrap();
    let name = name.fingerprint.to_string();
    let rules = vec![rule("all", "cheap")];
    let tollgate = routing(answering.address, Mode::On, rules, &[], |settings| {
        let policy = Policy {
            pin_model: true,
            ..Policy::default()
        };
        settings.keys.insert(name, policy);
    })
    .await;
    let body = conversation(1, false, 0).to_string();
    tollgate.ask(request(MESSAGES, &[key], &body)).await;
    tollgate.ask(request(MESSAGES, &[], &body)).await;
    assert_eq!(served(&answering), ["claude-opus-5-5", "claude-haiku-5-5"]);
}

#[tokio::test]
async fn routing_asks_no_model_that_the_callers_policy_forbids() {
    let answering = provider().await;
    let key = ("x-api-key", "sk-ant-api03-the-clients-own-key");
    let mut headers = http::HeaderMap::new();
    headers.insert(key.0, http::HeaderValue::from_static(key.1));
    let name = tollgate::policy::session::client_key(&headers, None).unwrap();
    let name = name.fingerprint.to_string();
    let rules = vec![rule("all", "cheap")];
    let tollgate = routing(answering.address, Mode::On, rules, &[], |settings| {
        let models = ["claude-opus-*", "claude-sonnet-*"].map(Pattern::new);
        let policy = Policy {
            models: Some(models.into()),
            ..Policy::default()
        };
        settings.keys.insert(name, policy);
    })
    .await;
    let body = conversation(1, false, 0).to_string();
    tollgate.ask(request(MESSAGES, &[key], &body)).await;
    assert_eq!(served(&answering), ["claude-sonnet-5-5"]);
}

/// Asks once in mode `on` with one rule: who served, and with what body.
async fn sent(target: &str, line: &str, headers: &[(&str, &str)], body: &str) -> (String, String) {
    let answering = provider().await;
    let tollgate = to(answering.address, target).await;
    let (head, got) = tollgate.ask(request(line, headers, body)).await;
    assert_eq!(head.status(), 200, "{}", got.text());
    let arrived = answering.take();
    (asked_model(&arrived[0]), arrived[0].body.text())
}

#[tokio::test]
async fn routing_passes_over_models_that_cannot_do_what_is_asked() {
    let user = r#""messages":[{"role":"user","content":"hi"}]"#;
    let long = "word ".repeat(180_000);
    let cases: [(&str, &str, String); 6] = [
        // Sonnet and Opus 5.5 cannot be made to call a tool.
        (
            "premium",
            "claude-opus-4-8",
            format!(
                r#"{{"model":"claude-opus-4-8","max_tokens":100,"tools":[{{"name":"t","input_schema":{{"type":"object"}}}}],"tool_choice":{{"type":"any"}},{user}}}"#
            ),
        ),
        // Nobody says that Llama sees images.
        (
            "ollama/llama3.1",
            "claude-opus-5-5",
            r#"{"model":"claude-opus-5-5","max_tokens":100,"messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"aGk="}}]}]}"#.to_owned(),
        ),
        // 300,000 tokens do not fit 200,000.
        (
            "claude-haiku-4-5",
            "claude-opus-5-5",
            format!(
                r#"{{"model":"claude-opus-5-5","max_tokens":100,"messages":[{{"role":"user","content":"{long}"}}]}}"#
            ),
        ),
        // Thinking that is demanded.
        (
            "ollama/llama3.1",
            "claude-opus-4-6",
            format!(
                r#"{{"model":"claude-opus-4-6","max_tokens":8000,"thinking":{{"type":"enabled","budget_tokens":2000}},{user}}}"#
            ),
        ),
        // The answer's beginning is given.
        (
            "cheap",
            "claude-opus-4-5",
            r#"{"model":"claude-opus-4-5","max_tokens":100,"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"{"}]}"#.to_owned(),
        ),
        // A member that nobody knows.
        (
            "cheap",
            "claude-opus-5-5",
            format!(r#"{{"model":"claude-opus-5-5","max_tokens":100,"new_thing":1,{user}}}"#),
        ),
    ];
    for (target, model, body) in cases {
        let (served, sent) = sent(target, MESSAGES, &[], &body).await;
        assert_eq!(served, model, "to {target}");
        assert!(sent == body, "untouched");
    }
}

#[tokio::test]
async fn routing_takes_a_better_rung_where_the_lower_one_does_not_fit() {
    let answering = provider().await;
    let rules = vec![rule("all", "bottom")];
    let tollgate = routing(answering.address, Mode::On, rules, &[], |settings| {
        let mut ladders = settings.routing.ladders.iter_mut();
        let ladder = ladders.find(|ladder| ladder.name == "anthropic").unwrap();
        ladder.rungs.push(Target {
            provider: Some("ollama".to_owned()),
            model: "llama3.1".to_owned(),
        });
    })
    .await;
    let body = r#"{"model":"claude-opus-5-5","max_tokens":100,"messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"aGk="}}]}]}"#;
    let (head, _) = tollgate.ask(request(MESSAGES, &[], body)).await;
    assert_eq!(served(&answering), ["claude-haiku-5-5"]);
    assert_eq!(head.value("x-tollgate-route"), Some("rule:all"));
}

#[tokio::test]
async fn routing_adapts_what_the_other_model_would_refuse_and_nothing_else() {
    for (asked, body, arrives) in [
        (
            "claude-opus-4-6",
            r#"{"model":"claude-opus-4-6", "max_tokens":8000,"thinking":{"type":"enabled","budget_tokens":2000},"messages":[{"role":"user","content":"hi"}]}"#,
            r#"{"model":"claude-haiku-5-5", "max_tokens":8000,"thinking":{"type":"adaptive"},"messages":[{"role":"user","content":"hi"}]}"#,
        ),
        (
            "claude-opus-4-6",
            r#"{"model":"claude-opus-4-6","temperature":0.5, "max_tokens":8000,"messages":[{"role":"user","content":"hi"}]}"#,
            r#"{"thinking":{"type":"disabled"},"model":"claude-haiku-5-5", "max_tokens":8000,"messages":[{"role":"user","content":"hi"}]}"#,
        ),
    ] {
        let (served, sent) = sent("cheap", MESSAGES, &[], body).await;
        assert_eq!((&*served, &*sent), ("claude-haiku-5-5", arrives), "{asked}");
    }
}

#[tokio::test]
async fn routing_reads_every_line_of_the_beta_header() {
    let user = r#"{"model":"claude-opus-5-5","max_tokens":100,"messages":[{"role":"user","content":"hi"}]}"#;
    let twice = [
        ("anthropic-beta", "prompt-caching-2024-07-31"),
        ("anthropic-beta", "output-300k-2026-03-24"),
    ];
    let (served, _) = sent("cheap", MESSAGES, &twice, user).await;
    assert_eq!(served, "claude-opus-5-5");
    let (served, _) = sent("cheap", MESSAGES, &twice[..1], user).await;
    assert_eq!(served, "claude-haiku-5-5");
}

/// A request's line, headers and body.
type Raw<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [u8]);

#[tokio::test]
async fn routing_leaves_alone_what_it_does_not_understand() {
    let gzip = {
        use std::io::Write as _;
        let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        coder
            .write_all(br#"{"model":"claude-opus-5-5","max_tokens":1,"messages":[]}"#)
            .unwrap();
        coder.finish().unwrap()
    };
    let cases: [Raw<'_>; 5] = [
        (MESSAGES, &[("content-encoding", "gzip")], &gzip),
        (MESSAGES, &[], b"{\"model\":\"claude-opus-5-5\", no json"),
        (MESSAGES, &[], b"{\"max_tokens\":1,\"messages\":[]}"),
        (
            MESSAGES,
            &[],
            b"{\"model\":\"claude-unheard-of\",\"max_tokens\":1,\"messages\":[]}",
        ),
        (
            "POST /anthropic/v1/messages/count_tokens",
            &[],
            b"{\"model\":\"claude-opus-5-5\",\"messages\":[]}",
        ),
    ];
    for (line, headers, body) in cases {
        let answering = provider().await;
        let tollgate = to(answering.address, "cheap").await;
        let (head, _) = tollgate.ask(request(line, headers, body)).await;
        assert_eq!(head.status(), 200);
        let arrived = answering.take();
        assert_eq!(arrived[0].body.bytes, body, "{line}");
        let record = tollgate.record(&head).await;
        assert_eq!((record.sent_model, record.routed_by), (None, None));
    }
    let answering = provider().await;
    let tollgate = to(answering.address, "cheap").await;
    let twice =
        br#"{"model":"claude-opus-5-5","model":"claude-opus-5-5","max_tokens":1,"messages":[]}"#;
    let (head, _) = tollgate.ask(request(MESSAGES, &[], twice)).await;
    assert_eq!((head.status(), answering.take().len()), (400, 0));
}

fn error(status: &str) -> Vec<u8> {
    answer(
        status,
        &[("content-type", "application/json")],
        r#"{"type":"error","error":{"type":"odd_error","message":"no"}}"#,
    )
}

/// A provider that has only one good model.
async fn only(good: &'static str, other: Vec<u8>) -> Answering {
    Upstream::start().await.answering(move |arrived| {
        if asked_model(arrived) == good {
            plain(arrived)
        } else {
            other.clone()
        }
    })
}

#[tokio::test]
async fn routing_goes_back_to_the_asked_model_where_the_other_refuses() {
    for status in [
        "400 Bad Request",
        "401 Unauthorized",
        "403 Forbidden",
        "404 Not Found",
        "405 Method Not Allowed",
        "410 Gone",
        "413 Content Too Large",
        "422 Unprocessable Content",
        "424 Failed Dependency",
        "500 Internal Server Error",
        "501 Not Implemented",
        "503 Service Unavailable",
        "529 Overloaded",
    ] {
        let answering = only("claude-opus-5-5", error(status)).await;
        let tollgate = to(answering.address, "cheap").await;
        let body = conversation(1, false, 0).to_string();
        let (head, got) = tollgate.ask(request(MESSAGES, &[], &body)).await;
        assert_eq!(head.status(), 200, "{status}: {}", got.text());
        let arrived = answering.take();
        let models: Vec<_> = arrived.iter().map(asked_model).collect();
        assert_eq!(models, ["claude-haiku-5-5", "claude-opus-5-5"], "{status}");
        assert_eq!(arrived[1].body.text(), body, "the client's own bytes");
        assert_eq!(head.value("x-tollgate-model"), Some("claude-opus-5-5"));
        assert_eq!(head.value("x-tollgate-requested-model"), None);
        assert_eq!(head.value("x-tollgate-route"), None);
        assert_eq!(head.value("x-tollgate-attempts"), Some("2"));
        assert_eq!(head.value("x-should-retry"), None);
        let record = tollgate.record(&head).await;
        assert_eq!(record.cost, Some(usd("0.006")));
        assert_eq!(
            (record.attempts, record.outcome, record.status),
            (2, Outcome::Complete, 200)
        );
        assert_eq!(
            (record.sent_model, record.routed_by, record.saving),
            (None, None, None)
        );
        assert_eq!(record.flags.names().count(), 0);
        assert_eq!(tollgate.metric("tollgate_saved_usd", &[]), 0.0);
        tollgate.settled().await;
    }
}

#[tokio::test]
async fn routing_goes_back_where_the_first_event_of_a_stream_refuses() {
    let refused = answer(
        "200 OK",
        &[("content-type", "text/event-stream")],
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"no\"}}\n\n",
    );
    let answering = only("claude-opus-5-5", refused).await;
    let tollgate = to(answering.address, "cheap").await;
    let mut body = conversation(1, false, 0);
    body["stream"] = json!(true);
    let (head, got) = tollgate.ask(request(MESSAGES, &[], body.to_string())).await;
    assert!(!got.text().contains("invalid_request"), "{}", got.text());
    assert_eq!(head.value("x-tollgate-model"), Some("claude-opus-5-5"));
}

#[tokio::test]
async fn routing_leaves_a_model_alone_that_is_not_there() {
    for (status, tries) in [
        ("404 Not Found", 1),
        ("403 Forbidden", 1),
        ("400 Bad Request", 3),
    ] {
        let answering = Upstream::start().await.answering(move |arrived| {
            if asked_model(arrived).contains("haiku") {
                error(status)
            } else {
                plain(arrived)
            }
        });
        let tollgate = to(answering.address, "cheap").await;
        let body = conversation(1, false, 0).to_string();
        for _ in 0..3 {
            let (head, _) = tollgate.ask(request(MESSAGES, &[], &body)).await;
            assert_eq!(head.status(), 200);
        }
        let models = served(&answering);
        let haiku = models
            .iter()
            .filter(|model| model.contains("haiku"))
            .count();
        assert_eq!(haiku, tries, "{status} {models:?}");
        assert_eq!(
            tollgate.metric("tollgate_route_refused_total", &[]),
            f64::from(u32::try_from(tries).unwrap())
        );
    }
}

#[tokio::test]
async fn routing_for_others_does_not_end_because_one_client_has_a_bad_key() {
    for status in ["401 Unauthorized", "403 Forbidden", "404 Not Found"] {
        let answering = Upstream::start().await.answering(move |arrived| {
            if arrived.head.value("x-api-key") == Some("sk-ant-api03-a-bad-key-of-somebody") {
                error(status)
            } else {
                plain(arrived)
            }
        });
        let tollgate = to(answering.address, "cheap").await;
        let body = conversation(1, false, 0).to_string();
        let bad = [("x-api-key", "sk-ant-api03-a-bad-key-of-somebody")];
        let (head, _) = tollgate.ask(request(MESSAGES, &bad, &body)).await;
        assert_eq!(head.line.split(' ').nth(1), status.split(' ').next());
        answering.take();
        let well = [("x-api-key", "sk-ant-api03-a-good-key-of-mine")];
        tollgate.ask(request(MESSAGES, &well, &body)).await;
        assert_eq!(served(&answering), ["claude-haiku-5-5"], "{status}");
    }
}

#[tokio::test]
async fn routing_keeps_the_asked_model_inside_a_loop_once_the_other_refused() {
    let turn = AtomicUsize::new(0);
    let answering = Upstream::start().await.answering(move |arrived| {
        // It refuses the first request only.
        match turn.fetch_add(1, Ordering::Relaxed) {
            0 => error("400 Bad Request"),
            _ => plain(arrived),
        }
    });
    let tollgate = to(answering.address, "cheap").await;
    let begins = conversation(1, false, 0).to_string();
    tollgate.ask(request(MESSAGES, &[], begins)).await;
    let goes_on = conversation(1, true, 0).to_string();
    tollgate.ask(request(MESSAGES, &[], goes_on)).await;
    assert_eq!(
        served(&answering),
        ["claude-haiku-5-5", "claude-opus-5-5", "claude-opus-5-5"]
    );
}

#[tokio::test]
async fn routing_does_not_wait_for_a_model_that_is_down() {
    let answering = only("claude-opus-5-5", error("500 Internal Server Error")).await;
    let tollgate = to(answering.address, "cheap").await;
    let body = conversation(1, false, 0).to_string();
    for _ in 0..12 {
        let (head, _) = tollgate.ask(request(MESSAGES, &[], &body)).await;
        assert_eq!(head.status(), 200);
    }
    let models = served(&answering);
    let haiku = models
        .iter()
        .filter(|model| model.contains("haiku"))
        .count();
    assert!((5..12).contains(&haiku), "{models:?}");
    assert_eq!(models.len() - haiku, 12);
    tollgate.settled().await;
}

#[tokio::test]
async fn routing_survives_a_local_model_that_is_not_running() {
    let answering = provider().await;
    let rules = vec![rule("all", "ollama/llama3.1")];
    let tollgate = routing(answering.address, Mode::On, rules, &[], |settings| {
        let mut providers = settings.providers.iter_mut();
        let ollama = providers.find(|one| one.name == "ollama").unwrap();
        // A port on which nothing listens.
        ollama.base_url = "http://127.0.0.1:1".parse().unwrap();
    })
    .await;
    let body = conversation(1, false, 0);
    let mut body = body;
    body.as_object_mut().unwrap().remove("tools");
    let key = [("x-api-key", "sk-ant-own")];
    let (head, got) = tollgate
        .ask(request(MESSAGES, &key, body.to_string()))
        .await;
    assert_eq!(head.status(), 200, "{}", got.text());
    let arrived = answering.take();
    assert_eq!(arrived.len(), 1);
    assert_eq!(arrived[0].head.value("x-api-key"), Some("sk-ant-own"));
    let record = tollgate.record(&head).await;
    assert_eq!(
        (&*record.provider, record.requested_provider),
        ("anthropic", None)
    );
    assert_eq!(head.value("x-tollgate-requested-provider"), None);
    tollgate.settled().await;
    assert_eq!(
        tollgate.metric("tollgate_requests_in_flight", &["ollama"]),
        0.0
    );
}

#[tokio::test]
async fn routing_survives_a_local_model_that_breaks_off_and_pays_no_hosted_one_twice() {
    for at_home in [true, false] {
        let (answering, other) = (provider().await, Upstream::start().await);
        let address = other.address;
        let rules = vec![rule("all", "ollama/llama3.1")];
        let tollgate = routing(answering.address, Mode::On, rules, &[], move |settings| {
            let mut providers = settings.providers.iter_mut();
            let ollama = providers.find(|one| one.name == "ollama").unwrap();
            ollama.base_url = format!("http://{address}").parse().unwrap();
            ollama.local = Some(at_home);
            ollama.api_key = Some(Secret::new("sk-of-ollama"));
        })
        .await;
        let mut body = conversation(1, false, 0);
        body.as_object_mut().unwrap().remove("tools");
        let mut client = tollgate.connect().await;
        client.send(request(MESSAGES, &[], body.to_string())).await;
        let (provider, ..) = other.request().await;
        drop(provider);
        let (head, _) = client.message().await;
        assert_eq!(head.status() == 200, at_home);
        assert_eq!(answering.take().len(), usize::from(at_home));
        let record = tollgate.record_of_cut(&head).await;
        assert_eq!(record.routed_by.is_none(), at_home);
        tollgate.settled().await;
    }
}

#[tokio::test]
async fn routing_gives_the_other_models_error_where_the_asked_one_has_no_budget() {
    let answering = only("claude-opus-5-5", error("400 Bad Request")).await;
    let budgets = [
        ("budgets.opus.scope", "model:claude-opus-5-5"),
        ("budgets.opus.window", "hour"),
        ("budgets.opus.limit", "1 token"),
    ];
    let rules = vec![rule("all", "cheap")];
    let tollgate = routing(answering.address, Mode::On, rules, &budgets, |_| ()).await;
    let body = conversation(1, false, 0).to_string();
    let (head, got) = tollgate.ask(request(MESSAGES, &[], body)).await;
    assert_eq!(head.status(), 400);
    assert!(got.text().contains("odd_error"), "{}", got.text());
    assert_eq!(served(&answering), ["claude-haiku-5-5"]);
    let record = tollgate.record(&head).await;
    assert_eq!(record.sent_model.as_deref(), Some("claude-haiku-5-5"));
    assert_eq!(
        (record.outcome, record.usage.fresh(), record.cost),
        (Outcome::ProviderError, 0, None)
    );
    tollgate.settled().await;
}

const STREAM: &str = "data: {\"id\":\"c\",\"model\":\"gpt-6-luna\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"yes\"}}],\"usage\":null}\n\ndata: {\"id\":\"c\",\"model\":\"gpt-6-luna\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n";
const LAST: &str = "data: {\"id\":\"c\",\"model\":\"gpt-6-luna\",\"choices\":[],\"usage\":{\"prompt_tokens\":1000,\"completion_tokens\":100,\"total_tokens\":1100}}\n\ndata: [DONE]\n\n";
const ASKS_STREAM: &str =
    r#"{"model":"gpt-6.1-sol","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;

#[tokio::test]
async fn routing_and_usage_that_is_asked_for_in_the_clients_place_go_together() {
    let answering = Upstream::start().await.answering(|_| {
        answer(
            "200 OK",
            &[("content-type", "text/event-stream")],
            format!("{STREAM}{LAST}"),
        )
    });
    let tollgate = to(answering.address, "cheap").await;
    let (head, body) = tollgate.ask(request(CHAT, &[], ASKS_STREAM)).await;
    let arrived = answering.take();
    let asked = arrived[0].body.json();
    assert_eq!(asked["model"], "gpt-6-luna");
    assert_eq!(asked["stream_options"]["include_usage"], true);
    let got = body.text();
    assert!(!got.contains("usage"), "{got}");
    assert!(
        got.contains("gpt-6-luna") && got.ends_with("[DONE]\n\n"),
        "{got}"
    );
    let record = tollgate.record(&head).await;
    assert_eq!(record.cost, Some(usd("0.00015")));
    assert_eq!(record.saving, Some(usd("0.00285")));
}

#[tokio::test]
async fn routing_sends_the_same_changed_bytes_again() {
    let turn = AtomicUsize::new(0);
    let answering = Upstream::start().await.answering(move |_| {
        if turn.fetch_add(1, Ordering::Relaxed) == 0 {
            return answer(
                "429 Too Many Requests",
                &[("retry-after-ms", "20")],
                r#"{"error":{"code":"rate_limit_exceeded"}}"#,
            );
        }
        answer(
            "200 OK",
            &[("content-type", "text/event-stream")],
            format!("{STREAM}{LAST}"),
        )
    });
    let rules = vec![rule("all", "cheap")];
    let retries = [("send.max_retries", "3")];
    let tollgate = routing(answering.address, Mode::On, rules, &retries, |_| ()).await;
    let (head, _) = tollgate.ask(request(CHAT, &[], ASKS_STREAM)).await;
    assert_eq!(head.status(), 200);
    let arrived = answering.take();
    assert_eq!(arrived.len(), 2);
    assert_eq!(arrived[0].body, arrived[1].body);
    assert_eq!(asked_model(&arrived[1]), "gpt-6-luna");
    let record = tollgate.record(&head).await;
    assert_eq!(record.routed_by.as_deref(), Some("rule:all"));
    assert_eq!((record.attempts, record.cost), (2, Some(usd("0.00015"))));
}

#[tokio::test]
async fn routing_books_the_other_model_when_the_client_leaves() {
    let upstream = Upstream::start().await;
    let tollgate = to(upstream.address, "cheap").await;
    let mut client = tollgate.connect().await;
    client.send(request(CHAT, &[], ASKS_STREAM)).await;
    let (mut provider, _, body) = upstream.request().await;
    assert_eq!(body.json()["model"], "gpt-6-luna");
    provider.send(stream_head("text/event-stream")).await;
    provider.send_chunk(STREAM).await;
    let head = client.head().await;
    client.piece().await;
    drop(client);
    let record = tollgate.record_of_cut(&head).await;
    assert_eq!(record.outcome, Outcome::ClientGone);
    assert_eq!(record.sent_model.as_deref(), Some("gpt-6-luna"));
    // A few tokens at luna's price, a twentieth of sol's.
    let most = i128::from(record.usage.input) * 100_000_000_000
        + i128::from(record.usage.output) * 500_000_000_000;
    assert_eq!(record.cost, Some(Cost::from_attos(most)));
    tollgate.settled().await;
}

#[tokio::test]
async fn routing_gives_its_room_back_when_the_client_leaves_before_the_answer() {
    let upstream = Upstream::start().await;
    let budgets = [
        ("budgets.luna.scope", "model:gpt-6-luna"),
        ("budgets.luna.window", "hour"),
        ("budgets.luna.limit", "100000 tokens"),
    ];
    let rules = vec![rule("all", "cheap")];
    let tollgate = routing(upstream.address, Mode::On, rules, &budgets, |_| ()).await;
    let mut client = tollgate.connect().await;
    client.send(request(CHAT, &[], ASKS_STREAM)).await;
    let (provider, _, _) = upstream.request().await;
    drop(client);
    let record = tollgate.only_record().await;
    assert_eq!(record.sent_model.as_deref(), Some("gpt-6-luna"));
    assert_eq!(record.routed_by.as_deref(), Some("rule:all"));
    drop(provider);
    tollgate.settled().await;
    let standing = tollgate.get("/api/v1/throttle").await.json();
    let budgets = standing["budgets"].as_array().unwrap();
    let luna = budgets.iter().find(|budget| budget["budget"] == "luna");
    let reserved = luna.map(|luna| luna["reserved"].as_u64().unwrap_or(0));
    assert!(matches!(reserved, None | Some(0)), "{standing}");
}

#[tokio::test]
async fn routing_and_fallbacks_bring_the_request_to_the_asked_model_first() {
    // Haiku is not there, its provider is down for opus, and the fallback takes the client's own request.
    let first = Upstream::start().await.answering(|arrived| {
        if asked_model(arrived).contains("haiku") {
            error("404 Not Found")
        } else {
            error("503 Service Unavailable")
        }
    });
    let second = provider().await;
    let address = second.address;
    let rules = vec![rule("all", "cheap")];
    let tollgate = routing(first.address, Mode::On, rules, &[], move |settings| {
        for provider in &mut settings.providers {
            match &*provider.name {
                "anthropic" => provider.fallbacks = vec!["openrouter".to_owned()],
                "openrouter" => {
                    provider.base_url = format!("http://{address}").parse().unwrap();
                    provider.api_key = Some(Secret::new("sk-of-openrouter"));
                }
                _ => {}
            }
        }
    })
    .await;
    let body = conversation(1, false, 0).to_string();
    let (head, got) = tollgate.ask(request(MESSAGES, &[], &body)).await;
    assert_eq!(head.status(), 200, "{}", got.text());
    assert_eq!(served(&first), ["claude-haiku-5-5", "claude-opus-5-5"]);
    let arrived = second.take();
    assert_eq!(arrived[0].body.text(), body);
    let record = tollgate.record(&head).await;
    assert_eq!(
        (&*record.provider, record.requested_provider.as_deref()),
        ("openrouter", Some("anthropic"))
    );
    assert_eq!((record.sent_model, record.routed_by), (None, None));
    assert_eq!(record.attempts, 3);
    tollgate.settled().await;
}

#[tokio::test]
async fn routing_moves_no_answer_that_its_provider_keeps_to_another_provider() {
    // The next request would name it to the provider that the client knows.
    let input = r#""model":"gpt-6.1-sol","input":"hi""#;
    for (body, goes) in [
        (format!("{{{input}}}"), false),
        (format!(r#"{{{input},"store":true}}"#), false),
        (format!(r#"{{{input},"store":false}}"#), true),
    ] {
        let (served, _) = sent("ollama/llama3.1", "POST /openai/v1/responses", &[], &body).await;
        assert_eq!(served == "llama3.1", goes, "{body}");
    }
}

#[tokio::test]
async fn routing_promises_nothing_in_shadow_that_it_could_not_do() {
    let answering = provider().await;
    let rules = vec![rule("all", "cheap")];
    let tollgate = routing(answering.address, Mode::Shadow, rules, &[], |_| ()).await;
    // The deployment in the path is the model, whatever the body says.
    let line =
        "POST /openai/openai/deployments/gpt-6.1-sol/chat/completions?api-version=2026-01-01";
    let body = r#"{"model":"gpt-6.1-sol","messages":[{"role":"user","content":"hi"}]}"#;
    let (head, _) = tollgate.ask(request(line, &[], body)).await;
    assert_eq!(head.status(), 200);
    let record = tollgate.record(&head).await;
    assert_eq!(record.requested_model.as_deref(), Some("gpt-6.1-sol"));
    assert_eq!((record.routed_by, record.saving), (None, None));
}

/// The real binary with routing on, in a home of its own.
async fn hanging(home: &TempDir, upstream: SocketAddr) -> Proxy {
    let mut command = binary::tollgate(home.path());
    command.args(binary::before(upstream));
    for setting in ["send.max_retries=0", "routing.mode=on"] {
        command.args(["--set", setting]);
    }
    Proxy::start(command).await
}

#[tokio::test]
async fn routing_is_known_after_a_crash() {
    let upstream = Upstream::start().await;
    let home = TempDir::new().unwrap();
    let mut proxy = hanging(&home, upstream.address).await;
    let mut client = Wire::connect(proxy.address).await;
    let headers = [("x-tollgate-task", "ui")];
    client.send(request(CHAT, &headers, ASKS_STREAM)).await;
    let (mut provider, _, body) = upstream.request().await;
    assert_eq!(body.json()["model"], "gpt-6-luna");
    provider.send(stream_head("text/event-stream")).await;
    provider.send_chunk(STREAM).await;
    let head = client.head().await;
    let id = head.value("x-tollgate-request-id").unwrap().to_owned();
    proxy.process.kill().await;
    let proxy = hanging(&home, upstream.address).await;
    let record = proxy.get(&format!("/api/v1/requests/{id}")).await.json();
    assert_eq!(record["outcome"], "interrupted", "{record}");
    assert_eq!(record["requested_model"], "gpt-6.1-sol", "{record}");
    assert!(record.to_string().contains("gpt-6-luna"), "{record}");
    assert_eq!(record["routed_by"], "rule:guide-ui", "{record}");
}
