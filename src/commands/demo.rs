//! `tollgate demo`: the proxy in front of the simulated provider, with a little mixed traffic, so that a person without
//! any API key sees everything at work. Proxy, path and ledger are the real ones; only the provider is simulated.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use http::Uri;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::climb::{self, Climb};
use super::serve::{
    announce_in_ledger, gate, listen, local_address, runtime, serve_until, stop_signal,
};
use super::traffic::{self, Http};
use super::usage::{self, Format};
use crate::cli::Options;
use crate::config::settings::{AuthMode, LogLevel, Settings, ThrottleMode};
use crate::failure::{Exit, Failure};
use crate::logging;
use crate::policy::budget::{Budget, Limit, ScopeKind, Window};
use crate::policy::throttle::{Level, Thresholds};
use crate::proxy::Gate;
use crate::simulate::{self, SimulateSettings};
use crate::store::query::{Dimension, Query};
use crate::units::Cost;

/// How often the figures are shown, in seconds.
const SHOW_EVERY: u32 = 5;

/// Seconds between two climbs: longer than the minute that a climb counts, and the sixtieth to which that is exact.
const REST: u32 = 75;

/// `tollgate demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Stop by itself after this time, such as 30s [default: Ctrl-C]
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
}

/// Runs the demo until Ctrl-C or its time is over.
///
/// # Errors
/// As `serve`: the address is taken, the ledger cannot be opened.
pub fn run(args: &DemoArgs, options: &Options) -> Result<ExitCode, Failure> {
    let mut settings = super::load(options)?.settings;
    if options.verbose == 0 && settings.log.level == LogLevel::Info {
        // What happens is printed; the log would say it once more, between the lines.
        settings.log.level = LogLevel::Error;
    }
    logging::start(&settings.log);
    if options.ledger_dir.is_none() {
        // The demo's figures must not mix with real ones.
        settings.ledger.dir.as_mut_os_string().push("-demo");
    }
    // Nor does its traffic show keys, or trust a certificate.
    settings.auth.mode = AuthMode::Passthrough;
    settings.server.tls = None;
    limit(&mut settings);
    runtime()?.block_on(async {
        let stopped = CancellationToken::new();
        let provider = listen(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let provider_address = local_address(&provider)?;
        let simulated = tokio::spawn({
            let stopped = stopped.clone();
            async move {
                simulate::serve(provider, SimulateSettings::default(), stopped.cancelled()).await
            }
        });
        point_at(&mut settings, provider_address)?;

        let listener = listen(settings.server.listen)?;
        let address = local_address(&listener)?;
        let ledger_dir = settings.ledger.dir.clone();
        let gate = gate(settings).await?;
        announce_in_ledger(&gate, address);
        super::print(&format!(
            "listening on http://{address}\n{}",
            where_to_look(address, &ledger_dir)
        ))?;

        let client = traffic::client();
        let traffic = tokio::spawn(traffic::run(address, client.clone()));
        let shown = tokio::spawn(show(Arc::clone(&gate), address, client));
        let signal = stop_signal(1)?;
        let limit = args.duration;
        let stop = async move {
            match limit {
                Some(limit) => tokio::select! {
                    () = signal => {}
                    () = tokio::time::sleep(limit) => {}
                },
                None => signal.await,
            }
            traffic.abort();
            shown.abort();
        };
        let last = Arc::clone(&gate);
        let closing = async move {
            stop.await;
            if let Err(failure) = show_once(&last).await {
                tracing::warn!("{}", failure.render(false));
            }
        };
        serve_until(listener, None, gate, closing, stop_signal(2)?).await?;
        stopped.cancel();
        // The simulated provider ends with its connections; if it does not, the process does.
        let _ = simulated.await;
        Ok(Exit::Success.into())
    })
}

/// Gives everybody the demo's own budgets, small enough that something happens, and the levels of the contract.
fn limit(settings: &mut Settings) {
    settings.auth.tier = None;
    settings.throttle.mode = ThrottleMode::On;
    settings.throttle.thresholds = Thresholds::default();
    settings.budgets = vec![
        climb::budget(),
        Budget {
            name: "global-usd-hour".to_owned(),
            scope: ScopeKind::Global,
            window: Window::Hour,
            limit: Limit::Usd(Cost::from_attos(Cost::ONE_USD.attos() * 1_000)),
            ..climb::budget()
        },
    ];
}

/// Puts the simulated provider in the place of every real one; paths stay as they are.
fn point_at(settings: &mut Settings, simulated: SocketAddr) -> Result<(), Failure> {
    for provider in &mut settings.providers {
        let address = format!(
            "http://{simulated}{}",
            provider.base_url.path().trim_end_matches('/')
        );
        provider.base_url = address.parse::<Uri>().map_err(|error| {
            Failure::new("cannot address the simulated provider").because(error)
        })?;
    }
    Ok(())
}

fn where_to_look(address: SocketAddr, ledger_dir: &std::path::Path) -> String {
    let dir = ledger_dir.display();
    format!(
        "\nA simulated provider is behind it, and a few made-up sessions are at work. Look at\n\n  \
         http://{address}/            what is mounted, and where to look\n  \
         http://{address}/metrics     figures for Prometheus\n  \
         tollgate status --ledger-dir {dir}\n  \
         tollgate events --ledger-dir {dir}\n  \
         tollgate usage --by session,model --ledger-dir {dir}\n  \
         curl -i http://{address}/@me:high/openai/v1/chat/completions \\\n    \
         -d '{{\"model\":\"gpt-6-luna\",\"messages\":[{{\"role\":\"user\",\"content\":\"Say hello\"}}]}}'\n\n\
         Stop with Ctrl-C.\n\n"
    )
}

/// Lets one session climb through the levels, then shows figures and changes of level for a while; again and again.
async fn show(gate: Arc<Gate>, proxy: SocketAddr, client: Http) -> Option<()> {
    let mut climb = Climb {
        proxy,
        client,
        gate: &gate,
        waiting: JoinSet::new(),
    };
    let mut levels = BTreeMap::new();
    loop {
        climb.once().await.ok()?;
        for second in 1..=REST {
            tokio::time::sleep(Duration::from_secs(1)).await;
            show_changes(&gate, &mut levels).ok()?;
            if second.is_multiple_of(SHOW_EVERY) {
                show_once(&gate).await.ok()?;
            }
        }
    }
}

/// Tells which budgets have come to other levels since the last time.
fn show_changes(gate: &Gate, levels: &mut BTreeMap<String, String>) -> Result<(), Failure> {
    let now = gate.throttle_now(None);
    let now: BTreeMap<_, _> = now
        .budgets
        .into_iter()
        .map(|budget| (format!("{} of {}", budget.budget, budget.scope()), budget))
        .collect();
    for (name, budget) in &now {
        let before = levels
            .get(name)
            .map_or(Level::None.as_str(), String::as_str);
        if before != budget.level {
            let (level, fill) = (&budget.level, (budget.fill * 100.0).floor());
            super::print(&format!("{name}: {before} -> {level}, {fill} % full\n"))?;
        }
    }
    *levels = now
        .into_iter()
        .map(|(name, budget)| (name, budget.level))
        .collect();
    Ok(())
}

async fn show_once(gate: &Gate) -> Result<(), Failure> {
    let by = vec![
        Dimension::Session,
        Dimension::Provider,
        Dimension::Model,
        Dimension::Priority,
    ];
    let query = Query {
        by,
        ..Query::default()
    };
    let report = gate.ledger.report(query).await;
    let report = report.map_err(|error| Failure::new("cannot read the ledger").because(error))?;
    super::print(&format!("{}\n", usage::render(&report, Format::Table)))
}
