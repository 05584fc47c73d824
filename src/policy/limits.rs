//! Which limits a request's lane has: what the config states for it, where learning starts, and which models share a lane
//! because their provider limits them together.

use serde::Deserialize;

use super::lane::{LaneRules, Limits, Rate, ReserveRule};
use super::priority::Pattern;
use crate::llm::wire::Dialect;

/// Limits that the user states for some providers and models; what is not stated is learned. The first rule whose
/// conditions hold decides, and the models that it holds for share its limits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitRule {
    /// The provider.
    pub provider: Option<Pattern>,
    /// The model.
    pub model: Option<Pattern>,
    /// Requests in flight at a time.
    pub concurrency: Option<u32>,
    /// Requests per second, evenly spaced.
    pub requests_per_second: Option<u32>,
    /// Requests per minute.
    pub requests_per_minute: Option<u32>,
    /// Input and output tokens together, per minute.
    pub tokens_per_minute: Option<u64>,
    /// Input tokens per minute.
    pub input_tokens_per_minute: Option<u64>,
    /// Output tokens per minute.
    pub output_tokens_per_minute: Option<u64>,
    /// Requests in any 24 hours.
    pub requests_per_day: Option<u32>,
}

impl LimitRule {
    fn holds(&self, provider: &str, model: &str) -> bool {
        let matches = |pattern: &Option<Pattern>, text: &str| {
            pattern.as_ref().is_none_or(|pattern| pattern.matches(text))
        };
        matches(&self.provider, provider) && matches(&self.model, model)
    }

    fn limits(&self) -> Limits {
        Limits {
            concurrency: self.concurrency,
            requests_per_second: self.requests_per_second.map(|amount| Rate {
                amount: u64::from(amount),
                per_ms: 1_000,
            }),
            requests_per_minute: self.requests_per_minute.map(u64::from),
            tokens_per_minute: self.tokens_per_minute,
            input_tokens_per_minute: self.input_tokens_per_minute,
            output_tokens_per_minute: self.output_tokens_per_minute,
            requests_per_day: self.requests_per_day.map(u64::from),
        }
    }
}

/// What is to be known of a provider.
#[derive(Debug, Clone, Copy)]
pub struct ProviderFacts<'a> {
    /// Its name in the config.
    pub name: &'a str,
    /// Its name in the catalogue.
    pub catalogue: &'a str,
    /// The wire format that it speaks.
    pub dialect: Dialect,
    /// Whether it runs on this machine: then its only limit is its hardware.
    pub is_local: bool,
}

/// Anthropic's models of an older generation share one pool each.
const ANTHROPIC_POOLS: [&str; 3] = ["claude-opus-4", "claude-sonnet-4", "claude-fable-5"];

/// Whether a class is one of several models that is known here.
pub fn is_pool(class: &str) -> bool {
    ANTHROPIC_POOLS.contains(&class) || ["free", "local"].contains(&class)
}

/// The name of the models that share their provider's limits with this one.
pub fn class_of(rules: &[LimitRule], provider: &ProviderFacts<'_>, model: &str) -> String {
    if let Some(rule) = rules.iter().find(|rule| rule.holds(provider.name, model)) {
        // By what it says and not by its place, so that what was learned stays with it when blocks are moved.
        let written =
            |pattern: &Option<Pattern>| pattern.as_ref().map_or("*", Pattern::as_str).to_owned();
        return format!(
            "limits[{}/{}]",
            written(&rule.provider),
            written(&rule.model)
        );
    }
    let pool = match provider.catalogue {
        "anthropic" => ANTHROPIC_POOLS
            .into_iter()
            .find(|pool| model.starts_with(pool)),
        // Free variants are limited by account, all together.
        "openrouter" => model.ends_with(":free").then_some("free"),
        // One machine.
        "ollama" => Some("local"),
        _ => None,
    };
    pool.unwrap_or(model).to_owned()
}

/// The rules of a lane. `max_waiting` and `learn` are the config's.
pub fn lane_rules(
    rules: &[LimitRule],
    provider: &ProviderFacts<'_>,
    model: &str,
    learn: bool,
    max_waiting: usize,
) -> LaneRules {
    let stated = rules.iter().find(|rule| rule.holds(provider.name, model));
    // Whoever states limits has stated what binds; a guess beside them would only be lower.
    let (limits, start) = match stated {
        Some(rule) => (rule.limits(), Limits::default()),
        None if learn => start(provider, model),
        None => (Limits::default(), Limits::default()),
    };
    LaneRules {
        limits,
        start,
        reserve: match provider.dialect {
            Dialect::Anthropic => ReserveRule::CapCorrected,
            Dialect::OpenAi => ReserveRule::CapKept,
            Dialect::Gemini | Dialect::Ollama => ReserveRule::Nothing,
        },
        learn,
        max_waiting,
    }
}

