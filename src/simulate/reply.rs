//! One answer before it has a wire format: its figures, its parts, and the order in which a stream tells them.
//!
//! A stream is made frame by frame, as it is taken, so an answer of any length costs the memory of one frame. Every
//! dialect writes the same [`Event`]s in its own words.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};

use bytes::{Bytes, BytesMut};

use super::ask::{Ask, ToolCall};
use super::behaviour::{Behaviour, Flavour};
use super::text::tokens_in;
use crate::llm::usage::Usage;

/// Output tokens unless something else is asked for.
const OUTPUT_TOKENS: u64 = 16;

/// Reasoning tokens of a request that asks for reasoning, unless something else is asked for.
const REASONING_TOKENS: u64 = 8;

/// Bytes of a tool's arguments in one frame, for each of the frame's tokens.
const ARGUMENT_BYTES: u64 = 8;

/// Why the model "stopped".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finish {
    /// It had said everything.
    Stop,
    /// The request's maximum was reached.
    Length,
    /// It calls a tool.
    Tool,
}

/// One answer.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    /// Makes the ids of everything in the answer; unique.
    pub(super) id: String,
    /// Seconds since 1970.
    pub(super) created: u64,
    /// The model as a JSON string, quotes included.
    pub(super) model: String,
    /// What it uses, in the normal form, as far as the wire format can tell it.
    pub(super) usage: Usage,
    /// Whether it says so.
    pub(super) tells_usage: bool,
    /// Tokens of reasoning.
    pub(super) reasoning: u64,
    /// Tokens of text in one choice.
    pub(super) text: u64,
    /// The tool that is called instead of writing text.
    pub(super) tool: Option<ToolCall>,
    /// Why it ends.
    pub(super) finish: Finish,
    /// Tokens in one frame.
    pub(super) chunk_tokens: u64,
    /// How many choices.
    pub(super) choices: u64,
    /// Whom to be like.
    pub(super) flavour: Flavour,
}

impl Reply {
    /// Decides the figures: the behaviour's, else the defaults, within what the request allows.
    pub(super) fn new(
        ask: &Ask<'_>,
        behaviour: &Behaviour,
        flavour: Flavour,
        id: String,
        created: u64,
    ) -> Self {
        let cached = behaviour.cached_tokens.unwrap_or(0);
        let write = behaviour
            .cache_write_tokens
            .unwrap_or(0)
            .max(behaviour.cache_write_1h_tokens.unwrap_or(0));
        let input = behaviour
            .input_tokens
            .unwrap_or_else(|| tokens_in(ask.text.bytes + 4 * ask.text.numbers))
            .max(cached + write);
        let default_reasoning = if ask.wants_reasoning {
            REASONING_TOKENS
        } else {
            0
        };
        let reasoning = behaviour.reasoning_tokens.unwrap_or(default_reasoning);
        let wanted = behaviour
            .output_tokens
            .unwrap_or(OUTPUT_TOKENS)
            .max(reasoning);
        let output = wanted.min(ask.max_output.unwrap_or(u64::MAX));
        let reasoning = reasoning.min(output);
        let tool = behaviour
            .tool
            .as_deref()
            .or(ask.forced_tool.as_deref())
            .zip(ask.tools)
            .and_then(|(wanted, tools)| ToolCall::choose(tools, wanted));
        let finish = match &tool {
            _ if output < wanted => Finish::Length,
            Some(_) => Finish::Tool,
            None => Finish::Stop,
        };
        let choices = ask.choices.clamp(1, 128);
        Self {
            id,
            created,
            model: json_string(behaviour.model.as_deref().unwrap_or(&ask.model)),
            usage: Usage {
                input,
                cached_read: cached,
                cache_write: write,
                cache_write_1h: behaviour.cache_write_1h_tokens.unwrap_or(0),
                output: output * choices,
                reasoning: reasoning * choices,
                ..Usage::default()
            },
            tells_usage: behaviour.no_usage != Some(true),
            reasoning,
            text: if tool.is_some() {
                0
            } else {
                output - reasoning
            },
            tool,
            finish,
            chunk_tokens: behaviour.chunk_tokens.map_or(1, u64::from),
            choices,
            flavour,
        }
    }

    /// Drops the kinds of tokens that a wire format has no words for: what cannot be told is not part of the truth that
    /// a ledger is held against.
    pub(super) fn forget(&mut self, forget: Forget) {
        let usage = &mut self.usage;
        if forget.cached {
            usage.cached_read = 0;
        }
        if forget.cache_write {
            usage.cache_write = 0;
            usage.cache_write_1h = 0;
        }
        if forget.cache_life {
            usage.cache_write_1h = 0;
        }
        if forget.reasoning {
            usage.reasoning = 0;
        }
    }
}

/// What a wire format cannot tell.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Forget {
    /// Cache reads.
    pub(super) cached: bool,
    /// Cache writes.
    pub(super) cache_write: bool,
    /// How long a cache write lives.
    pub(super) cache_life: bool,
    /// Reasoning.
    pub(super) reasoning: bool,
}

