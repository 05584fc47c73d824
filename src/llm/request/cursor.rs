//! Walks over JSON text that is known to be valid, without building anything.
//!
//! serde_json has checked the text before, so this only has to find where values end: strings by a search for quotes,
//! containers by depth, never by recursion. It keeps numbers and escapes as they are written, which serde's typed
//! readers cannot (they fail on 1e999 and on half a surrogate pair). On text that is not valid it stops early.

use std::borrow::Cow;

use memchr::memchr2;

/// A position in valid JSON text.
pub(in crate::llm) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(in crate::llm) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The first byte of the next value or mark; 0 at the end.
    pub(in crate::llm) fn peek(&mut self) -> u8 {
        let bytes = self.text.as_bytes();
        while let Some(byte) = bytes.get(self.at) {
            if !byte.is_ascii_whitespace() {
                return *byte;
            }
            self.at += 1;
        }
        0
    }

    /// Where it stands, in bytes from the beginning of the text.
    pub(in crate::llm) fn position(&self) -> usize {
        self.at
    }

    /// Steps into the object or array that begins here.
    pub(in crate::llm) fn open(&mut self) {
        self.at += 1;
    }

    /// The next key of the object, standing before its value after that; `None` once the object is left.
    pub(in crate::llm) fn key(&mut self) -> Option<Cow<'a, str>> {
        if self.peek() == b',' {
            self.at += 1;
        }
        if self.peek() != b'"' {
            self.at += 1;
            return None;
        }
        let key = self.string();
        if self.peek() == b':' {
            self.at += 1;
        }
        Some(unescaped(key, usize::MAX))
    }

    /// Whether the array has another element, standing before it; false once the array is left.
    pub(in crate::llm) fn element(&mut self) -> bool {
        if self.peek() == b',' {
            self.at += 1;
        }
        match self.peek() {
            0 | b']' => {
                self.at += 1;
                false
            }
            _ => true,
        }
    }

    /// The string that begins here, as it is written, without its quotes.
    pub(in crate::llm) fn string(&mut self) -> &'a str {
        self.measured_string().0
    }

    /// The string that begins here, as it is written, and its length in bytes once its escapes are resolved.
    pub(in crate::llm) fn measured_string(&mut self) -> (&'a str, u64) {
        let bytes = self.text.as_bytes();
        let start = self.at + 1;
        let (mut at, mut saved) = (start, 0);
        while let Some(rest) = bytes.get(at..)
            && let Some(offset) = quote_or_backslash(rest)
        {
            at += offset;
            if bytes[at] == b'"' {
                self.at = at + 1;
                let written = self.text.get(start..at).unwrap_or_default();
                return (written, (written.len() as u64).saturating_sub(saved));
            }
            let (written, real) = escape_lengths(&bytes[at..]);
            saved += (written - real) as u64;
            at += written;
        }
        self.at = self.text.len();
        (self.text.get(start..).unwrap_or_default(), 0)
    }

    /// Passes over the value that begins here, however deep it is, and returns it as it is written.
    pub(in crate::llm) fn skip(&mut self) -> &'a str {
        let first = self.peek();
        let start = self.at;
        match first {
            b'"' => {
                self.string();
            }
            b'{' | b'[' => self.skip_container(),
            _ => {
                let rest = self.text.as_bytes().get(start..).unwrap_or_default();
                let length = rest
                    .iter()
                    .position(|byte| matches!(byte, b',' | b']' | b'}' | b':' | b'"'))
                    .unwrap_or(rest.len());
                // At least one byte, so that a caller's loop ends on broken text too.
                self.at = start + length.max(1);
            }
        }
        self.text
            .get(start..self.at)
            .unwrap_or_default()
            .trim_ascii_end()
    }

    fn skip_container(&mut self) {
        let bytes = self.text.as_bytes();
        let mut depth = 0_usize;
        while let Some(byte) = bytes.get(self.at) {
            match byte {
                b'"' => {
                    self.string();
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return;
            }
        }
    }
}

/// The value of a key of the object `raw`, as it is written; `None` for null. The last one counts, as in most parsers.
pub(in crate::llm) fn member<'a>(raw: &'a str, name: &str) -> Option<&'a str> {
    let mut cursor = Cursor::new(raw);
    if cursor.peek() != b'{' {
        return None;
    }
    cursor.open();
    let mut found = None;
    while let Some(key) = cursor.key() {
        cursor.peek();
        let value = cursor.skip();
        if key == name {
            found = Some(value).filter(|value| *value != "null");
        }
    }
    found
}

/// The value of the one key of the object `raw` that has any of these names; `None` for null.
///
/// # Errors
///
/// There are two such keys, so that it could mean two things.
pub(in crate::llm) fn only_member<'a>(
    raw: &'a str,
    names: &[&str],
) -> Result<Option<&'a str>, TwoMembers> {
    let mut cursor = Cursor::new(raw);
    if cursor.peek() != b'{' {
        return Ok(None);
    }
    cursor.open();
    let mut found = None;
    while let Some(key) = cursor.key() {
        cursor.peek();
        let value = cursor.skip();
        if names.contains(&&*key) && found.replace(value).is_some() {
            return Err(TwoMembers);
        }
    }
    Ok(found.filter(|value| *value != "null"))
}

/// Two members of an object have the same meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::llm) struct TwoMembers;

/// The text of a string value that is written with its quotes; `None` for any other value.
pub(in crate::llm) fn text_of(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    Some(unescaped(inner, usize::MAX))
}

