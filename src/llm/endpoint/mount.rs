//! Decides which provider a path belongs to, and reads the session and priority tag in front of it.
//!
//! Order: the tag `/@SESSION[:PRIORITY]/`, then `/NAME/…` for a known provider, then the rules for a bare host, by which
//! an SDK works whose base URL is only the proxy's address. What no rule knows is nobody's: the caller answers 404.

use std::borrow::Cow;

use http::HeaderMap;
use percent_encoding::percent_decode_str;

use super::percent_decoded;
use crate::units::Priority;

/// Longest session name in a path tag, in bytes; the same as in the header.
const MAX_SESSION_BYTES: usize = 128;

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount<'a> {
    /// The provider's name.
    pub provider: &'a str,
    /// The path on the provider's side with its query, byte for byte; begins with `/` or `?`, or is empty.
    pub rest: &'a str,
    /// Session and priority in front of the path.
    pub tag: Option<Tag<'a>>,
}

/// The tag `/@SESSION[:PRIORITY]`, by which a tool that can only set a base URL names its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag<'a> {
    /// The session, percent-decoded: 1 to 128 visible ASCII characters.
    pub session: Cow<'a, str>,
    /// The priority, where one is given.
    pub priority: Option<Priority>,
}

/// Why a path tag is refused. It is explicit, so a mistake in it is told and not guessed away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// The session part breaks the rule for names.
    #[error("session in the path must be 1 to 128 visible ASCII characters, as in /@docs/")]
    Session,
    /// The part after the colon names no priority.
    #[error(
        "priority in the path must be low, normal, high or critical, as in /@docs:low/ (a colon in a session is %3A)"
    )]
    Priority,
}

/// Finds the provider of a path (with or without query) and what remains for it.
///
/// `known` says whether the config has a provider of that name. `Ok(None)`: no rule fits, or the rule's provider is not
/// in the config.
///
/// # Errors
///
/// The path begins with a tag that is malformed.
pub fn mount_of<'a>(
    path: &'a str,
    headers: &HeaderMap,
    known: impl Fn(&str) -> bool,
) -> Result<Option<Mount<'a>>, TagError> {
    let (tag, path) = match path.strip_prefix("/@") {
        Some(tagged) => {
            let (tag, rest) = split_segment(tagged);
            (Some(read_tag(tag)?), rest)
        }
        None => (None, path),
    };
    let Some(relative) = path.strip_prefix('/') else {
        return Ok(None);
    };
    let (first, rest) = split_segment(relative);
    let mount = if known(first) {
        Some((first, rest))
    } else {
        provider_of_bare_path(relative, headers)
            .filter(|name| known(name))
            .map(|name| (name, path))
    };
    Ok(mount.map(|(provider, rest)| Mount {
        provider,
        rest,
        tag,
    }))
}

/// Splits at the first slash or question mark, which stays with the rest.
fn split_segment(path: &str) -> (&str, &str) {
    path.split_at(path.find(['/', '?']).unwrap_or(path.len()))
}

fn read_tag(tag: &str) -> Result<Tag<'_>, TagError> {
    // Split before decoding, so that an encoded colon belongs to the name.
    let (session, priority) = match tag.rsplit_once(':') {
        Some((session, priority)) => {
            let priority = priority.parse().map_err(|_| TagError::Priority)?;
            (session, Some(priority))
        }
        None => (tag, None),
    };
    let session = percent_decode_str(session);
    let session = session.decode_utf8().map_err(|_| TagError::Session)?;
    let fits = (1..=MAX_SESSION_BYTES).contains(&session.len())
        && session.bytes().all(|byte| byte.is_ascii_graphic());
    if fits {
        Ok(Tag { session, priority })
    } else {
        Err(TagError::Session)
    }
}

/// The provider that a path without a provider's name is meant for.
fn provider_of_bare_path(relative: &str, headers: &HeaderMap) -> Option<&'static str> {
    let path = relative.split('?').next().unwrap_or_default();
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    let first = segments.next()?;
    match first {
        "v1beta" | "v1beta1" | "v1alpha" => return Some("gemini"),
        "api" => {
            return segments
                .next()
                .filter(|verb| OLLAMA_VERBS.contains(verb))
                .map(|_| "ollama");
        }
        _ => {}
    }
    // A doubled version comes from a base URL that holds one already.
    let versioned = first == "v1";
    let mut resource = first;
    while resource == "v1" {
        resource = segments.next().unwrap_or_default();
    }
    match resource {
        "messages" => Some("anthropic"),
        "chat" if versioned || segments.next() == Some("completions") => Some("openai"),
        "responses" | "embeddings" | "completions" => Some("openai"),
        "models" => {
            let verb = segments
                .next()
                .is_some_and(|model| percent_decoded(model).contains(':') && versioned);
            // `models/ft:gpt…` is OpenAI's name for a tuned model, not a verb of Google's.
            let tuned = path.contains("/ft:") || path.contains("/ft%3A");
            if verb && !tuned {
                Some("gemini")
            } else {
                Some(provider_of_headers(headers))
            }
        }
        // Files, batches, skills and so on exist at several providers; the vendor's own headers tell which is meant,
        // and a key is not shown to another vendor.
        _ if versioned && headers.contains_key("anthropic-version") => Some("anthropic"),
        _ if versioned => Some("openai"),
        _ => None,
    }
}

