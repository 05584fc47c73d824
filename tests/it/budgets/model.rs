//! The budgets as a slow and obvious program: a list of everything that was used and one of what runs, summed up anew for
//! every question.

use std::collections::HashMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tollgate::policy::budget::{Amounts, Budget, ScopeKey, ScopeKind, Scopes, Window};
use tollgate::policy::budgets::{Ask, Why};
use tollgate::policy::throttle::{Level, Thresholds, Verdict, level_of, verdict};
use tollgate::units::Priority;

pub(super) struct Model {
    pub(super) budgets: Vec<Budget>,
    zone: TimeZone,
    thresholds: Thresholds,
    pub(super) now_ms: u64,
    spent: Vec<Spent>,
    running: HashMap<u64, Running>,
    levels: HashMap<(ScopeKey, usize), Level>,
    /// Which requests ran, and with what, when this budget last let one in that it binds, and those let in since that it
    /// does not.
    bound: HashMap<(ScopeKey, usize), Vec<(u64, Ask)>>,
}

struct Spent {
    scopes: Vec<ScopeKey>,
    request: u64,
    at_ms: u64,
    used: Amounts,
}

#[derive(Clone)]
struct Running {
    scopes: Vec<ScopeKey>,
    ask: Ask,
}

/// What stands in the way of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Obstacles {
    pub(super) level: Level,
    pub(super) verdict: Verdict,
    pub(super) never_fits: bool,
}

/// How full a budget of a scope is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Filled {
    pub(super) settled: i128,
    pub(super) reserved: i128,
    pub(super) level: Level,
}

pub(super) fn keys(scopes: &Scopes<'_>) -> Vec<ScopeKey> {
    let names = [
        (ScopeKind::Global, Some("")),
        (ScopeKind::Session, Some(scopes.session)),
        (ScopeKind::Key, scopes.key),
        (ScopeKind::Team, scopes.team),
        (ScopeKind::Provider, Some(scopes.provider)),
        (ScopeKind::Model, scopes.model),
    ];
    let named = names.into_iter().filter_map(|(kind, name)| {
        let name = name?.to_owned();
        Some(ScopeKey { kind, name })
    });
    named.collect()
}

impl Model {
    pub(super) fn new(budgets: Vec<Budget>, zone: TimeZone) -> Self {
        Self {
            budgets,
            zone,
            thresholds: Thresholds::default(),
            now_ms: 0,
            spent: Vec::new(),
            running: HashMap::new(),
            levels: HashMap::new(),
            bound: HashMap::new(),
        }
    }

    /// The budgets of a scope, with their places in the config.
    pub(super) fn budgets_of(&self, key: &ScopeKey) -> Vec<(usize, Budget)> {
        let budgets = self.budgets.iter().cloned().enumerate();
        let applies = |budget: &Budget| {
            budget.scope == key.kind && budget.only.as_ref().is_none_or(|only| *only == key.name)
        };
        budgets.filter(|(_, budget)| applies(budget)).collect()
    }

    fn month(&self, at_ms: u64) -> (i16, i8) {
        let at = Timestamp::from_millisecond(at_ms as i64).expect("in range");
        let date = self.zone.to_datetime(at).date();
        (date.year(), date.month())
    }

    /// Whether what was used then still counts: all of its sixtieth must lie outside the window for it not to.
    fn counts(&self, window: Window, at_ms: u64) -> bool {
        match window.rolling_ms() {
            Some(length_ms) => {
                let slot_ms = length_ms / 60;
                let ends_ms = (at_ms / slot_ms + 1) * slot_ms;
                ends_ms + length_ms > self.now_ms
            }
            None => self.month(at_ms) == self.month(self.now_ms),
        }
    }

    /// Whether it lies inside the window, to the millisecond.
    fn is_inside(&self, window: Window, at_ms: u64) -> bool {
        match window.rolling_ms() {
            Some(length_ms) => at_ms + length_ms > self.now_ms,
            None => self.month(at_ms) == self.month(self.now_ms),
        }
    }

    fn settled(&self, budget: &Budget, key: &ScopeKey, counts: impl Fn(u64) -> bool) -> i128 {
        let spent = self.spent.iter().filter(|spent| spent.scopes.contains(key));
        let counted = spent.filter(|spent| counts(spent.at_ms));
        counted.map(|spent| budget.share_of(&spent.used)).sum()
    }

    fn reserved(&self, budget: &Budget, key: &ScopeKey) -> i128 {
        let running = self.running.values();
        let mine = running.filter(|running| running.scopes.contains(key));
        mine.map(|running| asked(budget, &running.ask)).sum()
    }

    pub(super) fn filled(&self, place: usize, key: &ScopeKey) -> Filled {
        let budget = &self.budgets[place];
        let level = self.levels.get(&(key.clone(), place));
        Filled {
            settled: self.settled(budget, key, |at| self.counts(budget.window, at)),
            reserved: self.reserved(budget, key),
            level: level.copied().unwrap_or_default(),
        }
    }

    /// Every scope that anything was ever booked or reserved for.
    pub(super) fn scopes(&self) -> Vec<ScopeKey> {
        let spent = self.spent.iter().flat_map(|spent| &spent.scopes);
        let running = self.running.values().flat_map(|running| &running.scopes);
        let mut scopes: Vec<_> = spent.chain(running).cloned().collect();
        scopes.sort();
        scopes.dedup();
        scopes
    }

    /// Lets every level of every scope follow its fill.
    fn update(&mut self) {
        for key in self.scopes() {
            for (place, budget) in self.budgets_of(&key) {
                let filled = self.filled(place, &key);
                let level = level_of(
                    filled.settled + filled.reserved,
                    budget.limit.amount(),
                    filled.level,
                    &self.thresholds,
                );
                self.levels.insert((key.clone(), place), level);
            }
        }
    }

