//! The points of which a task is made: all the weights there are, in one place.
//!
//! What a request begins with decides more than what it is about, and that more than any word in passing. A worked
//! example: in "Fix the login button styling" the verb `fix` gives debugging 4, `button` in front of the head gives ui 3
//! and the head `styling` 6: ui has 9, debugging 4.

/// A request begins with one of the task's `openings` ("review", "find out why").
pub(super) const OPENING: u32 = 18;

/// One of the task's `phrases` stands anywhere in prose.
pub(super) const PHRASE: u32 = 7;

/// One of its `words` is the head of the object: in "write tests for the button" that is `tests`.
pub(super) const HEAD: u32 = 6;

/// A stack trace or a compiler's error is pasted, and the task has `stack_trace`.
pub(super) const TRACE: u32 = 5;

/// A request begins with one of its `verbs`.
pub(super) const VERB: u32 = 4;

/// One of its `words` stands in the object before the head.
pub(super) const MODIFIER: u32 = 3;

/// One of its `words` or `verbs` stands elsewhere in a clause that asks for something: "… for the button".
pub(super) const ASKED: u32 = 3;

/// One of them stands elsewhere in a sentence that asks for something, or in the first one where none does.
pub(super) const NEAR: u32 = 2;

/// One of them stands in another sentence, or in the object of another task's verb where
/// the task is `broad`.
pub(super) const FAR: u32 = 1;

/// The most that words in passing ([`ASKED`], [`NEAR`] and [`FAR`]) give a task together.
pub(super) const PASSING_AT_MOST: u32 = 4;

/// What a further request in the same text gives, as a divisor: the first one counts most.
pub(super) const LATER_ASK_DIVISOR: u32 = 2;

/// What a task needs at least.
pub(super) const ENOUGH: u32 = 3;

/// What the other tasks need together, so that a question that begins with one of a task's `questions` is about work.
pub(super) const ABOUT_WORK: u32 = 4;

/// What such a question gives to its task.
pub(super) const QUESTION: u32 = 5;
