//! Whose turn it is in a waiting line: fair between sessions by what their requests weigh, not by their number.
//!
//! Each session has a virtual time; the session with the least is next, and its time goes on by the weight of what it
//! was given. A session that comes back after a pause starts at the line's present, so a pause saves nothing up.
//! Inside a session the first to come is the first to go.

use std::collections::{BTreeSet, HashMap, VecDeque};

/// How many sessions that wait for nothing are remembered before the line looks which of them it can forget.
const FEW_IDLE: usize = 64;

/// How many sessions that wait for nothing are remembered because they are ahead of the others. Beyond that all of them
/// are forgotten: who makes up ever new names has no turn to lose.
const MOST_IDLE: usize = 4_096;

/// Names one place in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// A waiting line.
#[derive(Debug)]
pub struct FairQueue<T> {
    sessions: HashMap<Box<str>, Session<T>>,
    /// Sessions with somebody waiting, by their virtual time.
    order: BTreeSet<(u128, Box<str>)>,
    /// The virtual time of the last one served.
    present: u128,
    next: u64,
    len: usize,
    /// At so many sessions that wait for nothing the line looks through them again.
    look_at: usize,
}

#[derive(Debug)]
struct Session<T> {
    time: u128,
    waiting: VecDeque<Place<T>>,
}

#[derive(Debug)]
struct Place<T> {
    ticket: Ticket,
    weight: u64,
    item: T,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self {
            sessions: HashMap::new(),
            order: BTreeSet::new(),
            present: 0,
            next: 0,
            len: 0,
            look_at: FEW_IDLE,
        }
    }
}

