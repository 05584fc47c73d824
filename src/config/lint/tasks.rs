//! Task rules that never come into play, or always do.

use super::Finding;
use crate::config::settings::Settings;
use crate::policy::task::{ENOUGH_POINTS, TaskRule, TaskRules};

pub(super) fn lint(settings: &Settings, findings: &mut Vec<Finding>) {
    // The user's blocks stand before the built-in ones, which are beyond doubt.
    let built_in = TaskRules::default().tasks;
    let own = settings.classify.tasks.tasks.iter().enumerate();
    for (index, rule) in own.filter(|(_, rule)| !built_in.contains(rule)) {
        let key = format!("classify.task.{}", index + 1);
        findings.extend(never(rule, &key));
        findings.extend(always(rule, &key));
    }
}

/// A task that no request can get enough points for.
fn never(rule: &TaskRule, key: &str) -> Option<Finding> {
    let name = &rule.name;
    if !rule.has_words() && rule.bonus.is_some_and(|bonus| bonus < ENOUGH_POINTS) {
        return Some(Finding::warning(
            "task-never-detected",
            key.to_owned(),
            format!(
                "task `{name}` is never detected: it has no words, and its bonus is less than the {ENOUGH_POINTS} points that a task needs"
            ),
            "leave the bonus out, or raise it",
        ));
    }
    let only_questions = !rule.questions.is_empty()
        && rule.bonus.is_none()
        && !rule.stack_trace
        && [&rule.words, &rule.verbs, &rule.openings, &rule.phrases]
            .iter()
            .all(|list| list.is_empty());
    only_questions.then(|| {
        Finding::note(
            "task-of-questions-only",
            key.to_owned(),
            format!("task `{name}` has only questions: it is detected where other tasks' words stand in them, and those mostly win"),
            "add openings or phrases",
        )
    })
}

/// A bonus that every request gets.
fn always(rule: &TaskRule, key: &str) -> Option<Finding> {
    let bonus = rule.bonus.filter(|bonus| *bonus >= ENOUGH_POINTS)?;
    (!rule.has_conditions()).then(|| {
        Finding::warning(
            "task-bonus-always",
            key.to_owned(),
            format!(
                "task `{}` has its bonus of {bonus} in every request, so that those without any task's words are all of it",
                rule.name
            ),
            "give it a condition, such as user_agent or max_words, or take the bonus out",
        )
    })
}
