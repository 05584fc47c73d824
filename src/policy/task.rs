//! Decides what kind of work a request is, from the newest text of its user.
//!
//! Each task has words. The task of which the most different words occur wins; of equals, the one earlier in the list.
//! A request is simple (to be served by a cheap model whatever its task) if a simple word occurs, or if it has fewer
//! than ten words and its task is not a demanding one: a clear signal of coding outweighs shortness.

mod words;

use http::HeaderMap;
use serde::Deserialize;

use super::explicit::{self, HeaderError};

/// The header that names the task.
pub const TASK_HEADER: &str = "x-tollgate-task";

/// Most words that all rules may have together.
const MAX_WORDS: usize = 1024;

/// Most tasks.
const MAX_TASKS: usize = 64;

/// The rules as they are written in the config.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TaskRules {
    /// The tasks; of equals the earlier wins.
    #[serde(rename = "task")]
    pub tasks: Vec<TaskRule>,
    /// Words that make any request simple.
    pub simple_words: Vec<String>,
    /// A request of fewer words is simple, unless its task is demanding. 0 turns that off.
    pub simple_below_words: u32,
}

/// One task.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskRule {
    /// Its name.
    pub name: String,
    /// Whole words that speak for it, in any case.
    pub words: Vec<String>,
    /// Whether even a short request of it deserves a good model.
    #[serde(default)]
    pub demanding: bool,
}

/// What kind of work a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Task<'a> {
    /// The task, where the header names one or some word speaks for one.
    pub name: Option<&'a str>,
    /// Whether a cheap model will do, whatever the task.
    pub simple: bool,
}

/// Why rules cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TaskRuleError {
    /// Not a name as in the header.
    #[error("task name {0:?} must be 1 to 128 visible ASCII characters")]
    Name(String),
    /// Two tasks of one name.
    #[error("task {0:?} is there twice")]
    Duplicate(String),
    /// A phrase, or a word with a mark in it, would never be found.
    #[error("{0:?} is not a single word of letters and digits")]
    Word(String),
    /// More than can be told apart.
    #[error("more than 64 tasks or 1024 words")]
    TooMany,
}

/// The rules, ready for use.
#[derive(Debug, Clone)]
pub struct TaskDetector {
    tasks: Vec<(String, bool)>,
    simple_below_words: u32,
    /// For each first byte, the words that begin with it.
    initials: Box<[Initial; 256]>,
}

/// The words with one first byte. They are few, so a look at each beats a hash.
#[derive(Debug, Clone, Default)]
struct Initial {
    /// Their lengths: bit n for n bytes, the last for all longer.
    lengths: u32,
    words: Vec<(Box<str>, Entry)>,
}

/// What a word speaks for.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Its place among all words, so that it counts once.
    index: usize,
    /// The task; `None` for simple.
    task: Option<usize>,
}

impl Default for TaskRules {
    /// The guide's table. Words beyond it are forms of its words, and those of its column "why" for the tasks to which
    /// it gives no words of their own.
    fn default() -> Self {
        let task = |name: &str, demanding, words: &str| TaskRule {
            name: name.to_owned(),
            words: words.split_whitespace().map(str::to_owned).collect(),
            demanding,
        };
        Self {
            tasks: vec![
                task(
                    "ui",
                    false,
                    "ui frontend style styles styling css html button buttons form forms modal click hover animation \
                     element elements component components browser chrome selenium playwright comet",
                ),
                task(
                    "coding",
                    true,
                    "code coding implement function functions class classes method methods refactor refactoring \
                     python javascript typescript algorithm logic",
                ),
                task(
                    "testing",
                    true,
                    "test tests testing unit integration coverage",
                ),
                task(
                    "debugging",
                    true,
                    "debug debugging bug bugs fix fixes error errors crash crashes exception traceback failing fails",
                ),
                task(
                    "documentation",
                    false,
                    "readme readmes documentation document docs docstring comments guide guides changelog",
                ),
                task(
                    "research",
                    false,
                    "research investigate investigation explore exploration find compare",
                ),
                task(
                    "analysis",
                    true,
                    "analysis analyze analyse review performance profile audit",
                ),
                task(
                    "automation",
                    true,
                    "automation automate script scripts workflow workflows pipeline cron",
                ),
            ],
            simple_words: ["comment", "rename", "typo", "log", "simple", "quick"]
                .map(str::to_owned)
                .to_vec(),
            simple_below_words: 10,
        }
    }
}

