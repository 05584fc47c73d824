//! The commands, one file each: from arguments to an exit code.

pub mod check;
pub mod client_env;
mod climb;
pub mod completions;
pub mod demo;
pub mod env;
pub mod events;
pub mod format;
pub mod init;
pub mod keys;
mod moment;
pub mod route;
pub mod run;
pub mod serve;
pub mod session;
pub mod simulate;
mod source;
pub mod status;
mod traffic;
pub mod usage;

use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;

use crate::cli::{Cli, Command, Options};
use crate::clock::Clock;
use crate::config::{self, Inputs, Loaded};
use crate::failure::{Exit, Failure};
use crate::llm::catalogue::Catalogue;

/// Runs the command of a command line.
///
/// # Errors
/// The command's own.
pub fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let options = &cli.options;
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => {
            let loaded = load(options)?;
            check_routes(&loaded)?;
            serve::run(loaded.settings)
        }
        Command::Demo(args) => demo::run(&args, options),
        Command::Usage(args) => {
            let settings = load(options)?.settings;
            let report = usage::run(&args, &settings.ledger, Clock::system().source());
            print(
                &report.map_err(|error| Failure::new("cannot report the usage").because(error))?,
            )?;
            Ok(Exit::Success.into())
        }
        Command::Events(args) => {
            let settings = load(options)?.settings;
            let events = events::run(&args, &settings.ledger, Clock::system().source());
            print(&events.map_err(|error| Failure::new("cannot show the events").because(error))?)?;
            Ok(Exit::Success.into())
        }
        Command::Status(args) => {
            let settings = load(options)?.settings;
            let status = status::run(&args, &settings, Clock::system().source());
            print(&status.map_err(|error| Failure::new("cannot tell the status").because(error))?)?;
            Ok(Exit::Success.into())
        }
        Command::Route(args) => {
            let loaded = load(options)?;
            check_routes(&loaded)?;
            let told = route::run(&args, &loaded.settings);
            print(&told.map_err(|error| Failure::new("cannot tell the route").because(error))?)?;
            Ok(Exit::Success.into())
        }
        Command::Simulate(args) => simulate::run(args, options),
        Command::Run(args) => run::run(&args, options),
        Command::Env(args) => env::run(&args, options),
        Command::Keys(args) => {
            let settings = load(options)?.settings;
            keys::run(&args, &settings, Clock::system().unix_ms())
        }
        Command::Check(args) => check::run(&args, options),
        Command::Init(args) => init::run(&args),
        Command::Completions(args) => completions::run(&args),
    }
}

/// What the configuration is read from.
fn inputs(options: &Options) -> Inputs {
    Inputs::of_process(options.config.clone(), options.overrides())
}

/// Reads the configuration as the options say.
///
/// # Errors
/// It does not hold.
pub fn load(options: &Options) -> Result<Loaded, Failure> {
    config::load(&inputs(options)).map_err(Failure::from)
}

/// Holds the user's own routes against the catalogue. Without any there is nothing to hold, and the catalogue is read only
/// once.
fn check_routes(loaded: &Loaded) -> Result<(), Failure> {
    if !loaded.has_own_routes() {
        return Ok(());
    }
    let catalogue = Catalogue::builtin().extended(&loaded.settings.models);
    let catalogue = catalogue.map_err(|error| {
        Failure::usage("the prices under [[models]] cannot be used").because(error)
    })?;
    let checked = loaded.check_routing(&catalogue, Clock::system().unix_ms());
    checked.map_err(Failure::from)
}

/// Writes a result to standard output. A reader that has gone (`| head`) has read enough: that is no failure.
///
/// # Errors
/// Standard output fails in another way, such as on a full disk.
fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = anstream::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new("cannot write to standard output").because(error))
        }
        _ => Ok(()),
    }
}
