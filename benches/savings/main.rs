//! What routing saves on the guide's load: half ui, three tenths coding, two tenths documentation, a day of 1,000 requests
//! on a premium model, through a real tollgate to the simulated provider, at the prices of today's catalogue.
//!
//! `scripts/savings` prints Markdown: the assumptions, and one table for each vendor with the cost that the ledger holds
//! after each run (routing off, shadow, on, and on with development on a local model) beside what the guide says. The
//! method stands in `docs/savings.md`.

mod day;
mod figures;
mod load;
mod party;
mod prompts;
mod report;
mod vendor;

use std::io::Write;
use std::path::PathBuf;

use clap::Parser;
use tollgate::llm::catalogue::Catalogue;

use crate::day::Run;
use crate::vendor::Vendor;

/// Measures what routing saves on the guide's load.
#[derive(Parser)]
#[command(name = "savings")]
struct Arguments {
    /// Only this run (may be repeated) [default: all]
    #[arg(long, value_enum)]
    only: Vec<Run>,
    /// Only this vendor's models
    #[arg(long, value_enum)]
    vendor: Option<Vendor>,
    /// Requests of a day; the guide's figures are for 1000
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(10..))]
    requests: u32,
    /// All requests in one session, instead of one for each of the guide's agents
    #[arg(long)]
    one_session: bool,
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
    runtime.block_on(measure(&arguments))
}

async fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let binary = party::binary(arguments.binary.as_ref())?;
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let catalogue = Catalogue::builtin();
    let load = load::day(arguments.requests, arguments.one_session);
    say(&report::assumptions(&catalogue, load.len()))?;
    for vendor in Vendor::ALL {
        if arguments.vendor.is_some_and(|only| only != vendor) {
            continue;
        }
        let mut days = Vec::new();
        for run in Run::ALL {
            if arguments.only.is_empty() || arguments.only.contains(&run) {
                let scratch = tempfile::tempdir_in(scratch.path())?;
                days.push(day::through(&binary, scratch.path(), vendor, run, &load).await?);
            }
        }
        say(&report::of_vendor(&catalogue, vendor, &load, &days))?;
    }
    Ok(())
}

fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(())
}
