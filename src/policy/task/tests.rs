#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::LazyLock;

use http::HeaderValue;
use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::policy::explicit::Rule;
use crate::policy::priority::Pattern;

fn guide() -> &'static TaskDetector {
    static GUIDE: LazyLock<TaskDetector> =
        LazyLock::new(|| TaskDetector::new(&TaskRules::default()).unwrap());
    &GUIDE
}

/// A detector of these tasks alone.
fn only(tasks: &str) -> TaskDetector {
    TaskDetector::new(&read(tasks)).unwrap()
}

fn read(tasks: &str) -> TaskRules {
    toml::from_str(&format!("simple_below_words = 3\n{tasks}")).unwrap()
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
        ("Implement the README parser", "coding", false),
        ("Document why this function is slow", "documentation", true),
        ("Write tests for the login button", "testing", false),
        ("Why does the CSS build crash?", "debugging", false),
        ("Research the best algorithm", "research", true),
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
fn what_a_request_begins_with_counts_most_and_then_its_object() {
    let guide = guide();
    let points = |text| {
        let facts = TaskFacts {
            text: Some(text),
            ..TaskFacts::default()
        };
        let all = guide.explain(&facts);
        all.into_iter()
            .map(|(name, points)| (name.to_owned(), points))
            .collect::<Vec<_>>()
    };
    // The worked example of `points`.
    assert_eq!(
        points("Fix the login button styling"),
        [
            ("ui".to_owned(), 9),
            ("debugging".to_owned(), 4),
            ("coding".to_owned(), 1)
        ]
    );
    for (text, name) in [
        (
            "Hi! Could you please review the CSS of my login form?",
            "analysis",
        ),
        ("Review the tests. Then fix the bug.", "analysis"),
        ("I need you to refactor the button component", "coding"),
        ("README for the button component", "documentation"),
        (
            "Write a guide for debugging the test suite",
            "documentation",
        ),
    ] {
        assert_eq!(guide.detect(text).name, Some(name), "{text}");
    }
}

#[test]
fn a_pasted_trace_speaks_for_debugging_and_its_words_and_quoted_ones_for_nothing() {
    let guide = guide();
    let trace = "Traceback (most recent call last):\n  File \"button.py\", line 1, in css\nKeyError: 'form'";
    assert_eq!(guide.detect(trace).name, Some("debugging"));
    let code = "Please:\n```\n<button class=\"form\">test the readme</button>\n```\n> css html form button\n";
    assert_eq!(guide.detect(code).name, None);
    assert_eq!(
        guide
            .detect("Say \"css html button\" now and then, whenever you like to")
            .name,
        None
    );
}

#[test]
fn small_talk_and_other_languages_have_no_task() {
    let guide = guide();
    for text in [
        "",
        "  \n",
        "👍👍👍",
        "hello",
        "Der Umbau der Büroform gefällt",
        "请把登录页面上的所有文字都改成深蓝色并且居中",
        "informative classify my_function_x",
        "What form of government does Switzerland have, and is it a good one?",
        "My yoga class was moved to Tuesday.",
    ] {
        assert_eq!(guide.detect(text).name, None, "{text}");
    }
    assert_eq!(guide.detect("修正button的样式").name, Some("ui"));
    assert_eq!(guide.detect("STYLING—button").name, Some("ui"));
    assert!(guide.detect("hello").simple && guide.detect("👍").simple);
    assert!(!guide.detect("").simple && !guide.detect(" \n").simple);
    assert!(
        !guide
            .detect("请把登录页面上的所有文字都改成深蓝色并且居中")
            .simple
    );
}

#[test]
fn small_work_is_simple_whatever_its_task() {
    let guide = guide();
    for (text, simple) in [
        (
            "Rename the function load_all to load in the whole of the code base, please",
            true,
        ),
        (
            "Fix the typo in the error message of the parser that users see when they type",
            true,
        ),
        (
            "Add a comment to the class that says why it keeps its own copy of the list",
            true,
        ),
        (
            "Implement a log parser that reads the comments of a file and counts its typos",
            false,
        ),
        (
            "Why does the rename dialog crash when I click on the button in the second row?",
            false,
        ),
    ] {
        assert_eq!(guide.detect(text).simple, simple, "{text}");
    }
}

#[test]
fn of_a_long_text_both_ends_are_read() {
    let guide = guide();
    let filler = "lorem ipsum ".repeat(50_000);
    let long = format!("Look:\n{filler}\n\nRefactor this class");
    assert_eq!(guide.detect(&long).name, Some("coding"));
    let long = format!("Refactor this class\n\n{filler}");
    assert_eq!(guide.detect(&long).name, Some("coding"));
    // A block of code that the tail closes was opened in what is not read.
    let long = format!("Look:\n```\n{filler}\nreview the css button\n```\nRefactor this class");
    assert_eq!(guide.detect(&long).name, Some("coding"));
}

#[test]
fn the_header_overrides_the_detection() {
    let guide = guide();
    let mut headers = HeaderMap::new();
    let facts = TaskFacts {
        text: Some("Fix the typo in the button"),
        ..TaskFacts::default()
    };
    headers.insert(TASK_HEADER, HeaderValue::from_static("coding"));
    assert_eq!(
        guide.decide(&headers, &facts),
        Ok(Task {
            name: Some("coding"),
            simple: false,
            why: TaskReason::Header
        })
    );
    headers.append(TASK_HEADER, HeaderValue::from_static("ui"));
    assert_eq!(
        guide.decide(&headers, &facts).map_err(|e| e.rule),
        Err(Rule::Once)
    );
    headers.clear();
    assert_eq!(
        guide.decide(&headers, &TaskFacts::default()),
        Ok(Task {
            name: None,
            simple: false,
            why: TaskReason::Nothing
        })
    );
}

#[test]
fn what_an_agent_asks_for_itself_is_simple_and_of_no_task() {
    let facts = TaskFacts {
        text: Some("Refactor this class"),
        side_request: true,
        ..TaskFacts::default()
    };
    assert_eq!(
        guide().of_facts(&facts),
        Task {
            name: None,
            simple: true,
            why: TaskReason::SideRequest
        }
    );
}

#[test]
fn conditions_bind_and_a_rule_of_conditions_alone_needs_no_word() {
    let detector = only(
        "[[task]]\nname = 'shots'\nimages = true\n\
         [[task]]\nname = 'plain'\nwords = ['deploy']\ntools = false\nthinking = false\nmin_words = 3\nmax_words = 5\n\
         [[task]]\nname = 'aider'\nuser_agent = 'aider/*'\nagent = '*'\nbonus = 100\n",
    );
    let text = Some("please deploy it");
    let named = |facts: &TaskFacts<'_>| detector.of_facts(facts).name.map(str::to_owned);
    let plain = TaskFacts {
        text,
        ..TaskFacts::default()
    };
    let is = |name: &str| Some(name.to_owned());
    assert_eq!(named(&plain), is("plain"));
    assert_eq!(
        named(&TaskFacts {
            tools: true,
            ..plain
        }),
        None
    );
    assert_eq!(
        named(&TaskFacts {
            thinking: true,
            ..plain
        }),
        None
    );
    assert_eq!(
        named(&TaskFacts {
            text: Some("deploy it"),
            ..plain
        }),
        None
    );
    assert_eq!(
        named(&TaskFacts {
            text: Some("please deploy it to them now"),
            ..plain
        }),
        None
    );
    assert_eq!(
        named(&TaskFacts {
            images: true,
            text: None,
            ..plain
        }),
        is("shots")
    );
    let agent = TaskFacts {
        user_agent: Some("Aider/1.0"),
        ..plain
    };
    assert_eq!(named(&agent), is("plain"), "no agent is stated");
    assert_eq!(
        named(&TaskFacts {
            agent: Some("a1"),
            ..agent
        }),
        is("aider")
    );
}

#[test]
fn phrases_have_gaps_choices_and_beginnings() {
    let detector = only(
        "[[task]]\nname = 'a'\nphrases = ['find * bug|bugs', 'why * fail*']\n\
         [[task]]\nname = 'b'\nopenings = ['roll back|forward']\n",
    );
    for (text, name) in [
        ("now find me all the ugly bugs", Some("a")),
        ("now find me all of the many ugly bugs", None),
        ("so why is it failing", Some("a")),
        ("find it. The bug is old", None),
        ("find `the` bug", Some("a")),
        ("find `bug`", None),
        ("please roll forward the release", Some("b")),
        ("it did roll back the release last week", None),
    ] {
        assert_eq!(detector.detect(text).name, name, "{text}");
    }
}

#[test]
fn of_equals_the_earlier_wins_and_a_word_counts_once() {
    let detector = only(
        "[[task]]\nname = 'a'\nwords = ['x']\n[[task]]\nname = 'b'\nwords = ['Größe', 'y', 'Y', 'y']\n",
    );
    assert_eq!(detector.detect("write x").name, Some("a"));
    assert_eq!(detector.detect("die GRÖẞE?").name, Some("b"));
    assert_eq!(
        detector.detect("now y").name,
        Some("b"),
        "the head of a bare object"
    );
    assert!(matches!(
        detector.detect("write y").why,
        TaskReason::Rule { points: 6, .. }
    ));
    assert_eq!(
        detector
            .detect("b: x x x x x and y and the größe of it")
            .name,
        Some("b")
    );
}

#[test]
fn wrong_rules_are_told_each_with_its_place() {
    for (tasks, told) in [
        ("name = 'größe'\nwords = ['x']", "visible ASCII"),
        (
            "name = 'a'\nwords = ['two words']",
            "\"two words\" is not a single word",
        ),
        ("name = 'a'\nwords = ['']", "not a single word"),
        ("name = 'a'\nverbs = ['x-y']", "not a single word"),
        ("name = 'a'\nquestions = ['?']", "not a single word"),
        ("name = 'a'", "nothing can speak for it"),
        ("name = 'a'\nbonus = 5", "nothing can speak for it"),
        ("name = 'a'\nwords = ['x']\nbonus = 1001", "bonus 1001"),
        ("name = 'a'\nphrases = ['']", "can never match"),
        ("name = 'a'\nphrases = ['* x']", "can never match"),
        ("name = 'a'\nphrases = ['x *']", "can never match"),
        ("name = 'a'\nphrases = ['x * * y']", "can never match"),
        ("name = 'a'\nphrases = ['fail* x']", "can never match"),
        ("name = 'a'\nphrases = ['x| y']", "can never match"),
        ("name = 'a'\nopenings = ['a.b']", "can never match"),
        (
            "name = 'a'\nphrases = ['a * b * c * d * e']",
            "can never match",
        ),
        (
            "name = 'a'\nwords = ['x']\nmin_words = 5\nmax_words = 4",
            "no text has both",
        ),
        (
            "name = 'a'\nphrases = ['x * y z']\nmax_words = 2",
            "more words than max_words 2",
        ),
        ("name = 'ok'\nwords = ['x']", "is there twice"),
    ] {
        let rules = read(&format!(
            "[[task]]\nname = 'ok'\nwords = ['x']\n[[task]]\n{tasks}\n"
        ));
        let problems = TaskDetector::problems(&rules);
        assert_eq!(problems.len(), 1, "{tasks}");
        assert!(
            matches!(problems[0], TaskRuleError::Task { index: 1, .. }),
            "{tasks}"
        );
        assert!(
            problems[0].to_string().contains(told),
            "{tasks}: {}",
            problems[0]
        );
        assert!(TaskDetector::new(&rules).is_err());
    }
    assert!(
        toml::from_str::<TaskRules>("simple_below_words = 1\n[[task]]\nname = 'a'\nword = []")
            .is_err()
    );
    let mut rules = read("");
    rules.simple.words = vec!["x y".into()];
    assert!(matches!(
        TaskDetector::new(&rules),
        Err(TaskRuleError::Simple(_))
    ));
    rules.simple.words = (0..9_000).map(|n| format!("w{n}")).collect();
    assert!(matches!(
        TaskDetector::new(&rules),
        Err(TaskRuleError::TooMany)
    ));
    let mut rules = read("");
    rules.tasks = (0..65)
        .map(|n| TaskRule {
            name: format!("t{n}"),
            user_agent: Some(Pattern::new("*")),
            ..TaskRule::default()
        })
        .collect();
    assert!(matches!(
        TaskDetector::new(&rules),
        Err(TaskRuleError::TooMany)
    ));
}

#[derive(Deserialize)]
struct Prompt {
    text: String,
}

proptest! {
    #[test]
    fn any_text_gets_an_answer_and_always_the_same(text in any::<String>(), tail in any::<String>()) {
        let guide = guide();
        prop_assert_eq!(guide.detect(&text), guide.detect(&text));
        let long = format!("{text}{}{tail}", "é`\"<\n```".repeat(900));
        guide.detect(&long);
    }

    #[test]
    fn any_mixture_of_known_prompts_marks_and_fences_is_read(
        picks in prop::collection::vec((0_usize..400, 0_usize..8), 1..6),
        cut in 0_usize..200,
    ) {
        let prompts: Vec<Prompt> = include_str!("../../../tests/fixtures/tasks.jsonl")
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let marks = ["\n", "```\n", "\"", " - ", "…", "é", "> ", "'"];
        let text: String = picks
            .iter()
            .flat_map(|(prompt, mark)| [prompts[*prompt].text.as_str(), marks[*mark]])
            .collect();
        let guide = guide();
        let cut = text.floor_char_boundary(cut.min(text.len()));
        let task = guide.detect(&text[cut..]);
        let points = guide.explain(&TaskFacts { text: Some(&text[cut..]), ..TaskFacts::default() });
        match task.why {
            TaskReason::Rule { points: most, second } => {
                prop_assert_eq!(points[0].1, most);
                prop_assert_eq!(points.get(1).map_or(0, |(_, points)| *points), second);
                prop_assert!(most >= ENOUGH_POINTS && most >= second);
            }
            _ => prop_assert!(points.first().is_none_or(|(_, points)| *points < ENOUGH_POINTS)),
        }
    }
}

#[test]
fn a_text_of_ten_megabytes_takes_no_longer_than_its_ends() {
    // Single lines, single words and unclosed marks of that length.
    let guide = guide();
    for piece in ["a", "a ", "\"a ", "é", "`", "<", "\n", "，", "'a"] {
        let text = piece.repeat(10_000_000 / piece.len());
        assert_eq!(guide.detect(&text).name, None, "{piece:?}");
    }
}
