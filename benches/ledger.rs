//! What the ledger costs: a request's two writes, taking a million of them over, memory, disk, the time to open, and the
//! time to read a day's requests back at a start (in a process of its own, so that the memory is its own).
//!
//! `cargo bench --bench ledger [-- RECORDS]`. Figures are of this machine; the disk's fsync decides the checkpoints.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tollgate::config::settings::LedgerSettings;
use tollgate::llm::usage::{Provenance, Usage};
use tollgate::policy::budget::Amounts;
use tollgate::store::event::{Event, EventKind};
use tollgate::store::query::Query;
use tollgate::store::recall::{Past, Recall};
use tollgate::store::record::{CostSource, Outcome, Record};
use tollgate::store::{Ledger, WallClock};
use tollgate::units::{Cost, RequestId};

fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_millis() as u64)
}

fn record(number: u64) -> Record {
    let mut record = Record::new(RequestId::new(unix_ms(), 7, number));
    record.session = format!("6ec0b9ad-session-{}", number % 50);
    record.key = Some("fp:91ac04e2".to_owned());
    record.provider = "anthropic".to_owned();
    record.endpoint = "messages".to_owned();
    record.requested_model = Some("claude-sonnet-4-5".to_owned());
    record.model = Some("claude-sonnet-4-5-20250929".to_owned());
    record.task = Some("coding".to_owned());
    record.stream = true;
    record.usage = Usage {
        input: 12_345,
        cached_read: 11_000,
        cache_write: 800,
        output: 431,
        ..Usage::default()
    };
    record.provenance = Provenance::Estimated;
    record.cost = Some(Cost::from_attos(9_876_543_210_000_000));
    record.cost_source = CostSource::Table;
    record
}

fn book(ledger: &Ledger, number: u64) {
    let mut entry = ledger.begin(record(number)).expect("the disk has room");
    entry.outcome = Outcome::Complete;
    entry.provenance = Provenance::Reported;
    entry.status = 200;
    entry.attempts = 1;
    entry.added_us = 31;
    entry.first_byte_us = 812_345;
    entry.total_us = 4_812_345;
    entry.request_bytes = 48_123;
    entry.response_bytes = 9_321;
    entry.close();
}

/// A line of /proc/self/status, in MiB; 0 where there is none.
fn memory(name: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kib.unwrap_or_default() / 1024.0
}

fn bytes_below(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.path() {
            path if path.is_dir() => bytes_below(&path),
            path => path.metadata().map_or(0, |file| file.len()),
        })
        .sum()
}

fn settings(dir: &Path) -> LedgerSettings {
    LedgerSettings {
        dir: dir.to_path_buf(),
        sync_interval: Duration::from_millis(100),
        keep_records: Duration::from_secs(30 * 86_400),
        keep_sums: Duration::from_secs(400 * 86_400),
        max_bytes: 4 << 30,
        pass_on_failure: false,
    }
}

/// Tells the bench's own child process which ledger to read back.
const RECALL: &str = "TOLLGATE_BENCH_RECALL";

/// Reads back what a start would, and adds it up as budgets do.
fn read_back(dir: &Path) {
    let opened = Ledger::open(&settings(dir), Arc::new(unix_ms));
    let (ledger, _) = opened.expect("its own ledger");
    for (name, single_since_unix_ms) in [("sums", u64::MAX), ("records", 0)] {
        let recall = Recall {
            since_unix_ms: 0,
            single_since_unix_ms,
        };
        let mut total = Amounts::default();
        let started = Instant::now();
        let recalled = ledger.recall(recall, &mut |past| match past {
            Past::Hour(group, sum) => total.add(&sum.charges(group)),
            Past::Request(request) => total.add(&request.charges()),
        });
        let spent = started.elapsed().as_secs_f64();
        let recalled = recalled.expect("the store works");
        let count = recalled.requests.max(recalled.sums);
        println!(
            "{:26}{spent:8.3} s for {count} ({} requests, {:.3} s per million), peak {:.1} MiB",
            format!("read back, {name}"),
            total.requests,
            spent * 1e6 / count as f64,
            memory("VmHWM"),
        );
    }
    ledger.shutdown(Duration::from_secs(120));
}

