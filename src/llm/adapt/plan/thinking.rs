//! The part of the plan about thinking: effort, budgets, levels, and a model that would think unasked.

use super::{Act, At, GENERATION, Plan};
use crate::llm::abilities::ThinkingForm;
use crate::llm::adapt::rules;
use crate::llm::fitness::{Reason, Unfit};
use crate::llm::request::{Seen, ThinkingAsked, ToolChoice};
use crate::llm::wire::Endpoint;

/// Least output cap at which a model that always thinks is left to answer: below, it might only think.
const ROOM_TO_THINK: u64 = 4_096;

/// Anthropic's smallest thinking budget.
const SMALLEST_BUDGET: u64 = 1_024;

/// Effort levels, lowest first.
const LEVELS: [&str; 7] = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];

/// The highest of them that a model without effort levels may be given in its stead.
const SOFT: usize = 3;

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

impl Plan<'_> {
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
            _ if self.asks.reasoning_object => At {
                top: &["reasoning"],
                inside: &[&["effort"]],
            },
            Endpoint::GenerateContent => GOOGLE_LEVEL,
            Endpoint::ChatCompletions => CHAT_EFFORT,
            _ => THINKING,
        }
    }

    pub(super) fn effort(&mut self) -> Result<(), Unfit> {
        let Some(asked) = self.asks.effort.as_deref() else {
            // What else stands beside it goes with it.
            if self.asks.reasoning_object {
                match self.levels() {
                    None => return Err(Reason::Effort.into()),
                    Some([]) => self.add(rules::EFFORT_DROPPED, Act::Drop(REASONING)),
                    Some(_) => {}
                }
            }
            return Ok(());
        };
        match nearest(asked, self.levels())? {
            Effort::As => self.effort = Some(asked.to_owned()),
            Effort::Not => {
                let at = match self.endpoint() {
                    Endpoint::Messages if !self.asks.structured => OUTPUT_CONFIG,
                    _ if self.asks.reasoning_object => REASONING,
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

    pub(super) fn thinking(&mut self) -> Result<(), Unfit> {
        match &self.asks.thinking {
            None => self.keep_off()?,
            Some(ThinkingAsked::Off) => self.off(false)?,
            Some(ThinkingAsked::BetweenTools) => {
                if self.takes(ThinkingForm::BetweenTools)? {
                    self.thinking_gone = true;
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
        self.thinking_gone = true;
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
        self.thinking_gone |= self.to.thinks != Some(true);
        if self.from.thinks == Some(true) || self.to.thinks != Some(true) || self.effort.is_some() {
            return Ok(());
        }
        self.thinking_gone = true;
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
            (Endpoint::Responses, Some(level)) if !self.asks.reasoning_object => {
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
            // Anthropic takes none of these together with a budget; a local server may have.
            if self.asks.tool_choice == ToolChoice::Forced {
                return Err(Reason::ForcedTools.into());
            }
            if self.asks.history.turn.any(Seen::TOOL_CALL) {
                return Err(Reason::InsideTurn.into());
            }
            if self.asks.history.ends_with_model {
                return Err(Reason::Prefill.into());
            }
            self.thinks_by_budget = true;
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
