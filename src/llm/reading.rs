//! What a meter has learned from an answer: the common result of every dialect's reader.

use super::usage::Usage;
use crate::units::Cost;

/// Everything that booking needs to know of an answer. Never holds any of its text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// The provider's figures for the answer itself; `None` when it stated none (so far).
    pub usage: Option<Usage>,
    /// Whether `usage` is final. False while a stream runs and when it broke off: then it is a lower bound.
    pub complete: bool,
    /// The body ended, and had said before that the answer was at its end (a stop reason), whatever it stated of usage.
    pub whole: bool,
    /// Billed work that the top-level figures leave out: Anthropic's compaction and advisor iterations, and each
    /// succeeded line of a batch's results.
    pub side: Vec<SideUsage>,
    /// The model that the answer names.
    pub model: Option<String>,
    /// The service tier the answer was billed at, as the provider spells it (`standard`, `priority`, `batch`, …).
    pub service_tier: Option<String>,
    /// Anthropic's `speed` (`standard`, `fast`), which has its own price block.
    pub speed: Option<String>,
    /// Where inference ran, if that has its own price (Anthropic's `inference_geo`).
    pub region: Option<String>,
    /// What the provider says it charged (OpenRouter's `usage.cost`), in USD. Beats the price table.
    pub stated_cost: Option<Cost>,
    /// An error that the answer carries, in its body or inside a stream with status 200.
    pub error: Option<AnswerError>,
    /// The answer is only a receipt: the work goes on in the background and is fetched later.
    pub pending: bool,
    /// The answer was made by background work (OpenAI Responses), so fetching it is what books it.
    pub background: bool,
    /// The provider's id of the answer, by which background work is booked once.
    pub answer_id: Option<String>,
    /// Bytes of text, reasoning and tool arguments that were seen: the base of an estimate.
    pub output_bytes: u64,
    /// The meter gave up (an event larger than its limit, bytes that are not what the headers say): estimate.
    pub unreadable: bool,
}

/// A piece of billed work besides the answer itself, priced on its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SideUsage {
    /// The model that did it, where it is another one than the answer's.
    pub model: Option<String>,
    /// Its service tier, where it is stated.
    pub service_tier: Option<String>,
    /// What it used.
    pub usage: Usage,
}

/// The error inside an answer. Only its machine-readable names are kept: messages can quote the prompt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnswerError {
    /// The provider's `type`, or `status` at Google.
    pub kind: Option<String>,
    /// The provider's `code`, as text; Anthropic's `details.error_code`.
    pub code: Option<String>,
}

impl Reading {
    /// The answer's usage and all side work, added up; `None` when the provider stated nothing at all.
    pub fn total(&self) -> Option<Usage> {
        if self.usage.is_none() && self.side.is_empty() {
            return None;
        }
        let mut total = self.usage.unwrap_or_default();
        for side in &self.side {
            total.add(&side.usage);
        }
        Some(total)
    }
}
