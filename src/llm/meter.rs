//! Reads an answer's usage from a side copy of its bytes while they pass by.
//!
//! bytes → decoder → lines, events or documents → the endpoint's reader → [`Reading`]. The meter never fails and
//! never holds anything back: what it cannot understand it leaves out, says so in the reading, and an estimate takes
//! its place. Its memory is bounded whatever comes.

use std::io::{self, Write};

use http::HeaderMap;
use http::header::CONTENT_TYPE;

pub use super::decode::Coding;
use super::decode::Decoder;
use super::prune::{Pruned, Pruner};
pub use super::reader::Progress;
use super::reader::{Reader, Shape};
use super::reading::Reading;
use super::sse::{Data, Events, Lines, Piece, Taken};
use super::wire::Endpoint;

/// How an answer is put together from documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// One JSON document, or a list of them that comes piece by piece (Gemini).
    Json,
    /// Server-sent events.
    Sse,
    /// One JSON document a line.
    JsonLines,
    /// Nothing that can be read.
    Opaque,
}

impl Framing {
    /// Reads the `content-type` of an answer.
    pub fn of(headers: &HeaderMap) -> Self {
        let value = headers
            .get(CONTENT_TYPE)
            .map_or(&b""[..], |value| value.as_bytes());
        let essence = value.split(|byte| *byte == b';').next().unwrap_or_default();
        match essence.trim_ascii().to_ascii_lowercase().as_slice() {
            b"application/json" | b"text/json" => Framing::Json,
            b"text/event-stream" => Framing::Sse,
            b"application/x-ndjson"
            | b"application/ndjson"
            | b"application/x-jsonl"
            | b"application/jsonl"
            | b"application/jsonlines"
            | b"application/x-jsonlines" => Framing::JsonLines,
            other if other.ends_with(b"+json") => Framing::Json,
            _ => Framing::Opaque,
        }
    }
}

/// Reads one answer.
pub struct Meter {
    decoder: Decoder<Scanner>,
    /// Compressed bytes have come.
    fed: bool,
    /// The decoder has failed and is not used any more.
    failed: bool,
}

impl Meter {
    /// Starts to read an answer.
    pub fn new(endpoint: Endpoint, framing: Framing, coding: Coding) -> Self {
        let reader = Reader::new(endpoint);
        // An answer that is not read need not be decoded.
        let coding = if reader.is_some() {
            coding
        } else {
            Coding::Identity
        };
        Self {
            decoder: Decoder::new(coding, Scanner::new(endpoint, framing, reader)),
            fed: false,
            failed: false,
        }
    }

    /// Looks at the next bytes of the body. Tells whether the answer's terminal event has now been seen; once it has,
    /// that stays.
    pub fn feed(&mut self, bytes: &[u8]) -> Progress {
        if let Decoder::Identity(scanner) = &mut self.decoder {
            scanner.feed(bytes);
            return scanner.progress;
        }
        if !self.failed && !bytes.is_empty() {
            self.fed = true;
            let outcome = self.decoder.push(bytes);
            self.note(outcome);
        }
        self.decoder.sink().progress
    }

    /// The body has ended cleanly. Not to be called when it broke off.
    pub fn finish(&mut self) {
        if self.fed && !self.failed {
            let outcome = self.decoder.finish();
            self.note(outcome);
        }
        self.decoder.sink_mut().finish();
    }

    fn note(&mut self, outcome: io::Result<()>) {
        if outcome.is_err() {
            self.failed = true;
            self.decoder.sink_mut().give_up();
        }
    }

    /// What has been learned so far.
    pub fn reading(&self) -> &Reading {
        &self.decoder.sink().reading
    }
}

/// Plain bytes in, reading out.
struct Scanner {
    framing: Scan,
    /// `None` if the answer is not read.
    reader: Option<Reader>,
    reading: Reading,
    /// The terminal event's data has come, but not yet the blank line that makes it an event.
    ending: bool,
    progress: Progress,
}

/// The state of splitting the body into documents.
enum Scan {
    Json(Pruner),
    Sse(Lines, Events),
    JsonLines(Lines, Option<Box<Pruner>>),
    Opaque,
}

