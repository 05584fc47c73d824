//! `tollgate keys`: makes, lists, revokes and rotates clients' keys. A key goes to standard output alone, once, so that
//! `KEY=$(tollgate keys create ci)` works; everything else that is said goes to standard error.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;

use super::print;
use crate::config::nearest;
use crate::config::settings::{AuthMode, Settings};
use crate::failure::{Exit, Failure};
use crate::keys::{Key, KeyError, KeyFile, KeyFileError, KeyText, Keys, NewKey, State};
use crate::units::Priority;

/// Longest life that can be asked for; who wants a longer one wants a key that does not expire.
const LONGEST_LIFE: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Longest overlap of a rotation.
const LONGEST_OVERLAP: Duration = Duration::from_secs(365 * 24 * 3600);

/// `tollgate keys`.
#[derive(Debug, Args)]
pub struct KeysArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: KeysCommand,
}

/// What can be done with keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key and print it; this once, as only its hash is kept
    Create(CreateArgs),
    /// Show every key, without its secret
    List(ListArgs),
    /// Revoke a key for good; a running proxy follows within about a second
    Revoke(RevokeArgs),
    /// Give a key a new secret and print it; the one before holds for a while, so that clients can change over
    Rotate(RotateArgs),
}

/// `tollgate keys create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Whose it is: 1 to 64 lower-case letters, digits, - and _; its name in budgets, policies and the ledger
    pub name: String,
    /// Team whose budgets it draws on, of the teams in the config
    #[arg(long)]
    pub team: Option<String>,
    /// Tier, of those in the config [default: its team's, else auth.tier]
    #[arg(long)]
    pub tier: Option<String>,
    /// Priority of its requests that name none: low, normal, high or critical
    #[arg(long)]
    pub priority: Option<Priority>,
    /// Most urgent priority that its requests may have
    #[arg(long)]
    pub max_priority: Option<Priority>,
    /// When it ends: after a time (90d, 12h) or at a date (2027-01-31, local time) [default: never]
    #[arg(long, value_name = "WHEN")]
    pub expires: Option<String>,
    /// Let it read tollgate's own addresses (figures, names of sessions) from other machines
    #[arg(long)]
    pub admin: bool,
}

/// `tollgate keys list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `tollgate keys revoke`.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// The key
    pub name: String,
}

/// `tollgate keys rotate`.
#[derive(Debug, Args)]
pub struct RotateArgs {
    /// The key
    pub name: String,
    /// How long the secret before holds on; 0s for not at all
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = humantime::parse_duration)]
    pub overlap: Duration,
}

/// Runs one of the commands.
///
/// # Errors
/// What is asked for cannot be, or the keys file cannot be read or written.
pub fn run(args: &KeysArgs, settings: &Settings, now_unix_ms: u64) -> Result<ExitCode, Failure> {
    let file = KeyFile::at(&settings.auth.keys_file);
    let zone = TimeZone::system();
    let done = match &args.command {
        KeysCommand::Create(args) => create(args, settings, &file, now_unix_ms, &zone)?,
        KeysCommand::List(args) => list(args, &file, now_unix_ms, &zone)?,
        KeysCommand::Revoke(args) => revoke(args, &file, now_unix_ms)?,
        KeysCommand::Rotate(args) => rotate(args, &file, now_unix_ms, &zone)?,
    };
    match &done.result {
        Printed::Nothing => {}
        Printed::List(text) => print(text)?,
        Printed::Key { name, text } => print_key(name, text)?,
    }
    let mut said = done.said;
    if settings.auth.mode == AuthMode::Passthrough && !matches!(done.result, Printed::List(_)) {
        said.push_str(
            "note: no key is asked for while auth.mode is \"passthrough\"; set it to \"keys\"\n",
        );
    }
    // Nobody may be listening; what was asked for is done.
    let _ = anstream::stderr().write_all(said.as_bytes());
    Ok(Exit::Success.into())
}

/// What a command has done.
#[derive(Debug)]
struct Done {
    /// For standard output.
    result: Printed,
    /// For standard error.
    said: String,
}

#[derive(Debug)]
enum Printed {
    Nothing,
    List(String),
    Key { name: String, text: KeyText },
}

/// Prints a key. Unlike a list it must not be lost unnoticed.
fn print_key(name: &str, text: &KeyText) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let printed = writeln!(out, "{}", text.reveal()).and_then(|()| out.flush());
    printed.map_err(|error| {
        Failure::new("the key is in force, but cannot be written to standard output, and is lost")
            .because(error)
            .hint(format!(
                "`tollgate keys rotate {name} --overlap 0s` gives it another secret"
            ))
    })
}

