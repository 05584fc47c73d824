//! The words that mean something to the rules, each with a number, found by their bytes.

use std::collections::HashMap;

use super::phrase::Phrase;

/// The number of a word that no rule names.
pub(super) const UNKNOWN: u16 = u16::MAX;

/// Longest word that is looked up, in bytes.
const MAX_WORD_BYTES: usize = 64;

/// Ends an object: "tests for …", "a script that …".
const ENDING: &str = "for in on of to with without from that which who whose so because when where while if at by into \
    using and or as about after before between per via over under within across through why how what is are was were \
    be been has have had does do did can could should would will must may not than instead explaining describing showing covering containing including";

/// Stands before the request itself.
const FILLER: &str = "please can could would will you we i i'd i'll i'm let's lets let us me help to now then also ok okay \
    hey hi hello thanks just first next finally and but so should must go ahead try like kindly maybe your our task job \
    again still quickly actually really would have got";

/// Says that something is to be done and not of what kind: what follows is the object.
const PLAIN: &str = "write add create make build generate update change set setup put give need want needs draft rewrite \
    extend provide prepare design improve remove delete replace convert configure produce develop insert include \
    do run use show complete finish tweak adjust modify edit swap turn increase reduce move split extract introduce \
    migrate support enable disable expose install start stop wrap merge clean";

/// Joins a further request to the one before.
const JOINING: &str = "and then but please";

/// A word and what it means.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// Ends an object.
    pub(super) ends: bool,
    /// Stands before the request itself.
    pub(super) filler: bool,
    /// Is followed by the object.
    pub(super) plain: bool,
    /// Joins a further request to the one before.
    pub(super) joins: bool,
    /// The rules whose `words` it is one of.
    pub(super) words_of: Vec<u16>,
    /// The rules whose `verbs` it is one of.
    pub(super) verbs_of: Vec<u16>,
    /// The rules whose `questions` it is one of.
    pub(super) questions_of: Vec<u16>,
    /// The openings that begin with it.
    pub(super) openings: Vec<Phrase>,
    /// The phrases that begin with it.
    pub(super) phrases: Vec<Phrase>,
}

/// All known words.
#[derive(Debug, Clone)]
pub(super) struct Vocabulary {
    known: Vec<Known>,
    /// The numbers of all words.
    numbers: HashMap<Box<str>, u16>,
    /// The keys of all words, by number; 0 for those that are not short ASCII words.
    keys: Vec<u128>,
    /// The numbers of those that are, each in the first free slot from the one that its key names. Never full, and as many
    /// as a power of two. Apart from the keys, so that what is looked at most stays small.
    slots: Vec<u16>,
}

impl Vocabulary {
    pub(super) fn new() -> Self {
        let mut vocabulary = Self {
            known: Vec::new(),
            numbers: HashMap::new(),
            keys: Vec::new(),
            slots: vec![UNKNOWN; 64],
        };
        for word in ENDING.split_whitespace() {
            vocabulary.word(word).ends = true;
        }
        for word in FILLER.split_whitespace() {
            vocabulary.word(word).filler = true;
        }
        for word in PLAIN.split_whitespace() {
            vocabulary.word(word).plain = true;
        }
        for word in JOINING.split_whitespace() {
            vocabulary.word(word).joins = true;
        }
        vocabulary
    }

    /// How many words there are.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// The number of a word in lower case, given one if it has none yet.
    pub(super) fn number(&mut self, lower: &str) -> u16 {
        let found = self.find(lower);
        if found != UNKNOWN {
            return found;
        }
        let number = u16::try_from(self.known.len()).unwrap_or(UNKNOWN - 1);
        self.known.push(Known::default());
        self.numbers.insert(lower.into(), number);
        let key = short_key(lower.as_bytes());
        self.keys.push(key.unwrap_or(0));
        if self.keys.len() * 4 > self.slots.len() {
            self.slots = vec![UNKNOWN; self.slots.len() * 2];
            for number in 0..number {
                self.put_slot(number);
            }
        }
        self.put_slot(number);
        number
    }