/// A text as a JSON string, quotes included.
pub(super) fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A piece of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Reasoning, told in tokens.
    Reasoning,
    /// The answer's text, told in tokens.
    Text,
    /// A tool call, told in bytes of its arguments.
    Tool,
}

/// What happens next in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// The answer begins.
    Open,
    /// The part with this number begins.
    PartOpen(u64, Part),
    /// A stretch of the part, from a place up to another, in the part's unit.
    Delta(u64, Part, u64, u64),
    /// The part has been told.
    PartClose(u64, Part),
    /// The answer ends.
    Close,
}

/// The events of an answer, in order.
#[derive(Debug, Clone)]
struct Events {
    parts: VecDeque<(Part, u64)>,
    number: u64,
    place: u64,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Opening,
    BetweenParts,
    InPart,
    Closed,
}

impl Events {
    fn of(reply: &Reply) -> Self {
        let mut parts = VecDeque::with_capacity(2);
        if reply.reasoning > 0 {
            parts.push_back((Part::Reasoning, reply.reasoning));
        }
        if reply.text > 0 {
            parts.push_back((Part::Text, reply.text));
        }
        if let Some(tool) = &reply.tool {
            parts.push_back((Part::Tool, tool.arguments.len() as u64));
        }
        Self {
            parts,
            number: 0,
            place: 0,
            stage: Stage::Opening,
        }
    }

    fn next(&mut self, reply: &Reply) -> Option<Event> {
        match (self.stage, self.parts.front().copied()) {
            (Stage::Closed, _) => None,
            (Stage::Opening, _) => {
                self.stage = Stage::BetweenParts;
                Some(Event::Open)
            }
            (Stage::BetweenParts, Some((part, _))) => {
                self.stage = Stage::InPart;
                self.place = 0;
                Some(Event::PartOpen(self.number, part))
            }
            (Stage::InPart, Some((part, length))) if self.place < length => {
                let from = self.place;
                self.place = match (part, &reply.tool) {
                    (Part::Tool, Some(tool)) => {
                        let wish = from
                            .saturating_add(reply.chunk_tokens.saturating_mul(ARGUMENT_BYTES))
                            .min(length);
                        char_end(&tool.arguments, wish)
                    }
                    _ => from.saturating_add(reply.chunk_tokens).min(length),
                };
                Some(Event::Delta(self.number, part, from, self.place))
            }
            (Stage::InPart, Some((part, _))) => {
                self.stage = Stage::BetweenParts;
                self.parts.pop_front();
                self.number += 1;
                Some(Event::PartClose(self.number - 1, part))
            }
            (Stage::BetweenParts | Stage::InPart, None) => {
                self.stage = Stage::Closed;
                Some(Event::Close)
            }
        }
    }
}

/// The first end of a character at or after that byte.
fn char_end(text: &str, byte: u64) -> u64 {
    let mut end = byte as usize;
    while !text.is_char_boundary(end) {
        end += 1;
    }
    end as u64
}

/// Writes events in the words of one dialect.
pub(super) trait Writer: Send {
    /// Writes an event as any number of frames, none included.
    fn write(&mut self, reply: &Reply, event: Event, out: &mut Queue);

    /// The frame that tells of an error in mid-stream.
    fn error(&self, reply: &Reply, code: Option<&str>) -> Bytes;
}

/// One frame of a stream: what goes out in one piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    /// The bytes.
    pub(super) bytes: Bytes,
    /// Output tokens that it carries; a frame with any waits for the pace.
    pub(super) tokens: u64,
    /// Whether the final usage is in it.
    pub(super) tells_usage: bool,
}

/// Frames that are written and not yet taken.
#[derive(Debug, Default)]
pub(super) struct Queue {
    buffer: BytesMut,
    ready: VecDeque<Frame>,
}

impl Queue {
    /// Adds a frame.
    pub(super) fn frame(&mut self, text: fmt::Arguments<'_>) {
        self.push(text, false);
    }

    /// Adds a frame that holds the final usage.
    pub(super) fn usage_frame(&mut self, text: fmt::Arguments<'_>) {
        self.push(text, true);
    }

    fn push(&mut self, text: fmt::Arguments<'_>, tells_usage: bool) {
        if self.buffer.capacity() == 0 {
            self.buffer.reserve(2048);
        }
        self.buffer
            .write_fmt(text)
            .expect("a growing buffer takes everything");
        self.ready.push_back(Frame {
            bytes: self.buffer.split().freeze(),
            tokens: 0,
            tells_usage,
        });
    }
}

/// A stream's frames, made as they are taken.
pub(super) struct Frames {
    reply: Reply,
    events: Events,
    writer: Box<dyn Writer>,
    queue: Queue,
}

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames")
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}

