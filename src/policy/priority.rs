//! Which priority a request gets when its client names none: the first rule of the config whose conditions all hold.
//!
//! A condition is a text with `*` for anything. A condition that is not there always holds; one about a fact that the
//! request does not have (no agent, no task) never does. Upper and lower case are the same.

use serde::{Deserialize, Deserializer, de};

use crate::units::Priority;

/// A text in which `*` stands for any run of characters, also none.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Pattern(String);

impl Pattern {
    /// Makes a pattern; every text is one.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole text fits the pattern. Takes time proportional to the product of the lengths at worst.
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut p, mut t) = (0, 0);
        // Where the last `*` was, and how far the text was when it was met: on a mismatch it swallows one byte more.
        let mut star: Option<(usize, usize)> = None;
        while t < text.len() {
            if p < pattern.len() && pattern[p] == b'*' {
                star = Some((p, t));
                p += 1;
            } else if p < pattern.len() && pattern[p].eq_ignore_ascii_case(&text[t]) {
                p += 1;
                t += 1;
            } else if let Some((at, swallowed)) = star {
                star = Some((at, swallowed + 1));
                p = at + 1;
                t = swallowed + 1;
            } else {
                return false;
            }
        }
        pattern[p..].iter().all(|byte| *byte == b'*')
    }
}

/// What the rules look at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts<'a> {
    /// The session that is charged.
    pub session: &'a str,
    /// The agent inside the session.
    pub agent: Option<&'a str>,
    /// The `user-agent` header.
    pub user_agent: Option<&'a str>,
    /// The provider's name in the config.
    pub provider: &'a str,
    /// The model that the client asks for.
    pub model: Option<&'a str>,
    /// The kind of work.
    pub task: Option<&'a str>,
    /// The client's key, by its name or fingerprint.
    pub key: Option<&'a str>,
}

/// One `[[classify.priority]]` rule.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriorityRule {
    /// Condition on the session.
    pub session: Option<Pattern>,
    /// Condition on the agent.
    pub agent: Option<Pattern>,
    /// Condition on the `user-agent` header.
    pub user_agent: Option<Pattern>,
    /// Condition on the provider's name.
    pub provider: Option<Pattern>,
    /// Condition on the requested model.
    pub model: Option<Pattern>,
    /// Condition on the kind of work.
    pub task: Option<Pattern>,
    /// Condition on the client's key.
    pub key: Option<Pattern>,
    /// What the request gets.
    #[serde(deserialize_with = "priority_name")]
    pub priority: Priority,
}

fn priority_name<'de, D: Deserializer<'de>>(name: D) -> Result<Priority, D::Error> {
    String::deserialize(name)?
        .parse()
        .map_err(de::Error::custom)
}

impl PriorityRule {
    /// Whether every condition holds.
    pub fn matches(&self, facts: &Facts<'_>) -> bool {
        let holds = |condition: &Option<Pattern>, fact: Option<&str>| match (condition, fact) {
            (None, _) => true,
            (Some(pattern), Some(fact)) => pattern.matches(fact),
            (Some(_), None) => false,
        };
        holds(&self.session, Some(facts.session))
            && holds(&self.agent, facts.agent)
            && holds(&self.user_agent, facts.user_agent)
            && holds(&self.provider, Some(facts.provider))
            && holds(&self.model, facts.model)
            && holds(&self.task, facts.task)
            && holds(&self.key, facts.key)
    }
}

/// The priority of the first rule that matches.
pub fn first_match(rules: &[PriorityRule], facts: &Facts<'_>) -> Option<Priority> {
    rules
        .iter()
        .find(|rule| rule.matches(facts))
        .map(|rule| rule.priority)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> PriorityRule {
        toml::from_str(text).expect("a rule")
    }

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        for (pattern, text, fits) in [
            ("claude-cli/*", "claude-cli/2.1.197 (external)", true),
            ("claude-cli/*", "codex_exec/0.169.0", false),
            ("*haiku*", "claude-HAIKU-4-5", true),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b", false),
            ("exact", "exactly", false),
            ("é*", "émile", true),
        ] {
            assert_eq!(
                Pattern::new(pattern).matches(text),
                fits,
                "{pattern} on {text}"
            );
        }
    }

    #[test]
    fn the_first_rule_whose_conditions_all_hold_decides() {
        let rules = [
            rule("session = 'ci-*'\nmodel = '*opus*'\npriority = 'normal'"),
            rule("session = 'ci-*'\npriority = 'LOW'"),
            rule("agent = '*'\npriority = 'high'"),
        ];
        let mut facts = Facts {
            session: "ci-7",
            model: Some("claude-opus-4-8"),
            ..Facts::default()
        };
        assert_eq!(first_match(&rules, &facts), Some(Priority::Normal));
        facts.model = None;
        assert_eq!(first_match(&rules, &facts), Some(Priority::Low));
        facts.session = "docs";
        assert_eq!(
            first_match(&rules, &facts),
            None,
            "no agent, so the last rule does not hold"
        );
        facts.agent = Some("a62a16bd16a5d109a");
        assert_eq!(first_match(&rules, &facts), Some(Priority::High));
    }
}