impl<T> FairQueue<T> {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Somebody of a session lines up. `weight` is what serving them takes (estimated tokens); at least 1.
    pub fn push(&mut self, session: &str, weight: u64, item: T) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.len += 1;
        let place = Place {
            ticket,
            weight: weight.max(1),
            item,
        };
        let present = self.present;
        match self.sessions.get_mut(session) {
            Some(known) => {
                if known.waiting.is_empty() {
                    known.time = known.time.max(present);
                    self.order.insert((known.time, session.into()));
                }
                known.waiting.push_back(place);
            }
            None => {
                self.order.insert((present, session.into()));
                let known = Session {
                    time: present,
                    waiting: VecDeque::from([place]),
                };
                self.sessions.insert(session.into(), known);
            }
        }
        ticket
    }

    /// The first of each session, in the order of their turns.
    pub fn heads(&self) -> impl Iterator<Item = (Ticket, &T)> {
        self.order.iter().filter_map(|(_, session)| {
            let place = self.sessions.get(session)?.waiting.front()?;
            Some((place.ticket, &place.item))
        })
    }

    /// The first of those sessions of these that have somebody waiting, in the order of their turns.
    pub fn heads_of<'a>(&self, sessions: impl Iterator<Item = &'a str>) -> Vec<(Ticket, &T)> {
        let mut heads: Vec<_> = sessions
            .filter_map(|session| {
                let known = self.sessions.get(session)?;
                let place = known.waiting.front()?;
                Some((known.time, place.ticket, &place.item))
            })
            .collect();
        heads.sort_by_key(|(time, ticket, _)| (*time, *ticket));
        let heads = heads.into_iter();
        heads.map(|(_, ticket, item)| (ticket, item)).collect()
    }

    /// Serves one: it leaves the line, and its session's time goes on. `None` if it has left before.
    pub fn serve(&mut self, session: &str, ticket: Ticket) -> Option<T> {
        let place = self.take(session, ticket)?;
        let known = self.sessions.get_mut(session)?;
        self.present = self.present.max(known.time);
        self.order.remove(&(known.time, session.into()));
        known.time += u128::from(place.weight);
        if !known.waiting.is_empty() {
            self.order.insert((known.time, session.into()));
        }
        self.forget_idle();
        Some(place.item)
    }

    /// Somebody leaves without having been served.
    pub fn leave(&mut self, session: &str, ticket: Ticket) -> Option<T> {
        let place = self.take(session, ticket)?;
        if let Some(known) = self.sessions.get(session)
            && known.waiting.is_empty()
        {
            self.order.remove(&(known.time, session.into()));
        }
        self.forget_idle();
        Some(place.item)
    }

    fn take(&mut self, session: &str, ticket: Ticket) -> Option<Place<T>> {
        let known = self.sessions.get_mut(session)?;
        let place = known
            .waiting
            .binary_search_by_key(&ticket, |place| place.ticket)
            .ok()?;
        self.len -= 1;
        known.waiting.remove(place)
    }

    /// Sessions that wait for nothing and are not ahead of the others need not be remembered. Looks at all of them only
    /// after as many have come as were left the last time.
    fn forget_idle(&mut self) {
        let idle = |line: &Self| line.sessions.len() - line.order.len();
        if self.len > 0 && idle(self) < self.look_at {
            return;
        }
        let (present, somebody_waits) = (self.present, self.len > 0);
        self.sessions.retain(|_, known| {
            !known.waiting.is_empty() || (known.time > present && somebody_waits)
        });
        if idle(self) > MOST_IDLE {
            self.sessions.retain(|_, known| !known.waiting.is_empty());
        }
        self.look_at = FEW_IDLE.max(2 * idle(self));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn serve_next(line: &mut FairQueue<&'static str>) -> Option<&'static str> {
        let (ticket, session) = line.heads().next().map(|(ticket, item)| (ticket, *item))?;
        line.serve(session, ticket)
    }

    #[test]
    fn a_busy_session_does_not_keep_others_waiting() {
        let mut line = FairQueue::default();
        for _ in 0..10 {
            line.push("busy", 100, "busy");
        }
        line.push("other", 100, "other");
        let order: Vec<_> = std::iter::from_fn(|| serve_next(&mut line))
            .take(3)
            .collect();
        assert!(order.contains(&"other"), "{order:?}");
    }

    #[test]
    fn turns_are_by_weight_not_by_number() {
        let mut line = FairQueue::default();
        for _ in 0..4 {
            line.push("heavy", 400, "heavy");
        }
        for _ in 0..20 {
            line.push("light", 100, "light");
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
            line.push("busy", 100, "busy");
        }
        for _ in 0..40 {
            serve_next(&mut line);
        }
        for _ in 0..10 {
            line.push("late", 100, "late");
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
        let first = line.push("a", 1, "a");
        line.push("b", 1, "b");
        assert_eq!(line.leave("a", first), Some("a"));
        assert_eq!(line.leave("a", first), None);
        assert_eq!(line.serve("a", first), None);
        assert_eq!(serve_next(&mut line), Some("b"));
        assert!(line.is_empty() && line.sessions.is_empty() && line.order.is_empty());
    }

    #[test]
    fn ever_new_sessions_are_not_remembered_for_ever_while_somebody_waits() {
        let mut line = FairQueue::default();
        line.push("blocked", 1, "blocked".to_owned());
        for number in 0..50_000 {
            let name = format!("s{number}");
            let ticket = line.push(&name, 100, name.clone());
            assert_eq!(line.serve(&name, ticket).as_deref(), Some(&*name));
        }
        assert!(
            line.sessions.len() <= 2 * MOST_IDLE + 2,
            "{}",
            line.sessions.len()
        );
        assert_eq!(line.order.len(), 1);
    }

    #[test]
    fn heads_of_some_sessions_come_in_the_order_of_their_turns() {
        let mut line = FairQueue::default();
        for (name, weight) in [("a", 300), ("b", 100), ("c", 1)] {
            let ticket = line.push(name, weight, name);
            line.push(name, weight, name);
            line.serve(name, ticket);
        }
        let heads = |names: &[&'static str]| {
            let heads = line.heads_of(names.iter().copied());
            heads.into_iter().map(|(_, name)| *name).collect::<Vec<_>>()
        };
        assert_eq!(heads(&["a", "b", "nobody"]), ["b", "a"]);
        assert_eq!(heads(&["a", "c", "b"]), ["c", "b", "a"]);
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
                    0 => waiting.push((session, line.push(NAMES[session], weight, NAMES[session]))),
                    1 => {
                        let head = line.heads().next().map(|(ticket, item)| (ticket, *item));
                        prop_assert_eq!(head.is_some(), !waiting.is_empty());
                        if let Some((ticket, name)) = head {
                            prop_assert_eq!(line.serve(name, ticket), Some(name));
                            waiting.retain(|(_, other)| *other != ticket);
                        }
                    }
                    _ => if !waiting.is_empty() {
                        let (session, ticket) = waiting.remove(weight as usize % waiting.len());
                        prop_assert_eq!(line.leave(NAMES[session], ticket), Some(NAMES[session]));
                    },
                }
                prop_assert_eq!(line.len(), waiting.len());
                let mut sessions: Vec<usize> = waiting.iter().map(|(session, _)| *session).collect();
                sessions.sort_unstable();
                sessions.dedup();
                prop_assert_eq!(line.order.len(), sessions.len());
                prop_assert_eq!(line.heads().count(), sessions.len());
            }
        }
    }
}
