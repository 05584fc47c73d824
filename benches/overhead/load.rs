//! The clients: a fixed number of requests over keep-alive connections, or a number of streams held open. Prints what
//! it saw as one line of JSON, for the process that measures.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use memchr::memmem;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use crate::process::report_line;
use crate::response::{Connection, Framing};

/// What to send, and where.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Host and port.
    #[arg(long)]
    target: String,
    /// Anthropic Messages instead of OpenAI Chat Completions.
    #[arg(long)]
    messages: bool,
    /// Requests in all; with `--hold`, streams.
    #[arg(long)]
    requests: u64,
    /// Requests at the same time.
    #[arg(long, default_value_t = 1)]
    concurrency: usize,
    /// Ask for streams of CHUNKS:PACE_MICROSECONDS.
    #[arg(long)]
    stream: Option<String>,
    /// Keep all streams open until standard input ends.
    #[arg(long)]
    hold: bool,
}

/// What the clients saw. Times in microseconds.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Complete answers.
    pub(crate) requests: u64,
    /// Events of streams.
    pub(crate) events: u64,
    /// Wall time of the whole load.
    pub(crate) seconds: f64,
    /// From the first byte written to the last byte read.
    pub(crate) total: Quantiles,
    /// From the first byte written to the first piece of the body.
    pub(crate) first: Quantiles,
    /// From the making of an event at the upstream to its arrival, first events apart.
    pub(crate) age: Quantiles,
}

/// Two points of a distribution.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Quantiles {
    /// Half are at most this.
    pub(crate) p50: f64,
    /// 99 of 100 are at most this.
    pub(crate) p99: f64,
}

impl Quantiles {
    fn of(mut times: Vec<Duration>) -> Quantiles {
        times.sort_unstable();
        let at = |share: f64| {
            let index = (share * times.len().saturating_sub(1) as f64).round() as usize;
            times
                .get(index)
                .map_or(0.0, |time| time.as_secs_f64() * 1e6)
        };
        Quantiles {
            p50: at(0.5),
            p99: at(0.99),
        }
    }
}

#[derive(Default)]
struct Times {
    total: Vec<Duration>,
    first: Vec<Duration>,
    age: Vec<Duration>,
    events: u64,
}

/// Runs the load and prints the outcome.
pub(crate) fn run(options: Options) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let request: Arc<[u8]> = request(&options).into();
            if options.hold {
                hold(&options, request).await
            } else {
                burst(&options, request).await
            }
        })
}

/// The bytes of a request as the vendors' Python SDKs send it.
fn request(options: &Options) -> Vec<u8> {
    let stream = options.stream.is_some();
    let (path, key, body) = if options.messages {
        let body = format!(
            r#"{{"max_tokens":1024,"messages":[{{"role":"user","content":"Explain in two sentences how a token bucket limits the rate of requests."}},{{"role":"assistant","content":"It holds tokens up to a fixed capacity and refills at a steady rate. Each request takes some; a request that finds too few waits or is refused."}},{{"role":"user","content":"Now say the same in one sentence, for somebody who has never heard of rate limits and does not care for the details."}}],"model":"claude-sonnet-4-5","system":"You are a careful assistant. Answer briefly and in plain words."{}}}"#,
            if stream { r#","stream":true"# } else { "" }
        );
        (
            "/v1/messages",
            "x-api-key: sk-ant-api03-bench\r\nanthropic-version: 2023-06-01",
            body,
        )
    } else {
        let body = format!(
            r#"{{"messages":[{{"role":"system","content":"You are a careful assistant. Answer briefly and in plain words."}},{{"role":"user","content":"Explain in two sentences how a token bucket limits the rate of requests: it holds tokens up to a fixed capacity and refills at a steady rate; each request takes some, and one that finds too few waits."}},{{"role":"user","content":"Now say the same in one sentence, for somebody who has never heard of rate limits and does not care for the details."}}],"model":"gpt-4.1-mini","max_completion_tokens":1024,"temperature":0.2{}}}"#,
            if stream {
                r#","stream":true,"stream_options":{"include_usage":true}"#
            } else {
                ""
            }
        );
        (
            "/v1/chat/completions",
            "authorization: Bearer sk-proj-bench",
            body,
        )
    };
    let ask = options
        .stream
        .as_ref()
        .map(|stream| format!("x-bench-stream: {stream}\r\n"))
        .unwrap_or_default();
    format!(
        "POST {path} HTTP/1.1\r\nhost: {}\r\naccept-encoding: identity\r\nconnection: keep-alive\r\naccept: application/json\r\n\
         content-type: application/json\r\nuser-agent: OpenAI/Python 2.6.1\r\nx-stainless-lang: python\r\n\
         x-stainless-package-version: 2.6.1\r\nx-stainless-os: Linux\r\nx-stainless-arch: x64\r\n\
         x-stainless-runtime: CPython\r\nx-stainless-runtime-version: 3.13.7\r\nx-stainless-async: false\r\n\
         x-stainless-retry-count: 0\r\nx-stainless-read-timeout: 600\r\n{key}\r\n{ask}content-length: {}\r\n\r\n{body}",
        options.target,
        body.len(),
    )
    .into_bytes()
}

/// Events of a stream with so many chunks of text, as the upstream frames them.
fn events_expected(options: &Options) -> anyhow::Result<u64> {
    let Some(stream) = &options.stream else {
        return Ok(0);
    };
    let (chunks, _) = stream
        .split_once(':')
        .context("--stream wants CHUNKS:PACE")?;
    Ok(chunks.parse::<u64>()? + if options.messages { 5 } else { 4 })
}

/// A fixed number of requests, so many at a time.
async fn burst(options: &Options, request: Arc<[u8]>) -> anyhow::Result<()> {
    let left = Arc::new(AtomicU64::new(options.requests));
    let expected = events_expected(options)?;
    let ages = options.concurrency == 1;
    let begin = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..options.concurrency {
        let mut connection = Connection::open(&options.target).await?;
        let (left, request) = (Arc::clone(&left), Arc::clone(&request));
        clients.spawn(async move {
            let mut times = Times::default();
            while left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                    left.checked_sub(1)
                })
                .is_ok()
            {
                let before = times.events;
                exchange(&mut connection, &request, ages, &mut times).await?;
                let events = times.events - before;
                ensure!(
                    events == expected,
                    "a stream had {events} events instead of {expected}"
                );
            }
            anyhow::Ok(times)
        });
    }
    let mut all = Times::default();
    while let Some(times) = clients.join_next().await {
        let times = times??;
        all.total.extend(times.total);
        all.first.extend(times.first);
        all.age.extend(times.age);
        all.events += times.events;
    }
    report_line(&Outcome {
        requests: all.total.len() as u64,
        events: all.events,
        seconds: begin.elapsed().as_secs_f64(),
        total: Quantiles::of(all.total),
        first: Quantiles::of(all.first),
        age: Quantiles::of(all.age),
    })
}

