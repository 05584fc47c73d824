//! The small commands through the real binary.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The binary in a directory of its own, without this process's settings.
fn tollgate(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy().to_ascii_uppercase();
        if name_text.starts_with("TOLLGATE_")
            || name_text.ends_with("_PROXY")
            || name_text.starts_with("XDG_")
        {
            command.env_remove(name);
        }
    }
    command
        .current_dir(dir)
        .env("HOME", dir)
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::null());
    command
}

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn output(command: &mut Command) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("the binary starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn env_prints_what_each_client_needs() {
    let dir = dir();
    let (code, stdout, stderr) =
        output(tollgate(dir.path()).args(["env", "-s", "docs", "-p", "low"]));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    for line in [
        // The SDK adds /v1/messages.
        "export ANTHROPIC_BASE_URL='http://127.0.0.1:8402/@docs:low/anthropic'\n",
        // The SDK adds /chat/completions.
        "export OPENAI_BASE_URL='http://127.0.0.1:8402/@docs:low/openai/v1'\n",
        "export OPENAI_API_BASE='http://127.0.0.1:8402/@docs:low/openai/v1'\n",
        // The SDK adds the version.
        "export GOOGLE_GEMINI_BASE_URL='http://127.0.0.1:8402/@docs:low/gemini'\n",
        "export GEMINI_API_BASE='http://127.0.0.1:8402/@docs:low/gemini/v1beta'\n",
        "export OLLAMA_HOST='http://127.0.0.1:8402/@docs:low/ollama'\n",
        // The SDK adds /openai/v1.
        "export GROQ_BASE_URL='http://127.0.0.1:8402/@docs:low/groq'\n",
    ] {
        assert!(stdout.contains(line), "{line} not in {stdout}");
    }
    assert!(!stdout.contains("PROXY"));
}

#[test]
fn env_follows_the_configuration_and_the_shell() {
    let dir = dir();
    let args = [
        "env",
        "--shell",
        "fish",
        "--listen",
        "[::]:9",
        "--set",
        "server.allow_remote=true",
        "-p",
        "high",
    ];
    let (_, stdout, stderr) = output(
        tollgate(dir.path())
            .args(args)
            .env("TOLLGATE_PROVIDERS_GROQ_ENABLED", "false"),
    );
    assert!(
        stdout.contains("set -gx OPENAI_BASE_URL 'http://[::1]:9/@default:high/openai/v1'\n"),
        "{stdout}{stderr}"
    );
    assert!(!stdout.contains("GROQ"));
    let args = [
        "env",
        "--url",
        "https://gate.example/x/",
        "--shell",
        "powershell",
    ];
    let (_, stdout, _) = output(tollgate(dir.path()).args(args));
    assert!(
        stdout.contains("$env:OLLAMA_HOST = 'https://gate.example/x/ollama'\n"),
        "{stdout}"
    );
    let (_, stdout, _) = output(
        tollgate(dir.path())
            .arg("env")
            .env("SHELL", "/usr/bin/fish"),
    );
    assert!(stdout.starts_with("set -gx "), "{stdout}");
}

#[cfg(unix)]
#[test]
fn a_session_with_quotes_is_only_text_for_the_shell() {
    let dir = dir();
    // $IFS would be the space between command and argument if the text got out of its quotes.
    let name = "a';touch$IFS'oops';'";
    let script = r#"eval "$("$0" env -s "$NAME")" && printf %s "$OPENAI_BASE_URL""#;
    let mut shell = Command::new("sh");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_tollgate")]);
    shell
        .current_dir(dir.path())
        .env("HOME", dir.path())
        .env("SHELL", "/bin/sh")
        .env("NAME", name);
    let (code, stdout, stderr) = output(&mut shell);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert_eq!(stdout, format!("http://127.0.0.1:8402/@{name}/openai/v1"));
    assert!(!dir.path().join("oops").exists());
}