/// The most that an Ollama gets at a time that nobody has set limits for: it does not refuse what it cannot do at the same
/// time but lets it wait, so no answer tells how many it does. Four is the most that it chooses by itself.
const MOST_AT_OLLAMA: u32 = 4;

/// What is never exceeded, and where learning starts, of a lane for which nothing is stated: 50 requests, 30,000 input and
/// 8,000 output tokens a minute for hosted models, 20 requests a minute and 50 a day for OpenRouter's free ones; the
/// provider's own figures count from its first answer on. Ollama gets one request at a time, wherever it runs, and more as
/// that goes well. What else runs here has no limits but its hardware's.
fn start(provider: &ProviderFacts<'_>, model: &str) -> (Limits, Limits) {
    let none = Limits::default();
    let concurrency = |number| Limits {
        concurrency: Some(number),
        ..none
    };
    if provider.catalogue == "ollama" {
        return (concurrency(MOST_AT_OLLAMA), concurrency(1));
    }
    if provider.is_local {
        return (none, none);
    }
    if provider.catalogue == "openrouter" && model.ends_with(":free") {
        let start = Limits {
            requests_per_minute: Some(20),
            requests_per_day: Some(50),
            ..none
        };
        return (none, start);
    }
    let start = Limits {
        requests_per_minute: Some(50),
        input_tokens_per_minute: Some(30_000),
        output_tokens_per_minute: Some(8_000),
        ..none
    };
    (none, start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anthropic() -> ProviderFacts<'static> {
        ProviderFacts {
            name: "anthropic",
            catalogue: "anthropic",
            dialect: Dialect::Anthropic,
            is_local: false,
        }
    }

    #[test]
    fn models_of_one_pool_share_a_lane() {
        let class = |model| class_of(&[], &anthropic(), model);
        assert_eq!(class("claude-opus-4-1"), class("claude-opus-4-8"));
        assert_ne!(class("claude-opus-5"), class("claude-opus-5-5"));
    }

    #[test]
    fn the_first_rule_that_holds_states_the_limits_and_the_class() {
        let haiku = LimitRule {
            model: Some(Pattern::new("*haiku*")),
            requests_per_minute: Some(7),
            ..LimitRule::default()
        };
        let all = LimitRule {
            concurrency: Some(2),
            ..LimitRule::default()
        };
        let rules = [haiku, all];
        let of = |model| lane_rules(&rules, &anthropic(), model, true, 10).limits;
        assert_eq!(of("claude-haiku-5-5").requests_per_minute, Some(7));
        assert_eq!(of("claude-opus-5-5").concurrency, Some(2));
        assert_eq!(
            class_of(&rules, &anthropic(), "claude-haiku-4-5"),
            "limits[*/*haiku*]"
        );
    }

    #[test]
    fn nothing_is_guessed_beside_limits_that_are_stated() {
        let rules = [LimitRule {
            concurrency: Some(8),
            ..LimitRule::default()
        }];
        let stated = lane_rules(&rules, &anthropic(), "m", true, 10);
        assert_eq!(stated.start, Limits::default());
        assert_eq!(stated.limits.concurrency, Some(8));
    }

    #[test]
    fn ollama_starts_with_one_at_a_time_unless_something_else_is_stated() {
        let ollama = ProviderFacts {
            name: "ollama",
            catalogue: "ollama",
            dialect: Dialect::Ollama,
            is_local: true,
        };
        let rules = |rules: &[LimitRule], learn| lane_rules(rules, &ollama, "m", learn, 10);
        let learned = rules(&[], true);
        assert_eq!(learned.start.concurrency, Some(1));
        assert_eq!(learned.limits.concurrency, Some(MOST_AT_OLLAMA));
        assert_eq!(rules(&[], false).limits, Limits::default());
        let stated = rules(
            &[LimitRule {
                concurrency: Some(16),
                ..LimitRule::default()
            }],
            true,
        );
        assert_eq!(stated.limits.concurrency, Some(16));
        assert_eq!(stated.start.concurrency, None);
    }

    #[test]
    fn what_runs_here_starts_without_limits() {
        let local = ProviderFacts {
            is_local: true,
            ..anthropic()
        };
        assert_eq!(
            lane_rules(&[], &local, "m", true, 10).start,
            Limits::default()
        );
        assert_eq!(
            lane_rules(&[], &anthropic(), "m", true, 10)
                .start
                .requests_per_minute,
            Some(50)
        );
    }
}
