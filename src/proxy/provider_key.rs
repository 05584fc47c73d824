//! Mode `keys`: in place of what the client showed the provider gets tollgate's own key, in its own way of taking one.

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue};

use crate::config::settings::ProviderSettings;
use crate::llm::wire::Dialect;
use crate::policy::session::KEY_SUBPROTOCOL;

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const X_GOOG_API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");

/// Where clients show keys, and what else says who they are.
const CREDENTIALS: [HeaderName; 5] = [
    header::AUTHORIZATION,
    X_API_KEY,
    HeaderName::from_static("api-key"),
    X_GOOG_API_KEY,
    header::COOKIE,
];

/// tollgate's own key for a provider, as the header that shows it. It prints as a mask.
#[derive(Debug, Clone)]
pub(super) struct ProviderKey {
    name: HeaderName,
    value: HeaderValue,
}

/// The provider's key cannot stand in a header.
#[derive(Debug, thiserror::Error)]
#[error(
    "the api_key of provider `{provider}` holds a character that no header can (a line break inside it?)"
)]
pub struct ProviderKeyError {
    provider: String,
}

impl ProviderKey {
    /// The key that the config has for a provider; `None` for one that needs none, such as a model of one's own.
    ///
    /// # Errors
    /// It cannot stand in a header.
    pub(super) fn of(provider: &ProviderSettings) -> Result<Option<Self>, ProviderKeyError> {
        let Some(secret) = &provider.api_key else {
            return Ok(None);
        };
        let secret = secret.reveal();
        let (name, value) = match provider.dialect {
            Dialect::Anthropic => (X_API_KEY, secret.to_owned()),
            Dialect::Gemini => (X_GOOG_API_KEY, secret.to_owned()),
            Dialect::OpenAi | Dialect::Ollama => {
                (header::AUTHORIZATION, format!("Bearer {secret}"))
            }
        };
        let mut value = HeaderValue::from_str(&value).map_err(|_| ProviderKeyError {
            provider: provider.name.clone(),
        })?;
        value.set_sensitive(true);
        Ok(Some(Self { name, value }))
    }
}

/// Takes out of a request's head what the client showed, and puts the provider's key in.
pub(super) fn replace(headers: &mut HeaderMap, key: Option<&ProviderKey>) {
    for name in &CREDENTIALS {
        headers.remove(name);
    }
    remove_from_subprotocols(headers);
    if let Some(key) = key {
        headers.insert(key.name.clone(), key.value.clone());
    }
}

/// Takes the key out of a WebSocket's subprotocols. The provider chooses one of the others, as it always does.
fn remove_from_subprotocols(headers: &mut HeaderMap) {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let shows_key = |value: &HeaderValue| {
        memchr::memmem::find(value.as_bytes(), KEY_SUBPROTOCOL.as_bytes()).is_some()
    };
    if !values.iter().any(shows_key) {
        return;
    }
    let others: Vec<&str> = values
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|name| !name.starts_with(KEY_SUBPROTOCOL))
        .collect();
    let others = HeaderValue::from_str(&others.join(", "));
    headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
    if let Ok(others) = others
        && !others.is_empty()
    {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, others);
    }
}

/// Takes `key=…` out of the query of a path, and leaves every other byte as it is.
pub(super) fn without_key(target: &str) -> String {
    let Some((path, query)) = target.split_once('?') else {
        return target.to_owned();
    };
    let is_key = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default();
        percent_encoding::percent_decode_str(name).eq(*b"key")
    };
    let rest: Vec<&str> = query.split('&').filter(|pair| !is_key(pair)).collect();
    if rest.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", rest.join("&"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::Secret;

    fn provider(dialect: Dialect, api_key: Option<&str>) -> ProviderSettings {
        ProviderSettings {
            local: None,
            name: "p".to_owned(),
            base_url: http::Uri::from_static("https://p.example"),
            dialect,
            catalogue: "p".to_owned(),
            region: None,
            api_key: api_key.map(Secret::new),
            http2: false,
            fallbacks: Vec::new(),
            ask_stream_usage: true,
        }
    }

    fn client() -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer tg_1"),
            ("authorization", "Basic eA=="),
            ("x-api-key", "tg_1"),
            ("api-key", "tg_1"),
            ("x-goog-api-key", "tg_1"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
            ("anthropic-version", "2023-06-01"),
        ] {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        headers
    }

    #[test]
    fn each_wire_format_gets_the_key_in_its_own_header_and_nothing_of_the_clients() {
        for (dialect, name, value) in [
            (Dialect::Anthropic, "x-api-key", "sk-own"),
            (Dialect::OpenAi, "authorization", "Bearer sk-own"),
            (Dialect::Gemini, "x-goog-api-key", "sk-own"),
            (Dialect::Ollama, "authorization", "Bearer sk-own"),
        ] {
            let key = ProviderKey::of(&provider(dialect, Some("sk-own"))).expect("a good key");
            let mut headers = client();
            replace(&mut headers, key.as_ref());
            assert_eq!(headers.len(), 2, "{headers:?}");
            assert_eq!(headers["anthropic-version"], "2023-06-01");
            assert_eq!(headers[name], value);
            assert!(headers[name].is_sensitive());
            assert!(!format!("{key:?} {headers:?}").contains("sk-own"));
        }
    }

    #[test]
    fn a_provider_without_a_key_gets_none() {
        let key = ProviderKey::of(&provider(Dialect::Ollama, None)).expect("none is good");
        assert!(key.is_none());
        let mut headers = client();
        replace(&mut headers, None);
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn a_key_that_no_header_can_hold_is_named_by_its_provider_alone() {
        let error = ProviderKey::of(&provider(Dialect::OpenAi, Some("sk-1\nsk-2")));
        let text = error.expect_err("a line break").to_string();
        assert!(text.contains("`p`") && !text.contains("sk-"), "{text}");
    }

    #[test]
    fn only_the_key_leaves_the_subprotocols() {
        let protocols = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(
                    header::SEC_WEBSOCKET_PROTOCOL,
                    HeaderValue::from_static(value),
                );
            }
            replace(&mut headers, None);
            headers
                .get_all(header::SEC_WEBSOCKET_PROTOCOL)
                .iter()
                .map(|value| value.to_str().expect("a text").to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            protocols(&["realtime, openai-insecure-api-key.tg_1,openai-beta.realtime-v1"]),
            ["realtime, openai-beta.realtime-v1"]
        );
        assert_eq!(
            protocols(&["realtime", "openai-insecure-api-key.tg_1"]),
            ["realtime"]
        );
        assert_eq!(protocols(&["openai-insecure-api-key.tg_1"]).len(), 0);
        assert_eq!(protocols(&["a,b", "c"]), ["a,b", "c"]);
    }

    #[test]
    fn only_the_key_leaves_the_query() {
        for (target, rest) in [
            (
                "/v1beta/m:generate?alt=sse&key=tg_1",
                "/v1beta/m:generate?alt=sse",
            ),
            ("/m?key=tg_1", "/m"),
            ("/m?%6bey=tg_1&a=%20&a", "/m?a=%20&a"),
            ("/m?key", "/m"),
            ("/m?monkey=1&keys=2", "/m?monkey=1&keys=2"),
            ("/m?", "/m?"),
            ("/key=1", "/key=1"),
        ] {
            assert_eq!(without_key(target), rest);
        }
    }
}
