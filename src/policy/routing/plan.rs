//! The order in which models are tried for one request.
//!
//! The rule's target first. Where that cannot do what the request needs, the next better rung, and so on up to the model
//! that was asked for, which always can. Where budgets do not admit it, the next rung below; when there is none, what lies
//! between the target and the model that was asked for, and that one last: no request is refused that would have passed
//! without routing. What a ladder gives is never above what was asked for.

use std::fmt;

use super::{Ladder, Mode, Routing, Target, To, Wanted};

/// One model that could serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice<'a> {
    /// Its provider's name in the config.
    pub provider: &'a str,
    /// The model, as the provider's API takes it; of the one that was asked for, the catalogue's spelling.
    pub model: &'a str,
    /// Whether it is what was asked for: then nothing of the request is changed.
    pub asked: bool,
    /// What brings it into the plan.
    pub why: Why<'a>,
}

/// What brings a model into a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why<'a> {
    /// It was asked for.
    Asked,
    /// It was asked for, and must not be changed.
    Pinned,
    /// The rule of that name.
    Rule(&'a str),
    /// It is a rung of the ladder of that name, below what budgets do not admit.
    Ladder(&'a str),
}

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Asked => f.write_str("asked"),
            Why::Pinned => f.write_str("pinned"),
            Why::Rule(name) => write!(f, "rule:{name}"),
            Why::Ladder(name) => write!(f, "ladder:{name}"),
        }
    }
}

/// What may serve a request. Every model is in it once, the one that was asked for always.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan<'a> {
    /// What the rules decide.
    pub first: Choice<'a>,
    /// From `first` up towards what was asked for, for when `first` cannot do what is needed.
    pub better: Vec<Choice<'a>>,
    /// From `first` down, for when budgets do not admit it.
    pub cheaper: Vec<Choice<'a>>,
    /// Whether a rule says `asked`, so that a conversation comes back to that model at once.
    pub insists: bool,
}

impl<'a> Plan<'a> {
    /// Nothing but what was asked for.
    fn asked(wanted: &Wanted<'a>, why: Why<'a>) -> Self {
        Self {
            first: asked(wanted, why),
            better: Vec::new(),
            cheaper: Vec::new(),
            insists: false,
        }
    }

    /// Every choice: what the rules decide, then the better ones, then the cheaper ones.
    pub fn choices(&self) -> impl Iterator<Item = &Choice<'a>> {
        [&self.first]
            .into_iter()
            .chain(&self.better)
            .chain(&self.cheaper)
    }

    /// The choices in the order in which budgets are asked to admit them: those that fit, the one that was asked for among
    /// them, never twice.
    ///
    /// `fits` says whether a model can do what the request needs, whether its provider speaks the request's format, and
    /// whether it is not dearer than what was asked for; it is not asked about what was asked for. `stays` is what a
    /// conversation had better keep (provider and model): it goes first if it is among those that fit.
    pub fn order(
        &self,
        mut fits: impl FnMut(&Choice<'a>) -> bool,
        stays: Option<(&str, &str)>,
    ) -> Vec<Choice<'a>> {
        let mut fits = |choice: &Choice<'a>| choice.asked || fits(choice);
        let upwards = [&self.first].into_iter().chain(&self.better).copied();
        let mut upwards = upwards.filter(&mut fits).collect::<Vec<_>>().into_iter();
        let mut order: Vec<Choice<'a>> = upwards.next().into_iter().collect();
        order.extend(self.cheaper.iter().copied().filter(&mut fits));
        order.extend(upwards);
        let kept = stays.and_then(|(provider, model)| {
            let is_it = |choice: &Choice<'_>| choice.provider == provider && choice.model == model;
            order.iter().position(is_it)
        });
        if let Some(kept) = kept {
            order[..=kept].rotate_right(1);
        }
        order
    }
}

fn asked<'a>(wanted: &Wanted<'a>, why: Why<'a>) -> Choice<'a> {
    Choice {
        provider: wanted.provider,
        model: wanted.model,
        asked: true,
        why,
    }
}

