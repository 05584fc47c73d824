//! Last steps: the answer streams back as it comes, is metered from a copy, and booked before its end leaves the house.
//!
//! Each frame goes on as it came: nothing is collected, split or held back (except in streams that tollgate asked
//! usage for, where the extra chunk is cut out). When a frame brings the end of the answer, the request is booked
//! first and the frame goes out after: what a client has seen complete is in the ledger, whatever happens next.

use std::collections::VecDeque;
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
use super::tasks::note_frame;
use super::upgrade;
use crate::llm::hide_coded::HideCodedUsage;
use crate::llm::meter::{Coding, Framing, Meter, Progress};
use crate::llm::reading::Reading;
use crate::llm::wire::{Billing, Endpoint};
use crate::store::record::Outcome;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Turns the provider's answer into the client's.
pub(super) fn relay(served: Served, mut account: Box<Account>) -> Response<AnswerBody> {
    let Served { reply, route } = served;
    let Reply {
        response,
        opening,
        upgrade,
        head_at,
    } = *reply;
    let (mut parts, body) = response.into_parts();
    let switching = parts.status == StatusCode::SWITCHING_PROTOCOLS;
    let protocol = upgrade::protocol(&parts.headers);
    headers::for_client(&mut parts.headers);
    let meter = meter(account.endpoint(), &parts.headers);
    let hide = route.hides_usage
        && parts.status.is_success()
        && Framing::of(&parts.headers) == Framing::Sse;
    let hide = if hide {
        HideCodedUsage::new(Coding::of(&parts.headers))
    } else {
        None
    };
    if hide.is_some() {
        parts.headers.remove(header::CONTENT_LENGTH);
        parts.headers.remove(header::CONTENT_ENCODING);
    }
    let headers = &mut parts.headers;
    headers.insert(REQUEST_ID, request_id_value(account.id()));
    headers::tell(account.record(), headers);
    if let Some(model) = &route.choice.model {
        insert(headers, "x-tollgate-model", model);
    }
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
    let mut relay = Relay {
        begun: opening.begun,
        gave_way: false,
        inner: body,
        limits: Limits::of(&account),
        meter,
        streams: matches!(
            Framing::of(&parts.headers),
            Framing::Sse | Framing::JsonLines
        ),
        hide,
        waiting: None,
        trailers: None,
        bytes: 0,
        account,
        status: parts.status,
    };
    if relay.begun.is_empty() && relay.inner.is_end_stream() {
        // hyper will not ask a body without content for its end.
        relay.end();
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
    /// What of the answer was read before any of it went out.
    begun: VecDeque<Result<Frame<Bytes>, hyper::Error>>,
    /// Before a break that was read already, hyper has had its turn to write.
    gave_way: bool,
    inner: Incoming,
    limits: Limits,
    meter: Option<Meter>,
    /// The answer is a stream of events or lines, which says itself when it is at its end.
    streams: bool,
    hide: Option<HideCodedUsage>,
    /// A frame that goes out before the next one is asked for.
    waiting: Option<Bytes>,
    /// Trailers that go out after it.
    trailers: Option<Frame<Bytes>>,
    bytes: u64,
    account: Box<Account>,
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

/// The time limits of an answer. The timer exists only once the provider has kept us waiting, and is set anew only when
/// it fires: most frames come without touching it.
#[derive(Debug)]
struct Limits {
    idle: Duration,
    end: Option<Instant>,
    /// When the provider last sent something.
    heard: Instant,
    timer: Option<Pin<Box<Sleep>>>,
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
            heard: Instant::now(),
            timer: None,
        }
    }

    fn heard(&mut self) {
        self.heard = Instant::now();
    }

    /// Ready when the provider has been silent, or the answer has run, for too long.
    fn poll_exceeded(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let silent = self.heard + self.idle;
            let next = self.end.map_or(silent, |end| end.min(silent));
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(next)));
            std::task::ready!(timer.as_mut().poll(cx));
            if Instant::now() >= next {
                return Poll::Ready(());
            }
            timer.as_mut().reset(next);
        }
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

    /// The body has ended cleanly: reads what is left to read and books the request. A stream that never said that it
    /// was at its end was cut all the same, only politely.
    fn end(&mut self) {
        let Some(meter) = &mut self.meter else {
            return self.ended(Outcome::Complete);
        };
        meter.finish();
        let reading = meter.reading();
        let unfinished =
            !(reading.complete || reading.whole || reading.unreadable || reading.pending);
        let cut = self.streams
            && self.status.is_success()
            && unfinished
            && reading.error.is_none()
            && self.account.endpoint().billing() == Billing::ByTokens;
        self.ended(if cut {
            Outcome::UpstreamCut
        } else {
            Outcome::Complete
        });
    }

    /// Looks at a frame, books the request if this frame ends it, and gives the bytes that go on.
    fn pass(&mut self, data: Bytes) -> Result<Option<Bytes>, BoxError> {
        if self.bytes == 0 {
            let arrived = self.account.arrived();
            self.account.record_mut().first_byte_us = micros(arrived.elapsed());
        }
        self.bytes += data.len() as u64;
        let progress = self
            .meter
            .as_mut()
            .map_or(Progress::Running, |meter| meter.feed(&data));
        let last = self.begun.is_empty() && self.inner.is_end_stream();
        if let Some(meter) = &self.meter {
            // The frame in hand is not passed on: what a hard budget has no room for is not delivered either.
            self.account.follow(meter.reading())?;
        }
        if progress == Progress::Terminal {
            self.ended(Outcome::Complete);
        } else if last {
            self.end();
        }
        let Some(hide) = &mut self.hide else {
            return Ok(Some(data));
        };
        let kept = hide.push(data)?;
        let kept = if last {
            joined(kept, hide.finish())
        } else {
            kept
        };
        Ok((!kept.is_empty()).then_some(kept))
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if let Some(data) = self.waiting.take() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            if let Some(trailers) = self.trailers.take() {
                return Poll::Ready(Some(Ok(trailers)));
            }
            if matches!(self.begun.front(), Some(Err(_))) && !self.gave_way {
                // hyper forgets what it has not written yet when a body breaks off: what came before goes out first.
                self.gave_way = true;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let next = match self.begun.pop_front() {
                Some(came) => Poll::Ready(Some(came)),
                None => Pin::new(&mut self.inner).poll_frame(cx),
            };
            match next {
                Poll::Ready(Some(Ok(frame))) => {
                    self.limits.heard();
                    match frame.into_data() {
                        Ok(data) => match self.pass(data) {
                            Ok(kept) => self.waiting = kept,
                            Err(error) => {
                                self.ended(Outcome::UpstreamCut);
                                return Poll::Ready(Some(Err(error)));
                            }
                        },
                        // Trailers are the last frame, and hyper does not ask for an end behind them.
                        Err(trailers) => {
                            self.end();
                            self.waiting = self.held();
                            self.trailers = Some(trailers);
                        }
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    self.ended(Outcome::UpstreamCut);
                    return Poll::Ready(Some(Err(error.into())));
                }
                Poll::Ready(None) => {
                    self.end();
                    return Poll::Ready(self.held().map(|held| Ok(Frame::data(held))));
                }
                Poll::Pending => {
                    std::task::ready!(self.limits.poll_exceeded(cx));
                    self.ended(Outcome::TimedOut);
                    return Poll::Ready(Some(Err(Box::new(TooSlow))));
                }
            }
        }
    }

    /// What is still held back when the body has ended.
    fn held(&mut self) -> Option<Bytes> {
        self.hide
            .take()
            .map(|mut hide| hide.finish())
            .filter(|held| !held.is_empty())
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
        let polled = self.get_mut().poll_next(cx);
        note_frame(polled.is_ready());
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.begun.is_empty()
            && self.inner.is_end_stream()
            && self.waiting.is_none()
            && self.trailers.is_none()
            && self.hide.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.hide.is_some() {
            return SizeHint::default();
        }
        let begun = self.begun.iter().flatten().filter_map(Frame::data_ref);
        let begun: u64 = begun.map(|data| data.len() as u64).sum();
        let mut hint = self.inner.size_hint();
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(begun));
        }
        hint.set_lower(hint.lower().saturating_add(begun));
        hint
    }
}

impl Drop for Relay {
    /// A body dropped before its end: nobody takes it any more.
    fn drop(&mut self) {
        self.ended(self.account.abandoned());
    }
}
