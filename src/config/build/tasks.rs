//! The rules for tasks: the user's blocks, and the built-in ones beside them.

use super::Lookup;
use crate::policy::priority::Pattern;
use crate::policy::task::{TaskDetector, TaskRule, TaskRuleError, TaskRules};

/// The section of the blocks.
const BLOCKS: &str = "classify.task";

/// Asks for everything about tasks. The user's blocks go first, so that they win among equals; a built-in task that one of
/// them names is left out.
pub(super) fn task_rules(lookup: &mut Lookup<'_>) -> TaskRules {
    let own: Vec<TaskRule> = lookup.ask_tables(BLOCKS);
    let with_built_in: bool = lookup.ask("classify.builtin_tasks");
    let below: usize = lookup.ask("classify.simple_below_words");
    let mut rules = TaskRules::default();
    if let Some(words) = lookup.ask_optional::<Vec<Pattern>>("classify.simple_words") {
        rules.simple.words = words.iter().map(|word| word.as_str().to_owned()).collect();
        rules.simple.openings.clear();
        rules.simple.phrases.clear();
    }
    rules.simple_below_words = u32::try_from(below).unwrap_or(u32::MAX);
    let own_count = own.len();
    let built_in = std::mem::replace(&mut rules.tasks, own);
    if with_built_in {
        let left: Vec<TaskRule> = built_in
            .into_iter()
            .filter(|task| rules.tasks.iter().all(|own| own.name != task.name))
            .collect();
        rules.tasks.extend(left);
    }
    // Where a block could not be read, those behind it have other numbers, and there is a problem already.
    let written =
        (1..).take_while(|number| lookup.tables_at.contains_key(&format!("{BLOCKS}.{number}")));
    if written.count() == own_count {
        for problem in TaskDetector::problems(&rules) {
            object(lookup, &problem);
        }
    }
    rules
}

/// Tells a problem at its block.
fn object(lookup: &mut Lookup<'_>, problem: &TaskRuleError) {
    let (key, help) = match problem {
        TaskRuleError::Task { index, .. } => (
            format!("{BLOCKS}.{}", index + 1),
            "a task has a name and words, verbs, openings, questions, phrases or conditions; docs/tasks.md explains them",
        ),
        TaskRuleError::Simple(_) => (
            "classify.simple_words".to_owned(),
            "each is a single word of letters and digits",
        ),
        TaskRuleError::TooMany => (
            BLOCKS.to_owned(),
            "fewer will do: a word counts in all its places",
        ),
    };
    let place = lookup.tables_at.get(&key).cloned();
    let place = place.or_else(|| lookup.place(&key));
    lookup.object(
        place,
        &key,
        format!("`{key}` cannot be used: {problem}"),
        help,
    );
}
