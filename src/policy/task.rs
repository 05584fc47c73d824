//! Decides what kind of work a request is, from the newest text of its user and a few facts about the request.
//!
//! Each task gets points by its rule: much for what a request begins with, less for the object of that, little for words in
//! passing ([`points`] has them all). The task with the most points wins, of equals the one earlier in the list; one with
//! fewer than three is none. A request is simple (to be served by a cheap model whatever its task) if its first request
//! says so, or if it has fewer than ten words and its task is not a demanding one: a clear signal of coding outweighs
//! shortness.

mod asks;
mod phrase;
mod points;
mod rules;
mod tokens;
mod vocabulary;

use http::HeaderMap;

use self::asks::{Ask, Lead, asks};
use self::rules::MAX_TASKS;
use self::tokens::{Token, Tokens};
use self::vocabulary::Vocabulary;
use super::explicit::{self, HeaderError};

pub use self::rules::{SimpleRule, TaskProblem, TaskRule, TaskRuleError, TaskRules};

/// The header that names the task.
pub const TASK_HEADER: &str = "x-tollgate-task";

/// What a task needs at least, in points.
pub const ENOUGH_POINTS: u32 = points::ENOUGH;

/// What is known of a request. What is not known is `None` or false.
#[derive(Debug, Clone, Copy, Default)]
pub struct TaskFacts<'a> {
    /// The newest text that the user wrote.
    pub text: Option<&'a str>,
    /// The agent asks for a purpose of its own, such as a title, and not for its user.
    pub side_request: bool,
    /// Whether tools are declared.
    pub tools: bool,
    /// Whether images are in the prompt.
    pub images: bool,
    /// Whether reasoning is asked for.
    pub thinking: bool,
    /// The agent inside the session.
    pub agent: Option<&'a str>,
    /// The User-Agent header.
    pub user_agent: Option<&'a str>,
}

/// What kind of work a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Task<'a> {
    /// The task, where the header names one or a rule gives one.
    pub name: Option<&'a str>,
    /// Whether a cheap model will do, whatever the task.
    pub simple: bool,
    /// What told it.
    pub why: TaskReason,
}

/// What told a request's task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskReason {
    /// The header `x-tollgate-task`.
    Header,
    /// An agent asks for a purpose of its own.
    SideRequest,
    /// A rule, with so many points; the next best one has so many.
    Rule {
        /// The task's points.
        points: u32,
        /// Those of the second.
        second: u32,
    },
    /// Nothing told it.
    Nothing,
}

/// The rules, ready for use.
#[derive(Debug, Clone)]
pub struct TaskDetector {
    rules: Vec<TaskRule>,
    simple_below_words: u32,
    vocabulary: Vocabulary,
    phrases: usize,
}

impl TaskDetector {
    /// Makes rules ready.
    ///
    /// # Errors
    ///
    /// A task's name is no name or is there twice, nothing can speak for it, a word or a phrase could never be found, or
    /// there are too many.
    pub fn new(rules: &TaskRules) -> Result<Self, TaskRuleError> {
        let (detector, problems) = Self::read(rules);
        problems.into_iter().next().map_or(Ok(detector), Err)
    }

    /// Everything that is wrong with the rules.
    pub fn problems(rules: &TaskRules) -> Vec<TaskRuleError> {
        Self::read(rules).1
    }

    fn read(rules: &TaskRules) -> (Self, Vec<TaskRuleError>) {
        let mut vocabulary = Vocabulary::new();
        let mut phrases = 0;
        let mut problems = Vec::new();
        let tasks = &rules.tasks[..rules.tasks.len().min(MAX_TASKS)];
        for (index, rule) in tasks.iter().enumerate() {
            let twice = tasks[..index]
                .iter()
                .any(|earlier| earlier.name == rule.name);
            let entered = if twice {
                Err(TaskProblem::Duplicate(rule.name.clone()))
            } else {
                rules::enter(rule, index as u16, &mut vocabulary, &mut phrases)
            };
            problems.extend(
                entered
                    .err()
                    .map(|problem| TaskRuleError::Task { index, problem }),
            );
        }
        let simple = tasks.len() as u16;
        let entered = rules::enter_simple(&rules.simple, simple, &mut vocabulary, &mut phrases);
        problems.extend(entered.err().map(TaskRuleError::Simple));
        if rules::too_many(rules.tasks.len(), &vocabulary, phrases) {
            problems.push(TaskRuleError::TooMany);
        }
        let detector = Self {
            rules: tasks.to_vec(),
            simple_below_words: rules.simple_below_words,
            vocabulary,
            phrases: usize::from(phrases),
        };
        (detector, problems)
    }

