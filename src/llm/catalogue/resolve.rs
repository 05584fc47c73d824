//! Which model a name means. Names are matched whole, after taking off decorations that are known not to change the
//! price; never by prefix or substring, which would price a new model at an older sibling's rate.

use std::collections::HashMap;

/// Spellings of a provider in front of a model's name (`vertex_ai/gemini-…`), and the provider's own name.
const PREFIXES: [(&str, &str); 20] = [
    ("anthropic", "anthropic"),
    ("openai", "openai"),
    ("gemini", "google"),
    ("google", "google"),
    ("models", "google"),
    ("vertex_ai", "vertex"),
    ("vertex", "vertex"),
    ("bedrock", "bedrock"),
    ("azure", "azure"),
    ("azure_ai", "azure"),
    ("openrouter", "openrouter"),
    ("mistral", "mistral"),
    ("deepseek", "deepseek"),
    ("groq", "groq"),
    ("xai", "xai"),
    ("x-ai", "xai"),
    ("together_ai", "together"),
    ("together", "together"),
    ("cohere", "cohere"),
    ("ollama", "ollama"),
];

/// Where a bare name without any provider is looked for: those who make models, then those who resell them. Ollama is
/// left out, since its free local models carry everybody's names.
pub(super) const SEARCH_ORDER: [&str; 13] = [
    "anthropic",
    "openai",
    "google",
    "mistral",
    "deepseek",
    "xai",
    "cohere",
    "vertex",
    "bedrock",
    "azure",
    "groq",
    "together",
    "openrouter",
];

/// The name of the entry that prices every local Ollama model.
pub(super) const OLLAMA_ANY: &str = "*";
/// The name of the entry that prices OpenRouter's free variants, listed or not.
pub(super) const OPENROUTER_FREE: &str = "*:free";

/// One provider's names.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    /// Ids and aliases as they are written.
    exact: HashMap<Box<str>, u32>,
    /// Those with capitals again, in small letters.
    folded: HashMap<Box<str>, u32>,
}

impl Names {
    /// Gives a name to a model. A name that another model had moves to this one.
    pub(super) fn insert(&mut self, name: &str, model: u32) {
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            self.folded.insert(name.to_ascii_lowercase().into(), model);
        }
        self.exact.insert(name.into(), model);
    }

    pub(super) fn exact(&self, name: &str) -> Option<u32> {
        self.exact.get(name).copied()
    }

    fn any_case(&self, name: &str) -> Option<u32> {
        self.exact(name).or_else(|| {
            let small = name.to_ascii_lowercase();
            self.exact(&small)
                .or_else(|| self.folded.get(small.as_str()).copied())
        })
    }

    /// The model of a name within `provider`: as written, in any case, without `[1m]`, without a date, without
    /// `-latest`, each taken off what the one before left; then the provider's own rules.
    pub(super) fn find(&self, provider: &str, name: &str) -> Option<u32> {
        if let Some(model) = self.undecorated(name) {
            return Some(model);
        }
        match provider {
            "openrouter" => {
                let (stem, variant) = name.rsplit_once(':')?;
                if variant.eq_ignore_ascii_case("free") {
                    return self.exact(OPENROUTER_FREE);
                }
                self.undecorated(stem)
            }
            "ollama" if !name.is_empty() && !runs_in_the_cloud(name) => self.exact(OLLAMA_ANY),
            _ => None,
        }
    }

    /// As [`Names::find`], without the provider's own rules.
    pub(super) fn undecorated(&self, name: &str) -> Option<u32> {
        let mut rest = name;
        self.any_case(rest).or_else(|| {
            [without_window, without_date, without_latest]
                .iter()
                .find_map(|take_off| {
                    rest = take_off(rest)?;
                    self.any_case(rest)
                })
        })
    }
}