    fn put_slot(&mut self, number: u16) {
        let key = self.keys[usize::from(number)];
        if key == 0 {
            return;
        }
        let mask = self.slots.len() - 1;
        let mut slot = slot_of(key) & mask;
        while self.slots[slot] != UNKNOWN {
            slot = (slot + 1) & mask;
        }
        self.slots[slot] = number;
    }

    /// The entry of a word in lower case, made if there is none yet.
    pub(super) fn word(&mut self, lower: &str) -> &mut Known {
        let number = self.number(lower);
        &mut self.known[usize::from(number)]
    }

    /// The entry with a number; `None` for [`UNKNOWN`].
    pub(super) fn known(&self, number: u16) -> Option<&Known> {
        self.known.get(usize::from(number))
    }

    /// The number of a word in lower case.
    pub(super) fn find(&self, lower: &str) -> u16 {
        self.numbers.get(lower).copied().unwrap_or(UNKNOWN)
    }

    /// The number of an ASCII word in any case.
    pub(super) fn find_ascii(&self, word: &[u8]) -> u16 {
        let Some(key) = short_key(word) else {
            return match std::str::from_utf8(word) {
                Ok(word) if word.len() <= MAX_WORD_BYTES => self.find(&word.to_ascii_lowercase()),
                _ => UNKNOWN,
            };
        };
        let mask = self.slots.len() - 1;
        let mut slot = slot_of(key) & mask;
        loop {
            let number = self.slots[slot];
            if number == UNKNOWN || self.keys[usize::from(number)] == key {
                return number;
            }
            slot = (slot + 1) & mask;
        }
    }
}

/// A word of 1 to 16 ASCII bytes as one number, the same in both cases: the bit that tells them apart is set in each byte.
/// It is set in digits and apostrophes anyway, and makes of an underscore what no word holds.
///
/// Its beginning and its end are taken in pieces of fixed length, which may overlap; so the length goes in too, in the bits
/// that ASCII leaves free.
fn short_key(word: &[u8]) -> Option<u128> {
    const LOWER: u128 = u128::from_ne_bytes([0x20; 16]);
    const FREE: u128 = u128::from_ne_bytes([0x80; 16]);
    let (first, last): (u64, u64) = match word.len() {
        8..=16 => (
            u64::from_le_bytes(*word.first_chunk()?),
            u64::from_le_bytes(*word.last_chunk()?),
        ),
        4..=7 => (
            u32::from_le_bytes(*word.first_chunk()?).into(),
            u32::from_le_bytes(*word.last_chunk()?).into(),
        ),
        2..=3 => (
            u16::from_le_bytes(*word.first_chunk()?).into(),
            u16::from_le_bytes(*word.last_chunk()?).into(),
        ),
        1 => (word[0].into(), 0),
        _ => return None,
    };
    let both = u128::from(first) | (u128::from(last) << 64);
    if both & FREE != 0 {
        return None;
    }
    let length = word.len() as u128;
    let length = (0..5).fold(0, |bits, bit| {
        bits | (((length >> bit) & 1) << (8 * bit + 7))
    });
    Some(both | LOWER | length)
}

/// Where to look for a key first.
fn slot_of(key: u128) -> usize {
    // A multiplication by an odd number with well-mixed bits spreads them to the top (Fibonacci hashing).
    const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
    let folded = (key as u64) ^ ((key >> 64) as u64).rotate_left(23);
    (folded.wrapping_mul(SPREAD) >> 40) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_word_is_found_in_any_case_and_no_other_one(
            words in prop::collection::btree_set("[a-c0'_é]{1,20}", 1..60),
            other in "[a-cA-C0'_]{1,20}",
        ) {
            let mut vocabulary = Vocabulary::new();
            let numbers: Vec<u16> = words.iter().map(|word| vocabulary.number(word)).collect();
            for (word, number) in words.iter().zip(&numbers) {
                prop_assert_eq!(vocabulary.find(word), *number);
                if word.is_ascii() {
                    prop_assert_eq!(vocabulary.find_ascii(word.to_uppercase().as_bytes()), *number);
                }
            }
            let known = words.contains(&other.to_lowercase());
            let number = vocabulary.find_ascii(other.as_bytes());
            prop_assert_eq!(numbers.contains(&number), known, "{}", other);
        }
    }
}
