//! `tollgate usage`: what was used, by whom, at what cost.
//!
//! While a proxy runs it holds the ledger, so it is asked; else the ledger is opened directly. Both give the same report.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use comfy_table::{CellAlignment, Table, presets};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;

use crate::config::settings::LedgerSettings;
use crate::store::query::{Dimension, Query};
use crate::store::report::{Figures, Report};
use crate::store::{Ledger, OpenError, WallClock, directory};

/// Largest answer that is read from the running proxy.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Longest wait for the running proxy.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest wait for the ledger to be put away again.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(30);

/// How a report is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs: amounts are decimal strings.
    Json,
    /// For spreadsheets.
    Csv,
}

/// What `tollgate usage` is asked.
#[derive(Debug, Clone, Default, Args)]
pub struct UsageArgs {
    /// Group by these, separated by commas: session, agent, key, team, provider, model, task, priority, phase, outcome,
    /// day, hour
    #[arg(long, value_delimiter = ',', default_value = "model")]
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
    /// Only this client key
    #[arg(long)]
    pub key: Vec<String>,
    /// Only this team
    #[arg(long)]
    pub team: Vec<String>,
    /// How to write it
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Same as --format json
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
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
    let report = match &args.url {
        Some(url) => ask(&authority_of(url)?, &query)?,
        None => read(settings, &query, clock)?,
    };
    let format = if args.json { Format::Json } else { args.format };
    Ok(render(&report, format))
}

impl UsageArgs {
    /// The query that the arguments mean at a given time.
    ///
    /// # Errors
    ///
    /// For times and zones that cannot be read.
    pub fn query(&self, now_unix_ms: u64) -> anyhow::Result<Query> {
        let zone = match &self.tz {
            Some(name) => jiff::tz::TimeZone::get(name)
                .map_err(|_| anyhow::anyhow!("--tz: {name:?} is no time zone"))?,
            None => jiff::tz::TimeZone::system(),
        };
        let when = |text: &Option<String>, flag| {
            let moment = text.as_deref().map(|text| moment(text, now_unix_ms, &zone));
            moment
                .transpose()
                .with_context(|| format!("{flag} cannot be read"))
        };
        let (since, until) = (when(&self.since, "--since")?, when(&self.until, "--until")?);
        let mut filters = Vec::new();
        for (dimension, values) in [
            (Dimension::Session, &self.session),
            (Dimension::Provider, &self.provider),
            (Dimension::Model, &self.model),
            (Dimension::Task, &self.task),
            (Dimension::Key, &self.key),
            (Dimension::Team, &self.team),
        ] {
            filters.extend(values.iter().map(|value| (dimension, value.clone())));
        }
        Ok(Query {
            by: self.by.clone(),
            since,
            until,
            filters,
            zone,
        })
    }
}

/// Reads `24h`, `7d`, `2026-11-01` or `2026-11-01T14:00` as Unix milliseconds.
fn moment(text: &str, now_unix_ms: u64, zone: &jiff::tz::TimeZone) -> anyhow::Result<u64> {
    if let Ok(ago) = humantime::parse_duration(text) {
        let ago = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
        return Ok(now_unix_ms.saturating_sub(ago));
    }
    let date: jiff::civil::DateTime = text
        .parse()
        .map_err(|_| anyhow::anyhow!("{text:?} is no time: 24h, 7d or 2026-11-01 expected"))?;
    let moment = date.to_zoned(zone.clone())?.timestamp().as_millisecond();
    Ok(u64::try_from(moment).unwrap_or(0))
}

/// Asks the running proxy, else opens the ledger.
fn read(settings: &LedgerSettings, query: &Query, clock: WallClock) -> anyhow::Result<Report> {
    let dir = settings.dir.as_path();
    if !directory::holds_ledger(dir) {
        bail!(
            "there is no ledger in {}: no request has been recorded there",
            dir.display()
        );
    }
    let running = directory::running(dir);
    let asked = running
        .as_ref()
        .map(|running| ask_at(running.address, query));
    if let Some(Ok(report)) = asked {
        return Ok(report);
    }
    // A proxy that was killed leaves its address behind; then the lock is free.
    let (ledger, _) = match Ledger::open(settings, clock) {
        Ok(opened) => opened,
        Err(error @ OpenError::Locked { .. }) => {
            let asked = asked.and_then(Result::err);
            return Err(asked.unwrap_or_else(|| with_hint(error)));
        }
        Err(error) => return Err(with_hint(error)),
    };
    let report = ledger.report_blocking(query.clone());
    ledger.shutdown(CLOSE_TIMEOUT);
    Ok(report?)
}

