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
//!
//! [[rule]]
//! match = { share = 0.01 }                                          # by chance, the same in every run with this seed
//! answer = { status = 500 }
//!
//! [[outage]]                                                        # nobody listens: connections are refused
//! from = "60s"
//! until = "80s"
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
    outages: Vec<Range<Duration>>,
    seed: u64,
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
    /// Only this share of them, from 0 to 1, by chance.
    share: Option<f64>,
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
    seed: u64,
    #[serde(default)]
    rule: Vec<RuleText>,
    #[serde(default)]
    outage: Vec<Spanned<OutageText>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OutageText {
    #[serde(deserialize_with = "duration")]
    from: Option<Duration>,
    #[serde(deserialize_with = "duration")]
    until: Option<Duration>,
}

/// Why a text is no script: says where, with the line, and what.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct ScriptError(String);

impl ScriptError {
    /// With this text.
    pub(super) fn new(text: String) -> Self {
        Self(text)
    }
}

impl From<toml::de::Error> for ScriptError {
    fn from(problem: toml::de::Error) -> Self {
        Self(problem.to_string().trim_end().to_owned())
    }
}

impl std::str::FromStr for Script {
    type Err = ScriptError;

    /// Reads a script.
    ///
    /// # Errors
    /// Not TOML, an unknown key, a wrong type, a value out of range, conditions that can never hold: each with its line.
    fn from_str(text: &str) -> Result<Self, ScriptError> {
        let script: ScriptText = toml::from_str(text)?;
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
        let mut outages = Vec::with_capacity(script.outage.len());
        for outage in script.outage {
            let place = outage.span();
            match (outage.get_ref().from, outage.get_ref().until) {
                (Some(from), Some(until)) if from < until => outages.push(from..until),
                _ => {
                    let problem = "an outage needs `from`, and a later `until`";
                    return Err(at_line(text, &place, problem));
                }
            }
        }
        outages.sort_by_key(|outage| outage.start);
        Ok(Self {
            rules,
            outages,
            seed: script.seed,
        })
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
        if let Some(share) = self.share
            && !(share > 0.0 && share <= 1.0)
        {
            return Err("share: more than 0 and at most 1 expected");
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
        for (index, rule) in self.rules.iter().enumerate() {
            if !rule.when.lasting(path, model, elapsed) {
                continue;
            }
            let number = rule.met.fetch_add(1, Ordering::Relaxed) + 1;
            if rule.when.nth.is_some_and(|nth| nth != number)
                || rule.when.every.is_some_and(|every| number % every != 0)
                || rule
                    .when
                    .share
                    .is_some_and(|share| chance(self.seed, index as u64, number) >= share)
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

    /// The outage that is, or comes next, at this time since the start.
    pub(super) fn outage(&self, elapsed: Duration) -> Option<Range<Duration>> {
        self.outages
            .iter()
            .find(|outage| outage.end > elapsed)
            .cloned()
    }

    /// Counts from the beginning again.
    pub(super) fn rewind(&self) {
        for rule in &self.rules {
            rule.met.store(0, Ordering::Relaxed);
            rule.applied.store(0, Ordering::Relaxed);
        }
    }
}

/// A number from 0 to 1 that is the same for the same request of the same rule under the same seed (splitmix64).
fn chance(seed: u64, rule: u64, number: u64) -> f64 {
    let mut mixed = seed
        .wrapping_add(rule.wrapping_mul(0xd1b5_4a32_d192_ed03))
        .wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
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
    fn chance_strikes_its_share_and_the_same_requests_in_every_run_of_a_seed() {
        let asked = vec![("/x", "m", 0); 4_000];
        let script = |seed: u64| {
            format!(
                "seed = {seed}\n[[rule]]\nmatch = {{ share = 0.1 }}\nanswer = {{ status = 529 }}"
            )
        };
        let struck = statuses(&script(7), &asked);
        let count = struck.iter().filter(|status| **status == 529).count();
        assert!((340..460).contains(&count), "{count} of 4000");
        assert_eq!(struck, statuses(&script(7), &asked));
        assert_ne!(struck, statuses(&script(8), &asked));
    }

    #[test]
    fn the_outage_that_is_or_comes_next_is_told() {
        let script: Script =
            "[[outage]]\nfrom = \"5s\"\nuntil = \"6s\"\n[[outage]]\nfrom = \"1s\"\nuntil = \"2s\""
                .parse()
                .unwrap();
        let at = |seconds| {
            let outage = script.outage(Duration::from_secs(seconds))?;
            Some((outage.start.as_secs(), outage.end.as_secs()))
        };
        assert_eq!(at(0), Some((1, 2)));
        assert_eq!(at(1), Some((1, 2)));
        assert_eq!(at(2), Some((5, 6)));
        assert_eq!(at(6), None);
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
            (
                "[[rule]]\nmatch = { share = 1.5 }\nanswer = {}",
                "line 2",
                "at most 1",
            ),
            (
                "\n[[outage]]\nfrom = \"2s\"\nuntil = \"2s\"",
                "line 2",
                "later `until`",
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
