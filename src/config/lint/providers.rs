//! Findings about providers that stand in for others.

use super::Finding;
use crate::config::settings::{AuthMode, Settings};

/// Nobody's key but tollgate's own goes to a fallback, so one on the network needs one.
pub(super) fn lint(settings: &Settings, findings: &mut Vec<Finding>) {
    if settings.auth.mode == AuthMode::Keys {
        // Every provider needs its key then.
        return;
    }
    for provider in &settings.providers {
        for name in &provider.fallbacks {
            let mut others = settings.providers.iter();
            let Some(other) = others.find(|other| other.name == *name) else {
                continue;
            };
            if other.api_key.is_none() && !other.is_local() {
                let message = format!(
                    "`{name}` has no api_key, and gets none from clients when it stands in for `{}`",
                    provider.name
                );
                let help = format!("set providers.{name}.api_key, or api_key_file");
                let key = format!("providers.{}.fallbacks", provider.name);
                findings.push(
                    Finding::warning("fallback-without-key", key, message, help)
                        .because(format!("providers.{name}")),
                );
            }
        }
    }
}
