//! Decides the path that the provider sees: its base path joined with what the client asked for.
//!
//! Both halves may hold the version, or neither. What they share is written once; for OpenAI's and Anthropic's dialects
//! a repeated `v1` is folded, a missing one is put in front of the calls that need it, and a base that ends in another
//! version (`/api/paas/v4`) keeps the last word. Nothing else changes: escapes, doubled slashes and the query stay.

use std::borrow::Cow;

use crate::llm::wire::Dialect;

/// Calls that SDKs make without `/v1` when the base URL is expected to hold it.
const BARE_CALLS: [&str; 6] = [
    "messages",
    "chat",
    "responses",
    "embeddings",
    "completions",
    "models",
];

/// Joins a provider's base path (no final slash; may be empty) and a client's path with its query.
///
/// `("/api", "/api/v1/x")` gives `/api/v1/x`; `("", "/v1/v1/messages?beta=true")` gives `/v1/messages?beta=true`.
/// The result is never empty and borrows `rest` when that needs no change.
pub fn normalise_path<'a>(dialect: Dialect, base: &str, rest: &'a str) -> Cow<'a, str> {
    let base = if base == "/" { "" } else { base };
    let versioned = matches!(dialect, Dialect::Anthropic | Dialect::OpenAi);
    let (rest, add_version) = if versioned {
        fold_version(base, rest)
    } else {
        (rest, false)
    };
    let shared = shared_length(base, rest);
    let base = &base[..base.len() - shared];
    let version = if add_version { "/v1" } else { "" };
    let root = if rest.starts_with('/') || !base.is_empty() || add_version {
        ""
    } else {
        "/"
    };
    if base.is_empty() && version.is_empty() && root.is_empty() {
        return Cow::Borrowed(rest);
    }
    Cow::Owned([base, version, root, rest].concat())
}

/// Drops the client's `v1` where it is repeated or the base ends in a version; says whether one is missing.
fn fold_version<'a>(base: &str, rest: &'a str) -> (&'a str, bool) {
    let base_has_version = base.rsplit('/').next().is_some_and(is_version);
    let mut folded = rest;
    while let Some(next) = folded.strip_prefix("/v1").filter(|n| n.starts_with('/')) {
        let repeated = next == "/v1" || next.starts_with("/v1/") || next.starts_with("/v1?");
        if !repeated && !base_has_version {
            break;
        }
        folded = next;
    }
    let first = folded
        .strip_prefix('/')
        .and_then(|relative| relative.split(['/', '?']).next());
    let bare = first.is_some_and(|call| BARE_CALLS.contains(&call));
    (folded, bare && !base_has_version)
}

/// Whether a segment is a version, such as `v1`, `v4` or `v1beta`.
fn is_version(segment: &str) -> bool {
    segment
        .strip_prefix('v')
        .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

/// Length of the longest tail of `base`, in whole segments, with which `rest` begins.
fn shared_length(base: &str, rest: &str) -> usize {
    base.match_indices('/')
        .map(|(start, _)| &base[start..])
        .find(|tail| {
            rest.strip_prefix(tail)
                .is_some_and(|after| after.is_empty() || after.starts_with(['/', '?']))
        })
        .map_or(0, str::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_and_rest_become_one_path() {
        use Dialect::{Anthropic, Gemini, Ollama, OpenAi};
        for (dialect, base, rest, joined) in [
            (OpenAi, "/api", "/api/v1/x", "/api/v1/x"),
            (
                OpenAi,
                "/api",
                "/v1/chat/completions",
                "/api/v1/chat/completions",
            ),
            (
                OpenAi,
                "/api",
                "/chat/completions",
                "/api/v1/chat/completions",
            ),
            (OpenAi, "/api/v1", "/api/v1/models", "/api/v1/models"),
            (OpenAi, "/openai", "/openai/v1/x", "/openai/v1/x"),
            (
                OpenAi,
                "/openai/v1",
                "/v1/chat/completions",
                "/openai/v1/chat/completions",
            ),
            (
                OpenAi,
                "/openai/v1",
                "/chat/completions",
                "/openai/v1/chat/completions",
            ),
            (
                OpenAi,
                "/api/paas/v4",
                "/v1/chat/completions",
                "/api/paas/v4/chat/completions",
            ),
            (OpenAi, "/open", "/openai/x", "/open/openai/x"),
            (
                OpenAi,
                "",
                "/responses/r1?stream=true",
                "/v1/responses/r1?stream=true",
            ),
            (OpenAi, "", "/models", "/v1/models"),
            (OpenAi, "", "/files", "/files"),
            (
                OpenAi,
                "",
                "/openai/deployments/d/chat/completions?a=1",
                "/openai/deployments/d/chat/completions?a=1",
            ),
            (
                Anthropic,
                "",
                "/v1/v1/messages?beta=true",
                "/v1/messages?beta=true",
            ),
            (Anthropic, "", "/v1/v1/v1/messages", "/v1/messages"),
            (
                Anthropic,
                "",
                "/messages/count_tokens",
                "/v1/messages/count_tokens",
            ),
            (Anthropic, "/", "/v1/messages", "/v1/messages"),
            (
                Anthropic,
                "",
                "/v1/files/a%2Fb//c/?x=%20",
                "/v1/files/a%2Fb//c/?x=%20",
            ),
            (Gemini, "", "/v1/v1/models", "/v1/v1/models"),
            (Gemini, "", "/models", "/models"),
            (
                Gemini,
                "/v1beta",
                "/v1beta/models/m:generateContent",
                "/v1beta/models/m:generateContent",
            ),
            (Ollama, "", "/api/chat", "/api/chat"),
            (OpenAi, "", "", "/"),
            (OpenAi, "", "?a=1", "/?a=1"),
            (OpenAi, "/v1", "", "/v1"),
            (
                OpenAi,
                "",
                "/v1/messages?next=/v1/v1",
                "/v1/messages?next=/v1/v1",
            ),
        ] {
            assert_eq!(
                normalise_path(dialect, base, rest),
                joined,
                "{dialect:?} {base:?} + {rest:?}"
            );
        }
    }

    #[test]
    fn a_path_that_is_right_already_is_not_copied() {
        for rest in ["/v1/messages?beta=true", "/v1/v1/messages"] {
            assert!(matches!(
                normalise_path(Dialect::Anthropic, "", rest),
                Cow::Borrowed(_)
            ));
        }
    }
}
