//! The process edge: arguments in, exit code out; failures are told on standard error.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use tollgate::cli::Cli;
use tollgate::commands;

fn main() -> ExitCode {
    commands::run(Cli::parse()).unwrap_or_else(|failure| {
        // The stream takes the colours out when it is not a terminal. If it is closed, the exit code has to do.
        let _ = writeln!(anstream::stderr(), "{}", failure.render(true));
        failure.exit().into()
    })
}
