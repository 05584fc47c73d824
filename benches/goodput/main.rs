//! How well a provider's limit is used, and at whose cost: 20 sessions against the simulated provider, once directly with
//! the official SDKs' retry rules, once through tollgate, in one run.
//!
//! `cargo bench --bench goodput` (or `scripts/goodput`) prints the definitions and one Markdown table for each scenario.
//! Provider and tollgate are processes of the release build; the load comes from this one. The method stands in
//! `docs/goodput.md`.

mod client;
mod crowd;
mod figures;
mod job;
#[path = "../overhead/machine.rs"]
mod machine;
mod party;
mod plan;
mod provider;
mod report;
mod sdk;
mod trial;

use std::path::PathBuf;

use clap::Parser;

/// Measures goodput, refusals, failures and fairness against a provider with limits.
#[derive(Parser)]
#[command(name = "goodput")]
struct Arguments {
    /// Measures only scenarios whose name contains this text.
    #[arg(long, default_value = "")]
    only: String,
    /// Leaves out the run through tollgate.
    #[arg(long, conflicts_with = "tollgate_only")]
    direct_only: bool,
    /// Leaves out the direct runs.
    #[arg(long)]
    tollgate_only: bool,
    /// A third of the time: to see that everything runs, not for figures to quote.
    #[arg(long)]
    quick: bool,
    /// The program to measure instead of the one built along with this benchmark.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Passed by `cargo bench`; without it (`cargo test --all-targets`) nothing is measured.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if !arguments.bench {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(trial::run(&arguments))
}
