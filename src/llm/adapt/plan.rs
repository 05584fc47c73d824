//! Decides which rules a request needs for another model, before any byte is touched.
//!
//! Thinking comes first, because sampling, tools and what the conversation may hold depend on it.

use super::edit::Part;
use super::rules::{self, Rule};
use crate::llm::abilities::{Abilities, ThinkingForm, When};
use crate::llm::fitness::{Demands, Reason, Rung, Unfit};
use crate::llm::request::{Asks, Seen, ThinkingAsked};
use crate::llm::wire::Endpoint;

/// Least output cap at which a model that always thinks is left to answer: below, it might only think.
const ROOM_TO_THINK: u64 = 4_096;

/// Anthropic's smallest thinking budget.
const SMALLEST_BUDGET: u64 = 1_024;

/// Effort levels, lowest first.
const LEVELS: [&str; 7] = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];

/// The highest of them that a model without effort levels may be given in its stead.
const SOFT: usize = 3;

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
const THINKING: At = At::top(&["thinking", "think"]);
const OUTPUT_CONFIG: At = At::top(&["output_config"]);
const CHAT_EFFORT: At = At::top(&["reasoning_effort"]);
const REASONING: At = At::top(&["reasoning"]);
const GOOGLE_THINKING: At = At {
    top: GENERATION,
    inside: &[&["thinkingConfig", "thinking_config"]],
};
const GOOGLE_BUDGET: At = At {
    top: GENERATION,
    inside: &[
        &["thinkingConfig", "thinking_config"],
        &["thinkingBudget", "thinking_budget"],
    ],
};
const GOOGLE_LEVEL: At = At {
    top: GENERATION,
    inside: &[
        &["thinkingConfig", "thinking_config"],
        &["thinkingLevel", "thinking_level"],
    ],
};

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
    /// Thinking was asked for, and is not any more.
    thinking_gone: bool,
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

    /// The levels of effort that the model takes here.
    fn levels(&self) -> Option<&[String]> {
        match self.endpoint() {
            Endpoint::ChatCompletions => self.to.chat_effort.as_deref(),
            _ => None,
        }
        .or(self.to.effort.as_deref())
    }

    /// Where the effort stands in the body.
    fn effort_at(&self) -> At {
        match self.endpoint() {
            Endpoint::Messages => At {
                top: &["output_config"],
                inside: &[&["effort"]],
            },
            Endpoint::Responses => At {
                top: &["reasoning"],
                inside: &[&["effort"]],
            },
            Endpoint::GenerateContent => GOOGLE_LEVEL,
            Endpoint::ChatCompletions => CHAT_EFFORT,
            _ => THINKING,
        }
    }

    fn effort(&mut self) -> Result<(), Unfit> {
        let Some(asked) = self.asks.effort.as_deref() else {
            return Ok(());
        };
        match nearest(asked, self.levels())? {
            Effort::As => self.effort = Some(asked.to_owned()),
            Effort::Not => {
                let at = match self.endpoint() {
                    Endpoint::Messages if !self.asks.structured => OUTPUT_CONFIG,
                    Endpoint::Responses => REASONING,
                    _ => self.effort_at(),
                };
                self.add(rules::EFFORT_DROPPED, Act::Drop(at));
            }
            Effort::Other(level) => {
                if rank(asked) < Some(2) {
                    self.room_to_think()?;
                }
                let at = self.effort_at();
                self.add(rules::EFFORT_LOWERED, Act::Set(at, quoted(&level)));
                self.effort = Some(level);
            }
        }
        Ok(())
    }

    /// A model that thinks although it was asked not to needs room for it.
    fn room_to_think(&self) -> Result<(), Unfit> {
        match self.cap() {
            Some(cap) if cap < ROOM_TO_THINK => Err(Reason::RoomToThink.into()),
            _ => Ok(()),
        }
    }

    fn takes(&self, form: ThinkingForm) -> Result<bool, Unfit> {
        self.to
            .thinking_form(form)
            .ok_or_else(|| Reason::ThinkingForm.into())
    }

    fn thinking(&mut self) -> Result<(), Unfit> {
        match &self.asks.thinking {
            None => self.keep_off()?,
            Some(ThinkingAsked::Off) => self.off(false)?,
            Some(ThinkingAsked::BetweenTools) => {
                if self.takes(ThinkingForm::BetweenTools)? {
                    self.lower_effort_without_thinking();
                } else {
                    self.off(true)?;
                }
            }
            Some(ThinkingAsked::Adaptive) => {
                if !self.takes(ThinkingForm::Adaptive)? {
                    self.drop_thinking();
                }
            }
            Some(ThinkingAsked::Budget(budget)) => self.budget(*budget)?,
            Some(ThinkingAsked::Google { budget, level }) => {
                self.google(*budget, level.as_deref())?;
            }
        }
        Ok(())
    }

    fn drop_thinking(&mut self) {
        self.thinking_gone = true;
        self.add(rules::THINKING_DROPPED, Act::Drop(THINKING));
    }

    /// No thinking is asked for. `respell`: in another form than `disabled`.
    fn off(&mut self, respell: bool) -> Result<(), Unfit> {
        let native = matches!(
            self.endpoint(),
            Endpoint::OllamaChat | Endpoint::OllamaGenerate
        );
        if self.takes(ThinkingForm::Off)? {
            if respell {
                self.add(rules::THINKING_OFF, Act::Set(THINKING, kind("disabled")));
            }
            self.lower_effort_without_thinking();
        } else if !native && self.takes(ThinkingForm::BetweenTools)? {
            self.add(
                rules::THINKING_OFF,
                Act::Set(THINKING, kind("between_tools")),
            );
            self.lower_effort_without_thinking();
        } else {
            if self.to.thinks != Some(false) {
                self.room_to_think()?;
            }
            self.drop_thinking();
        }
        Ok(())
    }

    /// Some models can be told not to think only up to some effort.
    fn lower_effort_without_thinking(&mut self) {
        let Some(most) = self.to.off_up_to.clone() else {
            return;
        };
        if self.effort.as_deref().and_then(rank) > rank(&most) {
            let at = self.effort_at();
            self.steps.retain(|step| step.rule != rules::EFFORT_LOWERED);
            self.add(rules::EFFORT_LOWERED, Act::Set(at, quoted(&most)));
            self.effort = Some(most);
        }
    }

    /// Nothing is said about thinking: a model that thinks by itself is told not to, if the one that was asked does not.
    fn keep_off(&mut self) -> Result<(), Unfit> {
        if self.from.thinks == Some(true) || self.to.thinks != Some(true) || self.effort.is_some() {
            return Ok(());
        }
        let form = |form| self.to.thinking_form(form) == Some(true);
        let lowest = self.levels().and_then(|levels| {
            let named = |name: &str| levels.iter().find(|level| *level == name).cloned();
            named("none").or_else(|| named("minimal"))
        });
        match (self.endpoint(), lowest) {
            (Endpoint::Messages, _) if form(ThinkingForm::Off) => {
                self.add(
                    rules::THINKING_KEPT_OFF,
                    Act::Insert("thinking", kind("disabled")),
                );
            }
            (Endpoint::Messages, _) if form(ThinkingForm::BetweenTools) => {
                let act = Act::Insert("thinking", kind("between_tools"));
                self.add(rules::THINKING_KEPT_OFF, act);
            }
            (Endpoint::ChatCompletions, Some(level)) => {
                let act = Act::Insert("reasoning_effort", quoted(&level));
                self.add(rules::THINKING_KEPT_OFF, act);
                self.effort = Some(level);
            }
            (Endpoint::Responses, Some(level)) if !self.demands.peek.thinking => {
                let act = Act::Insert("reasoning", format!(r#"{{"effort":{}}}"#, quoted(&level)));
                self.add(rules::THINKING_KEPT_OFF, act);
                self.effort = Some(level);
            }
            (Endpoint::OllamaChat | Endpoint::OllamaGenerate, _) if form(ThinkingForm::Off) => {
                self.add(
                    rules::THINKING_KEPT_OFF,
                    Act::Insert("think", "false".to_owned()),
                );
            }
            _ => self.room_to_think()?,
        }
        Ok(())
    }

    /// Anthropic's budget.
    fn budget(&mut self, asked: u64) -> Result<(), Unfit> {
        if self.takes(ThinkingForm::Budget)? {
            let cap = self.cap().unwrap_or(u64::MAX);
            if asked >= cap || asked < SMALLEST_BUDGET {
                let lowered = (cap / 2).min(asked).max(SMALLEST_BUDGET);
                if lowered >= cap {
                    return Err(Reason::RoomToThink.into());
                }
                let at = At {
                    top: &["thinking"],
                    inside: &[&["budget_tokens"]],
                };
                self.add(rules::THINKING_BUDGET, Act::Set(at, lowered.to_string()));
            }
        } else if self.takes(ThinkingForm::Adaptive)? {
            self.add(
                rules::THINKING_ADAPTIVE,
                Act::Set(THINKING, kind("adaptive")),
            );
        } else {
            return Err(Reason::Thinking.into());
        }
        Ok(())
    }

    /// Google's thinking budget, thinking level, or only whether thoughts are shown.
    fn google(&mut self, budget: Option<i64>, level: Option<&str>) -> Result<(), Unfit> {
        let (levels, budgets) = (
            self.takes(ThinkingForm::GoogleLevel)?,
            self.takes(ThinkingForm::GoogleBudget)?,
        );
        let hard = budget.is_some_and(|budget| budget > 0)
            || level.is_some_and(|level| rank(level) > Some(SOFT));
        match (budget, level) {
            _ if !levels && !budgets => {
                if hard {
                    return Err(Reason::Thinking.into());
                }
                self.thinking_gone = true;
                self.add(rules::THINKING_DROPPED, Act::Drop(GOOGLE_THINKING));
            }
            (Some(budget), _) if budgets => self.google_budget(budget)?,
            (Some(budget), _) => {
                let Some(lowest) = self.to.effort.as_ref().and_then(|levels| levels.first()) else {
                    return Err(Reason::Effort.into());
                };
                if budget == 0 {
                    self.room_to_think()?;
                }
                // Google's own table for budgets in place of levels: 1,024 tokens for low, 8,192 for medium.
                let level = match budget {
                    0 => Some(lowest.as_str()),
                    1..=1_024 => Some("low"),
                    1_025..=8_192 => Some("medium"),
                    _ => None,
                };
                let act = match level {
                    Some(level) => Act::Become(GOOGLE_BUDGET, "thinkingLevel", quoted(level)),
                    None => Act::Drop(GOOGLE_BUDGET),
                };
                self.add(rules::THINKING_LEVEL, act);
            }
            (None, Some(level)) if levels => match nearest(level, self.to.effort.as_deref())? {
                Effort::As => {}
                Effort::Not => return Err(Reason::Effort.into()),
                Effort::Other(other) => {
                    if rank(level) < Some(2) {
                        self.room_to_think()?;
                    }
                    let act = Act::Set(GOOGLE_LEVEL, quoted(&other));
                    self.add(rules::EFFORT_LOWERED, act);
                }
            },
            (None, Some(level)) => {
                let budget = match rank(level) {
                    Some(..=1) => 0,
                    Some(2) => 1_024,
                    Some(3) => 8_192,
                    Some(_) => -1,
                    None => return Err(Reason::Effort.into()),
                };
                let budget = self.within_google_range(budget)?;
                let act = Act::Become(GOOGLE_LEVEL, "thinkingBudget", budget.to_string());
                self.add(rules::THINKING_LEVEL, act);
            }
            (None, None) => {}
        }
        Ok(())
    }

    fn google_budget(&mut self, asked: i64) -> Result<(), Unfit> {
        let budget = self.within_google_range(asked)?;
        if budget != asked {
            self.add(
                rules::THINKING_BUDGET,
                Act::Set(GOOGLE_BUDGET, budget.to_string()),
            );
        }
        Ok(())
    }

    /// The nearest budget that the model takes; −1 and, where it can be switched off, 0 are taken by all.
    fn within_google_range(&self, asked: i64) -> Result<i64, Unfit> {
        let (Some(least), Some(most)) = (self.to.budget_min, self.to.budget_max) else {
            return Err(Reason::ThinkingForm.into());
        };
        if asked < 0 || (asked == 0 && self.takes(ThinkingForm::Off)?) {
            return Ok(asked);
        }
        if asked == 0 {
            self.room_to_think()?;
        }
        Ok(asked.clamp(least, most))
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
                At::top(&["frequency_penalty", "presence_penalty"])
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
                "logit_bias",
            ]),
        };
        self.add(rules::SAMPLING_DROPPED, Act::Drop(at));
    }

    fn history(&mut self) {
        self.steps.extend(foreign_thoughts(self.asks, self.to));
    }
}

