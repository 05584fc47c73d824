//! Last steps: the answer streams back as it comes, is metered from a copy, and booked before its end leaves the house.
//!
//! Each frame goes on as it came: nothing is collected, split or held back (except in streams that tollgate asked
//! usage for, where the extra chunk is cut out). When a frame brings the end of the answer, the request is booked
//! first and the frame goes out after: what a client has seen complete is in the ledger, whatever happens next.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::time::{Instant, Sleep};

use super::account::{Account, REQUEST_ID, micros, request_id_value};
use super::answer::AnswerBody;
use super::headers;
use super::send::{Reply, Served};
use super::upgrade;
use crate::llm::hide_usage::HideUsage;
use crate::llm::meter::{Coding, Framing, Meter, Progress};
use crate::llm::reading::Reading;
use crate::llm::wire::{Billing, Endpoint};
use crate::store::record::Outcome;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Turns the provider's answer into the client's.
pub(super) fn relay(served: Served, mut account: Account) -> Response<AnswerBody> {
    let Served {
        reply: Reply {
            response,
            upgrade,
            head_at,
        },
        route,
        caller,
        class,
    } = served;
    let (mut parts, body) = response.into_parts();
    let switching = parts.status == StatusCode::SWITCHING_PROTOCOLS;
    let protocol = upgrade::protocol(&parts.headers);
    headers::for_client(&mut parts.headers);
    let meter = meter(account.endpoint(), &parts.headers);
    let hide = route.asking_body.is_some() && parts.status.is_success();
    let hide = (hide && Framing::of(&parts.headers) == Framing::Sse).then(HideUsage::new);
    if hide.is_some() {
        parts.headers.remove(header::CONTENT_LENGTH);
    }
    let headers = &mut parts.headers;
    headers.insert(REQUEST_ID, request_id_value(account.id()));
    insert(headers, "x-tollgate-session", &caller.session.name);
    headers.insert(
        "x-tollgate-priority",
        HeaderValue::from_static(class.priority.as_str()),
    );
    if let Some(task) = &class.task {
        insert(headers, "x-tollgate-task", task);
    }
    if let Some(model) = &route.model {
        insert(headers, "x-tollgate-model", model);
    }
    headers.insert("x-tollgate-attempts", account.record().attempts.into());
    account.add_own_time(head_at);

    if switching
        && let (Some(client), Some(protocol)) = (upgrade, protocol)
        && let Some(provider) = parts.extensions.remove::<OnUpgrade>()
    {
        upgrade::ask(&mut parts.headers, protocol);
        // Both sides become ours once this head is out; the body of a 101 holds nothing.
        upgrade::splice(client, provider, account);
        return Response::from_parts(parts, AnswerBody::own(Bytes::new()));
    }
    let limits = Limits::of(&account);
    let mut relay = Relay {
        inner: body,
        pause: Box::pin(tokio::time::sleep_until(limits.next())),
        limits,
        meter,
        hide,
        waiting: None,
        bytes: 0,
        account,
        status: parts.status,
    };
    if relay.inner.is_end_stream() {
        // hyper will not ask a body without content for its end.
        relay.ended(Outcome::Complete);
    }
    Response::from_parts(parts, AnswerBody::Relayed(Box::new(relay)))
}

fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    // Names that cannot stand in a header (a model's, perhaps) are left out rather than changed.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

fn meter(endpoint: Endpoint, headers: &HeaderMap) -> Option<Meter> {
    (endpoint.billing() != Billing::Free)
        .then(|| Meter::new(endpoint, Framing::of(headers), Coding::of(headers)))
}

