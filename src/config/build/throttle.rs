//! `[throttle]`: where the levels begin and end, and what contradicts what there; the waiting line.

use crate::config::choice::OnUnknownPrice;
use crate::config::lookup::Lookup;
use crate::config::scalar::{OptionalLimit, TimeLimit};
use crate::config::settings::{QueueSettings, ThrottleSettings, UnknownPrice};
use crate::config::wording::percent;
use crate::policy::throttle::{Share, Thresholds};

/// The thresholds' keys, as they rise.
const RISING: [&str; 4] = [
    "throttle.warning",
    "throttle.soft",
    "throttle.hard",
    "throttle.critical",
];

pub(super) fn throttle(lookup: &mut Lookup<'_>) -> ThrottleSettings {
    let throttle = ThrottleSettings {
        mode: lookup.ask("throttle.mode"),
        thresholds: thresholds(lookup),
        time_zone: lookup.ask("throttle.time_zone"),
        max_live: lookup.ask("throttle.max_live"),
        output_quantile: lookup.ask("throttle.output_quantile"),
        unknown_price: unknown_price(lookup),
        queue: QueueSettings {
            max_waiting: lookup.ask("throttle.queue.max_waiting"),
            max_wait: lookup.ask::<TimeLimit>("throttle.queue.max_wait").0,
            keep_alive: lookup.ask::<OptionalLimit>("throttle.queue.keep_alive").0,
        },
    };
    if throttle.max_live == 0 {
        let place = lookup.place("throttle.max_live");
        let message = "`throttle.max_live` must be larger than zero".to_owned();
        let help = "about as many as are at work at once; 100000 is the default";
        lookup.object(place, "throttle.max_live", message, help);
    }
    if !(Share(1)..=Share::WHOLE).contains(&throttle.output_quantile) {
        let place = lookup.place("throttle.output_quantile");
        let message =
            "`throttle.output_quantile` must be larger than zero and at most 100%".to_owned();
        let help = "the share of past outputs that fit into what is reserved; 95% is the default";
        lookup.object(place, "throttle.output_quantile", message, help);
    }
    throttle
}

fn unknown_price(lookup: &mut Lookup<'_>) -> UnknownPrice {
    let decided = lookup.ask::<OnUnknownPrice>("throttle.unknown_price");
    let (input, output) = (
        lookup.ask("throttle.ceiling_input"),
        lookup.ask("throttle.ceiling_output"),
    );
    match decided {
        OnUnknownPrice::Allow => UnknownPrice::Allow,
        OnUnknownPrice::Refuse => UnknownPrice::Refuse,
        OnUnknownPrice::Ceiling => UnknownPrice::Ceiling { input, output },
    }
}

/// The thresholds rise from above nothing to at most all; equal ones leave a level out. A level ends before the next lower
/// one would, so the hysteresis is at most the smallest step between two thresholds.
fn thresholds(lookup: &mut Lookup<'_>) -> Thresholds {
    let problems = lookup.problems.len();
    let shares = RISING.map(|key| lookup.ask::<Share>(key));
    let hysteresis: Share = lookup.ask("throttle.hysteresis");
    let [warning, soft, hard, critical] = shares;
    let thresholds = Thresholds {
        warning,
        soft,
        hard,
        critical,
        hysteresis,
    };
    if lookup.problems.len() > problems {
        return thresholds;
    }
    if warning == Share(0) {
        let place = lookup.place(RISING[0]);
        let message = format!("`{}` must be larger than zero", RISING[0]);
        lookup.object(place, RISING[0], message, "70% is the default");
    }
    let pairs = || RISING.windows(2).zip(shares.windows(2));
    if let Some((keys, pair)) = pairs().find(|(_, pair)| pair[0] > pair[1]) {
        let [lower, upper] = [&keys[0], &keys[1]].map(|key| lookup.place(key));
        // The one that the user wrote.
        let (key, place) = match (lower, upper) {
            (Some(lower), Some(upper)) if upper.is_built_in() => (keys[0], Some(lower)),
            (_, upper) => (keys[1], upper),
        };
        let message = format!(
            "`{}` ({}) is above `{}` ({})",
            keys[0],
            percent(pair[0]),
            keys[1],
            percent(pair[1])
        );
        let help =
            "the thresholds rise: warning, soft, hard, critical; equal ones leave a level out";
        lookup.object(place, key, message, help);
        return thresholds;
    }
    let first = (("nothing", RISING[0]), warning.0);
    let gaps = pairs().map(|(keys, pair)| ((keys[0], keys[1]), pair[1].0 - pair[0].0));
    let smallest = std::iter::once(first)
        .chain(gaps)
        .filter(|(_, gap)| *gap > 0)
        .min_by_key(|(_, gap)| *gap);
    if let Some(((lower, upper), gap)) = smallest
        && hysteresis.0 > gap
    {
        let place = lookup.place("throttle.hysteresis");
        let message = format!(
            "`throttle.hysteresis` ({}) is larger than the step from `{lower}` to `{upper}` ({})",
            percent(hysteresis),
            percent(Share(gap))
        );
        let help = "a level ends when the fill is below its threshold by the hysteresis: the upper level would last longer \
                    than the lower one";
        lookup.object(place, "throttle.hysteresis", message, help);
    }
    thresholds
}
