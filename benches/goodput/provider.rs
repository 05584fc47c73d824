//! What the provider says it did: its own counts, read from its control pages. Figures about the provider come from here,
//! never from what clients or tollgate believe.

use anyhow::Context;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

/// A provider's control pages.
pub(crate) struct Provider {
    client: Client<HttpConnector, Full<Bytes>>,
    address: String,
}

/// What had gone through its limits at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    /// Seconds since the run began.
    pub(crate) at: f64,
    /// Requests let through.
    pub(crate) accepted: f64,
    /// Requests refused with 429.
    pub(crate) refused: f64,
    /// Input tokens charged.
    pub(crate) input: f64,
    /// Output tokens charged in the end.
    pub(crate) output: f64,
    /// Seconds in flight, over all requests.
    pub(crate) busy: f64,
}

/// What happened when.
#[derive(Debug, Deserialize)]
pub(crate) struct Timeline {
    /// Length of a slot.
    pub(crate) slot_ms: f64,
    /// Requests that came, by slot.
    pub(crate) arrived: Vec<u32>,
    /// Requests let through, by slot.
    pub(crate) accepted: Vec<u32>,
}

impl Provider {
    /// The one at this address.
    pub(crate) fn new(address: &str) -> Self {
        Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            address: address.to_owned(),
        }
    }

    async fn page(&self, method: &str, page: &str, body: String) -> anyhow::Result<Value> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}/_simulate/{page}", self.address))
            .body(Full::new(Bytes::from(body)))?;
        let response = self.client.request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        anyhow::ensure!(
            status.is_success(),
            "{page}: {}",
            String::from_utf8_lossy(&body)
        );
        Ok(serde_json::from_slice(&body)?)
    }

    /// Starts all clocks and counts, with this script.
    pub(crate) async fn begin(&self, script: String) -> anyhow::Result<()> {
        self.page("PUT", "script", script).await?;
        self.page("POST", "reset", String::new()).await?;
        Ok(())
    }

    /// Its counts now.
    pub(crate) async fn counts(&self, began: Instant) -> anyhow::Result<Counts> {
        let page = self.page("GET", "limits", String::new()).await?;
        let mut counts = Counts {
            at: began.elapsed().as_secs_f64(),
            ..Counts::default()
        };
        for pool in page["pools"].as_array().context("no pools")? {
            let number = |name: &str| pool[name].as_f64().unwrap_or_default();
            counts.accepted += number("accepted");
            counts.input += number("charged_input_tokens");
            counts.output += number("charged_output_tokens");
            counts.busy += number("busy_ms") / 1e3;
            let refused = pool["refused"].as_object().context("no refusals")?;
            counts.refused += refused.values().filter_map(Value::as_f64).sum::<f64>();
        }
        Ok(counts)
    }

    /// What happened when.
    pub(crate) async fn timeline(&self) -> anyhow::Result<Timeline> {
        let page = self.page("GET", "timeline", String::new()).await?;
        Ok(serde_json::from_value(page)?)
    }
}

impl Timeline {
    fn slots(&self, from: f64, until: f64) -> std::ops::Range<usize> {
        let slot = |seconds: f64| (seconds * 1e3 / self.slot_ms).round() as usize;
        slot(from)..slot(until)
    }

    fn sum(counts: &[u32], slots: std::ops::Range<usize>) -> f64 {
        let from = slots.start.min(counts.len());
        let until = slots.end.min(counts.len());
        counts[from..until]
            .iter()
            .map(|count| f64::from(*count))
            .sum()
    }

    /// Requests per second let through between two moments.
    pub(crate) fn accepted_rate(&self, from: f64, until: f64) -> f64 {
        Self::sum(&self.accepted, self.slots(from, until)) / (until - from)
    }

    /// Requests that came between two moments.
    pub(crate) fn arrived(&self, from: f64, until: f64) -> f64 {
        Self::sum(&self.arrived, self.slots(from, until))
    }

    /// Most requests that came in any second between two moments.
    pub(crate) fn peak_arrived(&self, from: f64, until: f64) -> f64 {
        let slots = self.slots(from, until);
        let second = (1e3 / self.slot_ms) as usize;
        (slots.start..slots.end.saturating_sub(second))
            .map(|slot| Self::sum(&self.arrived, slot..slot + second))
            .fold(0.0, f64::max)
    }

    /// The first moment after `from` from which on, for a second, at least `rate` requests were let through; before
    /// `until`.
    pub(crate) fn reached(&self, rate: f64, from: f64, until: f64) -> Option<f64> {
        let slots = self.slots(from, until);
        let second = (1e3 / self.slot_ms) as usize;
        (slots.start..slots.end.saturating_sub(second))
            .find(|slot| Self::sum(&self.accepted, *slot..slot + second) >= rate)
            .map(|slot| (slot - slots.start) as f64 * self.slot_ms / 1e3)
    }
}
