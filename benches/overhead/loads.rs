//! The loads, round by round: every round starts all parties afresh and gives each the same loads in turn, in an order
//! that changes from round to round, so that a drift of the machine hits all alike.

use std::thread::sleep;
use std::time::Duration;

use crate::audit;
use crate::load::Outcome;
use crate::plan::{self, Scenario, Yields};
use crate::process::Party;
use crate::report::{Promise, Row, Way};
use crate::trial::{SETTLE, Server, Trial, progress};

impl Trial {
    /// Runs all rounds of all loads.
    pub(crate) fn loads(&self) -> anyhow::Result<Vec<Row>> {
        let scenarios: Vec<Scenario> = plan::scenarios(self.share)
            .into_iter()
            .filter(|scenario| self.wants(scenario.title))
            .collect();
        let mut rows: Vec<Vec<Row>> = scenarios.iter().map(rows_of).collect();
        for round in 0..self.rounds {
            let (_upstream, upstream) = self.upstream()?;
            let ledger = self.launcher.scratch.join(format!("ledger-{round}"));
            let mut servers = Way::ALL
                .into_iter()
                .map(|way| self.server(way, &upstream, &ledger))
                .collect::<anyhow::Result<Vec<Server>>>()?;
            servers.rotate_left(round % Way::ALL.len());
            for (scenario, rows) in scenarios.iter().zip(&mut rows) {
                progress(&format!(
                    "round {} of {}: {}",
                    round + 1,
                    self.rounds,
                    scenario.title
                ));
                let mut direct = Outcome::default();
                let mut proxied = Vec::new();
                for server in &servers {
                    if server.way == Way::Direct && matches!(scenario.yields, Yields::Chunks) {
                        continue;
                    }
                    let (cpu, outcome) = self.measure(scenario, server)?;
                    if server.way == Way::Direct {
                        direct = outcome
                    } else {
                        proxied.push((server.way, cpu, outcome))
                    }
                }
                note(scenario, rows, &direct, &proxied);
            }
            if let Some(tollgate) = servers.iter().find(|server| server.way == Way::Tollgate) {
                let sent = scenarios
                    .iter()
                    .map(|it| it.requests + warm_up(it).requests)
                    .sum();
                audit::check(&tollgate.address, sent)?;
            }
        }
        Ok(rows.into_iter().flatten().collect())
    }

    /// Warms a server up and gives it one load; the CPU time that it took in all, and what the clients saw.
    fn measure(&self, scenario: &Scenario, server: &Server) -> anyhow::Result<(Duration, Outcome)> {
        self.load(server, &warm_up(scenario))?;
        let cpu = || server.party.as_ref().map_or(Ok(Duration::ZERO), Party::cpu);
        sleep(SETTLE / 2);
        let before = cpu()?;
        let outcome = self.load(server, scenario)?;
        if server.party.is_some() {
            sleep(SETTLE);
        }
        Ok((cpu()?.saturating_sub(before), outcome))
    }
}

/// A twentieth of a load, in short streams.
fn warm_up(scenario: &Scenario) -> Scenario {
    Scenario {
        requests: (scenario.requests / 20).max(scenario.concurrency as u64),
        stream: scenario.stream.map(|(chunks, pace)| (chunks.min(20), pace)),
        ..*scenario
    }
}

fn rows_of(scenario: &Scenario) -> Vec<Row> {
    let row = |what: &str, promise| Row::new(format!("{}: {what}", scenario.title), promise);
    match scenario.yields {
        Yields::Requests => vec![
            row("CPU per request, µs", Promise::Ratio(plan::REQUEST_RATIO)),
            row("latency p50, µs", Promise::None),
            row("latency p99, µs", Promise::None),
        ],
        Yields::SingleRequests => vec![
            row("CPU per request, µs", Promise::Ratio(plan::REQUEST_RATIO)),
            row("added to p50, µs", Promise::None),
            row("added to p99, µs", Promise::None),
        ],
        Yields::Chunks => vec![row("CPU per chunk, µs", Promise::Ratio(plan::CHUNK_RATIO))],
        Yields::SingleStreams => vec![
            row("first chunk later by, p50, µs", Promise::NotMore),
            row("each further chunk later by, p50, µs", Promise::None),
            row("each further chunk later by, p99, µs", Promise::None),
        ],
    }
}

/// Enters one round's figures of a scenario into its rows, in the order of `rows_of`.
fn note(
    scenario: &Scenario,
    rows: &mut [Row],
    direct: &Outcome,
    proxied: &[(Way, Duration, Outcome)],
) {
    if scenario.yields == Yields::Requests {
        rows[1].push(Way::Direct, direct.total.p50);
        rows[2].push(Way::Direct, direct.total.p99);
    }
    let mut enter = |way, figures: &[f64]| {
        for (row, figure) in rows.iter_mut().zip(figures) {
            row.push(way, *figure);
        }
    };
    for (way, cpu, outcome) in proxied {
        let each = |count: u64| cpu.as_secs_f64() * 1e6 / count as f64;
        match scenario.yields {
            Yields::Requests => enter(
                *way,
                &[each(outcome.requests), outcome.total.p50, outcome.total.p99],
            ),
            Yields::SingleRequests => enter(
                *way,
                &[
                    each(outcome.requests),
                    outcome.total.p50 - direct.total.p50,
                    outcome.total.p99 - direct.total.p99,
                ],
            ),
            Yields::Chunks => enter(*way, &[each(outcome.events)]),
            Yields::SingleStreams => enter(
                *way,
                &[
                    outcome.first.p50 - direct.first.p50,
                    outcome.age.p50 - direct.age.p50,
                    outcome.age.p99 - direct.age.p99,
                ],
            ),
        }
    }
}
