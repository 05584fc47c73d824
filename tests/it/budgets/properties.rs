//! What holds for any schedule of arrivals, endings, cancellations and steps of the clock: the engine agrees with the
//! model at every step, and keeps its promises.

use std::collections::HashMap;

use jiff::tz::TimeZone;
use proptest::prelude::*;
use tollgate::policy::budget::{Amounts, Budget, ScopeKey, Scopes};
use tollgate::policy::budgets::{Ask, Budgets, Denied, Filter, Held, Rules, Why};
use tollgate::policy::calendar::Calendar;
use tollgate::policy::throttle::Thresholds;
use tollgate::units::{Cost, Priority};

use super::model::{Model, agrees, keys};
use super::samples::{DAY, HOUR, MINUTE, SECOND, START, budget, engine, hard, session};

const ZONES: [&str; 5] = [
    "UTC",
    "Europe/Berlin",
    "Asia/Kathmandu",
    "America/St_Johns",
    "Pacific/Chatham",
];

/// Mid-month, and shortly before ends of months in which clocks change or which are leap.
const STARTS: [&str; 5] = [
    "2027-01-15T00:00:00Z",
    "2026-03-28T18:00:00Z",
    "2026-10-31T20:00:00Z",
    "2028-02-28T22:00:00Z",
    "2026-12-31T12:00:00Z",
];

/// Every kind of scope, window and unit, small enough to be filled often.
fn some_budgets() -> impl Strategy<Value = Vec<Budget>> {
    let mut reads = budget("reads", "global", "hour", "900 tokens");
    reads.counts_cache_reads = true;
    let all = vec![
        budget("all-tokens", "global", "hour", "1000 tokens"),
        hard(budget("all-usd", "global", "month", "9 usd")),
        reads,
        budget("session-tokens", "session", "minute", "300 tokens"),
        hard(budget("session-usd", "session", "hour", "2 usd")),
        budget("session-requests", "session", "minute", "5 requests"),
        budget("session-day", "session", "day", "700 tokens"),
        hard(budget("key-a", "key:a", "hour", "400 tokens")),
        budget("key", "key", "day", "4 usd"),
        hard(budget("team", "team", "day", "800 tokens")),
        budget("provider", "provider", "hour", "8 requests"),
        hard(budget("model", "model", "minute", "350 tokens")),
        budget("model-month", "model:m", "month", "1500 tokens"),
    ];
    let count = all.len();
    prop::sample::subsequence(all, 1..=count)
}

#[derive(Debug, Clone)]
enum Step {
    Arrive(Request),
    /// The same, and if it is refused it comes back a millisecond before the promised moment, and at it.
    Insist(Request),
    Grow(usize, Ask),
    /// Ends with so many thousandths of its worst case.
    End(usize, u64),
    /// Ends before anything was used.
    Cancel(usize),
    Recall(Request, u64),
    Wait(u64),
    SetBack(u64),
    /// Somebody reads how everything stands.
    Look,
}

#[derive(Debug, Clone)]
struct Request {
    session: usize,
    key: Option<usize>,
    team: Option<usize>,
    model: Option<usize>,
    priority: Priority,
    ask: Ask,
}

impl Request {
    fn scopes(&self) -> Scopes<'static> {
        let names = |place: usize| ["a", "b", "m", "d", "e", "f"][place];
        Scopes {
            session: names(self.session),
            key: self.key.map(names),
            team: self.team.map(names),
            provider: "p",
            model: self.model.map(names),
        }
    }
}

fn some_ask() -> impl Strategy<Value = Ask> {
    let tokens = prop_oneof![4 => 0..120_u64, 1 => 0..600_u64];
    let cents = prop_oneof![1 => Just(0), 3 => 0..100_u64];
    (tokens.clone(), 0..100_u64, cents, 0..1000_u64, tokens).prop_map(
        |(fresh, cached, cents, permille, more)| {
            let cost = |cents: u64| Cost::from_attos(i128::from(cents) * 10_i128.pow(16) + 7);
            let amounts = |fresh_tokens, cents| Amounts {
                requests: 1,
                fresh_tokens,
                cached_tokens: cached,
                cost: if cents == 0 { Cost::ZERO } else { cost(cents) },
            };
            Ask {
                expected: amounts(fresh, cents),
                worst: amounts(
                    fresh + more * permille / 1000,
                    cents + cents * permille / 1000,
                ),
            }
        },
    )
}

