//! The parties as processes: how they are started and pinned, how they say their address, and what the kernel says
//! they used. Linux only, as it reads /proc.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Kernel ticks per second in /proc/PID/stat; fixed at 100 on all of Linux's common platforms.
const TICKS_PER_SECOND: u64 = 100;

/// Which processor a party runs on, where pinning is possible.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    /// The proxy under test, alone.
    Proxy,
    /// The upstream and the load, which would only wait for each other.
    Around,
}

/// Starts parties for one benchmark.
pub(crate) struct Launcher {
    /// Whether `taskset` and a second processor are there.
    pub(crate) pinned: bool,
    /// A directory without any configuration file, where all parties run.
    pub(crate) scratch: PathBuf,
}

impl Launcher {
    /// Prepares a command: pinned, with as many files as may be opened, and with no setting from outside.
    pub(crate) fn command(&self, program: &Path, place: Place) -> Command {
        let processor = match place {
            Place::Proxy if self.pinned => "taskset -c 1 ",
            Place::Around if self.pinned => "taskset -c 0 ",
            Place::Proxy | Place::Around => "",
        };
        let mut command = self.plain("sh".as_ref());
        command
            .arg("-c")
            .arg(format!(
                "ulimit -n $(ulimit -Hn); exec {processor}\"$0\" \"$@\""
            ))
            .arg(program);
        command
    }

    /// The same without the shell in between: neither pinned nor with more files than usual.
    pub(crate) fn plain(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(&self.scratch)
            .env("XDG_CONFIG_HOME", &self.scratch)
            .env("HOME", &self.scratch)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy().to_ascii_uppercase();
            if name_text.ends_with("_PROXY") || name_text.starts_with("TOLLGATE_") {
                command.env_remove(name);
            }
        }
        command
    }

    /// Starts this very program in one of its roles.
    pub(crate) fn role(&self, place: Place, arguments: &[&str]) -> anyhow::Result<Command> {
        let mut command = self.command(&std::env::current_exe()?, place);
        command.args(arguments);
        Ok(command)
    }
}

/// A running party; killed when dropped.
pub(crate) struct Party {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Party {
    /// Starts a party.
    pub(crate) fn start(mut command: Command) -> anyhow::Result<Party> {
        let mut child = command
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(
            child
                .stdout
                .take()
                .context("its standard output is piped")?,
        );
        Ok(Party {
            child,
            stdin,
            stdout,
        })
    }

    /// Starts a server and waits until it says where it listens.
    pub(crate) fn serve(command: Command) -> anyhow::Result<(Party, String)> {
        let mut party = Party::start(command)?;
        let line = party.line()?;
        let address = line
            .trim()
            .strip_prefix("listening on http://")
            .with_context(|| format!("expected `listening on http://…`, got {line:?}"))?
            .to_owned();
        Ok((party, address))
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        if self.stdout.read_line(&mut line)? == 0 {
            bail!("a party ended without a word: {}", self.child.wait()?);
        }
        Ok(line)
    }

    /// Waits for the next line and reads it as JSON.
    pub(crate) fn outcome<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        Ok(serde_json::from_str(&self.line()?)?)
    }

    /// Ends its standard input.
    pub(crate) fn close_input(&mut self) {
        self.stdin = None;
    }

    /// CPU time used so far, user and system, over all its threads.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let stat = self.proc("stat")?;
        // The second field is the name in parentheses and may hold spaces; utime and stime are the 14th and 15th.
        let fields: Vec<&str> = stat
            .rsplit_once(") ")
            .context("no name in stat")?
            .1
            .split(' ')
            .collect();
        let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        let coarse = Duration::from_secs_f64(ticks as f64 / TICKS_PER_SECOND as f64);

        // The same in nanoseconds, but only of threads that still live. Both agree to within a tick or two unless a
        // thread that did some work has ended.
        let mut fine = Duration::ZERO;
        for thread in fs::read_dir(self.path("task"))? {
            let Ok(schedstat) = fs::read_to_string(thread?.path().join("schedstat")) else {
                continue;
            };
            let ran = schedstat.split(' ').next().unwrap_or_default().parse()?;
            fine += Duration::from_nanos(ran);
        }
        let gap = coarse.abs_diff(fine);
        Ok(if gap > Duration::from_millis(30) {
            coarse
        } else {
            fine
        })
    }

    /// Resident memory now, in KiB.
    pub(crate) fn resident_kib(&self) -> anyhow::Result<u64> {
        self.status("VmRSS:")
    }

    fn status(&self, name: &str) -> anyhow::Result<u64> {
        let status = self.proc("status")?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .context("no such line in status")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    fn proc(&self, file: &str) -> anyhow::Result<String> {
        fs::read_to_string(self.path(file)).context("a party has ended")
    }

    fn path(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.child.id()))
    }
}

impl Drop for Party {
    fn drop(&mut self) {
        // Nothing is left to be done for one that has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says where a server listens, in tollgate's words.
pub(crate) fn announce(address: SocketAddr) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "listening on http://{address}")?;
    Ok(())
}

/// Prints one line of JSON for the process that measures.
pub(crate) fn report_line(value: &impl Serialize) -> anyhow::Result<()> {
    let line = serde_json::to_string(value)?;
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}
