//! Decides whose request it is: the session that is charged, and the agent inside it.
//!
//! Order of trust: the header, the path tag, what a known agent states in its headers, what the body states, the
//! fingerprint of the client's key, `default`. Explicit names are taken or refused; inferred ones that are no names
//! (too long, spaces, other letters) are replaced by a digest, so that they are told apart and nothing odd is stored.

use std::fmt;

use http::header::AsHeaderName;
use http::{HeaderMap, HeaderName};
use sha2::{Digest, Sha256};

use super::explicit::{self, HeaderError};

/// The header that names the session.
pub const SESSION_HEADER: &str = "x-tollgate-session";

/// The session of a request about which nothing is known.
pub const DEFAULT_SESSION: &str = "default";

/// Headers in which known agents name their session, most trusted first.
static AGENT_SESSIONS: [(HeaderName, KnownAgent); 7] = [
    (
        HeaderName::from_static("x-claude-code-session-id"),
        KnownAgent::ClaudeCode,
    ),
    (HeaderName::from_static("session-id"), KnownAgent::Codex),
    (HeaderName::from_static("session_id"), KnownAgent::Codex),
    (HeaderName::from_static("thread-id"), KnownAgent::Codex),
    (
        HeaderName::from_static("conversation_id"),
        KnownAgent::Codex,
    ),
    (
        HeaderName::from_static("x-session-id"),
        KnownAgent::Opencode,
    ),
    (
        HeaderName::from_static("x-session-affinity"),
        KnownAgent::Opencode,
    ),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum KnownAgent {
    ClaudeCode,
    Codex,
    Opencode,
}

/// Whose request it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The session that is charged: 1 to 128 visible ASCII characters.
    pub name: String,
    /// The agent inside the session, where the client states one; sub-agents share their parent's session.
    pub agent: Option<String>,
    /// How the session was told.
    pub source: SessionSource,
}

/// How a session was told, most trusted first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SessionSource {
    /// The header `x-tollgate-session`.
    Header,
    /// The tag in front of the path.
    Path,
    /// A header of a known agent.
    Agent,
    /// A field of the body.
    Body,
    /// The client's key, by its name or fingerprint.
    Key,
    /// Nothing told it.
    Default,
}

impl SessionSource {
    /// The name used in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            SessionSource::Header => "header",
            SessionSource::Path => "path",
            SessionSource::Agent => "agent",
            SessionSource::Body => "body",
            SessionSource::Key => "key",
            SessionSource::Default => "default",
        }
    }
}

/// What the body states, most trusted first; see `llm::request::Stated` for where each stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BodySession<'a> {
    /// `metadata.session_id`.
    pub session_id: Option<&'a str>,
    /// The session inside `metadata.user_id`.
    pub packed_session: Option<&'a str>,
    /// `prompt_cache_key`.
    pub prompt_cache_key: Option<&'a str>,
    /// `client_metadata.session_id`.
    pub client_session_id: Option<&'a str>,
    /// `user`, `safety_identifier`, or a `metadata.user_id` that is only a user's name.
    pub user: Option<&'a str>,
}

/// Decides the session and the agent.
///
/// `tag` is the session in front of the path, already checked; `key` what the client's key is called: its fingerprint, or
/// the name of a tollgate key.
///
/// # Errors
///
/// The header `x-tollgate-session` is repeated or not a name. Nothing else fails.
pub fn identify(
    headers: &HeaderMap,
    tag: Option<&str>,
    body: &BodySession<'_>,
    key: Option<&str>,
) -> Result<Session, HeaderError> {
    let explicit = explicit::value(headers, SESSION_HEADER)?;
    let stated = AGENT_SESSIONS
        .iter()
        .find_map(|(header, known)| Some((inferred_header(headers, header)?, *known)));
    let agent = agent_of(headers, stated.as_ref().map(|(_, known)| *known));
    let body = [
        body.session_id,
        body.packed_session,
        body.prompt_cache_key,
        body.client_session_id,
        body.user,
    ]
    .into_iter()
    .flatten()
    .find_map(|text| inferred(text.as_bytes()));

    let (name, source) = if let Some(name) = explicit {
        (name.to_owned(), SessionSource::Header)
    } else if let Some(name) = tag {
        (name.to_owned(), SessionSource::Path)
    } else if let Some((name, _)) = stated {
        (name, SessionSource::Agent)
    } else if let Some(name) = body {
        (name, SessionSource::Body)
    } else if let Some(key) = key {
        (key.to_owned(), SessionSource::Key)
    } else {
        (DEFAULT_SESSION.to_owned(), SessionSource::Default)
    };
    Ok(Session {
        name,
        agent,
        source,
    })
}

