//! The ledger with its threads, and `tollgate usage` on it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tollgate::commands::format::{Format, FormatArgs};
use tollgate::commands::usage::{self, UsageArgs};
use tollgate::config::settings::LedgerSettings;
use tollgate::llm::usage::Provenance;
use tollgate::store::query::{Dimension, Query};
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
