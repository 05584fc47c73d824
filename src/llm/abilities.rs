//! What a model can do and what it refuses, as far as that is known: a written table, compiled in.
//!
//! `config/abilities.toml` holds it, a source with each line; the user's `[[abilities]]` have the same keys and go first.
//! Windows and output limits come from the catalogue. What nobody states is `None`: not known, and never guessed.

use serde::Deserialize;

use super::catalogue::Catalogue;

/// The shipped table.
const BUILTIN: &str = include_str!("../../config/abilities.toml");

/// One line of the table, or one `[[abilities]]` block of the user's config.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AbilityEntry {
    /// Names of providers in the catalogue, or the user's own names.
    pub providers: Vec<String>,
    /// Patterns of models: `*` stands for anything.
    pub models: Vec<String>,
    /// Where it comes from: a note for people.
    #[serde(default)]
    pub source: Option<String>,
    /// What it says.
    #[serde(flatten)]
    pub abilities: Abilities,
}

/// Declares the abilities, so that laying one line over another cannot forget one.
macro_rules! abilities {
    ($($(#[$doc:meta])* $name:ident: $kind:ty),+ $(,)?) => {
        /// What is known of a model. Each is `None` where it is not known.
        #[derive(Debug, Clone, Default, PartialEq, Deserialize)]
        #[serde(default)]
        pub struct Abilities { $($(#[$doc])* pub $name: Option<$kind>),+ }

        impl Abilities {
            /// The keys of a line.
            pub const KEYS: &'static [&'static str] = &[$(stringify!($name)),+];

            /// Takes over what `other` states and this does not.
            fn fill(&mut self, other: &Self) {
                $(if self.$name.is_none() { self.$name.clone_from(&other.$name); })+
            }
        }
    };
}

abilities! {
    /// Functions that the client runs.
    tools: bool,
    /// A tool may be demanded.
    forced_tools: bool,
    /// Tools at chat/completions, where they are a matter of their own.
    chat_tools: When,
    /// Types of the provider's own tools that it takes, as patterns.
    provider_tools: Vec<String>,
    /// Images.
    images: bool,
    /// Images by their address, and not only inline.
    linked_images: bool,
    /// Documents such as PDF.
    documents: bool,
    /// Audio and video.
    recordings: bool,
    /// The forms in which it takes settings about thinking; empty if it cannot think.
    thinking: Vec<ThinkingForm>,
    /// It thinks unless it is told not to.
    thinks: bool,
    /// The highest effort at which it can be told not to think.
    off_up_to: String,
    /// The levels of effort that it takes; empty if there are none.
    effort: Vec<String>,
    /// Those at chat/completions, where they differ.
    chat_effort: Vec<String>,
    /// Google's smallest thinking budget.
    budget_min: i64,
    /// Google's largest thinking budget.
    budget_max: i64,
    /// Answers in JSON.
    structured: Structured,
    /// Answers in JSON while there are tools.
    structured_with_tools: bool,
    /// Temperature, top-p, top-k.
    sampling: When,
    /// Frequency and presence penalties, and `logit_bias`.
    penalties: bool,
    /// Texts at which to stop.
    stop: bool,
    /// Probabilities of tokens.
    logprobs: bool,
    /// More than one answer.
    choices: bool,
    /// Going on with a message of the model's own.
    prefill: bool,
    /// OpenAI's verbosity.
    verbosity: bool,
    /// Anthropic's context management.
    context_management: bool,
    /// Messages of the role `system` among the others.
    system_messages: bool,
    /// Messages of the role `developer`.
    developer_messages: bool,
    /// Anthropic's fast mode.
    fast: bool,
    /// Anthropic's `inference_geo`.
    region: bool,
    /// Thinking blocks of other models are ignored and not refused.
    foreign_thinking: bool,
    /// Calls of tools in the newest turn need this model's own signature.
    signatures: bool,
    /// It takes `max_tokens` at chat/completions.
    old_cap: bool,
    /// It takes any output cap, however high.
    any_cap: bool,
    /// Prompt plus output, in tokens.
    context_window: u32,
    /// Largest prompt, in tokens.
    max_input: u32,
    /// Largest output, in tokens.
    max_output: u32,
}

/// Whether something is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Always.
    Yes,
    /// Temperature or top-p, but not both.
    One,
    /// Only with the reasoning effort `none`.
    WithoutEffort,
    /// Never.
    No,
}

/// How far answers can be made to be JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Structured {
    /// Not at all.
    No,
    /// Some object.
    Json,
    /// By a schema.
    Schema,
}

/// A way to say how much to think.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThinkingForm {
    /// Not at all.
    Off,
    /// As the model sees fit.
    Adaptive,
    /// Only between calls of tools.
    BetweenTools,
    /// For so many tokens.
    Budget,
    /// Google's `thinkingBudget`.
    GoogleBudget,
    /// Google's `thinkingLevel`.
    GoogleLevel,
}

impl Abilities {
    /// Whether it takes this form; `None` if that is not known.
    pub fn thinking_form(&self, form: ThinkingForm) -> Option<bool> {
        Some(self.thinking.as_ref()?.contains(&form))
    }
}

/// The table's file, and the part of a config that has the same shape.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    abilities: Vec<AbilityEntry>,
}

