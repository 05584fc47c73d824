//! However a request ends, afterwards nothing is reserved, and what is booked is what the ledger says.

use std::sync::Arc;
use std::time::Duration;

use tollgate::llm::wire::Endpoint;
use tollgate::store::record::Outcome;
use tollgate::units::Cost;

use super::*;

fn rules() -> Rules {
    Rules::none()
        .budget("session", "session", "hour", "1,000,000 tokens")
        .budget("requests", "session", "day", "10,000 requests")
        .budget("money", "session", "month", "1000 usd")
        .hard("hard", "global", "hour", "10,000,000 tokens")
}

/// What each budget has booked equals what the ledger's records add up to, and nothing is reserved.
async fn check_sums(tollgate: &Tollgate, what: &str) {
    tollgate.settled().await;
    let records = tollgate.records().await;
    let tokens: u64 = records.iter().map(|record| record.usage.fresh()).sum();
    let usd: Cost = records.iter().filter_map(|record| record.cost).sum();
    let requests = records
        .iter()
        .filter(|record| record.outcome != Outcome::Refused)
        // What asks nothing of a model is no request.
        .filter(|record| Endpoint::name_asks_a_model(&record.endpoint))
        .count();
    assert_eq!(
        amounts(tollgate, "session", Some("s")).await,
        (tokens, 0),
        "{what}"
    );
    assert_eq!(amounts(tollgate, "hard", None).await, (tokens, 0), "{what}");
    assert_eq!(
        amounts(tollgate, "requests", Some("s")).await,
        (requests as u64, 0),
        "{what}"
    );
    let money = standing(tollgate, "money", Some("s")).await;
    let amount = |field: &str| {
        let money = money.as_ref();
        money.map_or(Cost::ZERO, |money| {
            money[field].as_str().unwrap().parse().unwrap()
        })
    };
    assert_eq!(
        (amount("settled"), amount("reserved")),
        (usd, Cost::ZERO),
        "{what}"
    );
}

fn stream() -> Ask<'static> {
    Ask {
        stream: true,
        cap: Some(4_000),
        ..ask("s", "normal")
    }
}

/// The first event of a stream, and the rest of it.
fn halves() -> (String, String) {
    let events = anthropic_stream(&json!(MODEL), [25, 1_000, 30, 400]);
    let (first, rest) = events.split_once("\n\n").unwrap();
    (format!("{first}\n\n"), rest.to_owned())
}

