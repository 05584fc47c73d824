//! `[providers.NAME]`: where requests can go, and tollgate's own keys for them.

use std::path::PathBuf;

use super::names;
use crate::config::layers::PROVIDERS;
use crate::config::lookup::Lookup;
use crate::config::named;
use crate::config::scalar::Refused;
use crate::config::settings::{ProviderSettings, Secret};
use crate::llm::wire::Dialect;

/// First segments of paths that mean something else, so no provider can have them as its name.
const RESERVED: [&str; 28] = [
    "admin",
    "api",
    "assets",
    "audio",
    "batches",
    "chat",
    "completions",
    "dashboard",
    "embeddings",
    "events",
    "files",
    "healthz",
    "images",
    "messages",
    "metrics",
    "models",
    "moderations",
    "readyz",
    "realtime",
    "responses",
    "static",
    "tollgate",
    "upload",
    "v1",
    "v1alpha",
    "v1beta",
    "v1internal",
    "v2",
];

pub(super) fn providers(lookup: &mut Lookup<'_>) -> Vec<ProviderSettings> {
    let reserved = |name: &str| {
        RESERVED
            .contains(&name)
            .then_some("this first part of the path already has a meaning")
    };
    let mut providers = Vec::new();
    for name in names::usable(lookup, &PROVIDERS, "provider", reserved) {
        let key = |key: &str| format!("providers.{name}.{key}");
        let provider = ProviderSettings {
            name: name.clone(),
            base_url: lookup.ask(&key("base_url")),
            dialect: lookup.ask_or(&key("dialect"), Dialect::OpenAi, Dialect::OpenAi.as_str()),
            catalogue: lookup.ask_or(&key("catalogue"), name.clone(), name.as_str()),
            region: lookup.ask_optional(&key("region")),
            api_key: None,
            local: lookup.ask_optional(&key("local")),
            http2: lookup.ask_or(&key("http2"), false, false),
            ask_stream_usage: lookup.ask_or(&key("ask_stream_usage"), true, true),
        };
        let enabled = lookup.ask_or(&key("enabled"), true, true);
        let api_key = api_key(lookup, &name, enabled);
        if enabled {
            providers.push(ProviderSettings {
                api_key,
                ..provider
            });
        }
    }
    providers
}

/// tollgate's own key for a provider: the text itself, or a file that holds it. Of a provider that is switched off the file
/// need not exist.
fn api_key(lookup: &mut Lookup<'_>, provider: &str, enabled: bool) -> Option<Secret> {
    let key = format!("providers.{provider}.api_key");
    let file_key = format!("{key}_file");
    let secret: Option<Secret> = lookup.ask_optional(&key);
    let file: Option<PathBuf> = lookup.ask_optional(&file_key);
    let file_place = lookup.place(&file_key);
    if lookup.place(&key).is_some() && file_place.is_some() {
        let message = format!("`{key}` and `{file_key}` are both set");
        lookup.object(file_place, &file_key, message, "leave one of them out");
        return None;
    }
    let Some(file) = file.filter(|_| enabled) else {
        return secret;
    };
    let told = match std::fs::read_to_string(&file) {
        Ok(text) => {
            let text = text.strip_suffix('\n').unwrap_or(&text);
            match named::secret(text.strip_suffix('\r').unwrap_or(text)) {
                Ok(secret) => return Some(secret),
                Err(Refused::Because(why) | Refused::Mend(why, _)) => {
                    format!("the file of `{file_key}` {why}")
                }
                Err(Refused::Kind) => format!("the file of `{file_key}` holds no key"),
            }
        }
        Err(error) => format!("the file of `{file_key}` cannot be read: {error}"),
    };
    let help = "the file holds the key alone, and one line break at most after it";
    lookup.object(file_place, &file_key, told, help);
    None
}
