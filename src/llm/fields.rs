//! Field types for reading foreign JSON: each takes any JSON value, so that one odd field never costs the rest.
//!
//! Nothing here keeps text. Strings are measured where they stand, lists are folded while they are read, so a
//! streamed event is read without allocating.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::prune::MARKER;

/// Longest name (model, tier, error type) that is kept, in bytes.
const MAX_NAME: usize = 256;

/// A count of tokens. `None` for anything that is not a whole number of at least zero.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Count(pub(super) Option<u64>);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Counting)
    }
}

/// The visitor behind [`Count`].
struct Counting;

impl<'de> Visitor<'de> for Counting {
    type Value = Count;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a count")
    }

    fn visit_u64<E>(self, count: u64) -> Result<Count, E> {
        Ok(Count(Some(count)))
    }

    fn visit_i64<E>(self, count: i64) -> Result<Count, E> {
        Ok(Count(u64::try_from(count).ok()))
    }

    /// Some servers write counts as 12.0 or 1.2e3.
    fn visit_f64<E>(self, count: f64) -> Result<Count, E> {
        let whole = count >= 0.0 && count.fract() == 0.0 && count < 1e15;
        Ok(Count(whole.then_some(count as u64)))
    }

    fn visit_unit<E>(self) -> Result<Count, E> {
        Ok(Count(None))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Count, E> {
        Ok(Count(None))
    }

    fn visit_str<E>(self, _: &str) -> Result<Count, E> {
        Ok(Count(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Count, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Count(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Count, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Count(None))
    }
}

/// A short text: a string without its quotes, or a number as it is written. Empty for anything else.
#[derive(Debug, Default)]
pub(super) struct Word<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Word<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&'de RawValue>::deserialize(deserializer)?.get();
        Ok(Word(match raw.as_bytes() {
            [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') => {
                Cow::Borrowed(&raw[1..raw.len() - 1])
            }
            [b'"', ..] => Cow::Owned(serde_json::from_str(raw).unwrap_or_default()),
            [b'-' | b'0'..=b'9', ..] => Cow::Borrowed(raw),
            _ => Cow::default(),
        }))
    }
}

impl Word<'_> {
    /// The text as it came; may be empty.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The text if it can be a name: not empty, not long, printable.
    pub(super) fn name(&self) -> Option<&str> {
        let fits =
            !self.0.is_empty() && self.0.len() <= MAX_NAME && !self.0.contains(char::is_control);
        fits.then_some(&*self.0)
    }

    /// The text if it can be the machine-readable name of an error: also without spaces, so never a sentence.
    pub(super) fn code(&self) -> Option<String> {
        self.name()
            .filter(|name| !name.contains(char::is_whitespace))
            .map(str::to_owned)
    }

    /// Puts the name into `slot` unless it is there already.
    pub(super) fn store(&self, slot: &mut Option<String>) {
        if let Some(name) = self.name()
            && slot.as_deref() != Some(name)
        {
            *slot = Some(name.to_owned());
        }
    }
}

/// Whether the value is the literal `true`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Flag(pub(super) bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Flag(
            <&RawValue>::deserialize(deserializer)?.get() == "true",
        ))
    }
}

/// How many bytes of text a value holds: a string's own length (escapes resolved), the JSON of an object or a list,
/// nothing for other values.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct TextBytes(pub(super) u64);

impl<'de> Deserialize<'de> for TextBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        Ok(TextBytes(match raw.as_bytes() {
            [b'"', inner @ .., b'"'] => pruned_length(inner).unwrap_or_else(|| string_bytes(inner)),
            json @ [b'{' | b'[', ..] => json_bytes(json),
            _ => 0,
        }))
    }
}

impl Item for TextBytes {
    type Sum = u64;
    fn add_to(self, sum: &mut u64) {
        *sum += self.0;
    }
}

/// The length that the pruner left in place of a long string. An answer can contain such a marker itself; the bound
/// keeps sums of them from overflowing.
fn pruned_length(inner: &[u8]) -> Option<u64> {
    let digits = inner.strip_prefix(MARKER)?;
    let length: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(length.min(u64::from(u32::MAX)))
}

/// Bytes of a string's text, given what stands between its quotes.
fn string_bytes(inner: &[u8]) -> u64 {
    let mut bytes = inner.len() as u64;
    let mut rest = inner;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let escape = &rest[at..];
        let (written, meant) = match escape {
            [_, b'u', hex @ ..] if hex.len() >= 4 => (6, utf8_bytes(hex_unit(&hex[..4]))),
            _ => (2.min(escape.len()), 1),
        };
        bytes = bytes - written as u64 + meant;
        rest = &escape[written..];
    }
    bytes
}

/// The UTF-16 unit that four hexadecimal digits spell; other bytes count as zero.
fn hex_unit(digits: &[u8]) -> u32 {
    digits.iter().fold(0, |unit, digit| {
        unit << 4 | char::from(*digit).to_digit(16).unwrap_or(0)
    })
}

/// Bytes that a UTF-16 unit takes in UTF-8; each half of a pair counts two.
pub(super) fn utf8_bytes(unit: u32) -> u64 {
    match unit {
        0..0x80 => 1,
        0x80..0x800 | 0xD800..0xE000 => 2,
        _ => 3,
    }
}

/// Bytes of an object or list as JSON, long strings inside it at their full length.
fn json_bytes(json: &[u8]) -> u64 {
    let mut bytes = json.len() as u64;
    for at in memchr::memmem::find_iter(json, MARKER) {
        let digits = &json[at + MARKER.len()..];
        let end = memchr::memchr(b'"', digits).unwrap_or(digits.len());
        if let Some(length) = pruned_length(&json[at..at + MARKER.len() + end]) {
            bytes = bytes.saturating_add(length);
        }
    }
    bytes
}