/// The agent inside the session, which does not depend on how the session was told.
fn agent_of(headers: &HeaderMap, known: Option<KnownAgent>) -> Option<String> {
    match known? {
        KnownAgent::ClaudeCode => inferred_header(headers, "x-claude-code-agent-id"),
        KnownAgent::Codex => inferred_header(headers, "x-openai-subagent").or_else(|| {
            // A spawned thread has an id of its own; on the main one all ids are the same.
            headers.get("x-codex-parent-thread-id")?;
            inferred_header(headers, "thread-id")
        }),
        KnownAgent::Opencode => None,
    }
}

fn inferred_header(headers: &HeaderMap, name: impl AsHeaderName) -> Option<String> {
    inferred(headers.get(name)?.as_bytes())
}

/// Takes an inferred name as it is if it is one, a digest in place of anything odd, and nothing for an empty text.
fn inferred(text: &[u8]) -> Option<String> {
    if text.trim_ascii().is_empty() {
        return None;
    }
    match std::str::from_utf8(text) {
        Ok(name) if explicit::is_name(name) => Some(name.to_owned()),
        _ => Some(format!("h-{}", Hex(&Sha256::digest(text)[..8]))),
    }
}

/// The key that a client shows, by its fingerprint; the key itself is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientKey {
    /// Tells keys apart.
    pub fingerprint: Fingerprint,
    /// Where the key was.
    pub kind: KeyKind,
}

/// Where a client's key was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// `Authorization: Bearer`.
    Bearer,
    /// `x-api-key` (Anthropic).
    XApiKey,
    /// `api-key` (Azure).
    ApiKey,
    /// `x-goog-api-key` (Gemini).
    XGoogApiKey,
    /// `?key=` (Gemini).
    Query,
    /// `Sec-WebSocket-Protocol: openai-insecure-api-key.KEY` (OpenAI's realtime clients).
    Subprotocol,
}

impl KeyKind {
    /// Every place, the most trusted first.
    const ALL: [KeyKind; 6] = [
        KeyKind::Bearer,
        KeyKind::XApiKey,
        KeyKind::ApiKey,
        KeyKind::XGoogApiKey,
        KeyKind::Query,
        KeyKind::Subprotocol,
    ];
}

/// What stands before a key among the subprotocols of a WebSocket.
pub const KEY_SUBPROTOCOL: &str = "openai-insecure-api-key.";

/// The first 48 bits of a key's SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 6]);

impl Fingerprint {
    /// Takes the fingerprint of a key.
    pub fn of(key: &[u8]) -> Self {
        let mut first = [0; 6];
        first.copy_from_slice(&Sha256::digest(key)[..6]);
        Self(first)
    }
}

impl fmt::Display for Fingerprint {
    /// `key-` and 12 hex digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key-{}", Hex(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        // Digests are cut to 8 bytes; the formatter takes much longer for each byte than this does for all.
        let mut text = [0_u8; 16];
        let digits = text.chunks_exact_mut(2).zip(self.0);
        let written = digits.len() * 2;
        for (pair, byte) in digits {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        f.write_str(std::str::from_utf8(&text[..written]).expect("hex digits are ASCII"))
    }
}

/// Finds the client's key. Where several are shown the first of [`KeyKind`]'s order counts.
///
/// `query` is the request's query without the question mark.
pub fn client_key(headers: &HeaderMap, query: Option<&str>) -> Option<ClientKey> {
    let (key, kind) = shown_keys(headers, query).next()?;
    Some(ClientKey {
        fingerprint: Fingerprint::of(key),
        kind,
    })
}

/// Finds a key that begins like this; if none does, the first that is shown. A client may have to show two: Claude Code
/// its login beside the key that its user set.
pub fn key_with_prefix<'a>(
    headers: &'a HeaderMap,
    query: Option<&'a str>,
    prefix: &str,
) -> Option<&'a [u8]> {
    let mut shown = shown_keys(headers, query).map(|(key, _)| key).peekable();
    let first = shown.peek().copied();
    shown
        .find(|key| key.starts_with(prefix.as_bytes()))
        .or(first)
}

