//! The command line: commands, options and their help texts. What they do is in `commands`.
//!
//! There is no option for a secret: command lines are seen by every process on the machine.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands::demo::DemoArgs;
use crate::commands::events::EventsArgs;
use crate::commands::keys::KeysArgs;
use crate::commands::route::RouteArgs;
use crate::commands::session::Session;
use crate::commands::simulate::SimulateArgs;
use crate::commands::status::StatusArgs;
use crate::commands::usage::UsageArgs;
use crate::config::Override;
use crate::config::settings::LogFormat;
use crate::units::Priority;

const EXIT_CODES: &str = "\
Exit codes:
  0  it worked
  1  it was attempted and failed; `check`: the configuration is wrong (with --strict: or has a warning)
  2  the command line or the configuration is wrong
  `run` passes on its command's code: 126 if it cannot be executed, 127 if there is none, 128 + n after signal n

Settings come from the built-in default, one file, TOLLGATE_<SECTION>_<KEY> variables and flags; each goes before those
that are named before it. `tollgate check` shows them all.";

/// A local rate-limiting proxy for LLM APIs: every request identified, admitted, metered and priced
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, after_help = EXIT_CODES, max_term_width = 120)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub options: Options,
    /// The command; `serve` when there is none.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Options of every command.
#[derive(Debug, Clone, Default, Args)]
pub struct Options {
    /// Config file [default: $TOLLGATE_CONFIG, ./tollgate.toml, ~/.config/tollgate/tollgate.toml, or none]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one value, such as server.max_body="16 MiB"; may be repeated
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub set: Vec<(String, String)>,
    /// Address to listen on, or at which the proxy is [default: 127.0.0.1:8402]
    #[arg(long, global = true, value_name = "IP:PORT")]
    pub listen: Option<String>,
    /// Where requests are recorded [default: ~/.local/state/tollgate]
    #[arg(long, global = true, value_name = "DIR")]
    pub ledger_dir: Option<String>,
    /// Log more; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// Log less: warnings and errors; twice for errors only
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub quiet: u8,
    /// How log lines look
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

impl Options {
    /// The settings that these options override. A flag of its own goes before `--set`.
    pub fn overrides(&self) -> Vec<Override> {
        let over = |flag: &str, key: &str, value: &str| Override {
            flag: flag.to_owned(),
            key: key.to_owned(),
            value: value.to_owned(),
        };
        let mut overrides: Vec<Override> = self
            .set
            .iter()
            .map(|(key, value)| over(&format!("--set {key}"), key, value))
            .collect();
        let level = match (self.verbose, self.quiet) {
            (0, 0) => None,
            (1, _) => Some(("--verbose", "debug")),
            (0, 1) => Some(("--quiet", "warn")),
            (0, _) => Some(("--quiet", "error")),
            _ => Some(("--verbose", "trace")),
        };
        overrides.extend(level.map(|(flag, level)| over(flag, "log.level", level)));
        overrides.extend(
            self.log_format
                .map(|format| over("--log-format", "log.format", format.as_str())),
        );
        overrides.extend(
            self.listen
                .as_ref()
                .map(|address| over("--listen", "server.listen", address)),
        );
        overrides.extend(
            self.ledger_dir
                .as_ref()
                .map(|dir| over("--ledger-dir", "ledger.dir", dir)),
        );
        overrides
    }
}

fn key_and_value(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text
        .split_once('=')
        .ok_or("a key, = and a value are expected")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the proxy; no configuration is needed
    Serve,
    /// Run the proxy in front of a simulated provider with a little traffic: everything at work, without any API key
    Demo(DemoArgs),
    /// Answer like Anthropic, OpenAI, Gemini and Ollama, without a model: for trying out, tests and benchmarks
    Simulate(SimulateArgs),
    /// Show what was used: by session, key, team, provider, model, task, day, …
    Usage(UsageArgs),
    /// Show every budget with its level
    Status(StatusArgs),
    /// What would happen to a request now, and why: its task, the models that could serve it, what each would cost
    Route(RouteArgs),
    /// Show what the limits did: level changes, refusals, waits, violations of policies, estimates that were far off
    Events(EventsArgs),
    /// Run a command with the base URLs of every known SDK and agent pointing at the proxy
    Run(RunArgs),
    /// Print those base URLs as variables for the shell: eval "$(tollgate env -s docs -p low)"
    Env(EnvArgs),
    /// Make, list, revoke and rotate the keys that clients show in mode `keys`
    Keys(KeysArgs),
    /// Validate the configuration and print what it means
    Check(CheckArgs),
    /// Write a commented config file
    Init(InitArgs),
    /// Print completions for a shell
    Completions(CompletionsArgs),
}

/// How requests are tagged, and where the proxy is.
#[derive(Debug, Clone, Default, Args)]
pub struct TagArgs {
    /// Session that the requests belong to [default: what the client says itself]
    #[arg(short, long)]
    pub session: Option<Session>,
    /// low, normal, high or critical; without -s the session is `default`
    #[arg(short, long)]
    pub priority: Option<Priority>,
    /// Where the proxy is [default: the configured address]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
}

/// `tollgate run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// How the requests are tagged.
    #[command(flatten)]
    pub tag: TagArgs,
    /// The command and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    pub command: Vec<OsString>,
}