/// Something that stands in a list and adds to a sum.
pub(super) trait Item {
    /// What a list of these adds up to.
    type Sum: Default;

    /// Adds this item.
    fn add_to(self, sum: &mut Self::Sum);
}

/// A list that is folded item by item. Anything that is no list is an empty one.
pub(super) struct Each<T: Item> {
    /// Whether there was a list at all.
    pub(super) listed: bool,
    /// How many items it had.
    pub(super) count: u64,
    /// What they add up to.
    pub(super) sum: T::Sum,
}

impl<T: Item> Default for Each<T> {
    fn default() -> Self {
        Self {
            listed: false,
            count: 0,
            sum: T::Sum::default(),
        }
    }
}

impl<'de, T: Item + Deserialize<'de>> Deserialize<'de> for Each<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Folding(Each::default()))
    }
}

/// The visitor behind [`Each`].
struct Folding<T: Item>(Each<T>);

impl<'de, T: Item + Deserialize<'de>> Visitor<'de> for Folding<T> {
    type Value = Each<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Each<T>, A::Error> {
        self.0.listed = true;
        while let Some(item) = list.next_element::<T>()? {
            self.0.count += 1;
            item.add_to(&mut self.0.sum);
        }
        Ok(self.0)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Each<T>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(self.0)
    }

    fn visit_unit<E>(self) -> Result<Each<T>, E> {
        Ok(self.0)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Each<T>, E> {
        Ok(self.0)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Each<T>, E> {
        Ok(self.0)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Each<T>, E> {
        Ok(self.0)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Each<T>, E> {
        Ok(self.0)
    }

    fn visit_str<E>(self, _: &str) -> Result<Each<T>, E> {
        Ok(self.0)
    }
}

/// An object that is read where it stands; `None` for any other value.
#[derive(Debug)]
pub(super) struct Object<T>(pub(super) Option<T>);

impl<T> Default for Object<T> {
    fn default() -> Self {
        Object(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Inside(PhantomData))
    }
}

/// The visitor behind [`Object`].
struct Inside<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Inside<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(|value| Object(Some(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Object<T>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Object(None))
    }

    fn visit_unit<E>(self) -> Result<Object<T>, E> {
        Ok(Object(None))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Object<T>, E> {
        Ok(Object(None))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Object<T>, E> {
        Ok(Object(None))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Object<T>, E> {
        Ok(Object(None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Object<T>, E> {
        Ok(Object(None))
    }

    fn visit_str<E>(self, _: &str) -> Result<Object<T>, E> {
        Ok(Object(None))
    }
}

/// Reads an object that stands inside an event; `None` if there is another value or nothing.
///
/// # Errors
/// When it is an object but cannot be read, such as one that names a field twice.
pub(super) fn object<'a, T: Deserialize<'a>>(
    raw: Option<&'a RawValue>,
) -> Result<Option<T>, serde_json::Error> {
    // Without the check a list would be taken for an object's fields in order.
    raw.map(RawValue::get)
        .filter(|json| json.starts_with('{'))
        .map(serde_json::from_str)
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_bytes(json: &str) -> u64 {
        serde_json::from_str::<TextBytes>(json)
            .expect("any JSON is taken")
            .0
    }

    #[test]
    fn text_is_measured_with_its_escapes_resolved() {
        for text in [
            "",
            "plain",
            "line\nnext",
            "\"q\" \\ /",
            "é",
            "日本",
            "😀",
            "\u{1}",
        ] {
            let json = serde_json::to_string(text).expect("strings can be written");
            assert_eq!(text_bytes(&json), text.len() as u64, "{json}");
        }
        assert_eq!(text_bytes(r#""\u00e9\ud83d\ude00\u65e5""#), 2 + 4 + 3);
        assert_eq!(text_bytes(r#""\u00001234""#), 1234, "a pruned string");
        assert_eq!(text_bytes(r#"{"a":"\u00001000"}"#), 18 + 1000);
        assert_eq!(text_bytes("null"), 0);
        assert_eq!(text_bytes("17"), 0);
    }

    #[test]
    fn counts_are_whole_numbers_or_nothing() {
        for (json, count) in [
            ("12", Some(12)),
            ("12.0", Some(12)),
            ("1e3", Some(1000)),
            ("-1", None),
            ("1.5", None),
            ("null", None),
            ("\"12\"", None),
            ("{\"a\":[1]}", None),
            ("1e300", None),
        ] {
            let read: Count = serde_json::from_str(json).expect("any JSON is taken");
            assert_eq!(read.0, count, "{json}");
        }
    }

    #[test]
    fn names_are_short_and_printable_and_codes_are_not_sentences() {
        let word =
            |json: &'static str| serde_json::from_str::<Word<'_>>(json).expect("any JSON is taken");
        assert_eq!(word(r#""gpt\u002d5""#).name(), Some("gpt-5"));
        assert_eq!(word("429").code().as_deref(), Some("429"));
        assert_eq!(word(r#""\u0000700""#).name(), None);
        assert_eq!(word(r#""the prompt was bad""#).code(), None);
        assert_eq!(word("{}").name(), None);
        let long = format!("\"{}\"", "x".repeat(300));
        let long: Word<'_> = serde_json::from_str(&long).expect("any JSON is taken");
        assert_eq!(long.name(), None);
    }
}
