//! Checks a request against the rules that need no counting.
//!
//! - A request that states no limit for its output may write as much as its model can: where that is more than the rule
//!   allows, or not known, the request has to state one.
//! - A tool's name may be the client's own invention; types of the provider's tools are not, and they count with and
//!   without their date (`web_search_20250305`, `web_search`).
//! - A request that says nothing about its depth is at the top.

use std::borrow::Cow;
use std::fmt;

use super::{Applied, Violation};
use crate::policy::priority::Pattern;

/// How many patterns a message lists.
const MAX_LISTED: usize = 12;

/// Longest name of a model or tool in a message, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// What the rules are about.
#[derive(Debug, Clone, Copy, Default)]
pub struct PolicyFacts<'a> {
    /// How deep the asking agent has called itself, where that is stated.
    pub depth: Option<u32>,
    /// What is asked of a model; `None` where no model is asked (files, unknown paths): then only the depth counts, and
    /// `unseen`.
    pub model: Option<ModelFacts<'a>>,
    /// Something is sent on a way that is not understood, so that it may ask any work of any model.
    pub unseen: bool,
}

/// What is asked of a model.
#[derive(Debug, Clone, Copy)]
pub struct ModelFacts<'a> {
    /// The model, if it can be told.
    pub name: Option<&'a str>,
    /// What the body says; `None` if it cannot be read.
    pub body: Option<BodyFacts<'a>>,
}

/// What a body says.
#[derive(Debug, Clone, Copy)]
pub struct BodyFacts<'a> {
    /// Estimated tokens of the prompt; `None` if the provider holds a part of it.
    pub prompt_tokens: Option<u64>,
    /// The output; `None` where the answer is not counted in output tokens (embeddings, images).
    pub output: Option<OutputFacts>,
    /// The tools that are declared. Empty for one without a readable name.
    pub tools: &'a [Cow<'a, str>],
    /// The provider holds something that may declare tools.
    pub hidden_tools: bool,
    /// Models besides [`ModelFacts::name`] that may come to serve. Empty for one that cannot be read.
    pub other_models: &'a [Cow<'a, str>],
}

/// How much output is asked for.
#[derive(Debug, Clone, Copy)]
pub struct OutputFacts {
    /// The most tokens of each answer, where the request states them.
    pub cap: Option<u64>,
    /// How many answers.
    pub choices: u32,
    /// The most that the model can write, where that is known.
    pub model_most: Option<u64>,
    /// The field in which the client's wire format states the cap.
    pub field: &'static str,
}