fn create(
    args: &CreateArgs,
    settings: &Settings,
    file: &KeyFile,
    now_unix_ms: u64,
    zone: &TimeZone,
) -> Result<Done, Failure> {
    check_in_config("team", args.team.as_deref(), settings.teams.keys())?;
    check_in_config("tier", args.tier.as_deref(), settings.tiers.keys())?;
    let expires = args.expires.as_deref();
    let expires = expires
        .map(|text| end(text, now_unix_ms, zone))
        .transpose()?;
    let new = NewKey {
        name: args.name.clone(),
        team: args.team.clone(),
        tier: args.tier.clone(),
        priority: args.priority,
        max_priority: args.max_priority,
        admin: args.admin,
        expires_unix_ms: expires,
    };
    file.change(|keys| {
        let (key, text) = keys.create(new, now_unix_ms).map_err(failed)?;
        let mut said = format!("made key {}", key.name);
        for (what, value) in [("team", &key.team), ("tier", &key.tier)] {
            if let Some(value) = value {
                said.push_str(&format!(", {what} {value}"));
            }
        }
        if let Some(end) = key.expires_unix_ms {
            said.push_str(&format!(", expires {}", moment(end, zone)));
        }
        said.push_str("; it is shown this once\n");
        Ok(Done {
            result: Printed::Key {
                name: key.name.clone(),
                text,
            },
            said,
        })
    })
}

fn revoke(args: &RevokeArgs, file: &KeyFile, now_unix_ms: u64) -> Result<Done, Failure> {
    let name = &args.name;
    file.change(|keys| {
        let done = keys.revoke(name, now_unix_ms).map(drop);
        done.map_err(|error| failed_on(error, name, keys))?;
        Ok(Done {
            result: Printed::Nothing,
            said: format!(
                "revoked key {name} for good; requests that are running go on to their end\n"
            ),
        })
    })
}

fn rotate(
    args: &RotateArgs,
    file: &KeyFile,
    now_unix_ms: u64,
    zone: &TimeZone,
) -> Result<Done, Failure> {
    let name = &args.name;
    if args.overlap > LONGEST_OVERLAP {
        return Err(Failure::usage("--overlap is longer than a year").hint(
            "a rotation is there to end the secret before; some days are enough to change over",
        ));
    }
    let overlap_ms = millis(args.overlap);
    file.change(|keys| {
        let cut_short = keys.named(name).map(|key| key.state(now_unix_ms));
        let rotated = keys.rotate(name, overlap_ms, now_unix_ms);
        let rotated = rotated.map(|(_, text)| text);
        let text = rotated.map_err(|error| failed_on(error, name, keys))?;
        let mut said = if overlap_ms == 0 {
            format!("gave key {name} a new secret; the one before does not hold any more")
        } else {
            let until = moment(now_unix_ms.saturating_add(overlap_ms), zone);
            format!("gave key {name} a new secret; the one before holds until {until}")
        };
        if matches!(cut_short, Some(State::Rotating { .. })) {
            said.push_str("; the one before that, from the last rotation, ends now");
        }
        said.push_str("; it is shown this once\n");
        Ok(Done {
            result: Printed::Key {
                name: name.clone(),
                text,
            },
            said,
        })
    })
}

fn list(
    args: &ListArgs,
    file: &KeyFile,
    now_unix_ms: u64,
    zone: &TimeZone,
) -> Result<Done, Failure> {
    let keys = file.load()?;
    let none = keys.iter().next().is_none();
    let said = if none && !args.json {
        format!(
            "there are no keys in {}; `tollgate keys create NAME` makes one\n",
            file.path().display()
        )
    } else {
        String::new()
    };
    let result = if args.json {
        let keys: Vec<_> = keys.iter().map(|key| as_json(key, now_unix_ms)).collect();
        Printed::List(format!("{:#}\n", json!(keys)))
    } else if none {
        Printed::Nothing
    } else {
        Printed::List(table(&keys, now_unix_ms, zone))
    };
    Ok(Done { result, said })
}