/// Whether an Ollama name is one of its hosted models (`gpt-oss:120b-cloud`, `glm-4.6:cloud`), which are not free.
fn runs_in_the_cloud(name: &str) -> bool {
    let name = without_window(name).unwrap_or(name);
    without_suffix(name, "-cloud")
        .or_else(|| without_suffix(name, ":cloud"))
        .is_some()
}

/// A provider's name in the catalogue, from any spelling of it that can stand in front of a model's name.
pub(super) fn canonical(provider: &str) -> &str {
    let known = PREFIXES
        .iter()
        .find(|(spelling, _)| spelling.eq_ignore_ascii_case(provider));
    known.map_or(provider, |(_, name)| name)
}

/// Parts a name with a known provider in front: the provider, and the rest, which may contain further slashes.
pub(super) fn split_prefix(name: &str) -> Option<(&'static str, &str)> {
    let (prefix, rest) = name.split_once('/')?;
    let (_, provider) = PREFIXES
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(prefix))?;
    Some((provider, rest))
}

fn without_suffix<'n>(name: &'n str, suffix: &str) -> Option<&'n str> {
    let at = name.len().checked_sub(suffix.len())?;
    let (stem, end) = name.split_at_checked(at)?;
    end.eq_ignore_ascii_case(suffix).then_some(stem)
}

/// Claude Code's mark for the long context window.
fn without_window(name: &str) -> Option<&str> {
    without_suffix(name, "[1m]")
}

fn without_latest(name: &str) -> Option<&str> {
    without_suffix(name, "-latest")
}

/// Takes off `-20251101`, `@20251101` or `-2025-11-01`.
fn without_date(name: &str) -> Option<&str> {
    let short = name
        .len()
        .checked_sub(9)
        .and_then(|at| name.split_at_checked(at));
    if let Some((stem, end)) = short
        && let Some(date) = end.strip_prefix(['-', '@'])
        && is_date(date, "")
    {
        return Some(stem);
    }
    let (stem, end) = name.split_at_checked(name.len().checked_sub(11)?)?;
    is_date(end.strip_prefix('-')?, "-").then_some(stem)
}

fn is_date(text: &str, separator: &str) -> bool {
    let gap = separator.len();
    let part = |from: usize, to: usize| {
        let digits = text.get(from..to)?;
        digits
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| digits.parse::<u32>().ok())?
    };
    let (month, day) = (4 + gap, 6 + 2 * gap);
    text.get(4..month) == Some(separator)
        && text.get(month + 2..day) == Some(separator)
        && part(0, 4).is_some_and(|year| (1990..2100).contains(&year))
        && part(month, month + 2).is_some_and(|month| (1..=12).contains(&month))
        && part(day, day + 2).is_some_and(|day| (1..=31).contains(&day))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_dates_at_the_end_are_taken_off() {
        assert_eq!(without_date("m-20251101"), Some("m"));
        assert_eq!(without_date("m@20251101"), Some("m"));
        assert_eq!(without_date("m-2025-11-01"), Some("m"));
        for kept in [
            "m-20251301",
            "m-2025-11-32",
            "m-0709",
            "m20251101",
            "20251101",
            "m@2025-11-01",
            "m-12345678",
            "é-2025-11-1",
            "",
        ] {
            assert_eq!(without_date(kept), None, "{kept}");
        }
    }

    #[test]
    fn hosted_ollama_tags_are_told_apart() {
        for cloud in ["gpt-oss:120b-cloud", "glm-4.6:cloud", "Kimi:1T-Cloud[1m]"] {
            assert!(runs_in_the_cloud(cloud), "{cloud}");
        }
        assert!(!runs_in_the_cloud("cloud-llama:8b"));
    }

    #[test]
    fn every_prefix_names_a_provider_of_the_catalogue() {
        for (prefix, provider) in PREFIXES {
            assert!(
                SEARCH_ORDER.contains(&provider) || provider == "ollama",
                "{prefix}"
            );
        }
    }
}