impl TaskDetector {
    /// Makes rules ready.
    ///
    /// # Errors
    ///
    /// A task's name is no name or is there twice, a word could never be found, or there are too many.
    pub fn new(rules: &TaskRules) -> Result<Self, TaskRuleError> {
        let mut detector = Self {
            tasks: Vec::new(),
            simple_below_words: rules.simple_below_words,
            initials: Box::new(std::array::from_fn(|_| Initial::default())),
        };
        let mut index = 0;
        for (task, rule) in rules.tasks.iter().enumerate() {
            if !explicit::is_name(&rule.name) {
                return Err(TaskRuleError::Name(rule.name.clone()));
            }
            if detector.tasks.iter().any(|(name, _)| *name == rule.name) {
                return Err(TaskRuleError::Duplicate(rule.name.clone()));
            }
            detector.tasks.push((rule.name.clone(), rule.demanding));
            for word in &rule.words {
                detector.add(word, Some(task), &mut index)?;
            }
        }
        for word in &rules.simple_words {
            detector.add(word, None, &mut index)?;
        }
        if index > MAX_WORDS || detector.tasks.len() > MAX_TASKS {
            return Err(TaskRuleError::TooMany);
        }
        Ok(detector)
    }

    fn add(
        &mut self,
        word: &str,
        task: Option<usize>,
        index: &mut usize,
    ) -> Result<(), TaskRuleError> {
        let lower = word.to_lowercase();
        if !words::is_word(&lower) {
            return Err(TaskRuleError::Word(word.to_owned()));
        }
        let initial = &mut self.initials[usize::from(lower.as_bytes()[0])];
        // The same word twice for one task counts once.
        if initial
            .words
            .iter()
            .any(|(known, entry)| **known == lower && entry.task == task)
        {
            return Ok(());
        }
        initial.lengths |= length_bit(lower.len());
        let entry = Entry {
            index: *index,
            task,
        };
        initial.words.push((lower.into_boxed_str(), entry));
        *index += 1;
        Ok(())
    }

    /// Decides the task: the header if it is there, else by the newest text of the user.
    ///
    /// A request whose task the header names is not simple: an explicit task overrides the detection.
    ///
    /// # Errors
    ///
    /// The header `x-tollgate-task` is repeated or not a name.
    pub fn decide<'a>(
        &'a self,
        headers: &'a HeaderMap,
        text: Option<&str>,
    ) -> Result<Task<'a>, HeaderError> {
        if let Some(name) = explicit::value(headers, TASK_HEADER)? {
            return Ok(Task {
                name: Some(name),
                simple: false,
            });
        }
        Ok(text.map_or(
            Task {
                name: None,
                simple: false,
            },
            |text| self.detect(text),
        ))
    }

    /// Detects the task of a text. Of a long one only the beginning and the end are read.
    pub fn detect(&self, text: &str) -> Task<'_> {
        let mut scores = [0_u32; MAX_TASKS];
        let mut seen = [0_u64; MAX_WORDS / 64];
        let mut simple = false;
        let mut words = 0_u32;
        for part in words::ends(text) {
            let wanted = |first: u8, length| {
                self.initials[usize::from(first)].lengths & length_bit(length) != 0
            };
            words += words::each(part, wanted, |word| {
                let initial = &self.initials[usize::from(word.as_bytes()[0])];
                for (_, entry) in initial.words.iter().filter(|(known, _)| **known == *word) {
                    let (slot, bit) = (entry.index / 64, 1 << (entry.index % 64));
                    if seen[slot] & bit != 0 {
                        continue;
                    }
                    seen[slot] |= bit;
                    match entry.task {
                        Some(task) => scores[task] += 1,
                        None => simple = true,
                    }
                }
            });
        }
        let best = scores[..self.tasks.len()]
            .iter()
            .copied()
            .max()
            .unwrap_or(0);
        let task = scores
            .iter()
            .zip(&self.tasks)
            .find(|(score, _)| best > 0 && **score == best)
            .map(|(_, task)| task);
        let demanding = task.is_some_and(|(_, demanding)| *demanding);
        let short = (1..self.simple_below_words).contains(&words);
        Task {
            name: task.map(|(name, _)| name.as_str()),
            simple: simple || (short && !demanding),
        }
    }
}

