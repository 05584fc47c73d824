//! Splits a stream into lines and server-sent events, wherever it is cut.
//!
//! Lines end with LF, CR or CRLF. A line up to [`MAX_LINE`] bytes is handed on whole, from the chunk itself if it lies in
//! one; a longer one in pieces as they come, so memory stays bounded. An event's data is handed on as JSON as soon as
//! it is complete, and anything unusual (long lines, data over several lines, JSON without `data:` as Gemini sends
//! errors) takes the way through the pruner.

use super::prune::{Pruned, Pruner};

/// Longest line that is handed on whole.
const MAX_LINE: usize = 64 << 10;

/// A line or a piece of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A whole line, without its end.
    Line(&'a [u8]),
    /// The next bytes of a long line. The first one is longer than [`MAX_LINE`].
    Part(&'a [u8]),
    /// The long line ends.
    End,
}

/// The line splitter.
#[derive(Debug, Default)]
pub(super) struct Lines {
    partial: Vec<u8>,
    long: bool,
    after_cr: bool,
}

impl Lines {
    /// Takes the next bytes and hands on the lines that end in them.
    pub(super) fn feed(&mut self, bytes: &[u8], mut hand_on: impl FnMut(Piece<'_>)) {
        let mut rest = bytes;
        if self.after_cr && !rest.is_empty() {
            self.after_cr = false;
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        while let Some(end) = memchr::memchr2(b'\n', b'\r', rest) {
            self.take(&rest[..end], &mut hand_on);
            self.end_line(&rest[..end], &mut hand_on);
            let crlf = rest[end..].starts_with(b"\r\n");
            self.after_cr = rest[end..] == *b"\r";
            rest = &rest[end + 1 + usize::from(crlf)..];
        }
        self.take(rest, &mut hand_on);
        if !self.long && self.partial.is_empty() {
            self.partial.extend_from_slice(rest);
        }
    }

    /// Adds bytes of the current line to what has been kept of it, unless nothing has and the line may be whole.
    fn take(&mut self, bytes: &[u8], hand_on: &mut impl FnMut(Piece<'_>)) {
        if self.long {
            if !bytes.is_empty() {
                hand_on(Piece::Part(bytes));
            }
        } else if self.partial.len() + bytes.len() > MAX_LINE {
            self.long = true;
            if self.partial.is_empty() {
                hand_on(Piece::Part(bytes));
            } else {
                self.partial.extend_from_slice(bytes);
                hand_on(Piece::Part(&self.partial));
                self.partial = Vec::new();
            }
        } else if !self.partial.is_empty() {
            self.partial.extend_from_slice(bytes);
        }
    }

    /// Hands on the line's end; `last` is the whole line if nothing of it has been kept.
    fn end_line(&mut self, last: &[u8], hand_on: &mut impl FnMut(Piece<'_>)) {
        if std::mem::take(&mut self.long) {
            hand_on(Piece::End);
        } else if self.partial.is_empty() {
            hand_on(Piece::Line(last));
        } else {
            hand_on(Piece::Line(&self.partial));
            self.partial.clear();
        }
    }

    /// The stream is over: hands on a last line without an end.
    pub(super) fn finish(&mut self, mut hand_on: impl FnMut(Piece<'_>)) {
        if self.long || !self.partial.is_empty() {
            self.end_line(b"", &mut hand_on);
        }
    }
}

/// Finds the blank lines that end events, for one who needs the events' bytes as they are.
#[derive(Debug, Default)]
pub(super) struct EventEnds {
    line_begun: bool,
    after_cr: bool,
    at_end: bool,
}

impl EventEnds {
    /// Takes a chunk's first byte if it is the LF of a CR LF whose CR ended an event in the chunk before.
    pub(super) fn takes_lf(&mut self, chunk: &[u8]) -> bool {
        let takes = self.at_end && self.after_cr && chunk.first() == Some(&b'\n');
        if takes {
            self.after_cr = false;
        }
        takes
    }

    /// Reads up to the end of the current event; tells its length if it ends in these bytes.
    pub(super) fn find(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        if !bytes.is_empty() {
            self.at_end = false;
            at = usize::from(std::mem::take(&mut self.after_cr) && bytes[0] == b'\n');
        }
        while let Some(run) = memchr::memchr2(b'\n', b'\r', &bytes[at..]) {
            let blank = !std::mem::take(&mut self.line_begun) && run == 0;
            let crlf = bytes[at + run..].starts_with(b"\r\n");
            self.after_cr = bytes[at + run..] == *b"\r";
            at += run + 1 + usize::from(crlf);
            if blank {
                self.at_end = true;
                return Some(at);
            }
        }
        self.line_begun |= at < bytes.len();
        None
    }
}

/// What an event's data turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Data<'a> {
    /// A JSON document, perhaps pruned.
    Json(&'a [u8]),
    /// OpenAI's end mark.
    Done,
    /// It began as JSON but is none, or is too large.
    Broken,
    /// The blank line after an event.
    EventEnd,
}

/// How a reader of [`Data::Json`] fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It was read, or is of no interest.
    Read,
    /// It ends too early: more data lines may follow.
    Unfinished,
    /// It is not what it should be.
    Broken,
}

/// Which lines the pruner is fed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pruning {
    Nothing,
    /// The data of one event, until its blank line.
    Data,
    /// JSON that stands in the stream without `data:`.
    Bare,
}

/// The event assembler.
#[derive(Debug)]
pub(super) struct Events {
    first_line: bool,
    pruning: Pruning,
    in_long_line: bool,
    feeding_long_line: bool,
    pruner: Option<Box<Pruner>>,
}

impl Events {
    /// Starts at the beginning of a stream.
    pub(super) fn new() -> Self {
        Self {
            first_line: true,
            pruning: Pruning::Nothing,
            in_long_line: false,
            feeding_long_line: false,
            pruner: None,
        }
    }

    /// Takes the next line or piece of one. `read` is called for what it completes; it may answer
    /// [`Taken::Unfinished`] only to [`Data::Json`].
    pub(super) fn take(&mut self, piece: Piece<'_>, mut read: impl FnMut(Data<'_>) -> Taken) {
        match piece {
            Piece::Line(line) => {
                let line = self.without_mark(line);
                self.line(line, &mut read);
            }
            Piece::Part(part) if self.in_long_line => {
                if self.feeding_long_line {
                    self.prune(part, &mut read);
                }
            }
            Piece::Part(part) => {
                let part = self.without_mark(part);
                self.in_long_line = true;
                self.begin_long_line(part, &mut read);
            }
            Piece::End => {
                self.in_long_line = false;
                if std::mem::take(&mut self.feeding_long_line) {
                    self.end_fed_line(&mut read);
                }
            }
        }
    }

    fn without_mark<'a>(&mut self, line: &'a [u8]) -> &'a [u8] {
        if std::mem::take(&mut self.first_line) {
            line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line)
        } else {
            line
        }
    }

    fn line(&mut self, line: &[u8], read: &mut impl FnMut(Data<'_>) -> Taken) {
        if let Some(data) = data_field(line) {
            if self.pruning == Pruning::Data {
                self.prune(data, read);
                self.end_fed_line(read);
                return;
            }
            self.pruning = Pruning::Nothing;
            match data.trim_ascii_start().first() {
                _ if data == b"[DONE]" => {
                    read(Data::Done);
                }
                Some(b'{') => match read(Data::Json(data)) {
                    Taken::Read => {}
                    Taken::Unfinished => self.begin(Pruning::Data, data, read),
                    Taken::Broken => {
                        read(Data::Broken);
                    }
                },
                Some(b'[') => self.begin(Pruning::Data, data, read),
                _ => {}
            }
        } else if line.is_empty() {
            if self.pruning == Pruning::Data {
                // An event whose JSON never ended.
                self.pruning = Pruning::Nothing;
                if self.pruner.as_ref().is_some_and(|pruner| !pruner.at_rest()) {
                    read(Data::Broken);
                }
            }
            read(Data::EventEnd);
        } else if self.pruning == Pruning::Bare {
            self.prune(line, read);
            self.end_fed_line(read);
        } else if self.pruning == Pruning::Nothing && starts_json(line) {
            self.begin(Pruning::Bare, line, read);
        }
    }

    fn begin_long_line(&mut self, part: &[u8], read: &mut impl FnMut(Data<'_>) -> Taken) {
        if let Some(data) = data_field(part) {
            self.feeding_long_line = true;
            if self.pruning == Pruning::Data {
                self.prune(data, read);
            } else {
                self.begin_raw(Pruning::Data, data, read);
            }
        } else if self.pruning == Pruning::Bare {
            self.feeding_long_line = true;
            self.prune(part, read);
        } else if self.pruning == Pruning::Nothing && starts_json(part) {
            self.feeding_long_line = true;
            self.begin_raw(Pruning::Bare, part, read);
        }
    }

    /// Begins to prune with a whole line.
    fn begin(&mut self, what: Pruning, line: &[u8], read: &mut impl FnMut(Data<'_>) -> Taken) {
        self.begin_raw(what, line, read);
        self.end_fed_line(read);
    }

    fn begin_raw(&mut self, what: Pruning, bytes: &[u8], read: &mut impl FnMut(Data<'_>) -> Taken) {
        self.pruning = what;
        self.pruner = Some(Box::new(Pruner::new()));
        self.prune(bytes, read);
    }

    fn prune(&mut self, bytes: &[u8], read: &mut impl FnMut(Data<'_>) -> Taken) {
        let Some(pruner) = &mut self.pruner else {
            return;
        };
        let mut rest = bytes;
        loop {
            match pruner.push(rest) {
                Pruned::More => break,
                Pruned::Document(used) => {
                    if read(Data::Json(pruner.document())) != Taken::Read {
                        read(Data::Broken);
                    }
                    rest = &rest[used..];
                }
                Pruned::Failed => {
                    // What only looked like bare JSON is an unknown line, which is legal.
                    if self.pruning == Pruning::Data {
                        read(Data::Broken);
                    } else {
                        self.pruning = Pruning::Nothing;
                    }
                    self.pruner = None;
                    return;
                }
            }
        }
    }

    /// A line that the pruner was fed with ends.
    fn end_fed_line(&mut self, read: &mut impl FnMut(Data<'_>) -> Taken) {
        self.prune(b"\n", read);
        let ended = self.pruner.as_ref().is_none_or(|pruner| pruner.at_rest());
        if self.pruning == Pruning::Bare && ended {
            self.pruning = Pruning::Nothing;
        }
    }

    /// The stream is over: what stands open is an event all the same.
    pub(super) fn finish(&mut self, mut read: impl FnMut(Data<'_>) -> Taken) {
        self.line(b"", &mut read);
    }
}

/// The value of a `data` field, if the line is one.
fn data_field(line: &[u8]) -> Option<&[u8]> {
    let value = line.strip_prefix(b"data:")?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

/// Whether a line can begin a JSON document.
fn starts_json(line: &[u8]) -> bool {
    matches!(line.trim_ascii_start().first(), Some(b'{' | b'['))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a stream in these pieces hands on, written down; JSON that ends too early is unfinished.
    fn events<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
        let mut lines = Lines::default();
        let mut events = Events::new();
        let mut seen = Vec::new();
        let mut read = |data: Data<'_>| {
            seen.push(match data {
                Data::Json(json) => match serde_json::from_slice::<serde_json::Value>(json) {
                    Ok(value) if json.len() > 1000 => {
                        format!("json of {}", value.as_object().map_or(0, |o| o.len()))
                    }
                    Ok(value) => value.to_string(),
                    Err(error) if error.is_eof() => return Taken::Unfinished,
                    Err(_) => return Taken::Broken,
                },
                Data::Done => "done".into(),
                Data::Broken => "broken".into(),
                Data::EventEnd => "|".into(),
            });
            Taken::Read
        };
        for piece in pieces {
            lines.feed(piece, |piece| events.take(piece, &mut read));
        }
        lines.finish(|piece| events.take(piece, &mut read));
        events.finish(&mut read);
        seen
    }

    /// Checks a stream whole, cut in two everywhere, and byte by byte.
    fn check(stream: &str, expected: &[&str]) {
        let bytes = stream.as_bytes();
        assert_eq!(events([bytes]), expected, "{stream:?}");
        assert_eq!(events(bytes.chunks(1)), expected, "{stream:?} byte by byte");
        if bytes.len() < 1000 {
            for cut in 0..bytes.len() {
                let (head, tail) = bytes.split_at(cut);
                assert_eq!(events([head, tail]), expected, "{stream:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn every_line_end_ends_a_line() {
        check(
            "data: {\"a\":1}\n\ndata:{\"b\":2}\r\n\r\ndata: {\"c\":3}\r\rdata: [DONE]\n\n",
            &[
                "{\"a\":1}",
                "|",
                "{\"b\":2}",
                "|",
                "{\"c\":3}",
                "|",
                "done",
                "|",
                "|",
            ],
        );
    }

    #[test]
    fn marks_comments_and_other_fields_are_passed_over() {
        check(
            "\u{feff}data: {\"é\":1}\n: {\"no\":1}\nevent: x\nid: {\nfoo: bar\ndata\ndata: text\n\n",
            &["{\"é\":1}", "|", "|"],
        );
    }

    #[test]
    fn data_over_several_lines_is_joined() {
        check(
            "data: {\"a\":\ndata: [1,\r\ndata:2]}\n\ndata: {\"b\":1}\n\n",
            &["{\"a\":[1,2]}", "|", "{\"b\":1}", "|", "|"],
        );
    }

    #[test]
    fn an_event_without_its_blank_line_counts_when_the_stream_ends() {
        check("data: {\"a\":1}", &["{\"a\":1}", "|"]);
    }

    #[test]
    fn json_without_a_field_name_is_read_as_a_document() {
        check(
            "data: {\"a\":1}\r\n\r\n[{\r\n  \"error\": {\r\n    \"code\": 503\r\n  }\r\n}\r\n]\r\ndata: {\"b\":1}\n\n",
            &[
                "{\"a\":1}",
                "|",
                "{\"error\":{\"code\":503}}",
                "{\"b\":1}",
                "|",
                "|",
            ],
        );
        check("{not json\ndata: {\"b\":1}\n\n", &["{\"b\":1}", "|", "|"]);
    }

    #[test]
    fn broken_data_is_told_and_does_not_reach_the_next_event() {
        check(
            "data: {\"a\":nope}\n\ndata: {\"a\":\n\ndata: {\"b\":1}\n\n",
            &["broken", "|", "broken", "|", "{\"b\":1}", "|", "|"],
        );
    }

    #[test]
    fn a_line_of_any_length_is_read_through_the_pruner() {
        let long = "x".repeat(3 * MAX_LINE);
        let stream =
            format!("data: {{\"image\":\"{long}\",\"n\":1}}\n\n: {long}\ndata: {{\"b\":1}}\n\n");
        let expected = [
            &*format!("{{\"image\":\"\\u0000{}\",\"n\":1}}", long.len()),
            "|",
            "{\"b\":1}",
            "|",
            "|",
        ];
        check(&stream, &expected);
        let bytes = stream.as_bytes();
        for size in [5, MAX_LINE - 1, MAX_LINE, MAX_LINE + 1, 100_003] {
            assert_eq!(events(bytes.chunks(size)), expected, "in pieces of {size}");
        }
    }
}