/// Resolves the escapes of a string that is written without its quotes, up to about `limit` bytes.
///
/// Half a surrogate pair becomes U+FFFD: JavaScript writes such halves where it cuts a text.
pub(in crate::llm) fn unescaped(written: &str, limit: usize) -> Cow<'_, str> {
    if memchr::memchr(b'\\', written.as_bytes()).is_none() {
        return Cow::Borrowed(written);
    }
    let mut text = String::with_capacity(written.len().min(limit));
    let mut rest = written;
    while text.len() < limit {
        let Some((plain, escape)) = rest.split_once('\\') else {
            text.push_str(rest);
            break;
        };
        text.push_str(plain);
        let mut letters = escape.chars();
        let letter = letters.next();
        rest = letters.as_str();
        match letter {
            Some('n') => text.push('\n'),
            Some('t') => text.push('\t'),
            Some('r') => text.push('\r'),
            Some('b') => text.push('\u{8}'),
            Some('f') => text.push('\u{c}'),
            Some('u') => {
                let (decoded, after) = unicode_escape(rest);
                text.push(decoded);
                rest = after;
            }
            Some(other) => text.push(other),
            None => break,
        }
    }
    Cow::Owned(text)
}

/// Reads what follows `\u`: four digits, and a second escape if the two are a surrogate pair.
fn unicode_escape(rest: &str) -> (char, &str) {
    let unit = |text: &str| {
        text.get(..4)
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
    };
    let Some(first) = unit(rest) else {
        return (char::REPLACEMENT_CHARACTER, rest);
    };
    let rest = &rest[4..];
    if (0xD800..0xDC00).contains(&first)
        && let Some(after) = rest.strip_prefix("\\u")
        && let Some(second @ 0xDC00..0xE000) = unit(after)
    {
        let code = 0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00);
        return (
            char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER),
            &after[4..],
        );
    }
    (
        char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER),
        rest,
    )
}

/// Finds the next byte that means something inside a string.
///
/// Escapes often stand close together (line ends, quotes in code), where starting the vectorised search costs more than
/// it saves; so the first 64 bytes are looked at as words of eight.
fn quote_or_backslash(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
    // The lowest bit set marks the first zero byte; higher ones may be wrong and are not looked at.
    let zero_bytes = |word: u64| word.wrapping_sub(ONES) & !word & HIGH_BITS;
    let (words, _) = bytes[..bytes.len().min(64)].as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let found = zero_bytes(word ^ (ONES * u64::from(b'"')))
            | zero_bytes(word ^ (ONES * u64::from(b'\\')));
        if found != 0 {
            return Some(index * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let near = words.len() * 8;
    Some(near + memchr2(b'"', b'\\', &bytes[near..])?)
}

/// How many bytes the escape that begins here is written with, and for how many bytes of UTF-8 it stands.
fn escape_lengths(escape: &[u8]) -> (usize, usize) {
    match escape {
        [_, b'u', b'0', b'0', b'0'..=b'7', ..] => (6, 1),
        [_, b'u', b'0', b'0'..=b'7', ..] => (6, 2),
        // Each half of a surrogate pair stands for two of the four bytes.
        [
            _,
            b'u',
            b'd' | b'D',
            b'8' | b'9' | b'a'..=b'f' | b'A'..=b'F',
            ..,
        ] => (6, 2),
        [_, b'u', ..] => (6, 3),
        _ => (2, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_found_whatever_stands_in_their_strings() {
        let raw = r#" { "a" : "x\"}]" , "b":[1,{"c":"]"}] ,"n":1e999, "a":null,"e\u0066":{} } "#;
        assert_eq!(member(raw, "b"), Some(r#"[1,{"c":"]"}]"#));
        assert_eq!(member(raw, "n"), Some("1e999"));
        assert_eq!(member(raw, "ef"), Some("{}"));
        assert_eq!(
            member(raw, "a"),
            None,
            "the last one counts, and it is null"
        );
        assert_eq!(member("[1]", "a"), None);
    }

    #[test]
    fn half_a_surrogate_pair_is_no_reason_to_fail() {
        assert_eq!(unescaped(r"a\ud83d", 99), "a\u{FFFD}");
        assert_eq!(unescaped(r"\ud83d\ude00!", 99), "😀!");
        assert_eq!(unescaped(r"\ude00\u00e9", 99), "\u{FFFD}é");
        assert_eq!(unescaped(r"\u12", 99), "\u{FFFD}12");
    }

    #[test]
    fn nothing_is_unescaped_far_beyond_the_limit() {
        let long = r"\n".repeat(10_000);
        assert_eq!(unescaped(&long, 100).len(), 100);
    }

    proptest! {
        #[test]
        fn strings_read_as_serde_reads_them(text in any::<String>(), ascii in any::<bool>()) {
            let mut written = serde_json::to_string(&text).expect("a string");
            if ascii {
                written = written.encode_utf16().map(|unit| match unit {
                    0..0x80 => char::from(unit as u8).to_string(),
                    _ => format!("\\u{unit:04x}"),
                }).collect();
            }
            let inner = &written[1..written.len() - 1];
            prop_assert_eq!(&*unescaped(inner, usize::MAX), text.as_str());
            prop_assert_eq!(Cursor::new(&written).measured_string(), (inner, text.len() as u64));
        }

        #[test]
        fn no_text_makes_it_panic_or_hang(text in r#"[\[\]{}",:\\u0-9a é]{0,40}"#) {
            member(&text, "a");
            let mut cursor = Cursor::new(&text);
            while cursor.peek() != 0 {
                cursor.skip();
            }
            unescaped(&text, 10);
        }
    }
}
