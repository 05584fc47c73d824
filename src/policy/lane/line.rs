//! The waiting line of a lane: by priority, then fair between sessions and their agents, with deadlines, and bounded.
//!
//! Critical requests go before everything. Below, the higher priority goes first, but a lower one of which somebody has
//! waited ten seconds gets one start in ten: so it waits, and does not starve, and who is urgent hardly notices.
//!
//! A full line makes room for a newcomer who is more urgent, or whose session has less than half as many waiting as the
//! longest: the last to come of those gives way. Everyone else is told at once that the line is full.

use std::collections::BTreeSet;

use super::queue::{self, FairQueue};
use super::rules::{Need, Who};
use crate::units::Priority;

/// Somebody of a lower priority has waited so long: then it gets its share of starts.
const AGED_MS: u64 = 10_000;

/// One start in so many.
const SHARE_OF_STARTS: u32 = 10;

/// Names one place in the line of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    priority: Priority,
    place: queue::Ticket,
}

/// Somebody who waits.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    pub(super) need: Need,
    pub(super) joined_ms: u64,
    deadline_ms: u64,
    pub(super) item: T,
}

/// What waits, in sums.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ahead {
    pub(super) requests: u64,
    pub(super) input_tokens: u64,
    pub(super) output_tokens: u64,
}

