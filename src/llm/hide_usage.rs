//! Takes the usage out of an OpenAI stream whose client did not ask for it.
//!
//! tollgate asks for usage so that it can book it (`stream_options.include_usage`). The provider then adds `"usage":null`
//! to every chunk and one extra chunk without choices, on which some clients fail. Both are removed again; every other
//! byte stays. Only an event that is not complete yet is held back.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use memchr::memmem;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::fields::{Each, TextBytes};
use super::reader::answer_error;
use super::sse::EventEnds;

/// Longest event that is held back until it is complete; a longer one passes as it is.
const MAX_HELD: usize = 1 << 20;

/// The filter of one stream.
#[derive(Debug, Default)]
pub struct HideUsage {
    ends: EventEnds,
    held: BytesMut,
    /// The current event is too long to be held: the rest of it passes.
    passing: bool,
    /// The last event was removed; an LF that completes its last CR goes with it.
    removed: bool,
}

/// What is to be done with an event.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Keep,
    /// Everything but comment lines goes.
    Remove,
    /// These bytes go.
    Cut(Range<usize>),
}

impl HideUsage {
    /// Starts at the beginning of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream, plain ones, and returns those that may go on; none if the event that they
    /// belong to is not complete. What comes out is the chunk itself, or a slice of it, unless something was held or
    /// removed.
    pub fn push(&mut self, chunk: Bytes) -> Bytes {
        let mut out = Output {
            chunk: &chunk,
            kept: 0..0,
            copy: BytesMut::new(),
        };
        let mut at = 0;
        if self.ends.takes_lf(&chunk) {
            at = 1;
            if !self.removed {
                out.keep(0..1);
            }
        }
        while let Some(length) = self.ends.find(&chunk[at..]) {
            let event = at..at + length;
            at = event.end;
            self.removed = false;
            if std::mem::take(&mut self.passing) {
                out.keep(event);
            } else if self.held.is_empty() {
                let verdict = judge(&chunk[event.clone()]);
                self.removed = verdict == Verdict::Remove;
                match verdict {
                    Verdict::Keep => out.keep(event),
                    Verdict::Cut(cut) => {
                        out.keep(event.start..event.start + cut.start);
                        out.keep(event.start + cut.end..event.end);
                    }
                    Verdict::Remove => {
                        for line in comments(&chunk[event.clone()]) {
                            out.keep(event.start + line.start..event.start + line.end);
                        }
                    }
                }
            } else {
                self.held.extend_from_slice(&chunk[event]);
                let held = self.held.split();
                self.removed = filter(&held, |kept| out.append(kept));
            }
        }
        if self.passing {
            out.keep(at..chunk.len());
        } else if self.held.len() + chunk.len() - at > MAX_HELD {
            self.passing = true;
            let held = self.held.split();
            out.append(&held);
            out.keep(at..chunk.len());
        } else {
            self.held.extend_from_slice(&chunk[at..]);
        }
        out.into_bytes()
    }

    /// The stream has ended: returns what was held back of an event that never became complete.
    pub fn finish(&mut self) -> Bytes {
        let held = self.held.split();
        let mut kept = BytesMut::new();
        filter(&held, |bytes| kept.extend_from_slice(bytes));
        kept.freeze()
    }
}

/// Collects what is kept: a range of the chunk as long as that is enough, else a copy.
struct Output<'a> {
    chunk: &'a Bytes,
    kept: Range<usize>,
    copy: BytesMut,
}

impl Output<'_> {
    fn keep(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        if self.copy.is_empty() && (self.kept.is_empty() || self.kept.end == range.start) {
            let start = if self.kept.is_empty() {
                range.start
            } else {
                self.kept.start
            };
            self.kept = start..range.end;
            return;
        }
        self.append_kept();
        self.copy.extend_from_slice(&self.chunk[range]);
    }

    fn append(&mut self, bytes: &[u8]) {
        self.append_kept();
        self.copy.extend_from_slice(bytes);
    }

    fn append_kept(&mut self) {
        if self.copy.is_empty() {
            self.copy.reserve(self.chunk.len());
            self.copy
                .extend_from_slice(&self.chunk[std::mem::take(&mut self.kept)]);
        }
    }

    fn into_bytes(self) -> Bytes {
        if self.copy.is_empty() {
            self.chunk.slice(self.kept)
        } else {
            self.copy.freeze()
        }
    }
}

