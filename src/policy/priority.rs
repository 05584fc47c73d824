//! Decides how urgent a request is.
//!
//! First that is there: the header, the path tag, the key's or team's default, the first of the config's rules whose
//! conditions all hold, `normal`. Whatever it is, it is lowered to what its caller may have at most.

use http::HeaderMap;
use serde::{Deserialize, Deserializer};

use super::explicit::{self, HeaderError, Rule};
use crate::units::Priority;

/// The header that names the priority.
pub const PRIORITY_HEADER: &str = "x-tollgate-priority";

/// Gives a priority to requests on which all of its conditions hold; without any, to every request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriorityRule {
    /// What such requests get.
    #[serde(deserialize_with = "priority_by_name")]
    pub priority: Priority,
    /// The session.
    pub session: Option<Pattern>,
    /// The agent inside the session; does not hold where none is stated.
    pub agent: Option<Pattern>,
    /// The User-Agent header.
    pub user_agent: Option<Pattern>,
    /// The provider.
    pub provider: Option<Pattern>,
    /// The requested model.
    pub model: Option<Pattern>,
    /// The task.
    pub task: Option<Pattern>,
    /// The client's key: its name, or its fingerprint.
    pub key: Option<Pattern>,
}

/// What rules can ask about. What is not known is `None`, and no condition on it holds.
#[derive(Debug, Clone, Copy, Default)]
#[expect(missing_docs, reason = "the fields are those of PriorityRule")]
pub struct Facts<'a> {
    pub session: Option<&'a str>,
    pub agent: Option<&'a str>,
    pub user_agent: Option<&'a str>,
    pub provider: Option<&'a str>,
    pub model: Option<&'a str>,
    pub task: Option<&'a str>,
    pub key: Option<&'a str>,
}

/// How a priority was told, most trusted first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrioritySource {
    /// The header `x-tollgate-priority`.
    Header,
    /// The tag in front of the path.
    Path,
    /// The key's or its team's default.
    Key,
    /// The config's rule with this index.
    Rule(usize),
    /// Nothing told it.
    Default,
}

/// Decides the priority.
///
/// `tag` is the one in front of the path, `key_default` the key's or team's.
///
/// # Errors
///
/// The header `x-tollgate-priority` is repeated or names no priority.
pub fn decide(
    headers: &HeaderMap,
    tag: Option<Priority>,
    key_default: Option<Priority>,
    rules: &[PriorityRule],
    facts: &Facts<'_>,
) -> Result<(Priority, PrioritySource), HeaderError> {
    if let Some(name) = explicit::value(headers, PRIORITY_HEADER)? {
        let priority = name.parse().map_err(|_| HeaderError {
            header: PRIORITY_HEADER,
            rule: Rule::Priority,
        })?;
        return Ok((priority, PrioritySource::Header));
    }
    if let Some(priority) = tag {
        return Ok((priority, PrioritySource::Path));
    }
    if let Some(priority) = key_default {
        return Ok((priority, PrioritySource::Key));
    }
    let rule = rules.iter().enumerate().find(|(_, rule)| rule.holds(facts));
    Ok(rule.map_or(
        (Priority::Normal, PrioritySource::Default),
        |(index, rule)| (rule.priority, PrioritySource::Rule(index)),
    ))
}

/// Lowers a priority to the smallest of the caps that are there, and says whether it had to.
pub fn capped(
    priority: Priority,
    caps: impl IntoIterator<Item = Option<Priority>>,
) -> (Priority, bool) {
    let cap = caps.into_iter().flatten().min();
    match cap.filter(|cap| *cap < priority) {
        Some(cap) => (cap, true),
        None => (priority, false),
    }
}

impl PriorityRule {
    fn holds(&self, facts: &Facts<'_>) -> bool {
        [
            (&self.session, facts.session),
            (&self.agent, facts.agent),
            (&self.user_agent, facts.user_agent),
            (&self.provider, facts.provider),
            (&self.model, facts.model),
            (&self.task, facts.task),
            (&self.key, facts.key),
        ]
        .into_iter()
        .all(|(condition, fact)| {
            condition
                .as_ref()
                .is_none_or(|pattern| fact.is_some_and(|text| pattern.matches(text)))
        })
    }
}

/// A text in which `*` stands for any number of characters; letters match in either case (ASCII).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Pattern(String);

impl Pattern {
    /// Makes a pattern.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole text is as the pattern says. Never slower than the product of both lengths.
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut p, mut t) = (0, 0);
        // Where to go on if a later part does not fit: the last star, one more byte taken by it.
        let mut retry = None;
        while t < text.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    retry = Some((p, t));
                    p += 1;
                }
                Some(byte) if byte.eq_ignore_ascii_case(&text[t]) => {
                    p += 1;
                    t += 1;
                }
                _ => {
                    let Some((star, taken)) = retry else {
                        return false;
                    };
                    retry = Some((star, taken + 1));
                    p = star + 1;
                    t = taken + 1;
                }
            }
        }
        pattern[p..].iter().all(|byte| *byte == b'*')
    }
}

