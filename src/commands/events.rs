//! `tollgate events`: what the limits did. Level changes, refusals, waits, violations, and estimates that were far off.

mod rendering;

use clap::Args;

use super::format::FormatArgs;
use super::moment;
use super::source::{self, Source};
use crate::config::settings::LedgerSettings;
use crate::store::WallClock;
use crate::store::event::EventKind;
use crate::store::event_query::{self, EventQuery, Events};

/// What `tollgate events` is asked.
#[derive(Debug, Clone, Default, Args)]
pub struct EventsArgs {
    /// Begin here: a time ago (1h, 7d) or a date (2026-11-01, local time)
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// End here: a time ago or a date
    #[arg(long, value_name = "WHEN")]
    pub until: Option<String>,
    /// Only this kind (may be repeated, as the other filters): level_changed, refused, waited, policy_violation,
    /// estimate_off, unknown_price, priority_capped
    #[arg(long)]
    pub kind: Vec<EventKind>,
    /// Only this session
    #[arg(long)]
    pub session: Vec<String>,
    /// Only this budget or rule
    #[arg(long, value_name = "NAME")]
    pub budget: Vec<String>,
    /// At most so many, the newest first [default: 100]
    #[arg(long, value_name = "N", value_parser = event_query::limit)]
    pub limit: Option<usize>,
    /// How it is written.
    #[command(flatten)]
    pub format: FormatArgs,
    /// Times in this time zone instead of the local one, for example UTC
    #[arg(long, value_name = "ZONE")]
    pub tz: Option<String>,
    /// Ask the proxy at this address, for example http://127.0.0.1:8402
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
}

/// Gathers the events that the arguments ask for, as text that ends with a newline.
///
/// # Errors
///
/// For times and zones that cannot be read, when there is no ledger, and when neither it nor the proxy can be reached.
pub fn run(
    args: &EventsArgs,
    settings: &LedgerSettings,
    clock: WallClock,
) -> anyhow::Result<String> {
    let zone = moment::zone(args.tz.as_deref())?;
    let now = clock();
    let query = EventQuery {
        since: moment::of_flag("--since", args.since.as_deref(), now, &zone)?,
        until: moment::of_flag("--until", args.until.as_deref(), now, &zone)?,
        kinds: args.kind.clone(),
        sessions: args.session.clone(),
        rules: args.budget.clone(),
        limit: args.limit.unwrap_or(event_query::DEFAULT_LIMIT),
    };
    let source = Source {
        url: args.url.as_deref(),
        settings,
        clock,
    };
    let target = format!("/api/v1/events?{}", query.to_query_string());
    let events = source::answer(&source, &target, |ledger| {
        let events = ledger.events_blocking(query.clone())?;
        Ok(Events { events })
    })?;
    Ok(rendering::render(&events, args.format.chosen(), &zone))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::commands::format::Format;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        events: EventsArgs,
    }

    #[test]
    fn kinds_limits_and_formats_are_read_and_others_refused() {
        let read = |words: &str| Command::try_parse_from(words.split(' '));
        let args = read("events --kind refused --kind level-changed --limit 7 --csv");
        let args = args.expect("readable").events;
        assert_eq!(args.kind, [EventKind::Refused, EventKind::LevelChanged]);
        assert_eq!((args.limit, args.format.chosen()), (Some(7), Format::Csv));
        for (words, part) in [
            ("events --kind party", "no kind of event"),
            ("events --limit 0", "from 1 to 10000"),
            ("events --json --csv", "cannot be used with"),
        ] {
            let error = read(words).expect_err(words).to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
