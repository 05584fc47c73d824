//! `tollgate usage --savings` and `/api/v1/savings`: the real binary on a ledger that was written through the library.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tollgate::config::settings::LedgerSettings;
use tollgate::store::record::{CostSource, Outcome, Record};
use tollgate::store::{Ledger, WallClock};
use tollgate::units::{Cost, RequestId};

use crate::binary::{Proxy, before, run, tollgate};
use crate::rig::Upstream;

const NOON: u64 = 1_795_176_000_000;
const DAY: u64 = 86_400_000;

/// Where the binary looks for its ledger in a home of its own.
fn settings(home: &Path) -> LedgerSettings {
    LedgerSettings {
        dir: home.join("ledger"),
        sync_interval: Duration::from_millis(100),
        keep_records: Duration::from_secs(3000 * 86_400),
        keep_sums: Duration::from_secs(4000 * 86_400),
        max_bytes: 1 << 30,
        pass_on_failure: false,
    }
}

/// A request as it is booked.
#[derive(Clone, Copy)]
struct Booked {
    days_ago: u64,
    session: &'static str,
    task: &'static str,
    rule: Option<&'static str>,
    shadow: bool,
    cost: &'static str,
    saving: Option<&'static str>,
}

const BOOKED: [Booked; 6] = [
    Booked {
        days_ago: 0,
        session: "web",
        task: "ui",
        rule: Some("rule:ui"),
        shadow: false,
        cost: "0.002",
        saving: Some("0.038"),
    },
    Booked {
        days_ago: 3,
        session: "web",
        task: "ui",
        rule: Some("rule:ui"),
        shadow: false,
        cost: "0.001",
        saving: Some("0.019"),
    },
    Booked {
        days_ago: 3,
        session: "web",
        task: "ui",
        rule: Some("rule:ui"),
        shadow: true,
        cost: "0.04",
        saving: Some("0.03"),
    },
    Booked {
        days_ago: 0,
        session: "notes, old",
        task: "documentation",
        rule: Some("rule:documentation"),
        shadow: false,
        cost: "0.01",
        saving: Some("-0.0025"),
    },
    Booked {
        days_ago: 0,
        session: "notes, old",
        task: "documentation",
        rule: Some("rule:documentation"),
        shadow: false,
        cost: "0.5",
        saving: None,
    },
    Booked {
        days_ago: 0,
        session: "code",
        task: "coding",
        rule: None,
        shadow: false,
        cost: "0.1",
        saving: None,
    },
];

/// Books these, each at its time, and returns their ids.
fn write(home: &Path, booked: &[Booked]) -> Vec<RequestId> {
    let mut ids = Vec::new();
    for (number, one) in booked.iter().enumerate() {
        let at = NOON - one.days_ago * DAY;
        let clock: WallClock = Arc::new(move || at);
        let (ledger, _) = Ledger::open(&settings(home), clock).unwrap();
        let mut record = Record::new(RequestId::new(at, 3, number as u64));
        record.session = one.session.to_owned();
        record.task = Some(one.task.to_owned());
        record.provider = "anthropic".to_owned();
        record.endpoint = "messages".to_owned();
        record.requested_model = Some("claude-sonnet-5-5".to_owned());
        record.model = Some("claude-haiku-5-5".to_owned());
        record.routed_by = one.rule.map(str::to_owned);
        record.routed_to = one.rule.map(|_| "claude-haiku-5-5".to_owned());
        record.flags.route_shadow = one.shadow;
        ids.push(record.id);
        let mut entry = ledger.begin(record).unwrap();
        entry.outcome = Outcome::Complete;
        entry.cost = Some(one.cost.parse::<Cost>().unwrap());
        entry.cost_source = CostSource::Table;
        entry.saving = one.saving.map(|saving| saving.parse::<Cost>().unwrap());
        entry.close();
        assert!(ledger.shutdown(Duration::from_secs(30)));
    }
    ids
}

/// What `tollgate usage` prints.
async fn usage(home: &Path, words: &[&str]) -> String {
    let mut command = tollgate(home);
    command.args(["usage", "--tz", "UTC"]).args(words);
    command.arg("--ledger-dir").arg(home.join("ledger"));
    let (code, out, log) = run(command).await;
    assert_eq!(code, Some(0), "{log}");
    out
}

async fn json(home: &Path, words: &[&str]) -> Value {
    let mut words = words.to_vec();
    words.push("--json");
    serde_json::from_str(&usage(home, &words).await).unwrap()
}

#[tokio::test]
async fn saved_and_would_have_saved_money_is_shown_by_rule_task_and_session() {
    let home = TempDir::new().unwrap();
    write(home.path(), &BOOKED);
    let text = usage(home.path(), &["--savings"]).await;
    let rows: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let row = |words: &[&str]| {
        let found = rows.iter().any(|row| row == words);
        assert!(found, "{words:?} is not in\n{text}");
    };
    row(&[
        "rule:ui", "ui", "web", "on", "2", "0.0600", "0.0030", "0.0570", "95.0", "0",
    ]);
    row(&[
        "rule:ui", "ui", "web", "shadow", "1", "0.0400", "0.0100", "0.0300", "75.0", "0",
    ]);
    row(&[
        "rule:documentation",
        "documentation",
        "notes,",
        "old",
        "on",
        "2",
        "0.0075",
        "0.0100",
        "-0.0025",
        "-33.3",
        "1",
    ]);
    row(&[
        "total", "on", "4", "0.0675", "0.0130", "0.0545", "80.7", "1",
    ]);
    assert!(!text.contains("coding"), "it kept its model: {text}");
    assert!(
        text.contains("4 of 6 requests went to another model"),
        "{text}"
    );
    assert!(
        text.contains("what 1 requests saved cannot be told"),
        "{text}"
    );
}