fn priority_by_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Priority, D::Error> {
    let name = String::deserialize(deserializer)?;
    name.parse().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    #[derive(Deserialize)]
    struct File {
        rule: Vec<PriorityRule>,
    }

    fn rules() -> Vec<PriorityRule> {
        let file: File = toml::from_str(
            r#"
            [[rule]]
            priority = "high"
            session = "prod-*"
            model = "*opus*"
            [[rule]]
            priority = "Low"
            user_agent = "aider/*"
            [[rule]]
            priority = "critical"
            agent = "*"
            "#,
        )
        .expect("rules");
        file.rule
    }

    fn by_rules(facts: Facts<'_>) -> (Priority, PrioritySource) {
        decide(&HeaderMap::new(), None, None, &rules(), &facts).expect("no header")
    }

    #[test]
    fn the_first_rule_of_which_all_conditions_hold_decides() {
        let prod = Facts {
            session: Some("PROD-1"),
            model: Some("claude-opus-4-8"),
            agent: Some("a1"),
            ..Facts::default()
        };
        assert_eq!(by_rules(prod), (Priority::High, PrioritySource::Rule(0)));
        let other_model = Facts {
            model: None,
            ..prod
        };
        assert_eq!(
            by_rules(other_model),
            (Priority::Critical, PrioritySource::Rule(2))
        );
        let aider = Facts {
            user_agent: Some("aider/1"),
            ..Facts::default()
        };
        assert_eq!(by_rules(aider), (Priority::Low, PrioritySource::Rule(1)));
        assert_eq!(
            by_rules(Facts::default()),
            (Priority::Normal, PrioritySource::Default)
        );
    }

    #[test]
    fn the_header_beats_the_tag_and_the_tag_the_key_and_the_key_the_rules() {
        let mut headers = HeaderMap::new();
        let facts = Facts {
            agent: Some("a"),
            ..Facts::default()
        };
        let told = |headers: &HeaderMap, tag, key| decide(headers, tag, key, &rules(), &facts);
        let (tag, key) = (Some(Priority::Low), Some(Priority::High));
        assert_eq!(
            told(&headers, None, key),
            Ok((Priority::High, PrioritySource::Key))
        );
        assert_eq!(
            told(&headers, tag, key),
            Ok((Priority::Low, PrioritySource::Path))
        );
        headers.insert(PRIORITY_HEADER, HeaderValue::from_static("Critical"));
        assert_eq!(
            told(&headers, tag, key),
            Ok((Priority::Critical, PrioritySource::Header))
        );
        headers.append(PRIORITY_HEADER, HeaderValue::from_static("critical"));
        assert_eq!(
            told(&headers, tag, key).map_err(|e| e.rule),
            Err(Rule::Once)
        );
        headers.insert(PRIORITY_HEADER, HeaderValue::from_static("urgent"));
        assert_eq!(
            told(&headers, tag, key).map_err(|e| e.rule),
            Err(Rule::Priority)
        );
    }

    #[test]
    fn nobody_gets_more_than_the_smallest_cap() {
        use Priority::{Critical, High, Low, Normal};
        for (asked, caps, got) in [
            (Critical, &[None, None][..], (Critical, false)),
            (Critical, &[None, Some(High), Some(Critical)], (High, true)),
            (Critical, &[Some(Critical)], (Critical, false)),
            (High, &[Some(Low), Some(High)], (Low, true)),
            (Low, &[Some(Normal), None], (Low, false)),
            (Normal, &[], (Normal, false)),
        ] {
            assert_eq!(capped(asked, caps.iter().copied()), got, "{asked} {caps:?}");
        }
    }

    #[test]
    fn rules_with_unknown_keys_or_priorities_are_refused() {
        for text in [
            "priority = \"low\"\nsesion = \"a\"",
            "priority = \"urgent\"",
            "session = \"a\"",
        ] {
            assert!(toml::from_str::<PriorityRule>(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn patterns_match_as_their_definition_says(pattern in "[ab*]{0,8}", text in "[abAB]{0,10}") {
            fn defined(pattern: &[u8], text: &[u8]) -> bool {
                match pattern.split_first() {
                    None => text.is_empty(),
                    Some((b'*', rest)) => (0..=text.len()).any(|taken| defined(rest, &text[taken..])),
                    Some((first, rest)) => text.split_first().is_some_and(|(byte, after)| {
                        first.eq_ignore_ascii_case(byte) && defined(rest, after)
                    }),
                }
            }
            prop_assert_eq!(
                Pattern::new(pattern.clone()).matches(&text),
                defined(pattern.as_bytes(), text.as_bytes())
            );
        }
    }
}
