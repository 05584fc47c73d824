//! A stream frame by frame: the order in which an answer is told, and the frames that a dialect makes of it.
//!
//! Frames are made as they are taken, so an answer of any length costs the memory of one frame. Every dialect writes the
//! same [`Event`]s in its own words.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};

use bytes::{Bytes, BytesMut};

use super::reply::Reply;

/// Bytes of a tool's arguments in one frame, for each of the frame's tokens.
const ARGUMENT_BYTES: u64 = 8;

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
    pub(super) fn new(reply: Reply, writer: impl Writer + 'static) -> Box<Self> {
        let mut frames = Box::new(Self {
            events: Events::of(&reply),
            reply,
            writer: Box::new(writer),
            queue: Queue::default(),
        });
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
    use crate::simulate::ask::{Ask, ToolCall};
    use crate::simulate::behaviour::{Behaviour, Flavour};

    fn reply(ask: &Ask<'_>, behaviour: &Behaviour) -> Reply {
        Reply::new(ask, behaviour, Flavour::OpenAi, "1".to_owned(), 0)
    }

    fn events(reply: &Reply) -> Vec<Event> {
        let mut events = Events::of(reply);
        std::iter::from_fn(|| events.next(reply)).collect()
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