fn some_request() -> impl Strategy<Value = Request> {
    (
        0..6_usize,
        prop::option::of(0..2_usize),
        prop::option::of(0..2_usize),
        prop::option::of(2..4_usize),
        prop::sample::select(Priority::ALL.to_vec()),
        some_ask(),
    )
        .prop_map(|(session, key, team, model, priority, ask)| Request {
            session,
            key,
            team,
            model,
            priority,
            ask,
        })
}

/// `most_used` in thousandths of the worst case.
fn some_steps(most_used: u64, recalls: u32) -> impl Strategy<Value = Vec<Step>> {
    let time = prop_oneof![
        4 => 0..3 * SECOND,
        4 => 0..5 * MINUTE,
        3 => 0..3 * HOUR,
        1 => 0..3 * DAY,
    ];
    let step = prop_oneof![
        12 => some_request().prop_map(Step::Arrive),
        2 => some_request().prop_map(Step::Insist),
        2 => (any::<usize>(), some_ask()).prop_map(|(which, ask)| Step::Grow(which, ask)),
        8 => (any::<usize>(), 0..=most_used).prop_map(|(which, used)| Step::End(which, used)),
        2 => any::<usize>().prop_map(Step::Cancel),
        recalls => (some_request(), time.clone()).prop_map(|(request, ago)| Step::Recall(request, ago)),
        6 => time.prop_map(Step::Wait),
        1 => prop_oneof![0..2 * MINUTE, Just(DAY)].prop_map(Step::SetBack),
        1 => Just(Step::Look),
    ];
    prop::collection::vec(step, 1..70)
}

/// The engine with a ledger behind it, and the model beside it.
struct Trial {
    engine: Budgets,
    model: Model,
    /// What the ledger keeps of scopes that were put away.
    ledger: HashMap<ScopeKey, Vec<u8>>,
    clock_ms: u64,
    running: Vec<(u64, Held)>,
    requests: u64,
}

impl Trial {
    fn new(budgets: Vec<Budget>, zone: &str, start: &str, max_scopes: usize) -> Self {
        let start: jiff::Timestamp = start.parse().expect("an instant");
        let zone = TimeZone::get(zone).expect("a known zone");
        let mut trial = Self {
            engine: Budgets::new(Rules {
                budgets: budgets.clone(),
                thresholds: Thresholds::default(),
                calendar: Calendar::new(zone.clone()),
                max_scopes,
            }),
            model: Model::new(budgets, zone),
            ledger: HashMap::new(),
            clock_ms: start.as_millisecond() as u64,
            running: Vec::new(),
            requests: 0,
        };
        trial.tick();
        trial
    }

    fn restore(&mut self, missing: Vec<ScopeKey>) {
        for key in missing {
            let bytes = self.ledger.get(&key).map(Vec::as_slice);
            let restored = self.engine.restore(&key, bytes, self.clock_ms);
            restored.expect("the ledger damages nothing");
        }
    }

    /// Asks both, which must agree.
    fn ask(&mut self, request: &Request) -> Option<Denied> {
        let scopes = request.scopes();
        let missing = self.engine.missing(&scopes);
        self.restore(missing);
        self.model.tick(self.clock_ms);
        let expected = self.model.check(&scopes, &request.ask, request.priority);
        let outcome = self
            .engine
            .admit(&scopes, &request.ask, request.priority, self.clock_ms);
        self.ledger.extend(self.engine.take_evicted());
        match (outcome, expected) {
            (Ok(admitted), Ok(level)) => {
                assert_eq!(admitted.level, level);
                self.requests += 1;
                self.model.reserve(self.requests, &scopes, request.ask);
                self.running.push((self.requests, admitted.held));
                None
            }
            (Err(denied), Err(obstacles)) => {
                assert_eq!(denied.verdict, obstacles.verdict);
                assert_eq!(denied.level, obstacles.level);
                assert!(agrees(denied.why, &obstacles), "{denied:?}");
                self.check_figures(&scopes, request, &denied);
                Some(denied)
            }
            (engine, model) => panic!("{request:?}: {engine:?}, but {model:?}"),
        }
    }