#[tokio::test]
async fn csv_and_json_hold_the_exact_amounts_and_filters_and_times_choose() {
    let home = TempDir::new().unwrap();
    write(home.path(), &BOOKED);
    let csv = usage(home.path(), &["--savings", "--by", "session", "--csv"]).await;
    let mut lines: Vec<_> = csv.lines().skip(1).collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "\"notes, old\",on,2,0.51,0.0075,0.01,-0.0025,-33.3,1",
            "web,on,2,0.003,0.06,0.003,0.057,95.0,0",
            "web,shadow,1,0.04,0.04,0.01,0.03,75.0,0",
        ]
    );
    let all = json(home.path(), &["--savings"]).await;
    assert_eq!(all["by"], serde_json::json!(["rule", "task", "session"]));
    assert_eq!(all["on"]["saving"], "0.0545");
    assert_eq!(all["on"]["cost"], "0.513");
    assert_eq!(all["on"]["unknown_saving_requests"], 1);
    assert_eq!(all["shadow"]["saving"], "0.03");
    assert_eq!(all["all"]["requests"], 6);
    let since = "2026-11-20";
    let saving = async |words: &[&str]| {
        let mut all = vec!["--savings"];
        all.extend(words);
        json(home.path(), &all).await["on"]["saving"].clone()
    };
    assert_eq!(saving(&["--since", since]).await, "0.0355");
    assert_eq!(saving(&["--until", since]).await, "0.019");
    assert_eq!(saving(&["--session", "web"]).await, "0.057");
    assert_eq!(saving(&["--task", "documentation"]).await, "-0.0025");
    assert_eq!(
        saving(&["--rule", "rule:ui", "--since", since]).await,
        "0.038"
    );
    assert_eq!(saving(&["--rule", "rule:nobody"]).await, "0.00");
    // The usual report knows the rules too.
    let rules = json(home.path(), &["--by", "rule"]).await;
    let mut found: Vec<_> = rules["rows"].as_array().unwrap().iter().collect();
    found.sort_by_key(|row| row["labels"].to_string());
    let told: Vec<_> = found
        .iter()
        .map(|row| (row["labels"][0].as_str(), row["requests"].as_u64().unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            (Some("rule:documentation"), 2),
            (Some("rule:ui"), 3),
            (None, 1)
        ]
    );
}

#[tokio::test]
async fn the_running_proxy_tells_the_same_and_shows_single_requests_with_their_route() {
    let home = TempDir::new().unwrap();
    let ids = write(home.path(), &BOOKED);
    let expected = json(home.path(), &["--savings"]).await;
    let upstream = Upstream::start().await;
    let mut command = tollgate(home.path());
    command.args(before(upstream.address));
    command.arg("--ledger-dir").arg(home.path().join("ledger"));
    command.args([
        "--set",
        "ledger.keep_records=3000d",
        "--set",
        "ledger.keep_sums=4000d",
    ]);
    let proxy = Proxy::start(command).await;
    assert_eq!(json(home.path(), &["--savings"]).await, expected);
    assert_eq!(proxy.get("/api/v1/savings").await.json(), expected);
    let by_session = proxy.get("/api/v1/savings?by=session&rule=rule:ui").await;
    assert_eq!(by_session.json()["on"]["saving"], "0.057");
    let record = proxy.record(&ids[3].to_string()).await.unwrap();
    assert_eq!(record["routed_by"], "rule:documentation");
    assert_eq!(record["routed_to"], "claude-haiku-5-5");
    assert_eq!(record["saving_usd"], "-0.0025");
    assert_eq!(record["requested_provider"], Value::Null);
    let kept = proxy.record(&ids[5].to_string()).await.unwrap();
    assert_eq!(kept["routed_by"], Value::Null);
}

#[tokio::test]
async fn an_empty_ledger_has_saved_nothing_and_a_missing_one_is_an_error() {
    let home = TempDir::new().unwrap();
    let mut command = tollgate(home.path());
    command.args(["usage", "--savings", "--ledger-dir"]);
    command.arg(home.path().join("ledger"));
    let (code, out, log) = run(command).await;
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(log.contains("there is no ledger in"), "{log}");
    let (ledger, _) = Ledger::open(&settings(home.path()), Arc::new(|| NOON)).unwrap();
    ledger.shutdown(Duration::from_secs(30));
    let text = usage(home.path(), &["--savings"]).await;
    assert_eq!(text, "no other model was chosen for any of 0 requests\n");
    let empty = json(home.path(), &["--savings"]).await;
    assert_eq!(empty["on"]["saved_percent"], Value::Null);
    assert_eq!(empty["all"]["cost"], "0.00");
    let csv = usage(home.path(), &["--savings", "--csv"]).await;
    assert_eq!(csv.lines().count(), 1, "{csv}");
}