/// All lines: the user's, then the shipped ones.
#[derive(Debug, Clone)]
pub struct AbilityTable {
    lines: Vec<AbilityEntry>,
}

impl AbilityTable {
    /// The shipped table.
    ///
    /// # Panics
    /// If the shipped file is damaged, which the tests rule out.
    pub fn builtin() -> Self {
        let File { abilities } = toml::from_str(BUILTIN).expect("the shipped table is tested");
        Self { lines: abilities }
    }

    /// This table with the user's lines before it.
    #[must_use]
    pub fn with(mut self, own: &[AbilityEntry]) -> Self {
        self.lines.splice(0..0, own.iter().cloned());
        self
    }

    /// How many lines there are.
    pub fn lines(&self) -> usize {
        self.lines.len()
    }

    /// What is known of a model. `provider` is its name in the catalogue or the user's own; the model is looked up by the
    /// name that is asked for and by the one that the catalogue has for it.
    pub fn of(&self, catalogue: &Catalogue, provider: &str, model: &str) -> Abilities {
        let one_name = catalogue.one_name(provider, model);
        let mut known = Abilities::default();
        for line in &self.lines {
            let named = |pattern: &String| {
                [model, one_name].iter().any(|name| {
                    // Bedrock's ids: a geography and the maker before the model's name.
                    let bare = name.rsplit("anthropic.").next().unwrap_or(name);
                    matches(pattern, name) || matches(pattern, bare)
                })
            };
            if line.providers.iter().any(|name| name == provider) && line.models.iter().any(named) {
                known.fill(&line.abilities);
            }
        }
        if let Some(listed) = catalogue.resolve(provider, model) {
            known.fill(&Abilities {
                context_window: listed.context_window,
                max_input: listed.max_input_tokens,
                max_output: listed.max_output_tokens,
                ..Abilities::default()
            });
        }
        known
    }
}

