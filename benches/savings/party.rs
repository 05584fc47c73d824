//! The simulated provider and tollgate as processes: how they are started, and that they end with the run.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::Context;

/// A running server; killed when dropped.
pub(crate) struct Party {
    /// Where it listens: `http://HOST:PORT`.
    pub(crate) address: String,
    child: Child,
    /// Held open: a server that cannot write ends.
    stdout: BufReader<ChildStdout>,
}

impl Party {
    /// The provider. It refuses what the real models refuse, so a model that could not serve would be seen.
    pub(crate) fn provider(binary: &Path, scratch: &Path) -> anyhow::Result<Self> {
        let mut command = command(binary, scratch);
        command.args([
            "simulate",
            "--listen",
            "127.0.0.1:0",
            "--strict",
            "--keep-requests",
            "10",
        ]);
        Self::start(command)
    }

    /// tollgate with this configuration.
    pub(crate) fn tollgate(binary: &Path, scratch: &Path, config: &str) -> anyhow::Result<Self> {
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
        let mut party = Self {
            address: String::new(),
            child,
            stdout: BufReader::new(stdout),
        };
        let mut line = String::new();
        party.stdout.read_line(&mut line)?;
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
