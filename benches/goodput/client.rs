//! One client: sends a job, reads the answer to its end, tries again as an SDK would, and says how it ended.

use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::time::Instant;

use crate::job::{CHUNK_TOKENS, Job, Wire};
use crate::sdk;

/// An attempt that has not ended after this time hangs: ten minutes, the SDKs' own limit, scaled as everything here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How urgent a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    /// Nobody waits for it.
    Low,
    /// As usual.
    Normal,
    /// Somebody waits for it.
    High,
}

impl Priority {
    const fn as_str(self) -> &'static str {
        match self {
            Priority::Low => "low",
            Priority::Normal => "normal",
            Priority::High => "high",
        }
    }
}

/// How a job ended for its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// With its whole answer.
    Done,
    /// With an error: its status, or what broke.
    Failed(String),
    /// Not at all within [`PATIENCE`].
    Hung,
    /// It was waiting for its next attempt when the run ended.
    Unfinished,
}

/// A client of one provider or of tollgate before it.
#[derive(Clone)]
pub(crate) struct Caller {
    client: Client<HttpConnector, Full<Bytes>>,
    uri: String,
    wire: Wire,
    max_retries: u32,
    /// When no further attempt begins.
    end: Instant,
}

/// How one attempt ended.
enum Attempt {
    Whole,
    Refused(StatusCode, HeaderMap),
    Unconnected,
    /// After the head has come nobody tries again.
    Broken(&'static str),
}

impl Caller {
    /// One that calls this address until `end`.
    pub(crate) fn new(uri: String, wire: Wire, max_retries: u32, end: Instant) -> Self {
        Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            uri,
            wire,
            max_retries,
            end,
        }
    }

    /// Does a job.
    pub(crate) async fn work(
        &self,
        job: Job,
        session: usize,
        priority: Priority,
        unique: u64,
    ) -> anyhow::Result<End> {
        let body = job.body(self.wire, unique);
        for retries in 0.. {
            let request = self.request(job, session, priority, retries, body.clone())?;
            let attempt = match tokio::time::timeout(PATIENCE, self.attempt(request, job)).await {
                Ok(attempt) => attempt,
                Err(_) => return Ok(End::Hung),
            };
            let (answer, problem) = match &attempt {
                Attempt::Whole => return Ok(End::Done),
                Attempt::Broken(problem) => return Ok(End::Failed((*problem).to_owned())),
                Attempt::Refused(status, headers) => {
                    (Some((*status, headers)), status.as_u16().to_string())
                }
                Attempt::Unconnected => (None, "no connection".to_owned()),
            };
            let chance = chance(unique, retries);
            let Some(wait) = sdk::retry(self.wire, self.max_retries, retries, answer, chance)
            else {
                return Ok(End::Failed(problem));
            };
            let next = Instant::now() + wait;
            tokio::time::sleep_until(next.min(self.end)).await;
            if next >= self.end {
                return Ok(End::Unfinished);
            }
        }
        Ok(End::Unfinished)
    }

    fn request(
        &self,
        job: Job,
        session: usize,
        priority: Priority,
        retries: u32,
        body: Bytes,
    ) -> anyhow::Result<Request<Full<Bytes>>> {
        let request = Request::post(&self.uri)
            .header("content-type", "application/json")
            .header("x-stainless-retry-count", retries)
            .header("x-simulate-output-tokens", job.output)
            .header("x-simulate-chunk-tokens", CHUNK_TOKENS)
            .header("x-tollgate-session", format!("session-{session:02}"))
            .header("x-tollgate-priority", priority.as_str());
        let request = match self.wire {
            Wire::Anthropic => request
                .header("x-api-key", "sk-ant-goodput")
                .header("anthropic-version", "2023-06-01"),
            Wire::OpenAi => request.header("authorization", "Bearer sk-goodput"),
        };
        request.body(Full::new(body)).context("a request")
    }

    async fn attempt(&self, request: Request<Full<Bytes>>, job: Job) -> Attempt {
        let Ok(response) = self.client.request(request).await else {
            return Attempt::Unconnected;
        };
        let (head, mut body) = response.into_parts();
        let mut text = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                return Attempt::Broken("broken off");
            };
            if let Some(bytes) = frame.data_ref() {
                text.extend_from_slice(bytes);
            }
        }
        if !head.status.is_success() {
            return Attempt::Refused(head.status, head.headers);
        }
        let holds = |words: &[u8]| memchr::memmem::find(&text, words).is_some();
        if job.stream && holds(b"event: error") {
            Attempt::Broken("error in the stream")
        } else if job.stream && !holds(self.wire.last_words()) {
            Attempt::Broken("stream without its end")
        } else if text.is_empty() {
            Attempt::Broken("empty answer")
        } else {
            Attempt::Whole
        }
    }
}

/// A number from 0 to 1, the same for the same attempt in every run (splitmix64).
pub(crate) fn chance(seed: u64, number: u32) -> f64 {
    let mut mixed = seed
        .wrapping_mul(0xd1b5_4a32_d192_ed03)
        .wrapping_add(u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}