fn table(keys: &Keys, now_unix_ms: u64, zone: &TimeZone) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header([
        "name", "state", "team", "tier", "priority", "admin", "created", "expires", "id",
    ]);
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    for key in keys.iter() {
        let state = match key.state(now_unix_ms) {
            State::Rotating { until_unix_ms } => {
                format!(
                    "active, rotated: until {} both",
                    moment(until_unix_ms, zone)
                )
            }
            state => state.as_str().to_owned(),
        };
        let priority = match (key.priority, key.max_priority) {
            (None, None) => "-".to_owned(),
            (Some(priority), None) => priority.to_string(),
            (None, Some(max)) => format!("at most {max}"),
            (Some(priority), Some(max)) => format!("{priority}, at most {max}"),
        };
        let expires = key.expires_unix_ms.map(|end| moment(end, zone));
        table.add_row([
            key.name.clone(),
            state,
            or_dash(&key.team),
            or_dash(&key.tier),
            priority,
            if key.admin { "yes" } else { "-" }.to_owned(),
            moment(key.created_unix_ms, zone),
            expires.unwrap_or_else(|| "never".to_owned()),
            key.id.clone(),
        ]);
    }
    let lines = table.lines().map(|line| line.trim_end().to_owned() + "\n");
    lines.collect()
}

fn as_json(key: &Key, now_unix_ms: u64) -> serde_json::Value {
    let state = key.state(now_unix_ms);
    let until = match state {
        State::Rotating { until_unix_ms } => Some(until_unix_ms),
        _ => None,
    };
    json!({
        "name": key.name,
        "id": key.id,
        "state": state.as_str(),
        "team": key.team,
        "tier": key.tier,
        "priority": key.priority.map(Priority::as_str),
        "max_priority": key.max_priority.map(Priority::as_str),
        "admin": key.admin,
        "created": timestamp(key.created_unix_ms),
        "expires": key.expires_unix_ms.and_then(timestamp),
        "revoked": key.revoked_unix_ms.and_then(timestamp),
        "previous_secret_until": until.and_then(timestamp),
    })
}

/// A moment for programs: RFC 3339 in UTC.
fn timestamp(unix_ms: u64) -> Option<String> {
    let timestamp = Timestamp::from_millisecond(i64::try_from(unix_ms).ok()?).ok()?;
    Some(timestamp.to_string())
}

/// A moment for people.
fn moment(unix_ms: u64, zone: &TimeZone) -> String {
    let timestamp = i64::try_from(unix_ms)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok());
    timestamp.map_or_else(
        || "after the end of the calendar".to_owned(),
        |timestamp| {
            let local = timestamp.to_zoned(zone.clone());
            local.strftime("%Y-%m-%d %H:%M").to_string()
        },
    )
}

/// Reads when a key is to end: a time from now, or a date.
fn end(text: &str, now_unix_ms: u64, zone: &TimeZone) -> Result<u64, Failure> {
    let never = "leave --expires out for a key that does not expire";
    let end = if let Ok(life) = humantime::parse_duration(text) {
        now_unix_ms.saturating_add(millis(life))
    } else {
        let date: jiff::civil::DateTime = text.parse().map_err(|_| {
            Failure::usage(format!("--expires: {text:?} is no time"))
                .hint("90d, 12h or a date such as 2027-01-31 is expected")
        })?;
        let moment = date.to_zoned(zone.clone());
        let moment = moment.map_err(|error| Failure::usage("--expires").because(error))?;
        u64::try_from(moment.timestamp().as_millisecond()).unwrap_or(0)
    };
    if end <= now_unix_ms {
        return Err(Failure::usage(format!("--expires: {text} is not in the future")).hint(never));
    }
    if end - now_unix_ms > millis(LONGEST_LIFE) {
        let message = format!("--expires: {text} is more than 100 years away");
        return Err(Failure::usage(message).hint(never));
    }
    Ok(end)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Whether the config has what a key is to be bound to.
fn check_in_config<'a>(
    what: &str,
    asked: Option<&str>,
    known: impl Iterator<Item = &'a String>,
) -> Result<(), Failure> {
    let Some(asked) = asked else {
        return Ok(());
    };
    let known: Vec<&str> = known.map(String::as_str).collect();
    if known.contains(&asked) {
        return Ok(());
    }
    let hint = match nearest(asked, known.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if known.is_empty() => format!("the config has no {what}s; add [{what}s.{asked}]"),
        None => format!("the config has: {}", known.join(", ")),
    };
    let message = format!("--{what}: there is no {what} `{asked}` in the config");
    Err(Failure::usage(message).hint(hint))
}

