//! Keeps a streaming client company while its request waits in line: after a time its answer begins with comments, which
//! every reader of server-sent events skips, so that neither the client nor anything in between gives up.
//!
//! The price: the answer has begun with status 200, so whatever refusal or error comes of the wait arrives inside the
//! stream. That is why it is switched on by `throttle.queue.keep_alive` only.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use http_body::{Body, Frame};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep};

use super::account::{REQUEST_ID, request_id_value};
use super::answer::AnswerBody;
use super::tasks::note_frame;
use crate::llm::decode::{Coding, Decoder};
use crate::llm::error_event;
use crate::llm::wire::Endpoint;
use crate::store::record::Record;

/// What a waiting client reads: a comment, then the end of an event that holds nothing.
const COMMENT: &[u8] = b": tollgate: waiting in line\n\n";

/// Longest answer that is turned into an event; longer ones (a provider's page of HTML) are cut off.
const LONGEST_ERROR_BYTES: usize = 64 * 1024;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The path that a request goes.
pub(super) type Path = Pin<Box<dyn Future<Output = Response<AnswerBody>> + Send>>;

/// Between the path and whoever holds its client's connection: says that the request waits.
#[derive(Debug, Default)]
pub(super) struct Hold {
    waits: Notify,
    head: Mutex<Option<Head>>,
    begun: AtomicBool,
}

/// What can be said of an answer before there is one.
#[derive(Debug)]
struct Head {
    headers: http::HeaderMap,
    endpoint: Endpoint,
}

impl Hold {
    /// The request waits, and its client reads server-sent events.
    pub(super) fn begin(&self, record: &Record, endpoint: Endpoint) {
        let mut headers = http::HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream; charset=utf-8"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(REQUEST_ID, request_id_value(record.id));
        headers.insert(
            "x-tollgate-priority",
            HeaderValue::from_static(record.priority.as_str()),
        );
        headers.insert(
            "x-tollgate-level",
            HeaderValue::from_static(record.level.as_str()),
        );
        if let Ok(session) = HeaderValue::from_str(&record.session) {
            headers.insert("x-tollgate-session", session);
        }
        let head = Head { headers, endpoint };
        *self.head.lock().unwrap_or_else(PoisonError::into_inner) = Some(head);
        self.waits.notify_one();
    }

    /// The request does not wait any more. If its answer has not begun until now, it begins when there is one.
    pub(super) fn end(&self) {
        let head = &mut *self.head.lock().unwrap_or_else(PoisonError::into_inner);
        *head = None;
    }

    fn take(&self) -> Option<Head> {
        let head = self
            .head
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        self.begun.store(head.is_some(), Ordering::Relaxed);
        head
    }

    /// Whether the answer has begun: then a refusal must be an event in it.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }
}

/// The answer of the path; or, if the request still waits after `every`, an answer that begins with comments.
pub(super) async fn company(
    hold: Arc<Hold>,
    every: Duration,
    mut path: Path,
) -> Response<AnswerBody> {
    tokio::select! {
        answer = &mut path => return answer,
        () = hold.waits.notified() => {}
    }
    tokio::select! {
        answer = &mut path => return answer,
        () = sleep(every) => {}
    }
    let Some(Head { headers, endpoint }) = hold.take() else {
        return path.await;
    };
    let mut response = Response::new(AnswerBody::Held(Box::new(Held {
        now: Now::Waiting(path),
        comment: Box::pin(sleep(Duration::ZERO)),
        every,
        endpoint,
    })));
    *response.headers_mut() = headers;
    response
}

/// An answer that has begun before there was one.
pub struct Held {
    now: Now,
    comment: Pin<Box<Sleep>>,
    every: Duration,
    endpoint: Endpoint,
}

enum Now {
    /// The path goes on here; dropping it is what its client's leaving means.
    Waiting(Path),
    /// The provider's stream or a refusal as an event, and what makes it plain: its head, which would tell of a coding, has
    /// been told without one.
    Streaming(Pin<Box<AnswerBody>>, Option<Decoder<Vec<u8>>>),
    /// The provider's error, which must become an event.
    Refused(Pin<Box<AnswerBody>>, Vec<u8>),
    Ended,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Held")
    }
}

impl Held {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            match &mut self.now {
                Now::Waiting(path) => {
                    if let Poll::Ready(answer) = path.as_mut().poll(cx) {
                        self.now = Now::of(answer);
                        continue;
                    }
                    std::task::ready!(self.comment.as_mut().poll(cx));
                    self.comment.as_mut().reset(Instant::now() + self.every);
                    return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(COMMENT)))));
                }
                Now::Streaming(body, None) => return body.as_mut().poll_frame(cx),
                Now::Streaming(body, Some(decoder)) => {
                    let coded = match std::task::ready!(body.as_mut().poll_frame(cx)) {
                        Some(Ok(frame)) => match frame.into_data() {
                            Ok(data) => data,
                            Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                        },
                        end => return Poll::Ready(end),
                    };
                    decoder.push(&coded)?;
                    let plain = std::mem::take(decoder.sink_mut());
                    if !plain.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(plain.into()))));
                    }
                }
                Now::Refused(body, seen) => match std::task::ready!(body.as_mut().poll_frame(cx)) {
                    Some(Ok(frame)) => {
                        if let Ok(data) = frame.into_data() {
                            let room = LONGEST_ERROR_BYTES.saturating_sub(seen.len());
                            seen.extend_from_slice(&data[..data.len().min(room)]);
                        }
                    }
                    Some(Err(error)) => {
                        self.now = Now::Ended;
                        return Poll::Ready(Some(Err(error)));
                    }
                    None => {
                        let event = error_event::of_body(self.endpoint, seen);
                        self.now = Now::Ended;
                        return Poll::Ready(Some(Ok(Frame::data(event.into()))));
                    }
                },
                Now::Ended => return Poll::Ready(None),
            }
        }
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = self.poll_next(cx);
        note_frame(polled.is_ready());
        polled
    }
}

impl Now {
    fn of(answer: Response<AnswerBody>) -> Self {
        let streams = answer
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        let good = answer.status() == StatusCode::OK && streams;
        let coding = Coding::of(answer.headers());
        let body = Box::pin(answer.into_body());
        match coding {
            Coding::Identity if good => Self::Streaming(body, None),
            Coding::Gzip | Coding::Deflate | Coding::Brotli | Coding::Zstd if good => {
                Self::Streaming(body, Some(Decoder::new(coding, Vec::new())))
            }
            _ => Self::Refused(body, Vec::new()),
        }
    }
}
