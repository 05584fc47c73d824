//! What served each conversation last, as long as there is room for it. Losing it costs a conversation its model's cache
//! at most, so the memory is bounded: two generations, of which the older is dropped when the younger is full.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::policy::routing::conversation::Conversation;

/// Conversations in a generation: some 200 bytes each.
const GENERATION: usize = 16_384;

/// Whose conversation it is: one of a session and an agent with one model. Agents work on several at once, so what the user
/// said first tells them apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Talker {
    pub(super) session: String,
    pub(super) agent: Option<String>,
    /// The model that is asked for.
    pub(super) model: String,
    /// A number made of what the user said first.
    pub(super) beginning: u64,
}

/// All conversations.
#[derive(Debug, Default)]
pub(super) struct Conversations(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Talker, Conversation>,
    old: HashMap<Talker, Conversation>,
}

impl Conversations {
    /// What is known of a conversation.
    pub(super) fn get(&self, talker: &Talker) -> Option<Conversation> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.young
            .get(talker)
            .or_else(|| all.old.get(talker))
            .cloned()
    }

    /// Replaces what is known of one.
    pub(super) fn put(&self, talker: Talker, now: Conversation) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.young.len() >= GENERATION && !all.young.contains_key(&talker) {
            all.old = std::mem::take(&mut all.young);
        }
        all.young.insert(talker, now);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::llm::usage::Usage;

    fn talker(number: usize) -> Talker {
        Talker {
            session: number.to_string(),
            agent: None,
            model: "m".to_owned(),
            beginning: 0,
        }
    }

    fn note(all: &Conversations, number: usize) {
        let now = Conversation::after(None, "p", "m", 0, &Usage::default(), Duration::ZERO);
        all.put(talker(number), now);
    }

    #[test]
    fn what_is_used_stays_and_what_is_not_makes_room() {
        let all = Conversations::default();
        for number in 0..3 * GENERATION {
            note(&all, number);
            note(&all, 0);
        }
        assert!(all.get(&talker(0)).is_some(), "in use all the time");
        assert!(all.get(&talker(1)).is_none());
        assert!(all.get(&talker(3 * GENERATION - 1)).is_some());
        let generations = all.0.lock().expect("no panic");
        assert!(generations.young.len() + generations.old.len() <= 2 * GENERATION);
    }
}