const fn length_bit(length: usize) -> u32 {
    if length < 31 { 1 << length } else { 1 << 31 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::explicit::Rule;
    use http::HeaderValue;

    fn guide() -> TaskDetector {
        TaskDetector::new(&TaskRules::default()).expect("the guide's rules")
    }

    #[test]
    fn the_guides_examples_come_out() {
        let guide = guide();
        for (text, name, simple) in [
            ("Fix the login button styling", "ui", true),
            ("Implement user authentication function", "coding", false),
            ("Write a README for this project", "documentation", true),
            ("Fix the CSS styling", "ui", true),
            ("Fix the API endpoint", "debugging", false),
            ("Implement a function that writes a comment", "coding", true),
            ("Write unit tests for the login function", "testing", false),
            ("Debug the failing test", "debugging", false),
            (
                "Automate the backups with a Python script",
                "automation",
                false,
            ),
        ] {
            let task = guide.detect(text);
            assert_eq!((task.name, task.simple), (Some(name), simple), "{text}");
        }
    }

    #[test]
    fn only_whole_words_count_in_any_case_and_script() {
        let guide = guide();
        let name = |text| guide.detect(text).name;
        assert_eq!(name("Der Umbau der Büroform gefällt"), None);
        assert_eq!(name("informative classify my_function"), None);
        assert_eq!(name("STYLING—button"), Some("ui"));
        assert_eq!(name("修正button的样式"), Some("ui"));
        assert!(
            !guide
                .detect("请把登录页面上的所有文字都改成深蓝色并且居中")
                .simple
        );
        assert!(guide.detect("hello").simple);
        assert!(!guide.detect("").simple);
        let rules = TaskRules {
            tasks: vec![TaskRule {
                name: "größe".into(),
                words: vec!["x".into()],
                demanding: false,
            }],
            ..TaskRules::default()
        };
        assert!(matches!(
            TaskDetector::new(&rules),
            Err(TaskRuleError::Name(_))
        ));
        let rules = TaskRules {
            tasks: vec![TaskRule {
                name: "size".into(),
                words: vec!["Größe".into()],
                demanding: false,
            }],
            ..TaskRules::default()
        };
        let detector = TaskDetector::new(&rules).expect("rules");
        assert_eq!(
            detector.detect("die GRÖSSE, GRÖẞE oder GRÖßE?").name,
            Some("size")
        );
    }

    #[test]
    fn a_word_counts_once_and_the_earlier_of_equals_wins() {
        let guide = guide();
        assert_eq!(
            guide.detect("code code code with css and html").name,
            Some("ui")
        );
        assert_eq!(guide.detect("css code").name, Some("ui"));
    }

    #[test]
    fn of_a_long_text_both_ends_are_read() {
        let guide = guide();
        let long = format!("Look: {} Refactor this class", "x ".repeat(50_000));
        assert_eq!(guide.detect(&long).name, Some("coding"));
    }

    #[test]
    fn the_header_overrides_the_detection() {
        let guide = guide();
        let mut headers = HeaderMap::new();
        let text = Some("Fix the typo in the button");
        headers.insert(TASK_HEADER, HeaderValue::from_static("coding"));
        assert_eq!(
            guide.decide(&headers, text),
            Ok(Task {
                name: Some("coding"),
                simple: false
            })
        );
        headers.append(TASK_HEADER, HeaderValue::from_static("ui"));
        assert_eq!(
            guide.decide(&headers, text).map_err(|e| e.rule),
            Err(Rule::Once)
        );
        headers.clear();
        assert_eq!(
            guide.decide(&headers, None),
            Ok(Task {
                name: None,
                simple: false
            })
        );
    }

    #[test]
    fn rules_are_read_from_a_config_and_checked() {
        #[derive(Deserialize)]
        struct File {
            classify: TaskRules,
        }
        let file: File = toml::from_str(
            "[classify]\nsimple_below_words = 3\n[[classify.task]]\nname = \"sql\"\nwords = [\"Select\"]\ndemanding = true",
        )
        .expect("a config");
        let detector = TaskDetector::new(&file.classify).expect("rules");
        assert_eq!(
            detector.detect("SELECT it"),
            Task {
                name: Some("sql"),
                simple: false
            }
        );
        assert_eq!(
            detector.detect("a css button"),
            Task {
                name: None,
                simple: false
            }
        );
        assert!(toml::from_str::<TaskRules>("simple = 1").is_err());
        for (name, word) in [
            ("sql", "x"),
            ("a", "two words"),
            ("a", ""),
            ("a", "x-y"),
            ("", "x"),
        ] {
            let mut rules = file.classify.clone();
            rules.tasks.push(TaskRule {
                name: name.into(),
                words: vec![word.into()],
                demanding: false,
            });
            assert!(TaskDetector::new(&rules).is_err(), "{name} {word}");
        }
        let mut rules = file.classify.clone();
        rules.simple_words = (0..2_000).map(|n| format!("w{n}")).collect();
        assert_eq!(
            TaskDetector::new(&rules).map(|_| ()),
            Err(TaskRuleError::TooMany)
        );
    }
}
