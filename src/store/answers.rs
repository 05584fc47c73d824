//! Background answers are fetched as often as a client likes, and booked once.
//!
//! Keeps hashes of the answers' ids, of the last day and bounded in number. Ids are never stored here themselves.

use std::collections::{HashSet, VecDeque};

use sha2::{Digest, Sha256};

use super::record::{Outcome, Record};
use crate::llm::usage::Provenance;

/// How long a booked answer is remembered, in milliseconds.
pub const REMEMBER_MS: u64 = 24 * super::HOUR_MS;

/// How many answers are remembered: 16 bytes each, twice.
const MAX_ANSWERS: usize = 65_536;

/// A hash of an answer's id.
type AnswerHash = [u8; 16];

/// The answers that have been booked.
#[derive(Debug, Default)]
pub struct BookedAnswers {
    known: HashSet<AnswerHash>,
    order: VecDeque<AnswerHash>,
}

fn hash(answer_id: &str) -> AnswerHash {
    let mut short = AnswerHash::default();
    short.copy_from_slice(&Sha256::digest(answer_id)[..16]);
    short
}

impl BookedAnswers {
    /// Whether this answer is to be booked now: true the first time, false ever after.
    pub fn book_once(&mut self, answer_id: &str) -> bool {
        self.insert(hash(answer_id))
    }

    /// Remembers an answer by the key under which it is stored.
    pub fn remember(&mut self, key: &[u8]) {
        if let Some(hash) = key.get(8..).and_then(|hash| hash.try_into().ok()) {
            self.insert(hash);
        }
    }

    fn insert(&mut self, hash: AnswerHash) -> bool {
        if !self.known.insert(hash) {
            return false;
        }
        self.order.push_back(hash);
        if self.order.len() > MAX_ANSWERS
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

/// The key under which a record's answer is stored as booked: when, and the hash. `None` for records that book no
/// answer: without an id, mere receipts of work that is still going on, and estimates.
pub fn key_of(record: &Record) -> Option<Vec<u8>> {
    let booked = record.outcome != Outcome::Pending
        && matches!(
            record.provenance,
            Provenance::Reported | Provenance::Partial
        );
    let answer_id = record.answer_id.as_deref().filter(|_| booked)?;
    let mut key = record.finished_unix_ms.to_be_bytes().to_vec();
    key.extend_from_slice(&hash(answer_id));
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_booked_once_and_the_oldest_are_forgotten() {
        let mut answers = BookedAnswers::default();
        assert!(answers.book_once("resp_0"));
        assert!(!answers.book_once("resp_0"));
        for number in 1..=MAX_ANSWERS {
            assert!(answers.book_once(&format!("resp_{number}")));
        }
        assert!(answers.book_once("resp_0"));
        assert_eq!(answers.known.len(), MAX_ANSWERS);
    }
}