    pub(super) fn tick(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        self.update();
    }

    /// The request's level, or what stands in its way.
    pub(super) fn check(
        &self,
        scopes: &Scopes<'_>,
        ask: &Ask,
        priority: Priority,
    ) -> Result<Level, Obstacles> {
        let mut level = Level::None;
        let mut worst = Verdict::Pass;
        let mut never_fits = false;
        for key in keys(scopes) {
            for (place, budget) in self.budgets_of(&key) {
                let asked = asked(&budget, ask);
                if asked == 0 {
                    continue;
                }
                let filled = self.filled(place, &key);
                level = level.max(filled.level);
                worst = worst.max(verdict(filled.level, priority));
                let limit = budget.limit.amount();
                if priority != Priority::Critical || budget.hard {
                    if filled.settled + filled.reserved + asked > limit {
                        worst = Verdict::Refuse;
                    }
                    never_fits |= asked > limit;
                }
            }
        }
        match worst {
            Verdict::Pass => Ok(level),
            verdict => Err(Obstacles {
                level,
                verdict,
                never_fits,
            }),
        }
    }

    pub(super) fn reserve(&mut self, request: u64, scopes: &Scopes<'_>, ask: Ask) {
        let scopes = keys(scopes);
        let running = Running { scopes, ask };
        self.running.insert(request, running.clone());
        for key in &running.scopes {
            for (place, budget) in self.budgets_of(key) {
                let bound = self.bound.entry((key.clone(), place)).or_default();
                if asked(&budget, &ask) > 0 {
                    let all = self.running.iter();
                    *bound = all.map(|(id, running)| (*id, running.ask)).collect();
                } else {
                    bound.push((request, ask));
                }
            }
        }
        self.update();
    }

    pub(super) fn grow(&mut self, request: u64, ask: &Ask) -> bool {
        let running = self.running[&request].clone();
        let grown = Ask {
            expected: running.ask.expected.max(&ask.expected),
            worst: running.ask.worst.max(&ask.worst),
        };
        for key in &running.scopes {
            for (place, budget) in self.budgets_of(key) {
                let more = asked(&budget, &grown) - asked(&budget, &running.ask);
                let filled = self.filled(place, key);
                let after = filled.settled + filled.reserved + more;
                if budget.hard && more > 0 && after > budget.limit.amount() {
                    return false;
                }
            }
        }
        let scopes = running.scopes;
        self.running.insert(request, Running { scopes, ask: grown });
        self.update();
        true
    }

    pub(super) fn settle(&mut self, request: u64, used: Amounts) {
        let scopes = self.running.remove(&request).expect("it runs").scopes;
        let at_ms = self.now_ms;
        self.spent.push(Spent {
            scopes,
            request,
            at_ms,
            used,
        });
        self.update();
    }

    pub(super) fn recall(&mut self, scopes: &Scopes<'_>, used: Amounts, at_ms: u64) {
        self.spent.push(Spent {
            scopes: keys(scopes),
            request: u64::MAX,
            at_ms: at_ms.min(self.now_ms),
            used,
        });
        self.update();
    }

    /// What the request that runs has reserved.
    pub(super) fn ask_of(&self, request: u64) -> Ask {
        self.running[&request].ask
    }

    /// The first hard budget that is exceeded in the window that ends now, measured to the millisecond.
    pub(super) fn broken_hard_budget(&self) -> Option<String> {
        self.exceeded(|_, budget, _| budget.hard.then(|| budget.limit.amount()))
    }

    /// The first ordinary budget that is exceeded by more than what the requests that ran when one was last let in have
    /// taken beyond their reservations.
    pub(super) fn broken_ordinary_budget(&self) -> Option<String> {
        self.exceeded(|place, budget, key| {
            let bound = self.bound.get(&(key.clone(), place));
            let over = bound.into_iter().flatten().map(|(request, then)| {
                let taken = match self.running.get(request) {
                    Some(running) if running.scopes.contains(key) => asked(budget, &running.ask),
                    Some(_) => 0,
                    None => {
                        let spent = self.spent.iter();
                        let mine = spent.filter(|spent| spent.request == *request);
                        let here = mine.filter(|spent| spent.scopes.contains(key));
                        here.map(|spent| budget.share_of(&spent.used)).sum()
                    }
                };
                (taken - asked(budget, then)).max(0)
            });
            (!budget.hard).then(|| budget.limit.amount() + over.sum::<i128>())
        })
    }

    fn exceeded(
        &self,
        bound: impl Fn(usize, &Budget, &ScopeKey) -> Option<i128>,
    ) -> Option<String> {
        let scopes = self.scopes();
        let budgets = scopes.iter().flat_map(|key| {
            self.budgets_of(key)
                .into_iter()
                .map(move |budget| (key, budget))
        });
        budgets
            .filter_map(|(key, (place, budget))| {
                let settled = self.settled(&budget, key, |at| self.is_inside(budget.window, at));
                let taken = settled + self.reserved(&budget, key);
                (taken > bound(place, &budget, key)?)
                    .then(|| format!("{} of {key}: {taken}", budget.name))
            })
            .next()
    }
}

fn asked(budget: &Budget, ask: &Ask) -> i128 {
    budget.share_of(if budget.hard {
        &ask.worst
    } else {
        &ask.expected
    })
}

/// Whether the reason that the engine names is one that the model sees.
pub(super) fn agrees(why: Why, obstacles: &Obstacles) -> bool {
    (why == Why::NeverFits) == obstacles.never_fits
}
