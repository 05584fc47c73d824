//! `tollgate route`: what would happen to a request now, and why.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};

use super::format::{self, printable};
use super::source;
use crate::clock::Clock;
use crate::config::settings::Settings;
use crate::llm::catalogue::Catalogue;
use crate::proxy::Gate;
use crate::proxy::explain::{Candidate, Explanation, Question};
use crate::store::Ledger;

/// Longest wait for the ledger to be put away again.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(30);

/// What `tollgate route` is asked.
#[derive(Debug, Clone, Default, Args)]
pub struct RouteArgs {
    /// What the user says; `-` reads it from standard input
    #[arg(value_name = "TEXT")]
    pub text: Option<String>,
    /// The model that is asked for
    #[arg(short, long)]
    pub model: Option<String>,
    /// The provider, where the model's name does not tell
    #[arg(long)]
    pub provider: Option<String>,
    /// How urgent it is: low, normal, high or critical
    #[arg(short, long)]
    pub priority: Option<String>,
    /// What kind of work it is, instead of what is detected
    #[arg(short, long)]
    pub task: Option<String>,
    /// The session
    #[arg(short, long)]
    pub session: Option<String>,
    /// The client's key: a tollgate key's name, or a provider key's fingerprint
    #[arg(long)]
    pub key: Option<String>,
    /// The whole body of a request instead of a text: a JSON file
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    pub body: Option<PathBuf>,
    /// The path that the body is for, behind the provider's name, such as /v1/responses
    #[arg(long, requires = "body")]
    pub path: Option<String>,
    /// As if the client had pinned its model
    #[arg(long)]
    pub pinned: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Ask the proxy at this address, for example http://127.0.0.1:8402
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
}

/// Tells what would happen, as text that ends with a newline. Without a running proxy: as the ledger says.
///
/// # Errors
///
/// When the question makes no request, and when neither the proxy nor the ledger can be reached.
pub fn run(args: &RouteArgs, settings: &Settings) -> anyhow::Result<String> {
    let question = args.question()?;
    let body = Bytes::from(serde_json::to_vec(&question)?);
    let url = args.url.as_deref();
    let asked = source::question(url, &settings.ledger, "/api/v1/route", &body)?;
    let explanation = match asked {
        Some(explanation) => explanation,
        None => without_proxy(settings, &question)?,
    };
    if args.json {
        return Ok(serde_json::to_string_pretty(&explanation)? + "\n");
    }
    Ok(told(&explanation))
}

/// The answer of a proxy that would be started now.
fn without_proxy(settings: &Settings, question: &Question) -> anyhow::Result<Explanation> {
    let clock = Clock::system();
    let catalogue = Catalogue::builtin().extended(&settings.models)?;
    let (ledger, _) = Ledger::open(&settings.ledger, clock.source()).map_err(source::with_hint)?;
    let gate = Gate::new(settings.clone(), catalogue, ledger, clock, 0)?;
    let gate = Arc::new(gate);
    gate.recall()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let explained = runtime.block_on(gate.explain(question));
    gate.ledger.shutdown(CLOSE_TIMEOUT);
    Ok(explained?)
}

impl RouteArgs {
    fn question(&self) -> anyhow::Result<Question> {
        let mut text = self.text.clone().unwrap_or_default();
        if text == "-" {
            text.clear();
            std::io::stdin()
                .read_to_string(&mut text)
                .context("cannot read the text from standard input")?;
        }
        let body: Option<serde_json::Value> = match &self.body {
            None => None,
            Some(file) => {
                let shown = file.display();
                let bytes = std::fs::read(file).with_context(|| format!("cannot read {shown}"))?;
                let body = serde_json::from_slice(&bytes);
                Some(body.with_context(|| format!("{shown} is not JSON"))?)
            }
        };
        let of_body = || Some(body.as_ref()?.get("model")?.as_str()?.to_owned());
        let model = self.model.clone().or_else(of_body);
        Ok(Question {
            model: model.context("--model is missing: the model that is asked for")?,
            provider: self.provider.clone(),
            text,
            path: self.path.clone(),
            priority: self.priority.clone(),
            task: self.task.clone(),
            session: self.session.clone(),
            key: self.key.clone(),
            user_agent: None,
            pinned: self.pinned,
            body,
        })
    }
}

fn told(explanation: &Explanation) -> String {
    let mut text = String::new();
    let task = explanation.task.as_deref().unwrap_or("none");
    let simple = if explanation.simple { ", simple" } else { "" };
    let _ = writeln!(
        text,
        "task {}{simple} · priority {} · session {} · level {} · routing {}",
        printable(task),
        explanation.priority,
        printable(&explanation.session),
        explanation.level,
        explanation.mode,
    );
    if let Some(ladder) = &explanation.ladder {
        let _ = writeln!(text, "ladder {}", printable(ladder));
    }
    if explanation.conversation != "may_change" {
        let why = explanation.conversation.replace('_', " ");
        let _ = writeln!(text, "the conversation keeps its model: {why}");
    }
    text.push('\n');
    text.push_str(&format::lines(&table(explanation)));
    text.push('\n');
    match (&explanation.serves, &explanation.refusal) {
        (Some(served), _) => {
            let _ = writeln!(text, "served by {}", printable(&served.to_string()));
        }
        (None, Some(refusal)) => {
            let _ = writeln!(text, "not served now: {}", printable(refusal));
        }
        (None, None) => text.push_str("not served now\n"),
    }
    if let Some(would) = &explanation.would_serve {
        let _ = writeln!(
            text,
            "with routing.mode = \"on\" it would be served by {}",
            printable(&would.to_string())
        );
    }
    text
}

fn table(explanation: &Explanation) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["model", "why", "expected USD", "verdict"]);
    for candidate in &explanation.candidates {
        let model = format!("{}/{}", candidate.provider, candidate.model);
        let cost = candidate.expected_cost_usd.as_deref().unwrap_or("unknown");
        table.add_row([
            printable(&model),
            printable(&candidate.why),
            cost.to_owned(),
            printable(&verdict(candidate)),
        ]);
    }
    if let Some(column) = table.column_mut(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn verdict(candidate: &Candidate) -> String {
    match (&candidate.unsuited, &candidate.denied) {
        (Some(why), _) => format!("no: {why}"),
        (None, Some(why)) => format!("not admitted: {why}"),
        (None, None) if candidate.changes.is_empty() => "yes".to_owned(),
        (None, None) => format!("yes ({})", candidate.changes.join(", ")),
    }
}
