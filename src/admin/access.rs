//! Who may read what tollgate says about itself: names of sessions and keys, figures, events.
//!
//! ```text
//!                     from this machine   from elsewhere
//! mode passthrough    open                refused: nobody can prove who they are
//! mode keys           open                a key with the admin flag, as Bearer or x-api-key
//! ```
//!
//! Behind a reverse proxy on this machine every connection comes from this machine. So a request that names whom it is
//! forwarded for, or that asks by a name other than localhost, counts as one from elsewhere. A reverse proxy that does
//! neither (nginx, unless it is told to) opens everything to whoever it lets in: have it set `X-Forwarded-For`.
//!
//! This machine's own address in the network is no proof of coming from it: some containers show it for everybody.

use std::net::IpAddr;

use http::{HeaderMap, StatusCode, Uri, header};

use crate::config::settings::AuthMode;
use crate::keys::Keyring;
use crate::policy::origin;

/// Headers by which proxies say that somebody else asks.
const FORWARDED: [&str; 5] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-real-ip",
    "via",
];

/// Why somebody may not look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Denied {
    pub(super) status: StatusCode,
    /// What would help; nothing of the key.
    pub(super) message: &'static str,
}

const NO_PROOF: Denied = Denied {
    status: StatusCode::FORBIDDEN,
    message: "this address is open to this machine alone while auth.mode is \"passthrough\", as nobody else can prove \
              who they are; ask from the machine that tollgate runs on, or set auth.mode = \"keys\"",
};

const NO_KEY: Denied = Denied {
    status: StatusCode::UNAUTHORIZED,
    message: "from beyond the machine that tollgate runs on this address asks for a key that `tollgate keys create \
              --admin` made, as Authorization: Bearer or as x-api-key",
};

const NO_ADMIN: Denied = Denied {
    status: StatusCode::FORBIDDEN,
    message: "this key holds, but was made without --admin",
};

/// Judges a request to one of tollgate's own addresses.
pub(super) fn judge(
    mode: AuthMode,
    keys: &Keyring,
    uri: &Uri,
    headers: &HeaderMap,
    peer: IpAddr,
    now_unix_ms: u64,
) -> Result<(), Denied> {
    if is_here(uri, headers, peer) {
        return Ok(());
    }
    if mode == AuthMode::Passthrough {
        return Err(NO_PROOF);
    }
    let shown = shown_key(headers).ok_or(NO_KEY)?;
    let key = keys.verify(shown, now_unix_ms);
    let key = key.map_err(|rejected| Denied {
        status: StatusCode::UNAUTHORIZED,
        message: rejected.why(),
    })?;
    if key.admin { Ok(()) } else { Err(NO_ADMIN) }
}

/// Whether a request comes from this machine.
fn is_here(uri: &Uri, headers: &HeaderMap, peer: IpAddr) -> bool {
    peer.to_canonical().is_loopback()
        && origin::asks_by_address(uri, headers)
        && !FORWARDED.iter().any(|name| headers.contains_key(*name))
}

