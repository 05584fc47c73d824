//! `tollgate run -- CMD…`: a command with the variables of `tollgate env`.

use std::io::{Error, ErrorKind};
use std::process::{Command, ExitCode};

use super::{client_env, load};
use crate::cli::{Options, RunArgs};
use crate::failure::{Exit, Failure};

/// Executes the command in place of this process where the system can (so signals, job control and the exit status are
/// the command's own), else waits for it and returns its exit code.
///
/// # Errors
/// The configuration is wrong, the proxy's address is not known, or the command is not found or cannot be executed.
pub fn run(args: &RunArgs, options: &Options) -> Result<ExitCode, Failure> {
    let loaded = load(options)?;
    let mut variables = client_env::variables(&loaded, &args.tag)?;
    variables.extend(client_env::no_proxy(&loaded, &args.tag, |name| {
        std::env::var(name).ok()
    })?);
    let (program, arguments) = args
        .command
        .split_first()
        .ok_or_else(|| Failure::usage("no command to run"))?;
    let mut command = Command::new(program);
    command.args(arguments).envs(variables);
    let error = match execute(&mut command) {
        Ok(code) => return Ok(code),
        Err(error) => error,
    };
    let name = program.to_string_lossy();
    if error.kind() == ErrorKind::NotFound {
        return Err(
            Failure::with_exit(Exit::NotFound, format!("command not found: {name}")).hint(
                "the command and its arguments follow --, as in: tollgate run -s docs -- claude",
            ),
        );
    }
    Err(Failure::with_exit(Exit::NotExecutable, format!("cannot execute {name}")).because(error))
}

#[cfg(unix)]
fn execute(command: &mut Command) -> Result<ExitCode, Error> {
    use std::os::unix::process::CommandExt as _;
    // Comes back only when it fails.
    Err(command.exec())
}

#[cfg(not(unix))]
fn execute(command: &mut Command) -> Result<ExitCode, Error> {
    let status = command.status()?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(Exit::Failure.into(), ExitCode::from))
}
