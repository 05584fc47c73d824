//! The rules for tasks as they are written in the config, and what can be wrong with them.

use serde::Deserialize;

use super::phrase::Phrase;
use super::tokens::is_word;
use super::vocabulary::Vocabulary;
use crate::policy::explicit;
use crate::policy::priority::Pattern;

/// The built-in rules: the guide's table.
const BUILT_IN: &str = include_str!("../../../config/tasks.toml");

/// Most words that all rules may have together.
const MAX_WORDS: usize = 8192;

/// Most phrases and openings that all rules may have together.
const MAX_PHRASES: usize = 4096;

/// Most tasks.
pub(super) const MAX_TASKS: usize = 64;

/// Largest bonus: enough to beat any words.
const MAX_BONUS: u32 = 1000;

/// The rules as they are written in the config.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskRules {
    /// The tasks; of equals the earlier wins.
    #[serde(rename = "task", default)]
    pub tasks: Vec<TaskRule>,
    /// What makes any request simple.
    #[serde(default)]
    pub simple: SimpleRule,
    /// A request of fewer words is simple, unless its task is demanding. 0 turns that off.
    pub simple_below_words: u32,
}

/// What makes a request simple whatever its task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimpleRule {
    /// Words that do so as the first verb of a request or the head of its object: "rename", "typo".
    pub words: Vec<String>,
    /// What such a request begins with.
    pub openings: Vec<String>,
    /// What stands in its first sentence.
    pub phrases: Vec<String>,
}

/// One task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskRule {
    /// Its name.
    pub name: String,
    /// What it is about: whole words, in any case. They count by their place.
    #[serde(default)]
    pub words: Vec<String>,
    /// What its requests begin with where the object says nothing else: "fix", "implement".
    #[serde(default)]
    pub verbs: Vec<String>,
    /// What its requests begin with, and no others: "review", "find out why". The longest that fits counts.
    #[serde(default)]
    pub openings: Vec<String>,
    /// Words with which a question about work begins: it is of this task if there is enough of other tasks in it, and else
    /// small talk.
    #[serde(default)]
    pub questions: Vec<String>,
    /// Sequences of words that speak for it wherever they stand.
    #[serde(default)]
    pub phrases: Vec<String>,
    /// Whether its words say what is worked on rather than what is done: behind the verb of another task they count little
    /// ("fix the function").
    #[serde(default)]
    pub broad: bool,
    /// Whether a pasted stack trace speaks for it.
    #[serde(default)]
    pub stack_trace: bool,
    /// Whether even a short request of it deserves a good model.
    #[serde(default)]
    pub demanding: bool,
    /// Points that it has whenever its conditions hold, without any word.
    #[serde(default)]
    pub bonus: Option<u32>,
    /// Condition: the text has so many words at least.
    pub min_words: Option<u32>,
    /// Condition: the text has so many words at most.
    pub max_words: Option<u32>,
    /// Condition: whether tools are declared.
    pub tools: Option<bool>,
    /// Condition: whether images are in the prompt.
    pub images: Option<bool>,
    /// Condition: whether reasoning is asked for.
    pub thinking: Option<bool>,
    /// Condition: the agent inside the session; does not hold where none is stated.
    pub agent: Option<Pattern>,
    /// Condition: the User-Agent header.
    pub user_agent: Option<Pattern>,
}

impl TaskRule {
    /// Whether any word can speak for it.
    pub fn has_words(&self) -> bool {
        self.stack_trace
            || [
                &self.words,
                &self.verbs,
                &self.openings,
                &self.questions,
                &self.phrases,
            ]
            .iter()
            .any(|list| !list.is_empty())
    }

    /// Whether it has a condition.
    pub fn has_conditions(&self) -> bool {
        self.min_words.is_some()
            || self.max_words.is_some()
            || self.tools.is_some()
            || self.images.is_some()
            || self.thinking.is_some()
            || self.agent.is_some()
            || self.user_agent.is_some()
    }
}

impl Default for TaskRules {
    fn default() -> Self {
        toml::from_str(BUILT_IN).expect("the built-in rules are checked by a test")
    }
}

/// What is wrong with the rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TaskRuleError {
    /// One task is wrong.
    #[error("{problem}")]
    Task {
        /// Its place in the list, from 0.
        index: usize,
        /// What is wrong.
        problem: TaskProblem,
    },
    /// What makes a request simple is wrong.
    #[error("{0}")]
    Simple(TaskProblem),
    /// More than can be told apart.
    #[error("more than {MAX_TASKS} tasks, {MAX_WORDS} words or {MAX_PHRASES} phrases")]
    TooMany,
}

