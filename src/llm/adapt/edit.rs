//! Cuts members and elements out of JSON text, and puts others in, without touching any other byte.
//!
//! A body is never parsed and printed again: that would reorder keys, respell numbers and break prompt-cache prefixes.
//! Edits are byte ranges with what goes there instead.

use std::borrow::Cow;
use std::ops::Range;

use crate::llm::request::cursor::{Cursor, unescaped};

/// A member of an object, or an element of an array (whose name is empty).
#[derive(Debug, Clone)]
pub(super) struct Part<'a> {
    /// The key, escapes resolved.
    pub(super) name: Cow<'a, str>,
    /// Key and value, as far as they are written.
    pub(super) span: Range<usize>,
    /// The key with its quotes.
    pub(super) key: Range<usize>,
    /// The value.
    pub(super) value: Range<usize>,
    /// The value as it is written.
    pub(super) raw: &'a str,
    /// Where the comma before it stands; none before the first.
    comma: Option<usize>,
}

/// The members of the object that stands at `base` in the body, or the elements of an array; none of anything else.
pub(super) fn parts(raw: &str, base: usize) -> Vec<Part<'_>> {
    let mut cursor = Cursor::new(raw);
    let first = cursor.peek();
    let object = first == b'{';
    if !object && first != b'[' {
        return Vec::new();
    }
    cursor.open();
    let mut parts = Vec::new();
    loop {
        let mut comma = None;
        if cursor.peek() == b',' {
            comma = Some(base + cursor.position());
            cursor.open();
        }
        match (object, cursor.peek()) {
            (true, b'"') => {}
            (false, next) if next != 0 && next != b']' => {}
            _ => return parts,
        }
        let start = base + cursor.position();
        let (mut name, mut key) = (Cow::Borrowed(""), start..start);
        if object {
            name = unescaped(cursor.string(), usize::MAX);
            key.end = base + cursor.position();
            cursor.peek();
            cursor.open();
            cursor.peek();
        }
        let from = base + cursor.position();
        let value = cursor.skip();
        parts.push(Part {
            name,
            span: start..from + value.len(),
            key,
            value: from..from + value.len(),
            raw: value,
            comma,
        });
    }
}

/// Ranges of the body and what is to stand there.
#[derive(Debug, Default)]
pub(super) struct Edits(Vec<(Range<usize>, Vec<u8>)>);

impl Edits {
    /// Puts something else in the place of a range; an empty range is an insertion.
    pub(super) fn replace(&mut self, range: Range<usize>, with: impl Into<Vec<u8>>) {
        self.0.push((range, with.into()));
    }

    /// Cuts parts of one object or array, each with exactly one comma; what stays keeps its whitespace. `gone` says which.
    pub(super) fn cut(&mut self, parts: &[Part<'_>], gone: impl Fn(&Part<'_>) -> bool) {
        let leading = parts.iter().take_while(|part| gone(part)).count();
        if leading > 0 {
            // The comma behind the last of them goes with them, and the whitespace that it ended in.
            let end = match parts.get(leading) {
                Some(next) => next.span.start,
                None => parts[leading - 1].span.end,
            };
            self.replace(parts[0].span.start..end, []);
        }
        for part in parts.iter().skip(leading).filter(|part| gone(part)) {
            let start = part.comma.unwrap_or(part.span.start);
            self.replace(start..part.span.end, []);
        }
    }

    /// Whether there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where the body is changed, in order.
    pub(super) fn ranges(&self) -> Vec<Range<usize>> {
        let mut ranges: Vec<_> = self.0.iter().map(|(range, _)| range.clone()).collect();
        ranges.sort_by_key(|range| (range.start, range.end));
        ranges
    }

    /// The body with all edits done; `None` if two of them touch the same bytes.
    pub(super) fn apply(mut self, body: &[u8]) -> Option<Vec<u8>> {
        self.0.sort_by_key(|(range, _)| (range.start, range.end));
        let mut edited = Vec::with_capacity(body.len() + 64);
        let mut at = 0;
        for (range, with) in &self.0 {
            edited.extend_from_slice(body.get(at..range.start)?);
            edited.extend_from_slice(with);
            at = range.end;
        }
        edited.extend_from_slice(body.get(at..)?);
        Some(edited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn without(body: &str, gone: &[&str]) -> String {
        let mut edits = Edits::default();
        edits.cut(&parts(body, 0), |part| gone.contains(&&*part.name));
        let edited = edits.apply(body.as_bytes()).expect("edits apart");
        String::from_utf8(edited).expect("text")
    }

    #[test]
    fn a_member_goes_with_exactly_one_comma() {
        let compact = r#"{"a":1,"b":{"x":[1,2]},"c":"y,}"}"#;
        assert_eq!(without(compact, &["a"]), r#"{"b":{"x":[1,2]},"c":"y,}"}"#);
        assert_eq!(without(compact, &["b"]), r#"{"a":1,"c":"y,}"}"#);
        assert_eq!(without(compact, &["c"]), r#"{"a":1,"b":{"x":[1,2]}}"#);
        assert_eq!(without(compact, &["a", "c"]), r#"{"b":{"x":[1,2]}}"#);
        assert_eq!(without(compact, &["a", "b", "c"]), "{}");
        let pretty = "{\n  \"a\": 1,\n  \"b\" : 2 ,\n  \"c\": 3\n}";
        assert_eq!(without(pretty, &["a"]), "{\n  \"b\" : 2 ,\n  \"c\": 3\n}");
        assert_eq!(without(pretty, &["b"]), "{\n  \"a\": 1 ,\n  \"c\": 3\n}");
        assert_eq!(without(pretty, &["c"]), "{\n  \"a\": 1,\n  \"b\" : 2 \n}");
        assert_eq!(without(r#"{"\u0061":1,"b":2}"#, &["a"]), r#"{"b":2}"#);
    }

    #[test]
    fn elements_are_cut_as_members_are() {
        let body = "[ 1, [2] , {\"a\":3} ]";
        let mut edits = Edits::default();
        edits.cut(&parts(body, 0), |part| part.raw == "[2]");
        assert_eq!(
            edits.apply(body.as_bytes()),
            Some(b"[ 1 , {\"a\":3} ]".to_vec())
        );
    }

    proptest! {
        #[test]
        fn what_is_left_is_what_a_parser_would_leave(
            members in prop::collection::btree_map("[a-d\"\\\\é]{0,2}", "[a-z,\\]}\"\\\\]{0,4}", 0..6),
            gone in prop::collection::vec("[a-d\"\\\\é]{0,2}", 0..4),
            pretty in any::<bool>(),
        ) {
            let value: Value = serde_json::to_value(&members).expect("a map");
            let body = if pretty { format!("{value:#}") } else { value.to_string() };
            let gone: Vec<&str> = gone.iter().map(String::as_str).collect();
            let left: Value = serde_json::from_str(&without(&body, &gone)).expect("valid JSON");
            let mut expected = value;
            for name in &gone {
                expected.as_object_mut().expect("an object").remove(*name);
            }
            prop_assert_eq!(left, expected);
        }
    }
}
