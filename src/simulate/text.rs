//! The words that the simulated models write, and how much text a request holds.
//!
//! Token `n` of every answer is always the same word, so an answer of `n` tokens is known before it is written and any
//! stretch of it can be made again. Input is counted as four bytes of text to a token, rounded up, never under one.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Lower-case ASCII, so that no wire format has to escape anything.
const WORDS: [&str; 32] = [
    "the",
    "quiet",
    "gate",
    "opens",
    "when",
    "a",
    "coin",
    "drops",
    "and",
    "every",
    "traveller",
    "passes",
    "in",
    "turn",
    "while",
    "keeper",
    "counts",
    "each",
    "step",
    "with",
    "care",
    "so",
    "that",
    "no",
    "one",
    "waits",
    "longer",
    "than",
    "they",
    "must",
    "before",
    "dawn",
];

/// Writes the tokens from `from` up to but not including `to`; every token but the first begins with its space.
pub(super) fn write_tokens(out: &mut impl fmt::Write, from: u64, to: u64) -> fmt::Result {
    for token in from..to {
        if token > 0 {
            out.write_char(' ')?;
        }
        out.write_str(WORDS[(token % WORDS.len() as u64) as usize])?;
    }
    Ok(())
}

/// The tokens from `from` up to `to`, ready to be put inside a JSON string.
pub(super) struct Tokens(pub(super) u64, pub(super) u64);

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_tokens(f, self.0, self.1)
    }
}

/// Tokens in a text of that many bytes.
pub(super) const fn tokens_in(bytes: u64) -> u64 {
    let tokens = bytes.div_ceil(4);
    if tokens == 0 { 1 } else { tokens }
}

/// How much text a JSON value holds: the bytes of all its strings, wherever they are, except names, ids, types and
/// encoded media, which are no prompt text. Reads without keeping anything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TextSize {
    /// Bytes of the strings, without JSON escapes.
    pub(super) bytes: u64,
    /// How many numbers there are (prompts may be lists of token ids).
    pub(super) numbers: u64,
}

impl TextSize {
    /// The sum of two sizes.
    pub(super) const fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            numbers: self.numbers + other.numbers,
        }
    }

    /// Measures a JSON text. What is not JSON holds nothing.
    pub(super) fn of_json(json: &str) -> Self {
        serde_json::from_str(json).unwrap_or_default()
    }
}

/// Keys whose values are not prompt text.
const NO_TEXT: [&str; 13] = [
    "role",
    "type",
    "id",
    "tool_use_id",
    "tool_call_id",
    "call_id",
    "data",
    "url",
    "image_url",
    "media_type",
    "mimeType",
    "signature",
    "thoughtSignature",
];

/// Whether a key's value is prompt text; made from the key without copying it.
struct HoldsText(bool);

impl<'de> Deserialize<'de> for HoldsText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Key;
        impl Visitor<'_> for Key {
            type Value = HoldsText;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_str<E>(self, key: &str) -> Result<HoldsText, E> {
                Ok(HoldsText(!NO_TEXT.contains(&key)))
            }
        }
        deserializer.deserialize_str(Key)
    }
}

impl<'de> Deserialize<'de> for TextSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value;
        impl<'de> Visitor<'de> for Value {
            type Value = TextSize;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any JSON value")
            }
            fn visit_str<E>(self, text: &str) -> Result<TextSize, E> {
                Ok(TextSize {
                    bytes: text.len() as u64,
                    numbers: 0,
                })
            }
            fn visit_bool<E>(self, _: bool) -> Result<TextSize, E> {
                Ok(TextSize::default())
            }
            fn visit_unit<E>(self) -> Result<TextSize, E> {
                Ok(TextSize::default())
            }
            fn visit_u64<E>(self, _: u64) -> Result<TextSize, E> {
                Ok(TextSize {
                    bytes: 0,
                    numbers: 1,
                })
            }
            fn visit_i64<E>(self, _: i64) -> Result<TextSize, E> {
                Ok(TextSize {
                    bytes: 0,
                    numbers: 1,
                })
            }
            fn visit_f64<E>(self, _: f64) -> Result<TextSize, E> {
                Ok(TextSize {
                    bytes: 0,
                    numbers: 1,
                })
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<TextSize, A::Error> {
                let mut sum = TextSize::default();
                while let Some(item) = items.next_element::<TextSize>()? {
                    sum = sum.plus(item);
                }
                Ok(sum)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<TextSize, A::Error> {
                let mut sum = TextSize::default();
                while let Some(HoldsText(holds_text)) = fields.next_key()? {
                    if holds_text {
                        sum = sum.plus(fields.next_value()?);
                    } else {
                        fields.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(sum)
            }
        }
        deserializer.deserialize_any(Value)
    }
}

/// Bytes as base64 (RFC 4648, with padding).
pub(super) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let mut bits = 0_u32;
        for place in 0..3 {
            bits = (bits << 8) | u32::from(group.get(place).copied().unwrap_or(0));
        }
        for place in 0..4 {
            if place <= group.len() {
                text.push(char::from(
                    LETTERS[(bits >> (18 - 6 * place)) as usize & 63],
                ));
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_in_pieces_is_the_answer_in_one() {
        let whole = Tokens(0, 70).to_string();
        let pieces: String = (0..70)
            .map(|token| Tokens(token, token + 1).to_string())
            .collect();
        assert_eq!(whole, pieces);
        assert_eq!(whole.split(' ').count(), 70);
    }

    #[test]
    fn text_is_counted_and_names_ids_and_media_are_not() {
        let size = TextSize::of_json(
            r#"[{"role":"user","content":"hi \u00e9"},{"type":"image","source":{"data":"AAAA"}},{"tool_use_id":"x","content":[{"text":"abc"}]}]"#,
        );
        assert_eq!(
            size,
            TextSize {
                bytes: 5 + 3,
                numbers: 0
            }
        );
        assert_eq!(TextSize::of_json("[[1,2],[3]]").numbers, 3);
        assert_eq!(TextSize::of_json("not json"), TextSize::default());
        assert_eq!([0, 1, 4, 5].map(tokens_in), [1, 1, 1, 2]);
    }

    #[test]
    fn base64_is_the_one_of_the_rfc() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }
}
