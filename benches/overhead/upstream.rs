//! The provider: answers every request at once with a fixed chat answer, or with a stream whose length and pace the
//! header `x-bench-stream: CHUNKS:PACE_MICROSECONDS` states. It parses nothing, so that it never is the bottleneck.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::time::{Instant, Sleep};

use crate::process::announce;

/// Tokens that every answer states, whole or streamed.
pub(crate) const INPUT_TOKENS: u64 = 118;
/// Likewise.
pub(crate) const OUTPUT_TOKENS: u64 = 31;

const CHAT: &str = r#"{"id":"chatcmpl-CJnYqXGbEz5k0dD5sG3iQx0q3uW1a","object":"chat.completion","created":1758800000,"model":"gpt-4.1-mini-2025-04-14","choices":[{"index":0,"message":{"role":"assistant","content":"A token bucket holds up to its capacity and is refilled at a steady rate; each request takes from it, and one that finds too little waits.","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":118,"completion_tokens":31,"total_tokens":149,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}},"service_tier":"default","system_fingerprint":"fp_c064fdde7c"}"#;
const MESSAGE: &str = r#"{"id":"msg_01XFDUDYJgAACzvnptvVoYEL","type":"message","role":"assistant","model":"claude-sonnet-4-5-20250929","content":[{"type":"text","text":"A token bucket holds up to its capacity and is refilled at a steady rate; each request takes from it, and one that finds too little waits."}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":118,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0},"output_tokens":31,"service_tier":"standard"}}"#;

const CHAT_FIRST: &str = r#"data: {"id":"chatcmpl-CJnYqXGbEz5k0dD5sG3iQx0q3uW1a","object":"chat.completion.chunk","created":1758800000,"model":"gpt-4.1-mini-2025-04-14","service_tier":"default","system_fingerprint":"fp_c064fdde7c","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}],"usage":null}

"#;
const CHAT_DELTA: [&str; 2] = [
    r#"data: {"id":"chatcmpl-CJnYqXGbEz5k0dD5sG3iQx0q3uW1a","object":"chat.completion.chunk","created":1758800000,"model":"gpt-4.1-mini-2025-04-14","service_tier":"default","system_fingerprint":"fp_c064fdde7c","choices":[{"index":0,"delta":{"content":""#,
    "\"},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n",
];
const CHAT_LAST: [&str; 3] = [
    r#"data: {"id":"chatcmpl-CJnYqXGbEz5k0dD5sG3iQx0q3uW1a","object":"chat.completion.chunk","created":1758800000,"model":"gpt-4.1-mini-2025-04-14","service_tier":"default","system_fingerprint":"fp_c064fdde7c","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null}

"#,
    r#"data: {"id":"chatcmpl-CJnYqXGbEz5k0dD5sG3iQx0q3uW1a","object":"chat.completion.chunk","created":1758800000,"model":"gpt-4.1-mini-2025-04-14","service_tier":"default","system_fingerprint":"fp_c064fdde7c","choices":[],"usage":{"prompt_tokens":118,"completion_tokens":31,"total_tokens":149,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}

"#,
    "data: [DONE]\n\n",
];

const MESSAGE_FIRST: &str = r#"event: message_start
data: {"type":"message_start","message":{"id":"msg_01XFDUDYJgAACzvnptvVoYEL","type":"message","role":"assistant","model":"claude-sonnet-4-5-20250929","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":118,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0},"output_tokens":1,"service_tier":"standard"}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

"#;
const MESSAGE_DELTA: [&str; 2] = [
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"",
    "\"}               }\n\n",
];
const MESSAGE_LAST: [&str; 3] = [
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"input_tokens\":118,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0,\"output_tokens\":31}}\n\n",
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
];

/// Serves until it is killed.
pub(crate) fn run() -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(serve())
}

async fn serve() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    announce(listener.local_addr()?)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(
            http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)),
        );
    }
}