    fn check_figures(&self, scopes: &Scopes<'_>, request: &Request, denied: &Denied) {
        let key = keys(scopes)
            .into_iter()
            .find(|key| key.to_string() == denied.scope)
            .expect("one of the request's scopes");
        let place = self.model.budgets.iter();
        let place = place.clone().position(|budget| *budget == *denied.budget);
        let filled = self.model.filled(place.expect("a budget"), &key);
        assert_eq!(denied.settled, filled.settled);
        assert_eq!(denied.reserved, filled.reserved);
        let ask = if denied.budget.hard {
            request.ask.worst
        } else {
            request.ask.expected
        };
        assert_eq!(denied.asked, denied.budget.share_of(&ask));
        assert_eq!(denied.limit, denied.budget.limit.amount());
    }

    fn insist(&mut self, request: &Request) {
        let Some(denied) = self.ask(request) else {
            return;
        };
        if let Some(passes_in_ms) = denied.passes_in_ms {
            assert_ne!(denied.why, Why::NeverFits);
            let promised = self.clock_ms + passes_in_ms;
            self.clock_ms = promised - 1;
            let again = self.ask(request).expect("refused until the moment");
            assert_eq!(again.passes_in_ms, Some(1), "the promise stands");
            self.clock_ms = promised;
            assert_eq!(self.ask(request), None, "admitted at the moment");
        }
    }

    /// The last request of a trial: after it nothing else happens.
    fn insist_at_last(&mut self, request: &Request) {
        let Some(denied) = self.ask(request) else {
            return;
        };
        let waits = |denied: &Denied| denied.passes_in_ms.unwrap_or(u64::MAX);
        if denied.passes_in_ms.is_none() {
            self.clock_ms += 400 * DAY;
            let again = self.ask(request).expect("no moment was promised");
            assert_eq!(again.passes_in_ms, None);
            assert!(again.may_pass_earlier || again.why == Why::NeverFits);
            self.clock_ms -= 400 * DAY;
            return;
        }
        for (number, held) in self.running.drain(..) {
            self.engine.settle(held, &Amounts::default(), self.clock_ms);
            self.model.settle(number, Amounts::default());
        }
        let helped = match self.ask(request) {
            None => true,
            Some(unreserved) => waits(&unreserved) < waits(&denied),
        };
        assert_eq!(denied.may_pass_earlier, helped);
    }

