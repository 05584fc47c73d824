//! `tollgate demo`, as a person without any key starts it.

#![expect(clippy::unwrap_used, reason = "a test fails where it must")]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::binary::*;

/// Longest time for the climb, which takes seven seconds on a machine that has nothing else to do.
const CLIMB_BY: Duration = Duration::from_secs(60);

fn demo(home: &Path, more: &[&str]) -> Command {
    let mut command = tollgate(home);
    command.args(["demo", "--listen", "127.0.0.1:0"]).args(more);
    command
}

/// Lets the demo run until it has said this.
async fn until(process: &Binary, text: &str) {
    let begun = Instant::now();
    while !process.output().contains(text) {
        let output = process.output();
        assert!(begun.elapsed() < CLIMB_BY, "{output}{}", process.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The words of the line that begins with this.
fn row<'a>(said: &'a str, name: &str) -> Vec<&'a str> {
    let mut lines = said
        .lines()
        .filter_map(|line| line.trim().strip_prefix(name));
    let rest = lines
        .find(|rest| rest.starts_with(' '))
        .unwrap_or_else(|| panic!("no {name} in\n{said}"));
    rest.split_whitespace().collect()
}

#[tokio::test]
async fn the_demo_shows_every_level_its_sessions_and_leaves_its_figures() {
    let home = TempDir::new().unwrap();
    let ledger = home.path().join("ledger").display().to_string();
    let (mut process, _) = Binary::spawn(demo(home.path(), &["--ledger-dir", &ledger]));
    until(&process, "A refusal says why").await;
    until(&process, " of session release-notes: ").await;
    process.terminate();
    assert_eq!(process.ended().await.code(), Some(0), "{}", process.log());
    until(&process, "total").await;
    let said = process.output();
    assert!(said.starts_with("listening on http://127.0.0.1:"), "{said}");
    for part in [
        "/metrics",
        "tollgate status",
        "tollgate events",
        "tollgate usage",
    ] {
        assert!(said.contains(part), "{part} is missing in\n{said}");
    }
    let fill = |name| row(&said, name)[0].parse::<u64>().unwrap();
    for (name, fills, fates) in [
        ("NONE", 0..70, ["passes", "passes", "passes", "passes"]),
        ("WARNING", 70..80, ["passes", "passes", "passes", "passes"]),
        ("SOFT", 80..90, ["waits", "passes", "passes", "passes"]),
        ("HARD", 90..95, ["refused", "refused", "passes", "passes"]),
        (
            "does not fit",
            90..95,
            ["refused", "refused", "refused", "passes"],
        ),
        (
            "CRITICAL",
            95..200,
            ["refused", "refused", "refused", "passes"],
        ),
    ] {
        assert_eq!(row(&said, name)[2..], fates, "{name} in\n{said}");
        assert!(fills.contains(&fill(name)), "{name} in\n{said}");
    }
    assert!(
        said.contains("Request throttled: HARD. Token budget session-tokens-minute"),
        "{said}"
    );
    for session in [
        "checkout-bug",
        "login-ui",
        "auth-feature",
        "handbook",
        "market-study",
        "local-notes",
    ] {
        assert!(said.contains(session), "{session} is missing in\n{said}");
    }
    let told = async |arguments: &[&str]| -> serde_json::Value {
        let mut command = tollgate(home.path());
        command
            .args(arguments)
            .args(["--json", "--ledger-dir", &ledger]);
        let (code, out, log) = run(command).await;
        assert_eq!(code, Some(0), "{log}");
        serde_json::from_str(&out).unwrap()
    };
    let usage = told(&["usage", "--by", "provider"]).await;
    let providers: Vec<_> = usage["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["labels"][0].as_str().unwrap())
        .collect();
    for provider in ["anthropic", "openai", "gemini", "ollama"] {
        assert!(
            providers.contains(&provider),
            "{provider} is missing in {providers:?}"
        );
    }
    assert!(usage["total"]["output"].as_u64().unwrap() > 0);
    let events = told(&["events", "--session", "release-notes"]).await;
    let reached: Vec<_> = events["events"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["kind"] == "level_changed")
        .map(|event| event["level"].as_str().unwrap())
        .collect();
    assert_eq!(reached, ["CRITICAL", "HARD", "SOFT", "WARNING"], "{events}");
}

#[tokio::test]
async fn the_demo_ends_by_itself_and_leaves_the_real_ledger_alone() {
    let home = TempDir::new().unwrap();
    let (code, said, log) = run(demo(home.path(), &["--for", "1s"])).await;
    assert_eq!(code, Some(0), "{log}");
    assert!(
        said.contains("total"),
        "the last word is the figures: {said}"
    );
    let state = home.path().join(".local/state");
    assert!(state.join("tollgate-demo").exists());
    assert!(!state.join("tollgate").exists());
}
