//! The simulated provider and tollgate as processes: how they are started, and that they end with the run.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::Context;

use crate::job::{FIRST_TOKEN, TOKENS_PER_SECOND};
use crate::plan::Scenario;

/// A running server; killed when dropped.
pub(crate) struct Party {
    /// Where it listens: `http://HOST:PORT`.
    pub(crate) address: String,
    child: Child,
    /// Held open: a server that cannot write ends.
    _stdout: BufReader<ChildStdout>,
}

impl Party {
    /// The provider of a scenario.
    pub(crate) fn provider(
        binary: &Path,
        scratch: &Path,
        scenario: &Scenario,
    ) -> anyhow::Result<Self> {
        let limits = scratch.join("limits.toml");
        fs::write(&limits, format!("[class.\"*\"]\n{}\n", scenario.limits))?;
        let mut command = command(binary, scratch);
        command
            .args(["simulate", "--listen", "127.0.0.1:0", "--threads", "1"])
            .args(["--keep-requests", "10", "--limits"])
            .arg(&limits)
            .arg("--latency")
            .arg(format!("{}ms", FIRST_TOKEN.as_millis()))
            .arg("--tokens-per-second")
            .arg(TOKENS_PER_SECOND.to_string());
        Self::start(command)
    }

    /// tollgate before that provider. Budgets are off, because it is limits that are measured.
    pub(crate) fn tollgate(
        binary: &Path,
        scratch: &Path,
        scenario: &Scenario,
        upstream: &str,
    ) -> anyhow::Result<Self> {
        let provider = scenario.wire.provider();
        let mut config = format!(
            "[throttle]\nmode = \"off\"\n[providers.{provider}]\nbase_url = \"{upstream}\"\nlocal = false\n"
        );
        if !scenario.configured.is_empty() {
            config += &format!("[[limits]]\nprovider = \"{provider}\"\n");
            for (limit, amount) in scenario.configured {
                config += &format!("{limit} = {amount}\n");
            }
        }
        let file = scratch.join("tollgate.toml");
        fs::write(&file, config)?;
        let mut command = command(binary, scratch);
        command
            .args(["serve", "--quiet", "--listen", "127.0.0.1:0", "--config"])
            .arg(&file)
            .arg("--ledger-dir")
            .arg(scratch.join("ledger"));
        Self::start(command)
    }

    fn start(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        let stdout = child.stdout.take().context("its output is piped")?;
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        let mut party = Self {
            address: String::new(),
            child,
            _stdout: stdout,
        };
        let address = line
            .trim()
            .strip_prefix("listening on ")
            .with_context(|| format!("{command:?} said {line:?}, not where it listens"))?;
        party.address.push_str(address);
        Ok(party)
    }
}

impl Drop for Party {
    fn drop(&mut self) {
        // Nothing is left to be done for one that has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that no setting from outside reaches.
fn command(binary: &Path, scratch: &Path) -> Command {
    let mut command = Command::new(binary);
    command
        .current_dir(scratch)
        .env("XDG_CONFIG_HOME", scratch)
        .env("HOME", scratch)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy().to_ascii_uppercase();
        if text.ends_with("_PROXY") || text.starts_with("TOLLGATE_") {
            command.env_remove(name);
        }
    }
    command
}

/// The program to measure.
pub(crate) fn binary(given: Option<&PathBuf>) -> anyhow::Result<PathBuf> {
    let binary = given
        .cloned()
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_tollgate")));
    fs::canonicalize(&binary).with_context(|| format!("no program at {}", binary.display()))
}
