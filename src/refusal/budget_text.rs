//! What the refusal of a budget says to a person: which budget, whose, how full, when the request passes again, and what
//! can be done.
//!
//! It never says "token limit exceeded" or "too long": agents (opencode for one) take that for an overflow of the
//! model's context window, shorten the conversation with a request of its own, and try again.

use std::time::Duration;

use super::answer::{retry_seconds, whole_seconds};
use super::{BudgetRefusal, Ending};
use crate::policy::budget::Limit;
use crate::policy::throttle::{Verdict, verdict};
use crate::units::{Cost, Priority};

/// The whole text. Holds names from the config, the name of the scope and numbers; nothing of the request's content.
pub(super) fn of(refusal: &BudgetRefusal) -> String {
    let mut parts = vec![headline(refusal), state(refusal)];
    if refusal.line_full {
        parts.push("The waiting line is full.".to_owned());
    }
    if let Some(waited) = refusal.waited {
        parts.push(format!("It waited {} in line.", lasting(waited)));
    }
    parts.extend(when(refusal));
    parts.push(remedies(refusal));
    parts.join(" ")
}

fn headline(refusal: &BudgetRefusal) -> String {
    if refusal.ending == Ending::NeverFits {
        "Request refused.".to_owned()
    } else if verdict(refusal.level, refusal.priority) == Verdict::Pass {
        // Not the level keeps it out, but its own size.
        "Request throttled: no room for it.".to_owned()
    } else {
        format!("Request throttled: {}.", refusal.level)
    }
}

/// How full the budget is, in per cent, rounded down: 94.9 % is not yet the 95 % at which CRITICAL begins.
fn per_cent(refusal: &BudgetRefusal) -> i128 {
    let used = refusal.settled.saturating_add(refusal.reserved);
    used.saturating_mul(100) / refusal.limit.max(1)
}

fn does_not_fit(refusal: &BudgetRefusal) -> bool {
    let used = refusal.settled.saturating_add(refusal.reserved);
    used.saturating_add(refusal.asked) > refusal.limit
}

fn state(refusal: &BudgetRefusal) -> String {
    let budget = &refusal.budget;
    let amount = |amount| Quantity { refusal, amount };
    let kind = match budget.limit {
        Limit::Tokens(_) => "Token budget",
        Limit::Usd(_) => "Money budget",
        Limit::Requests(_) => "Request budget",
    };
    let whose = if refusal.scope == "global" {
        String::new()
    } else {
        format!(" of {}", refusal.scope)
    };
    let (name, window) = (&budget.name, budget.window.as_str());
    let limit = amount(refusal.limit).with_unit();
    if refusal.ending == Ending::NeverFits {
        return format!(
            "{kind} {name}{whose} allows {limit} per {window} in all, and this request needs about {}, so it can never \
             pass.",
            amount(refusal.asked).with_unit()
        );
    }
    let reserved = if refusal.reserved > 0 {
        format!(
            ", {} of it reserved by running requests",
            amount(refusal.reserved).bare()
        )
    } else {
        String::new()
    };
    let needs = if does_not_fit(refusal) {
        format!(
            "; this request needs about {} more",
            amount(refusal.asked).bare()
        )
    } else {
        String::new()
    };
    format!(
        "{kind} {name}{whose} is {} % full ({} of {limit} per {window}{reserved}){needs}.",
        per_cent(refusal),
        amount(refusal.settled.saturating_add(refusal.reserved)).bare(),
    )
}

fn when(refusal: &BudgetRefusal) -> Option<String> {
    match refusal.ending {
        // In the words of OpenAI's and Google's own 429, which tools look for.
        Ending::Transient { retry_after } => Some(format!(
            "Please try again in {}s.",
            retry_seconds(retry_after)
        )),
        Ending::NeverFits => None,
        Ending::Final => match (refusal.passes_in, refusal.passes_at_unix_ms) {
            (Some(wait), Some(at)) => Some(format!(
                "It passes again {}, in {}.",
                clock(at, wait)?,
                lasting(wait)
            )),
            (Some(wait), None) => Some(format!("It passes again in {}.", lasting(wait))),
            (None, _) if refusal.reserved > 0 => {
                Some("It may pass when running requests end.".to_owned())
            }
            (None, _) => None,
        },
    }
}

fn remedies(refusal: &BudgetRefusal) -> String {
    let mut ways = Vec::new();
    if refusal.ending == Ending::Final && refusal.passes_in.is_some() {
        ways.push("wait until then".to_owned());
    }
    if does_not_fit(refusal) {
        ways.push("send a smaller request".to_owned());
    }
    ways.push(format!(
        "raise budgets.{}.limit in tollgate's config",
        refusal.budget.name
    ));
    let passing = Priority::ALL
        .into_iter()
        .filter(|priority| *priority > refusal.priority && would_pass(refusal, *priority))
        .map(Priority::as_str)
        .collect::<Vec<_>>();
    if !passing.is_empty() {
        ways.push(format!(
            "send it with priority {} if it is that urgent (it has {})",
            either(&passing),
            refusal.priority
        ));
    }
    if matches!(refusal.budget.limit, Limit::Usd(_)) {
        ways.push("use a free local model".to_owned());
    }
    let mut text = match ways.split_last() {
        Some((last, [])) => format!("{last}."),
        Some((last, others)) => format!("{}, or {last}.", others.join(", ")),
        None => String::new(),
    };
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    text
}

