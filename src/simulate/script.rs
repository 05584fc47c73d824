//! The script: rules that change how answers behave, by what is asked, how often and when.
//!
//! A rule applies to a request that meets all its conditions. Every rule that applies is laid over the settings in the
//! order of the file; the request's own headers are laid over them.
//!
//! ```toml
//! [[rule]]
//! match = { path = "/messages", model = "claude-opus*", nth = 3 }   # the third such request
//! answer = { status = 529 }
//!
//! [[rule]]
//! match = { from = "10s", until = "40s", every = 2 }                # an outage of half a minute, every second request
//! answer = { cut_after = 4, latency = "200ms" }
//! ```

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::behaviour::{Behaviour, duration};

/// Rules with their counts. One per running simulator.
#[derive(Debug, Default)]
pub struct Script {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    when: Conditions,
    answer: Behaviour,
    /// Requests that met the lasting conditions (path, model, time).
    met: AtomicU64,
    /// Requests that the rule was applied to.
    applied: AtomicU64,
}

/// All must hold. What is not named always holds.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Conditions {
    /// End of the request's path, without its query.
    path: Option<String>,
    /// The model asked for; `*` at the end stands for any rest.
    model: Option<String>,
    /// Only the request with this number (from 1) of those that path, model and time let through.
    nth: Option<u64>,
    /// Only every so-manieth of them.
    every: Option<u64>,
    /// At most this often in all.
    times: Option<u64>,
    /// Not before this time since the start.
    #[serde(deserialize_with = "duration")]
    from: Option<Duration>,
    /// Not at or after this time since the start.
    #[serde(deserialize_with = "duration")]
    until: Option<Duration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    #[serde(default, rename = "match")]
    when: Option<Spanned<Conditions>>,
    answer: Behaviour,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScriptText {
    #[serde(default)]
    rule: Vec<RuleText>,
}

/// Why a text is no script: says where, with the line, and what.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct ScriptError(String);

impl std::str::FromStr for Script {
    type Err = ScriptError;

    /// Reads a script.
    ///
    /// # Errors
    /// Not TOML, an unknown key, a wrong type, a value out of range, conditions that can never hold: each with its line.
    fn from_str(text: &str) -> Result<Self, ScriptError> {
        let script: ScriptText = toml::from_str(text)
            .map_err(|problem| ScriptError(problem.to_string().trim_end().to_owned()))?;
        let mut rules = Vec::with_capacity(script.rule.len());
        for rule in script.rule {
            let when = match rule.when {
                None => Conditions::default(),
                Some(when) => {
                    let place = when.span();
                    when.into_inner()
                        .checked()
                        .map_err(|problem| at_line(text, &place, problem))?
                }
            };
            rules.push(Rule {
                when,
                answer: rule.answer,
                met: AtomicU64::new(0),
                applied: AtomicU64::new(0),
            });
        }
        Ok(Self { rules })
    }
}

fn at_line(text: &str, place: &Range<usize>, problem: &str) -> ScriptError {
    let line = text[..place.start].matches('\n').count() + 1;
    ScriptError(format!("line {line}: {problem}"))
}

impl Conditions {
    fn checked(self) -> Result<Self, &'static str> {
        if self.nth == Some(0) {
            return Err("nth counts from 1");
        }
        if self.every == Some(0) {
            return Err("every = 0 would never hold");
        }
        if self.times == Some(0) {
            return Err("times = 0 would never hold");
        }
        if let (Some(from), Some(until)) = (self.from, self.until)
            && from >= until
        {
            return Err("`until` is not after `from`: the rule would never hold");
        }
        Ok(self)
    }

    fn lasting(&self, path: &str, model: &str, elapsed: Duration) -> bool {
        self.path.as_deref().is_none_or(|end| path.ends_with(end))
            && self
                .model
                .as_deref()
                .is_none_or(|wanted| match wanted.strip_suffix('*') {
                    Some(start) => model.starts_with(start),
                    None => model == wanted,
                })
            && self.from.is_none_or(|from| elapsed >= from)
            && self.until.is_none_or(|until| elapsed < until)
    }
}