impl Ahead {
    fn add(&mut self, need: &Need) {
        self.requests += 1;
        self.input_tokens = self.input_tokens.saturating_add(need.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(need.output());
    }

    fn remove(&mut self, need: &Need) {
        self.requests = self.requests.saturating_sub(1);
        self.input_tokens = self.input_tokens.saturating_sub(need.input_tokens);
        self.output_tokens = self.output_tokens.saturating_sub(need.output());
    }

    fn add_part(&mut self, other: &Self, part: u64, whole: u64) {
        let of = |amount: u64| {
            let part = u128::from(amount) * u128::from(part) / u128::from(whole.max(1));
            u64::try_from(part).unwrap_or(u64::MAX)
        };
        self.requests = self.requests.saturating_add(of(other.requests));
        self.input_tokens = self.input_tokens.saturating_add(of(other.input_tokens));
        self.output_tokens = self.output_tokens.saturating_add(of(other.output_tokens));
    }
}

/// Those of one priority.
#[derive(Debug)]
struct Class<T> {
    queue: FairQueue<Waiting<T>>,
    sums: Ahead,
    /// Starts of others since this priority last had its share.
    passed_over: u32,
}

/// The line.
#[derive(Debug)]
pub(super) struct Line<T> {
    /// In the order of [`Priority::ALL`].
    classes: [Class<T>; Priority::ALL.len()],
    deadlines: BTreeSet<(u64, Ticket)>,
}

impl<T> Line<T> {
    pub(super) fn new() -> Self {
        Self {
            classes: std::array::from_fn(|_| Class {
                queue: FairQueue::default(),
                sums: Ahead::default(),
                passed_over: 0,
            }),
            deadlines: BTreeSet::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.deadlines.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.deadlines.is_empty()
    }

    /// How many wait of a priority.
    pub(super) fn waiting(&self, priority: Priority) -> usize {
        self.classes[priority as usize].queue.len()
    }

    /// What goes before a newcomer: all that is more urgent, and of its own priority its session's share of turns.
    pub(super) fn ahead_of(&self, who: &Who<'_>, need: &Need) -> Ahead {
        let own = who.priority as usize;
        let mut ahead = Ahead::default();
        for class in &self.classes[own + 1..] {
            ahead.add_part(&class.sums, 1, 1);
        }
        let class = &self.classes[own];
        let share = class.queue.share_of(who.session);
        let turns = share
            .own
            .saturating_add(need.weight())
            .saturating_mul(share.sessions);
        ahead.add_part(&class.sums, turns.min(share.all), share.all);
        ahead
    }

    /// Lines up.
    pub(super) fn push(
        &mut self,
        who: &Who<'_>,
        need: Need,
        deadline_ms: u64,
        item: T,
        now_ms: u64,
    ) -> Ticket {
        let class = &mut self.classes[who.priority as usize];
        class.sums.add(&need);
        let waiting = Waiting {
            need,
            joined_ms: now_ms,
            deadline_ms,
            item,
        };
        let weight = need.weight();
        let ticket = Ticket {
            priority: who.priority,
            place: class.queue.push(who.session, who.agent, weight, waiting),
        };
        self.deadlines.insert((deadline_ms, ticket));
        ticket
    }

    /// Who gives way to a newcomer when the line is full.
    pub(super) fn gives_way_to(&self, who: &Who<'_>) -> Option<Ticket> {
        let lowest = self
            .classes
            .iter()
            .zip(Priority::ALL)
            .find(|(class, _)| !class.queue.is_empty());
        let (class, priority) = lowest?;
        if priority > who.priority {
            return None;
        }
        let (place, longest) = class.queue.last_of_the_longest()?;
        let gives_way =
            priority < who.priority || longest > 2 * (class.queue.waiting_of(who.session) + 1);
        gives_way.then_some(Ticket { priority, place })
    }

    /// Whose turn it is.
    pub(super) fn first(&self, now_ms: u64) -> Option<(Ticket, &Waiting<T>)> {
        let priority = self.next_priority(now_ms)?;
        let (place, waiting) = self.classes[priority as usize].queue.first()?;
        Some((Ticket { priority, place }, waiting))
    }

    fn next_priority(&self, now_ms: u64) -> Option<Priority> {
        let highest = Priority::ALL
            .into_iter()
            .rev()
            .find(|priority| self.waiting(*priority) > 0)?;
        if highest == Priority::Critical {
            return Some(highest);
        }
        let overdue = Priority::ALL.into_iter().find(|priority| {
            let class = &self.classes[*priority as usize];
            class.passed_over + 1 >= SHARE_OF_STARTS && class.has_aged(now_ms)
        });
        Some(overdue.unwrap_or(highest))
    }

    /// The one whose turn it is starts.
    pub(super) fn serve(&mut self, ticket: Ticket, now_ms: u64) -> Option<Waiting<T>> {
        let class = &mut self.classes[ticket.priority as usize];
        let waiting = class.queue.serve(ticket.place)?;
        class.sums.remove(&waiting.need);
        self.deadlines.remove(&(waiting.deadline_ms, ticket));
        if ticket.priority != Priority::Critical {
            for priority in Priority::ALL {
                let class = &mut self.classes[priority as usize];
                if priority >= ticket.priority || !class.has_aged(now_ms) {
                    class.passed_over = 0;
                } else {
                    class.passed_over += 1;
                }
            }
        }
        Some(waiting)
    }

    /// Somebody leaves.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<Waiting<T>> {
        let class = &mut self.classes[ticket.priority as usize];
        let waiting = class.queue.leave(ticket.place)?;
        class.sums.remove(&waiting.need);
        self.deadlines.remove(&(waiting.deadline_ms, ticket));
        Some(waiting)
    }