/// `tollgate env`.
#[derive(Debug, Args)]
pub struct EnvArgs {
    /// How the requests are tagged.
    #[command(flatten)]
    pub tag: TagArgs,
    /// For which shell [default: that of $SHELL]
    #[arg(long)]
    pub shell: Option<ShellSyntax>,
}

/// How a shell sets variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ShellSyntax {
    /// bash, zsh and every other POSIX shell
    #[value(alias = "zsh", alias = "sh")]
    Bash,
    /// fish
    Fish,
    /// PowerShell
    #[value(name = "powershell", alias = "pwsh")]
    PowerShell,
}

/// `tollgate check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Print JSON, also for the problems
    #[arg(long)]
    pub json: bool,
    /// Fail when there is a warning
    #[arg(long)]
    pub strict: bool,
}

/// `tollgate init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// What the file is for [default: the reference, with every setting switched off]
    #[arg(long, value_enum)]
    pub preset: Option<Preset>,
    /// Overwrite a file that exists
    #[arg(long)]
    pub force: bool,
    /// Where to write it
    #[arg(default_value = "tollgate.toml")]
    pub path: PathBuf,
}

/// What a new config file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// The limits of the guide, written out: sessions of one person or a few agents
    Guide,
    /// Many agents at once: roomier sessions, and a patient line for low priority
    Agents,
    /// A gateway for teams: tollgate keys, tiers, and budgets for teams and keys
    Team,
    /// Identify, meter, price and record every request, and say what would be refused; refuse none
    Observe,
}

impl Preset {
    /// Every preset.
    pub const ALL: [Preset; 4] = [Preset::Guide, Preset::Agents, Preset::Team, Preset::Observe];

    /// The text of its file.
    pub const fn text(self) -> &'static str {
        match self {
            Preset::Guide => include_str!("../config/presets/guide.toml"),
            Preset::Agents => include_str!("../config/presets/agents.toml"),
            Preset::Team => include_str!("../config/presets/team.toml"),
            Preset::Observe => include_str!("../config/presets/observe.toml"),
        }
    }
}

/// `tollgate completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_work_before_and_after_the_command_and_a_command_of_run_keeps_its_own() {
        let cli = Cli::try_parse_from([
            "tollgate",
            "--listen",
            "127.0.0.1:1",
            "run",
            "-s",
            "a",
            "--",
            "sh",
            "-c",
            "x",
            "-q",
        ])
        .expect("a good command line");
        assert_eq!(cli.options.listen.as_deref(), Some("127.0.0.1:1"));
        assert_eq!(cli.options.quiet, 0);
        let Some(Command::Run(run)) = cli.command else {
            panic!("run expected")
        };
        assert_eq!(run.command, ["sh", "-c", "x", "-q"]);
        let cli = Cli::try_parse_from([
            "tollgate",
            "check",
            "-vv",
            "--set",
            "server.max_body = 1 MiB",
        ])
        .expect("a good command line");
        let set: Vec<_> = cli
            .options
            .overrides()
            .into_iter()
            .map(|flag| (flag.flag, flag.value))
            .collect();
        assert_eq!(
            set,
            [("--set server.max_body", "1 MiB"), ("--verbose", "trace")]
                .map(|(f, v)| (f.to_owned(), v.to_owned()))
        );
    }
}
