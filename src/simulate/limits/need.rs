//! What a request asks of the limits, and which limit refuses it: the words that limits, errors and headers share.

use std::time::Duration;

use super::Reserve;

/// What a request asks of the limits, in tokens as the provider counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::simulate) struct Need {
    /// Tokens of the prompt that count.
    pub(in crate::simulate) input: u64,
    /// The request's own maximum, over all choices.
    pub(in crate::simulate) max_output: Option<u64>,
    /// How output counts before it is known.
    pub(in crate::simulate) reserve: Reserve,
}

impl Need {
    /// Output tokens that are taken at admission.
    pub(super) fn reserved(self) -> u64 {
        match self.reserve {
            Reserve::Nothing => 0,
            Reserve::Kept | Reserve::Corrected => self.max_output.unwrap_or(0),
        }
    }

    /// Output tokens that are taken in the end, of so many that were written.
    pub(super) fn settled(self, written: u64) -> u64 {
        match (self.reserve, self.max_output) {
            (Reserve::Kept, Some(most)) => most,
            _ => written,
        }
    }

    /// What is taken of one limit at admission.
    pub(super) fn cells(self, reason: Reason) -> u64 {
        match reason {
            Reason::RequestsPerSecond | Reason::Requests | Reason::RequestsPerDay => 1,
            Reason::Tokens => self.input.saturating_add(self.reserved()),
            Reason::InputTokens => self.input,
            Reason::OutputTokens => self.reserved(),
            Reason::Concurrency => 0,
        }
    }
}

/// Which limit refused a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::simulate) enum Reason {
    /// Requests per second.
    RequestsPerSecond,
    /// Requests per minute.
    Requests,
    /// Requests per day.
    RequestsPerDay,
    /// Tokens per minute, input and output together.
    Tokens,
    /// Input tokens per minute.
    InputTokens,
    /// Output tokens per minute.
    OutputTokens,
    /// Requests at the same time.
    Concurrency,
}

impl Reason {
    /// All of them.
    pub(super) const ALL: [Reason; 7] = [
        Reason::RequestsPerSecond,
        Reason::Requests,
        Reason::RequestsPerDay,
        Reason::Tokens,
        Reason::InputTokens,
        Reason::OutputTokens,
        Reason::Concurrency,
    ];

    /// Its name in the configuration.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Reason::RequestsPerSecond => "requests_per_second",
            Reason::Requests => "requests_per_minute",
            Reason::RequestsPerDay => "requests_per_day",
            Reason::Tokens => "tokens_per_minute",
            Reason::InputTokens => "input_tokens_per_minute",
            Reason::OutputTokens => "output_tokens_per_minute",
            Reason::Concurrency => "concurrency",
        }
    }
}

/// A request that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::simulate) struct Exceeded {
    /// The limit that takes longest to let it through.
    pub(in crate::simulate) reason: Reason,
    /// That limit's amount.
    pub(in crate::simulate) limit: u64,
    /// Time until it would fit if nobody else came; `None` if it never does, or if nobody can tell.
    pub(in crate::simulate) wait: Option<Duration>,
}
