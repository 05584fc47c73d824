//! Reads how an answer with status 200 opens: with preliminaries that promise nothing yet, with an error, or with the
//! answer itself. As long as it is one of the first two, the request can still be sent again without the client noticing.
//!
//! Preliminaries are what providers send before they know: comments, `ping`s, a Responses stream's `response.created` and
//! its kin (which a refusal for the rate may follow at once). A model that thinks for a minute leaves it at them for so
//! long, so whoever holds them back must not do so for more than a moment.

use http::HeaderMap;
use memchr::memchr;
use serde_json::{Deserializer, Value};

use super::meter::Framing;
use super::rate_limits::{RateNews, read_error};
use super::reading::AnswerError;

/// Most bytes that an opening is looked for in: by then it is an answer.
const MAX_OPENING: usize = 64 * 1024;

/// Types of events before which nothing is decided.
const PRELIMINARIES: [&str; 4] = [
    "ping",
    "response.created",
    "response.queued",
    "response.in_progress",
];

/// How an answer opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// It does not show yet. At the end of a body: nothing came that is an answer.
    Undecided,
    /// With an error, and nothing of an answer before it.
    Error(AnswerError),
    /// With an answer, or with something that is not understood.
    Answer,
}

/// Looks at all that has come of an answer so far, decoded; `ended` tells that no more will come. What an error says of
/// limits is added to `news`.
pub fn opening(
    framing: Framing,
    headers: &HeaderMap,
    bytes: &[u8],
    ended: bool,
    now_ms: u64,
    news: &mut RateNews,
) -> Opening {
    if bytes.len() > MAX_OPENING {
        return Opening::Answer;
    }
    let mut read = |json: &[u8]| match read_error(200, headers, json, now_ms, news) {
        Some(error) => Opening::Error(error),
        None => Opening::Answer,
    };
    match framing {
        Framing::Sse => events(bytes, ended, read),
        Framing::JsonLines => match first_line(bytes.trim_ascii_start(), ended) {
            Some(line) if !line.is_empty() => read(line),
            _ => Opening::Undecided,
        },
        Framing::Json => document(bytes.trim_ascii_start(), ended, read),
        Framing::Opaque if bytes.is_empty() => Opening::Undecided,
        Framing::Opaque => Opening::Answer,
    }
}

/// The first event that decides.
fn events(bytes: &[u8], ended: bool, mut read: impl FnMut(&[u8]) -> Opening) -> Opening {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let (mut rest, mut data) = (bytes, Vec::new());
    while let Some(line) = first_line(rest, ended && !rest.is_empty()) {
        let here = rest;
        rest = rest.get(line.len() + 1..).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Some(value) = line.strip_prefix(b"data:") {
            data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
            data.push(b'\n');
        } else if line.starts_with(b"{") || line.starts_with(b"[") {
            // Google's error inside a stream is plain JSON over several lines.
            return document(here, ended, read);
        }
        let complete = line.is_empty() || (ended && rest.is_empty());
        if complete && !data.trim_ascii().is_empty() {
            if !is_preliminary(&data) {
                return read(&data);
            }
            data.clear();
        }
    }
    Opening::Undecided
}

fn is_preliminary(data: &[u8]) -> bool {
    let event: Value = serde_json::from_slice(data).unwrap_or_default();
    let kind = event.get("type").and_then(Value::as_str);
    kind.is_some_and(|kind| PRELIMINARIES.contains(&kind))
}

/// A whole document, or the first element of a list (Gemini). Only what begins as an error is waited for.
fn document(bytes: &[u8], ended: bool, mut read: impl FnMut(&[u8]) -> Opening) -> Opening {
    let bytes = bytes.strip_prefix(b"[").unwrap_or(bytes).trim_ascii_start();
    let head = match bytes {
        [b'{', head @ ..] => head.trim_ascii_start(),
        [] => return Opening::Undecided,
        _ => return Opening::Answer,
    };
    let name = b"\"error\"";
    let begins = head.len() >= name.len() && head.starts_with(name);
    if !begins && !name.starts_with(head) {
        return Opening::Answer;
    }
    let mut values = Deserializer::from_slice(bytes).into_iter::<Value>();
    match values.next() {
        Some(Ok(_)) => read(&bytes[..values.byte_offset()]),
        Some(Err(error)) if error.is_eof() && !ended => Opening::Undecided,
        _ => Opening::Answer,
    }
}

