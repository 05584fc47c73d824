//! Remembers which models without a price were already spoken of, so that the log says it once for each.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::llm::catalogue::Unpriced;

/// Clients choose model names, so the memory of them is bounded.
const MAX_MODELS: usize = 1_000;

/// The models that were spoken of.
#[derive(Debug, Default)]
pub(super) struct UnknownModels(Mutex<HashSet<String>>);

impl UnknownModels {
    /// Says once that a model's requests have no known cost.
    pub(super) fn say_once(&self, provider: &str, model: &str, why: Unpriced) {
        let name = format!("{provider}/{model}");
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = said.len() < MAX_MODELS && said.insert(name);
        drop(said);
        if is_news {
            tracing::warn!(provider, model, %why, "cost unknown, tokens are counted; a price goes under [[models]]");
        }
    }
}
