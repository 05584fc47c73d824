//! Sequences of words: `find * bug|bugs`, `why * fail*`.
//!
//! A lone `*` stands for up to four words of the same sentence, `a|b` for either word, and a `*` at a word's end for any
//! ending. The first must be a word, so that a text is searched for all phrases at once.

use super::tokens::{Token, is_word};
use super::vocabulary::Vocabulary;

/// Words that a lone `*` stands for at most.
const GAP_WORDS: usize = 4;

/// Words and gaps that a phrase may have.
const MAX_SLOTS: usize = 12;

/// Gaps that a phrase may have: each multiplies the ways to look for it.
const MAX_GAPS: usize = 3;

/// A phrase of one rule.
#[derive(Debug, Clone)]
pub(super) struct Phrase {
    /// The rule's place.
    pub(super) rule: u16,
    /// Its own number among all phrases, so that it counts once.
    pub(super) number: u16,
    /// What follows the first word.
    rest: Vec<Slot>,
}

#[derive(Debug, Clone)]
enum Slot {
    Gap,
    Word(Vec<Choice>),
}

#[derive(Debug, Clone)]
enum Choice {
    Whole(u16),
    Beginning(Box<str>),
}

impl Phrase {
    /// Takes a phrase apart: the words that it may begin with, and the rest of it. `None` if it could never be found.
    pub(super) fn read(
        written: &str,
        rule: u16,
        number: u16,
        vocabulary: &mut Vocabulary,
    ) -> Option<(Vec<String>, Self)> {
        let lower = written.to_lowercase();
        let mut parts = lower.split_whitespace();
        let first: Vec<String> = parts.next()?.split('|').map(str::to_owned).collect();
        if !first.iter().all(|word| is_word(word)) {
            return None;
        }
        let mut rest = Vec::new();
        for part in parts {
            if part == "*" {
                // Two gaps in a row, and one at the end, would say nothing more.
                if matches!(rest.last(), Some(Slot::Gap)) {
                    return None;
                }
                rest.push(Slot::Gap);
                continue;
            }
            let choices = part.split('|').map(|word| match word.strip_suffix('*') {
                Some(beginning) => is_word(beginning).then(|| Choice::Beginning(beginning.into())),
                None => is_word(word).then(|| Choice::Whole(vocabulary.number(word))),
            });
            rest.push(Slot::Word(choices.collect::<Option<_>>()?));
        }
        let gaps = rest.iter().filter(|slot| matches!(slot, Slot::Gap)).count();
        if matches!(rest.last(), Some(Slot::Gap)) || rest.len() >= MAX_SLOTS || gaps > MAX_GAPS {
            return None;
        }
        Some((first, Self { rule, number, rest }))
    }

    /// How many words it asks for at least.
    pub(super) fn words(&self) -> usize {
        let words = self
            .rest
            .iter()
            .filter(|slot| matches!(slot, Slot::Word(_)));
        words.count() + 1
    }

    /// Whether it stands at the first of the tokens, whose word is known to fit; then how many tokens it takes.
    pub(super) fn length_at(&self, text: &str, tokens: &[Token]) -> Option<usize> {
        matches(&self.rest, text, tokens, 1)
    }
}

fn matches(slots: &[Slot], text: &str, tokens: &[Token], at: usize) -> Option<usize> {
    let Some((slot, rest)) = slots.split_first() else {
        return Some(at);
    };
    match slot {
        Slot::Gap => {
            // The words that the gap takes have to be of the same sentence too.
            let taken = (0..=GAP_WORDS).take_while(|taken| {
                *taken == 0
                    || tokens
                        .get(at + taken - 1)
                        .is_some_and(|token| !token.begins_sentence)
            });
            taken
                .into_iter()
                .find_map(|taken| matches(rest, text, tokens, at + taken))
        }
        Slot::Word(choices) => {
            let token = tokens.get(at)?;
            if token.begins_sentence || token.muted {
                return None;
            }
            let fits = choices.iter().any(|choice| match choice {
                Choice::Whole(number) => *number == token.word,
                Choice::Beginning(beginning) => {
                    let word = token.of(text);
                    match word.get(..beginning.len()) {
                        Some(start) if start.is_ascii() => start.eq_ignore_ascii_case(beginning),
                        _ => word.to_lowercase().starts_with(&**beginning),
                    }
                }
            });
            fits.then(|| matches(rest, text, tokens, at + 1)).flatten()
        }
    }
}