    /// Decides the task: the header if it is there, else by the rules.
    ///
    /// A request whose task the header names is not simple: an explicit task overrides the detection.
    ///
    /// # Errors
    ///
    /// The header `x-tollgate-task` is repeated or not a name.
    pub fn decide<'a>(
        &'a self,
        headers: &'a HeaderMap,
        facts: &TaskFacts<'_>,
    ) -> Result<Task<'a>, HeaderError> {
        let named = explicit::value(headers, TASK_HEADER)?;
        Ok(match named {
            Some(name) => Task {
                name: Some(name),
                simple: false,
                why: TaskReason::Header,
            },
            None => self.of_facts(facts),
        })
    }

    /// Detects the task of a text about which nothing else is known. Of a long one only the beginning and the end are read.
    pub fn detect(&self, text: &str) -> Task<'_> {
        self.of_facts(&TaskFacts {
            text: Some(text),
            ..TaskFacts::default()
        })
    }

    /// Detects the task of a request without looking at its headers.
    pub fn of_facts(&self, facts: &TaskFacts<'_>) -> Task<'_> {
        if facts.side_request {
            return Task {
                name: None,
                simple: true,
                why: TaskReason::SideRequest,
            };
        }
        let (points, words, simple) = self.points(facts);
        let points = &points[..self.rules.len()];
        let most = points.iter().copied().max().unwrap_or(0);
        let best = points
            .iter()
            .position(|points| *points == most && most >= points::ENOUGH);
        let rule = best.map(|best| &self.rules[best]);
        let second = points
            .iter()
            .enumerate()
            .filter(|(place, _)| Some(*place) != best)
            .map(|(_, points)| *points)
            .max();
        let demanding = rule.is_some_and(|rule| rule.demanding);
        // A lone emoji is a short text too.
        let said = facts.text.is_some_and(|text| !text.trim().is_empty());
        let short = said && words < self.simple_below_words;
        Task {
            name: rule.map(|rule| rule.name.as_str()),
            simple: simple || (short && !demanding),
            why: rule.map_or(TaskReason::Nothing, |_| TaskReason::Rule {
                points: most,
                second: second.unwrap_or(0),
            }),
        }
    }

    /// Every task's points, most first; those without any are left out.
    pub fn explain(&self, facts: &TaskFacts<'_>) -> Vec<(&str, u32)> {
        let (points, ..) = self.points(facts);
        let mut all: Vec<_> = self
            .rules
            .iter()
            .zip(points)
            .map(|(rule, points)| (rule.name.as_str(), points))
            .filter(|(_, points)| *points > 0)
            .collect();
        all.sort_by_key(|(_, points)| std::cmp::Reverse(*points));
        all
    }

    /// The points of each task, the number of words, and whether the text says that it is simple.
    fn points(&self, facts: &TaskFacts<'_>) -> ([u32; MAX_TASKS], u32, bool) {
        let text = facts.text.unwrap_or_default();
        let tokens = Tokens::read(text, &self.vocabulary);
        let mut sums = Sums::new(self.vocabulary.len(), self.phrases, self.rules.len());
        self.count(text, &tokens, &mut sums);
        for rule in std::mem::take(&mut sums.questions) {
            let place = usize::from(rule);
            let others = (0..self.rules.len()).filter(|other| *other != place);
            let others: u32 = others
                .map(|other| sums.points[other] + sums.passing[other])
                .sum();
            if others >= points::ABOUT_WORK {
                sums.points[place] += points::QUESTION;
            }
        }
        let mut points = [0; MAX_TASKS];
        for (place, rule) in self.rules.iter().enumerate() {
            if !rule.holds(facts, tokens.words) {
                continue;
            }
            let bonus = rule
                .bonus
                .unwrap_or(if rule.has_words() { 0 } else { points::ENOUGH });
            let trace = if rule.stack_trace && tokens.trace {
                points::TRACE
            } else {
                0
            };
            points[place] = sums.points[place]
                + sums.passing[place].min(points::PASSING_AT_MOST)
                + bonus
                + trace;
        }
        (points, tokens.words, sums.simple)
    }

    fn count(&self, text: &str, tokens: &Tokens, sums: &mut Sums) {
        let list = &tokens.list;
        let simple = self.simple();
        let asks = asks(text, tokens, &self.vocabulary, simple);
        for (nth, ask) in asks.iter().enumerate() {
            let divisor = if nth == 0 {
                1
            } else {
                points::LATER_ASK_DIVISOR
            };
            self.count_ask(ask, list, divisor, sums);
        }
        // Words that a request did not take stand in passing: nearer in the clauses and sentences that ask.
        let mut first_ask_passed = false;
        let mut later = asks.iter().peekable();
        let mut start = 0;
        while start < list.len() {
            let length = list[start + 1..]
                .iter()
                .position(|token| token.begins_sentence);
            let end = length.map_or(list.len(), |length| start + 1 + length);
            let mut asked_from = None;
            while let Some(ask) = later.next_if(|ask| ask.start < end) {
                let question = matches!(ask.lead, Lead::Question(_));
                asked_from.get_or_insert(if question { end } else { ask.start });
            }
            let may_be_simple = asked_from.is_some() && !first_ask_passed;
            first_ask_passed |= asked_from.is_some();
            let near = asked_from.is_some() || (asks.is_empty() && start == 0);
            let mut passing = if near { points::NEAR } else { points::FAR };
            for at in start..end {
                if asked_from.is_some_and(|from| from == at) {
                    passing = points::ASKED;
                } else if near && list[at].begins_clause {
                    passing = points::NEAR;
                }
                self.count_passing(text, list, at, passing, may_be_simple, sums);
            }
            start = end;
        }
    }

    /// Counts what leads a request, and its object.
    fn count_ask(&self, ask: &Ask, list: &[Token], divisor: u32, sums: &mut Sums) {
        let simple = self.simple();
        let first = divisor == 1;
        let mut led_by: &[u16] = &[];
        let opened_by;
        match ask.lead {
            Lead::Opening(rule) => {
                if rule == simple {
                    sums.simple |= first;
                } else {
                    sums.points[usize::from(rule)] += points::OPENING / divisor;
                    opened_by = [rule];
                    led_by = &opened_by;
                }
                for token in &list[ask.start..ask.object.min(list.len())] {
                    sums.sees(token.word);
                }
            }
            Lead::Verb(at) => {
                let word = list[at].word;
                if let Some(known) = self.vocabulary.known(word) {
                    led_by = &known.verbs_of;
                }
                if sums.sees(word) {
                    for rule in led_by {
                        if *rule == simple {
                            sums.simple |= first;
                        } else {
                            sums.points[usize::from(*rule)] += points::VERB / divisor;
                        }
                    }
                }
            }
            // Its words are what it is about, not what is to be done: they count in passing.
            Lead::Question(at) => {
                if let Some(known) = self.vocabulary.known(list[at].word).filter(|_| first) {
                    sums.questions.clone_from(&known.questions_of);
                }
                return;
            }
            Lead::Plain => {}
        }
        for at in (ask.object..ask.end).rev() {
            let token = &list[at];
            if token.muted || !sums.sees(token.word) {
                continue;
            }
            let Some(known) = self.vocabulary.known(token.word) else {
                continue;
            };
            let head = at + 1 == ask.end;
            let each = if head { points::HEAD } else { points::MODIFIER };
            for rule in &known.words_of {
                let place = usize::from(*rule);
                if *rule == simple {
                    sums.simple |= first && head;
                } else if !led_by.is_empty() && !led_by.contains(rule) && self.rules[place].broad {
                    sums.points[place] += points::FAR;
                } else {
                    sums.points[place] += each / divisor;
                }
            }
        }
    }

    /// Counts a word in passing, and the phrases that begin with it.
    fn count_passing(
        &self,
        text: &str,
        list: &[Token],
        at: usize,
        passing: u32,
        may_be_simple: bool,
        sums: &mut Sums,
    ) {
        let token = &list[at];
        let Some(known) = self.vocabulary.known(token.word).filter(|_| !token.muted) else {
            return;
        };
        for phrase in &known.phrases {
            if sums.has_phrase(phrase.number) || phrase.length_at(text, &list[at..]).is_none() {
                continue;
            }
            if phrase.rule == self.simple() {
                sums.simple |= may_be_simple;
            } else {
                sums.takes_phrase(phrase.number);
                sums.points[usize::from(phrase.rule)] += points::PHRASE;
            }
        }
        if known.words_of.is_empty() && known.verbs_of.is_empty() {
            return;
        }
        if !sums.sees(token.word) {
            return;
        }
        let verbs = known
            .verbs_of
            .iter()
            .filter(|rule| !known.words_of.contains(rule));
        for rule in known.words_of.iter().chain(verbs) {
            if *rule != self.simple() {
                sums.passing[usize::from(*rule)] += passing;
            }
        }
    }

    /// The place under which the words of simple requests are entered.
    fn simple(&self) -> u16 {
        self.rules.len() as u16
    }
}

