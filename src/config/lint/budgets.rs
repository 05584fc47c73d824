//! Budgets that can never hold a request back: a tighter one is always there first, nothing is ever charged to them, or
//! nobody is ever meant.

use super::{Finding, meant};
use crate::config::settings::{AuthMode, Settings, UnknownPrice};
use crate::config::wording;
use crate::llm::catalogue::Catalogue;
use crate::policy::budget::{Budget, Limit, ScopeKind, Window};
use crate::policy::throttle::Thresholds;
use crate::units::Cost;

pub(super) fn lint(settings: &Settings, catalogue: &Catalogue, findings: &mut Vec<Finding>) {
    let budgets = &settings.budgets;
    for (index, budget) in budgets.iter().enumerate() {
        if let Some(finding) = nobody(settings, catalogue, budget) {
            findings.push(finding);
            continue;
        }
        if let Some(finding) = costs_nothing(settings, catalogue, budget) {
            findings.push(finding);
            continue;
        }
        let tighter = budgets
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != index)
            .filter_map(|(other, tighter)| {
                let bound = bound(tighter, budget, &settings.throttle.thresholds)?;
                // Of two that are the same, the later one is too many.
                let mutual = same(tighter, budget) && other > index;
                (!mutual).then_some((tighter, bound))
            })
            .min_by_key(|(tighter, bound)| (tighter.window != budget.window, *bound));
        if let Some((tighter, bound)) = tighter {
            let thresholds = &settings.throttle.thresholds;
            findings.push(never_binds(budget, tighter, bound, thresholds));
        }
    }
}

/// How often one window fits into another, at most: for people, and with one to spare for the coarse steps of rolling
/// windows and the hour that a month can be longer. `None` if the first is the longer one.
fn fits(shorter: Window, longer: Window) -> Option<i128> {
    match (shorter, longer) {
        (a, b) if a == b => Some(1),
        (Window::Minute, Window::Hour) => Some(60),
        (Window::Minute, Window::Day) => Some(24 * 60),
        (Window::Minute, Window::Month) => Some(31 * 24 * 60),
        (Window::Hour, Window::Day) => Some(24),
        (Window::Hour, Window::Month) => Some(31 * 24),
        (Window::Day, Window::Month) => Some(31),
        _ => None,
    }
}

/// What `tighter` lets through at most in the window of `budget`, if that never brings `budget` to a level at which
/// anybody waits.
///
/// In the same window it is never fuller than a budget of at most its limit that counts at least the same, so it never
/// decides. Over a longer window it must stay below SOFT, since only whole windows can be compared.
fn bound(tighter: &Budget, budget: &Budget, thresholds: &Thresholds) -> Option<i128> {
    let same_unit = tighter.limit.unit() == budget.limit.unit();
    let counts_as_much = tighter.counts_cache_reads || !budget.counts_cache_reads;
    let as_hard = tighter.hard || !budget.hard;
    if !same_unit || !counts_as_much || !as_hard || !covers(tighter, budget) {
        return None;
    }
    let times = fits(tighter.window, budget.window)?;
    let (least, limit) = (tighter.limit.amount(), budget.limit.amount());
    let never = if times == 1 {
        least <= limit
    } else {
        // least × (times + 1) < limit × soft
        let soft = i128::from(thresholds.soft.0);
        let most = least.checked_mul(times + 1)?.checked_mul(1_000_000)?;
        most < limit.checked_mul(soft)?
    };
    never.then(|| least.saturating_mul(times))
}

/// Whether everything that is charged to the one is charged to the other too, in one sum.
fn covers(tighter: &Budget, budget: &Budget) -> bool {
    tighter.scope == ScopeKind::Global
        || (tighter.scope == budget.scope
            && (tighter.only.is_none() || tighter.only == budget.only))
}

fn same(one: &Budget, other: &Budget) -> bool {
    let named = |budget: &Budget| Budget {
        name: String::new(),
        ..budget.clone()
    };
    named(one) == named(other)
}

fn never_binds(budget: &Budget, tighter: &Budget, bound: i128, thresholds: &Thresholds) -> Finding {
    let (name, by) = (&budget.name, &tighter.name);
    let amount = wording::limit(tighter.limit);
    let over = wording::window(tighter.window);
    let message = if tighter.window == budget.window {
        format!(
            "budget `{name}` can never hold a request back: `{by}` allows {} {amount} {over}, and {} is not less",
            wording::whose(tighter),
            wording::limit(budget.limit),
        )
    } else {
        let beyond = if tighter.hard {
            ""
        } else {
            " (but for critical requests)"
        };
        format!(
            "budget `{name}` can never hold a request back: `{by}` allows {amount} {over}, so at most {} {}{beyond}, and \
             SOFT begins at {} of {}",
            wording::limit(of_unit(budget.limit, bound)),
            wording::window(budget.window),
            wording::percent(thresholds.soft),
            wording::limit(budget.limit),
        )
    };
    let help = format!(
        "lower its limit, raise that of `{by}`, or switch it off: budgets.{name}.enabled = false"
    );
    Finding::warning(
        "budget-never-binds",
        format!("budgets.{name}.limit"),
        message,
        help,
    )
    .because(format!("budgets.{by}.limit"))
}

