//! At start: what the ledger knows of the budgets' windows is counted again, so that a restart, a crash or a sleep frees
//! nothing. Estimates learn from the same requests.

use super::gate::Gate;
use super::standing::{self, ThrottleNow};
use super::throttle::Throttle;
use crate::config::settings::{Settings, ThrottleMode};
use crate::llm::catalogue::Catalogue;
use crate::llm::usage::Provenance;
use crate::policy::budget::{Amounts, Scopes, Window};
use crate::policy::budgets::Filter;
use crate::policy::calendar::Calendar;
use crate::store::recall::{Past, PastRequest, Recall, Recalled};
use crate::store::record::Outcome;
use crate::store::sums::{Group, Sum};
use crate::store::{HOUR_MS, Ledger, ReadError};

/// How far back requests are read for the estimates alone.
const LEARN_FROM_MS: u64 = HOUR_MS;

/// How far back the budgets look from a moment.
fn span(settings: &Settings, now_ms: u64) -> Recall {
    let windows = || settings.budgets.iter().map(|budget| budget.window);
    let rolling = windows().filter_map(Window::rolling_ms).max();
    // A slot of a sixtieth counts until it lies wholly outside its window.
    let rolling = rolling.map_or(0, |length| length + length / 60);
    let single_since_unix_ms = now_ms.saturating_sub(rolling.max(LEARN_FROM_MS));
    let month = windows().any(|window| window == Window::Month).then(|| {
        let calendar = Calendar::new(settings.throttle.time_zone.clone());
        calendar.month_of(now_ms).begins_ms
    });
    Recall {
        since_unix_ms: month.map_or(single_since_unix_ms, |begin| {
            begin.min(single_since_unix_ms)
        }),
        single_since_unix_ms,
    }
}

/// Counts what the ledger knows. Blocks while it reads.
///
/// # Errors
/// The ledger cannot be read: then budgets would stand lower than what was spent, so the caller must not serve.
pub(super) fn recall(
    throttle: &Throttle,
    settings: &Settings,
    catalogue: &Catalogue,
    ledger: &Ledger,
    now_ms: u64,
) -> Result<Recalled, ReadError> {
    if throttle.mode == ThrottleMode::Off {
        return Ok(Recalled::default());
    }
    let asked = span(settings, now_ms);
    throttle.recall(|budgets, learned| {
        ledger.recall(asked, &mut |past| match past {
            Past::Hour(group, sum) => {
                let (scopes, used) = of_hour(settings, catalogue, group, sum);
                // At the hour's end, so that nothing is forgotten early; and the hour in which the month begins counts as
                // the month's.
                let at_ms = (u64::from(group.hour) + 1) * HOUR_MS - 1;
                budgets.recall(&scopes, &used, at_ms, now_ms);
            }
            Past::Request(request) => {
                let model = model(
                    settings,
                    catalogue,
                    request.provider,
                    request.asked_to_serve(),
                );
                let scopes = Scopes {
                    session: request.session,
                    key: request.key,
                    team: request.team,
                    provider: request.provider,
                    model,
                };
                let at_ms = request.finished_unix_ms;
                budgets.recall(&scopes, &request.charges(), at_ms, now_ms);
                if let Some(model) = model.filter(|_| can_be_learned_from(request)) {
                    let caller = request.key.unwrap_or_default();
                    // Without the prompt's size, only outputs are learned from it.
                    learned.learn(model, caller, 0, &request.usage);
                }
            }
        })
    })
}

fn of_hour<'a>(
    settings: &Settings,
    catalogue: &'a Catalogue,
    group: &'a Group,
    sum: &Sum,
) -> (Scopes<'a>, Amounts) {
    let scopes = Scopes {
        session: &group.session,
        key: group.key.as_deref(),
        team: group.team.as_deref(),
        provider: &group.provider,
        model: model(
            settings,
            catalogue,
            &group.provider,
            group.requested_model.as_deref().or(group.model.as_deref()),
        ),
    };
    (scopes, sum.charges(group))
}

/// The model by its one name, as budgets know it.
fn model<'a>(
    settings: &Settings,
    catalogue: &'a Catalogue,
    provider: &str,
    model: Option<&'a str>,
) -> Option<&'a str> {
    let known = settings
        .providers
        .iter()
        .find(|known| known.name == provider);
    let provider = known.map_or(provider, |known| &known.catalogue);
    model.map(|model| catalogue.one_name(provider, model))
}

fn can_be_learned_from(request: &PastRequest<'_>) -> bool {
    request.outcome == Outcome::Complete
        && request.provenance == Provenance::Reported
        && request.usage.output > 0
}

/// How the budgets stand as the ledger says, for when no proxy runs.
///
/// # Errors
/// The ledger cannot be read.
pub fn throttle_of_ledger(
    settings: &Settings,
    catalogue: &Catalogue,
    ledger: &Ledger,
    now_ms: u64,
) -> Result<ThrottleNow, ReadError> {
    let throttle = Throttle::new(settings, catalogue);
    recall(&throttle, settings, catalogue, ledger, now_ms)?;
    Ok(throttle.recall(|budgets, _| {
        let about = standing::About {
            mode: settings.throttle.mode,
            at_unix_ms: now_ms,
            thresholds: &settings.throttle.thresholds,
            waiting: 0,
            live_scopes: budgets.live(),
            lanes: Vec::new(),
        };
        let standings = budgets.standings(now_ms, &Filter::All);
        standing::throttle_now(&standings, &about)
    }))
}

impl Gate {
    /// Counts what the ledger knows of the budgets' windows; to be called once, before anything is served. Blocks.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn recall(&self) -> Result<Recalled, ReadError> {
        let now_ms = self.clock.unix_ms();
        let (settings, catalogue) = (&self.settings, &self.catalogue);
        let recalled = recall(&self.throttle, settings, catalogue, &self.ledger, now_ms)?;
        self.throttle.bound(self);
        Ok(recalled)
    }
}