/// The bytes up to the first line feed; all of them if there will be no more.
fn first_line(bytes: &[u8], last: bool) -> Option<&[u8]> {
    match memchr(b'\n', bytes) {
        Some(end) => Some(&bytes[..end]),
        None => last.then_some(bytes),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn open(framing: Framing, text: &str, ended: bool) -> (Opening, RateNews) {
        let mut news = RateNews::default();
        let found = opening(
            framing,
            &HeaderMap::new(),
            text.as_bytes(),
            ended,
            0,
            &mut news,
        );
        (found, news)
    }

    /// `undecided`, `answer`, or the error's names as `kind/code`.
    fn text(found: &Opening) -> String {
        let name = |name: &Option<String>| name.clone().unwrap_or_default();
        match found {
            Opening::Undecided => "undecided".to_owned(),
            Opening::Answer => "answer".to_owned(),
            Opening::Error(error) => format!("{}/{}", name(&error.kind), name(&error.code)),
        }
    }

    const FAILED: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"error\":null}}\n\nevent: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"rate_limit_exceeded\",\"message\":\"Please try again in 11.054s.\"}}}\n\n";

    #[test]
    fn streams_open_with_an_error_or_an_answer_behind_their_preliminaries() {
        let overloaded = "event: error\r\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\r\n\r\n";
        for (stream, expected) in [
            (FAILED.to_owned(), "/rate_limit_exceeded"),
            (overloaded.to_owned(), "overloaded_error/"),
            (
                format!("event: ping\ndata: {{\"type\": \"ping\"}}\n\n{overloaded}"),
                "overloaded_error/",
            ),
            (
                ": OPENROUTER PROCESSING\n\ndata: {\"error\":{\"code\":502}}\n\n".to_owned(),
                "/502",
            ),
            (
                "\u{feff}data:{\"error\":\ndata:{\"code\":1}}\n\n".to_owned(),
                "/1",
            ),
            (
                "{\n  \"error\": {\n    \"code\": 503,\n    \"status\": \"UNAVAILABLE\"\n  }\n}\n"
                    .to_owned(),
                "UNAVAILABLE/503",
            ),
            (
                "event: message_start\ndata: {\"type\":\"message_start\"}\n\n".to_owned(),
                "answer",
            ),
            (
                format!("data: {{\"choices\":[]}}\n\n{overloaded}"),
                "answer",
            ),
            ("data: [DONE]\n\n".to_owned(), "answer"),
            ("data: {\"candidates\":[]}\r\n\r\n".to_owned(), "answer"),
            (": keep-alive\n\n: keep-alive\n\n".to_owned(), "undecided"),
            ("data: {\"error\":{\"code\":502}}\n".to_owned(), "undecided"),
            (String::new(), "undecided"),
        ] {
            assert_eq!(
                text(&open(Framing::Sse, &stream, false).0),
                expected,
                "{stream}"
            );
        }
        // The end completes an event.
        let cut = "data: {\"error\":{\"code\":502}}";
        assert_eq!(text(&open(Framing::Sse, cut, true).0), "/502");
        assert_eq!(
            text(&open(Framing::Sse, ": nothing\n\n", true).0),
            "undecided"
        );
        // JSON without a line's end reached beyond the bytes once.
        assert_eq!(text(&open(Framing::Sse, "{\"error\":1}", true).0), "answer");
        let news = open(Framing::Sse, FAILED, false).1;
        assert_eq!(news.asked().map(|wait| wait.as_millis()), Some(11_054));
    }

    #[test]
    fn lines_and_documents_open_likewise() {
        use Framing::{Json, JsonLines, Opaque};
        for (framing, body, ended, expected) in [
            (JsonLines, "{\"error\":\"runner stopped\"}\n", false, "/"),
            (
                JsonLines,
                "{\"error\":\"runner stopped\"}",
                false,
                "undecided",
            ),
            (JsonLines, "{\"error\":\"runner stopped\"}", true, "/"),
            (
                JsonLines,
                "\n{\"done\":false}\n{\"error\":\"x\"}\n",
                false,
                "answer",
            ),
            (JsonLines, "", true, "undecided"),
            (Json, "", true, "undecided"),
            (Json, "\n\n", false, "undecided"),
            (Json, "[", false, "undecided"),
            (Json, "[{\n  \"err", false, "undecided"),
            (
                Json,
                "[{\n  \"error\": {\"status\": \"UNAVAILABLE\"}",
                false,
                "undecided",
            ),
            (
                Json,
                "[{\n  \"error\": {\"status\": \"UNAVAILABLE\"}}",
                false,
                "UNAVAILABLE/",
            ),
            (Json, " {\"error\":{\"code\":502}}", true, "/502"),
            (Json, "{\"error\":null,\"id\":\"x\"}", true, "answer"),
            (Json, "{\"error\":", true, "answer"),
            (
                Json,
                "{\"id\":\"resp\",\"error\":{\"code\":1}}",
                true,
                "answer",
            ),
            (Json, "[{\"candidates\":[", false, "answer"),
            (Json, "true", true, "answer"),
            (Opaque, "", true, "undecided"),
            (Opaque, "{\"error\":{}}", true, "answer"),
        ] {
            assert_eq!(text(&open(framing, body, ended).0), expected, "{body}");
        }
    }

    #[test]
    fn no_more_than_64_kib_is_held_back() {
        let pings = ": nothing\n\n".repeat(MAX_OPENING / 10);
        assert_eq!(open(Framing::Sse, &pings, false).0, Opening::Answer);
    }

    proptest! {
        /// However a stream is cut, it is undecided until it is what it is as a whole.
        #[test]
        fn a_cut_decides_nothing_else(at in 0..FAILED.len()) {
            let whole = open(Framing::Sse, FAILED, false).0;
            let found = open(Framing::Sse, &FAILED[..at], false).0;
            prop_assert!(found == Opening::Undecided || found == whole);
        }

        #[test]
        fn no_bytes_panic(body in "[\\[\\]{}:,\"a-e \r\n\u{feff}]{0,60}|(data: ?|event: x|\\{\"error\":1\\}|\r\n|\n){0,12}", ended: bool) {
            for framing in [Framing::Sse, Framing::Json, Framing::JsonLines, Framing::Opaque] {
                open(framing, &body, ended);
            }
        }
    }
}
