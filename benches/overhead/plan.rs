//! What is measured: the loads, how large they are, and what was promised for them.

/// One load that every server gets in every round.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    /// The rows' title.
    pub(crate) title: &'static str,
    /// Anthropic Messages instead of OpenAI Chat Completions.
    pub(crate) messages: bool,
    /// Chunks of text per stream, and the microseconds between them (0: as fast as they can be written).
    pub(crate) stream: Option<(u32, u32)>,
    /// Requests in all.
    pub(crate) requests: u64,
    /// Requests at the same time.
    pub(crate) concurrency: usize,
    /// The rows it yields.
    pub(crate) yields: Yields,
}

/// Which figures of a load are worth a row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Yields {
    /// CPU time per request and per-request latency under load.
    Requests,
    /// CPU time per request, and what the way through the proxy adds to one request after the other.
    SingleRequests,
    /// CPU time per event of a stream.
    Chunks,
    /// What the way through the proxy adds to a stream's first event and to those that follow.
    SingleStreams,
}

/// CPU time per small request against the pass-through that parses and meters: at most this.
pub(crate) const REQUEST_RATIO: f64 = 1.4;
/// CPU time per streamed chunk, likewise.
pub(crate) const CHUNK_RATIO: f64 = 1.2;
/// Resident memory per open stream, in KiB.
pub(crate) const STREAM_KIB: f64 = 40.0;
/// From start to the first accepted connection, in milliseconds.
pub(crate) const START_MS: f64 = 50.0;
/// Resident memory when idle, in MB.
pub(crate) const IDLE_MB: f64 = 20.0;

/// The loads, in the table's order. `share` scales the work.
pub(crate) fn scenarios(share: f64) -> Vec<Scenario> {
    let scaled = |requests: u64| ((requests as f64 * share) as u64).max(10);
    let chat = Scenario {
        title: "OpenAI chat, 32 at a time",
        messages: false,
        stream: None,
        requests: scaled(40_000),
        concurrency: 32,
        yields: Yields::Requests,
    };
    vec![
        chat,
        Scenario {
            title: "Anthropic messages, 32 at a time",
            messages: true,
            ..chat
        },
        Scenario {
            title: "OpenAI chat, one at a time",
            requests: scaled(10_000),
            concurrency: 1,
            yields: Yields::SingleRequests,
            ..chat
        },
        Scenario {
            title: "OpenAI chat, 200 streams, a chunk every 10 ms each",
            stream: Some((500, 10_000)),
            requests: scaled(200).max(200),
            concurrency: 200,
            yields: Yields::Chunks,
            ..chat
        },
        Scenario {
            title: "Anthropic messages, 200 streams, a chunk every 10 ms each",
            messages: true,
            stream: Some((500, 10_000)),
            requests: scaled(200).max(200),
            concurrency: 200,
            yields: Yields::Chunks,
        },
        Scenario {
            title: "OpenAI chat, 32 streams, chunks back to back",
            stream: Some((500, 0)),
            requests: scaled(400),
            concurrency: 32,
            yields: Yields::Chunks,
            ..chat
        },
        Scenario {
            title: "OpenAI chat, one stream at a time, a chunk every 2 ms",
            stream: Some((20, 2_000)),
            requests: scaled(100),
            concurrency: 1,
            yields: Yields::SingleStreams,
            ..chat
        },
    ]
}
