//! One day of the load through tollgate: how routing is set in each run, the requests, and what the ledger says then.

use std::path::Path;

use anyhow::{Context, ensure};
use bytes::Bytes;
use clap::ValueEnum;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tollgate::store::report::Report;
use tollgate::store::savings::Savings;

use crate::figures::Day;
use crate::load::Job;
use crate::party::Party;
use crate::vendor::Vendor;

/// Requests at the same time.
const AT_ONCE: usize = 8;

/// A free model on this machine, by the name that Ollama has for it.
pub(crate) const LOCAL_MODEL: &str = "qwen3-coder:30b";

/// The window that it was loaded with, which nobody else can know.
const LOCAL_WINDOW: u32 = 32_768;

/// How routing is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Run {
    /// The model that was asked for serves everything.
    Off,
    /// It does, and what routing would have saved is recorded.
    Shadow,
    /// The shipped rules, which are the guide's table, and the shipped ladders decide.
    On,
    /// So they do, but development goes to a free local model.
    Local,
}

impl Run {
    /// Every one.
    pub(crate) const ALL: [Run; 4] = [Run::Off, Run::Shadow, Run::On, Run::Local];

    /// The row's title.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Run::Off => "off",
            Run::Shadow => "shadow",
            Run::On => "on",
            Run::Local => "on, development local",
        }
    }

    /// Budgets are off, because they would refuse what is to be measured, and no limit of a provider holds anything back.
    fn config(self, vendor: Vendor, upstream: &str) -> String {
        let mode = match self {
            Run::Off => "off",
            Run::Shadow => "shadow",
            Run::On | Run::Local => "on",
        };
        let mut config = format!(
            "[throttle]\nmode = \"off\"\n[providers.{}]\nbase_url = \"{upstream}\"\n[providers.ollama]\nbase_url = \"{upstream}\"\n\
             [routing]\nmode = \"{mode}\"\n",
            vendor.provider()
        );
        if self == Run::Local {
            config.push_str(&format!(
                "[[routing.rules]]\nname = \"development-local\"\ntask = \"coding\"\nto = \"ollama/{LOCAL_MODEL}\"\n\
                 [[models]]\nprovider = \"ollama\"\nid = \"{LOCAL_MODEL}\"\nfree = true\ncontext_window = {LOCAL_WINDOW}\n"
            ));
        }
        config
    }
}

/// Sends a day's requests through a tollgate of its own, and reads its ledger.
pub(crate) async fn through(
    binary: &Path,
    scratch: &Path,
    vendor: Vendor,
    run: Run,
    load: &[Job],
) -> anyhow::Result<Day> {
    let provider = Party::provider(binary, scratch)?;
    let config = run.config(vendor, &provider.address);
    let tollgate = Party::tollgate(binary, scratch, &config)?;
    let client: Caller = Client::builder(TokioExecutor::new()).build_http();
    let mut workers = JoinSet::new();
    for worker in 0..AT_ONCE {
        let jobs: Vec<Job> = load.iter().skip(worker).step_by(AT_ONCE).copied().collect();
        let (client, base) = (client.clone(), tollgate.address.clone());
        workers.spawn(async move {
            for job in jobs {
                let request = vendor.request(&base, &job)?;
                let (status, body) = send(&client, request).await?;
                ensure!(
                    status.is_success(),
                    "{status}: {}",
                    String::from_utf8_lossy(&body)
                );
            }
            Ok(())
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker?.with_context(|| format!("{}, routing {}", vendor.provider(), run.name()))?;
    }
    let report: Report = page(&client, &tollgate, "usage?by=phase,task,model").await?;
    let total = &report.total;
    ensure!(
        (total.requests, total.failed, total.unknown_cost_requests) == (load.len() as u64, 0, 0),
        "the ledger holds {} requests, {} failed, {} without a cost",
        total.requests,
        total.failed,
        total.unknown_cost_requests
    );
    let savings: Savings = page(&client, &tollgate, "savings?by=rule").await?;
    Ok(Day::new(run, &report, savings))
}

type Caller = Client<HttpConnector, Full<Bytes>>;

async fn send(
    client: &Caller,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<(http::StatusCode, Bytes)> {
    let response = client.request(request).await?;
    let status = response.status();
    Ok((status, response.into_body().collect().await?.to_bytes()))
}

/// One of tollgate's own pages.
async fn page<T: DeserializeOwned>(
    client: &Caller,
    tollgate: &Party,
    page: &str,
) -> anyhow::Result<T> {
    let uri = format!("{}/api/v1/{page}", tollgate.address);
    let (status, body) = send(client, Request::get(uri).body(Full::default())?).await?;
    ensure!(status.is_success(), "{page}: {status}");
    Ok(serde_json::from_slice(&body)?)
}
