//! The process edge: arguments in, exit code out; failures are told on standard error.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use tollgate::cli::Cli;
use tollgate::commands;

/// The path takes and gives back some eighty small pieces of memory for each request, most of them on another thread than
/// the one that took them; see docs/benchmarks.md for what this saves.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    commands::run(Cli::parse()).unwrap_or_else(|failure| {
        // The stream takes the colours out when it is not a terminal. If it is closed, the exit code has to do.
        let _ = writeln!(anstream::stderr(), "{}", failure.render(true));
        failure.exit().into()
    })
}