fn shown_key(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.as_bytes().split_at_checked(7)?;
        scheme
            .eq_ignore_ascii_case(b"bearer ")
            .then(|| key.trim_ascii())
    });
    bearer.or_else(|| Some(headers.get("x-api-key")?.as_bytes()))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::keys::{KeyError, KeyFile, KeyFileError, NewKey};

    const NOW: u64 = 1_795_176_000_000;
    const HERE: &str = "127.0.0.1";
    const ELSEWHERE: &str = "10.1.2.3";

    #[derive(Debug, thiserror::Error)]
    #[error(transparent)]
    enum Failed {
        File(#[from] KeyFileError),
        Key(#[from] KeyError),
    }

    struct Asked {
        mode: AuthMode,
        peer: &'static str,
        headers: HeaderMap,
    }

    impl Asked {
        fn from(peer: &'static str, mode: AuthMode) -> Self {
            let headers = HeaderMap::new();
            Self {
                mode,
                peer,
                headers,
            }
            .with("host", "127.0.0.1:8402")
        }

        fn with(mut self, name: &'static str, value: &str) -> Self {
            let value = HeaderValue::from_str(value).expect("a header value");
            self.headers.insert(HeaderName::from_static(name), value);
            self
        }

        fn judged(&self, keys: &Keyring) -> Result<(), Denied> {
            let peer = self.peer.parse().expect("an address");
            let uri = Uri::from_static("/metrics");
            judge(self.mode, keys, &uri, &self.headers, peer, NOW)
        }
    }

    /// Keys `ops`, which has the admin flag, and `ci`, which has not.
    fn keys() -> (Keyring, String, String) {
        let dir = tempfile::tempdir().expect("a directory");
        let file = KeyFile::at(dir.path().join("keys.json"));
        let create = |name: &str, admin| {
            let new = NewKey {
                name: name.to_owned(),
                admin,
                expires_unix_ms: Some(NOW + 1),
                ..NewKey::default()
            };
            file.change(|keys| Ok::<_, Failed>(keys.create(new, NOW)?.1))
                .expect("made")
                .reveal()
                .to_owned()
        };
        let (ops, ci) = (create("ops", true), create("ci", false));
        (Keyring::open(file).expect("a good file"), ops, ci)
    }

    #[test]
    fn this_machine_may_look_in_both_modes() {
        let keys = Keyring::default();
        for mode in [AuthMode::Passthrough, AuthMode::Keys] {
            for peer in [HERE, "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
                assert_eq!(Asked::from(peer, mode).judged(&keys), Ok(()), "{peer}");
            }
        }
    }

    #[test]
    fn elsewhere_nobody_may_look_in_passthrough() {
        let (keys, ops, _) = keys();
        for peer in [ELSEWHERE, "2001:db8::1", "::ffff:10.1.2.3", "0.0.0.0"] {
            let asked = Asked::from(peer, AuthMode::Passthrough).with("x-api-key", &ops);
            assert_eq!(asked.judged(&keys), Err(NO_PROOF), "{peer}");
        }
    }

    #[test]
    fn elsewhere_a_key_with_the_admin_flag_opens() {
        let (keys, ops, ci) = keys();
        let asked = || Asked::from(ELSEWHERE, AuthMode::Keys);
        assert_eq!(asked().judged(&keys), Err(NO_KEY));
        let bearer = |key: &str| asked().with("authorization", &format!("bearer {key}"));
        assert_eq!(bearer(&ops).judged(&keys), Ok(()));
        assert_eq!(asked().with("x-api-key", &ops).judged(&keys), Ok(()));
        assert_eq!(bearer(&ci).judged(&keys), Err(NO_ADMIN));
        let wrong = bearer(&ops.replace("tg_", "tq_")).judged(&keys);
        assert_eq!(
            wrong.map_err(|denied| denied.status),
            Err(StatusCode::UNAUTHORIZED)
        );
        let peer = ELSEWHERE.parse().expect("an address");
        let late = judge(
            AuthMode::Keys,
            &keys,
            &Uri::from_static("/"),
            &bearer(&ops).headers,
            peer,
            NOW + 1,
        );
        assert!(late.is_err_and(|denied| denied.message.contains("expired")));
    }

    #[test]
    fn what_a_reverse_proxy_passes_on_comes_from_elsewhere() {
        let keys = Keyring::default();
        for name in FORWARDED {
            let asked = Asked::from(HERE, AuthMode::Passthrough).with(name, "10.1.2.3");
            assert_eq!(asked.judged(&keys), Err(NO_PROOF), "{name}");
        }
        for mode in [AuthMode::Passthrough, AuthMode::Keys] {
            let named = Asked::from(HERE, mode).with("host", "gate.team");
            assert!(named.judged(&keys).is_err(), "{mode:?}");
        }
    }
}
