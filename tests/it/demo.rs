//! `tollgate demo`, as a person without any key starts it.

#![expect(clippy::unwrap_used, reason = "a test fails where it must")]

use std::process::Command;

#[test]
fn the_demo_says_where_to_look_shows_its_sessions_and_leaves_its_figures() {
    let home = tempfile::tempdir().unwrap();
    let ledger = home.path().join("ledger");
    let tollgate = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(arguments)
            .arg("--ledger-dir")
            .arg(&ledger)
            .env("HOME", home.path())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success(),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        text
    };
    let said = tollgate(&["demo", "--for", "3s", "--listen", "127.0.0.1:0"]);
    assert!(said.starts_with("listening on http://127.0.0.1:"), "{said}");
    assert!(
        said.contains("/metrics") && said.contains("tollgate usage"),
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
    let usage: serde_json::Value =
        serde_json::from_str(&tollgate(&["usage", "--by", "provider", "--json"])).unwrap();
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
}