/// A command that named a key which is not there, or not fit for it.
fn failed_on(error: KeyError, name: &str, keys: &Keys) -> Failure {
    let unknown = matches!(error, KeyError::Unknown(_));
    let failure = failed(error);
    if !unknown {
        return failure;
    }
    let known: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
    match nearest(name, known) {
        Some(meant) => failure.hint(format!("did you mean `{meant}`?")),
        None => failure.hint("`tollgate keys list` shows those that there are"),
    }
}

fn failed(error: KeyError) -> Failure {
    let hint = match &error {
        KeyError::Taken(name) => Some(format!(
            "`tollgate keys rotate {name}` gives it a new secret; else choose another name"
        )),
        KeyError::TakenByRevoked(_) => Some("choose another name".to_owned()),
        KeyError::Expired(_) => Some("make another one".to_owned()),
        KeyError::Name { .. }
        | KeyError::Past
        | KeyError::Priorities { .. }
        | KeyError::Unknown(_)
        | KeyError::Revoked(_)
        | KeyError::Randomness(_) => None,
    };
    let message = error.to_string();
    let failure = match error {
        KeyError::Name { source, .. } => Failure::usage(message).because(source),
        KeyError::Past | KeyError::Priorities { .. } => Failure::usage(message),
        _ => Failure::new(message),
    };
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

impl From<KeyFileError> for Failure {
    fn from(error: KeyFileError) -> Self {
        Failure::new("cannot use the keys file").because(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::TeamSettings;
    use crate::config::{self, Inputs};

    const NOW: u64 = 1_795_176_000_000;
    const DAY_MS: u64 = 24 * 3600 * 1000;

    struct Bench {
        _dir: tempfile::TempDir,
        settings: Settings,
        file: KeyFile,
    }

    fn bench() -> Bench {
        let dir = tempfile::tempdir().expect("a directory");
        let inputs = Inputs {
            config: None,
            overrides: Vec::new(),
            environment: [("HOME".to_owned(), dir.path().display().to_string())].into(),
            working_dir: dir.path().to_path_buf(),
        };
        let mut settings = config::load(&inputs).expect("the defaults").settings;
        settings.teams = [("research".to_owned(), TeamSettings::default())].into();
        settings.tiers = [
            ("free".to_owned(), Default::default()),
            ("pro".to_owned(), Default::default()),
        ]
        .into();
        Bench {
            file: KeyFile::at(dir.path().join("keys.json")),
            _dir: dir,
            settings,
        }
    }

    fn args(name: &str) -> CreateArgs {
        CreateArgs {
            name: name.to_owned(),
            team: None,
            tier: None,
            priority: None,
            max_priority: None,
            expires: None,
            admin: false,
        }
    }

    impl Bench {
        fn create(&self, args: &CreateArgs) -> Result<Done, Failure> {
            create(args, &self.settings, &self.file, NOW, &TimeZone::UTC)
        }

        fn refused(&self, args: &CreateArgs) -> (Exit, String) {
            let failure = self.create(args).expect_err("it cannot be");
            (failure.exit(), failure.render(false))
        }

        fn listed(&self, json: bool) -> Done {
            let args = ListArgs { json };
            list(&args, &self.file, NOW, &TimeZone::UTC).expect("a good file")
        }
    }

    #[test]
    fn a_key_is_bound_to_what_the_config_has() {
        let bench = bench();
        let done = bench
            .create(&CreateArgs {
                team: Some("research".to_owned()),
                tier: Some("pro".to_owned()),
                expires: Some("90d".to_owned()),
                ..args("ci")
            })
            .expect("made");
        assert_eq!(
            done.said,
            "made key ci, team research, tier pro, expires 2027-02-18 12:00; it is shown this once\n"
        );
        let (exit, text) = bench.refused(&CreateArgs {
            team: Some("reserch".to_owned()),
            ..args("cd")
        });
        assert_eq!(exit, Exit::Usage);
        assert!(
            text.contains("no team `reserch`") && text.contains("did you mean `research`?"),
            "{text}"
        );
        let (_, text) = bench.refused(&CreateArgs {
            tier: Some("enterprise".to_owned()),
            ..args("cd")
        });
        assert!(text.contains("the config has: free, pro"), "{text}");
        assert_eq!(bench.file.load().expect("a good file").iter().count(), 1);
    }

    #[test]
    fn an_end_is_a_time_from_now_or_a_date_and_neither_past_nor_absurd() {
        let utc = TimeZone::UTC;
        let read = |text: &str| end(text, NOW, &utc).map_err(|failure| failure.render(false));
        assert_eq!(read("90d"), Ok(NOW + 90 * DAY_MS));
        assert_eq!(read("1s"), Ok(NOW + 1_000));
        assert_eq!(read("2026-11-21"), Ok(NOW + DAY_MS / 2));
        for (text, said) in [
            ("0s", "not in the future"),
            ("2026-11-20T12:00", "not in the future"),
            ("1969-01-01", "not in the future"),
            ("101y", "100 years"),
            ("9999-01-01", "100 years"),
            ("tomorrow", "is no time"),
            ("-5d", "is no time"),
            ("", "is no time"),
        ] {
            let message = read(text).expect_err("no end");
            assert!(message.contains(said), "{text}: {message}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_a_way_out() {
        let bench = bench();
        bench.create(&args("ci")).expect("made");
        let (exit, text) = bench.refused(&args("ci"));
        assert_eq!(exit, Exit::Failure);
        assert!(text.contains("tollgate keys rotate ci"), "{text}");
        let (exit, text) = bench.refused(&args("C I"));
        assert_eq!(exit, Exit::Usage);
        assert!(text.contains("lower-case letters"), "{text}");
        let (exit, _) = bench.refused(&CreateArgs {
            priority: Some(Priority::Critical),
            max_priority: Some(Priority::High),
            ..args("cd")
        });
        assert_eq!(exit, Exit::Usage);

        let revoked = |name: &str| {
            let args = RevokeArgs {
                name: name.to_owned(),
            };
            revoke(&args, &bench.file, NOW).map_err(|failure| failure.render(false))
        };
        let text = revoked("cj").expect_err("no such key");
        assert!(text.contains("did you mean `ci`?"), "{text}");
        revoked("ci").expect("revoked");
        let text = revoked("ci").expect_err("once is enough");
        assert!(text.contains("is revoked already"), "{text}");
        let (_, text) = bench.refused(&args("ci"));
        assert!(text.contains("choose another name"), "{text}");
    }

    #[test]
    fn a_rotation_says_how_long_the_secret_before_holds() {
        let bench = bench();
        bench.create(&args("ci")).expect("made");
        let rotated = |overlap| {
            let args = RotateArgs {
                name: "ci".to_owned(),
                overlap,
            };
            rotate(&args, &bench.file, NOW, &TimeZone::UTC)
        };
        let day = rotated(Duration::from_secs(24 * 3600)).expect("rotated");
        assert!(
            day.said.contains("holds until 2026-11-21 12:00"),
            "{}",
            day.said
        );
        let none = rotated(Duration::ZERO).expect("rotated");
        assert!(
            none.said.contains("does not hold any more"),
            "{}",
            none.said
        );
        assert!(none.said.contains("from the last rotation, ends now"));
        assert!(rotated(LONGEST_OVERLAP + Duration::from_secs(1)).is_err());
    }

    #[test]
    fn a_list_shows_everything_but_secrets() {
        let bench = bench();
        assert!(matches!(bench.listed(false).result, Printed::Nothing));
        assert!(bench.listed(false).said.contains("tollgate keys create"));
        let done = bench
            .create(&CreateArgs {
                max_priority: Some(Priority::High),
                admin: true,
                ..args("ci")
            })
            .expect("made");
        let Printed::Key { text, .. } = done.result else {
            panic!("a key expected")
        };
        bench.create(&args("old")).expect("made");
        let name = "old".to_owned();
        revoke(&RevokeArgs { name }, &bench.file, NOW).expect("revoked");
        let Printed::List(table) = bench.listed(false).result else {
            panic!("a table expected")
        };
        for part in [
            "ci",
            "active",
            "revoked",
            "at most high",
            "2026-11-20 12:00",
            "never",
        ] {
            assert!(table.contains(part), "{part}: {table}");
        }
        let Printed::List(json) = bench.listed(true).result else {
            panic!("JSON expected")
        };
        let listed: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(listed[0]["created"], "2026-11-20T12:00:00Z");
        assert_eq!(listed[0]["max_priority"], "high");
        assert_eq!(listed[1]["state"], "revoked");
        let secret = text.reveal().rsplit('_').next().expect("a last part");
        for shown in [&table, &json] {
            assert!(!shown.contains(secret) && !shown.contains("sha256"));
        }
    }
}
