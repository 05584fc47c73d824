//! Promise 4 through the whole program: kill -9 at any moment loses no completed request. What a client saw complete
//! is in the ledger after the restart with exactly the provider's figures, what was running is found again as
//! interrupted at its estimate, and nothing is there twice.
//!
//! Six rounds; `TOLLGATE_KILL_ROUNDS` sets another number, `TOLLGATE_KILL_SEED` repeats a run.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed; a failed run must be repeatable by its seed"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpListener;
use tollgate::config::{self, Inputs, Override};
use tollgate::store::Ledger;
use tollgate::store::query::Query;
use tollgate::store::record::{Outcome, Record};

use crate::binary::*;
use crate::rig::*;

const CLIENTS: u64 = 16;

/// The provider's figures for a request: no two requests share them.
fn figures(number: u64) -> (u64, u64) {
    (10_000 + number * 3, 7 + number)
}

/// A provider that answers each number with its own figures, streaming when asked, and lets some streams hang.
async fn provider() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            io.set_nodelay(true).unwrap();
            tokio::spawn(async move {
                let mut wire = Wire::new(io);
                while let Some(_head) = wire.try_head().await {
                    let body = wire.body().await;
                    if !body.whole || !answer_one(&mut wire, &body).await {
                        return;
                    }
                }
            });
        }
    });
    address
}

async fn answer_one(wire: &mut Wire, body: &Body) -> bool {
    let asked = body.json();
    let number = asked["number"].as_u64().unwrap();
    let (input, output) = figures(number);
    if asked["stream"] != true {
        return wire
            .try_send(json_answer(format!(
                r#"{{"id":"m","model":"claude-sonnet-5-5","content":[],"usage":{{"input_tokens":{input},"output_tokens":{output}}}}}"#
            )))
            .await;
    }
    let start = format!(
        "event: message_start\ndata: {{\"type\":\"message_start\",\"message\":{{\"id\":\"m\",\"model\":\"claude-sonnet-5-5\",\"content\":[],\"usage\":{{\"input_tokens\":{input},\"output_tokens\":1}}}}}}\n\n"
    );
    let mut sent =
        wire.try_send(stream_head("text/event-stream")).await && wire.try_send(chunk(start)).await;
    if asked["hang"] == true {
        // Until the process at the other end is gone.
        wire.ended().await;
        return false;
    }
    for _ in 0..3 {
        let delta = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"some words\"}}\n\n";
        sent = sent && wire.try_send(chunk(delta)).await;
        tokio::task::yield_now().await;
    }
    let end = format!(
        "event: message_delta\ndata: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"end_turn\"}},\"usage\":{{\"output_tokens\":{output}}}}}\n\nevent: message_stop\ndata: {{\"type\":\"message_stop\"}}\n\n"
    );
    sent && wire.try_send(chunk(end)).await && wire.try_send(LAST_CHUNK).await
}

/// What the clients know.
#[derive(Debug, Default)]
struct Seen {
    /// By request id: its number. The whole answer was read.
    complete: BTreeMap<String, u64>,
    /// By request id: its number. The head was read, the end was not.
    running: BTreeMap<String, u64>,
}