/// Whether the same request would pass now with another priority. The contract's table, with its last row.
fn would_pass(refusal: &BudgetRefusal, priority: Priority) -> bool {
    if does_not_fit(refusal) {
        return priority == Priority::Critical && !refusal.budget.hard;
    }
    verdict(refusal.level, priority) == Verdict::Pass
}

/// An amount in the unit of the refusal's budget.
#[derive(Clone, Copy)]
struct Quantity<'a> {
    refusal: &'a BudgetRefusal,
    amount: i128,
}

impl Quantity<'_> {
    /// `93,000`, `$4.65`.
    fn bare(self) -> String {
        match self.refusal.budget.limit {
            Limit::Tokens(_) | Limit::Requests(_) => with_commas(&self.amount.max(0).to_string()),
            Limit::Usd(limit) => {
                // A budget of a few cents would read as nothing in whole cents.
                let small = limit.attos() < Cost::ONE_USD.attos();
                let decimals = if small { 6 } else { 2 };
                let text = Cost::from_attos(self.amount.max(0)).display(decimals);
                match text.split_once('.') {
                    Some((whole, cents)) => format!("${}.{cents}", with_commas(whole)),
                    None => format!("${text}"),
                }
            }
        }
    }

    /// `93,000 tokens`, `$4.65`.
    fn with_unit(self) -> String {
        let plural = if self.amount == 1 { "" } else { "s" };
        match self.refusal.budget.limit {
            Limit::Tokens(_) => format!("{} token{plural}", self.bare()),
            Limit::Requests(_) => format!("{} request{plural}", self.bare()),
            Limit::Usd(_) => self.bare(),
        }
    }
}

/// Digits with a comma before every three.
fn with_commas(digits: &str) -> String {
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A moment: the time of day while it is less than a day ahead, else with its date. Never earlier than the moment.
fn clock(at_unix_ms: u64, ahead: Duration) -> Option<String> {
    const MINUTE_MS: u64 = 60_000;
    let (step, format) = if ahead < Duration::from_secs(120) {
        (1000, "at %H:%M:%S UTC")
    } else if ahead < Duration::from_secs(86_400) {
        (MINUTE_MS, "at %H:%M UTC")
    } else {
        (MINUTE_MS, "on %-d %B at %H:%M UTC")
    };
    let rounded = at_unix_ms.div_ceil(step).saturating_mul(step);
    let moment = jiff::Timestamp::from_millisecond(i64::try_from(rounded).ok()?).ok()?;
    Some(moment.strftime(format).to_string())
}

/// `high`, `high or critical`, `normal, high or critical`.
fn either(words: &[&str]) -> String {
    match words.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

/// A time in the one or two units that matter, rounded up: `45 s`, `12 min`, `3 h 20 min`, `9 days`.
fn lasting(time: Duration) -> String {
    let seconds = whole_seconds(time);
    let minutes = seconds.div_ceil(60);
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{minutes} min"),
        7_200..=172_799 if minutes.is_multiple_of(60) => format!("{} h", minutes / 60),
        7_200..=172_799 => format!("{} h {} min", minutes / 60, minutes % 60),
        _ => format!("{} days", seconds.div_ceil(86_400)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_people_say_them_and_are_never_short() {
        let cases = [
            (Duration::from_millis(1), "1 s"),
            (Duration::from_secs(119), "119 s"),
            (Duration::from_secs(721), "13 min"),
            (Duration::from_secs(7_200), "2 h"),
            (Duration::from_secs(12_000), "3 h 20 min"),
            (Duration::from_secs(172_801), "3 days"),
        ];
        for (time, text) in cases {
            assert_eq!(lasting(time), text);
        }
    }

    #[test]
    fn a_moment_is_never_told_too_early() {
        // 21 November 2026, 12:33:35.001 UTC.
        const AT_MS: u64 = 1_795_264_415_001;
        let told = |seconds| clock(AT_MS, Duration::from_secs(seconds));
        assert_eq!(told(60).as_deref(), Some("at 12:33:36 UTC"));
        assert_eq!(told(700).as_deref(), Some("at 12:34 UTC"));
        assert_eq!(told(90_000).as_deref(), Some("on 21 November at 12:34 UTC"));
        assert_eq!(clock(u64::MAX, Duration::from_secs(1)), None);
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (digits, text) in [
            ("0", "0"),
            ("999", "999"),
            ("1000", "1,000"),
            ("1234567", "1,234,567"),
        ] {
            assert_eq!(with_commas(digits), text);
        }
    }
}
