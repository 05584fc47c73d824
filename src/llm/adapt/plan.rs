//! Decides which rules a request needs for another model, before any byte is touched.
//!
//! Thinking comes first, because sampling, tools and what the conversation may hold depend on it.

mod thinking;

use super::edit::Part;
use super::rules::{self, Rule};
use crate::llm::abilities::{Abilities, When};
use crate::llm::fitness::{Demands, Reason, Rung, Unfit};
use crate::llm::request::{Asks, Seen};
use crate::llm::wire::Endpoint;

/// Where a member stands: its top-level names, and, for one inside it, its own. Google's parsers know two spellings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) top: &'static [&'static str],
    pub(crate) inside: &'static [&'static [&'static str]],
}

impl At {
    const fn top(names: &'static [&'static str]) -> Self {
        Self {
            top: names,
            inside: &[],
        }
    }

    /// Where it stands, for people, in the usual spelling.
    pub(super) fn label(&self) -> String {
        let inside = self.inside.iter().map(|names| names[0]);
        let names: Vec<&str> = std::iter::once(self.top[0]).chain(inside).collect();
        names.join(".")
    }

    /// Whether the part bears one of these names, by the endpoint's own folding of names.
    pub(super) fn is(names: &[&str], part: &Part<'_>, folds: bool) -> bool {
        let folded = folds
            .then(|| crate::llm::request::folded(part.name.as_bytes()))
            .flatten();
        names.contains(&folded.as_deref().unwrap_or(&part.name))
    }
}

/// One change that has to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) rule: Rule,
    pub(crate) act: Act,
}

