//! The task detector against the labelled prompts: floors under what `cargo bench --bench tasks` prints.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use tollgate::policy::task::{TaskDetector, TaskRules};

#[derive(Deserialize)]
struct Prompt {
    text: String,
    task: Option<String>,
    simple: bool,
    hard: bool,
    part: String,
}

fn prompts() -> Vec<Prompt> {
    include_str!("../fixtures/tasks.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).expect("a labelled prompt"))
        .collect()
}

#[test]
fn the_labelled_prompts_are_many_varied_and_different() {
    let prompts = prompts();
    let texts: BTreeSet<&str> = prompts.iter().map(|prompt| prompt.text.as_str()).collect();
    assert_eq!(texts.len(), prompts.len());
    assert!(prompts.len() >= 320);
    assert!(prompts.iter().filter(|prompt| prompt.hard).count() >= 60);
    let mut counts = BTreeMap::<_, u32>::new();
    for prompt in &prompts {
        *counts.entry(prompt.task.as_deref()).or_default() += 1;
    }
    assert_eq!(counts.len(), 9);
    assert!(counts.values().all(|count| *count >= 35), "{counts:?}");
}

#[test]
fn the_detector_is_as_good_as_the_page_on_tasks_says() {
    let detector = TaskDetector::new(&TaskRules::default()).expect("the built-in rules");
    let prompts = prompts();
    // Shares in per mille, close under what is reached.
    for (part, floor, simple_floor) in FLOORS {
        let of_part = prompts
            .iter()
            .filter(|prompt| part.is_none_or(|part| prompt.part == part));
        let (mut all, mut right, mut simple) = (0, 0, 0);
        for prompt in of_part {
            let found = detector.detect(&prompt.text);
            all += 1;
            right += u32::from(found.name == prompt.task.as_deref());
            simple += u32::from(found.simple == prompt.simple);
        }
        assert!(right * 1000 >= all * floor, "{part:?}: {right} of {all}");
        assert!(
            simple * 1000 >= all * simple_floor,
            "{part:?}: {simple} of {all} simple"
        );
    }
}

/// For a part of the prompts, or all: how many of a thousand must have the right task, and the right answer to whether they
/// are simple.
const FLOORS: [(Option<&str>, u32, u32); 4] = [
    (None, 955, 970),
    (Some("development"), 985, 985),
    (Some("held-out"), 950, 970),
    (Some("fresh"), 760, 910),
];