impl TaskRule {
    /// Whether its conditions hold.
    fn holds(&self, facts: &TaskFacts<'_>, words: u32) -> bool {
        let is = |wanted: Option<bool>, fact: bool| wanted.is_none_or(|wanted| wanted == fact);
        let fits = |wanted: &Option<super::priority::Pattern>, fact: Option<&str>| {
            wanted
                .as_ref()
                .is_none_or(|wanted| fact.is_some_and(|fact| wanted.matches(fact)))
        };
        self.min_words.is_none_or(|min| words >= min)
            && self.max_words.is_none_or(|max| words <= max)
            && is(self.tools, facts.tools)
            && is(self.images, facts.images)
            && is(self.thinking, facts.thinking)
            && fits(&self.agent, facts.agent)
            && fits(&self.user_agent, facts.user_agent)
    }
}

/// What has been counted so far.
struct Sums {
    points: Vec<u32>,
    /// Points of words in passing, before they are bounded.
    passing: Vec<u32>,
    simple: bool,
    /// The rules of which the first request is a question.
    questions: Vec<u16>,
    /// The words that have been counted, a bit each, and behind them the phrases.
    seen: Vec<u64>,
    words: usize,
}

impl Sums {
    fn new(words: usize, phrases: usize, tasks: usize) -> Self {
        Self {
            points: vec![0; tasks],
            passing: vec![0; tasks],
            simple: false,
            questions: Vec::new(),
            seen: vec![0; (words + phrases).div_ceil(64)],
            words,
        }
    }

    /// Notes a word, and whether it is the first of its kind.
    fn sees(&mut self, word: u16) -> bool {
        usize::from(word) < self.words && self.set(usize::from(word))
    }

    fn has_phrase(&self, number: u16) -> bool {
        let bit = self.words + usize::from(number);
        self.seen[bit / 64] & (1 << (bit % 64)) != 0
    }

    fn takes_phrase(&mut self, number: u16) {
        self.set(self.words + usize::from(number));
    }

    fn set(&mut self, bit: usize) -> bool {
        let (slot, bit) = (bit / 64, 1 << (bit % 64));
        let new = self.seen[slot] & bit == 0;
        self.seen[slot] |= bit;
        new
    }
}

#[cfg(test)]
mod tests;