/// Sends one request and reads its answer to the end.
async fn exchange(
    connection: &mut Connection,
    request: &[u8],
    ages: bool,
    times: &mut Times,
) -> anyhow::Result<()> {
    let begin = Instant::now();
    connection.socket.write_all(request).await?;
    let mut framing = connection.head().await?;
    let mut first = None;
    let mut last_byte = 0;
    while let Some(piece) = connection.piece(&mut framing).await? {
        first.get_or_insert_with(|| begin.elapsed());
        if matches!(framing, Framing::Chunked) {
            times.events += ends(&piece, &mut last_byte);
            if ages {
                times.age.extend(age(&piece));
            }
        }
    }
    times.total.push(begin.elapsed());
    times.first.extend(first);
    Ok(())
}

/// Counts the empty lines that end events, also where a line's end is the first byte of a piece.
fn ends(piece: &[u8], last_byte: &mut u8) -> u64 {
    let across = *last_byte == b'\n' && piece.first() == Some(&b'\n');
    *last_byte = piece.last().copied().unwrap_or(*last_byte);
    memmem::find_iter(piece, b"\n\n").count() as u64 + u64::from(across)
}

/// How long ago the event in this piece was made; its text is the wall time of its making in nanoseconds.
fn age(piece: &[u8]) -> Option<Duration> {
    let digits = &piece[memmem::find(piece, b"\"@")? + 2..];
    let digits = &digits[..memchr::memchr(b'"', digits)?];
    let made = Duration::from_nanos(std::str::from_utf8(digits).ok()?.parse().ok()?);
    SystemTime::now().duration_since(UNIX_EPOCH + made).ok()
}

/// Opens all streams, says so, and counts their events until standard input ends.
async fn hold(options: &Options, request: Arc<[u8]>) -> anyhow::Result<()> {
    // Connecting at once would overflow the listener's backlog.
    let opening = Arc::new(Semaphore::new(64));
    let events = Arc::new(AtomicU64::new(0));
    let mut streams = JoinSet::new();
    let mut opened = JoinSet::new();
    for _ in 0..options.requests {
        let permit = Arc::clone(&opening).acquire_owned().await?;
        let (target, request, events) = (
            options.target.clone(),
            Arc::clone(&request),
            Arc::clone(&events),
        );
        let (open, is_open) = oneshot::channel();
        opened.spawn(is_open);
        streams.spawn(async move {
            let mut connection = Connection::open(&target).await?;
            connection.socket.write_all(&request).await?;
            let mut framing = connection.head().await?;
            let mut open = Some((permit, open));
            let mut last_byte = 0;
            while let Some(piece) = connection.piece(&mut framing).await? {
                events.fetch_add(ends(&piece, &mut last_byte), Ordering::Relaxed);
                if let Some((permit, open)) = open.take() {
                    drop(permit);
                    // Nobody listens any more when the load is about to end.
                    let _ = open.send(());
                }
            }
            anyhow::bail!("a stream ended that should have stayed open")
        });
    }
    let all_open = async {
        while let Some(open) = opened.join_next().await {
            open?.context("a stream ended before its first event")?;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        biased;
        open = all_open => open?,
        Some(broken) = streams.join_next() => return broken?,
    }
    report_line(&Outcome {
        requests: options.requests,
        ..Outcome::default()
    })?;

    let (begin, before) = (Instant::now(), events.load(Ordering::Relaxed));
    let (close, is_closed) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = close.send(());
    });
    tokio::select! {
        _ = is_closed => {}
        Some(broken) = streams.join_next() => return broken?,
    }
    report_line(&Outcome {
        requests: options.requests,
        events: events.load(Ordering::Relaxed) - before,
        seconds: begin.elapsed().as_secs_f64(),
        ..Outcome::default()
    })
}
