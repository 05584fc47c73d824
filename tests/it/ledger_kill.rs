//! Promise 4 at the ledger: a process that is killed at any moment loses no request that it had closed, and no event that
//! it had written.
//!
//! The test starts itself as a child that books requests and says so; it kills the child, opens the ledger, and
//! compares. The child's segments are taken over and checkpointed meanwhile, because it asks for reports.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use tollgate::store::Ledger;
use tollgate::store::event_query::EventQuery;
use tollgate::store::query::Query;
use tollgate::store::recall::Recall;
use tollgate::store::record::Outcome;

use super::ledger::{book, clock, event, record, settings};

const DIR: &str = "TOLLGATE_TEST_KILL_DIR";
const FIRST: &str = "TOLLGATE_TEST_KILL_FIRST";

/// Not a test: what the child does.
#[test]
#[ignore = "the child process of the kill test"]
fn child() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else {
        return;
    };
    let first = std::env::var(FIRST).expect("the parent sets it");
    let first: u64 = first.parse().expect("a number");
    let settings = settings(&dir, Duration::from_millis(20));
    let (ledger, _) = Ledger::open(&settings, clock()).expect("the ledger opens");
    let mut out = std::io::stdout().lock();
    let mut running = Vec::new();
    for number in first.. {
        if number % 10 == 0 {
            let entry = ledger.begin(record(number)).expect("the disk has room");
            running.push(entry);
            writeln!(out, "open {number}").expect("the parent reads");
        } else if number % 10 == 5 {
            // Refused as it arrives: record and event in one write.
            let mut entry = ledger.entry_unopened(record(number));
            entry.usage.input = 0;
            entry.outcome = Outcome::Refused;
            entry.close_with(&[event(number)]);
            writeln!(out, "refused {number}").expect("the parent reads");
        } else {
            book(&ledger, number);
            writeln!(out, "closed {number}").expect("the parent reads");
            if number % 10 == 7 {
                ledger.event(&event(number));
                writeln!(out, "event {number}").expect("the parent reads");
            }
        }
        if number % 25 == 0 {
            // Takes over what there is; every sixteenth time that makes a checkpoint due.
            ledger.report_blocking(Query::default()).expect("readable");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_loses_no_closed_request_and_its_open_ones_are_found_as_interrupted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut expected = BTreeMap::new();
    let mut events = BTreeSet::new();
    let mut first = 1;
    for round in 0_u64..8 {
        let mut child = Command::new(std::env::current_exe().expect("this test's binary"))
            .args(["--exact", "ledger_kill::child", "--ignored", "--nocapture"])
            .env(DIR, folder.path())
            .env(FIRST, first.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the child starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        let mut note = |line: &str| {
            // A line that was cut by the kill says nothing.
            let told = line
                .strip_suffix('\n')
                .and_then(|line| line.split_once(' '));
            let Some((state, Ok(number))) = told.map(|(state, number)| (state, number.parse()))
            else {
                return;
            };
            let ended = match state {
                "open" => (Outcome::Interrupted, 1000),
                "closed" => (Outcome::Complete, number),
                "refused" => {
                    events.insert(number);
                    (Outcome::Refused, 0)
                }
                "event" => {
                    events.insert(number);
                    return;
                }
                // The test harness has its say, too.
                _ => return,
            };
            expected.insert(number, ended);
        };
        // Different depths: before the first checkpoint, between two, right after one.
        let enough = 120 + round * 331;
        for _ in 0..enough {
            line.clear();
            lines.read_line(&mut line).expect("the child speaks");
            note(&line);
        }
        child.kill().expect("it runs");
        let mut rest = String::new();
        lines.read_to_string(&mut rest).expect("what it had said");
        rest.split_inclusive('\n').for_each(&mut note);
        child.wait().expect("it ends");
        let last = expected.keys().next_back().copied().unwrap_or(0);
        first = last + 2;

        let settings = settings(folder.path(), Duration::from_millis(20));
        let (ledger, opened) = Ledger::open(&settings, clock()).expect("the ledger opens");
        assert!(
            opened.damage.is_empty(),
            "a kill tears no frame: {opened:?}"
        );
        let records = ledger
            .records(Query::default(), usize::MAX)
            .await
            .expect("readable");
        let mut found: BTreeMap<_, _> = records
            .iter()
            .map(|record| {
                (
                    record.id.0 as u64 & 0xFFFF_FFFF,
                    (record.outcome, record.usage.input),
                )
            })
            .collect();
        assert_eq!(found.len(), records.len(), "no request is there twice");
        // The request that it was about to tell of may be there, too.
        if let Some(untold) = found.remove(&(last + 1)) {
            expected.insert(last + 1, untold);
            found.insert(last + 1, untold);
        }
        assert_eq!(found, expected, "round {round}");
        let query = EventQuery {
            limit: usize::MAX,
            ..EventQuery::default()
        };
        let kept = ledger.events(query).await.expect("readable");
        let mut numbers: BTreeSet<_> = kept.iter().map(|event| event.actual_tokens).collect();
        assert_eq!(numbers.len(), kept.len(), "no event is there twice");
        // As above: the event that it was about to tell of.
        let untold = numbers.iter().filter(|number| **number >= last).copied();
        events.extend(untold.collect::<Vec<_>>());
        numbers.retain(|number| !events.contains(number));
        assert!(
            numbers.is_empty(),
            "round {round}: {numbers:?} never happened"
        );
        assert_eq!(
            kept.len(),
            events.len(),
            "round {round}: every event is there"
        );
        let recall = Recall {
            since_unix_ms: 0,
            single_since_unix_ms: 0,
        };
        let read_back = tokio::task::block_in_place(|| ledger.recall(recall, &mut |_| {}));
        assert_eq!(
            read_back.expect("readable").requests,
            expected.len() as u64,
            "round {round}: every request is read back"
        );
        let report = ledger.report(Query::default()).await.expect("readable");
        let input = expected.values().map(|(_, input)| input).sum::<u64>();
        assert_eq!(
            (report.total.requests, report.total.input),
            (expected.len() as u64, input)
        );
        ledger.shutdown(Duration::from_secs(30));
    }
}
