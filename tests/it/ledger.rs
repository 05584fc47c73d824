//! The ledger with its threads, and `tollgate usage` and `tollgate events` on it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tollgate::commands::events::{self, EventsArgs};
use tollgate::commands::format::{Format, FormatArgs};
use tollgate::commands::usage::{self, UsageArgs};
use tollgate::config::settings::LedgerSettings;
use tollgate::llm::usage::Provenance;
use tollgate::store::event::{Event, EventKind};
use tollgate::store::event_query::{EventQuery, Events};
use tollgate::store::query::{Dimension, Query};
use tollgate::store::recall::{Past, Recall};
use tollgate::store::record::{CostSource, Outcome, Record};
use tollgate::store::{Ledger, OpenError, ReadError, WallClock};
use tollgate::units::{Cost, RequestId};

const NOON: u64 = 1_795_000_000_000;
const CSV: FormatArgs = FormatArgs {
    format: Format::Table,
    json: false,
    csv: true,
};
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn settings(dir: &Path, sync_interval: Duration) -> LedgerSettings {
    LedgerSettings {
        dir: dir.join("ledger"),
        sync_interval,
        keep_records: Duration::from_secs(30 * 86_400),
        keep_sums: Duration::from_secs(400 * 86_400),
        max_bytes: 1 << 30,
        pass_on_failure: false,
    }
}

pub(crate) fn clock() -> WallClock {
    Arc::new(|| NOON)
}

pub(crate) fn record(number: u64) -> Record {
    let mut record = Record::new(RequestId::new(NOON, 3, number));
    record.session = "docs".to_owned();
    record.provider = "openai".to_owned();
    record.model = Some("gpt-5".to_owned());
    record.usage.input = 1000;
    record.provenance = Provenance::Estimated;
    record
}

/// Books a request that used as many tokens as its number.
pub(crate) fn book(ledger: &Ledger, number: u64) {
    let mut entry = ledger.begin(record(number)).expect("the disk has room");
    entry.usage.input = number;
    entry.provenance = Provenance::Reported;
    entry.outcome = Outcome::Complete;
    entry.cost = Some(Cost::from_attos(i128::from(number)));
    entry.cost_source = CostSource::Table;
    entry.close();
}

/// An event that is known by a number.
pub(crate) fn event(number: u64) -> Event {
    let mut event = Event::new(EventKind::Refused, NOON);
    event.session = Some("docs".to_owned());
    event.request = Some(RequestId::new(NOON, 3, number));
    event.actual_tokens = number;
    event
}

#[tokio::test]
async fn a_report_includes_what_was_closed_just_before_it() {
    for sync_interval in [Duration::ZERO, Duration::from_millis(100)] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let settings = settings(folder.path(), sync_interval);
        let (ledger, opened) = Ledger::open(&settings, clock()).expect("a new ledger");
        assert!(opened.created);
        let mut sum = 0;
        for number in 1..=20 {
            book(&ledger, number);
            sum += number;
            let report = ledger.report(Query::default()).await.expect("readable");
            assert_eq!((report.total.requests, report.total.input), (number, sum));
        }
        let found = ledger
            .find(RequestId::new(NOON, 3, 5))
            .await
            .expect("readable");
        assert_eq!(found.map(|record| record.usage.input), Some(5));
        assert!(ledger.health().is_good());
        assert!(ledger.shutdown(PATIENCE));
        let closed = ledger.report(Query::default()).await;
        assert!(matches!(closed, Err(ReadError::Closed)));
    }
}

#[test]
fn what_is_closed_after_shutdown_is_found_by_the_next_start() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = settings(folder.path(), Duration::from_millis(100));
    let (ledger, _) = Ledger::open(&settings, clock()).expect("a new ledger");
    let mut late = ledger.begin(record(1)).expect("the disk has room");
    assert!(ledger.shutdown(PATIENCE));
    late.outcome = Outcome::Complete;
    late.close();
    drop(ledger);
    let (ledger, opened) = Ledger::open(&settings, clock()).expect("its own ledger");
    assert_eq!((opened.recovered, opened.interrupted), (1, 0));
    let report = ledger.report_blocking(Query::default()).expect("readable");
    assert_eq!(report.total.requests, 1);
    ledger.shutdown(PATIENCE);
}

