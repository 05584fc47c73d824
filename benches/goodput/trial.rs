//! One run of the benchmark: scenario after scenario, all parties of a scenario at the same time.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::Arguments;
use crate::client::Caller;
use crate::crowd;
use crate::figures::{DEFINITIONS, Figures, Seen};
use crate::machine;
use crate::party::{self, Party};
use crate::plan::{self, Scenario};
use crate::provider::Provider;
use crate::report;

/// How clients reach the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Directly, trying again so often.
    Direct(u32),
    /// Through tollgate.
    Tollgate,
}

impl Way {
    /// The row's title.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Way::Direct(0) => "direct, no retries",
            Way::Direct(2) => "direct, SDK default (2)",
            Way::Direct(_) => "direct, 10 retries",
            Way::Tollgate => "tollgate",
        }
    }
}

/// Retries of SDKs that are left as they come.
const SDK_RETRIES: u32 = 2;

/// Runs everything and prints the tables as they come.
pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let binary = party::binary(arguments.binary.as_ref())?;
    // In the build directory, because /tmp is memory on many machines and a ledger there would cost nothing.
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut ways = Vec::new();
    if !arguments.tollgate_only {
        ways.extend([Way::Direct(0), Way::Direct(SDK_RETRIES), Way::Direct(10)]);
    }
    if !arguments.direct_only {
        ways.push(Way::Tollgate);
    }
    say(&format!("{DEFINITIONS}\n"))?;
    for (name, value) in machine::describe(scratch.path()) {
        say(&format!("- {name}: {value}"))?;
    }
    let share = if arguments.quick { 1.0 / 3.0 } else { 1.0 };
    for scenario in plan::scenarios(share) {
        if !scenario.name.contains(&arguments.only) {
            continue;
        }
        let mut runs = JoinSet::new();
        for (place, way) in ways.iter().copied().enumerate() {
            let (binary, scenario) = (binary.clone(), scenario.clone());
            let scratch = tempfile::tempdir_in(scratch.path())?;
            runs.spawn(async move {
                let figures = one(&binary, scratch.path(), &scenario, way).await;
                let figures =
                    figures.with_context(|| format!("{}, {}", scenario.name, way.name()))?;
                anyhow::Ok((place, way, figures))
            });
        }
        let mut rows = Vec::new();
        while let Some(run) = runs.join_next().await {
            rows.push(run??);
        }
        rows.sort_by_key(|(place, ..)| *place);
        let rows: Vec<_> = rows
            .into_iter()
            .map(|(_, way, figures)| (way, figures))
            .collect();
        say(&format!("\n{}", report::table(&scenario, &rows).trim_end()))?;
    }
    Ok(())
}

/// One scenario by one way.
async fn one(
    binary: &Path,
    scratch: &Path,
    scenario: &Scenario,
    way: Way,
) -> anyhow::Result<Figures> {
    let upstream = Party::provider(binary, scratch, scenario)?;
    let provider = Provider::new(&upstream.address);
    let proxy = match way {
        Way::Direct(_) => None,
        Way::Tollgate => Some(Party::tollgate(
            binary,
            scratch,
            scenario,
            &upstream.address,
        )?),
    };
    let base = match &proxy {
        None => upstream.address.clone(),
        Some(proxy) => format!("{}/{}", proxy.address, scenario.wire.provider()),
    };
    let script = scenario.outage.as_ref().map(|outage| {
        format!(
            "[[rule]]\nmatch = {{ from = \"{}ms\", until = \"{}ms\" }}\nanswer = {{ status = 529, latency = \"0s\" }}\n",
            (outage.start * 1e3) as u64,
            (outage.end * 1e3) as u64
        )
    });
    provider.begin(script.unwrap_or_default()).await?;
    let began = Instant::now();
    let at = |seconds: f64| began + Duration::from_secs_f64(seconds);
    let max_retries = match way {
        Way::Direct(retries) => retries,
        Way::Tollgate => SDK_RETRIES,
    };
    let caller = Caller::new(
        format!("{base}{}", scenario.wire.path()),
        scenario.wire,
        max_retries,
        at(scenario.end),
    );
    let watch = async {
        sleep_until(at(scenario.window.start)).await;
        let first = provider.counts(began).await?;
        sleep_until(at(scenario.window.end)).await;
        anyhow::Ok((first, provider.counts(began).await?))
    };
    let work = crowd::work(caller, &scenario.sessions, began, at(scenario.end));
    let (window, outcomes) = tokio::try_join!(watch, work)?;
    let seen = Seen {
        window,
        last: provider.counts(began).await?,
        timeline: provider.timeline().await?,
        outcomes,
    };
    Ok(Figures::of(scenario, &seen))
}

fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(())
}