#[test]
fn a_name_that_cannot_be_a_session_is_refused() {
    let dir = dir();
    for name in ["a b", "a/b", "a:b", "", "ä", "a'; rm -rf"] {
        let (code, stdout, stderr) = output(tollgate(dir.path()).args(["env", "-s", name]));
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{name}");
        assert!(
            stderr.contains("a session's name is 1 to 128 visible ASCII characters without spaces"),
            "{stderr}"
        );
    }
    let (code, _, stderr) = output(tollgate(dir.path()).args(["env", "-p", "urgent"]));
    assert_eq!(code, Some(2));
    assert!(stderr.contains("low, normal, high or critical"), "{stderr}");
    let (code, _, stderr) = output(tollgate(dir.path()).args(["env", "--listen", "127.0.0.1:0"]));
    assert_eq!(code, Some(2));
    assert!(
        stderr.contains("hint: give the address that tollgate shows when it starts"),
        "{stderr}"
    );
    for url in ["gate:8402", "http://u:p@gate", "http://gate/?a"] {
        let (code, _, stderr) = output(tollgate(dir.path()).args(["env", "--url", url]));
        assert_eq!(code, Some(2), "{url}");
        assert!(
            stderr.contains("--url is not the address of a proxy") && !stderr.contains("u:p"),
            "{stderr}"
        );
    }
}

#[test]
fn an_http_proxy_is_kept_out_of_the_way_to_loopback() {
    let dir = dir();
    let mut command = tollgate(dir.path());
    command
        .arg("env")
        .env("HTTP_PROXY", "http://proxy:3128")
        .env("NO_PROXY", "internal");
    let (_, stdout, _) = output(&mut command);
    assert!(
        stdout.contains(
            "export NO_PROXY='internal,127.0.0.1'\nexport no_proxy='internal,127.0.0.1'\n"
        ),
        "{stdout}"
    );
    let (_, stdout, _) = output(command.env("NO_PROXY", "127.0.0.1"));
    assert!(!stdout.contains("NO_PROXY"), "{stdout}");
}

#[cfg(unix)]
#[test]
fn run_sets_the_variables_and_passes_on_output_and_exit_code() {
    let dir = dir();
    let script = "printf %s \"$ANTHROPIC_BASE_URL\"; printf err >&2; exit 7";
    let (code, stdout, stderr) =
        output(tollgate(dir.path()).args(["run", "-s", "a", "--", "sh", "-c", script]));
    assert_eq!(
        (code, stdout.as_str(), stderr.as_str()),
        (Some(7), "http://127.0.0.1:8402/@a/anthropic", "err")
    );
    let (code, stdout, _) = output(tollgate(dir.path()).args(["run", "echo", "-s", "--json"]));
    assert_eq!(
        (code, stdout.as_str()),
        (Some(0), "-s --json\n"),
        "the command's own options stay its own"
    );
}

#[cfg(unix)]
#[test]
fn run_dies_of_the_signal_that_its_command_dies_of() {
    use std::os::unix::process::ExitStatusExt as _;
    let dir = dir();
    let status = tollgate(dir.path())
        .args(["run", "--", "sh", "-c", "kill -TERM $$"])
        .status()
        .expect("starts");
    assert_eq!(status.signal(), Some(15));
    // So a shell says 128 + 15.
    let script = "\"$0\" run -- sh -c 'kill -TERM $$'; exit $?";
    let mut shell = Command::new("sh");
    shell
        .args(["-c", script, env!("CARGO_BIN_EXE_tollgate")])
        .current_dir(dir.path())
        .env("HOME", dir.path());
    assert_eq!(output(&mut shell).0, Some(143));
}

#[cfg(unix)]
#[test]
fn run_tells_a_missing_command_from_one_that_cannot_be_executed() {
    let dir = dir();
    let (code, _, stderr) =
        output(tollgate(dir.path()).args(["run", "--", "no-such-command-here"]));
    assert_eq!(code, Some(127));
    assert!(
        stderr.starts_with("error: command not found: no-such-command-here\nhint: "),
        "{stderr}"
    );
    std::fs::write(dir.path().join("plain"), "text").expect("a file");
    let (code, _, stderr) = output(tollgate(dir.path()).args(["run", "--", "./plain"]));
    assert_eq!(code, Some(126));
    assert!(
        stderr.starts_with("error: cannot execute ./plain\n  cause: "),
        "{stderr}"
    );
    let (code, _, _) = output(tollgate(dir.path()).arg("run"));
    assert_eq!(code, Some(2));
}