#[test]
fn a_second_ledger_on_the_same_directory_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = settings(folder.path(), Duration::from_millis(100));
    let (ledger, _) = Ledger::open(&settings, clock()).expect("a new ledger");
    let second = Ledger::open(&settings, clock()).map(|_| ());
    assert!(
        matches!(second, Err(OpenError::Locked { pid: Some(pid), .. }) if pid == std::process::id())
    );
    ledger.shutdown(PATIENCE);
}

#[test]
fn usage_reads_a_ledger_that_no_process_holds_and_says_when_there_is_none() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = settings(folder.path(), Duration::from_millis(100));
    let args = UsageArgs {
        by: vec![Dimension::Session],
        format: CSV,
        ..UsageArgs::default()
    };
    let error = usage::run(&args, &settings, clock()).expect_err("there is none");
    assert!(
        error.to_string().contains("there is no ledger in"),
        "{error}"
    );
    assert!(!settings.dir.exists(), "asking makes no ledger");

    let (ledger, _) = Ledger::open(&settings, clock()).expect("a new ledger");
    book(&ledger, 7);
    ledger.shutdown(PATIENCE);
    // A proxy that was killed leaves its address behind.
    let stale = r#"{"pid":1,"address":"127.0.0.1:1"}"#;
    std::fs::write(settings.dir.join("running.json"), stale).expect("writable");
    let text = usage::run(&args, &settings, clock()).expect("readable");
    assert_eq!(
        text.lines()
            .nth(1)
            .map(|line| line.starts_with("docs,1,0,7,")),
        Some(true),
        "{text}"
    );
}

#[test]
fn usage_asks_the_running_proxy() {
    use std::io::{BufRead, BufReader, Write};
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = settings(folder.path(), Duration::from_millis(100));
    let (ledger, _) = Ledger::open(&settings, clock()).expect("a new ledger");
    book(&ledger, 42);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    ledger.announce(address).expect("writable");

    let proxy = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut line = String::new();
        let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
        reader.read_line(&mut line).expect("a request");
        let query = line.split(['?', ' ']).nth(2).expect("a query string");
        let query = Query::from_query_string(query).expect("readable");
        let report = ledger.report_blocking(query).expect("readable");
        let body = serde_json::to_string(&report).expect("a report is JSON");
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        write!(stream, "{head}{body}").expect("the client waits");
        ledger.shutdown(PATIENCE);
        line
    });
    let args = UsageArgs {
        by: vec![Dimension::Model],
        session: vec!["docs".to_owned()],
        format: CSV,
        ..UsageArgs::default()
    };
    let text = usage::run(&args, &settings, clock()).expect("it answers");
    assert!(text.contains("gpt-5,1,0,42,"), "{text}");
    let line = proxy.join().expect("no panic");
    assert!(line.starts_with("GET /api/v1/usage?by=model&"), "{line}");
    assert!(line.contains("session=docs"), "{line}");
}