/// Hands on what stays of an event. Tells whether it was removed.
fn filter(event: &[u8], mut keep: impl FnMut(&[u8])) -> bool {
    match judge(event) {
        Verdict::Keep => keep(event),
        Verdict::Cut(cut) => {
            keep(&event[..cut.start]);
            keep(&event[cut.end..]);
        }
        Verdict::Remove => {
            for line in comments(event) {
                keep(&event[line]);
            }
            return true;
        }
    }
    false
}

/// The lines of an event with their ends.
fn lines(event: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = &event[at..];
        let end = match memchr::memchr2(b'\n', b'\r', rest) {
            Some(end) if rest[end..].starts_with(b"\r\n") => end + 2,
            Some(end) => end + 1,
            None => rest.len(),
        };
        let line = at..at + end;
        at += end;
        (!line.is_empty()).then_some(line)
    })
}

fn comments(event: &[u8]) -> impl Iterator<Item = Range<usize>> {
    lines(event).filter(|line| event[line.start] == b':')
}

/// What of a chunk decides. `usage` holds null too: its place is wanted.
#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(default)]
    choices: Each<TextBytes>,
    #[serde(borrow, default)]
    usage: Place<'a>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// Where a value stands in the text, null or not.
#[derive(Default)]
struct Place<'a>(Option<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Place<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(deserializer).map(|raw| Place(Some(raw)))
    }
}

/// Decides on one event.
fn judge(event: &[u8]) -> Verdict {
    // Most streams of other providers never name it.
    if memmem::find(event, b"\"usage\"").is_none() {
        return Verdict::Keep;
    }
    let mut data = lines(event).filter_map(|line| {
        let text = event[line.clone()].trim_ascii_end();
        let bare = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
        let json = bare.strip_prefix(b"data:")?;
        Some(line.start + text.len() - json.len()..line.start + text.len())
    });
    let Some(place) = data.next() else {
        return Verdict::Keep;
    };
    if data.next().is_some() {
        // No provider writes a chunk in several lines; what means something else must not be taken for usage.
        return Verdict::Keep;
    }
    let json = &event[place.clone()];
    let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(json) else {
        return Verdict::Keep;
    };
    let Some(usage) = chunk.usage.0 else {
        return Verdict::Keep;
    };
    if usage.get() == "null" {
        return match null_member(json, usage) {
            Some(cut) => Verdict::Cut(place.start + cut.start..place.start + cut.end),
            None => Verdict::Keep,
        };
    }
    let extra = chunk.choices.listed && chunk.choices.count == 0;
    let reports = usage.get().starts_with('{');
    if extra && reports && answer_error(chunk.error).is_none() {
        Verdict::Remove
    } else {
        Verdict::Keep
    }
}

/// Where the member with this value stands in an object, with the comma that goes with it: the one before, or for a
/// first member the one after. `None` if its key is spelled with escapes.
fn null_member(json: &[u8], value: &RawValue) -> Option<Range<usize>> {
    let start = (value.get().as_ptr() as usize).checked_sub(json.as_ptr() as usize)?;
    let end = start + value.get().len();
    let before_colon = json.get(..start)?.trim_ascii_end().strip_suffix(b":")?;
    let before_key = before_colon.trim_ascii_end().strip_suffix(b"\"usage\"")?;
    let before = before_key.trim_ascii_end();
    if let Some(without_comma) = before.strip_suffix(b",") {
        return Some(without_comma.len()..end);
    }
    let after = &json[end..];
    let gap = after.len() - after.trim_ascii_start().len();
    let comma = usize::from(after[gap..].starts_with(b","));
    Some(before_key.len()..end + comma * (gap + 1))
}
