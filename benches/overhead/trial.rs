//! One run of the benchmark: what it needs, how each server is started and loaded, and the report at its end.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::Arguments;
use crate::bare::WORKERS;
use crate::load::Outcome;
use crate::machine;
use crate::plan::Scenario;
use crate::process::{Launcher, Party, Place};
use crate::report::{Way, table};

/// Work that is done after an answer (the ledger's writer, freed memory) is counted too: so long after the load.
pub(crate) const SETTLE: Duration = Duration::from_secs(1);

/// Runs everything and prints the table.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    ensure!(
        cfg!(target_os = "linux"),
        "this benchmark reads CPU time and memory from Linux's /proc"
    );
    let binary = arguments
        .binary
        .clone()
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_tollgate")));
    let binary =
        fs::canonicalize(&binary).with_context(|| format!("no program at {}", binary.display()))?;
    // In the build directory, because /tmp is memory on many machines and a ledger there would cost nothing.
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let trial = Trial {
        launcher: Launcher {
            pinned: can_pin(),
            scratch: scratch.path().to_owned(),
        },
        binary,
        rounds: if arguments.quick {
            2
        } else {
            arguments.rounds.max(1)
        },
        share: if arguments.quick { 0.2 } else { 1.0 },
        only: arguments.only.clone(),
    };

    let facts = machine::describe(scratch.path());
    let mut rows = trial.loads()?;
    rows.extend(trial.open_streams(arguments.streams)?);
    rows.extend(trial.start_and_idle()?);

    let mut out = std::io::stdout().lock();
    writeln!(out)?;
    for (name, value) in facts {
        writeln!(out, "- {name}: {value}")?;
    }
    writeln!(
        out,
        "- {} rounds; {} worker threads per proxy; {}; cells: median (smallest–largest round)",
        trial.rounds,
        WORKERS,
        if trial.launcher.pinned {
            "proxy pinned to one core, upstream and load to another"
        } else {
            "not pinned"
        },
    )?;
    writeln!(
        out,
        "- again: `cargo bench --bench overhead -- --rounds {}`\n",
        trial.rounds
    )?;
    write!(out, "{}", table(&rows))?;
    Ok(())
}

/// Whether two processors and the command that binds a process to one of them are there.
fn can_pin() -> bool {
    let pins = std::process::Command::new("taskset")
        .args(["-c", "1", "true"])
        .status();
    pins.is_ok_and(|status| status.success())
}

/// Tells whoever waits how far the run is.
pub(crate) fn progress(text: &str) {
    // Where progress cannot be shown the table still can.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// One run: what to start, how often and how much.
pub(crate) struct Trial {
    pub(crate) launcher: Launcher,
    pub(crate) binary: PathBuf,
    pub(crate) rounds: usize,
    pub(crate) share: f64,
    pub(crate) only: String,
}

/// A server under test and where it listens; of the direct way, the upstream's address alone.
pub(crate) struct Server {
    pub(crate) way: Way,
    pub(crate) party: Option<Party>,
    pub(crate) address: String,
}

impl Trial {
    /// Whether rows with this title were asked for.
    pub(crate) fn wants(&self, title: &str) -> bool {
        title.contains(&self.only)
    }

    /// Starts the provider.
    pub(crate) fn upstream(&self) -> anyhow::Result<(Party, String)> {
        Party::serve(self.launcher.role(Place::Around, &["upstream"])?)
    }

    /// Starts one way to the provider.
    pub(crate) fn server(&self, way: Way, upstream: &str, ledger: &Path) -> anyhow::Result<Server> {
        let bare = ["bare", "--upstream", upstream, "--metered"];
        let (party, address) = match way {
            Way::Direct => {
                return Ok(Server {
                    way,
                    party: None,
                    address: upstream.to_owned(),
                });
            }
            Way::Bare => Party::serve(self.launcher.role(Place::Proxy, &bare[..3])?)?,
            Way::Metered => Party::serve(self.launcher.role(Place::Proxy, &bare)?)?,
            Way::Tollgate => Party::serve(self.tollgate(
                self.launcher.command(&self.binary, Place::Proxy),
                upstream,
                ledger,
            ))?,
        };
        Ok(Server {
            way,
            party: Some(party),
            address,
        })
    }

    /// Tollgate with everything on: these are its defaults, but with budgets that so many requests do not fill, and without
    /// heeding the limits that the provider states, which would be what is measured then.
    pub(crate) fn tollgate(
        &self,
        mut command: std::process::Command,
        upstream: &str,
        ledger: &Path,
    ) -> std::process::Command {
        command
            .args([
                "serve",
                "--quiet",
                "--listen",
                "127.0.0.1:0",
                "--ledger-dir",
            ])
            .arg(ledger);
        for provider in ["openai", "anthropic"] {
            command
                .arg("--set")
                .arg(format!("providers.{provider}.base_url=http://{upstream}"));
        }
        command.args(["--set", "send.learn=false"]);
        for (budget, unit) in [
            ("session-tokens-hour", "tokens"),
            ("session-tokens-day", "tokens"),
            ("session-usd-hour", "usd"),
            ("session-usd-day", "usd"),
            ("global-tokens-hour", "tokens"),
            ("global-tokens-day", "tokens"),
            ("global-usd-month", "usd"),
        ] {
            command
                .arg("--set")
                .arg(format!("budgets.{budget}.limit=1000000000 {unit}"));
        }
        command
    }

    /// Lets the clients send one load.
    pub(crate) fn load(&self, server: &Server, scenario: &Scenario) -> anyhow::Result<Outcome> {
        let outcome: Outcome =
            Party::start(self.load_command(server, scenario, false)?)?.outcome()?;
        ensure!(
            outcome.requests == scenario.requests,
            "{} of {} requests",
            outcome.requests,
            scenario.requests
        );
        Ok(outcome)
    }

    /// The clients of a load; `hold`: they keep their streams open until their standard input ends.
    pub(crate) fn load_command(
        &self,
        server: &Server,
        scenario: &Scenario,
        hold: bool,
    ) -> anyhow::Result<std::process::Command> {
        let mut command = self
            .launcher
            .role(Place::Around, &["load", "--target", &server.address])?;
        command.args(["--requests", &scenario.requests.to_string()]);
        command.args(["--concurrency", &scenario.concurrency.to_string()]);
        if scenario.messages {
            command.arg("--messages");
        }
        if let Some((chunks, pace)) = scenario.stream {
            command.arg("--stream").arg(format!("{chunks}:{pace}"));
        }
        if hold {
            command.arg("--hold").stdin(std::process::Stdio::piped());
        }
        Ok(command)
    }
}