#[tokio::test]
async fn nothing_stays_reserved_whatever_way_a_request_ends() {
    let upstream = Upstream::start().await;
    let rules = rules()
        .set("upstream.header_timeout", "300ms")
        .set("upstream.idle_timeout", "300ms");
    let tollgate = rules.start(upstream.address).await;
    let (first, rest) = halves();
    let mut outcomes = Vec::new();
    for how in [
        "complete",
        "complete in one piece",
        "error status",
        "not found",
        "error event",
        "cut",
        "closed before the head",
        "client gone before the head",
        "client gone in mid-stream",
        "late head",
        "late piece",
        "empty body",
        "no usage",
        "not HTTP",
    ] {
        let mut client = tollgate.connect().await;
        client.send(stream().bytes()).await;
        let (mut provider, _, _) = upstream.request().await;
        let (settled, reserved) = amounts(&tollgate, "session", Some("s")).await;
        assert!(reserved > 0, "{how}: while it runs it is reserved");
        assert_eq!(
            amounts(&tollgate, "requests", Some("s")).await.1,
            1,
            "{how}"
        );
        let stream_begins = stream_head("text/event-stream");
        match how {
            "complete" => {
                provider.send(&stream_begins).await;
                provider.send_chunk(&first).await;
                provider.send_chunk(&rest).await;
                provider.send(LAST_CHUNK).await;
                client.message().await;
            }
            "complete in one piece" => {
                provider
                    .send(echo_of(&Ask {
                        stream: false,
                        input: 5,
                        output: 17,
                        ..stream()
                    }))
                    .await;
                client.message().await;
            }
            "error status" => {
                let body = r#"{"type":"error","error":{"type":"api_error","message":"no"}}"#;
                provider
                    .send(answer(
                        "500 Internal Server Error",
                        &[("content-type", "application/json")],
                        body,
                    ))
                    .await;
                client.message().await;
            }
            "not found" => {
                provider.send(answer("404 Not Found", &[], "{}")).await;
                client.message().await;
            }
            "error event" => {
                provider.send(&stream_begins).await;
                provider.send_chunk(&first).await;
                provider.send_chunk("event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"no\"}}\n\n").await;
                provider.send(LAST_CHUNK).await;
                client.message().await;
            }
            "cut" => {
                provider.send(&stream_begins).await;
                provider.send_chunk(&first).await;
                client.head().await;
                drop(provider);
                client.body().await;
            }
            "closed before the head" => {
                drop(provider);
                client.message().await;
            }
            "client gone before the head" => {
                client.reset();
                provider.ended().await;
            }
            "client gone in mid-stream" => {
                provider.send(&stream_begins).await;
                provider.send_chunk(&first).await;
                client.head().await;
                client.piece().await;
                client.reset();
                provider.ended().await;
            }
            "late head" => {
                assert_eq!(client.message().await.0.status(), 504);
            }
            "late piece" => {
                provider.send(&stream_begins).await;
                provider.send_chunk(&first).await;
                client.head().await;
                assert!(!client.body().await.whole);
            }
            "empty body" => {
                provider.send(answer("200 OK", &[], "")).await;
                client.message().await;
            }
            "no usage" => {
                provider.send(json_answer(r#"{"content":[]}"#)).await;
                client.message().await;
            }
            _ => {
                provider.send("these are no headers\r\n\r\n").await;
                client.message().await;
            }
        }
        check_sums(&tollgate, how).await;
        let after = amounts(&tollgate, "session", Some("s")).await.0;
        outcomes.push((how, after - settled));
    }
    let booked = |how: &str| outcomes.iter().find(|(known, _)| *known == how).unwrap().1;
    assert_eq!(
        booked("complete"),
        455,
        "uncached input, cache writes and output"
    );
    assert_eq!(booked("complete in one piece"), 22);
    for unbilled in ["error status", "not found"] {
        assert_eq!(
            booked(unbilled),
            0,
            "{unbilled}: an error that is not billed books nothing"
        );
    }
    for billed in [
        "cut",
        "client gone before the head",
        "client gone in mid-stream",
        "late head",
        "late piece",
        "no usage",
    ] {
        assert!(
            booked(billed) > 0,
            "{billed}: what may be billed is booked: {outcomes:?}"
        );
    }
}

/// What a provider says to a request.
fn echo_of(ask: &Ask<'_>) -> Vec<u8> {
    let model = ask.model;
    let usage = json!({"input_tokens": ask.input, "output_tokens": ask.output});
    json_answer(json!({"id": "m", "model": model, "content": [], "usage": usage}).to_string())
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_costs_nothing() {
    let upstream = Upstream::start().await;
    let nobody = upstream.address;
    drop(upstream);
    let tollgate = rules().start(nobody).await;
    let (head, _) = stream().send(&tollgate).await;
    assert_eq!(head.status(), 502);
    check_sums(&tollgate, "unreachable").await;
    assert_eq!(amounts(&tollgate, "session", Some("s")).await, (0, 0));
}

#[tokio::test]
async fn a_refusal_of_one_budget_takes_nothing_of_the_others() {
    let rules = rules().hard("tight", "global", "hour", "3 requests");
    let (tollgate, _provider) = rules.before_echo().await;
    for _ in 0..3 {
        Ask {
            output: 10,
            ..ask("s", "critical")
        }
        .passes(&tollgate)
        .await;
    }
    for _ in 0..50 {
        ask("s", "critical").is_refused(&tollgate).await;
    }
    check_sums(&tollgate, "refused").await;
    assert_eq!(amounts(&tollgate, "requests", Some("s")).await, (3, 0));
    assert_eq!(amounts(&tollgate, "tight", None).await, (3, 0));
}

#[tokio::test]
async fn requests_that_nobody_prices_are_settled_too() {
    // Counting, listing models, unknown endpoints: they pass, and leave nothing reserved.
    let upstream = Upstream::start()
        .await
        .answering(|_| json_answer(r#"{"input_tokens":14}"#));
    let tollgate = rules().start(upstream.address).await;
    for (line, body) in [
        (
            "POST /anthropic/v1/messages/count_tokens",
            r#"{"model":"claude-sonnet-5-5","messages":[]}"#,
        ),
        ("GET /openai/v1/models", ""),
        ("POST /openai/v1/something/new", r#"{"model":"gpt-5"}"#),
        (
            "POST /openai/v1/embeddings",
            r#"{"model":"text-embedding-3-small","input":"hi"}"#,
        ),
        (
            "POST /gemini/v1beta/models/gemini-3-flash:countTokens",
            "{}",
        ),
        ("POST /anthropic/v1/messages", "not json at all"),
    ] {
        let (head, answer) = tollgate
            .ask(request(line, &[("x-tollgate-session", "s")], body))
            .await;
        assert_eq!(head.status(), 200, "{line}: {}", answer.text());
        check_sums(&tollgate, line).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sums_are_conserved_at_random_moments() {
    // Whatever becomes of them, what is booked only grows, and nothing is counted twice.
    let upstream = super::hard::slow_provider(Arc::default()).await;
    let tollgate = Arc::new(rules().start(upstream).await);
    let mut clients = tokio::task::JoinSet::new();
    for number in 0_u64..300 {
        let tollgate = Arc::clone(&tollgate);
        clients.spawn(async move {
            tokio::time::sleep(Duration::from_millis(number * 7 % 97)).await;
            let mut wire = tollgate.connect().await;
            let one = Ask {
                stream: true,
                cap: Some(1_000 + number),
                ..ask("s", "normal")
            };
            wire.send(one.bytes()).await;
            match number % 5 {
                0 => {
                    tokio::time::sleep(Duration::from_millis(number % 11)).await;
                    wire.reset();
                }
                1 => {
                    wire.head().await;
                    wire.piece().await;
                    wire.reset();
                }
                _ => {
                    wire.message().await;
                }
            }
        });
    }
    let mut before = 0;
    let mut reserved_once = false;
    while !clients.is_empty() {
        let (settled, reserved) = amounts(&tollgate, "session", Some("s")).await;
        let (requests, running) = amounts(&tollgate, "requests", Some("s")).await;
        assert!(settled >= before, "{before} then {settled}");
        assert!(requests + running <= 300, "{requests} + {running}");
        reserved_once |= reserved > 0;
        before = settled;
        while clients.try_join_next().is_some() {}
    }
    assert!(reserved_once, "it was looked at too seldom");
    check_sums(&tollgate, "all").await;
    let records = tollgate.records().await;
    let gone = records
        .iter()
        .filter(|record| record.outcome == Outcome::ClientGone)
        .count();
    assert!(
        records.len() >= 240 && gone > 0,
        "{} records, {gone} gone",
        records.len()
    );
    let reserved = tollgate.metric("tollgate_reserved_tokens_total", &[]);
    let booked = tollgate.metric("tollgate_settled_tokens_total", &[]);
    let sum: u64 = records.iter().map(|record| record.reserved_tokens).sum();
    let used: u64 = records.iter().map(|record| record.usage.fresh()).sum();
    assert_eq!((reserved, booked), (sum as f64, used as f64));
}