/// What is wrong with one rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TaskProblem {
    /// Not a name as in the header.
    #[error("task name {0:?} must be 1 to 128 visible ASCII characters")]
    Name(String),
    /// Two tasks of one name.
    #[error("task {0:?} is there twice")]
    Duplicate(String),
    /// Nothing can ever speak for it.
    #[error(
        "task {0:?} has no words, verbs, openings, questions, phrases, stack_trace or conditions: nothing can speak for it"
    )]
    Empty(String),
    /// A phrase, or a word with a mark in it, would never be found.
    #[error("{0:?} is not a single word of letters and digits")]
    Word(String),
    /// A sequence that could never be found.
    #[error(
        "{0:?} can never match: a phrase is words, a|b, beginnings such as fail*, and * between them for up to four words"
    )]
    Phrase(String),
    /// No text has so many words and so few.
    #[error("min_words {min} is more than max_words {max}: no text has both")]
    Length {
        /// The least.
        min: u32,
        /// The most.
        max: u32,
    },
    /// A phrase has more words than the text may have.
    #[error("{phrase:?} can never match: it has more words than max_words {max} allows")]
    TooLong {
        /// The phrase.
        phrase: String,
        /// The most words.
        max: u32,
    },
    /// A bonus beyond what makes a difference.
    #[error("bonus {0} is more than {MAX_BONUS}")]
    Bonus(u32),
}

/// Checks one task and enters its words and phrases. `count` numbers the phrases of all rules.
pub(super) fn enter(
    rule: &TaskRule,
    place: u16,
    vocabulary: &mut Vocabulary,
    count: &mut u16,
) -> Result<(), TaskProblem> {
    if !explicit::is_name(&rule.name) {
        return Err(TaskProblem::Name(rule.name.clone()));
    }
    if !rule.has_words() && !rule.has_conditions() {
        return Err(TaskProblem::Empty(rule.name.clone()));
    }
    if let (Some(min), Some(max)) = (rule.min_words, rule.max_words)
        && min > max
    {
        return Err(TaskProblem::Length { min, max });
    }
    if let Some(bonus) = rule.bonus.filter(|bonus| *bonus > MAX_BONUS) {
        return Err(TaskProblem::Bonus(bonus));
    }
    for word in &rule.words {
        let known = vocabulary.word(&one_word(word)?);
        note(&mut known.words_of, place);
    }
    for word in &rule.verbs {
        let known = vocabulary.word(&one_word(word)?);
        note(&mut known.verbs_of, place);
    }
    for word in &rule.questions {
        let known = vocabulary.word(&one_word(word)?);
        note(&mut known.questions_of, place);
    }
    for (list, opens) in [(&rule.openings, true), (&rule.phrases, false)] {
        for phrase in list {
            enter_phrase(phrase, opens, rule.max_words, place, vocabulary, count)?;
        }
    }
    Ok(())
}

/// Checks what makes requests simple and enters it, as if it were the rule at this place.
pub(super) fn enter_simple(
    rule: &SimpleRule,
    place: u16,
    vocabulary: &mut Vocabulary,
    count: &mut u16,
) -> Result<(), TaskProblem> {
    for word in &rule.words {
        let known = vocabulary.word(&one_word(word)?);
        note(&mut known.words_of, place);
        note(&mut known.verbs_of, place);
    }
    for (list, opens) in [(&rule.openings, true), (&rule.phrases, false)] {
        for phrase in list {
            enter_phrase(phrase, opens, None, place, vocabulary, count)?;
        }
    }
    Ok(())
}

/// Whether there is more than can be told apart.
pub(super) fn too_many(tasks: usize, vocabulary: &Vocabulary, phrases: u16) -> bool {
    tasks > MAX_TASKS || vocabulary.len() > MAX_WORDS || usize::from(phrases) > MAX_PHRASES
}

/// Notes a rule once, however often it names the word.
fn note(rules: &mut Vec<u16>, place: u16) {
    if rules.last() != Some(&place) {
        rules.push(place);
    }
}

fn one_word(word: &str) -> Result<String, TaskProblem> {
    let lower = word.to_lowercase();
    if is_word(&lower) {
        Ok(lower)
    } else {
        Err(TaskProblem::Word(word.to_owned()))
    }
}

fn enter_phrase(
    written: &str,
    opens: bool,
    max_words: Option<u32>,
    place: u16,
    vocabulary: &mut Vocabulary,
    count: &mut u16,
) -> Result<(), TaskProblem> {
    let read = Phrase::read(written, place, *count, vocabulary);
    let (firsts, phrase) = read.ok_or_else(|| TaskProblem::Phrase(written.to_owned()))?;
    if let Some(max) = max_words.filter(|max| (*max as usize) < phrase.words()) {
        let phrase = written.to_owned();
        return Err(TaskProblem::TooLong { phrase, max });
    }
    *count = count.saturating_add(1);
    for first in firsts {
        let known = vocabulary.word(&first);
        let list = if opens {
            &mut known.openings
        } else {
            &mut known.phrases
        };
        list.push(phrase.clone());
    }
    Ok(())
}
