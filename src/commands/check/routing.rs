//! What routing means: which requests each rule is for and what serves them, and what each rung of a ladder costs.

use std::fmt::Write as _;

use serde_json::json;

use super::plain_table;
use crate::config::rungs::{Rung, RungPrice};
use crate::config::settings::Settings;
use crate::config::wording;
use crate::llm::catalogue::Catalogue;
use crate::policy::priority::Pattern;
use crate::policy::routing::{Ladder, Mode, RouteRule, Target, To};

/// The rules and the ladders as tables.
pub(super) fn text(settings: &Settings, catalogue: &Catalogue, at_unix_ms: u64) -> String {
    let routing = &settings.routing;
    let mode = match routing.mode {
        Mode::On => "the first rule that matches decides which model serves",
        Mode::Shadow => {
            "in shadow: it is recorded what would have been saved, and no model is changed"
        }
        Mode::Off => return "routing: switched off: no model is changed\n".to_owned(),
    };
    let mut rules = plain_table(["route", "for requests", "served by"]);
    for rule in &routing.rules {
        rules.add_row([rule.name.clone(), conditions(rule), served_by(&rule.to)]);
    }
    let mut ladders = plain_table([
        "ladder",
        "rung",
        "named",
        "USD per million: input",
        "output",
    ]);
    for ladder in &routing.ladders {
        for (index, target) in ladder.rungs.iter().enumerate() {
            let name = if index == 0 { ladder.name.as_str() } else { "" };
            let (input, output) = match price(settings, catalogue, ladder, target, at_unix_ms) {
                Some(price) => (wording::usd(price.input), wording::usd(price.output)),
                None => ("not known".to_owned(), "not known".to_owned()),
            };
            let named = named(ladder, index).join(", ");
            ladders.add_row([name, &target.to_string(), &named, &input, &output]);
        }
    }
    let border = if routing.only_at_user_turn {
        "only where a new turn of the user begins, "
    } else {
        ""
    };
    let keep = humantime::format_duration(routing.keep);
    let mut text = format!("{rules}\n\n{ladders}\n");
    let _ = writeln!(
        text,
        "routing: {mode}\n\
         a request that no rule matches stays with its model; where budgets do not admit a model, the next rung below is tried\n\
         a conversation changes its model {border}not within {keep} of a change, and not while its prompt cache is worth more"
    );
    text
}

fn price(
    settings: &Settings,
    catalogue: &Catalogue,
    ladder: &Ladder,
    target: &Target,
    at_unix_ms: u64,
) -> Option<RungPrice> {
    let rung = Rung::of(settings, ladder, target)?;
    rung.price(catalogue, at_unix_ms).ok()
}

/// What rules call a rung.
fn named(ladder: &Ladder, index: usize) -> Vec<&'static str> {
    let names = [("premium", ladder.premium), ("cheap", ladder.cheap)];
    let names = names.into_iter().filter(|(_, rung)| *rung == index);
    names.map(|(name, _)| name).collect()
}

fn patterns(rule: &RouteRule) -> [(&'static str, Option<&Pattern>); 6] {
    [
        ("task", rule.task.as_ref()),
        ("model", rule.model.as_ref()),
        ("provider", rule.provider.as_ref()),
        ("session", rule.session.as_ref()),
        ("key", rule.key.as_ref()),
        ("team", rule.team.as_ref()),
    ]
}

/// `of task ui, of session dev-*, at level SOFT or above`.
fn conditions(rule: &RouteRule) -> String {
    let mut parts: Vec<String> = Vec::new();
    match rule.simple {
        Some(true) => parts.push("that are simple".to_owned()),
        Some(false) => parts.push("that are not simple".to_owned()),
        None => {}
    }
    for (name, pattern) in patterns(rule) {
        parts.extend(pattern.map(|pattern| format!("of {name} {}", pattern.as_str())));
    }
    parts.extend(
        rule.priority
            .map(|priority| format!("of {priority} priority")),
    );
    parts.extend(rule.level.map(|level| format!("at level {level} or above")));
    if parts.is_empty() {
        "all".to_owned()
    } else {
        parts.join(", ")
    }
}

fn served_by(to: &To) -> String {
    match to {
        To::Asked => "the model that is asked for".to_owned(),
        To::Down(1) => "the rung below it".to_owned(),
        To::Down(rungs) => format!("{rungs} rungs below it"),
        To::Cheap => "the ladder's cheap rung".to_owned(),
        To::Premium => "the ladder's premium rung".to_owned(),
        To::Bottom => "the ladder's last rung".to_owned(),
        To::Model(target) => target.to_string(),
    }
}

/// The same for scripts: prices as exact decimals in US dollars for a million tokens, `null` where they are not known.
pub(super) fn json(
    settings: &Settings,
    catalogue: &Catalogue,
    at_unix_ms: u64,
) -> serde_json::Value {
    let routing = &settings.routing;
    let rules: serde_json::Value = routing.rules.iter().map(rule_json).collect();
    let ladders: serde_json::Value = routing
        .ladders
        .iter()
        .map(|ladder| {
            let rungs = ladder.rungs.iter().enumerate().map(|(index, target)| {
                let price = price(settings, catalogue, ladder, target, at_unix_ms);
                json!({
                    "provider": target.provider,
                    "model": target.model,
                    "named": named(ladder, index),
                    "input": price.map(|price| price.input.to_string()),
                    "output": price.map(|price| price.output.to_string()),
                })
            });
            let beside = ladder.beside.iter().map(|(pattern, rung)| {
                json!({ "model": pattern.as_str(), "rung": ladder.rungs[*rung].to_string() })
            });
            json!({
                "name": ladder.name,
                "provider": ladder.provider,
                "built_in": ladder.block.is_none(),
                "rungs": rungs.collect::<Vec<_>>(),
                "beside": beside.collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({
        "mode": routing.mode.as_str(),
        "keep_seconds": routing.keep.as_secs(),
        "only_at_user_turn": routing.only_at_user_turn,
        "rules": rules,
        "ladders": ladders,
    })
}

fn rule_json(rule: &RouteRule) -> serde_json::Value {
    let mut when = serde_json::Map::new();
    for (name, pattern) in patterns(rule) {
        if let Some(pattern) = pattern {
            when.insert(name.to_owned(), pattern.as_str().into());
        }
    }
    if let Some(simple) = rule.simple {
        when.insert("simple".to_owned(), simple.into());
    }
    if let Some(priority) = rule.priority {
        when.insert("priority".to_owned(), priority.as_str().into());
    }
    if let Some(level) = rule.level {
        when.insert("level".to_owned(), level.as_str().into());
    }
    json!({
        "name": rule.name,
        "built_in": rule.block.is_none(),
        "when": when,
        "to": rule.to.to_string(),
    })
}
