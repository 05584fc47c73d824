//! The least that anyone who counts tokens must do, written to be fast: the yardstick for tollgate's own metering.
//! The request is parsed without copying; a whole answer is parsed once at its end; of a stream only those lines are
//! parsed that state a usage.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};

use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;

/// All tokens seen: the result must go somewhere, or the compiler could leave the work out.
static TOKENS: AtomicU64 = AtomicU64::new(0);
static STREAMS_ASKED: AtomicU64 = AtomicU64::new(0);

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow)]
    model: Cow<'a, str>,
    #[serde(default)]
    stream: bool,
    #[serde(borrow)]
    messages: &'a RawValue,
}

/// An answer, or one event of a stream, in either wire format.
#[derive(Deserialize)]
struct Answer {
    usage: Option<Usage>,
    message: Option<Start>,
}

/// Anthropic's `message_start` carries the first usage one level down.
#[derive(Deserialize)]
struct Start {
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(alias = "prompt_tokens")]
    input_tokens: Option<u64>,
    #[serde(alias = "completion_tokens")]
    output_tokens: Option<u64>,
}

/// Parses a request; false when it is not a chat request.
pub(crate) fn note_request(body: &[u8]) -> bool {
    let Ok(call) = serde_json::from_slice::<Call<'_>>(body) else {
        return false;
    };
    STREAMS_ASKED.fetch_add(u64::from(call.stream), Ordering::Relaxed);
    !call.model.is_empty() && call.messages.get().starts_with('[')
}

/// Reads the usage of one answer from a copy of its bytes, and books it when dropped.
pub(crate) struct Meter {
    stream: bool,
    /// The whole answer, or of a stream the line that is not complete yet.
    kept: Vec<u8>,
    input: u64,
    output: u64,
}

impl Meter {
    /// Starts a meter for a whole answer or for a stream of events.
    pub(crate) fn new(stream: bool) -> Meter {
        Meter {
            stream,
            kept: Vec::new(),
            input: 0,
            output: 0,
        }
    }

    /// Takes in the next bytes of the answer.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) {
        if !self.stream {
            self.kept.extend_from_slice(bytes);
            return;
        }
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            if self.kept.is_empty() {
                self.line(line);
            } else {
                self.kept.extend_from_slice(line);
                let line = std::mem::take(&mut self.kept);
                self.line(&line);
            }
            bytes = rest;
        }
        self.kept.extend_from_slice(bytes);
    }

    fn line(&mut self, line: &[u8]) {
        let Some(json) = line.strip_prefix(b"data:") else {
            return;
        };
        // OpenAI writes `"usage":null` into every chunk but the last: only an object is worth parsing.
        let stated = memmem::find_iter(json, b"\"usage\"").any(|at| {
            let mut after = json[at + 7..]
                .iter()
                .filter(|byte| !byte.is_ascii_whitespace());
            after.next() == Some(&b':') && after.next() == Some(&b'{')
        });
        if stated {
            self.parse(json);
        }
    }

    fn parse(&mut self, json: &[u8]) {
        let Ok(answer) = serde_json::from_slice::<Answer>(json) else {
            return;
        };
        if let Some(usage) = answer
            .usage
            .or_else(|| answer.message.and_then(|start| start.usage))
        {
            self.input = usage.input_tokens.unwrap_or(self.input);
            self.output = usage.output_tokens.unwrap_or(self.output);
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if !self.stream {
            let whole = std::mem::take(&mut self.kept);
            self.parse(&whole);
        }
        TOKENS.fetch_add(self.input + self.output, Ordering::Relaxed);
    }
}