fn with_hint(error: OpenError) -> anyhow::Error {
    let hint = error.hint();
    anyhow::Error::new(error).context(format!("the ledger cannot be read (hint: {hint})"))
}

fn ask_at(address: SocketAddr, query: &Query) -> anyhow::Result<Report> {
    // A proxy that listens everywhere is reached on loopback.
    let reachable = match (address.ip().is_unspecified(), address) {
        (false, _) => address,
        (true, SocketAddr::V4(_)) => SocketAddr::from(([127, 0, 0, 1], address.port())),
        (true, SocketAddr::V6(_)) => {
            SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, address.port()))
        }
    };
    ask(&reachable.to_string(), query)
}

fn authority_of(url: &str) -> anyhow::Result<String> {
    let uri: http::Uri = url
        .parse()
        .with_context(|| format!("--url {url:?} is no URL"))?;
    if uri.scheme_str() != Some("http") {
        bail!("--url {url:?} is not supported: http://HOST:PORT expected");
    }
    let authority = uri.authority().context("--url names no host")?;
    let port = authority.port_u16().unwrap_or(80);
    Ok(format!("{}:{port}", authority.host()))
}

/// Gets the report from a proxy's admin interface.
fn ask(authority: &str, query: &Query) -> anyhow::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let answered = runtime
        .block_on(async { tokio::time::timeout(ANSWER_TIMEOUT, get(authority, query)).await });
    answered
        .unwrap_or_else(|_| bail!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))
        .with_context(|| format!("cannot ask the proxy at {authority}"))
}

async fn get(authority: &str, query: &Query) -> anyhow::Result<Report> {
    let stream = tokio::net::TcpStream::connect(authority).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = http::Request::get(format!("/api/v1/usage?{}", query.to_query_string()))
        .header(http::header::HOST, authority)
        .header(http::header::ACCEPT, "application/json")
        .body(Empty::<bytes::Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES)
        .collect()
        .await
        .map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?
        .to_bytes();
    connection.abort();
    if !status.is_success() {
        bail!("it answered {status}");
    }
    serde_json::from_slice(&body).context("its answer is no usage report")
}

/// Writes a report.
pub fn render(report: &Report, format: Format) -> String {
    match format {
        Format::Table => table(report),
        Format::Json => {
            let text = serde_json::to_string_pretty(report);
            text.expect("a report's keys are strings") + "\n"
        }
        Format::Csv => csv(report),
    }
}

/// A cost as people read it: to the hundredth of a cent, and never a known-looking number where a part is unknown.
fn cost_text(figures: &Figures) -> String {
    match (figures.cost, figures.unknown_cost_requests) {
        (None, _) => "unknown".to_owned(),
        (Some(known), 0) => known.display(4),
        (Some(known), unknown) => format!("{} + {unknown} unknown", known.display(4)),
    }
}

/// A count of tokens, marked where a part of it is estimated.
fn tokens_text(count: u64, figures: &Figures) -> String {
    let uncertain = figures.estimated_tokens + figures.partial_tokens > 0;
    format!("{}{count}", if uncertain && count > 0 { "~" } else { "" })
}

fn cells(figures: &Figures) -> Vec<String> {
    vec![
        figures.requests.to_string(),
        figures.failed.to_string(),
        tokens_text(figures.input, figures),
        figures.cached_read.to_string(),
        figures.cache_write.to_string(),
        tokens_text(figures.output, figures),
        cost_text(figures),
    ]
}

fn table(report: &Report) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    let names = report
        .by
        .iter()
        .map(|dimension| dimension.as_str().to_owned());
    let figures = [
        "requests",
        "failed",
        "input",
        "cache read",
        "cache write",
        "output",
        "cost USD",
    ];
    table.set_header(names.chain(figures.map(str::to_owned)));
    for row in &report.rows {
        let labels = row.labels.iter();
        let labels = labels.map(|label| printable(label.as_deref().unwrap_or("-")));
        table.add_row(labels.chain(cells(&row.figures)));
    }
    let mut labels = vec![String::new(); report.by.len()];
    if let Some(first) = labels.first_mut() {
        "total".clone_into(first);
    }
    table.add_row(labels.into_iter().chain(cells(&report.total)));
    for column in report.by.len()..report.by.len() + figures.len() {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text: String = table
        .lines()
        .map(|line| line.trim_end().to_owned() + "\n")
        .collect();
    let total = &report.total;
    let uncertain = total.estimated_requests + total.partial_requests;
    if uncertain > 0 {
        text.push_str(&format!(
            "~ contains estimates: {} requests estimated, {} completed by an estimate, {} tokens in all\n",
            total.estimated_requests,
            total.partial_requests,
            total.estimated_tokens + total.partial_tokens,
        ));
    }
    if total.unknown_cost_requests > 0 {
        text.push_str(&format!(
            "unknown: {} requests to models whose price is not known\n",
            total.unknown_cost_requests
        ));
    }
    text
}