#[test]
fn init_writes_a_file_that_changes_nothing_and_overwrites_none() {
    let dir = dir();
    let (code, stdout, stderr) = output(tollgate(dir.path()).arg("init"));
    assert_eq!((code, stdout.as_str()), (Some(0), ""));
    assert!(stderr.starts_with("wrote tollgate.toml"), "{stderr}");
    let (code, stdout, stderr) = output(tollgate(dir.path()).args(["check", "--json"]));
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    let report: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(report["file"], "tollgate.toml");
    let values = report["values"].as_object().expect("values");
    assert!(
        values.values().all(|value| value["from"] == "default"),
        "{stdout}"
    );

    let (code, _, stderr) = output(tollgate(dir.path()).arg("init"));
    assert_eq!(
        (code, stderr.as_str()),
        (
            Some(2),
            "error: tollgate.toml exists\nhint: --force overwrites it\n"
        )
    );
    assert_eq!(
        output(tollgate(dir.path()).args(["init", "--force"])).0,
        Some(0)
    );
    let (code, _, stderr) = output(tollgate(dir.path()).args(["init", "no/such/dir.toml"]));
    assert_eq!(code, Some(1));
    assert!(
        stderr.starts_with("error: cannot write no/such/dir.toml\n  cause: "),
        "{stderr}"
    );
}

#[test]
fn check_tells_values_with_their_origin_or_every_problem() {
    let dir = dir();
    let file = dir.path().join("tollgate.toml");
    std::fs::write(&file, "[server]\nmax_body = '1 MiB'\n").expect("a file");
    let (code, stdout, _) = output(
        tollgate(dir.path())
            .args(["check", "-v"])
            .env("TOLLGATE_UPSTREAM_POOL_MAX_IDLE", "5"),
    );
    assert_eq!(code, Some(0));
    let row = |key: &str| {
        let line = stdout
            .lines()
            .find(|line| line.trim_start().starts_with(key))
            .unwrap_or_default();
        line.split_whitespace()
            .skip(1)
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert!(
        stdout.starts_with("config file: tollgate.toml\n"),
        "{stdout}"
    );
    assert_eq!(row("server.max_body"), "1 MiB tollgate.toml:2");
    assert_eq!(
        row("upstream.pool_max_idle"),
        "5 $TOLLGATE_UPSTREAM_POOL_MAX_IDLE"
    );
    assert_eq!(row("log.level"), "debug --verbose");
    assert_eq!(row("server.listen"), "127.0.0.1:8402 default");

    std::fs::write(&file, "[server]\nlissten = 1\nmax_body = 'x'\n").expect("a file");
    let (code, stdout, stderr) = output(tollgate(dir.path()).arg("check"));
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.contains("unknown key `server.lissten`"), "{stderr}");
    assert!(
        stderr.ends_with("\n\nerror: the configuration has 2 problems\n"),
        "{stderr}"
    );
    assert!(
        !stderr.contains('\u{1b}'),
        "no colours where there is no terminal"
    );
    let (code, stdout, stderr) = output(tollgate(dir.path()).args(["check", "--json"]));
    assert_eq!((code, stderr.as_str()), (Some(1), ""));
    let report: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(report["ok"], false);
    assert_eq!(report["problems"][0]["line"], 2);

    let (code, _, stderr) = output(tollgate(dir.path()).arg("env"));
    assert_eq!(
        code,
        Some(2),
        "for other commands a wrong configuration is a mistake of usage: {stderr}"
    );
    let (code, _, stderr) = output(tollgate(dir.path()).args(["env", "--config", "none.toml"]));
    assert_eq!(code, Some(2));
    assert!(
        stderr.starts_with("error: cannot read the config file none.toml (--config)\n  cause: "),
        "{stderr}"
    );
    assert!(stderr.contains("\nhint: "), "{stderr}");
}

#[test]
fn completions_know_the_commands() {
    let dir = dir();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let (code, stdout, _) = output(tollgate(dir.path()).args(["completions", shell]));
        assert_eq!(code, Some(0));
        assert!(
            stdout.contains("completions") && stdout.contains("ledger-dir"),
            "{shell}"
        );
    }
}

#[test]
fn help_documents_the_exit_codes() {
    let dir = dir();
    let (code, stdout, _) = output(tollgate(dir.path()).arg("--help"));
    assert_eq!(code, Some(0));
    assert!(
        stdout.contains("Exit codes:") && stdout.contains("127 if there is none"),
        "{stdout}"
    );
}
