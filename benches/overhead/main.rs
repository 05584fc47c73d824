//! What tollgate costs: CPU, time and memory against the same upstream direct, through a bare hyper pass-through, and
//! through one that also parses the request and reads the usage. All in one run, in interleaved rounds.
//!
//! `cargo bench --bench overhead` (or `scripts/bench`) prints one Markdown table. Every party is a process of its own:
//! this binary starts itself again as `upstream`, `bare` and `load`. The method stands in `docs/benchmarks.md`.

mod audit;
mod bare;
mod load;
mod loads;
mod machine;
mod meter;
mod plan;
mod process;
mod report;
mod response;
mod standing;
mod trial;
mod upstream;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Measures what tollgate adds to a request, a stream and a machine.
#[derive(Parser)]
#[command(name = "overhead")]
struct Arguments {
    /// Interleaved rounds; the table shows medians and the smallest and largest round.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Two rounds of a fifth of the work: to see that everything runs, not for figures to quote.
    #[arg(long)]
    quick: bool,
    /// The program to measure instead of the one built along with this benchmark.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Streams that are open at the same time in the memory measurement.
    #[arg(long, default_value_t = 10_000)]
    streams: usize,
    /// Measures only rows whose title contains this text.
    #[arg(long, default_value = "")]
    only: String,
    /// Passed by `cargo bench`; without it (`cargo test --all-targets`) nothing is measured.
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

/// The parts that this binary plays when it starts itself.
#[derive(Subcommand)]
enum Role {
    /// The provider.
    #[command(hide = true)]
    Upstream,
    /// The pass-through that tollgate is compared with.
    #[command(hide = true)]
    Bare(bare::Options),
    /// The clients.
    #[command(hide = true)]
    Load(load::Options),
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match arguments.role {
        Some(Role::Upstream) => upstream::run(),
        Some(Role::Bare(options)) => bare::run(&options),
        Some(Role::Load(options)) => load::run(options),
        None if arguments.bench => trial::run(&arguments),
        None => Ok(()),
    }
}