fn main() {
    if let Some(dir) = std::env::var_os(RECALL) {
        return read_back(Path::new(&dir));
    }
    let total = std::env::args().filter_map(|word| word.parse().ok()).next();
    let total: u64 = total.unwrap_or(1_000_000);
    let folder = tempfile::tempdir_in(".").expect("a temporary folder");
    let settings = settings(&folder.path().join("ledger"));
    let clock: WallClock = Arc::new(unix_ms);
    let patience = Duration::from_secs(120);
    println!("resident before           {:8.1} MiB", memory("VmRSS"));

    let started = Instant::now();
    let (ledger, _) = Ledger::open(&settings, Arc::clone(&clock)).expect("a new ledger");
    println!(
        "fresh open                {:8.1} ms",
        started.elapsed().as_secs_f64() * 1e3
    );
    std::thread::sleep(Duration::from_millis(300));
    println!("resident, idle            {:8.1} MiB", memory("VmRSS"));

    let first = total.min(20_000);
    let started = Instant::now();
    for number in 0..first {
        std::hint::black_box(record(number));
    }
    let making = started.elapsed();
    let started = Instant::now();
    for number in 0..first {
        book(&ledger, number);
    }
    let spent = started.elapsed().saturating_sub(making);
    println!(
        "begin + close             {:8.0} ns",
        spent.as_nanos() as f64 / first as f64
    );

    let mut refusals = Duration::ZERO;
    for number in 0..first {
        let mut entry = ledger.entry_unopened(record(total + number));
        entry.outcome = Outcome::Refused;
        let mut event = Event::new(EventKind::Refused, unix_ms());
        event.session = Some(entry.session.clone());
        event.rule = Some("session-tokens-hour".to_owned());
        event.limit = Some(100_000);
        let started = Instant::now();
        entry.close_with(&[event]);
        refusals += started.elapsed();
    }
    println!(
        "refusal with its event    {:8.0} ns",
        refusals.as_nanos() as f64 / first as f64
    );

    let started = Instant::now();
    for number in first..total {
        book(&ledger, number);
        // As fast as the store takes over, in bursts: what a proxy can never exceed for long.
        if number % 20_000 == 0 {
            ledger
                .report_blocking(Query::default())
                .expect("the store works");
        }
    }
    let report = ledger
        .report_blocking(Query::default())
        .expect("the store works");
    assert_eq!(report.total.requests, total + first);
    let rate = (total - first) as f64 / started.elapsed().as_secs_f64();
    println!("booked and imported       {rate:8.0} records/s");
    println!(
        "resident after            {:8.1} MiB (peak {:.1})",
        memory("VmRSS"),
        memory("VmHWM")
    );

    let started = Instant::now();
    assert!(ledger.shutdown(patience));
    println!(
        "shutdown                  {:8.1} ms",
        started.elapsed().as_secs_f64() * 1e3
    );
    drop(ledger);
    let store = settings.dir.join("store");
    println!(
        "store on disk             {:8.1} MiB",
        bytes_below(&store) as f64 / 1_048_576.0
    );
    let payload: usize = (0..100)
        .map(|number| minicbor::to_vec(record(number)).map_or(0, |bytes| bytes.len()))
        .sum();
    println!("bytes per record          {:8}", payload / 100);

    // The first opening reads all that was written since the one before; sled then takes a snapshot.
    for time in ["first", "second"] {
        let started = Instant::now();
        let opened = Ledger::open(&settings, Arc::clone(&clock));
        let (ledger, _) = opened.expect("its own ledger");
        let spent = started.elapsed().as_secs_f64() * 1e3;
        println!("{:26}{spent:8.1} ms", format!("reopen, {time} time"));
        println!("resident after reopen     {:8.1} MiB", memory("VmRSS"));
        let started = Instant::now();
        let report = ledger
            .report_blocking(Query::default())
            .expect("the store works");
        assert_eq!(report.total.requests, total + first);
        println!(
            "report                    {:8.1} ms",
            started.elapsed().as_secs_f64() * 1e3
        );
        ledger.shutdown(patience);
    }

    let program = std::env::current_exe().expect("this program");
    let child = std::process::Command::new(program)
        .env(RECALL, &settings.dir)
        .status();
    assert!(child.expect("it starts").success());
}