impl Script {
    /// Lays every rule that applies to this request over `behaviour`, and counts the request.
    pub(super) fn apply(
        &self,
        behaviour: &mut Behaviour,
        path: &str,
        model: &str,
        elapsed: Duration,
    ) {
        for rule in &self.rules {
            if !rule.when.lasting(path, model, elapsed) {
                continue;
            }
            let number = rule.met.fetch_add(1, Ordering::Relaxed) + 1;
            if rule.when.nth.is_some_and(|nth| nth != number)
                || rule.when.every.is_some_and(|every| number % every != 0)
            {
                continue;
            }
            if let Some(times) = rule.when.times
                && rule.applied.fetch_add(1, Ordering::Relaxed) >= times
            {
                continue;
            }
            behaviour.overlay(&rule.answer);
        }
    }

    /// Counts from the beginning again.
    pub(super) fn rewind(&self) {
        for rule in &self.rules {
            rule.met.store(0, Ordering::Relaxed);
            rule.applied.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn statuses(script: &str, requests: &[(&str, &str, u64)]) -> Vec<u16> {
        let script: Script = script.parse().unwrap();
        requests
            .iter()
            .map(|(path, model, second)| {
                let mut behaviour = Behaviour::default();
                script.apply(&mut behaviour, path, model, Duration::from_secs(*second));
                behaviour.status.map_or(200, |status| status.as_u16())
            })
            .collect()
    }

    #[test]
    fn rules_count_only_the_requests_that_they_are_about() {
        let script = r#"
            [[rule]]
            match = { path = "/messages", model = "claude-*", nth = 2 }
            answer = { status = 529 }
        "#;
        let asked = [
            ("/v1/messages", "claude-a", 0),
            ("/v1/responses", "claude-a", 0),
            ("/v1/messages", "gpt", 0),
            ("/v1/messages", "claude-b", 0),
            ("/v1/messages", "claude-b", 0),
        ];
        assert_eq!(statuses(script, &asked), [200, 200, 200, 529, 200]);
    }

    #[test]
    fn a_window_in_time_a_rhythm_and_a_number_of_times_bound_a_rule() {
        let asked: Vec<_> = (0..6).map(|second| ("/x", "m", second)).collect();
        let window =
            "[[rule]]\nmatch = { from = \"2s\", until = \"4s\" }\nanswer = { status = 500 }";
        assert_eq!(statuses(window, &asked), [200, 200, 500, 500, 200, 200]);
        let rhythm = "[[rule]]\nmatch = { every = 2, times = 2 }\nanswer = { status = 500 }";
        assert_eq!(statuses(rhythm, &asked), [200, 500, 200, 500, 200, 200]);
    }

    #[test]
    fn later_rules_are_laid_over_earlier_ones() {
        let script: Script = "[[rule]]\nanswer = { output_tokens = 1, latency = \"1s\" }\n[[rule]]\nanswer = { output_tokens = 2 }"
            .parse()
            .unwrap();
        let mut behaviour = Behaviour::default();
        script.apply(&mut behaviour, "/x", "m", Duration::ZERO);
        assert_eq!(behaviour.output_tokens, Some(2));
        assert_eq!(behaviour.latency, Some(Duration::from_secs(1)));
    }

    #[test]
    fn a_bad_script_names_the_line_and_the_problem() {
        for (text, line, says) in [
            (
                "[[rule]]\nanswer = { statsu = 500 }",
                "line 2",
                "unknown field `statsu`",
            ),
            (
                "\n[[rule]]\nanswer = { status = 200 }",
                "line 3",
                "error status",
            ),
            (
                "[[rule]]\nmatch = { nth = 0 }\nanswer = {}",
                "line 2",
                "nth counts from 1",
            ),
            (
                "[[rule]]\n\nmatch = { from = \"2s\", until = \"1s\" }\nanswer = {}",
                "line 3",
                "not after",
            ),
            ("[[rule]]\nanswer = { latency = 5 }", "line 2", "string"),
            (
                "[[rule]]\nanswer = { latency = \"soon\" }",
                "line 2",
                "no duration",
            ),
            ("[[rule]]\nmatch = {}", "line 1", "missing field `answer`"),
            ("[[rule]\n", "line 1", "expected"),
        ] {
            let problem = text.parse::<Script>().unwrap_err().to_string();
            assert!(
                problem.contains(line) && problem.contains(says),
                "{text:?} gave {problem}"
            );
        }
    }
}
