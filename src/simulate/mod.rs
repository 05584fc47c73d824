//! The simulated provider: answers like Anthropic, OpenAI and its likes, Gemini and Ollama, without a model behind it.
//!
//! For trying tollgate out, for tests and for benchmarks. What an
//! answer is like is decided by the settings, then the script ([`Script`]), then the request's own headers:
//!
//! | header | does |
//! | --- | --- |
//! | `x-simulate-input-tokens` `-output-tokens` | the figures; else a quarter of the text's bytes, and 16 |
//! | `x-simulate-cached-tokens` `-cache-write-tokens` `-cache-write-1h-tokens` | parts of the input |
//! | `x-simulate-reasoning-tokens` | part of the output; else 8 if the request asks for reasoning |
//! | `x-simulate-latency-ms` | time to the head |
//! | `x-simulate-token-ms` | time before every frame that carries tokens |
//! | `x-simulate-tokens-per-second` | the same as a speed, which whole answers wait for too |
//! | `x-simulate-chunk-tokens` | tokens in a frame; else 1 |
//! | `x-simulate-model` | the model that the answer names |
//! | `x-simulate-tool` | call this tool of the request's, or its first one by `any` |
//! | `x-simulate-flavour` | `openai`, `azure`, `openrouter`, `groq`, `mistral`, `together`, `deepseek`, `xai`, `llamacpp`, `vllm` |
//! | `x-simulate-no-usage` | leave out all usage |
//! | `x-simulate-encoding` | `gzip`, `deflate`, `br`, `zstd` |
//! | `x-simulate-status` | answer with this error |
//! | `x-simulate-retry-after` | seconds that an error says to wait; 0 for none |
//! | `x-simulate-error-code` | the error's code |
//! | `x-simulate-header` | `NAME: VALUE` in the answer's head instead of its own; without a value, none; repeatable |
//! | `x-simulate-drop` | close the connection without an answer |
//! | `x-simulate-hang` | never answer |
//! | `x-simulate-cut-after` | frames, then a TCP reset; with `x-simulate-cut-by: close` an early close |
//! | `x-simulate-end-after` | frames, then a clean end without its events |
//! | `x-simulate-error-after` | frames, then an error event |
//! | `x-simulate-hang-after` | frames, then silence |
//!
//! An answer that does not stream counts as two frames, its halves. The request's own maximum always bounds the output.
//! Figures that a format cannot tell (Ollama knows no cache) are dropped, also from the counts.
//!
//! [`Limits`] are enforced as a provider would: token buckets, requests at the same time, each provider's own headers and
//! refusals. `GET /_simulate/limits` tells what they let through and refused, `GET /_simulate/timeline` what happened
//! when; `PUT /_simulate/limits` and `PUT /_simulate/script` put others in place.
//!
//! A strict one ([`strict`]) refuses what the real model would refuse.
//!
//! `GET /_simulate/stats`, `GET /_simulate/requests?last=N` (or `?id=ID`) and `POST /_simulate/reset` are about what was
//! done; every answer carries the id of its entry there as `request-id` or `x-request-id`. `/_simulate/echo` tells a
//! request back, `/_simulate/reflect` sends its body back.

mod answer;
mod anthropic;
mod ask;
mod behaviour;
mod body;
mod chat;
mod chat_stream;
mod chat_usage;
mod completions;
mod control;
mod encode;
mod errors;
mod exchange;
mod frames;
mod gemini;
mod headers;
mod limit_words;
mod limits;
mod media;
mod models;
mod ollama;
mod remembered;
mod reply;
mod responses;
mod route;
mod running;
mod script;
mod settings;
mod simulator;
mod socket;
mod standing;
mod stats;
pub mod strict;
mod text;
mod timeline;
mod vectors;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

pub use behaviour::{Behaviour, CutBy, Encoding, Flavour};
pub use limits::{ClassLimits, Headers, Limits, Reserve};
pub use script::{Script, ScriptError};
pub use settings::SimulateSettings;

use running::Running;
use simulator::Simulator;
use socket::{ResetFlag, Socket};

/// Streams at once on one HTTP/2 connection.
const HTTP2_STREAMS: u32 = 4096;

/// Pause after a failed accept (too many open files): long enough for others to end, short enough not to be noticed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves simulated answers on this listener, HTTP/1.1 and HTTP/2 alike, until `shutdown` is done; then running answers
/// may go on for [`SimulateSettings::drain`].
///
/// # Cancel safety
/// Dropped, it closes all its connections.
pub async fn serve(
    listener: TcpListener,
    settings: SimulateSettings,
    shutdown: impl Future<Output = ()>,
) {
    let drain = settings.drain;
    let simulator = Arc::new(Simulator::new(settings));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // No timers on the way of a request: this is what others are measured against, on a machine of one's own.
    builder.http1().header_read_timeout(None);
    builder.http2().max_concurrent_streams(HTTP2_STREAMS);
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    let mut listening = Some(listener);
    let address = listening
        .as_ref()
        .and_then(|listener| listener.local_addr().ok());
    while let Some(listener) = listening.take() {
        let outage = simulator.running.outage();
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = connections.join_next(), if !connections.is_empty() => {
                listening = Some(listener);
                continue;
            }
            () = simulator.running.changed() => {
                listening = Some(listener);
                continue;
            }
            () = sleep_until(outage.map_or_else(Instant::now, |(from, _)| from)), if outage.is_some() => {
                drop(listener);
                connections.shutdown().await;
                tokio::select! {
                    back = back_after_outage(&simulator.running, address) => listening = back,
                    () = &mut shutdown => {}
                }
                continue;
            }
            () = &mut shutdown => break,
        };
        listening = Some(listener);
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(problem) => {
                tracing::warn!(%problem, "simulated provider could not accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // A peer that is gone already shows itself at the first read.
        let _ = stream.set_nodelay(true);
        let reset = ResetFlag::default();
        let socket = TokioIo::new(Socket::new(stream, Arc::clone(&reset)));
        let simulator = Arc::clone(&simulator);
        let service =
            service_fn(move |request| Arc::clone(&simulator).handle(Arc::clone(&reset), request));
        let connection = graceful.watch(builder.serve_connection(socket, service).into_owned());
        connections.spawn(async move {
            // Clients that leave and answers that are cut end with an error: daily bread here.
            let _ = connection.await;
        });
    }
    drop(listening);
    // Past the deadline the set is dropped, and with it every connection that is left.
    let _ = tokio::time::timeout(drain, graceful.shutdown()).await;
}

/// Listens again at the same address once no outage is any more.
async fn back_after_outage(running: &Running, address: Option<SocketAddr>) -> Option<TcpListener> {
    let address = address?;
    while let Some((from, until)) = running.outage() {
        if Instant::now() < from {
            break;
        }
        sleep_until(until).await;
    }
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return Some(listener),
            Err(problem) => {
                tracing::warn!(%problem, "simulated provider could not listen again");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
