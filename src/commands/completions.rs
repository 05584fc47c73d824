//! `tollgate completions SHELL`: what the shell needs to complete the command line.

use std::process::ExitCode;

use clap::CommandFactory as _;

use super::print;
use crate::cli::{Cli, CompletionsArgs};
use crate::failure::{Exit, Failure};

/// Prints the completions.
///
/// # Errors
/// Standard output fails.
pub fn run(args: &CompletionsArgs) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "tollgate", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Success.into())
}
