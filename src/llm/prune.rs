//! Makes a small copy of a large JSON document while its bytes pass by, so that answers are never kept whole.
//!
//! Structure, short strings and numbers stay. A string over [`MAX_STRING`] bytes becomes a marker that tells its length;
//! lists of numbers (embeddings) keep their first few; structures under keys that no reader wants, or too deep for
//! any, become null. The copy is bounded; what does not fit or is not JSON fails.

use super::fields::utf8_bytes;

/// What a pruned string begins with (as JSON source), followed by the decimal length of its text in bytes. A NUL
/// stands in no text that a model writes.
pub(super) const MARKER: &[u8] = b"\\u0000";

/// Longest string that is kept, in bytes of its source.
const MAX_STRING: usize = 512;
/// Longest number or literal that is kept.
const MAX_SCALAR: usize = 64;
/// How many numbers or literals of one list are kept.
const MAX_SCALARS: u32 = 8;
/// Deepest level that is kept; no reader looks deeper than eight.
const MAX_DEPTH: usize = 64;
/// Largest copy in bytes.
const MAX_COPY: usize = 1 << 20;
/// Copy buffers up to this size are kept for the next document.
const KEPT_CAPACITY: usize = 64 << 10;

/// Keys whose objects and lists no reader wants, and which can be large: echoes of the request, token by token
/// figures, vectors, citations.
const UNWANTED: [&[u8]; 10] = [
    b"annotations",
    b"citationMetadata",
    b"citations",
    b"groundingChunks",
    b"groundingSupports",
    b"logprobs",
    b"logprobsResult",
    b"prompt_logprobs",
    b"safetyRatings",
    b"tools",
];

/// How far a push got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pruned {
    /// All bytes are used; the document goes on.
    More,
    /// A document is complete after this many bytes; the rest has not been looked at.
    Document(usize),
    /// This is not JSON, or its copy would be too large.
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before a document; a list at this level is a list of documents.
    Start,
    /// Before a document inside such a list.
    Listed,
    Value,
    FirstValue,
    FirstKey,
    Key,
    Colon,
    AfterValue,
    Text,
    Escape,
    /// Inside `\uXXXX`: digits seen and their value.
    Hex(u8, u32),
    Scalar,
    /// Inside a structure that is left out: how deep.
    Skip(u64),
    SkipText(u64),
    SkipEscape(u64),
    Failed,
}

#[derive(Debug, Default)]
struct Level {
    object: bool,
    kept: u32,
    scalars: u32,
}

/// The push pruner. Reads one document after the other, also the elements of a list of documents.
#[derive(Debug)]
pub(super) struct Pruner {
    copy: Vec<u8>,
    state: State,
    levels: Vec<Level>,
    listed: bool,
    /// Where the current string or scalar begins in the copy.
    start: usize,
    /// Bytes of text in the current string.
    length: u64,
    /// The current string or scalar is not kept.
    dropping: bool,
    is_key: bool,
    unwanted: bool,
}

impl Pruner {
    /// Starts before a document.
    pub(super) fn new() -> Self {
        Self {
            copy: Vec::new(),
            state: State::Start,
            levels: Vec::new(),
            listed: false,
            start: 0,
            length: 0,
            dropping: false,
            is_key: false,
            unwanted: false,
        }
    }

    /// The copy of the document that [`Pruned::Document`] announced, until the next push.
    pub(super) fn document(&self) -> &[u8] {
        &self.copy
    }

    /// Whether the documents are elements of a list.
    pub(super) fn listed(&self) -> bool {
        self.listed
    }

    /// Whether nothing is open.
    pub(super) fn at_rest(&self) -> bool {
        self.state == State::Start
    }