/// Every key that a client shows, in [`KeyKind`]'s order.
fn shown_keys<'a>(
    headers: &'a HeaderMap,
    query: Option<&'a str>,
) -> impl Iterator<Item = (&'a [u8], KeyKind)> {
    KeyKind::ALL
        .into_iter()
        .filter_map(move |kind| Some((key_at(kind, headers, query)?, kind)))
}

fn key_at<'a>(kind: KeyKind, headers: &'a HeaderMap, query: Option<&'a str>) -> Option<&'a [u8]> {
    let header = |name: &str| {
        let value = headers.get(name)?.as_bytes();
        Some(value.trim_ascii()).filter(|key| !key.is_empty())
    };
    match kind {
        KeyKind::Bearer => {
            let (scheme, key) = header("authorization")?.split_at_checked(7)?;
            let key = key.trim_ascii_start();
            (scheme.eq_ignore_ascii_case(b"bearer ") && !key.is_empty()).then_some(key)
        }
        KeyKind::XApiKey => header("x-api-key"),
        KeyKind::ApiKey => header("api-key"),
        KeyKind::XGoogApiKey => header("x-goog-api-key"),
        KeyKind::Query => query?
            .split('&')
            .find_map(|pair| pair.strip_prefix("key="))
            .filter(|key| !key.is_empty())
            .map(str::as_bytes),
        KeyKind::Subprotocol => headers
            .get_all("sec-websocket-protocol")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .find_map(|name| name.trim().strip_prefix(KEY_SUBPROTOCOL))
            .filter(|key| !key.is_empty())
            .map(str::as_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::explicit::Rule;
    use http::{HeaderName, HeaderValue};

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                let value = HeaderValue::from_str(value).expect("a header value");
                (HeaderName::from_static(name), value)
            })
            .collect()
    }

    fn told(pairs: &[(&'static str, &str)], tag: Option<&str>, body: BodySession<'_>) -> Session {
        let headers = headers(pairs);
        let key = client_key(&headers, None).map(|key| key.fingerprint.to_string());
        identify(&headers, tag, &body, key.as_deref()).expect("no broken header")
    }

    #[test]
    fn the_most_trusted_statement_names_the_session() {
        use SessionSource::{Agent, Body, Default as Unknown, Header, Key, Path};
        let mut pairs = vec![
            ("x-tollgate-session", "s-header"),
            ("x-claude-code-session-id", "s-claude"),
            ("session-id", "s-codex"),
            ("x-session-id", "s-opencode"),
            ("authorization", "Bearer sk-1"),
        ];
        let mut body = BodySession {
            session_id: Some("b-session"),
            packed_session: Some("b-packed"),
            prompt_cache_key: Some("b-cache"),
            client_session_id: Some("b-client"),
            user: Some("b-user"),
        };
        let expect = |pairs: &[(&'static str, &str)], tag, body, name: &str, source| {
            let session = told(pairs, tag, body);
            assert_eq!((session.name.as_str(), session.source), (name, source));
        };
        expect(&pairs, Some("s-tag"), body, "s-header", Header);
        pairs.remove(0);
        expect(&pairs, Some("s-tag"), body, "s-tag", Path);
        expect(&pairs, None, body, "s-claude", Agent);
        pairs.remove(0);
        expect(&pairs, None, body, "s-codex", Agent);
        pairs.remove(0);
        expect(&pairs, None, body, "s-opencode", Agent);
        pairs.remove(0);
        expect(&pairs, None, body, "b-session", Body);
        body.session_id = None;
        expect(&pairs, None, body, "b-packed", Body);
        body.packed_session = None;
        expect(&pairs, None, body, "b-cache", Body);
        body.prompt_cache_key = Some("  ");
        expect(&pairs, None, body, "b-client", Body);
        body.client_session_id = None;
        expect(&pairs, None, body, "b-user", Body);
        body.user = None;
        // The first 12 digits of SHA-256("sk-1").
        expect(&pairs, None, body, "key-0f2c10bf3d12", Key);
        expect(&[], None, body, "default", Unknown);
    }

    #[test]
    fn agents_are_told_inside_their_session_however_that_is_named() {
        let claude = [
            ("x-tollgate-session", "mine"),
            ("x-claude-code-session-id", "u1"),
            ("x-claude-code-agent-id", "a62a16bd16a5d109a"),
        ];
        let session = told(&claude, None, BodySession::default());
        assert_eq!(session.name, "mine");
        assert_eq!(session.agent.as_deref(), Some("a62a16bd16a5d109a"));

        let agent =
            |pairs: &[(&'static str, &str)]| told(pairs, None, BodySession::default()).agent;
        let codex = ("session-id", "u1");
        assert_eq!(agent(&[codex, ("thread-id", "u1")]), None);
        assert_eq!(
            agent(&[
                codex,
                ("thread-id", "u2"),
                ("x-codex-parent-thread-id", "u1")
            ])
            .as_deref(),
            Some("u2")
        );
        assert_eq!(
            agent(&[codex, ("x-openai-subagent", "review")]).as_deref(),
            Some("review")
        );
        assert_eq!(agent(&[("x-openai-subagent", "review")]), None);
    }

    #[test]
    fn odd_inferred_names_become_digests_and_odd_explicit_ones_errors() {
        let long = "a".repeat(129);
        for odd in ["Ann Smith", "jörg", &long] {
            let body = BodySession {
                user: Some(odd),
                ..BodySession::default()
            };
            let name = told(&[], None, body).name;
            assert!(name.starts_with("h-") && name.len() == 18, "{name}");
        }
        assert_eq!(
            told(&[("session-id", "a b")], None, BodySession::default()).name,
            "h-c8687a08aa5d6ed2"
        );
        let error = identify(
            &headers(&[("x-tollgate-session", "a b")]),
            Some("tag"),
            &BodySession::default(),
            None,
        );
        assert_eq!(
            error,
            Err(HeaderError {
                header: "x-tollgate-session",
                rule: Rule::Name
            })
        );
    }

    #[test]
    fn a_key_has_one_fingerprint_wherever_it_is_shown() {
        let fingerprint = Some(Fingerprint::of(b"sk-1"));
        for (pairs, query, kind) in [
            (
                &[("authorization", "bearer  sk-1")][..],
                None,
                KeyKind::Bearer,
            ),
            (&[("x-api-key", "sk-1")], None, KeyKind::XApiKey),
            (&[("api-key", "sk-1")], Some("key=no"), KeyKind::ApiKey),
            (&[("x-goog-api-key", "sk-1")], None, KeyKind::XGoogApiKey),
            (&[], Some("alt=sse&key=sk-1"), KeyKind::Query),
            (
                &[("authorization", "Bearer sk-1"), ("x-api-key", "other")],
                None,
                KeyKind::Bearer,
            ),
            (
                &[(
                    "sec-websocket-protocol",
                    "realtime, openai-insecure-api-key.sk-1",
                )],
                None,
                KeyKind::Subprotocol,
            ),
        ] {
            let key = client_key(&headers(pairs), query);
            assert_eq!(key.map(|key| key.kind), Some(kind));
            assert_eq!(key.map(|key| key.fingerprint), fingerprint, "{kind:?}");
        }
        for none in [
            "Bearer ",
            "Bearer",
            "AWS4-HMAC-SHA256 Credential=x",
            "Basic eA==",
        ] {
            assert_eq!(
                client_key(&headers(&[("authorization", none)]), Some("monkey=1&key=")),
                None
            );
        }
        let shown = format!(
            "{:?}",
            client_key(&headers(&[("x-api-key", "sk-secret")]), None)
        );
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn a_key_of_the_wanted_kind_is_found_beside_others() {
        let find = |pairs: &[(&'static str, &str)], query| {
            let headers = headers(pairs);
            let key = key_with_prefix(&headers, query, "tg_");
            key.map(|key| String::from_utf8_lossy(key).into_owned())
        };
        let login = ("authorization", "Bearer sk-login");
        for (pairs, query, found) in [
            (&[login, ("x-api-key", "tg_1")][..], None, Some("tg_1")),
            (&[login], Some("a=b&key=tg_2"), Some("tg_2")),
            (&[login, ("x-api-key", "sk-2")], None, Some("sk-login")),
            (&[("x-api-key", "sk-2")], Some("key="), Some("sk-2")),
            (&[], None, None),
        ] {
            assert_eq!(find(pairs, query).as_deref(), found, "{pairs:?}");
        }
    }
}
