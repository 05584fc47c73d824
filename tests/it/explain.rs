//! What would happen to a request: `POST /api/v1/route` and `tollgate route`, beside what does happen.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::binary::{self, Proxy};
use crate::rig::*;

const SONNET: &str = "claude-sonnet-5-5";
const HAIKU: &str = "claude-haiku-5-5";
const ON: (&str, &str) = ("routing.mode", "on");

async fn ask(tollgate: &Tollgate, question: &Value) -> (u16, Value) {
    let request = request("POST /api/v1/route", &[], question.to_string());
    let (head, body) = tollgate.ask(request).await;
    (head.status(), body.json())
}

async fn explained(tollgate: &Tollgate, question: Value) -> Value {
    let (status, answer) = ask(tollgate, &question).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

#[tokio::test]
async fn what_it_says_is_what_happens() {
    let provider = Upstream::start().await.answering(|arrived| {
        let model = &arrived.body.json()["model"];
        json_answer(format!(
            r#"{{"id":"m","model":{model},"stop_reason":"end_turn","content":[],"usage":{{"input_tokens":5,"output_tokens":5}}}}"#
        ))
    });
    for mode in ["on", "shadow", "off"] {
        let tollgate = Tollgate::with(provider.address, &[("routing.mode", mode)]).await;
        for text in [
            "Fix the login button styling",
            "Implement user authentication function",
            "Write a README for this project",
            "hm",
        ] {
            let said = explained(&tollgate, json!({"model": SONNET, "text": text})).await;
            let body = json!({
                "model": SONNET, "max_tokens": 1024, "messages": [{"role": "user", "content": text}],
            });
            let sent = request("POST /anthropic/v1/messages", &[], body.to_string());
            let (head, _) = tollgate.ask(sent).await;
            let serves = &said["serves"];
            assert_eq!(head.value("x-tollgate-model"), serves["model"].as_str());
            let record = tollgate.record(&head).await;
            assert_eq!(record.task.as_deref(), said["task"].as_str(), "{text}");
            let why = record.routed_by.as_deref().unwrap_or("asked");
            let told = match mode {
                "shadow" if said["would_serve"] != Value::Null => &said["would_serve"]["why"],
                _ => &serves["why"],
            };
            assert_eq!(told.as_str(), Some(why), "{mode} {text}: {said}");
        }
    }
}

#[tokio::test]
async fn nothing_is_sent_booked_reserved_or_counted() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::with(upstream.address, &[ON]).await;
    for _ in 0..20 {
        explained(
            &tollgate,
            json!({"model": SONNET, "text": "Write a README"}),
        )
        .await;
    }
    assert!(upstream.is_untouched().await);
    assert_eq!(tollgate.records().await.len(), 0);
    let metrics = tollgate.gate.metrics.encode();
    for name in ["tollgate_requests_total", "tollgate_routed_total"] {
        assert_eq!(tollgate.metric(name, &[]), 0.0, "{metrics}");
    }
    let budgets = tollgate.get("/api/v1/throttle").await.json();
    for budget in budgets["budgets"].as_array().expect("a list") {
        let reserved = budget["reserved"].to_string();
        assert!(
            ["0", "0.00"].contains(&reserved.trim_matches('"')),
            "{budget}"
        );
    }
    tollgate.settled().await;
}

#[tokio::test]
async fn every_rung_is_told_with_its_cost_and_why_not() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::with(upstream.address, &[ON]).await;
    let question = json!({
        "model": "gpt-6.1-sol",
        "path": "/v1/chat/completions",
        "body": {
            "model": "gpt-6.1-sol",
            "service_tier": "flex",
            "messages": [{"role": "user", "content": "Write a README"}],
        },
    });
    let said = explained(&tollgate, question).await;
    assert_eq!(said["ladder"], "openai");
    let candidates = said["candidates"].as_array().expect("a list");
    assert_eq!(candidates.len(), 3, "{said}");
    for candidate in candidates {
        let asked = candidate["why"] == "asked";
        assert_eq!(candidate["unsuited"].is_null(), asked, "{candidate}");
        assert!(candidate["expected_cost_usd"].is_string(), "{candidate}");
    }
    assert_eq!(said["serves"]["model"], "gpt-6.1-sol");
    let said = explained(
        &tollgate,
        json!({"model": SONNET, "text": "Write a README", "pinned": true}),
    )
    .await;
    assert_eq!(said["serves"]["model"], SONNET);
}

