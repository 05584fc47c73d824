//! What tollgate needs while little or nothing happens: memory and CPU of many open streams, the time to start, memory
//! when idle.

use std::fs;
use std::net::TcpStream;
use std::thread::sleep;
use std::time::Instant;

use anyhow::Context;

use crate::load::Outcome;
use crate::plan::{self, Scenario, Yields};
use crate::process::Party;
use crate::report::{Promise, Row, Way};
use crate::trial::{SETTLE, Trial, progress};

impl Trial {
    /// Many streams open at once, each with one chunk per second: memory per stream, and the share of one core.
    pub(crate) fn open_streams(&self, wanted: usize) -> anyhow::Result<Vec<Row>> {
        // A proxy holds two sockets per stream; some files are its own.
        let streams = wanted.min((open_files_limit() - 200) / 2);
        let title = format!("{streams} open streams, a chunk per second each");
        if !self.wants(&title) {
            return Ok(Vec::new());
        }
        let mut memory = Row::new(
            format!("{title}: resident memory per stream, KiB"),
            Promise::AtMost(plan::STREAM_KIB),
        );
        let mut share = Row::new(
            format!("{title}: CPU, % of one core"),
            Promise::AtMost(100.0),
        );
        let mut pace = Row::new(
            format!("{title}: chunks per second delivered"),
            Promise::None,
        );
        for round in 0..self.rounds.min(3) {
            for way in [Way::Bare, Way::Metered, Way::Tollgate] {
                progress(&format!("round {}: {title}", round + 1));
                let (_upstream, upstream) = self.upstream()?;
                let ledger = self
                    .launcher
                    .scratch
                    .join(format!("ledger-streams-{round}"));
                let server = self.server(way, &upstream, &ledger)?;
                let party = server
                    .party
                    .as_ref()
                    .context("every way but the direct one has a process")?;
                let mut scenario = Scenario {
                    title: "",
                    messages: false,
                    stream: None,
                    requests: 200,
                    concurrency: 8,
                    yields: Yields::Chunks,
                };
                self.load(&server, &scenario)?;
                sleep(SETTLE);
                let before = party.resident_kib()?;

                scenario.stream = Some((1_000_000, 1_000_000));
                scenario.requests = streams as u64;
                let mut clients = Party::start(self.load_command(&server, &scenario, true)?)?;
                clients.outcome::<Outcome>()?;
                sleep(SETTLE * 3);
                let (cpu, begin) = (party.cpu()?, Instant::now());
                sleep(SETTLE * 10);
                let (cpu, took) = (party.cpu()?.saturating_sub(cpu), begin.elapsed());
                let after = party.resident_kib()?;
                clients.close_input();
                let outcome: Outcome = clients.outcome()?;

                memory.push(way, after.saturating_sub(before) as f64 / streams as f64);
                share.push(way, 100.0 * cpu.as_secs_f64() / took.as_secs_f64());
                pace.push(way, outcome.events as f64 / outcome.seconds);
            }
        }
        Ok(vec![memory, share, pace])
    }

    /// How long it takes from the start to the first connection, and the memory a second later.
    pub(crate) fn start_and_idle(&self) -> anyhow::Result<Vec<Row>> {
        let mut start = Row::new(
            "from start to the first accepted connection, ms",
            Promise::AtMost(plan::START_MS),
        );
        let mut idle = Row::new(
            "resident memory when idle, MB",
            Promise::AtMost(plan::IDLE_MB),
        );
        if !self.wants(&start.title) && !self.wants(&idle.title) {
            return Ok(Vec::new());
        }
        progress("start and idle");
        for attempt in 0..10 {
            for way in [Way::Bare, Way::Tollgate] {
                let ledger = self
                    .launcher
                    .scratch
                    .join(format!("ledger-start-{attempt}"));
                let command = if way == Way::Tollgate {
                    self.tollgate(self.launcher.plain(&self.binary), "127.0.0.1:9", &ledger)
                } else {
                    let mut command = self.launcher.plain(&std::env::current_exe()?);
                    command.args(["bare", "--upstream", "127.0.0.1:9"]);
                    command
                };
                let begin = Instant::now();
                let (party, address) = Party::serve(command)?;
                TcpStream::connect(&address)?;
                start.push(way, begin.elapsed().as_secs_f64() * 1e3);
                sleep(SETTLE);
                idle.push(way, party.resident_kib()? as f64 * 1024.0 / 1e6);
            }
        }
        Ok(vec![start, idle])
    }
}

/// The hard limit, to which every party's own limit is raised.
fn open_files_limit() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    limits
        .lines()
        .find_map(|line| {
            line.strip_prefix("Max open files")?
                .split_whitespace()
                .nth(1)?
                .parse()
                .ok()
        })
        .unwrap_or(1024)
}