    /// The next deadline.
    pub(super) fn deadline(&self) -> Option<(u64, Ticket)> {
        self.deadlines.first().copied()
    }
}

impl<T> Class<T> {
    /// Whether somebody has waited so long that the priority gets its share.
    fn has_aged(&self, now_ms: u64) -> bool {
        self.queue
            .oldest()
            .is_some_and(|waiting| now_ms.saturating_sub(waiting.joined_ms) >= AGED_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(priority: Priority, session: &str) -> Who<'_> {
        Who {
            priority,
            session,
            agent: "",
        }
    }

    fn need(input_tokens: u64) -> Need {
        Need {
            input_tokens,
            output_cap: Some(50),
            expected_output: 100,
        }
    }

    fn next(line: &mut Line<&'static str>, now_ms: u64) -> Option<&'static str> {
        let (ticket, _) = line.first(now_ms)?;
        Some(line.serve(ticket, now_ms)?.item)
    }

    #[test]
    fn who_is_more_urgent_goes_first() {
        let mut line = Line::new();
        for (priority, item) in [
            (Priority::Low, "low"),
            (Priority::High, "high"),
            (Priority::Normal, "normal"),
            (Priority::Critical, "critical"),
        ] {
            line.push(&who(priority, item), need(1), 10, item, 0);
        }
        let order: Vec<_> = std::iter::from_fn(|| next(&mut line, 1)).collect();
        assert_eq!(order, ["critical", "high", "normal", "low"]);
    }

    #[test]
    fn low_priority_gets_one_start_in_ten_once_it_has_waited_but_not_before_critical() {
        let mut line = Line::new();
        for _ in 0..10 {
            line.push(&who(Priority::Low, "low"), need(1), 99_000, "low", 0);
        }
        for _ in 0..100 {
            line.push(&who(Priority::High, "high"), need(1), 99_000, "high", 0);
        }
        let young: Vec<_> = (0..30).filter_map(|_| next(&mut line, 9_999)).collect();
        assert!(young.iter().all(|item| *item == "high"));
        let aged: Vec<_> = (0..30).filter_map(|_| next(&mut line, 10_000)).collect();
        assert_eq!(aged.iter().filter(|item| **item == "low").count(), 3);
        for _ in 0..40 {
            line.push(
                &who(Priority::Critical, "c"),
                need(1),
                99_000,
                "critical",
                0,
            );
        }
        let order: Vec<_> = (0..40).filter_map(|_| next(&mut line, 20_000)).collect();
        assert!(order.iter().all(|item| *item == "critical"));
    }

    #[test]
    fn a_full_line_makes_room_for_the_urgent_and_for_those_with_little() {
        let mut line = Line::new();
        for _ in 0..5 {
            line.push(&who(Priority::Normal, "greedy"), need(1), 10, "greedy", 0);
        }
        let last = line.push(&who(Priority::Normal, "greedy"), need(1), 10, "last", 0);
        line.push(&who(Priority::High, "other"), need(1), 10, "other", 0);
        assert_eq!(line.gives_way_to(&who(Priority::High, "other")), Some(last));
        assert_eq!(line.gives_way_to(&who(Priority::Normal, "new")), Some(last));
        assert_eq!(line.gives_way_to(&who(Priority::Normal, "greedy")), None);
        assert_eq!(line.gives_way_to(&who(Priority::Low, "new")), None);
    }

    #[test]
    fn what_goes_before_a_newcomer_is_the_urgent_and_its_share_of_its_own_priority() {
        let mut line = Line::new();
        for _ in 0..8 {
            line.push(&who(Priority::Normal, "greedy"), need(50), 10, "", 0);
        }
        line.push(&who(Priority::Critical, "x"), need(1_000), 10, "", 0);
        line.push(&who(Priority::Low, "x"), need(1_000), 10, "", 0);
        let ahead = line.ahead_of(&who(Priority::Normal, "new"), &need(50));
        assert_eq!(
            ahead.requests,
            1 + 2,
            "critical, and one turn of each of two"
        );
        assert_eq!(ahead.input_tokens, 1_000 + 100);
        let ahead = line.ahead_of(&who(Priority::Normal, "greedy"), &need(50));
        assert_eq!(ahead.requests, 1 + 8);
    }

    #[test]
    fn who_leaves_has_no_deadline_any_more() {
        let mut line = Line::new();
        let first = line.push(&who(Priority::Low, "a"), need(1), 10, "first", 0);
        let second = line.push(&who(Priority::Low, "a"), need(1), 20, "second", 0);
        assert_eq!(line.deadline(), Some((10, first)));
        assert_eq!(line.leave(first).map(|waiting| waiting.item), Some("first"));
        assert!(line.leave(first).is_none());
        assert_eq!(line.deadline(), Some((20, second)));
        assert!(line.serve(second, 0).is_some());
        assert!(line.is_empty() && line.first(0).is_none());
        assert_eq!(
            line.ahead_of(&who(Priority::Low, "a"), &need(0)),
            Ahead::default()
        );
    }
}