    /// Reads on, at most to the end of a document. After a failure it fails for ever.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Pruned {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let (used, ended) = match self.state {
                State::Text => self.text(rest),
                State::Scalar => self.scalar(rest),
                State::Skip(_) | State::SkipText(_) | State::SkipEscape(_) => self.skip(rest),
                State::Escape | State::Hex(..) => (self.escape(rest[0]), false),
                State::Failed => return Pruned::Failed,
                _ => self.structure(rest[0]),
            };
            at += used;
            if self.copy.len() > MAX_COPY {
                self.state = State::Failed;
            }
            if ended && self.state != State::Failed {
                return Pruned::Document(at);
            }
        }
        if self.state == State::Failed {
            self.copy = Vec::new();
            return Pruned::Failed;
        }
        Pruned::More
    }

    /// Takes one byte between strings and scalars. Tells how many bytes it used and whether the document is complete.
    fn structure(&mut self, byte: u8) -> (usize, bool) {
        let value_may_come = matches!(self.state, State::Value | State::FirstValue);
        match (self.state, byte) {
            (_, b' ' | b'\t' | b'\n' | b'\r') => {}
            // A byte-order mark, whole or in pieces.
            (State::Start, 0xEF | 0xBB | 0xBF) => {}
            (State::Start, b'[') => {
                self.listed = true;
                self.state = State::Listed;
            }
            (State::Listed, b',') => {}
            (State::Listed, b']') => {
                self.listed = false;
                self.state = State::Start;
            }
            (State::Start | State::Listed, b'{') => {
                self.copy.clear();
                self.copy.shrink_to(KEPT_CAPACITY);
                self.levels.clear();
                self.unwanted = false;
                self.open(true);
            }
            (State::FirstKey | State::Key, b'"') => self.begin_string(true),
            (State::FirstKey, b'}') | (State::FirstValue, b']') => return (1, self.close(byte)),
            (State::Colon, b':') => {
                self.copy.push(b':');
                self.state = State::Value;
            }
            (State::AfterValue, b',') => {
                let object = self.levels.last().is_some_and(|level| level.object);
                self.state = if object { State::Key } else { State::Value };
            }
            (State::AfterValue, b'}' | b']') => return (1, self.close(byte)),
            (_, b'"') if value_may_come => {
                self.unwanted = false;
                self.begin_element();
                self.begin_string(false);
            }
            (_, b'{' | b'[') if value_may_come => {
                self.begin_element();
                if self.unwanted || self.levels.len() >= MAX_DEPTH {
                    self.unwanted = false;
                    self.copy.extend_from_slice(b"null");
                    self.state = State::Skip(1);
                } else {
                    self.open(byte == b'{');
                }
            }
            (_, b'-' | b'0'..=b'9' | b't' | b'f' | b'n') if value_may_come => {
                self.begin_scalar();
                return (0, false);
            }
            _ => self.state = State::Failed,
        }
        (1, false)
    }

    fn open(&mut self, object: bool) {
        self.copy.push(if object { b'{' } else { b'[' });
        self.levels.push(Level {
            object,
            ..Level::default()
        });
        self.state = if object {
            State::FirstKey
        } else {
            State::FirstValue
        };
    }

    /// Closes the innermost structure; tells whether that completes the document.
    fn close(&mut self, bracket: u8) -> bool {
        let object = bracket == b'}';
        if self.levels.pop().is_none_or(|level| level.object != object) {
            self.state = State::Failed;
            return false;
        }
        self.copy.push(bracket);
        self.end_value()
    }

    fn end_value(&mut self) -> bool {
        if !self.levels.is_empty() {
            self.state = State::AfterValue;
            return false;
        }
        self.state = if self.listed {
            State::Listed
        } else {
            State::Start
        };
        true
    }

    /// Writes the comma before a list's element; an object's comma is written before the key.
    fn begin_element(&mut self) {
        if let Some(level) = self.levels.last_mut()
            && !level.object
        {
            if level.kept > 0 {
                self.copy.push(b',');
            }
            level.kept = level.kept.saturating_add(1);
        }
    }

    fn begin_string(&mut self, is_key: bool) {
        if is_key && let Some(level) = self.levels.last_mut() {
            if level.kept > 0 {
                self.copy.push(b',');
            }
            level.kept = level.kept.saturating_add(1);
        }
        self.is_key = is_key;
        self.dropping = false;
        self.length = 0;
        self.copy.push(b'"');
        self.start = self.copy.len();
        self.state = State::Text;
    }

    /// Keeps a piece of the current string's source, or notes that the string is too long to be kept.
    fn keep(&mut self, source: &[u8]) {
        if self.dropping {
            return;
        }
        if self.copy.len() - self.start + source.len() > MAX_STRING {
            self.copy.truncate(self.start);
            self.dropping = true;
        } else {
            self.copy.extend_from_slice(source);
        }
    }

    fn text(&mut self, rest: &[u8]) -> (usize, bool) {
        let run = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
        self.length = self.length.saturating_add(run as u64);
        self.keep(&rest[..run]);
        match rest.get(run) {
            None => (run, false),
            Some(b'\\') => {
                self.keep(b"\\");
                self.state = State::Escape;
                (run + 1, false)
            }
            Some(_) => {
                self.end_string();
                (run + 1, false)
            }
        }
    }

    fn escape(&mut self, byte: u8) -> usize {
        self.keep(&[byte]);
        self.state = match self.state {
            State::Escape if byte == b'u' => State::Hex(0, 0),
            State::Hex(seen, unit) => {
                let Some(digit) = char::from(byte).to_digit(16) else {
                    self.state = State::Failed;
                    return 1;
                };
                let unit = unit << 4 | digit;
                if seen == 3 {
                    self.length = self.length.saturating_add(utf8_bytes(unit));
                    State::Text
                } else {
                    State::Hex(seen + 1, unit)
                }
            }
            _ => {
                self.length = self.length.saturating_add(1);
                State::Text
            }
        };
        1
    }

    fn end_string(&mut self) {
        if self.is_key {
            self.unwanted = !self.dropping && UNWANTED.contains(&&self.copy[self.start..]);
            self.state = State::Colon;
        } else {
            if self.dropping {
                self.copy.extend_from_slice(MARKER);
                self.copy
                    .extend_from_slice(self.length.to_string().as_bytes());
            }
            self.state = State::AfterValue;
        }
        self.copy.push(b'"');
    }

    fn begin_scalar(&mut self) {
        self.unwanted = false;
        self.dropping = match self.levels.last_mut() {
            Some(level) if !level.object => {
                level.scalars = level.scalars.saturating_add(1);
                level.scalars > MAX_SCALARS
            }
            _ => false,
        };
        if !self.dropping {
            self.begin_element();
        }
        self.start = self.copy.len();
        self.state = State::Scalar;
    }

    fn scalar(&mut self, rest: &[u8]) -> (usize, bool) {
        let part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        let run = rest.iter().take_while(|byte| part(byte)).count();
        if !self.dropping {
            let left = (MAX_SCALAR + 1).saturating_sub(self.copy.len() - self.start);
            self.copy.extend_from_slice(&rest[..run.min(left)]);
        }
        if run < rest.len() {
            if self.copy.len() - self.start > MAX_SCALAR {
                self.copy.truncate(self.start);
                self.copy.extend_from_slice(b"null");
            }
            self.state = State::AfterValue;
        }
        (run, false)
    }

    fn skip(&mut self, rest: &[u8]) -> (usize, bool) {
        for (at, byte) in rest.iter().enumerate() {
            self.state = match (self.state, byte) {
                (State::Skip(depth), b'{' | b'[') => State::Skip(depth + 1),
                (State::Skip(1), b'}' | b']') => {
                    self.state = State::AfterValue;
                    return (at + 1, false);
                }
                (State::Skip(depth), b'}' | b']') => State::Skip(depth - 1),
                (State::Skip(depth), b'"') => State::SkipText(depth),
                (State::SkipText(depth), b'"') => State::Skip(depth),
                (State::SkipText(depth), b'\\') => State::SkipEscape(depth),
                (State::SkipEscape(depth), _) => State::SkipText(depth),
                (state, _) => state,
            };
        }
        (rest.len(), false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    /// All documents in a text that comes in these pieces; `None` if it fails.
    fn pruned<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Option<Vec<String>> {
        let mut pruner = Pruner::new();
        let mut documents = Vec::new();
        for piece in pieces {
            let mut rest = piece;
            loop {
                match pruner.push(rest) {
                    Pruned::More => break,
                    Pruned::Failed => return None,
                    Pruned::Document(used) => {
                        documents.push(String::from_utf8_lossy(pruner.document()).into_owned());
                        rest = &rest[used..];
                    }
                }
            }
        }
        Some(documents)
    }

    fn prune_one(json: &str) -> Option<String> {
        let documents = pruned([json.as_bytes()])?;
        assert!(documents.len() <= 1, "{documents:?}");
        documents.into_iter().next()
    }

    #[test]
    fn long_strings_leave_their_length_and_long_keys_nothing() {
        let text = format!("{}\\n\\u00e9\\ud83d\\ude00é", "x".repeat(600));
        let json = format!(r#"{{"text":"{text}","{text}":"short \"one\"","end":true}}"#);
        let length = 600 + 1 + 2 + 4 + 2;
        assert_eq!(
            prune_one(&json).as_deref(),
            Some(format!(r#"{{"text":"\u0000{length}","":"short \"one\"","end":true}}"#).as_str())
        );
    }

    #[test]
    fn lists_of_numbers_keep_their_first_few() {
        let json = json!({"a": vec![0.5; 5000], "b": [1, {"c": 2}, "d"]}).to_string();
        assert_eq!(
            prune_one(&json).as_deref(),
            Some(r#"{"a":[0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5],"b":[1,{"c":2},"d"]}"#)
        );
    }

    #[test]
    fn structures_that_no_reader_wants_become_null() {
        let json = r#"{"logprobs":{"a":["]}\"",{"b":1}]},"tools":"kept","x":[ ]}"#;
        assert_eq!(
            prune_one(json).as_deref(),
            Some(r#"{"logprobs":null,"tools":"kept","x":[]}"#)
        );
    }

    #[test]
    fn nesting_of_any_depth_costs_no_stack() {
        let depth = 10_000;
        let json = format!(
            "{{\"a\":{}{},\"b\":1}}",
            "[".repeat(depth),
            "]".repeat(depth)
        );
        let copy = prune_one(&json).expect("it is JSON");
        assert!(copy.len() < 200 && copy.ends_with(",\"b\":1}"), "{copy}");
    }

    #[test]
    fn the_elements_of_a_list_are_documents() {
        let documents = pruned([&b"\xEF\xBB\xBF [{\"a\":1}\n,\r\n{\"b\":[]} ] "[..]]);
        assert_eq!(
            documents,
            Some(vec!["{\"a\":1}".into(), "{\"b\":[]}".into()])
        );
    }

    #[test]
    fn what_is_not_json_fails() {
        for bad in [
            "x",
            "\"text\"",
            "{1:2}",
            "{\"a\" 1}",
            "{\"a\":}",
            "{\"a\":[1,]}",
            "{\"a\":[1}",
            "{\"a\":1]",
            "{,}",
            "{\"a\":\"\\u12g4\"}",
            "{\"a\":1,}",
            "[1]",
        ] {
            assert_eq!(prune_one(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_copy_has_a_bound() {
        let element = format!("{{\"k\":\"{}\"}},", "y".repeat(400));
        let json = format!("{{\"a\":[{}1]}}", element.repeat(4000));
        assert_eq!(prune_one(&json), None);
    }

    #[test]
    fn numbers_of_absurd_length_become_null() {
        let json = format!("{{\"a\":{},\"b\":2}}", "9".repeat(100));
        assert_eq!(prune_one(&json).as_deref(), Some(r#"{"a":null,"b":2}"#));
    }

    /// Values that pruning leaves alone: short strings, short lists, few levels.
    fn small_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,20}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map("[a-f\"\\\\\n]{0,6}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_small_document_is_copied_whole_wherever_it_is_cut(value in small_value(), cut in 0..10_000_usize) {
            let json = serde_json::to_string_pretty(&json!({"v": value.clone()})).expect("values can be written");
            let (head, tail) = json.as_bytes().split_at(cut % (json.len() + 1));
            let documents = pruned([head, tail]).expect("it is JSON");
            let copy: Value = serde_json::from_str(&documents[0]).expect("the copy is JSON");
            prop_assert_eq!(copy, json!({"v": value}));
        }

        #[test]
        fn no_bytes_upset_it_and_cuts_change_nothing(
            bytes in prop::collection::vec(prop::sample::select(&b"{}[]\",:\\u0a1 t\n\xEF\xC3"[..]), 0..200),
            cut in 0..200_usize,
        ) {
            let whole = pruned([&bytes[..]]);
            let (head, tail) = bytes.split_at(cut.min(bytes.len()));
            prop_assert_eq!(pruned([head, tail]), whole.clone());
            prop_assert_eq!(pruned(bytes.chunks(1)), whole);
        }
    }
}
