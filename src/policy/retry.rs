//! Decides whether a failed attempt is made again, when, and what the client is told when it is not.
//!
//! 1. What has reached the client, even one byte of it, is never sent again.
//! 2. The [table of classes](classes) says whether the failure can pass by itself. What may have been billed is not sent
//!    again.
//! 3. There are three retries, unless the config says otherwise.
//! 4. A retry waits: never less than the provider asks, and some more by chance, so that those refused together do not
//!    come back together ([`pause()`]).
//! 5. A provider gets no more retries than a share of what it was sent lately ([`RetryBudget`]); what is beyond waits for
//!    its share.
//! 6. A retry that could only begin after the request's deadline is not waited for.

pub mod budget;
pub mod classes;
pub mod pause;
#[cfg(test)]
mod tests;

use std::time::Duration;

use http::{HeaderName, HeaderValue};

pub use self::budget::RetryBudget;
pub use self::classes::{Class, Failed, Judgement, Sent, Sign, judge};
pub use self::pause::{MAX_PAUSE, lane_pause, pause};

/// Retries of one request, unless the config says otherwise.
pub const MAX_RETRIES: u32 = 3;

/// An attempt that failed, and what stands around it.
#[derive(Debug, Clone, Copy)]
pub struct Attempted {
    /// What the failure is.
    pub judgement: Judgement,
    /// Attempts made so far, this one included: at least 1.
    pub attempts: u32,
    /// Retries that one request may have.
    pub max_retries: u32,
    /// Whether the client has been sent any of an answer.
    pub first_byte_out: bool,
    /// Whether the request's body can be sent once more.
    pub repeatable: bool,
    /// Moment after which the client no longer waits for a retry to begin, in milliseconds since 1970.
    pub deadline_ms: u64,
    /// The time, in milliseconds since 1970.
    pub now_ms: u64,
    /// A random number from 0 up to 1, another one for each attempt.
    pub chance: f64,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Send it again after this long, through the waiting line like everything else. The budget has been charged.
    RetryIn(Duration),
    /// Give the client what the provider said.
    GiveUp(GiveUp),
}

/// A failure that reaches the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GiveUp {
    /// Why there is no retry.
    pub why: Why,
    /// Whether the client's SDK is told not to start over.
    pub stop: bool,
}

/// Why a failed attempt is not made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// Some of the answer is with the client already.
    FirstByteOut,
    /// The same request fails again.
    Terminal,
    /// It was sent whole and may have been billed.
    Ambiguous,
    /// Its body was passed on as it came and is gone.
    NotRepeatable,
    /// It had all its retries.
    RetriesSpent,
    /// The provider had its share of retries, also for all the time until the deadline.
    BudgetSpent,
    /// The provider asks for a longer wait than the client's deadline leaves.
    Deadline,
}

impl Why {
    /// The name used in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Why::FirstByteOut => "first_byte_out",
            Why::Terminal => "terminal",
            Why::Ambiguous => "ambiguous",
            Why::NotRepeatable => "not_repeatable",
            Why::RetriesSpent => "retries_spent",
            Why::BudgetSpent => "budget_spent",
            Why::Deadline => "deadline",
        }
    }
}

/// Decides what comes after a failed attempt. Charges `budget` when it is a retry.
pub fn next(attempted: &Attempted, budget: &mut RetryBudget) -> Next {
    let give_up = |why| Next::GiveUp(GiveUp::new(why, &attempted.judgement));
    if attempted.first_byte_out {
        return give_up(Why::FirstByteOut);
    }
    match attempted.judgement.class {
        Class::Terminal => return give_up(Why::Terminal),
        Class::Ambiguous => return give_up(Why::Ambiguous),
        Class::Transient { .. } => {}
    }
    if !attempted.repeatable {
        return give_up(Why::NotRepeatable);
    }
    if attempted.attempts > attempted.max_retries {
        return give_up(Why::RetriesSpent);
    }
    let pause = pause(
        attempted.judgement.asked,
        attempted.attempts,
        attempted.chance,
    );
    let earliest_ms = attempted.now_ms.saturating_add(whole_millis(pause));
    if earliest_ms > attempted.deadline_ms {
        return give_up(Why::Deadline);
    }
    match budget.book_retry(attempted.now_ms, earliest_ms, attempted.deadline_ms) {
        Some(at_ms) => Next::RetryIn(Duration::from_millis(
            at_ms.saturating_sub(attempted.now_ms),
        )),
        None => give_up(Why::BudgetSpent),
    }
}

impl GiveUp {
    /// The client's SDK is stopped where it would start over by the status and that would be useless: the failure stays,
    /// or tollgate has spent the retries. Not where a wait is all that is missing: the answer's own `retry-after` tells
    /// the client how long. Nor for a 401, on which agents fetch a new token.
    fn new(why: Why, judgement: &Judgement) -> Self {
        let useless = match why {
            Why::Terminal | Why::RetriesSpent | Why::BudgetSpent => true,
            Why::FirstByteOut | Why::Ambiguous | Why::NotRepeatable | Why::Deadline => false,
        };
        let repeated = matches!(judgement.status, Some(408 | 409 | 429 | 500..));
        Self {
            why,
            stop: useless && repeated,
        }
    }

    /// The header to set on the provider's answer, in place of its own of that name; all else of it stays as it came.
    ///
    /// It is obeyed by the SDKs that Stainless makes (OpenAI's, Anthropic's, Groq's, Together's, and LangChain's and
    /// litellm's calls through them) and by Claude Code, which would make 3 and 11 attempts of each of tollgate's. It says
    /// nothing to these, who start over on the provider's status whatever else an answer says: the Vercel AI SDK (3
    /// attempts on 408, 409, 429 and 5xx), Gemini CLI (10 on 429, 499 and 5xx), boto3 (3 on 429 and 5xx), Codex (about 30
    /// on 5xx; on a 429 it gives up). A status of another meaning would stop them, and lie to the person; they meet the
    /// paused line or the open breaker instead. google-genai and Ollama's client do not start over by themselves.
    pub fn marker(&self) -> Option<(HeaderName, HeaderValue)> {
        let marker = (
            HeaderName::from_static("x-should-retry"),
            HeaderValue::from_static("false"),
        );
        self.stop.then_some(marker)
    }
}

/// Milliseconds, rounded up: a pause is never cut short.
fn whole_millis(pause: Duration) -> u64 {
    let begun = u128::from(!pause.subsec_nanos().is_multiple_of(1_000_000));
    u64::try_from(pause.as_millis() + begun).unwrap_or(u64::MAX)
}
