//! `tollgate usage`: what was used, by whom, at what cost, and what routing saved.

mod rendering;
mod savings;

use clap::Args;

pub use super::format::Format;
use super::format::FormatArgs;
use super::moment;
use super::source::{self, Source};
pub use rendering::render;

use crate::config::settings::LedgerSettings;
use crate::store::WallClock;
use crate::store::query::{Dimension, Query};
use crate::store::savings::BY;

/// What `tollgate usage` is asked.
#[derive(Debug, Clone, Default, Args)]
pub struct UsageArgs {
    /// Show what routing saved, or would have saved in shadow mode
    ///
    /// Each row compares the model that was asked for with the one that routing chose. Mode `on`: the chosen one served.
    /// Mode `shadow`: it would have. Taken from the hourly sums, so it reaches as far back as `ledger.keep_sums`. Requests
    /// whose saving is not known (no price for one of the two models) are counted and left out of the amounts.
    #[arg(long)]
    pub savings: bool,
    /// Group by these, separated by commas: session, agent, key, team, provider, model, task, priority, phase, outcome,
    /// rule (why another model was chosen), day, hour [default: model; with --savings rule,task,session]
    #[arg(long, value_delimiter = ',')]
    pub by: Vec<Dimension>,
    /// Begin here: a time ago (24h, 7d) or a date (2026-11-01, local time); whole hours count
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// End here: a time ago or a date
    #[arg(long, value_name = "WHEN")]
    pub until: Option<String>,
    /// Only this session (may be repeated, as the other filters)
    #[arg(long)]
    pub session: Vec<String>,
    /// Only this provider
    #[arg(long)]
    pub provider: Vec<String>,
    /// Only this model
    #[arg(long)]
    pub model: Vec<String>,
    /// Only this kind of work
    #[arg(long)]
    pub task: Vec<String>,
    /// Only what was routed for this reason, for example rule:guide-ui
    #[arg(long)]
    pub rule: Vec<String>,
    /// Only this client key
    #[arg(long)]
    pub key: Vec<String>,
    /// Only this team
    #[arg(long)]
    pub team: Vec<String>,
    /// How it is written.
    #[command(flatten)]
    pub format: FormatArgs,
    /// Days and hours in this time zone instead of the local one, for example UTC
    #[arg(long, value_name = "ZONE")]
    pub tz: Option<String>,
    /// Ask the proxy at this address, for example http://127.0.0.1:8402
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
}

/// Makes the report that the arguments ask for, as text that ends with a newline.
///
/// # Errors
///
/// For times and zones that cannot be read, when there is no ledger, and when neither it nor the proxy can be reached.
pub fn run(
    args: &UsageArgs,
    settings: &LedgerSettings,
    clock: WallClock,
) -> anyhow::Result<String> {
    let query = args.query(clock())?;
    let source = Source {
        url: args.url.as_deref(),
        settings,
        clock,
    };
    if args.savings {
        let target = format!("/api/v1/savings?{}", query.to_query_string());
        let savings = source::answer(&source, &target, |ledger| {
            ledger.savings_blocking(query.clone())
        })?;
        return Ok(savings::render(&savings, args.format.chosen()));
    }
    let target = format!("/api/v1/usage?{}", query.to_query_string());
    let report = source::answer(&source, &target, |ledger| {
        ledger.report_blocking(query.clone())
    })?;
    Ok(render(&report, args.format.chosen()))
}

impl UsageArgs {
    /// The query that the arguments mean at a given time.
    ///
    /// # Errors
    ///
    /// For times and zones that cannot be read.
    pub fn query(&self, now_unix_ms: u64) -> anyhow::Result<Query> {
        let zone = moment::zone(self.tz.as_deref())?;
        let since = moment::of_flag("--since", self.since.as_deref(), now_unix_ms, &zone)?;
        let until = moment::of_flag("--until", self.until.as_deref(), now_unix_ms, &zone)?;
        let mut filters = Vec::new();
        for (dimension, values) in [
            (Dimension::Session, &self.session),
            (Dimension::Provider, &self.provider),
            (Dimension::Model, &self.model),
            (Dimension::Task, &self.task),
            (Dimension::Rule, &self.rule),
            (Dimension::Key, &self.key),
            (Dimension::Team, &self.team),
        ] {
            filters.extend(values.iter().map(|value| (dimension, value.clone())));
        }
        Ok(Query {
            by: match (self.by.as_slice(), self.savings) {
                ([], false) => Query::default().by,
                ([], true) => BY.to_vec(),
                (asked, _) => asked.to_vec(),
            },
            since,
            until,
            filters,
            zone,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        usage: UsageArgs,
    }

    fn query(words: &[&str]) -> anyhow::Result<Query> {
        let words = ["usage", "--tz", "Europe/Berlin"].iter().chain(words);
        Command::try_parse_from(words)?
            .usage
            .query(1_795_000_000_000)
    }

    #[test]
    fn times_are_read_as_ages_and_as_dates() {
        let query_at = query(&["--since", "24h", "--until", "2026-11-01", "--session", "a"]);
        let query_at = query_at.expect("readable");
        assert_eq!(query_at.since, Some(1_795_000_000_000 - 86_400_000));
        assert_eq!(
            query_at.until,
            Some(1_793_487_600_000),
            "midnight in Berlin"
        );
        assert_eq!(query_at.by, [Dimension::Model]);
        assert_eq!(query_at.filters, [(Dimension::Session, "a".to_owned())]);
        let error = query(&["--since", "tomorrow"]).expect_err("no time");
        assert!(
            format!("{error:#}").contains("\"tomorrow\" is no time"),
            "{error:#}"
        );
        assert!(query(&["--by", "model,colour"]).is_err());
    }

    #[test]
    fn savings_are_by_rule_task_and_session_unless_something_else_is_asked_for() {
        let by = |words: &[&str]| query(words).expect("readable").by;
        assert_eq!(by(&["--savings"]), BY);
        assert_eq!(by(&["--savings", "--by", "day"]), [Dimension::Day]);
        let filtered = query(&["--savings", "--rule", "rule:guide-ui"]).expect("readable");
        let wanted = (Dimension::Rule, "rule:guide-ui".to_owned());
        assert_eq!(filtered.filters, [wanted]);
    }
}