/// What becomes of a level.
enum Effort {
    /// It stays.
    As,
    /// It is dropped.
    Not,
    /// It becomes another.
    Other(String),
}

/// The nearest level that a model takes, and never a higher one if there is a lower.
fn nearest(asked: &str, taken: Option<&[String]>) -> Result<Effort, Unfit> {
    let (Some(taken), Some(wanted)) = (taken, rank(asked)) else {
        return Err(Reason::Effort.into());
    };
    if taken.is_empty() {
        return if wanted > SOFT {
            Err(Reason::Thinking.into())
        } else {
            Ok(Effort::Not)
        };
    }
    if taken.iter().any(|level| level.eq_ignore_ascii_case(asked)) {
        return Ok(Effort::As);
    }
    let ranked = || taken.iter().filter_map(|level| Some((rank(level)?, level)));
    let lower = ranked().filter(|(rank, _)| *rank < wanted).max();
    match lower.or_else(|| ranked().min()) {
        Some((_, level)) => Ok(Effort::Other(level.clone())),
        None => Err(Reason::Effort.into()),
    }
}

fn rank(level: &str) -> Option<usize> {
    LEVELS
        .iter()
        .position(|known| known.eq_ignore_ascii_case(level))
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

fn kind(name: &str) -> String {
    format!(r#"{{"type":"{name}"}}"#)
}
