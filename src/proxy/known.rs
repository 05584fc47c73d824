//! What is known of models for routing: their abilities, looked up once and kept, and those that a provider has said it
//! does not serve.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::llm::abilities::{Abilities, AbilityTable};
use crate::llm::catalogue::Catalogue;

/// Models of a provider whose abilities are kept. Clients can ask for any name, so it is bounded; what is lost is looked up again.
const MOST_MODELS: usize = 1_024;

/// How long a model is left alone that a provider does not serve, in milliseconds.
const LEFT_ALONE_MS: u64 = 600_000;

/// A model by its provider's name (in the catalogue, or in the config) and its own.
type Name = (Box<str>, Box<str>);

/// What models can do, by their names.
type ByModel = HashMap<Box<str>, Arc<Abilities>>;

/// What is known.
#[derive(Debug)]
pub(super) struct KnownModels {
    table: AbilityTable,
    /// By provider, then by model.
    abilities: Mutex<HashMap<Box<str>, ByModel>>,
    /// Until when they are left alone, in Unix milliseconds, for each key that providers were shown: what one client's key
    /// may not use, or a bad key, says nothing about others.
    refused: Mutex<HashMap<(Name, Box<str>), u64>>,
}

impl KnownModels {
    pub(super) fn new(table: AbilityTable) -> Self {
        Self {
            table,
            abilities: Mutex::default(),
            refused: Mutex::default(),
        }
    }

    /// What a model can do. `provider` is the name in the catalogue.
    pub(super) fn abilities(
        &self,
        catalogue: &Catalogue,
        provider: &str,
        model: &str,
    ) -> Arc<Abilities> {
        let mut known = self
            .abilities
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let found = known.get(provider).and_then(|models| models.get(model));
        if let Some(abilities) = found {
            return Arc::clone(abilities);
        }
        let abilities = Arc::new(self.table.of(catalogue, provider, model));
        let models = known.entry(provider.into()).or_default();
        if models.len() >= MOST_MODELS {
            models.clear();
        }
        models.insert(model.into(), Arc::clone(&abilities));
        abilities
    }

    /// A provider does not serve a model, or not to us: nothing is routed there for a while.
    /// `key` is the fingerprint of the client's, or empty for tollgate's own.
    pub(super) fn is_refused(&self, provider: &str, model: &str, key: &str, now_ms: u64) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.retain(|_, until| *until > now_ms);
        if refused.len() < MOST_MODELS {
            refused.insert(
                ((provider.into(), model.into()), key.into()),
                now_ms.saturating_add(LEFT_ALONE_MS),
            );
        }
    }

    /// Whether a model is left alone. `provider` is the name in the config.
    pub(super) fn was_refused(&self, provider: &str, model: &str, key: &str, now_ms: u64) -> bool {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        // As a rule there is none.
        !refused.is_empty()
            && refused
                .get(&((provider.into(), model.into()), key.into()))
                .is_some_and(|until| *until > now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_was_refused_is_left_alone_for_ten_minutes() {
        let known = KnownModels::new(AbilityTable::builtin());
        known.is_refused("openai", "gpt-6-luna", "k", 1_000);
        let was_refused =
            |provider, key, at_ms| known.was_refused(provider, "gpt-6-luna", key, at_ms);
        assert!(was_refused("openai", "k", 600_999));
        assert!(!was_refused("openai", "k", 601_000));
        assert!(!was_refused("openai", "", 1_000));
        assert!(!was_refused("together", "k", 1_000));
    }

    #[test]
    fn abilities_are_kept_but_not_for_every_name_that_anybody_makes_up() {
        let catalogue = Catalogue::builtin();
        let known = KnownModels::new(AbilityTable::builtin());
        let first = known.abilities(&catalogue, "anthropic", "claude-haiku-5-5");
        let again = known.abilities(&catalogue, "anthropic", "claude-haiku-5-5");
        assert!(Arc::ptr_eq(&first, &again));
        for number in 0..2 * MOST_MODELS {
            known.abilities(&catalogue, "anthropic", &number.to_string());
        }
        let known = known.abilities.lock().expect("no panic");
        assert!(known["anthropic"].len() <= MOST_MODELS);
    }
}