#[tokio::test]
async fn events_are_read_back_with_what_was_written_just_before_and_after_a_restart() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = settings(folder.path(), Duration::from_millis(100));
    let (ledger, _) = Ledger::open(&settings, clock()).expect("a new ledger");
    let numbers = async |ledger: &Ledger| {
        let events = ledger.events(EventQuery::default()).await;
        let events = events.expect("readable").into_iter();
        events.map(|event| event.actual_tokens).collect::<Vec<_>>()
    };
    ledger.event(&event(1));
    let mut entry = ledger.entry_unopened(record(7));
    entry.outcome = Outcome::Refused;
    entry.close_with(&[event(2), event(3)]);
    // It is closed: neither it nor its events are written again.
    entry.close_with(&[event(4)]);
    drop(entry);
    assert_eq!(numbers(&ledger).await, [3, 2, 1]);
    let found = ledger.find(RequestId::new(NOON, 3, 7)).await;
    let found = found.expect("readable").expect("there");
    assert_eq!(found.outcome, Outcome::Refused);
    assert!(ledger.shutdown(PATIENCE));
    drop(ledger);
    let (ledger, _) = Ledger::open(&settings, clock()).expect("its own ledger");
    assert_eq!(numbers(&ledger).await, [3, 2, 1]);
    ledger.shutdown(PATIENCE);
}

#[test]
fn everything_booked_before_a_start_is_read_back_once_whatever_the_process_left_where() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = settings(folder.path(), Duration::from_millis(100));
    let (ledger, _) = Ledger::open(&settings, clock()).expect("a new ledger");
    (1..=300).for_each(|number| book(&ledger, number));
    assert!(ledger.shutdown(PATIENCE));
    // These stay in the journal, as the threads have ended.
    (301..=400).for_each(|number| book(&ledger, number));
    std::mem::forget(ledger.begin(record(401)).expect("the disk has room"));
    drop(ledger);
    let (ledger, opened) = Ledger::open(&settings, clock()).expect("its own ledger");
    assert_eq!((opened.recovered, opened.interrupted), (100, 1));
    assert_eq!(opened.newest_unix_ms, NOON);
    let expected = (1..=400).sum::<u64>() + 1000;
    for single_since_unix_ms in [0, u64::MAX] {
        let recall = Recall {
            since_unix_ms: 0,
            single_since_unix_ms,
        };
        let (mut singles, mut tokens, mut requests) = (0, 0, 0);
        let recalled = ledger.recall(recall, &mut |past| {
            let charges = match past {
                Past::Request(request) => {
                    singles += 1;
                    assert_eq!((request.session, request.model), ("docs", Some("gpt-5")));
                    request.charges()
                }
                Past::Hour(group, sum) => sum.charges(group),
            };
            tokens += charges.fresh_tokens;
            requests += charges.requests;
        });
        let recalled = recalled.expect("readable");
        assert_eq!((requests, tokens), (401, expected));
        let all_single = single_since_unix_ms == 0;
        assert_eq!(recalled.requests, if all_single { 401 } else { 0 });
        assert_eq!(recalled.requests, singles);
        assert_eq!(recalled.sums == 0, all_single);
    }
    ledger.shutdown(PATIENCE);
    let recall = Recall {
        since_unix_ms: 0,
        single_since_unix_ms: 0,
    };
    let closed = ledger.recall(recall, &mut |_| {});
    assert!(matches!(closed, Err(ReadError::Closed)));
}

#[tokio::test]
async fn what_is_put_away_is_seen_by_the_next_fetch_and_comes_back_when_the_ledger_is_behind() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = settings(folder.path(), Duration::from_millis(100));
    let (ledger, _) = Ledger::open(&settings, clock()).expect("a new ledger");
    let name = |number: u64| format!("session {number}").into_bytes();
    for number in 0..500 {
        let counters = vec![(name(number), vec![number as u8; 700])];
        ledger.put_away(counters).expect("there is room");
        let fetched = ledger.fetch_away(vec![name(number), name(number + 1)]);
        let fetched = fetched.await.expect("it works");
        assert_eq!(fetched, [Some(vec![number as u8; 700]), None]);
    }
    // More than may wait in memory, faster than the store takes it: some comes back, and nothing else is missing.
    let mut back = 0;
    for number in 0..100 {
        let counters: Vec<_> = (0..100)
            .map(|part| (name(number * 100 + part), vec![1; 5000]))
            .collect();
        back += usize::from(ledger.put_away(counters.clone()) == Err(counters));
    }
    assert!(back > 0, "50 MB do not fit");
    assert!(back < 100, "some do");
    let mut kept = 0;
    for number in 0..100 {
        let names = (0..100).map(|part| name(number * 100 + part)).collect();
        let mut fetched = ledger.fetch_away(names).await.expect("it works");
        fetched.retain(|found| found.as_ref().is_some_and(|bytes| bytes.len() == 5000));
        assert!(fetched.is_empty() || fetched.len() == 100);
        kept += usize::from(!fetched.is_empty());
    }
    assert_eq!(kept + back, 100);
    assert!(ledger.shutdown(PATIENCE));
    let counters = vec![(name(1), vec![1])];
    assert_eq!(ledger.put_away(counters.clone()), Err(counters));
}