fn of_unit(unit: Limit, amount: i128) -> Limit {
    let count = u64::try_from(amount).unwrap_or(u64::MAX);
    match unit {
        Limit::Tokens(_) => Limit::Tokens(count),
        Limit::Requests(_) => Limit::Requests(count),
        Limit::Usd(_) => Limit::Usd(Cost::from_attos(amount)),
    }
}

/// A budget in usd for what costs nothing.
fn costs_nothing(settings: &Settings, catalogue: &Catalogue, budget: &Budget) -> Option<Finding> {
    // Otherwise it decides about models whose price is not known.
    if settings.throttle.unknown_price != UnknownPrice::Allow
        || !matches!(budget.limit, Limit::Usd(_))
        || budget.scope != ScopeKind::Provider
    {
        return None;
    }
    let named = budget.only.as_deref()?;
    let provider = settings
        .providers
        .iter()
        .find(|provider| provider.name == named)?;
    let mut models = catalogue
        .models()
        .iter()
        .filter(|model| *model.provider == *provider.catalogue)
        .peekable();
    (models.peek().is_some() && models.all(|model| model.free)).then(|| {
        let name = &budget.name;
        Finding::warning(
            "budget-of-nothing",
            format!("budgets.{name}.limit"),
            format!(
                "budget `{name}` can never hold a request back: it counts money, and every model of `{named}` is free"
            ),
            "give it a limit in tokens or requests; [[models]] can give a model a price",
        )
    })
}

/// A budget for somebody who does not exist.
fn nobody(settings: &Settings, catalogue: &Catalogue, budget: &Budget) -> Option<Finding> {
    let name = &budget.name;
    let (message, help) = match (budget.scope, budget.only.as_deref()) {
        (ScopeKind::Team, _) if settings.auth.mode == AuthMode::Passthrough => (
            format!("budget `{name}` is for teams, and in mode \"passthrough\" nobody has one"),
            "tollgate keys belong to teams: set auth.mode = \"keys\"".to_owned(),
        ),
        (ScopeKind::Team, _) if settings.teams.is_empty() => (
            format!("budget `{name}` is for teams, and there is none"),
            "add one: a section [teams.NAME]".to_owned(),
        ),
        (ScopeKind::Team, Some(team)) if !settings.teams.contains_key(team) => (
            format!("budget `{name}` is for team `{team}`, which does not exist"),
            meant(team, settings.teams.keys().map(String::as_str)),
        ),
        (ScopeKind::Provider, Some(provider)) => {
            let known = settings.providers.iter().map(|known| known.name.as_str());
            if known.clone().any(|known| known == provider) {
                return None;
            }
            (
                format!("budget `{name}` is for provider `{provider}`, which does not exist or is switched off"),
                meant(provider, known),
            )
        }
        (ScopeKind::Key, Some(key)) if !can_be_key(settings.auth.mode, key) => (
            format!(
                "budget `{name}` is for a key by its name, and in mode \"passthrough\" keys have only fingerprints"
            ),
            "a fingerprint is key- and 12 hexadecimal digits, as in `tollgate usage --by key`; or set auth.mode = \"keys\""
                .to_owned(),
        ),
        (ScopeKind::Model, Some(model)) => {
            let id = other_name(settings, catalogue, model)?;
            (
                format!("budget `{name}` is for model `{model}`, which is another name of `{id}`: models are counted by that"),
                format!("write \"model:{id}\""),
            )
        }
        _ => return None,
    };
    Some(Finding::warning(
        "budget-of-nobody",
        format!("budgets.{name}.scope"),
        message,
        help,
    ))
}

/// Whether requests can come under this name of a key: in mode `passthrough` only under a fingerprint.
pub(super) fn can_be_key(mode: AuthMode, key: &str) -> bool {
    let is_fingerprint = |digits: &str| {
        digits.len() == 12
            && digits
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    mode == AuthMode::Keys || key.strip_prefix("key-").is_some_and(is_fingerprint)
}

/// The name under which a model is counted, where every provider that knows the given one counts it under another.
fn other_name<'c>(settings: &Settings, catalogue: &'c Catalogue, model: &str) -> Option<&'c str> {
    let mut ids = settings
        .providers
        .iter()
        .filter_map(|provider| catalogue.resolve(&provider.catalogue, model))
        // The entries that stand for any local or free model keep the name that was asked for.
        .filter(|known| !known.id.contains('*'))
        .map(|known| &*known.id);
    let first = ids.next()?;
    (first != model && ids.all(|id| id != model)).then_some(first)
}