/// Whether a pattern, in which `*` stands for any text, is a name, in any case.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    fn rest(mut pieces: std::str::Split<'_, char>, mut name: &str) -> bool {
        let Some(mut piece) = pieces.next() else {
            return name.is_empty();
        };
        for next in pieces {
            let Some(at) = name.find(piece) else {
                return false;
            };
            name = &name[at + piece.len()..];
            piece = next;
        }
        name.ends_with(piece)
    }
    let (pattern, name) = (pattern.to_ascii_lowercase(), name.to_ascii_lowercase());
    match pattern.split_once('*') {
        None => pattern == name,
        Some((first, after)) => name
            .strip_prefix(first)
            .is_some_and(|name| rest(after.split('*'), name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_people_expect() {
        for (pattern, name, is) in [
            ("gpt-5", "gpt-5", true),
            ("gpt-5", "gpt-5-mini", false),
            ("gemini-3.*-flash", "gemini-3.8-flash", true),
            ("gemini-3.*-flash", "gemini-3.5-flash-lite", false),
            ("*", "", true),
            ("Claude-*", "claude-opus-5-5", true),
            ("a*a", "a", false),
            ("*b*", "abc", true),
        ] {
            assert_eq!(matches(pattern, name), is, "{pattern} {name}");
        }
    }

    #[test]
    fn the_shipped_table_is_whole_and_names_its_sources() {
        let table = AbilityTable::builtin();
        assert!(table.lines.iter().all(|line| line.source.is_some()));
    }

    #[test]
    fn a_key_that_does_not_exist_is_an_error() {
        let entry = |line: &str| {
            toml::from_str::<AbilityEntry>(&format!(
                "providers = [\"p\"]\nmodels = [\"m\"]\n{line}\n"
            ))
        };
        assert!(entry("tools = true").is_ok());
        assert!(entry("tool = true").is_err());
        assert!(entry("thinking = [\"hard\"]").is_err());
    }

    #[test]
    fn every_rung_of_the_published_ladders_is_described() {
        let (table, catalogue) = (AbilityTable::builtin(), Catalogue::builtin());
        for (provider, models) in [
            (
                "anthropic",
                "claude-fable-5-2 claude-opus-5-5 claude-sonnet-5-5 claude-haiku-5-5 claude-haiku-4-5",
            ),
            (
                "openai",
                "gpt-6-astra gpt-6.1-sol gpt-6.1-terra gpt-6-luna gpt-5 gpt-5-mini gpt-5-nano",
            ),
            (
                "google",
                "gemini-3.1-pro-preview gemini-4-argon gemini-3.8-flash gemini-3.5-flash-lite gemini-3.1-flash-lite gemini-2.5-pro gemini-2.5-flash gemini-2.5-flash-lite",
            ),
            (
                "mistral",
                "mistral-medium-3-5 mistral-large-4 mistral-small-latest ministral-8b-latest ministral-3b-latest",
            ),
            ("deepseek", "deepseek-v4-pro deepseek-flash"),
            ("xai", "grok-4.7 grok-4.3 grok-build-0.1"),
            (
                "groq",
                "llama-3.3-70b-versatile openai/gpt-oss-120b openai/gpt-oss-20b llama-3.1-8b-instant",
            ),
            ("cohere", "command-a-03-2025 command-r7b-12-2024"),
            (
                "bedrock",
                "anthropic.claude-opus-5-5 anthropic.claude-sonnet-5-5 anthropic.claude-haiku-5-5 amazon.nova-micro-v1:0",
            ),
            (
                "together",
                "moonshotai/Kimi-K3.1-Pro deepseek-ai/DeepSeek-V4-Pro-0813 deepseek-ai/DeepSeek-V4.1-Flash",
            ),
            (
                "openrouter",
                "anthropic/claude-opus-5.5 openai/gpt-6.1-sol google/gemini-3.8-flash openai/gpt-6-luna",
            ),
        ] {
            for model in models.split(' ') {
                let known = table.of(&catalogue, provider, model);
                assert!(known.tools.is_some(), "{provider} {model}");
                assert!(known.context_window.is_some(), "{provider} {model}");
            }
        }
    }

    #[test]
    fn earlier_lines_go_before_later_ones_and_the_users_before_all() {
        let catalogue = Catalogue::builtin();
        let table = AbilityTable::builtin();
        let haiku = table.of(&catalogue, "anthropic", "claude-haiku-4-5-20251001");
        assert_eq!(haiku.effort, Some(Vec::new()));
        assert_eq!(haiku.max_output, Some(64_000));
        let own = AbilityEntry {
            providers: vec!["anthropic".to_owned()],
            models: vec!["claude-haiku-*".to_owned()],
            abilities: Abilities {
                max_output: Some(10),
                ..Abilities::default()
            },
            ..AbilityEntry::default()
        };
        let haiku = table
            .with(&[own])
            .of(&catalogue, "anthropic", "claude-haiku-4-5");
        assert_eq!((haiku.max_output, haiku.tools), (Some(10), Some(true)));
    }

    #[test]
    fn a_model_on_bedrock_is_known_by_its_own_name() {
        let known = AbilityTable::builtin().of(
            &Catalogue::builtin(),
            "bedrock",
            "us.anthropic.claude-haiku-5-5",
        );
        assert_eq!(known.forced_tools, Some(true));
    }
}
