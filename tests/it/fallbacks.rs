//! Providers that stand in for one that is down or refuses: in order, with their own key, within the budgets, and booked as
//! theirs.

use tollgate::config::settings::Secret;
use tollgate::store::record::Outcome;

use tempfile::TempDir;

use crate::binary::{self, Proxy};
use crate::rig::*;

const PATH: &str = "POST /openai/v1/chat/completions";
const BODY: &str = r#"{"model":"gpt-6-luna","max_completion_tokens":10,"messages":[{"role":"user","content":"hi"}]}"#;
const GOOD: &str = r#"{"id":"c","model":"gpt-6-luna","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"yes"}}],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}"#;
const KEY: (&str, &str) = ("authorization", "Bearer sk-the-clients-own");

fn refusing(status: &'static str, code: &'static str) -> Vec<u8> {
    answer(
        status,
        &[("content-type", "application/json")],
        format!(r#"{{"error":{{"message":"no","type":"error","code":"{code}"}}}}"#),
    )
}

async fn always(bytes: Vec<u8>) -> Answering {
    Upstream::start().await.answering(move |_| bytes.clone())
}

/// tollgate before `first`, with `openrouter` and then `together` to fall back to.
async fn before(
    first: &Answering,
    second: &Answering,
    third: &Answering,
    extra: &[(&str, &str)],
) -> Tollgate {
    let (second, third) = (second.address, third.address);
    let at = |address| format!("http://{address}").parse().expect("an address");
    Tollgate::changed(first.address, extra, move |settings| {
        for provider in &mut settings.providers {
            match &*provider.name {
                "openai" => {
                    provider.fallbacks = vec!["openrouter".to_owned(), "together".to_owned()];
                }
                "openrouter" => {
                    provider.base_url = at(second);
                    provider.api_key = Some(Secret::new("sk-of-openrouter"));
                }
                "together" => provider.base_url = at(third),
                _ => {}
            }
        }
    })
    .await
}

#[tokio::test]
async fn what_a_provider_refuses_another_serves_with_its_own_key_and_it_is_booked_there() {
    let first = always(refusing("503 Service Unavailable", "overloaded")).await;
    let second = always(json_answer(GOOD)).await;
    let third = always(json_answer(GOOD)).await;
    let tollgate = before(&first, &second, &third, &[]).await;
    let (head, body) = tollgate.ask(request(PATH, &[KEY], BODY)).await;
    assert_eq!((head.status(), body.text().as_str()), (200, GOOD));
    assert_eq!(head.value("x-tollgate-attempts"), Some("2"));
    assert_eq!(first.take()[0].head.value("authorization"), Some(KEY.1));
    let arrived = second.take();
    assert_eq!(arrived.len(), 1);
    assert_eq!(
        arrived[0].head.value("authorization"),
        Some("Bearer sk-of-openrouter")
    );
    assert_eq!(arrived[0].body.text(), BODY, "the same bytes");
    assert_eq!(third.take().len(), 0);
    let record = tollgate.record(&head).await;
    assert_eq!(record.provider, "openrouter");
    assert_eq!(record.requested_provider.as_deref(), Some("openai"));
    assert_eq!((record.outcome, record.attempts), (Outcome::Complete, 2));
    assert_eq!(record.usage.fresh(), 10);
    assert_eq!(
        tollgate.metric("tollgate_fallbacks_total", &["openrouter"]),
        1.0
    );
    tollgate.settled().await;
}

#[tokio::test]
async fn a_fallback_without_a_key_gets_none_at_all() {
    let first = always(refusing("503 Service Unavailable", "overloaded")).await;
    let second = always(refusing("500 Internal Server Error", "server_error")).await;
    let third = always(json_answer(GOOD)).await;
    let tollgate = before(&first, &second, &third, &[]).await;
    let keys = [KEY, ("x-api-key", "sk-2"), ("cookie", "session=1")];
    let (head, _) = tollgate.ask(request(PATH, &keys, BODY)).await;
    assert_eq!(head.status(), 200);
    let arrived = third.take();
    for name in ["authorization", "x-api-key", "cookie"] {
        assert_eq!(arrived[0].head.value(name), None, "{name}");
    }
    let record = tollgate.record(&head).await;
    assert_eq!(
        (&*record.provider, record.requested_provider.as_deref()),
        ("together", Some("openai"))
    );
}

#[tokio::test]
async fn spent_money_falls_back_and_a_wrong_request_does_not() {
    for (status, code, falls_back) in [
        ("429 Too Many Requests", "insufficient_quota", true),
        ("402 Payment Required", "no_credit", true),
        ("400 Bad Request", "invalid_value", false),
        ("404 Not Found", "model_not_found", false),
        ("400 Bad Request", "context_length_exceeded", false),
    ] {
        let first = always(refusing(status, code)).await;
        let second = always(json_answer(GOOD)).await;
        let third = always(json_answer(GOOD)).await;
        let tollgate = before(&first, &second, &third, &[]).await;
        let (head, _) = tollgate.ask(request(PATH, &[], BODY)).await;
        assert_eq!(head.status() == 200, falls_back, "{status} {code}");
        assert_eq!(second.take().len(), usize::from(falls_back), "{code}");
    }
}

#[tokio::test]
async fn while_the_breaker_is_open_nobody_waits_for_a_provider_that_has_a_fallback() {
    let first = always(refusing("500 Internal Server Error", "server_error")).await;
    let second = always(json_answer(GOOD)).await;
    let third = always(json_answer(GOOD)).await;
    let tollgate = before(&first, &second, &third, &[]).await;
    for _ in 0..20 {
        let (head, _) = tollgate.ask(request(PATH, &[], BODY)).await;
        assert_eq!(head.status(), 200);
    }
    let tried = first.take().len();
    assert!(
        (5..=8).contains(&tried),
        "five failures and some probes: {tried}"
    );
    assert_eq!(second.take().len(), 20);
    let lanes = tollgate.get("/api/v1/providers").await.json();
    let lanes = lanes["lanes"].as_array().expect("a list");
    let down = lanes.iter().find(|lane| lane["provider"] == "openai");
    assert_ne!(down.expect("its lane")["breaker"], "closed");
}

#[tokio::test]
async fn when_all_of_them_fail_the_client_gets_the_last_ones_answer() {
    let first = always(refusing("503 Service Unavailable", "overloaded")).await;
    let second = always(refusing("500 Internal Server Error", "server_error")).await;
    let third = always(refusing("429 Too Many Requests", "insufficient_quota")).await;
    let tollgate = before(&first, &second, &third, &[]).await;
    let (head, body) = tollgate.ask(request(PATH, &[], BODY)).await;
    assert_eq!(head.status(), 429);
    assert!(body.text().contains("insufficient_quota"));
    let record = tollgate.record(&head).await;
    assert_eq!(record.provider, "together");
    assert_eq!(
        (record.outcome, record.attempts, record.usage.fresh()),
        (Outcome::ProviderError, 3, 0)
    );
    tollgate.settled().await;
}

#[tokio::test]
async fn a_budget_that_has_no_room_at_the_fallback_leaves_the_providers_own_answer() {
    let first = always(refusing("503 Service Unavailable", "overloaded")).await;
    let second = always(json_answer(GOOD)).await;
    let third = always(json_answer(GOOD)).await;
    let limits = [
        ("budgets.small.scope", "provider:openrouter"),
        ("budgets.small.window", "hour"),
        ("budgets.small.limit", "1 token"),
        ("budgets.none.scope", "provider:together"),
        ("budgets.none.window", "hour"),
        ("budgets.none.limit", "1 token"),
    ];
    let tollgate = before(&first, &second, &third, &limits).await;
    let (head, body) = tollgate.ask(request(PATH, &[], BODY)).await;
    assert_eq!(head.status(), 503, "{}", body.text());
    assert!(body.text().contains("overloaded"));
    assert_eq!((second.take().len(), third.take().len()), (0, 0));
    let record = tollgate.record(&head).await;
    assert_eq!(
        (&*record.provider, record.requested_provider),
        ("openai", None)
    );
}

#[tokio::test]
async fn a_price_that_is_known_at_the_fallback_is_not_told_to_be_unknown() {
    let unheard_of = "POST /groq/openai/v1/chat/completions";
    let first = always(refusing("503 Service Unavailable", "overloaded")).await;
    let second = always(json_answer(GOOD)).await;
    let address = second.address;
    let tollgate = Tollgate::changed(first.address, &[], move |settings| {
        for provider in &mut settings.providers {
            match &*provider.name {
                "groq" => provider.fallbacks = vec!["openai".to_owned()],
                "openai" => {
                    provider.base_url = format!("http://{address}").parse().expect("an address");
                }
                _ => {}
            }
        }
    })
    .await;
    let (head, _) = tollgate.ask(request(unheard_of, &[], BODY)).await;
    let record = tollgate.record(&head).await;
    assert_eq!((head.status(), &*record.provider), (200, "openai"));
    assert!(record.cost.is_some() && record.reserved_cost.is_some());
    assert!(!record.flags.price_unknown, "{record:?}");
}

#[tokio::test]
async fn what_its_provider_holds_a_part_of_stays_with_it() {
    let first = always(refusing("503 Service Unavailable", "overloaded")).await;
    let second = always(json_answer(GOOD)).await;
    let third = always(json_answer(GOOD)).await;
    let tollgate = before(&first, &second, &third, &[]).await;
    let body = r#"{"model":"gpt-6-luna","previous_response_id":"resp_1","input":"hi"}"#;
    let (head, _) = tollgate
        .ask(request("POST /openai/v1/responses", &[], body))
        .await;
    assert_eq!(head.status(), 503);
    assert_eq!(second.take().len(), 0);
}

#[tokio::test]
async fn after_a_crash_a_request_that_fell_back_is_found_at_the_provider_it_went_to() {
    let first = always(refusing("503 Service Unavailable", "overloaded")).await;
    let second = Upstream::start().await;
    let home = TempDir::new().expect("a folder");
    let start = || {
        let mut command = binary::tollgate(home.path());
        command.args(binary::before(first.address));
        for setting in [
            "send.max_retries=0".to_owned(),
            "providers.openai.fallbacks=openrouter".to_owned(),
            format!("providers.openrouter.base_url=http://{}", second.address),
        ] {
            command.args(["--set", &setting]);
        }
        Proxy::start(command)
    };
    let mut proxy = start().await;
    let mut client = Wire::connect(proxy.address).await;
    client.send(request(PATH, &[], BODY)).await;
    let (mut provider, _, _) = second.request().await;
    provider.send(stream_head("application/json")).await;
    let head = client.head().await;
    let id = head
        .value("x-tollgate-request-id")
        .expect("an id")
        .to_owned();
    proxy.process.kill().await;
    let proxy = start().await;
    let record = proxy.get(&format!("/api/v1/requests/{id}")).await.json();
    assert_eq!(record["outcome"], "interrupted", "{record}");
    assert_eq!(record["provider"], "openrouter");
    assert_eq!(record["requested_provider"], "openai");
}
