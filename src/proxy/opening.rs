//! Looks at the beginning of a provider's answer before any of it goes to the client, because only until then can the
//! request be sent again: the whole of an error's body, or an answer up to where it shows whether it is one.
//!
//! What was read is kept as it came and goes on first. A provider that is slow to show it (a model that thinks, a queue
//! that moves on) is not held back for long: its answer passes as it is then.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::{Body as _, Frame};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use crate::llm::decode::{Coding, Decoder};
use crate::llm::meter::Framing;
use crate::llm::opening;
use crate::llm::rate_limits::{RateNews, read_error};
use crate::llm::reading::AnswerError;

/// Longest beginning that is held back, in bytes.
const LONGEST_BYTES: usize = 64 * 1024;

/// Longest beginning that is looked at, in bytes without compression.
const LONGEST_PLAIN_BYTES: usize = 1024 * 1024;

/// Longest time for which a beginning is held back once its head is there: what comes later is an answer, for all that
/// anybody can wait to see.
const LONGEST_TIME: Duration = Duration::from_secs(2);

/// What comes of a body.
type Came = Result<Frame<Bytes>, hyper::Error>;

/// The plain bytes that are looked at: so many and no more, however much a few compressed ones inflate to.
struct Looked(Vec<u8>);

impl Write for Looked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = LONGEST_PLAIN_BYTES.saturating_sub(self.0.len());
        self.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The beginning of an answer.
#[derive(Debug)]
pub(super) struct Opening {
    /// What was read; it goes to the client first. A break is part of it: the body itself does not tell of it twice.
    pub(super) begun: VecDeque<Came>,
    /// What it says.
    pub(super) seen: Seen,
}

impl Opening {
    /// Nothing was looked at.
    pub(super) const fn unread() -> Self {
        Self {
            begun: VecDeque::new(),
            seen: Seen::Answer,
        }
    }
}

/// What the beginning of an answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// An answer, as far as can be told.
    Answer,
    /// An error: by its status, or as the first thing in the answer.
    Error(AnswerError),
    /// It ended without anything in it.
    Nothing,
    /// It broke off before it showed what it is.
    Cut,
}

/// Reads the beginning of an answer, as much as is needed to tell whether it is one. What an error says of limits is added
/// to `news`.
pub(super) async fn open(
    response: &mut Response<Incoming>,
    now_ms: u64,
    news: &mut RateNews,
) -> Opening {
    let status = response.status();
    let failed = status.is_client_error() || status.is_server_error();
    let headers = response.headers().clone();
    let framing = Framing::of(&headers);
    let mut decoder = Decoder::new(Coding::of(&headers), Looked(Vec::new()));
    let mut begun = VecDeque::new();
    let until = Instant::now() + LONGEST_TIME;
    let body = response.body_mut();
    let (mut bytes, mut cut) = (0, false);
    loop {
        let mut ended = body.is_end_stream();
        if !ended {
            // Too slow: what comes of it shows as it goes on.
            let Ok(came) = timeout_at(until, body.frame()).await else {
                break;
            };
            match came.as_ref().map(|came| came.as_ref().map(Frame::data_ref)) {
                Some(Ok(Some(data))) => {
                    bytes += data.len();
                    decoder.push(data).ok();
                }
                // Trailers are the last.
                Some(Ok(None)) | None => ended = true,
                Some(Err(_)) => cut = true,
            }
            begun.extend(came);
            if cut {
                break;
            }
        }
        if ended {
            decoder.finish().ok();
        }
        if failed {
            if ended || bytes >= LONGEST_BYTES {
                break;
            }
            continue;
        }
        let seen = match opening::opening(framing, &headers, &decoder.sink().0, ended, now_ms, news)
        {
            opening::Opening::Error(error) => Seen::Error(error),
            opening::Opening::Answer => Seen::Answer,
            opening::Opening::Undecided if ended => Seen::Nothing,
            opening::Opening::Undecided if bytes >= LONGEST_BYTES => Seen::Answer,
            opening::Opening::Undecided => continue,
        };
        return Opening { begun, seen };
    }
    let seen = if failed {
        let error = read_error(status.as_u16(), &headers, &decoder.sink().0, now_ms, news);
        Seen::Error(error.unwrap_or_default())
    } else if cut {
        Seen::Cut
    } else {
        Seen::Answer
    };
    Opening { begun, seen }
}