/// How it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    /// Members are cut.
    Drop(At),
    /// A member's value is replaced.
    Set(At, String),
    /// A member's value is replaced if it is a number above this.
    Lower(At, u64),
    /// A member's key is replaced.
    Rename(At, &'static str),
    /// A member's key and value are replaced.
    Become(At, &'static str, String),
    /// A first member is put in.
    Insert(&'static str, String),
    /// Thinking blocks are cut from the messages.
    CutThoughts,
    /// Signatures are cut from the parts.
    CutSignatures,
    /// Reasoning items are cut from the input.
    CutReasoning,
}

const GENERATION: &[&str] = &["generationConfig", "generation_config"];
/// What has to be changed besides the model's name.
pub(crate) fn plan(
    demands: &Demands<'_>,
    from: &Rung<'_>,
    to: &Rung<'_>,
) -> Result<Vec<Step>, Unfit> {
    let mut plan = Plan {
        demands,
        asks: &demands.peek.asks,
        from: from.abilities,
        to: to.abilities,
        steps: Vec::new(),
        effort: None,
        thinking_gone: false,
        thinks_by_budget: false,
    };
    plan.caps();
    plan.effort()?;
    plan.thinking()?;
    plan.settings()?;
    plan.history();
    Ok(plan.steps)
}

/// What of the conversation has to be cut because another model thought it.
pub(crate) fn foreign_thoughts(asks: &Asks<'_>, to: &Abilities) -> Vec<Step> {
    let (earlier, all) = (asks.history.earlier, asks.history.all());
    let cuts = [
        (
            earlier.any(Seen::THINKING) && to.foreign_thinking != Some(true),
            rules::THOUGHTS_DROPPED,
            Act::CutThoughts,
        ),
        (
            earlier.any(Seen::SIGNATURE),
            rules::SIGNATURES_DROPPED,
            Act::CutSignatures,
        ),
        (
            // Items that have an id must not miss their reasoning.
            earlier.any(Seen::REASONING) && !all.any(Seen::ITEM_ID),
            rules::REASONING_DROPPED,
            Act::CutReasoning,
        ),
    ];
    let cuts = cuts.into_iter().filter(|(needed, ..)| *needed);
    cuts.map(|(_, rule, act)| Step { rule, act }).collect()
}

struct Plan<'a> {
    demands: &'a Demands<'a>,
    asks: &'a Asks<'a>,
    from: &'a Abilities,
    to: &'a Abilities,
    steps: Vec<Step>,
    /// The effort that the model will be asked for.
    effort: Option<String>,
    /// The model will not think, where the one that was asked might have.
    thinking_gone: bool,
    /// The model will think for a budget.
    thinks_by_budget: bool,
}

impl Plan<'_> {
    fn add(&mut self, rule: Rule, act: Act) {
        self.steps.push(Step { rule, act });
    }

    fn endpoint(&self) -> Endpoint {
        self.demands.endpoint
    }

    /// The output cap as it will be.
    fn cap(&self) -> Option<u64> {
        let most = self.to.max_output.map_or(u64::MAX, u64::from);
        self.demands.peek.output_cap.map(|cap| cap.min(most))
    }

    fn caps(&mut self) {
        let (asked, lowered) = (self.demands.peek.output_cap, self.cap());
        if let Some(most) = lowered.filter(|_| asked > lowered) {
            for at in [
                At::top(&["max_tokens"]),
                At::top(&["max_completion_tokens"]),
                At::top(&["max_output_tokens"]),
                At {
                    top: GENERATION,
                    inside: &[&["maxOutputTokens", "max_output_tokens"]],
                },
                At {
                    top: &["options"],
                    inside: &[&["num_predict"]],
                },
            ] {
                self.add(rules::CAP_LOWERED, Act::Lower(at, most));
            }
        }
        if self.asks.old_cap && self.to.old_cap != Some(true) {
            let at = At::top(&["max_tokens"]);
            self.add(rules::CAP_RENAMED, Act::Rename(at, "max_completion_tokens"));
        }
    }

    fn settings(&mut self) -> Result<(), Unfit> {
        let quiet = self.effort.as_deref() == Some("none");
        if self.endpoint() == Endpoint::ChatCompletions
            && self.demands.peek.tools > 0
            && self.to.chat_tools == Some(When::WithoutEffort)
            && !quiet
        {
            return Err(Reason::ChatTools.into());
        }
        let drawn = self.asks.temperature || self.asks.sampling;
        match self.to.sampling {
            _ if drawn && self.thinks_by_budget => self.drop_sampling(),
            Some(When::Yes) => {}
            Some(When::WithoutEffort) if quiet => {}
            Some(When::One) if !(self.asks.temperature && self.asks.sampling) => {}
            Some(When::One) => {
                let act = Act::Drop(At::top(&["top_p", "top_k"]));
                self.add(rules::SAMPLING_DROPPED, act);
            }
            _ if drawn => self.drop_sampling(),
            _ => {}
        }
        if self.asks.penalties && self.to.penalties != Some(true) {
            let gemini = self.endpoint() == Endpoint::GenerateContent;
            let at = if gemini {
                At {
                    top: GENERATION,
                    inside: &[&[
                        "presencePenalty",
                        "presence_penalty",
                        "frequencyPenalty",
                        "frequency_penalty",
                    ]],
                }
            } else {
                At::top(&["frequency_penalty", "presence_penalty", "logit_bias"])
            };
            self.add(rules::PENALTIES_DROPPED, Act::Drop(at));
        }
        if self.asks.verbosity && self.to.verbosity != Some(true) {
            let at = if self.endpoint() == Endpoint::Responses {
                At {
                    top: &["text"],
                    inside: &[&["verbosity"]],
                }
            } else {
                At::top(&["verbosity"])
            };
            self.add(rules::VERBOSITY_DROPPED, Act::Drop(at));
        }
        let fast = self.demands.peek.speed.as_deref();
        if fast.is_some_and(|speed| speed != "standard") && self.to.fast != Some(true) {
            self.add(rules::SPEED_DROPPED, Act::Drop(At::top(&["speed"])));
        }
        if self.asks.context_management
            && (self.to.context_management != Some(true) || self.thinking_gone)
        {
            let at = At::top(&["context_management"]);
            self.add(rules::CONTEXT_MANAGEMENT_DROPPED, Act::Drop(at));
        }
        // Only models that reason have reasoning to encrypt.
        if self.asks.encrypted_reasoning && self.to.effort.as_ref().is_none_or(Vec::is_empty) {
            return Err(Reason::Effort.into());
        }
        Ok(())
    }

    fn drop_sampling(&mut self) {
        let at = match self.endpoint() {
            Endpoint::GenerateContent => At {
                top: GENERATION,
                inside: &[&["temperature", "topP", "top_p", "topK", "top_k"]],
            },
            _ => At::top(&[
                "temperature",
                "top_p",
                "top_k",
                "min_p",
                "top_a",
                "typical_p",
                "repetition_penalty",
            ]),
        };
        self.add(rules::SAMPLING_DROPPED, Act::Drop(at));
    }

    fn history(&mut self) {
        self.steps.extend(foreign_thoughts(self.asks, self.to));
    }
}
