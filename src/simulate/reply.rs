//! One answer before it has a wire format: its figures, decided from what is asked and how it is to behave.

use super::ask::{Ask, ToolCall};
use super::behaviour::{Behaviour, Flavour};
use super::text::tokens_in;
use crate::llm::usage::Usage;

/// Output tokens unless something else is asked for.
const OUTPUT_TOKENS: u64 = 16;

/// Reasoning tokens of a request that asks for reasoning, unless something else is asked for.
const REASONING_TOKENS: u64 = 8;

/// Why the model "stopped".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finish {
    /// It had said everything.
    Stop,
    /// The request's maximum was reached.
    Length,
    /// It calls a tool.
    Tool,
}

/// One answer.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    /// Makes the ids of everything in the answer; unique.
    pub(super) id: String,
    /// Seconds since 1970.
    pub(super) created: u64,
    /// The model as a JSON string, quotes included.
    pub(super) model: String,
    /// What it uses, in the normal form, as far as the wire format can tell it.
    pub(super) usage: Usage,
    /// Whether it says so.
    pub(super) tells_usage: bool,
    /// Tokens of reasoning.
    pub(super) reasoning: u64,
    /// Tokens of text in one choice.
    pub(super) text: u64,
    /// The tool that is called instead of writing text.
    pub(super) tool: Option<ToolCall>,
    /// Why it ends.
    pub(super) finish: Finish,
    /// Tokens in one frame.
    pub(super) chunk_tokens: u64,
    /// How many choices.
    pub(super) choices: u64,
    /// Whom to be like.
    pub(super) flavour: Flavour,
}

/// The tokens of an answer: the behaviour's, else the defaults, within what the request allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Figures {
    /// Input in all.
    pub(super) input: u64,
    /// Part of it that is read from the cache.
    pub(super) cached: u64,
    /// Part of it that is written to the cache.
    pub(super) write: u64,
    /// Output of one choice.
    pub(super) output: u64,
    /// What it would be without the request's maximum.
    wanted: u64,
    /// Part of one choice's output that is reasoning.
    reasoning: u64,
    /// How many choices.
    pub(super) choices: u64,
}

impl Figures {
    /// Decides them.
    pub(super) fn of(ask: &Ask<'_>, behaviour: &Behaviour) -> Self {
        let cached = behaviour.cached_tokens.unwrap_or(0);
        let write = behaviour
            .cache_write_tokens
            .unwrap_or(0)
            .max(behaviour.cache_write_1h_tokens.unwrap_or(0));
        let input = behaviour
            .input_tokens
            .unwrap_or_else(|| tokens_in(ask.text.bytes + 4 * ask.text.numbers))
            .max(cached + write);
        let default_reasoning = if ask.wants_reasoning {
            REASONING_TOKENS
        } else {
            0
        };
        let reasoning = behaviour.reasoning_tokens.unwrap_or(default_reasoning);
        let wanted = behaviour
            .output_tokens
            .unwrap_or(OUTPUT_TOKENS)
            .max(reasoning);
        let output = wanted.min(ask.max_output.unwrap_or(u64::MAX));
        Self {
            input,
            cached,
            write,
            output,
            wanted,
            reasoning: reasoning.min(output),
            choices: ask.choices.clamp(1, 128),
        }
    }
}

impl Reply {
    /// Decides the figures: the behaviour's, else the defaults, within what the request allows.
    pub(super) fn new(
        ask: &Ask<'_>,
        behaviour: &Behaviour,
        flavour: Flavour,
        id: String,
        created: u64,
    ) -> Self {
        let Figures {
            input,
            cached,
            write,
            output,
            wanted,
            reasoning,
            choices,
        } = Figures::of(ask, behaviour);
        let tool = behaviour
            .tool
            .as_deref()
            .or(ask.forced_tool.as_deref())
            .zip(ask.tools)
            .and_then(|(wanted, tools)| ToolCall::choose(tools, wanted));
        let finish = match &tool {
            _ if output < wanted => Finish::Length,
            Some(_) => Finish::Tool,
            None => Finish::Stop,
        };
        Self {
            id,
            created,
            model: json_string(behaviour.model.as_deref().unwrap_or(&ask.model)),
            usage: Usage {
                input,
                cached_read: cached,
                cache_write: write,
                cache_write_1h: behaviour.cache_write_1h_tokens.unwrap_or(0),
                output: output * choices,
                reasoning: reasoning * choices,
                ..Usage::default()
            },
            tells_usage: behaviour.no_usage != Some(true),
            reasoning,
            text: if tool.is_some() {
                0
            } else {
                output - reasoning
            },
            tool,
            finish,
            chunk_tokens: behaviour.chunk_tokens.map_or(1, u64::from),
            choices,
            flavour,
        }
    }

    /// Drops the kinds of tokens that a wire format has no words for: what cannot be told is not part of the truth that
    /// a ledger is held against.
    pub(super) fn forget(&mut self, forget: Forget) {
        let usage = &mut self.usage;
        if forget.cached {
            usage.cached_read = 0;
        }
        if forget.cache_write {
            usage.cache_write = 0;
            usage.cache_write_1h = 0;
        }
        if forget.cache_life {
            usage.cache_write_1h = 0;
        }
        if forget.reasoning {
            usage.reasoning = 0;
        }
    }
}

/// What a wire format cannot tell.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Forget {
    /// Cache reads.
    pub(super) cached: bool,
    /// Cache writes.
    pub(super) cache_write: bool,
    /// How long a cache write lives.
    pub(super) cache_life: bool,
    /// Reasoning.
    pub(super) reasoning: bool,
}

/// A text as a JSON string, quotes included.
pub(super) fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::text::TextSize;

    fn reply(ask: &Ask<'_>, behaviour: &Behaviour) -> Reply {
        Reply::new(ask, behaviour, Flavour::OpenAi, "1".to_owned(), 0)
    }

    #[test]
    fn the_requests_maximum_cuts_the_output_and_is_told() {
        let ask = Ask {
            max_output: Some(5),
            wants_reasoning: true,
            ..Ask::default()
        };
        let cut = reply(&ask, &Behaviour::default());
        assert_eq!(
            (cut.usage.output, cut.usage.reasoning, cut.text, cut.finish),
            (5, 5, 0, Finish::Length)
        );
        let ask = Ask {
            max_output: Some(16),
            ..Ask::default()
        };
        assert_eq!(reply(&ask, &Behaviour::default()).finish, Finish::Stop);
    }

    #[test]
    fn the_cache_is_part_of_the_input_and_raises_it() {
        let ask = Ask {
            text: TextSize {
                bytes: 9,
                numbers: 0,
            },
            ..Ask::default()
        };
        assert_eq!(reply(&ask, &Behaviour::default()).usage.input, 3);
        let behaviour = Behaviour {
            cached_tokens: Some(10),
            cache_write_tokens: Some(4),
            ..Behaviour::default()
        };
        let usage = reply(&ask, &behaviour).usage;
        assert_eq!(
            (usage.input, usage.cached_read, usage.cache_write),
            (14, 10, 4)
        );
    }

    #[test]
    fn every_choice_is_paid_for() {
        let ask = Ask {
            choices: 3,
            ..Ask::default()
        };
        assert_eq!(reply(&ask, &Behaviour::default()).usage.output, 48);
    }
}