impl Frames {
    /// The stream of an answer in that dialect.
    pub(super) fn new(reply: Reply, writer: impl Writer + 'static) -> Self {
        let mut frames = Self {
            events: Events::of(&reply),
            reply,
            writer: Box::new(writer),
            queue: Queue::default(),
        };
        frames.fill();
        frames
    }

    /// Makes sure that a frame is ready if there is any more.
    fn fill(&mut self) {
        while self.queue.ready.is_empty() {
            let Some(event) = self.events.next(&self.reply) else {
                return;
            };
            self.writer.write(&self.reply, event, &mut self.queue);
            if let (Event::Delta(_, part, from, to), Some(frame)) =
                (event, self.queue.ready.front_mut())
            {
                frame.tokens = match part {
                    Part::Tool => 1,
                    Part::Reasoning | Part::Text => (to - from) * self.reply.choices,
                };
            }
        }
    }

    /// Takes the next frame.
    pub(super) fn next(&mut self) -> Option<Frame> {
        let mut frame = self.queue.ready.pop_front()?;
        frame.tells_usage &= self.reply.tells_usage;
        self.fill();
        Some(frame)
    }

    /// Whether all frames have been taken.
    pub(super) fn is_done(&self) -> bool {
        self.queue.ready.is_empty()
    }

    /// The frame that tells of an error now.
    pub(super) fn error(&self, code: Option<&str>) -> Bytes {
        self.writer.error(&self.reply, code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::text::TextSize;

    fn reply(ask: &Ask<'_>, behaviour: &Behaviour) -> Reply {
        Reply::new(ask, behaviour, Flavour::OpenAi, "1".to_owned(), 0)
    }

    fn events(reply: &Reply) -> Vec<Event> {
        let mut events = Events::of(reply);
        std::iter::from_fn(|| events.next(reply)).collect()
    }

    #[test]
    fn the_requests_maximum_cuts_the_output_and_is_told() {
        let ask = Ask {
            max_output: Some(5),
            wants_reasoning: true,
            ..Ask::default()
        };
        let cut = reply(&ask, &Behaviour::default());
        assert_eq!(
            (cut.usage.output, cut.usage.reasoning, cut.text, cut.finish),
            (5, 5, 0, Finish::Length)
        );
        let ask = Ask {
            max_output: Some(16),
            ..Ask::default()
        };
        assert_eq!(reply(&ask, &Behaviour::default()).finish, Finish::Stop);
    }

    #[test]
    fn the_cache_is_part_of_the_input_and_raises_it() {
        let ask = Ask {
            text: TextSize {
                bytes: 9,
                numbers: 0,
            },
            ..Ask::default()
        };
        assert_eq!(reply(&ask, &Behaviour::default()).usage.input, 3);
        let behaviour = Behaviour {
            cached_tokens: Some(10),
            cache_write_tokens: Some(4),
            ..Behaviour::default()
        };
        let usage = reply(&ask, &behaviour).usage;
        assert_eq!(
            (usage.input, usage.cached_read, usage.cache_write),
            (14, 10, 4)
        );
    }

    #[test]
    fn every_choice_is_paid_for() {
        let ask = Ask {
            choices: 3,
            ..Ask::default()
        };
        assert_eq!(reply(&ask, &Behaviour::default()).usage.output, 48);
    }

    #[test]
    fn a_stream_tells_its_parts_in_order_and_in_chunks() {
        let behaviour = Behaviour {
            output_tokens: Some(5),
            reasoning_tokens: Some(2),
            chunk_tokens: std::num::NonZeroU64::new(2),
            ..Behaviour::default()
        };
        assert_eq!(
            events(&reply(&Ask::default(), &behaviour)),
            [
                Event::Open,
                Event::PartOpen(0, Part::Reasoning),
                Event::Delta(0, Part::Reasoning, 0, 2),
                Event::PartClose(0, Part::Reasoning),
                Event::PartOpen(1, Part::Text),
                Event::Delta(1, Part::Text, 0, 2),
                Event::Delta(1, Part::Text, 2, 3),
                Event::PartClose(1, Part::Text),
                Event::Close,
            ]
        );
    }

    #[test]
    fn an_answer_without_tokens_still_opens_and_closes() {
        let behaviour = Behaviour {
            output_tokens: Some(0),
            ..Behaviour::default()
        };
        assert_eq!(
            events(&reply(&Ask::default(), &behaviour)),
            [Event::Open, Event::Close]
        );
    }

    #[test]
    fn arguments_are_never_cut_inside_a_character() {
        let mut called = reply(&Ask::default(), &Behaviour::default());
        called.text = 0;
        called.tool = Some(ToolCall {
            name: "t".to_owned(),
            arguments: "1234567\u{e9}\u{20ac}x".to_owned(),
        });
        let cuts: Vec<_> = events(&called)
            .into_iter()
            .filter_map(|event| match event {
                Event::Delta(_, _, from, to) => Some((from, to)),
                _ => None,
            })
            .collect();
        assert_eq!(cuts, [(0, 9), (9, 13)]);
    }
}