#[tokio::test]
async fn a_full_budget_shows_in_the_candidates_and_the_next_rung_serves() {
    let upstream = Upstream::start().await;
    let settings = [
        ON,
        ("budgets.sonnet.scope", "model:claude-sonnet-5-5"),
        ("budgets.sonnet.window", "hour"),
        ("budgets.sonnet.limit", "1 token"),
    ];
    let tollgate = Tollgate::with(upstream.address, &settings).await;
    let question = json!({"model": SONNET, "text": "Implement user authentication function"});
    let said = explained(&tollgate, question).await;
    let asked = &said["candidates"][0];
    assert!(
        asked["denied"]
            .as_str()
            .is_some_and(|why| why.contains("sonnet")),
        "{said}"
    );
    assert_eq!(said["serves"]["model"], HAIKU);
    assert_eq!(said["serves"]["why"], "ladder:anthropic");
    let question = json!({
        "model": SONNET, "text": "Implement user authentication function", "pinned": true,
    });
    let said = explained(&tollgate, question).await;
    assert_eq!(said["serves"], Value::Null);
    assert!(
        said["refusal"]
            .as_str()
            .is_some_and(|why| why.contains("sonnet")),
        "{said}"
    );
}

#[tokio::test]
async fn a_question_that_makes_no_request_is_told_what_is_wrong_with_it() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::with(upstream.address, &[]).await;
    for (question, told) in [
        (json!({"text": "hi"}), "`model` is missing"),
        (
            json!({"model": "nosuch", "text": "hi"}),
            "no provider is known for `nosuch`",
        ),
        (
            json!({"model": "m", "provider": "nosuch"}),
            "there is no provider `nosuch`",
        ),
        (
            json!({"model": SONNET, "priority": "urgent"}),
            "must be low, normal, high or critical",
        ),
        (json!({"model": SONNET, "session": "a b"}), "visible ASCII"),
        (json!({"model": SONNET, "session": "a\nb"}), "no header can"),
        (
            json!({"model": SONNET, "path": "/ /"}),
            "cannot stand in an address",
        ),
        (json!({"model": SONNET, "modle": 1}), "is not understood"),
        (json!([SONNET]), "is not understood"),
    ] {
        let (status, answer) = ask(&tollgate, &question).await;
        assert_eq!(status, 400, "{question}: {answer}");
        let message = answer["error"]["message"].as_str().expect("a message");
        assert!(message.contains(told), "{question}: {message}");
    }
    let (head, _) = tollgate.ask(request("POST /api/v1/route", &[], "{")).await;
    assert_eq!(head.status(), 400);
    let (head, _) = tollgate.ask(request("GET /api/v1/route", &[], "")).await;
    assert_eq!((head.status(), head.value("allow")), (405, Some("POST")));
    let (head, _) = tollgate.ask(request("POST /api/v1/usage", &[], "{}")).await;
    assert_eq!(
        (head.status(), head.value("allow")),
        (405, Some("GET, HEAD"))
    );
}

#[tokio::test]
async fn the_command_says_the_same_with_and_without_a_running_proxy() {
    let home = TempDir::new().expect("a folder");
    let upstream = Upstream::start().await;
    let command = |words: &[&str]| {
        let mut command = binary::tollgate(home.path());
        command.args(words);
        command
    };
    let words = [
        "route",
        "--set",
        "routing.mode=on",
        "-m",
        SONNET,
        "--json",
        "Write a README for this project",
    ];
    let (code, alone, log) = binary::run(command(&words)).await;
    assert_eq!(code, Some(0), "{log}");
    let alone: Value = serde_json::from_str(&alone).expect("JSON");
    assert_eq!(alone["serves"]["model"], HAIKU, "{alone}");
    let mut serve = binary::tollgate(home.path());
    serve.args(binary::before(upstream.address));
    serve.args(["--set", "routing.mode=on"]);
    let _proxy = Proxy::start(serve).await;
    let (code, beside, log) = binary::run(command(&words)).await;
    assert_eq!(code, Some(0), "{log}");
    let beside: Value = serde_json::from_str(&beside).expect("JSON");
    assert_eq!(alone, beside);
    let (code, text, _) = binary::run(command(&["route", "-m", SONNET, "-p", "high", "hm"])).await;
    assert_eq!(code, Some(0));
    assert!(
        text.contains("priority high") && text.contains("served by anthropic/"),
        "{text}"
    );
    let (code, _, log) = binary::run(command(&["route", "hm"])).await;
    assert_ne!(code, Some(0));
    assert!(log.contains("--model is missing"), "{log}");
    let (code, _, log) = binary::run(command(&["route", "-m", "nosuch", "hm"])).await;
    assert_ne!(code, Some(0));
    assert!(log.contains("no provider is known"), "{log}");
    let (code, _, log) = binary::run(command(&["route", "--body", "nowhere.json"])).await;
    assert_ne!(code, Some(0));
    assert!(log.contains("cannot read nowhere.json"), "{log}");
}
