//! Finds where a text asks for something: the verb that leads a clause, and the object behind it.
//!
//! "Hi, can you please write unit tests for the login button?" asks once, with the plain verb `write` and the object
//! `unit tests`, whose head is `tests`. Without any verb, a text of a few words is an object by itself: "README for the
//! project".

use super::tokens::{Token, Tokens};
use super::vocabulary::Vocabulary;

/// Words that are tried as the beginning of a request, once what stands before it is passed.
const MAX_LEAD_WORDS: usize = 10;

/// Requests that are looked for in one text.
const MAX_ASKS: usize = 8;

/// Words of an object that are looked at.
const MAX_OBJECT_WORDS: usize = 7;

/// A text without any verb that leads it, and with at most so many words, is an object.
const MAX_BARE_WORDS: u32 = 6;

/// How a request begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lead {
    /// With an opening of the rule: its place, and the opening's number.
    Opening(u16),
    /// With the verb at this token, of one rule or more.
    Verb(usize),
    /// With the question word at this token.
    Question(usize),
    /// With a verb that says nothing of the kind, or with the object itself.
    Plain,
}

/// One request in a text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask {
    pub(super) lead: Lead,
    /// Where the lead begins.
    pub(super) start: usize,
    /// Where the object begins.
    pub(super) object: usize,
    /// Where it ends; its head is the last word before that.
    pub(super) end: usize,
}

/// Finds the requests, first to last.
pub(super) fn asks(text: &str, tokens: &Tokens, vocabulary: &Vocabulary, simple: u16) -> Vec<Ask> {
    let list = &tokens.list;
    let mut asks = Vec::new();
    let mut at = 0;
    while at < list.len() && asks.len() < MAX_ASKS {
        let begins = list[at].begins_clause || is_joined(list, at, vocabulary);
        match begins
            .then(|| ask_at(text, list, at, vocabulary, simple))
            .flatten()
        {
            Some(ask) => {
                at = ask.end.max(at + 1);
                asks.push(ask);
            }
            None => at += 1,
        }
    }
    if asks.is_empty() && tokens.words <= MAX_BARE_WORDS && !list.is_empty() {
        asks.push(Ask {
            lead: Lead::Plain,
            start: 0,
            object: 0,
            end: object_end(list, 0, vocabulary),
        });
    }
    asks
}

/// Whether the word before joins another request to the one before that.
fn is_joined(list: &[Token], at: usize, vocabulary: &Vocabulary) -> bool {
    let before = at.checked_sub(1).and_then(|before| list.get(before));
    before.is_some_and(|token| {
        vocabulary
            .known(token.word)
            .is_some_and(|known| known.joins)
    })
}

fn ask_at(
    text: &str,
    list: &[Token],
    start: usize,
    vocabulary: &Vocabulary,
    simple: u16,
) -> Option<Ask> {
    let mut plain = None;
    for at in start..list.len().min(start + MAX_LEAD_WORDS) {
        let token = &list[at];
        if token.muted || (at > start && token.begins_clause) {
            break;
        }
        let Some(known) = vocabulary.known(token.word) else {
            break;
        };
        let opening = known
            .openings
            .iter()
            .filter_map(|opening| {
                Some((
                    opening.words(),
                    opening,
                    opening.length_at(text, &list[at..])?,
                ))
            })
            // Of equals the earlier.
            .rev()
            .max_by_key(|(words, ..)| *words);
        if let Some((_, opening, length)) = opening {
            let mut object = at + length;
            if opening.rule == simple {
                object = past_prepositions(list, object, vocabulary);
            }
            let end = object_end(list, object, vocabulary);
            let lead = Lead::Opening(opening.rule);
            return Some(Ask {
                lead,
                start: at,
                object,
                end,
            });
        }
        let follows = list
            .get(at + 1)
            .is_some_and(|next| !next.begins_clause && !next.joined);
        if plain.is_none() && at == start && !known.questions_of.is_empty() && follows {
            let (object, lead) = (at + 1, Lead::Question(at));
            let end = object_end(list, object, vocabulary);
            return Some(Ask {
                lead,
                start: at,
                object,
                end,
            });
        }
        // "Add comments" and "use mocks" name things; "need to document" does not.
        let may_lead = plain.is_none() || list[at - 1].of(text).eq_ignore_ascii_case("to");
        if may_lead && !known.verbs_of.is_empty() && follows {
            let (object, lead) = (at + 1, Lead::Verb(at));
            let end = object_end(list, object, vocabulary);
            return Some(Ask {
                lead,
                start: at,
                object,
                end,
            });
        }
        if known.plain {
            // "I need you to refactor …": what is needed may begin behind it.
            plain = Some(at);
        } else if !known.filler {
            break;
        }
    }
    plain.map(|at| Ask {
        lead: Lead::Plain,
        start: at,
        object: at + 1,
        end: object_end(list, at + 1, vocabulary),
    })
}

/// "Fix the typo in the button's label": what is simple is told, what it is about stands behind.
fn past_prepositions(list: &[Token], mut at: usize, vocabulary: &Vocabulary) -> usize {
    let ends = |token: &Token| vocabulary.known(token.word).is_some_and(|known| known.ends);
    while list
        .get(at)
        .is_some_and(|token| !token.begins_clause && ends(token))
    {
        at += 1;
    }
    at
}

/// The end of the object that begins here: a preposition, a conjunction, a verb of being, a mark.
fn object_end(list: &[Token], start: usize, vocabulary: &Vocabulary) -> usize {
    let mut at = start;
    while let Some(token) = list.get(at) {
        let alone = !token.joined && !list.get(at + 1).is_some_and(|next| next.joined);
        let ends = alone && vocabulary.known(token.word).is_some_and(|known| known.ends);
        if (at > start && token.begins_clause) || ends || at - start >= MAX_OBJECT_WORDS {
            break;
        }
        at += 1;
    }
    at
}
