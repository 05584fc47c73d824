//! The words that mean something to the rules, each with a number, found by first letter and length.

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

/// A word and what it means.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    text: Box<str>,
    /// Ends an object.
    pub(super) ends: bool,
    /// Stands before the request itself.
    pub(super) filler: bool,
    /// Is followed by the object.
    pub(super) plain: bool,
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
    /// The numbers of the words with one first letter and length.
    places: Box<[Vec<u16>]>,
}

impl Vocabulary {
    pub(super) fn new() -> Self {
        let mut vocabulary = Self {
            known: Vec::new(),
            places: vec![Vec::new(); 32 * 32].into_boxed_slice(),
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
        self.known.push(Known {
            text: lower.into(),
            ..Known::default()
        });
        self.places[place(lower.as_bytes())].push(number);
        number
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
        let numbers = &self.places[place(lower.as_bytes())];
        let mut numbers = numbers.iter().copied();
        numbers
            .find(|number| *self.known[usize::from(*number)].text == *lower)
            .unwrap_or(UNKNOWN)
    }

    /// The number of an ASCII word in any case.
    pub(super) fn find_ascii(&self, word: &[u8]) -> u16 {
        if word.len() > MAX_WORD_BYTES {
            return UNKNOWN;
        }
        let numbers = &self.places[place(word)];
        let mut numbers = numbers.iter().copied();
        numbers
            .find(|number| {
                let known = self.known[usize::from(*number)].text.as_bytes();
                known.eq_ignore_ascii_case(word)
            })
            .unwrap_or(UNKNOWN)
    }
}

/// Where words like this one are kept. The five low bits of an ASCII letter are the same in both cases.
fn place(word: &[u8]) -> usize {
    let first = word.first().map_or(0, |byte| usize::from(byte & 31));
    first * 32 + word.len().min(31)
}
