//! The rules by which a request is changed for another model, by name: what the ledger, `tollgate route` and the page
//! docs/routing.md call them. Nothing is ever changed but by one of these.

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub name: &'static str,
    /// What it does, in a sentence for people.
    pub does: &'static str,
}

/// Declares the rules and the list of all of them.
macro_rules! rules {
    ($($id:ident = $name:literal: $does:literal),+ $(,)?) => {
        $(pub(crate) const $id: Rule = Rule { name: $name, does: $does };)+

        /// All rules, in the order in which they are applied.
        pub const RULES: &[Rule] = &[$($id),+];
    };
}

rules! {
    MODEL = "model": "The model's name is replaced, in the body or, for Gemini, in the path.",
    CAP_LOWERED = "cap-lowered": "An output cap above the most that the model can write is lowered to that.",
    CAP_RENAMED = "cap-renamed": "`max_tokens` becomes `max_completion_tokens` for models that refuse the old name.",
    THINKING_ADAPTIVE = "thinking-adaptive": "A thinking budget becomes `{\"type\":\"adaptive\"}` for models that take no budgets.",
    THINKING_DROPPED = "thinking-dropped": "A setting that leaves it to the model whether to think is dropped for models that cannot think, or only for a fixed budget; one that asks for no thinking is dropped where there is none to switch off, or where it cannot be switched off and the output cap leaves room for it.",
    THINKING_OFF = "thinking-off": "The setting for no thinking is respelled for models that spell it differently.",
    THINKING_KEPT_OFF = "thinking-kept-off": "A model that thinks unless it is told not to is told so, if the model that was asked does not think by itself.",
    THINKING_BUDGET = "thinking-budget": "A thinking budget is brought into the model's range, and below the output cap.",
    THINKING_LEVEL = "thinking-level": "Google's thinking budget becomes a thinking level for models that take levels, and the other way round.",
    EFFORT_LOWERED = "effort-lowered": "An effort level that the model does not take becomes the nearest lower one that it takes, or else its lowest.",
    EFFORT_DROPPED = "effort-dropped": "An effort level up to `medium` is dropped for models that know no effort; a higher one is not given to such a model.",
    SAMPLING_DROPPED = "sampling-dropped": "Temperature, top-p, top-k and their likes are dropped for models that refuse them, or refuse them beside a thinking budget.",
    PENALTIES_DROPPED = "penalties-dropped": "Frequency and presence penalties and `logit_bias` are dropped for models that refuse them.",
    VERBOSITY_DROPPED = "verbosity-dropped": "OpenAI's `verbosity` is dropped for models that do not know it.",
    SPEED_DROPPED = "speed-dropped": "Anthropic's `speed` is dropped for models without a fast mode.",
    CONTEXT_MANAGEMENT_DROPPED = "context-management-dropped": "Anthropic's `context_management` is dropped for models that do not know it, and where thinking has been dropped, which it may depend on.",
    THOUGHTS_DROPPED = "thoughts-dropped": "Thinking blocks of earlier turns are cut from the conversation for models that might refuse another model's. In the newest turn they must stay, so there the model stays too.",
    SIGNATURES_DROPPED = "signatures-dropped": "Google's thought signatures of earlier turns are cut from the conversation, as they are only good for the model that made them.",
    REASONING_DROPPED = "reasoning-dropped": "Reasoning items of earlier turns are cut from an OpenAI Responses request, where nothing else refers to them.",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_on_routing_tells_every_rule_as_it_is_here() {
        let page = include_str!("../../../docs/routing.md");
        for rule in RULES {
            let line = format!("| `{}` | {} |", rule.name, rule.does);
            assert!(
                page.contains(&line),
                "docs/routing.md lacks the line\n{line}"
            );
        }
    }
}