/// A label without control characters: names come from clients, and a terminal obeys what it is sent.
fn printable(label: &str) -> String {
    label
        .chars()
        .map(|letter| {
            if letter.is_control() {
                '\u{FFFD}'
            } else {
                letter
            }
        })
        .collect()
}

fn csv(report: &Report) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let names = report.by.iter().map(|dimension| dimension.as_str());
    let figures = [
        "requests",
        "failed",
        "input",
        "cached_read",
        "cache_write",
        "output",
        "reasoning",
        "web_searches",
        "cost_usd",
        "stated_cost_usd",
        "unknown_cost_requests",
        "estimated_requests",
        "estimated_tokens",
        "partial_requests",
        "partial_tokens",
    ];
    let into_memory = "writing into memory cannot fail";
    writer
        .write_record(names.chain(figures))
        .expect(into_memory);
    for row in &report.rows {
        let labels = row
            .labels
            .iter()
            .map(|label| label.clone().unwrap_or_default());
        let figures = exact(&row.figures);
        writer
            .write_record(labels.chain(figures))
            .expect(into_memory);
    }
    let bytes = writer.into_inner().expect(into_memory);
    String::from_utf8(bytes).expect("labels and numbers are UTF-8")
}

/// Every figure for programs. A cost of which nothing is known is the word, not a zero.
fn exact(figures: &Figures) -> [String; 15] {
    let unknown = || "unknown".to_owned();
    let cost = figures.cost.map_or_else(unknown, |cost| cost.to_string());
    [
        figures.requests.to_string(),
        figures.failed.to_string(),
        figures.input.to_string(),
        figures.cached_read.to_string(),
        figures.cache_write.to_string(),
        figures.output.to_string(),
        figures.reasoning.to_string(),
        figures.web_searches.to_string(),
        cost,
        figures.stated_cost.to_string(),
        figures.unknown_cost_requests.to_string(),
        figures.estimated_requests.to_string(),
        figures.estimated_tokens.to_string(),
        figures.partial_requests.to_string(),
        figures.partial_tokens.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::store::report::Row;

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

    fn report() -> Report {
        let known = Figures {
            requests: 3,
            input: 1200,
            output: 34,
            cost: Some("1.23456789".parse().expect("an amount")),
            ..Figures::default()
        };
        let unknown = Figures {
            requests: 2,
            failed: 1,
            input: 70,
            unknown_cost_requests: 2,
            estimated_requests: 1,
            estimated_tokens: 70,
            ..Figures::default()
        };
        let row = |label: Option<&str>, figures| Row {
            labels: vec![label.map(str::to_owned)],
            figures,
        };
        Report {
            by: vec![Dimension::Model],
            since: None,
            until: None,
            rows: vec![row(Some("opus, \u{1b}[31m4"), known), row(None, unknown)],
            total: Figures {
                requests: 5,
                failed: 1,
                input: 1270,
                output: 34,
                cost: known.cost,
                unknown_cost_requests: 2,
                estimated_requests: 1,
                estimated_tokens: 70,
                ..Figures::default()
            },
        }
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
    fn the_table_marks_what_is_estimated_or_unknown_and_obeys_no_label() {
        let text = render(&report(), Format::Table);
        assert!(!text.contains('\u{1b}'), "{text}");
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines[1].contains("1.2346") && lines[1].contains(" 1200 "),
            "{text}"
        );
        assert!(
            lines[2].contains("~70") && lines[2].contains("unknown"),
            "{text}"
        );
        assert!(
            lines[3].contains("total") && lines[3].contains("1.2346 + 2 unknown"),
            "{text}"
        );
        assert!(text.contains("1 requests estimated"), "{text}");
    }

    #[test]
    fn json_and_csv_hold_the_exact_amounts() {
        let text = render(&report(), Format::Json);
        assert!(text.contains(r#""cost": "1.23456789""#), "{text}");
        assert!(text.contains(r#""cost": null"#), "{text}");
        assert_eq!(serde_json::from_str::<Report>(&text).ok(), Some(report()));
        let text = render(&report(), Format::Csv);
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines[1].starts_with("\"opus, \u{1b}[31m4\",3,0,1200,"),
            "{text}"
        );
        assert!(lines[1].contains(",1.23456789,0.00,"), "{text}");
        assert!(lines[2].contains(",unknown,"), "{text}");
        assert_eq!(lines.len(), 3, "a totals line would be summed again");
    }
}