#[test]
fn events_are_shown_from_a_ledger_that_no_process_holds_and_by_the_running_proxy() {
    use std::io::{BufRead, BufReader, Write};
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = settings(folder.path(), Duration::from_millis(100));
    let args = EventsArgs {
        since: Some("1h".to_owned()),
        session: vec!["docs".to_owned()],
        format: CSV,
        ..EventsArgs::default()
    };
    let (ledger, _) = Ledger::open(&settings, clock()).expect("a new ledger");
    (1..=150).for_each(|number| ledger.event(&event(number)));
    ledger.shutdown(PATIENCE);
    drop(ledger);
    let text = events::run(&args, &settings, clock()).expect("readable");
    assert_eq!(text.lines().count(), 101, "a hundred, and the names");
    let newest = text.lines().nth(1).expect("a line");
    assert!(newest.contains(",refused,docs,"), "{newest}");
    assert!(newest.contains(",150,"), "{newest}");

    let (ledger, _) = Ledger::open(&settings, clock()).expect("its own ledger");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    ledger
        .announce(listener.local_addr().expect("bound"))
        .expect("writable");
    let proxy = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut line = String::new();
        let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
        reader.read_line(&mut line).expect("a request");
        let query = line.split(['?', ' ']).nth(2).expect("a query string");
        let query = EventQuery::from_query_string(query).expect("readable");
        let events = ledger.events_blocking(query).expect("readable");
        let body = serde_json::to_string(&Events { events }).expect("events are JSON");
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        write!(stream, "{head}{body}").expect("the client waits");
        ledger.shutdown(PATIENCE);
        line
    });
    let asked = events::run(&args, &settings, clock()).expect("it answers");
    assert_eq!(asked, text, "both give the same");
    let line = proxy.join().expect("no panic");
    assert!(
        line.starts_with("GET /api/v1/events?limit=100&since="),
        "{line}"
    );
}

#[tokio::test]
async fn the_running_proxy_gives_its_events_as_json_and_names_what_it_cannot_read() {
    use super::rig::{Tollgate, Upstream, request};
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    for number in 1..=3 {
        let mut event = event(number);
        if number == 2 {
            event.kind = EventKind::Waited;
        }
        tollgate.gate.ledger.event(&event);
    }
    let shown = tollgate.get("/api/v1/events?kind=refused").await.json();
    let events = shown["events"].as_array().expect("a list");
    let tokens: Vec<_> = events.iter().map(|event| &event["actual_tokens"]).collect();
    assert_eq!(tokens, [3, 1], "{shown}");
    assert_eq!(events[0]["session"], "docs");
    assert_eq!(events[0]["kind"], "refused");
    for (query, part) in [
        ("kind=party", "no kind of event"),
        ("limit=1000000", "from 1 to 10000"),
        ("since=yesterday", "since is not a number"),
    ] {
        let ask = request(&format!("GET /api/v1/events?{query}"), &[], "");
        let (head, body) = tollgate.ask(ask).await;
        assert_eq!(head.status(), 400, "{query}");
        let message = body.json()["error"]["message"].to_string();
        assert!(message.contains(part), "{message}");
    }
}