/// One client: asks until the proxy is gone.
async fn client(address: SocketAddr, kind: u64, numbers: Arc<AtomicU64>, seen: Arc<Mutex<Seen>>) {
    let Ok(io) = tokio::net::TcpStream::connect(address).await else {
        return;
    };
    io.set_nodelay(true).unwrap();
    let mut wire = Wire::new(io);
    loop {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let (stream, hang) = (kind.is_multiple_of(2), kind.is_multiple_of(8));
        let body = format!(
            r#"{{"model":"claude-sonnet-5-5","number":{number},"stream":{stream},"hang":{hang},"messages":[{{"role":"user","content":"a few words to estimate by"}}]}}"#
        );
        let ask = request("POST /anthropic/v1/messages", &[], body);
        if !wire.try_send(ask).await {
            return;
        }
        let Some(head) = wire.try_head().await else {
            return;
        };
        assert_eq!(head.status(), 200, "{head:?}");
        let id = head.value("x-tollgate-request-id").unwrap().to_owned();
        seen.lock().unwrap().running.insert(id.clone(), number);
        if !wire.body().await.whole {
            return;
        }
        let mut seen = seen.lock().unwrap();
        seen.running.remove(&id);
        seen.complete.insert(id, number);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_at_any_moment_loses_no_completed_request() {
    let number_of = |name: &str, default: u64| {
        let text = std::env::var(name).ok();
        text.map_or(default, |text| text.parse().unwrap())
    };
    let rounds = number_of("TOLLGATE_KILL_ROUNDS", 6);
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = number_of("TOLLGATE_KILL_SEED", clock.unwrap().as_nanos() as u64 | 1);
    println!("TOLLGATE_KILL_SEED={seed}");
    let mut random = seed;
    let home = TempDir::new().unwrap();
    let upstream = provider().await;
    let numbers = Arc::new(AtomicU64::new(0));
    let (mut all, mut last) = (Seen::default(), Seen::default());
    for round in 0..=rounds {
        let mut command = tollgate(home.path());
        command.args(before(upstream));
        // More than the budgets of the built-in configuration allow: counted, not refused.
        command.args(["--set", "throttle.mode=shadow"]);
        command.arg("--ledger-dir").arg(home.path().join("ledger"));
        let mut proxy = Proxy::start(command).await;
        check(&proxy, &last, round).await;
        all.complete.append(&mut last.complete);
        all.running.append(&mut last.running);
        if round == rounds {
            let total = proxy.get("/api/v1/usage?by=session").await.json()["total"].clone();
            proxy.process.terminate();
            assert_eq!(proxy.process.ended().await.code(), Some(0));
            check_sums(home.path(), &all, &total).await;
            break;
        }
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|kind| {
                let (numbers, seen) = (Arc::clone(&numbers), Arc::clone(&seen));
                tokio::spawn(client(proxy.address, kind, numbers, seen))
            })
            .collect();
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let moment = Duration::from_micros(20_000 + random % 700_000);
        println!("round {round}: kill after {moment:?}");
        // The moment is the point of this test: any one will do, so none is waited for.
        tokio::time::sleep(moment).await;
        proxy.process.kill().await;
        for client in clients {
            within("a client's end", client).await.unwrap();
        }
        let seen = std::mem::take(&mut *seen.lock().unwrap());
        println!(
            "round {round}: {} complete, {} running",
            seen.complete.len(),
            seen.running.len()
        );
        last = seen;
    }
    assert!(all.complete.len() > 50, "{}", all.complete.len());
    assert!(!all.running.is_empty());
}

/// Compares what clients saw with what the restarted proxy says: of each running request and of many complete ones. The
/// rest is compared at the end.
async fn check(proxy: &Proxy, all: &Seen, round: u64) {
    const ASKED: usize = 100;
    let mut wire = Wire::connect(proxy.address).await;
    let step = all.complete.len() / ASKED + 1;
    for (id, number) in all.complete.iter().step_by(step) {
        let record = record(&mut wire, id).await;
        let record = record.unwrap_or_else(|| panic!("round {round}: {id} is lost"));
        let (input, output) = figures(*number);
        assert_eq!(record["outcome"], "complete", "round {round}: {record}");
        assert_eq!(record["provenance"], "reported", "{record}");
        assert_eq!(record["usage"]["input"], input, "{record}");
        assert_eq!(record["usage"]["output"], output, "{record}");
    }
    for (id, number) in &all.running {
        let record = record(&mut wire, id).await;
        let record = record.unwrap_or_else(|| panic!("round {round}: {id} is lost"));
        if record["outcome"] == "complete" {
            // It was booked, and the kill took the end away from the client.
            assert_eq!(record["usage"]["input"], figures(*number).0, "{record}");
            continue;
        }
        assert_eq!(record["outcome"], "interrupted", "round {round}: {record}");
        assert_eq!(record["provenance"], "estimated", "{record}");
        assert!(record["usage"]["input"].as_u64() > Some(0), "{record}");
    }
}

async fn record(wire: &mut Wire, id: &str) -> Option<serde_json::Value> {
    let path = format!("GET /api/v1/requests/{id}");
    wire.send(request(&path, &[], "")).await;
    let (head, body) = wire.message().await;
    (head.status() == 200).then(|| body.json())
}

/// The sums equal the records that they sum up, and no request is there twice.
async fn check_sums(home: &std::path::Path, all: &Seen, total: &serde_json::Value) {
    let over = |key: &str, value: String| Override {
        flag: format!("--set {key}"),
        key: key.to_owned(),
        value,
    };
    let inputs = Inputs {
        overrides: vec![over(
            "ledger.dir",
            home.join("ledger").display().to_string(),
        )],
        environment: [("HOME".to_owned(), home.display().to_string())].into(),
        working_dir: home.to_path_buf(),
        ..Inputs::default()
    };
    let settings = config::load(&inputs).unwrap().settings;
    let clock = tollgate::clock::Clock::system();
    let (ledger, opened) = Ledger::open(&settings.ledger, clock.source()).unwrap();
    assert_eq!(
        (opened.interrupted, opened.recovered),
        (0, 0),
        "a clean end"
    );
    let records = ledger.records(Query::default(), 1_000_000);
    let records: Vec<Record> = within("the records", records).await.unwrap();
    let sum = |of: fn(&Record) -> u64| records.iter().map(of).sum::<u64>();
    assert_eq!(total["requests"], records.len() as u64, "{total}");
    assert_eq!(total["input"], sum(|record| record.usage.input), "{total}");
    assert_eq!(
        total["output"],
        sum(|record| record.usage.output),
        "{total}"
    );
    let by_id: BTreeMap<String, &Record> = records
        .iter()
        .map(|record| (record.id.to_string(), record))
        .collect();
    assert_eq!(by_id.len(), records.len(), "an id is there twice");
    for (id, number) in &all.complete {
        let record = by_id.get(id).unwrap_or_else(|| panic!("{id} is lost"));
        assert_eq!(record.outcome, Outcome::Complete);
        assert_eq!(
            (record.usage.input, record.usage.output),
            figures(*number),
            "{record:?}"
        );
    }
    // No two requests share their figures, so equal ones would be one request booked twice.
    let complete = records
        .iter()
        .filter(|record| record.outcome == Outcome::Complete);
    let inputs: Vec<u64> = complete.map(|record| record.usage.input).collect();
    let distinct: BTreeSet<u64> = inputs.iter().copied().collect();
    assert_eq!(inputs.len(), distinct.len(), "a request is there twice");
    assert!(inputs.len() >= all.complete.len());
    for record in &records {
        assert!(
            matches!(record.outcome, Outcome::Complete | Outcome::Interrupted),
            "{record:?}"
        );
    }
}