/// A provider's answer on its way to the client.
pub struct Relay {
    inner: Incoming,
    /// Fires when the provider has been silent, or the answer has run, for too long.
    pause: Pin<Box<Sleep>>,
    limits: Limits,
    meter: Option<Meter>,
    hide: Option<HideUsage>,
    /// A frame that goes out before the next one is asked for.
    waiting: Option<Bytes>,
    bytes: u64,
    account: Account,
    status: StatusCode,
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("status", &self.status)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// The answer broke a time limit: upstream.idle_timeout or upstream.total_timeout.
#[derive(Debug, thiserror::Error)]
#[error("the provider's answer took too long")]
struct TooSlow;

/// The time limits of an answer.
#[derive(Debug, Clone, Copy)]
struct Limits {
    idle: Duration,
    end: Option<Instant>,
}

impl Limits {
    fn of(account: &Account) -> Self {
        let settings = &account.settings().upstream;
        let end = settings
            .total_timeout
            .map(|total| Instant::from_std(account.arrived() + total));
        Self {
            idle: settings.idle_timeout,
            end,
        }
    }

    /// When the answer will have been silent, or will have run, for too long.
    fn next(&self) -> Instant {
        let silent = Instant::now() + self.idle;
        self.end.map_or(silent, |end| end.min(silent))
    }
}

impl Relay {
    /// Books the request. Only the first ending counts.
    fn ended(&mut self, outcome: Outcome) {
        let nothing = Reading::default();
        let reading = self.meter.as_ref().map_or(&nothing, Meter::reading);
        let outcome = match outcome {
            Outcome::Complete if reading.pending => Outcome::Pending,
            Outcome::Complete if self.status.is_client_error() || self.status.is_server_error() => {
                Outcome::ProviderError
            }
            Outcome::Complete if reading.error.is_some() => Outcome::StreamError,
            other => other,
        };
        self.account.record_mut().response_bytes = self.bytes;
        self.account.settle(outcome, reading);
    }

    /// Looks at a frame, books the request if this frame ends it, and gives the bytes that go on.
    fn pass(&mut self, data: Bytes) -> Option<Bytes> {
        if self.bytes == 0 {
            let arrived = self.account.arrived();
            self.account.record_mut().first_byte_us = micros(arrived.elapsed());
        }
        self.bytes += data.len() as u64;
        let progress = self
            .meter
            .as_mut()
            .map_or(Progress::Running, |meter| meter.feed(&data));
        let last = self.inner.is_end_stream();
        if last && let Some(meter) = &mut self.meter {
            meter.finish();
        }
        if last || progress == Progress::Terminal {
            self.ended(Outcome::Complete);
        }
        match &mut self.hide {
            None => Some(data),
            Some(hide) => {
                let kept = hide.push(data);
                let kept = if last {
                    joined(kept, hide.finish())
                } else {
                    kept
                };
                (!kept.is_empty()).then_some(kept)
            }
        }
    }
}

/// Two pieces in one; a copy only if both hold something.
fn joined(first: Bytes, second: Bytes) -> Bytes {
    match (first.is_empty(), second.is_empty()) {
        (_, true) => first,
        (true, false) => second,
        (false, false) => [first, second].concat().into(),
    }
}

impl Body for Relay {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        loop {
            if let Some(data) = this.waiting.take() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            match Pin::new(&mut this.inner).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    this.pause.as_mut().reset(this.limits.next());
                    match frame.into_data() {
                        Ok(data) => this.waiting = this.pass(data),
                        Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    this.ended(Outcome::UpstreamCut);
                    return Poll::Ready(Some(Err(error.into())));
                }
                Poll::Ready(None) => {
                    if let Some(meter) = &mut this.meter {
                        meter.finish();
                    }
                    this.ended(Outcome::Complete);
                    let held = this
                        .hide
                        .take()
                        .map(|mut hide| hide.finish())
                        .filter(|held| !held.is_empty());
                    return Poll::Ready(held.map(|held| Ok(Frame::data(held))));
                }
                Poll::Pending if this.pause.as_mut().poll(cx).is_ready() => {
                    this.ended(Outcome::TimedOut);
                    return Poll::Ready(Some(Err(Box::new(TooSlow))));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream() && self.waiting.is_none() && self.hide.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.hide.is_some() {
            SizeHint::default()
        } else {
            self.inner.size_hint()
        }
    }
}

impl Drop for Relay {
    /// A body dropped before its end: nobody takes it any more.
    fn drop(&mut self) {
        self.ended(self.account.abandoned());
    }
}