/// Decides which models may serve a request.
///
/// `same` says whether a rung's model and the requested one are the same, in whatever spelling.
pub fn plan<'a>(
    routing: &'a Routing,
    wanted: &Wanted<'a>,
    same: impl Fn(&str, &str) -> bool,
) -> Plan<'a> {
    if wanted.pinned {
        return Plan::asked(wanted, Why::Pinned);
    }
    if routing.mode == Mode::Off {
        return Plan::asked(wanted, Why::Asked);
    }
    let found = routing.ladder(wanted, &same);
    let rule = routing.rule(wanted);
    let walk = Walk { wanted, found };
    let Some(rule) = rule else {
        return walk.keeping_asked(Why::Asked);
    };
    let why = Why::Rule(&rule.name);
    let rung = match (&rule.to, found) {
        (To::Asked, _) => {
            return Plan {
                insists: true,
                ..walk.keeping_asked(why)
            };
        }
        (To::Model(target), found) => {
            if is_asked(target, wanted, &same) {
                return walk.keeping_asked(why);
            }
            let rung = found.and_then(|(ladder, at)| {
                let below = ladder.rungs[at + 1..].iter();
                let place = below
                    .clone()
                    .position(|rung| same_target(rung, target, wanted, &same));
                place.map(|place| at + 1 + place)
            });
            let Some(rung) = rung else {
                return walk.beside_ladder(target, why);
            };
            Some(rung)
        }
        (_, None) => None,
        (To::Down(rungs), Some((ladder, at))) => {
            let rungs = usize::try_from(*rungs).unwrap_or(usize::MAX);
            Some(at.saturating_add(rungs).min(ladder.rungs.len() - 1))
        }
        (To::Cheap, Some((ladder, _))) => Some(ladder.cheap),
        (To::Premium, Some((ladder, _))) => Some(ladder.premium),
        (To::Bottom, Some((ladder, _))) => Some(ladder.rungs.len() - 1),
    };
    match rung {
        Some(rung) => walk.starting_at(rung, why),
        None => walk.keeping_asked(Why::Asked),
    }
}

fn is_asked(target: &Target, wanted: &Wanted<'_>, same: &impl Fn(&str, &str) -> bool) -> bool {
    let provider = target.provider.as_deref().unwrap_or(wanted.provider);
    provider == wanted.provider && same(&target.model, wanted.model)
}

fn same_target(
    one: &Target,
    other: &Target,
    wanted: &Wanted<'_>,
    same: &impl Fn(&str, &str) -> bool,
) -> bool {
    let provider = |target: &Target| match &target.provider {
        Some(provider) => **provider == *wanted.provider,
        None => true,
    };
    let same_provider = one.provider == other.provider || (provider(one) && provider(other));
    same_provider && (one.model == other.model || same(&one.model, &other.model))
}

/// A request's place on its ladder.
struct Walk<'w, 'a> {
    wanted: &'w Wanted<'a>,
    found: Option<(&'a Ladder, usize)>,
}

impl<'a> Walk<'_, 'a> {
    fn choice(&self, target: &'a Target, why: Why<'a>) -> Choice<'a> {
        Choice {
            provider: target.provider.as_deref().unwrap_or(self.wanted.provider),
            model: &target.model,
            asked: false,
            why,
        }
    }

    /// The rungs below one, the next first.
    fn below(&self, rung: usize) -> Vec<Choice<'a>> {
        let Some((ladder, _)) = self.found else {
            return Vec::new();
        };
        let why = Why::Ladder(&ladder.name);
        let rungs = ladder.rungs.iter().skip(rung + 1);
        rungs.map(|target| self.choice(target, why)).collect()
    }

    /// What was asked for, and the rungs below it.
    fn keeping_asked(&self, why: Why<'a>) -> Plan<'a> {
        Plan {
            cheaper: self.found.map_or(Vec::new(), |(_, at)| self.below(at)),
            ..Plan::asked(self.wanted, why)
        }
    }

    /// A rung of the ladder, what lies between it and what was asked for, and what is below. A rung that is not below what
    /// was asked for changes nothing.
    fn starting_at(&self, rung: usize, why: Why<'a>) -> Plan<'a> {
        match self.found {
            Some((ladder, at)) if at < rung => {
                let between = ladder.rungs[at + 1..rung].iter().rev();
                let better = between.map(|target| self.choice(target, why));
                Plan {
                    first: self.choice(&ladder.rungs[rung], why),
                    better: better.chain([asked(self.wanted, Why::Asked)]).collect(),
                    cheaper: self.below(rung),
                    insists: false,
                }
            }
            _ => self.keeping_asked(Why::Asked),
        }
    }

    /// A model that is not on the ladder below what was asked for: after it what was asked for, and the rungs below that.
    fn beside_ladder(&self, target: &'a Target, why: Why<'a>) -> Plan<'a> {
        let below = self.found.map_or(Vec::new(), |(_, at)| self.below(at));
        let after = [asked(self.wanted, Why::Asked)].into_iter().chain(below);
        Plan {
            first: self.choice(target, why),
            better: Vec::new(),
            cheaper: after.collect(),
            insists: false,
        }
    }
}