impl Scanner {
    fn new(endpoint: Endpoint, framing: Framing, reader: Option<Reader>) -> Self {
        let framing = match framing {
            Framing::Json => Scan::Json(Pruner::new()),
            Framing::Sse => Scan::Sse(Lines::default(), Events::new()),
            Framing::JsonLines => Scan::JsonLines(Lines::default(), None),
            // Stored batch results may come as a plain download.
            Framing::Opaque if endpoint == Endpoint::BatchResults => {
                Scan::JsonLines(Lines::default(), None)
            }
            Framing::Opaque => Scan::Opaque,
        };
        // Speech and images come as such; they are no failure to read.
        let media = matches!(endpoint, Endpoint::Audio | Endpoint::Images);
        let reader = reader.filter(|_| !(media && matches!(framing, Scan::Opaque)));
        Self {
            framing,
            reader,
            reading: Reading::default(),
            ending: false,
            progress: Progress::Running,
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        let Some(reader) = &mut self.reader else {
            return;
        };
        let mut sink = Documents {
            reader,
            reading: &mut self.reading,
            ending: &mut self.ending,
            progress: &mut self.progress,
        };
        match &mut self.framing {
            Scan::Sse(lines, events) => {
                lines.feed(bytes, |piece| events.take(piece, |data| sink.event(data)));
            }
            Scan::JsonLines(lines, pruner) => lines.feed(bytes, |piece| sink.line(piece, pruner)),
            Scan::Json(pruner) => sink.documents(pruner, bytes),
            Scan::Opaque => self.reading.unreadable |= !bytes.is_empty(),
        }
    }

    fn finish(&mut self) {
        let Some(reader) = &mut self.reader else {
            self.reading.complete = true;
            return;
        };
        let mut sink = Documents {
            reader,
            reading: &mut self.reading,
            ending: &mut self.ending,
            progress: &mut self.progress,
        };
        match &mut self.framing {
            Scan::Sse(lines, events) => {
                lines.finish(|piece| events.take(piece, |data| sink.event(data)));
                events.finish(|data| sink.event(data));
            }
            Scan::JsonLines(lines, pruner) => lines.finish(|piece| sink.line(piece, pruner)),
            Scan::Json(pruner) if !pruner.at_rest() => sink.broken(),
            Scan::Json(_) | Scan::Opaque => {}
        }
        reader.finish(&mut self.reading);
    }

    /// The rest of the body cannot be read.
    fn give_up(&mut self) {
        if self.reader.is_some() && !self.reading.complete {
            self.reading.unreadable = true;
        }
    }
}

impl Write for Scanner {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.feed(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where complete documents go.
struct Documents<'a> {
    reader: &'a mut Reader,
    reading: &'a mut Reading,
    ending: &'a mut bool,
    progress: &'a mut Progress,
}

impl Documents<'_> {
    fn event(&mut self, data: Data<'_>) -> Taken {
        let progress = match data {
            Data::Json(json) => match self.reader.read(json, Shape::Part, self.reading) {
                Ok(progress) => progress,
                Err(error) if error.is_eof() => return Taken::Unfinished,
                Err(_) => return Taken::Broken,
            },
            Data::Done => self.reader.done(self.reading),
            Data::Broken => {
                self.broken();
                Progress::Running
            }
            Data::EventEnd => {
                if *self.ending {
                    *self.progress = Progress::Terminal;
                }
                return Taken::Read;
            }
        };
        *self.ending |= progress == Progress::Terminal;
        self.mended();
        Taken::Read
    }

    fn line(&mut self, piece: Piece<'_>, pruner: &mut Option<Box<Pruner>>) {
        match piece {
            Piece::Line(line) if line.trim_ascii().is_empty() => {}
            Piece::Line(line) => self.document(line, Shape::Part),
            Piece::Part(part) => {
                let pruner = pruner.get_or_insert_with(|| Box::new(Pruner::new()));
                self.documents(pruner, part);
            }
            Piece::End => {
                if pruner.take().is_some_and(|pruner| !pruner.at_rest()) {
                    self.broken();
                }
            }
        }
    }

    fn documents(&mut self, pruner: &mut Pruner, bytes: &[u8]) {
        let mut rest = bytes;
        loop {
            match pruner.push(rest) {
                Pruned::More => return,
                Pruned::Failed => return self.broken(),
                Pruned::Document(used) => {
                    rest = &rest[used..];
                    let shape = if pruner.listed() {
                        Shape::Part
                    } else {
                        Shape::Whole
                    };
                    self.document(pruner.document(), shape);
                }
            }
        }
    }

    fn document(&mut self, json: &[u8], shape: Shape) {
        match self.reader.read(json, shape, self.reading) {
            Ok(progress) => {
                if progress == Progress::Terminal {
                    *self.progress = Progress::Terminal;
                }
                self.mended();
            }
            Err(_) => self.broken(),
        }
    }

    /// A document could not be read. Whatever figures there are, later ones may have been in it.
    fn broken(&mut self) {
        if !self.reading.complete {
            self.reading.unreadable = true;
        }
    }

    /// Final figures make up for a broken document before them, as every figure is cumulative.
    fn mended(&mut self) {
        if self.reading.complete {
            self.reading.unreadable = false;
        }
    }
}