async fn answer(
    request: Request<Incoming>,
) -> Result<Response<Either<Full<Bytes>, Chunks>>, hyper::Error> {
    let messages = request.uri().path().ends_with("/messages");
    let chunks = request
        .headers()
        .get("x-bench-stream")
        .and_then(|value| value.to_str().ok()?.split_once(':'))
        .and_then(|(chunks, pace)| Some((chunks.parse().ok()?, pace.parse().ok()?)))
        .map(|(chunks, pace)| Chunks::new(messages, chunks, Duration::from_micros(pace)));
    // An answer that overtakes its request would make hyper close the connection.
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        frame?;
    }

    // About as many headers as providers send.
    let mut response = Response::builder()
        .header("date", "Thu, 25 Sep 2025 12:00:00 GMT")
        .header("server", "bench")
        .header("x-request-id", "req_011CTWJ8v3mYb7wqZrN2kH5x")
        .header("x-ratelimit-limit-requests", "10000")
        .header("x-ratelimit-limit-tokens", "10000000")
        .header("x-ratelimit-remaining-requests", "9999")
        .header("x-ratelimit-remaining-tokens", "9999850")
        .header("x-ratelimit-reset-requests", "6ms")
        .header("x-ratelimit-reset-tokens", "0s")
        .header(
            "strict-transport-security",
            "max-age=31536000; includeSubDomains; preload",
        )
        .header("cf-ray", "98a7c2b14d5e6f70-FRA");
    response = response.header(
        "content-type",
        if chunks.is_some() {
            "text/event-stream; charset=utf-8"
        } else {
            "application/json"
        },
    );
    let whole = if messages { MESSAGE } else { CHAT };
    let body = match chunks {
        Some(chunks) => Either::Right(chunks),
        None => Either::Left(Full::from(whole)),
    };
    Ok(response.body(body).expect("the headers above are valid"))
}

/// A stream of events. Each is a frame of its own and is written to the socket before the next one is made.
struct Chunks {
    messages: bool,
    /// Events with text that are still to come.
    left: u32,
    /// The pieces that end the stream, already sent.
    ended: usize,
    started: bool,
    pace: Pace,
}

/// When the next event may go.
enum Pace {
    /// As soon as the last one is written; the flag says that hyper had its turn to write it.
    Burst { written: bool },
    /// At fixed intervals.
    Timed {
        next: Pin<Box<Sleep>>,
        every: Duration,
    },
}

impl Chunks {
    fn new(messages: bool, left: u32, every: Duration) -> Chunks {
        let pace = if every.is_zero() {
            Pace::Burst { written: true }
        } else {
            Pace::Timed {
                next: Box::pin(tokio::time::sleep_until(Instant::now() + every)),
                every,
            }
        };
        Chunks {
            messages,
            left,
            ended: 0,
            started: false,
            pace,
        }
    }

    fn event(&mut self) -> Option<Bytes> {
        let (first, [before, after], last) = if self.messages {
            (MESSAGE_FIRST, MESSAGE_DELTA, MESSAGE_LAST)
        } else {
            (CHAT_FIRST, CHAT_DELTA, CHAT_LAST)
        };
        if !self.started {
            self.started = true;
            return Some(Bytes::from_static(first.as_bytes()));
        }
        if self.left > 0 {
            self.left -= 1;
            // The text is the time at which it was made: so the client can tell how old it is.
            let made = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_nanos();
            return Some(Bytes::from(format!("{before}@{made}{after}")));
        }
        let event = last.get(self.ended)?;
        self.ended += 1;
        Some(Bytes::from_static(event.as_bytes()))
    }
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.started {
            match &mut self.pace {
                // hyper flushes when the body has nothing to give for the moment.
                Pace::Burst {
                    written: written @ false,
                } => {
                    *written = true;
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Pace::Burst { written } => *written = false,
                Pace::Timed { next, every } => {
                    if next.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    let then = next.deadline() + *every;
                    next.as_mut().reset(then);
                }
            }
        }
        Poll::Ready(self.event().map(|event| Ok(Frame::data(event))))
    }
}
