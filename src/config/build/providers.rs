//! `[providers.NAME]`: where requests can go, and tollgate's own keys for them.

use std::path::PathBuf;

use super::names;
use crate::config::layers::PROVIDERS;
use crate::config::lookup::Lookup;
use crate::config::named::{self, ProviderNames};
use crate::config::problem::nearest;
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
            fallbacks: lookup
                .ask_or(
                    &key("fallbacks"),
                    ProviderNames::default(),
                    Vec::<String>::new(),
                )
                .0,
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
    check_fallbacks(lookup, &mut providers);
    providers
}

/// Every fallback is a provider that there is, another one, and one that understands the same requests.
fn check_fallbacks(lookup: &mut Lookup<'_>, providers: &mut [ProviderSettings]) {
    let known: Vec<(String, Dialect)> = providers
        .iter()
        .map(|provider| (provider.name.clone(), provider.dialect))
        .collect();
    let speaks: Vec<Vec<bool>> = providers
        .iter()
        .map(|own| {
            let others = providers.iter();
            others.map(|other| other.speaks(own.dialect)).collect()
        })
        .collect();
    for (provider, speaks) in providers.iter_mut().zip(speaks) {
        let key = format!("providers.{}.fallbacks", provider.name);
        let mut seen: Vec<&str> = Vec::new();
        for name in &provider.fallbacks {
            let place = known.iter().position(|(known, _)| known == name);
            let (message, help) = match place {
                None => {
                    let names = known.iter().map(|(name, _)| name.as_str());
                    let help = match nearest(name, names.clone()) {
                        Some(meant) => format!("did you mean `{meant}`?"),
                        None => format!("known: {}", names.collect::<Vec<_>>().join(", ")),
                    };
                    (
                        format!("there is no provider `{name}` that is enabled"),
                        help,
                    )
                }
                Some(_) if *name == provider.name => (
                    "a provider cannot stand in for itself".to_owned(),
                    "name another one: another region or account is a [providers.NAME] of its own"
                        .to_owned(),
                ),
                Some(_) if seen.contains(&name.as_str()) => (
                    format!("`{name}` is named twice"),
                    "each is tried once, in this order".to_owned(),
                ),
                Some(place) if !speaks[place] => (
                    format!(
                        "`{name}` speaks {}, not {}",
                        known[place].1.as_str(),
                        provider.dialect.as_str()
                    ),
                    "requests are not translated: name one with the same dialect".to_owned(),
                ),
                Some(_) => {
                    seen.push(name);
                    continue;
                }
            };
            let at = lookup.place(&key);
            lookup.object(at, &key, format!("`{key}`: {message}"), &help);
        }
    }
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
