//! `[send]` and `[[limits]]`: how requests wait for their provider and are sent again, and what limits it has.

use crate::config::lookup::Lookup;
use crate::config::scalar::TimeLimit;
use crate::config::settings::SendSettings;
use crate::policy::limits::LimitRule;
use crate::policy::throttle::Share;

/// Most retries that anybody can want of one request.
const MOST_RETRIES: usize = 20;

pub(super) fn send(lookup: &mut Lookup<'_>) -> SendSettings {
    let max_retries: usize = lookup.ask("send.max_retries");
    if max_retries > MOST_RETRIES {
        let place = lookup.place("send.max_retries");
        let message = format!("`send.max_retries` is larger than {MOST_RETRIES}");
        lookup.object(place, "send.max_retries", message, "3 is the default");
    }
    let share: Share = lookup.ask("send.retry_share");
    SendSettings {
        max_retries: u32::try_from(max_retries).unwrap_or(u32::MAX),
        retry_percent: share.0 / (Share::WHOLE.0 / 100),
        learn: lookup.ask("send.learn"),
        max_waiting: lookup.ask("send.max_waiting"),
        deadlines: [
            "send.deadline_low",
            "send.deadline_normal",
            "send.deadline_high",
            "send.deadline_critical",
        ]
        .map(|key| lookup.ask::<TimeLimit>(key).0),
    }
}

pub(super) fn limits(lookup: &mut Lookup<'_>) -> Vec<LimitRule> {
    let rules: Vec<LimitRule> = lookup.ask_tables("limits");
    let zero = rules.iter().any(|rule| {
        let small = [
            rule.concurrency,
            rule.requests_per_second,
            rule.requests_per_minute,
            rule.requests_per_day,
        ];
        let large = [
            rule.tokens_per_minute,
            rule.input_tokens_per_minute,
            rule.output_tokens_per_minute,
        ];
        small.contains(&Some(0)) || large.contains(&Some(0))
    });
    if zero {
        let place = lookup.place("limits");
        let help = "nothing could ever pass; for no limit leave the key out";
        let message = "a limit under `limits` is 0".to_owned();
        lookup.object(place, "limits", message, help);
    }
    rules
}
