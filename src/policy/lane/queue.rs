//! Whose turn it is in a waiting line: fair between sessions, and inside a session between its agents, by what their
//! requests weigh, not by their number.
//!
//! Each session has a virtual time; the session with the least is next, and its time goes on by the weight of what it
//! was given. A session that comes back after a pause starts at the line's present, so a pause saves nothing up. The same
//! rule decides between the agents of the session whose turn it is. Inside an agent the first to come is the first to
//! go. Every step takes time in the logarithm of those who wait.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use turns::Turns;

mod turns;

/// Names one place in a line. Later places are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Ticket(u64);

/// A waiting line.
#[derive(Debug)]
pub(super) struct FairQueue<T> {
    sessions: Turns<Session>,
    /// Everybody who waits, the oldest first.
    places: BTreeMap<Ticket, Place<T>>,
    next: u64,
    weight: u64,
}

/// Who waits of a session, by agent.
#[derive(Debug, Default)]
struct Session {
    agents: Turns<VecDeque<Ticket>>,
    waiting: usize,
    weight: u64,
}

#[derive(Debug)]
struct Place<T> {
    session: Arc<str>,
    agent: Arc<str>,
    weight: u64,
    item: T,
}

/// How much waits in a line, seen from one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    /// What waits of the session itself.
    pub(super) own: u64,
    /// What waits of everybody.
    pub(super) all: u64,
    /// Sessions that wait, the one that asks included.
    pub(super) sessions: u64,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self {
            sessions: Turns::default(),
            places: BTreeMap::new(),
            next: 0,
            weight: 0,
        }
    }
}

impl<T> FairQueue<T> {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Somebody of a session lines up. `agent` is empty where the client states none. `weight` is what serving them
    /// takes (estimated tokens); at least 1.
    pub(super) fn push(&mut self, session: &str, agent: &str, weight: u64, item: T) -> Ticket {
        let ticket = Ticket(self.next);
        let weight = weight.max(1);
        self.next += 1;
        self.weight = self.weight.saturating_add(weight);
        let (session, of_session) = self.sessions.enter(session);
        of_session.waiting += 1;
        of_session.weight = of_session.weight.saturating_add(weight);
        let (agent, of_agent) = of_session.agents.enter(agent);
        of_agent.push_back(ticket);
        let place = Place {
            session,
            agent,
            weight,
            item,
        };
        self.places.insert(ticket, place);
        ticket
    }

    /// Whose turn it is.
    pub(super) fn first(&self) -> Option<(Ticket, &T)> {
        self.heads().next()
    }

    /// The first of each session, in the order of their turns.
    pub(super) fn heads(&self) -> impl Iterator<Item = (Ticket, &T)> {
        self.sessions.waiting().filter_map(|session| {
            let ticket = session.agents.waiting().next()?.front()?;
            Some((*ticket, &self.places.get(ticket)?.item))
        })
    }

    /// Who has waited longest, whoever's turn it is.
    pub(super) fn oldest(&self) -> Option<&T> {
        Some(&self.places.first_key_value()?.1.item)
    }

    /// The last to come of the session of which most wait, and how many of it do. Looks at every session.
    pub(super) fn last_of_the_longest(&self) -> Option<(Ticket, usize)> {
        let longest = self.sessions.waiting().max_by_key(|one| one.waiting)?;
        let last = longest.agents.waiting().filter_map(VecDeque::back).max()?;
        Some((*last, longest.waiting))
    }

    /// How many wait of a session.
    pub(super) fn waiting_of(&self, session: &str) -> usize {
        self.sessions.get(session).map_or(0, |known| known.waiting)
    }

    /// How much waits, seen from a session.
    pub(super) fn share_of(&self, session: &str) -> Share {
        let own = self.sessions.get(session).map_or(0, |known| known.weight);
        Share {
            own,
            all: self.weight,
            sessions: self.sessions.count() as u64 + u64::from(own == 0),
        }
    }

    /// Serves one: it leaves the line, and the time of its session and its agent goes on. `None` if it has left before.
    pub(super) fn serve(&mut self, ticket: Ticket) -> Option<T> {
        self.take(ticket, true)
    }