    /// Shows both what time it is; the engine looks at no scope for that.
    fn tick(&mut self) {
        let nobody = Filter::Scope(session("nobody"));
        assert_eq!(self.engine.standings(self.clock_ms, &nobody), []);
        self.model.tick(self.clock_ms);
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Arrive(request) => {
                self.ask(request);
            }
            Step::Insist(request) => self.insist(request),
            Step::Grow(which, ask) => {
                let count = self.running.len().max(1);
                if let Some((number, held)) = self.running.get_mut(which % count) {
                    let grown = self.engine.grow(held, ask, self.clock_ms).is_ok();
                    assert_eq!(grown, self.model.grow(*number, ask));
                    assert_eq!(*held.reserved(), self.model.ask_of(*number));
                }
            }
            Step::End(which, permille) => self.end(*which, |ask| scaled(&ask.worst, *permille)),
            Step::Cancel(which) => self.end(*which, |_| Amounts::default()),
            Step::Recall(request, ago) => {
                let scopes = request.scopes();
                let missing = self.engine.missing(&scopes);
                self.restore(missing);
                let at = self.clock_ms - ago;
                let used = request.ask.expected;
                self.engine.recall(&scopes, &used, at, self.clock_ms);
                self.ledger.extend(self.engine.take_evicted());
                self.model.recall(&scopes, used, at);
            }
            Step::Look => self.compare(false),
            Step::Wait(ms) => self.clock_ms += ms,
            Step::SetBack(ms) => self.clock_ms -= ms,
        }
        self.tick();
    }

    fn end(&mut self, which: usize, used: impl Fn(&Ask) -> Amounts) {
        if self.running.is_empty() {
            return;
        }
        let (number, held) = self.running.swap_remove(which % self.running.len());
        let used = used(held.reserved());
        self.engine.settle(held, &used, self.clock_ms);
        self.model.settle(number, used);
    }

    /// Every scope stands as the model says, whether it is live, was put away, or was dropped because nothing is left.
    fn compare(&mut self, everything: bool) {
        self.model.tick(self.clock_ms);
        let mut standings = self.engine.standings(self.clock_ms, &Filter::All);
        assert!(standings.is_sorted_by_key(|standing| standing.scope.clone()));
        if everything {
            let known = self.model.scopes();
            self.restore(known);
            standings = self.engine.standings(self.clock_ms, &Filter::All);
        }
        for key in self.model.scopes() {
            let mine: Vec<_> = standings.iter().filter(|s| s.scope == key).collect();
            if mine.is_empty() && self.ledger.contains_key(&key) && !everything {
                continue;
            }
            for (number, (place, budget)) in self.model.budgets_of(&key).into_iter().enumerate() {
                let filled = self.model.filled(place, &key);
                match mine.get(number) {
                    Some(standing) => {
                        assert_eq!(*standing.budget, budget);
                        assert_eq!(standing.settled, filled.settled, "{key}: {}", budget.name);
                        assert_eq!(standing.reserved, filled.reserved, "{key}: {}", budget.name);
                        assert_eq!(standing.level, filled.level, "{key}: {}", budget.name);
                    }
                    None => {
                        assert_eq!((filled.settled, filled.reserved), (0, 0), "{key}");
                    }
                }
            }
        }
    }
}

fn scaled(amounts: &Amounts, permille: u64) -> Amounts {
    Amounts {
        requests: amounts.requests,
        fresh_tokens: amounts.fresh_tokens * permille / 1000,
        cached_tokens: amounts.cached_tokens * permille / 1000,
        cost: Cost::from_attos(amounts.cost.attos() * i128::from(permille) / 1000),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Sums are conserved, promises are kept, and putting scopes away changes nothing.
    #[test]
    fn the_engine_agrees_with_the_model_in_any_schedule(
        budgets in some_budgets(),
        steps in some_steps(1500, 3),
        zone in prop::sample::select(ZONES.to_vec()),
        start in prop::sample::select(STARTS.to_vec()),
        max_scopes in prop::sample::select(vec![1, 3, 6, 1000]),
        last in some_request(),
    ) {
        let mut trial = Trial::new(budgets, zone, start, max_scopes);
        for step in &steps {
            trial.take(step);
        }
        trial.compare(true);
        trial.insist_at_last(&last);
    }

    /// Nobody uses more than the worst case that was reserved for it.
    #[test]
    fn no_schedule_breaks_a_hard_budget(
        budgets in some_budgets(),
        steps in some_steps(1000, 0),
        zone in prop::sample::select(ZONES.to_vec()),
        start in prop::sample::select(STARTS.to_vec()),
        max_scopes in prop::sample::select(vec![2, 1000]),
    ) {
        let mut trial = Trial::new(budgets, zone, start, max_scopes);
        for step in &steps {
            trial.take(step);
            prop_assert_eq!(trial.model.broken_hard_budget(), None);
        }
    }

    /// Critical requests are not bound by ordinary budgets, so there are none here.
    #[test]
    fn ordinary_budgets_are_exceeded_at_most_by_what_running_requests_outgrow(
        budgets in some_budgets(),
        mut steps in some_steps(3000, 0),
    ) {
        for step in &mut steps {
            if let Step::Arrive(request) | Step::Insist(request) = step {
                request.priority = request.priority.min(Priority::High);
            }
        }
        let mut trial = Trial::new(budgets, "UTC", STARTS[0], 1000);
        for step in &steps {
            trial.take(step);
            prop_assert_eq!(trial.model.broken_ordinary_budget(), None);
        }
    }

    #[test]
    fn no_bytes_make_restoring_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut engine = engine(vec![budget("b", "session", "hour", "5 tokens")]);
        prop_assert!(engine.restore(&session("a"), Some(&bytes), START).is_err());
    }
}