/// Ollama's own calls below `/api/`; everything else there is tollgate's.
const OLLAMA_VERBS: [&str; 14] = [
    "chat",
    "generate",
    "embed",
    "embeddings",
    "tags",
    "show",
    "ps",
    "version",
    "pull",
    "push",
    "create",
    "copy",
    "delete",
    "blobs",
];

/// Tells the vendor of a path that several have, by the headers that only its SDK sends.
fn provider_of_headers(headers: &HeaderMap) -> &'static str {
    if headers.contains_key("anthropic-version") || headers.contains_key("x-api-key") {
        "anthropic"
    } else if headers.contains_key("x-goog-api-key") {
        "gemini"
    } else {
        "openai"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn known(name: &str) -> bool {
        [
            "anthropic",
            "openai",
            "openrouter",
            "gemini",
            "ollama",
            "my-vllm",
        ]
        .contains(&name)
    }

    fn mount(path: &str) -> Option<(&str, &str)> {
        mount_of(path, &HeaderMap::new(), known)
            .expect("no tag in it")
            .map(|mount| (mount.provider, mount.rest))
    }

    #[test]
    fn a_known_name_in_front_is_the_provider_and_the_rest_stays_as_sent() {
        assert_eq!(
            mount("/anthropic/v1/messages?beta=true"),
            Some(("anthropic", "/v1/messages?beta=true"))
        );
        assert_eq!(
            mount("/my-vllm/v1/a%2Fb//c"),
            Some(("my-vllm", "/v1/a%2Fb//c"))
        );
        assert_eq!(mount("/openai"), Some(("openai", "")));
        assert_eq!(mount("/openai?a=1"), Some(("openai", "?a=1")));
        assert_eq!(mount("/nobody/v1/messages"), None);
    }

    #[test]
    fn a_bare_host_works_as_a_base_url() {
        for (path, provider) in [
            ("/v1/messages", Some("anthropic")),
            ("/v1/messages/count_tokens", Some("anthropic")),
            ("/v1/v1/messages", Some("anthropic")),
            ("/messages", Some("anthropic")),
            ("/v1beta/models/g:generateContent", Some("gemini")),
            ("/v1/models/g:generateContent", Some("gemini")),
            ("/v1/models/g%3AgenerateContent", Some("gemini")),
            ("/v1/models/ft:gpt-4o:me", Some("openai")),
            ("/v1/models", Some("openai")),
            ("/v1/chat/completions", Some("openai")),
            ("/chat/completions", Some("openai")),
            ("/v1/files", Some("openai")),
            ("/responses?x=1", Some("openai")),
            ("/embeddings", Some("openai")),
            ("/completions", Some("openai")),
            ("/api/chat", Some("ollama")),
            ("/api/blobs/sha256:1", Some("ollama")),
            ("/api/v1/status", None),
            ("/api/throttle/stats", None),
            ("/", None),
            ("", None),
            ("/metrics", None),
            ("/chat", None),
            ("*", None),
        ] {
            let found = mount(path);
            assert_eq!(found.map(|(name, _)| name), provider, "{path}");
            assert!(found.is_none_or(|(_, rest)| rest == path), "{path}");
        }
    }

    #[test]
    fn what_several_vendors_have_is_told_by_their_headers() {
        for (header, path, provider) in [
            ("anthropic-version", "/v1/models", "anthropic"),
            ("x-api-key", "/v1/models/claude", "anthropic"),
            ("x-goog-api-key", "/v1/models", "gemini"),
            ("authorization", "/v1/models", "openai"),
            ("anthropic-version", "/v1/files", "anthropic"),
            ("anthropic-version", "/v1/chat/completions", "openai"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header, HeaderValue::from_static("x"));
            let found = mount_of(path, &headers, known).expect("no tag in it");
            assert_eq!(
                found.map(|mount| mount.provider),
                Some(provider),
                "{header} {path}"
            );
        }
    }

    #[test]
    fn a_rule_whose_provider_is_not_configured_leads_nowhere() {
        let found = mount_of("/api/chat", &HeaderMap::new(), |name| name == "openai");
        assert_eq!(found, Ok(None));
    }

    #[test]
    fn a_tag_names_session_and_priority_before_any_mount() {
        let read = |path: &'static str| mount_of(path, &HeaderMap::new(), known);
        let tag = |path| {
            read(path)
                .map(|mount| mount.expect("a mount"))
                .map(|mount| {
                    let tag = mount.tag.expect("a tag");
                    (tag.session.into_owned(), tag.priority, mount.rest)
                })
        };
        assert_eq!(
            tag("/@docs/v1/messages"),
            Ok(("docs".into(), None, "/v1/messages"))
        );
        assert_eq!(
            tag("/@docs:LOW/anthropic/v1/messages"),
            Ok(("docs".into(), Some(Priority::Low), "/v1/messages"))
        );
        assert_eq!(
            tag("/@a%3Ab%2Fc:high/openai/x"),
            Ok(("a:b/c".into(), Some(Priority::High), "/x"))
        );
        for path in [
            "/@/openai/x",
            "/@:low/openai/x",
            "/@a%20b/openai/x",
            "/@%C3%A9/openai/x",
        ] {
            assert_eq!(read(path), Err(TagError::Session), "{path}");
        }
        assert_eq!(read("/@a:urgent/openai/x"), Err(TagError::Priority));
        assert_eq!(read("/@docs"), Ok(None));
        let long = format!("/@{}/openai/x", "a".repeat(129));
        assert_eq!(
            mount_of(&long, &HeaderMap::new(), known),
            Err(TagError::Session)
        );
    }
}