/// Checks a request against all of its caller's policies.
///
/// # Errors
///
/// The first rule that forbids it.
pub fn check(policies: &[Applied<'_>], facts: &PolicyFacts<'_>) -> Result<(), Violation> {
    for applied in policies {
        depth(applied, facts)?;
        if facts.unseen {
            unseen(applied)?;
        }
        if let Some(model) = &facts.model {
            models(applied, model)?;
            tools(applied, model)?;
            prompt(applied, model)?;
            output(applied, model)?;
        }
    }
    Ok(())
}

fn depth(applied: &Applied<'_>, facts: &PolicyFacts<'_>) -> Result<(), Violation> {
    match (applied.policy.max_depth, facts.depth) {
        (Some(most), Some(depth)) if depth > most => Err(applied.violated(
            "max_depth",
            format!(
                "the request comes from an agent at depth {depth}, and at most {most} is allowed; let an agent further \
                 up do the work"
            ),
        )),
        _ => Ok(()),
    }
}

fn unseen(applied: &Applied<'_>) -> Result<(), Violation> {
    let policy = applied.policy;
    let rule = match (&policy.models, &policy.tools) {
        (Some(_), _) => "models",
        (None, Some(_)) => "tools",
        (None, None) => return Ok(()),
    };
    Err(applied.violated(
        rule,
        "this path is not one that can be checked, so what is sent there may ask any model for anything; use the \
         provider's usual paths"
            .to_owned(),
    ))
}

fn models(applied: &Applied<'_>, asked: &ModelFacts<'_>) -> Result<(), Violation> {
    let Some(allowed) = &applied.policy.models else {
        return Ok(());
    };
    let violated = |message| Err(applied.violated("models", message));
    let Some(model) = asked.name else {
        return violated(format!(
            "it cannot be told which model is asked for; name one in a body that can be read; allowed: {}",
            Listed(allowed)
        ));
    };
    let others = asked.body.map_or(&[][..], |body| body.other_models);
    let mut named = std::iter::once(model).chain(others.iter().map(|name| &**name));
    match named.find(|name| !allowed.iter().any(|pattern| pattern.matches(name))) {
        Some(name) => violated(format!(
            "model {} is not allowed; allowed: {}",
            Shown(name),
            Listed(allowed)
        )),
        None => Ok(()),
    }
}

fn tools(applied: &Applied<'_>, asked: &ModelFacts<'_>) -> Result<(), Violation> {
    let Some(allowed) = &applied.policy.tools else {
        return Ok(());
    };
    let violated = |message| Err(applied.violated("tools", message));
    let Some(body) = &asked.body else {
        return violated(unreadable("which tools it declares"));
    };
    if body.hidden_tools {
        return violated(
            "the provider holds a part of the request (a template, cached content, a thread), so it cannot be checked \
             which tools it declares; send the whole request"
                .to_owned(),
        );
    }
    let allows = |name: &str| {
        let undated = without_date(name);
        let allows = |pattern: &Pattern| pattern.matches(name) || pattern.matches(undated);
        allowed.iter().any(allows)
    };
    match body.tools.iter().find(|name| !allows(name)) {
        Some(name) => violated(format!(
            "tool {} is not allowed; allowed: {}",
            Shown(name),
            Listed(allowed)
        )),
        None => Ok(()),
    }
}

fn prompt(applied: &Applied<'_>, asked: &ModelFacts<'_>) -> Result<(), Violation> {
    let Some(most) = applied.policy.max_prompt_tokens else {
        return Ok(());
    };
    let violated = |message| Err(applied.violated("max_prompt", message));
    let Some(body) = &asked.body else {
        return violated(unreadable("how large its prompt is"));
    };
    match body.prompt_tokens {
        None => violated(format!(
            "the provider holds a part of the prompt, so it cannot be checked against the {most} tokens that are \
             allowed; send the whole prompt"
        )),
        Some(tokens) if tokens > most => violated(format!(
            "the prompt has about {tokens} tokens, and at most {most} are allowed; shorten it or begin a new \
             conversation"
        )),
        Some(_) => Ok(()),
    }
}

fn output(applied: &Applied<'_>, asked: &ModelFacts<'_>) -> Result<(), Violation> {
    let Some(most) = applied.policy.max_output_tokens else {
        return Ok(());
    };
    let violated = |message| Err(applied.violated("max_output", message));
    let Some(body) = &asked.body else {
        return violated(unreadable("how much output it asks for"));
    };
    let Some(output) = &body.output else {
        return Ok(());
    };
    let choices = u64::from(output.choices.max(1));
    let advice = match (choices, most / choices) {
        (1, each) => format!("set {} to {each} or less", output.field),
        (_, each) => format!(
            "ask for fewer answers, or set {} to {each} or less",
            output.field
        ),
    };
    match (output.cap, output.model_most) {
        (Some(cap), _) if cap.saturating_mul(choices) > most => {
            let asked = match choices {
                1 => format!("{cap} output tokens"),
                _ => format!("{choices} answers of up to {cap} output tokens"),
            };
            violated(format!(
                "{asked} are asked for, and at most {most} are allowed; {advice}"
            ))
        }
        (Some(_), _) => Ok(()),
        (None, Some(model)) if model.saturating_mul(choices) <= most => Ok(()),
        (None, Some(model)) => violated(format!(
            "the request states no limit for its output, the model writes up to {model} tokens, and at most {most} are \
             allowed; {advice}"
        )),
        (None, None) => violated(format!(
            "the request states no limit for its output, and at most {most} tokens are allowed; {advice}"
        )),
    }
}

fn unreadable(what: &str) -> String {
    format!(
        "the request's body cannot be read, so it cannot be checked {what}; send it in the provider's format, encoded \
         with gzip, deflate, br, zstd or not at all"
    )
}

/// A tool's type without the date at its end, in both spellings: `web_search_20250305`,
/// `web_search_preview_2025_03_11`.
fn without_date(name: &str) -> &str {
    let ends = |lengths: &[usize]| {
        let mut rest = name;
        for length in lengths {
            let (before, digits) = rest.rsplit_once('_')?;
            let dated = digits.len() == *length && digits.bytes().all(|byte| byte.is_ascii_digit());
            rest = dated.then_some(before)?;
        }
        Some(rest)
    };
    ends(&[8]).or_else(|| ends(&[2, 2, 4])).unwrap_or(name)
}

/// A name as a message shows it: whole if it is short and plain, because it is anybody's text.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "" => f.write_str("without a readable name"),
            name if name.len() <= MAX_NAME_BYTES
                && name.bytes().all(|byte| byte.is_ascii_graphic()) =>
            {
                write!(f, "\"{name}\"")
            }
            _ => f.write_str("of a name that is not shown here"),
        }
    }
}

/// What a list allows.
struct Listed<'a>(&'a [Pattern]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, pattern) in self.0.iter().take(MAX_LISTED).enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{}", pattern.as_str())?;
        }
        match self.0.len() {
            0 => f.write_str("none"),
            more if more > MAX_LISTED => f.write_str(", …"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
