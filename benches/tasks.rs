//! Measures the task detector by the labelled prompts of tests/fixtures/tasks.jsonl: the confusion matrix, precision and
//! recall of each task, and every miss, for the development part and the held-out part.
//!
//! Run with `cargo bench --bench tasks`; `-- --part held-out` or `-- --part development` for one part,
//! `-- --no-misses` without the misses; `-- --rules FILE` for other rules than the built-in config/tasks.toml.

#![allow(clippy::print_stdout, reason = "a bench prints its table")]

use serde::Deserialize;
use tollgate::policy::task::{TaskDetector, TaskFacts, TaskRules};

/// A prompt with the task that a person gave it.
#[derive(Deserialize)]
struct Prompt {
    text: String,
    task: Option<String>,
    simple: bool,
    hard: bool,
    part: String,
}

const PROMPTS: &str = include_str!("../tests/fixtures/tasks.jsonl");

/// The name for prompts of no task.
const NONE: &str = "none";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let value_of = |flag: &str| {
        let pair = arguments.windows(2).find(|pair| pair[0] == flag);
        pair.map(|pair| pair[1].as_str())
    };
    let only = value_of("--part");
    let with_misses = !arguments.iter().any(|argument| argument == "--no-misses");
    let prompts: Vec<Prompt> = PROMPTS
        .lines()
        .map(|line| serde_json::from_str(line).expect("a labelled prompt"))
        .collect();
    let rules = value_of("--rules").map_or_else(TaskRules::default, |file| {
        let text = std::fs::read_to_string(file).expect("a readable file");
        toml::from_str(&text).expect("rules for tasks")
    });
    let mut tasks: Vec<&str> = rules.tasks.iter().map(|rule| rule.name.as_str()).collect();
    tasks.push(NONE);
    let detector = TaskDetector::new(&rules).expect("the built-in rules");
    for part in ["development", "held-out", "fresh"] {
        if only.is_none_or(|only| only == part) {
            let prompts: Vec<&Prompt> = prompts
                .iter()
                .filter(|prompt| prompt.part == part)
                .collect();
            print_part(part, &prompts, &tasks, &detector, with_misses);
        }
    }
}

fn print_part(
    part: &str,
    prompts: &[&Prompt],
    tasks: &[&str],
    detector: &TaskDetector,
    with_misses: bool,
) {
    let place = |name: Option<&str>| {
        let name = name.unwrap_or(NONE);
        tasks
            .iter()
            .position(|task| *task == name)
            .expect("a known task")
    };
    let mut matrix = vec![vec![0_u32; tasks.len()]; tasks.len()];
    let (mut right, mut simple_right, mut hard_right) = (0, 0, 0);
    let mut misses = Vec::new();
    for prompt in prompts {
        let found = detector.detect(&prompt.text);
        let (is, told) = (place(prompt.task.as_deref()), place(found.name));
        matrix[is][told] += 1;
        right += usize::from(is == told);
        hard_right += usize::from(is == told && prompt.hard);
        simple_right += usize::from(prompt.simple == found.simple);
        if is != told || prompt.simple != found.simple {
            misses.push((prompt, tasks[is], tasks[told], found.simple));
        }
    }
    let share = |part: usize, whole: usize| {
        format!(
            "{part} of {whole} ({:.1} %)",
            part as f64 * 100.0 / whole as f64
        )
    };
    let hard = prompts.iter().filter(|prompt| prompt.hard).count();
    println!("## {part}\n");
    println!("task right: {}", share(right, prompts.len()));
    println!("of the hard ones: {}", share(hard_right, hard));
    println!("simple right: {}\n", share(simple_right, prompts.len()));
    println!("Rows: what a person said. Columns: what was detected.\n");
    print!("| {:<13} |", "");
    for task in tasks {
        print!(" {task} |");
    }
    println!(" recall | precision |");
    println!("| --- |{}", " ---: |".repeat(tasks.len() + 2));
    for (row, task) in tasks.iter().enumerate() {
        let of_row: u32 = matrix[row].iter().sum();
        let of_column: u32 = matrix.iter().map(|row_of| row_of[row]).sum();
        let percent = |whole: u32| match whole {
            0 => "–".to_owned(),
            whole => format!(
                "{:.0} %",
                f64::from(matrix[row][row]) * 100.0 / f64::from(whole)
            ),
        };
        print!("| {task:<13} |");
        for (column, count) in matrix[row].iter().enumerate() {
            let count = if *count == 0 {
                String::new()
            } else {
                count.to_string()
            };
            print!(" {count:>width$} |", width = tasks[column].len());
        }
        println!(" {:>6} | {:>9} |", percent(of_row), percent(of_column));
    }
    println!();
    if !with_misses {
        return;
    }
    for (prompt, is, told, simple) in misses {
        let points = detector.explain(&TaskFacts {
            text: Some(&prompt.text),
            ..TaskFacts::default()
        });
        let points: Vec<String> = points
            .iter()
            .take(3)
            .map(|(name, points)| format!("{name} {points}"))
            .collect();
        let text: String = prompt.text.replace('\n', " ⏎ ").chars().take(110).collect();
        let simple = if prompt.simple == simple {
            String::new()
        } else {
            format!(", simple told {simple}")
        };
        println!("- {is} told {told}{simple}: {text} [{}]", points.join(", "));
    }
    println!();
}