    /// Somebody leaves without having been served.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<T> {
        self.take(ticket, false)
    }

    fn take(&mut self, ticket: Ticket, served: bool) -> Option<T> {
        let place = self.places.remove(&ticket)?;
        self.weight = self.weight.saturating_sub(place.weight);
        let gone_on = if served { place.weight } else { 0 };
        self.sessions.change(&place.session, gone_on, |session| {
            session.waiting -= 1;
            session.weight = session.weight.saturating_sub(place.weight);
            session.agents.change(&place.agent, gone_on, |tickets| {
                if let Ok(position) = tickets.binary_search(&ticket) {
                    tickets.remove(position);
                }
                !tickets.is_empty()
            });
            session.waiting > 0
        });
        Some(place.item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn serve_next(line: &mut FairQueue<&'static str>) -> Option<&'static str> {
        let (ticket, _) = line.first()?;
        line.serve(ticket)
    }

    #[test]
    fn a_busy_session_does_not_keep_others_waiting() {
        let mut line = FairQueue::default();
        for _ in 0..10 {
            line.push("busy", "", 100, "busy");
        }
        line.push("other", "", 100, "other");
        let order: Vec<_> = std::iter::from_fn(|| serve_next(&mut line))
            .take(3)
            .collect();
        assert!(order.contains(&"other"), "{order:?}");
    }

    #[test]
    fn turns_are_by_weight_not_by_number() {
        let mut line = FairQueue::default();
        for _ in 0..4 {
            line.push("heavy", "", 400, "heavy");
        }
        for _ in 0..20 {
            line.push("light", "", 100, "light");
        }
        let order: Vec<_> = std::iter::from_fn(|| serve_next(&mut line))
            .take(10)
            .collect();
        let heavy = order.iter().filter(|session| **session == "heavy").count();
        assert_eq!(heavy, 2, "{order:?}");
    }

    #[test]
    fn a_pause_saves_nothing_up() {
        let mut line = FairQueue::default();
        for _ in 0..50 {
            line.push("busy", "", 100, "busy");
        }
        for _ in 0..40 {
            serve_next(&mut line);
        }
        for _ in 0..10 {
            line.push("late", "", 100, "late");
        }
        let order: Vec<_> = std::iter::from_fn(|| serve_next(&mut line))
            .take(6)
            .collect();
        let late = order.iter().filter(|session| **session == "late").count();
        assert_eq!(late, 3, "{order:?}");
    }

    #[test]
    fn who_leaves_is_not_served_and_keeps_nobody_back() {
        let mut line = FairQueue::default();
        let first = line.push("a", "", 1, "a");
        line.push("b", "", 1, "b");
        assert_eq!(line.leave(first), Some("a"));
        assert_eq!(line.leave(first), None);
        assert_eq!(line.serve(first), None);
        assert_eq!(serve_next(&mut line), Some("b"));
        assert!(line.is_empty() && line.sessions.is_forgotten());
    }

    #[test]
    fn a_busy_agent_does_not_keep_the_others_of_its_session_waiting() {
        let mut line = FairQueue::default();
        for _ in 0..10 {
            line.push("team", "busy", 100, "busy");
        }
        for _ in 0..2 {
            line.push("team", "other", 100, "other");
            line.push("alone", "", 100, "alone");
        }
        let order: Vec<_> = std::iter::from_fn(|| serve_next(&mut line))
            .take(6)
            .collect();
        let of = |name| order.iter().filter(|served| **served == name).count();
        assert_eq!(
            (of("alone"), of("other"), of("busy")),
            (2, 2, 2),
            "{order:?}"
        );
    }

    #[test]
    fn the_longest_session_is_the_one_that_has_most_waiting() {
        let mut line = FairQueue::default();
        line.push("a", "", 1_000, "a");
        line.push("b", "one", 1, "first");
        let last = line.push("b", "two", 1, "last");
        assert_eq!(line.last_of_the_longest(), Some((last, 2)));
        assert_eq!((line.waiting_of("b"), line.waiting_of("c")), (2, 0));
        let share = Share {
            own: 2,
            all: 1_002,
            sessions: 2,
        };
        assert_eq!(line.share_of("b"), share);
        assert_eq!(line.share_of("c").sessions, 3);
        assert_eq!(line.oldest(), Some(&"a"));
    }

    #[test]
    fn idle_sessions_are_forgotten_while_others_wait() {
        let mut line = FairQueue::default();
        for number in 0..10_000 {
            let ticket = line.push(&number.to_string(), "", 1, "passing");
            line.push("busy", "", 1, "busy");
            line.serve(ticket);
            serve_next(&mut line);
            if number == 0 {
                line.push("busy", "", 1, "stays");
            }
        }
        assert!(
            line.sessions.remembered() < 300,
            "{}",
            line.sessions.remembered()
        );
    }

    proptest! {
        /// Whatever lines up, leaves and is served: nobody is lost, nobody is served twice, and the order holds each
        /// session with somebody waiting exactly once.
        #[test]
        fn every_place_is_served_or_left_exactly_once(steps in prop::collection::vec((0_u8..3, 0_usize..4, 1_u64..500), 1..200)) {
            const NAMES: [&str; 4] = ["a", "b", "c", "d"];
            let mut line = FairQueue::default();
            let mut waiting: Vec<(usize, Ticket)> = Vec::new();
            for (what, session, weight) in steps {
                match what {
                    0 => waiting.push((session, line.push(NAMES[session % 2], NAMES[session], weight, NAMES[session]))),
                    1 => {
                        let head = line.heads().next().map(|(ticket, item)| (ticket, *item));
                        prop_assert_eq!(head.is_some(), !waiting.is_empty());
                        if let Some((ticket, name)) = head {
                            prop_assert_eq!(line.serve(ticket), Some(name));
                            waiting.retain(|(_, other)| *other != ticket);
                        }
                    }
                    _ => if !waiting.is_empty() {
                        let (session, ticket) = waiting.remove(weight as usize % waiting.len());
                        prop_assert_eq!(line.leave(ticket), Some(NAMES[session]));
                    },
                }
                prop_assert_eq!(line.len(), waiting.len());
                let mut sessions: Vec<usize> = waiting.iter().map(|(session, _)| *session % 2).collect();
                sessions.sort_unstable();
                sessions.dedup();
                prop_assert_eq!(line.sessions.count(), sessions.len());
                prop_assert_eq!(line.heads().count(), sessions.len());
            }
        }
    }
}
