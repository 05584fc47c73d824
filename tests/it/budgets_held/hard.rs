//! Hard budgets are never exceeded, however many requests run in parallel and whatever becomes of them; ordinary ones only
//! by what running requests use beyond what was expected of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tollgate::units::Cost;

use super::*;

const OUTPUT: u64 = 1_000;

/// A provider that streams exactly so much for each request, in pieces, and counts whom it served.
pub(super) async fn slow_provider(served: Arc<AtomicU64>) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            let served = Arc::clone(&served);
            tokio::spawn(async move {
                let mut wire = Wire::new(io);
                while wire.try_head().await.is_some() {
                    if !wire.body().await.whole {
                        return;
                    }
                    served.fetch_add(1, Ordering::Relaxed);
                    // Time for clients to hang up before the head.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    let events = anthropic_stream(&json!(MODEL), [10, 0, 0, OUTPUT]);
                    let mut on = wire.try_send(stream_head("text/event-stream")).await;
                    for event in events.split_inclusive("\n\n") {
                        on = on && wire.try_send(chunk(event)).await;
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                    if !on || !wire.try_send(LAST_CHUNK).await {
                        return;
                    }
                }
            });
        }
    });
    address
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    Nobody,
    BeforeTheHead,
    InMidStream,
}

/// Two hundred at once, of whom every second may leave; how many passed.
async fn two_hundred(tollgate: &Tollgate, leaving: Leaving) -> usize {
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..200 {
        let mut wire = tollgate.connect().await;
        clients.spawn(async move {
            let session = format!("s{}", number % 7);
            let large = Ask {
                cap: Some(OUTPUT),
                stream: true,
                ..ask(&session, "critical")
            };
            wire.send(large.bytes()).await;
            let leaves = number % 2 == 0;
            if leaves && leaving == Leaving::BeforeTheHead {
                // Some before it is sent, some while the provider thinks.
                tokio::time::sleep(Duration::from_millis(number % 16)).await;
                wire.reset();
                return false;
            }
            let head = wire.head().await;
            if leaves && leaving == Leaving::InMidStream {
                wire.piece().await;
                wire.reset();
            } else {
                wire.body().await;
            }
            head.status() == 200
        });
    }
    clients
        .join_all()
        .await
        .into_iter()
        .filter(|passed| *passed)
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_in_parallel_spend_at_most_a_hard_budget_for_fifty_whoever_hangs_up() {
    // A request of ten input and a thousand output tokens costs $0.01002.
    for limit in ["50,500 tokens", "0.501 usd", "50 requests"] {
        for leaving in [
            Leaving::Nobody,
            Leaving::BeforeTheHead,
            Leaving::InMidStream,
        ] {
            let served = Arc::new(AtomicU64::new(0));
            let upstream = slow_provider(Arc::clone(&served)).await;
            let tollgate = Rules::none()
                .hard("cap", "global", "month", limit)
                .start(upstream)
                .await;
            let passed = two_hundred(&tollgate, leaving).await;
            tollgate.settled().await;
            let what = format!("{limit} {leaving:?}");
            let records = tollgate.records().await;
            let tokens: u64 = records.iter().map(|record| record.usage.fresh()).sum();
            let usd: Cost = records.iter().filter_map(|record| record.cost).sum();
            let requests: u64 = records.iter().map(|record| record.charges().requests).sum();
            let standing = standing(&tollgate, "cap", None).await.unwrap();
            let settled = &standing["settled"];
            match standing["unit"].as_str().unwrap() {
                "tokens" => {
                    assert!(tokens <= 50_500, "{what}: {tokens}");
                    assert_eq!(*settled, tokens, "{what}");
                    assert_eq!(standing["reserved"], 0, "{what}");
                }
                "usd" => {
                    assert!(usd <= "0.501".parse().unwrap(), "{what}: {usd}");
                    assert_eq!(
                        settled.as_str().unwrap().parse::<Cost>().unwrap(),
                        usd,
                        "{what}"
                    );
                    assert_eq!(
                        standing["reserved"]
                            .as_str()
                            .unwrap()
                            .parse::<Cost>()
                            .unwrap(),
                        Cost::ZERO,
                        "{what}"
                    );
                }
                _ => {
                    assert!(requests <= 50, "{what}: {requests}");
                    assert_eq!(*settled, requests, "{what}");
                    assert_eq!(standing["reserved"], 0, "{what}");
                }
            }
            assert!(passed >= 20, "{what}: only {passed} passed");
            assert!(standing["fill"].as_f64().unwrap() <= 1.0, "{standing}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_provider_was_asked_for_stays_within_a_hard_budget_even_if_it_bills_those_who_hang_up()
 {
    // The provider does not know that its client has gone: it may finish, and bill, every answer that it was asked for.
    let served = Arc::new(AtomicU64::new(0));
    let upstream = slow_provider(Arc::clone(&served)).await;
    let tollgate = Rules::none()
        .hard("cap", "global", "month", "50 requests")
        .start(upstream)
        .await;
    two_hundred(&tollgate, Leaving::BeforeTheHead).await;
    tollgate.settled().await;
    let served = served.load(Ordering::Relaxed);
    assert!(served <= 50, "{served} requests reached the provider");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hard_budget_holds_at_every_moment_while_requests_run() {
    let served = Arc::new(AtomicU64::new(0));
    let upstream = slow_provider(Arc::clone(&served)).await;
    let tollgate = Arc::new(
        Rules::none()
            .hard("cap", "global", "month", "50,500 tokens")
            .start(upstream)
            .await,
    );
    let asking = Arc::clone(&tollgate);
    let all = tokio::spawn(async move { two_hundred(&asking, Leaving::InMidStream).await });
    let (mut looks, mut before) = (0, 0);
    while !all.is_finished() {
        let (settled, reserved) = amounts(&tollgate, "cap", None).await;
        assert!(settled + reserved <= 50_500, "{settled} + {reserved}");
        assert!(
            settled >= before,
            "what is booked stays booked: {before} then {settled}"
        );
        before = settled;
        looks += 1;
    }
    all.await.unwrap();
    assert!(looks >= 5, "only {looks} looks");
    tollgate.settled().await;
    assert_eq!(amounts(&tollgate, "cap", None).await.1, 0);
}

#[tokio::test]
async fn a_stream_that_outgrows_a_hard_budget_is_ended_before_it_exceeds_it() {
    let upstream = Upstream::start().await;
    let tollgate = Rules::none()
        .hard("cap", "session", "hour", "5,000 tokens")
        .start(upstream.address)
        .await;
    let mut client = tollgate.connect().await;
    client
        .send(
            Ask {
                stream: true,
                cap: Some(1_000),
                ..ask("s", "critical")
            }
            .bytes(),
        )
        .await;
    let (mut provider, _, _) = upstream.request().await;
    provider.send(stream_head("text/event-stream")).await;
    let start = anthropic_stream(&json!(MODEL), [10, 0, 0, 1]);
    let start = start.split_inclusive("\n\n").next().unwrap();
    provider.send_chunk(start).await;
    client.head().await;
    // Against its cap it writes and writes.
    let words = text_delta(&"word ".repeat(400));
    let mut pieces = 0;
    while pieces < 200 && provider.try_send(chunk(&words)).await {
        pieces += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(!client.body().await.whole, "a clean end would hide the cut");
    drop(provider);
    tollgate.settled().await;
    let record = tollgate.only_record().await;
    assert!(record.usage.fresh() > 1_000, "{record:?}");
    let (settled, reserved) = amounts(&tollgate, "cap", Some("s")).await;
    assert_eq!((settled, reserved), (record.usage.fresh(), 0));
    assert!(settled <= 5_000, "{settled}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_budget_is_exceeded_at_most_by_what_requests_use_beyond_their_reservations() {
    for (priority, output) in [("high", 30_u64), ("high", 900), ("normal", 4_000)] {
        let upstream = Upstream::start().await.answering(echo);
        let tollgate = Rules::none()
            .budget("b", "session", "hour", "60,000 tokens")
            .start(upstream.address)
            .await;
        let bytes = Ask {
            cap: Some(8_000),
            input: 20,
            output,
            ..ask("s", priority)
        }
        .bytes();
        // One goes ahead, so that there is something to learn from: who comes before any answer is expected to use what
        // is usual anywhere.
        let (head, _) = tollgate.ask(&bytes).await;
        assert_eq!(head.status(), 200);
        let mut clients = tokio::task::JoinSet::new();
        for _ in 1..200 {
            let mut wire = tollgate.connect().await;
            let bytes = bytes.clone();
            clients.spawn(async move {
                wire.send(bytes).await;
                wire.message().await.0.status()
            });
        }
        let passed = clients
            .join_all()
            .await
            .into_iter()
            .filter(|status| *status == 200)
            .count();
        let records = tollgate.records().await;
        let beyond: u64 = records
            .iter()
            .map(|record| record.usage.fresh().saturating_sub(record.reserved_tokens))
            .sum();
        let (settled, reserved) = amounts(&tollgate, "b", Some("s")).await;
        let used: u64 = records.iter().map(|record| record.usage.fresh()).sum();
        assert_eq!((settled, reserved), (used, 0));
        assert!(passed > 0);
        assert!(
            settled <= 60_000 + beyond,
            "{settled} of 60,000, {beyond} beyond what was reserved"
        );
        // What is expected is learned: it is not a new surprise each time.
        assert!(
            settled <= 60_000 + 60_000,
            "{priority} {output}: {settled}, {passed} passed"
        );
    }
}
