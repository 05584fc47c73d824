//! What the real binary finds after kill -9 under load, and after a shutdown that cut requests off.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tollgate::clock::Clock;
use tollgate::config::{self, Inputs, Override};
use tollgate::store::Ledger;
use tollgate::store::query::Query;
use tollgate::store::record::{Outcome, Record};
use tollgate::units::Cost;

use super::*;
use crate::binary;

/// Budgets that nobody fills, in each unit and of several scopes.
pub(super) fn wide() -> Rules {
    Rules::none()
        .budget("tokens", "session", "hour", "1,000,000,000 tokens")
        .budget("cached", "session", "day", "1,000,000,000 tokens")
        .set("budgets.cached.count_cache_reads", "true")
        .budget("requests", "session", "day", "1,000,000 requests")
        .budget("money", "session", "month", "1000000 usd")
        .hard("all", "global", "day", "1,000,000,000,000 tokens")
        .budget("model", "model", "day", "1,000,000,000 tokens")
        .budget("provider", "provider", "hour", "1,000,000 requests")
}

pub(super) fn command(home: &Path, upstream: SocketAddr, rules: &Rules) -> std::process::Command {
    let mut command = binary::tollgate(home);
    command.args(binary::before(upstream));
    command.arg("--ledger-dir").arg(home.join("ledger"));
    for (key, value) in rules.pairs() {
        command.args(["--set", &format!("{key}={value}")]);
    }
    command
}

/// Asks until the proxy is gone; some streams hang until then.
async fn client(address: SocketAddr, number: u64, counter: Arc<AtomicU64>) {
    let Ok(io) = tokio::net::TcpStream::connect(address).await else {
        return;
    };
    let mut wire = Wire::new(io);
    loop {
        let count = counter.fetch_add(1, Ordering::Relaxed);
        let session = format!("s{}", count % 5);
        let one = Ask {
            stream: number.is_multiple_of(2),
            cap: Some(3_000),
            input: 10 + count % 7,
            cached: 100,
            written: 3,
            output: 1 + count % 311,
            model: if number.is_multiple_of(3) {
                MODEL
            } else {
                "claude-haiku-4-5"
            },
            prompt: if number.is_multiple_of(8) {
                "hang"
            } else {
                "a few words"
            },
            ..ask(&session, "normal")
        };
        if !wire.try_send(one.bytes()).await
            || wire.try_head().await.is_none()
            || !wire.body().await.whole
        {
            return;
        }
    }
}

