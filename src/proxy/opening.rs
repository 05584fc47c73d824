//! Looks at the beginning of a provider's answer before any of it goes to the client, because only until then can the
//! request be sent again: the whole of an error's body, or a stream up to its first event, which may be an error with
//! status 200.
//!
//! What was read is kept as it came and goes on first. A provider that is slow with its first event (it sends comments
//! while its queue moves on) is not held back for long: its answer passes as it is then.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Response;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use crate::llm::meter::{Coding, Framing, Meter, Progress};
use crate::llm::reading::AnswerError;
use crate::llm::wire::Endpoint;

/// Longest beginning that is held back, in bytes.
const LONGEST_BYTES: usize = 64 * 1024;

/// Longest time for which a beginning is held back once its head is there.
const LONGEST_TIME: Duration = Duration::from_secs(5);

/// The beginning of an answer.
#[derive(Debug)]
pub(super) struct Opening {
    /// What was read; it goes to the client first.
    pub(super) begun: VecDeque<Bytes>,
    /// What it says.
    pub(super) seen: Seen,
}

/// What the beginning of an answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// An answer, as far as can be told.
    Answer,
    /// An error: in its status, or as the first event of a stream.
    Error(AnswerError),
    /// Status 200 and nothing else.
    Nothing,
    /// It broke off before it said anything.
    Cut,
}

impl Opening {
    /// What was read, in one piece.
    pub(super) fn bytes(&self) -> Bytes {
        match self.begun.len() {
            1 => self.begun[0].clone(),
            _ => {
                let mut whole = BytesMut::new();
                self.begun
                    .iter()
                    .for_each(|piece| whole.extend_from_slice(piece));
                whole.freeze()
            }
        }
    }
}

/// Reads the beginning of an answer, as much as is needed to tell whether it is one.
pub(super) async fn open(response: &mut Response<Incoming>, endpoint: Endpoint) -> Opening {
    let status = response.status();
    let failed = status.is_client_error() || status.is_server_error();
    let framing = Framing::of(response.headers());
    let streams = matches!(framing, Framing::Sse | Framing::JsonLines);
    let mut meter = Meter::new(endpoint, framing, Coding::of(response.headers()));
    let mut opening = Opening {
        begun: VecDeque::new(),
        seen: Seen::Answer,
    };
    // A whole answer that is none of these goes on without being looked at.
    if !(failed || streams || response.body().is_end_stream()) {
        return opening;
    }
    let until = Instant::now() + LONGEST_TIME;
    let body = response.body_mut();
    let mut bytes = 0;
    loop {
        if body.is_end_stream() {
            meter.finish();
            opening.seen = ended(&meter, failed, bytes);
            return opening;
        }
        let Ok(frame) = timeout_at(until, body.frame()).await else {
            opening.seen = told(&meter, failed);
            return opening;
        };
        match frame {
            None => {
                meter.finish();
                opening.seen = ended(&meter, failed, bytes);
                return opening;
            }
            Some(Err(_)) => {
                opening.seen = Seen::Cut;
                return opening;
            }
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else {
                    // Trailers end an answer; what stood before them decides.
                    opening.seen = ended(&meter, failed, bytes);
                    return opening;
                };
                bytes += data.len();
                let progress = meter.feed(&data);
                opening.begun.push_back(data);
                let reading = meter.reading();
                let begun = reading.usage.is_some()
                    || reading.model.is_some()
                    || reading.output_bytes > 0
                    || reading.error.is_some()
                    || progress == Progress::Terminal
                    || reading.unreadable;
                if bytes >= LONGEST_BYTES || (!failed && begun) {
                    opening.seen = told(&meter, failed);
                    return opening;
                }
            }
        }
    }
}

fn told(meter: &Meter, failed: bool) -> Seen {
    let reading = meter.reading();
    match &reading.error {
        // An error after the first words is part of the answer: nothing can be taken back any more.
        Some(error) if reading.output_bytes == 0 => Seen::Error(error.clone()),
        None if failed => Seen::Error(AnswerError::default()),
        _ => Seen::Answer,
    }
}

fn ended(meter: &Meter, failed: bool, bytes: usize) -> Seen {
    match told(meter, failed) {
        Seen::Answer if bytes == 0 => Seen::Nothing,
        seen => seen,
    }
}