/// Answers as told; requests whose prompt says so get the beginning of a stream and no more.
async fn provider() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut wire = Wire::new(io);
                while let Some(head) = wire.try_head().await {
                    let body = wire.body().await;
                    if !body.whole {
                        return;
                    }
                    let hangs = body.json()["messages"][0]["content"] == "hang";
                    let arrived = Arrived {
                        head,
                        body,
                        connection: 0,
                    };
                    if hangs {
                        let events = anthropic_stream(&json!(MODEL), [10, 0, 0, 5]);
                        let first = events.split_inclusive("\n\n").next().unwrap();
                        wire.try_send(stream_head("text/event-stream")).await;
                        wire.try_send(chunk(first)).await;
                        wire.ended().await;
                        return;
                    }
                    if !wire.try_send(echo(&arrived)).await {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// Every record of a ledger that nobody holds.
pub(super) async fn records_at_rest(home: &Path) -> Vec<Record> {
    let settings = settings(home, "127.0.0.1:1".parse().unwrap(), &Rules::none());
    let (ledger, _) = Ledger::open(&settings.ledger, Clock::system().source()).unwrap();
    let records = within(
        "the records",
        ledger.records(
            Query {
                by: Vec::new(),
                ..Query::default()
            },
            1_000_000,
        ),
    )
    .await;
    let records = records.unwrap();
    tokio::task::spawn_blocking(move || ledger.shutdown(Duration::from_secs(10)))
        .await
        .unwrap();
    records
}

/// What a budget of one name should have booked.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Sum {
    fresh: u64,
    cached: u64,
    requests: u64,
    cost: Cost,
}

fn sums(records: &[Record], name_of: impl Fn(&Record) -> Option<String>) -> BTreeMap<String, Sum> {
    let mut sums: BTreeMap<String, Sum> = BTreeMap::new();
    for record in records
        .iter()
        .filter(|record| record.outcome != Outcome::Refused)
    {
        let Some(name) = name_of(record) else {
            continue;
        };
        let sum = sums.entry(name).or_default();
        sum.fresh += record.usage.fresh();
        sum.cached += record.usage.cached_read;
        sum.requests += 1;
        sum.cost += record.cost.unwrap_or_default();
    }
    sums
}

/// Compares what a proxy says of its budgets with what the records add up to.
pub(super) fn compare(throttle: &Value, records: &[Record]) {
    let by_session = sums(records, |record| Some(record.session.clone()));
    let by_model = sums(records, |record| record.requested_model.clone());
    let by_provider = sums(records, |record| Some(record.provider.clone()));
    let everything = sums(records, |_| Some(String::new()));
    let mut seen = 0;
    for budget in throttle["budgets"].as_array().unwrap() {
        let name = budget["name"].as_str().unwrap_or("");
        let sum = match budget["kind"].as_str().unwrap() {
            "session" => by_session.get(name),
            "model" => by_model.get(name),
            "provider" => by_provider.get(name),
            _ => everything.get(name),
        };
        let sum = sum.cloned().unwrap_or_default();
        let settled = &budget["settled"];
        match budget["budget"].as_str().unwrap() {
            "tokens" | "all" | "model" => assert_eq!(*settled, sum.fresh, "{budget}"),
            "cached" => assert_eq!(*settled, sum.fresh + sum.cached, "{budget}"),
            "requests" | "provider" => assert_eq!(*settled, sum.requests, "{budget}"),
            _ => assert_eq!(
                settled.as_str().unwrap().parse::<Cost>().unwrap(),
                sum.cost,
                "{budget}"
            ),
        }
        assert!(
            ["0", "0.00"].contains(&budget["reserved"].to_string().trim_matches('"')),
            "{budget}"
        );
        seen += 1;
    }
    assert_eq!(
        seen,
        by_session.len() * 4 + by_model.len() + by_provider.len() + 1,
        "{throttle}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn after_kill_9_under_load_the_fills_equal_the_ledger_and_interrupted_requests_are_charged() {
    let home = TempDir::new().unwrap();
    let upstream = provider().await;
    let counter = Arc::new(AtomicU64::new(0));
    for round in 0..4 {
        let mut proxy = binary::Proxy::start(command(home.path(), upstream, &wide())).await;
        let clients: Vec<_> = (0..16)
            .map(|number| tokio::spawn(client(proxy.address, number, Arc::clone(&counter))))
            .collect();
        // The moment is the point: any will do.
        tokio::time::sleep(Duration::from_millis(250 + round * 170)).await;
        let in_flight = proxy.get("/api/v1/throttle").await.json();
        assert!(
            in_flight["budgets"]
                .as_array()
                .unwrap()
                .iter()
                .any(|budget| budget["reserved"] != 0)
        );
        proxy.process.kill().await;
        for client in clients {
            within("a client's end", client).await.unwrap();
        }
        let mut proxy = binary::Proxy::start(command(home.path(), upstream, &wide())).await;
        let throttle = proxy.get("/api/v1/throttle").await.json();
        // How it stood is asked first; the records are read when it has ended, in peace or by another kill.
        match round % 2 {
            0 => {
                proxy.process.terminate();
                assert_eq!(proxy.process.ended().await.code(), Some(0));
            }
            _ => proxy.process.kill().await,
        }
        let records = records_at_rest(home.path()).await;
        compare(&throttle, &records);
        let interrupted: Vec<_> = records
            .iter()
            .filter(|record| record.outcome == Outcome::Interrupted)
            .collect();
        assert!(
            interrupted.len() >= 2,
            "round {round}: only {}",
            interrupted.len()
        );
        for record in interrupted {
            assert!(
                record.usage.fresh() > 0 && record.cost > Some(Cost::ZERO),
                "{record:?}"
            );
            assert_eq!(
                record.usage.fresh(),
                record.reserved_tokens.max(record.usage.fresh()),
                "at its estimate: {record:?}"
            );
        }
    }
}

/// The settings of a proxy whose ledger is in this folder.
pub(super) fn settings(
    home: &Path,
    upstream: SocketAddr,
    rules: &Rules,
) -> tollgate::config::settings::Settings {
    let mut pairs: Vec<(String, String)> = ["anthropic", "openai"]
        .map(|name| {
            (
                format!("providers.{name}.base_url"),
                format!("http://{upstream}"),
            )
        })
        .into();
    pairs.push((
        "ledger.dir".to_owned(),
        home.join("ledger").display().to_string(),
    ));
    pairs.push(("upstream.proxy_from_env".to_owned(), "false".to_owned()));
    pairs.extend(rules.0.clone());
    let overrides = pairs.into_iter().map(|(key, value)| Override {
        flag: format!("--set {key}"),
        key,
        value,
    });
    let inputs = Inputs {
        overrides: overrides.collect(),
        environment: [("HOME".to_owned(), home.display().to_string())].into(),
        working_dir: home.to_path_buf(),
        ..Inputs::default()
    };
    config::load(&inputs)
        .unwrap_or_else(|error| panic!("{error}"))
        .settings
}

#[tokio::test]
async fn a_request_that_a_shutdown_cuts_off_is_settled() {
    let upstream = provider().await;
    let home = TempDir::new().unwrap();
    let rules = wide().set("server.drain_timeout", "300ms");
    let mut proxy = binary::Proxy::start(command(home.path(), upstream, &rules)).await;
    let mut hanging = Wire::connect(proxy.address).await;
    let one = Ask {
        stream: true,
        prompt: "hang",
        cap: Some(3_000),
        ..ask("s", "normal")
    };
    hanging.send(one.bytes()).await;
    hanging.head().await;
    proxy.process.terminate();
    proxy.process.ended().await;
    let mut proxy = binary::Proxy::start(command(home.path(), upstream, &rules)).await;
    let throttle = proxy.get("/api/v1/throttle").await.json();
    proxy.process.terminate();
    proxy.process.ended().await;
    let records = records_at_rest(home.path()).await;
    assert_eq!(records.len(), 1);
    assert!(records[0].usage.fresh() > 0, "{records:#?}");
    compare(&throttle, &records);
}
