//! Decides whether a request comes from where tollgate serves. A web page must not be able to spend through a proxy on
//! localhost or in a team's network, nor read what was used.
//!
//! Two rules. The `Host` must be this machine's, unless other machines are wanted (a foreign name that resolves here is a
//! DNS rebinding attack). A request that a browser made for a page of another site, told by `Sec-Fetch-Site` and `Origin`,
//! is refused in every mode. Node's fetch sends `sec-fetch-mode` too, so that header says nothing.
//!
//! A page under the very name by which it reaches the proxy is no other site to a browser. But where other machines are
//! wanted any name leads here, also one that an attacker's name server points here after it has served its page. Such a
//! page has nothing to spend where every request needs a tollgate key; where none does, only names that no name server
//! decides on are taken for the proxy's own.

use std::net::IpAddr;

use http::{HeaderMap, Uri, header};

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    /// The host is not this machine.
    #[error(
        "the Host header names another machine; use http://127.0.0.1 and tollgate's port as the address"
    )]
    Host,
    /// A page of another site asks.
    #[error("a web page of another site may not use this proxy")]
    Site,
}

/// For whom the proxy is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// For this machine.
    ThisMachine,
    /// For other machines too, under whatever name.
    Network {
        /// Whether every request must show a tollgate key.
        keys: bool,
    },
}

/// Judges a request.
///
/// # Errors
/// Which rule it breaks.
pub fn judge(uri: &Uri, headers: &HeaderMap, reach: Reach) -> Result<(), Foreign> {
    let host = host(uri, headers);
    if reach == Reach::ThisMachine && host.is_some_and(|host| !is_local(host)) {
        return Err(Foreign::Host);
    }
    let says = |name: &str, value: &[u8]| {
        headers
            .get(name)
            .is_some_and(|found| found.as_bytes().eq_ignore_ascii_case(value))
    };
    if says("sec-fetch-site", b"cross-site") {
        return Err(Foreign::Site);
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    let origin = origin.to_str().unwrap_or("null");
    let site = origin.split_once("://").map_or("", |(_, site)| site);
    let same_host = host.is_some_and(|host| host.eq_ignore_ascii_case(site));
    let own = same_host && (reach == Reach::Network { keys: true } || is_address(site));
    if own || is_local(site) {
        Ok(())
    } else {
        Err(Foreign::Site)
    }
}

/// Whether a request asks for its host by an address or as `localhost`, which no name server decides on, and not by a name
/// that one could have pointed here. One that states no host does, as no browser sends it.
pub fn asks_by_address(uri: &Uri, headers: &HeaderMap) -> bool {
    host(uri, headers).is_none_or(|host| is_local(host) || is_address(host))
}

/// The host that a request asks for. HTTP/2 states it in the target. HTTP/1.0 may state none; a browser always does.
fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let named = headers
        .get(header::HOST)
        // What is no text is nobody's name.
        .map(|host| host.to_str().unwrap_or("?"));
    uri.authority().map(http::uri::Authority::as_str).or(named)
}

/// The name in `host[:port]`.
fn name_of(host: &str) -> &str {
    let name = match host.strip_prefix('[') {
        Some(address) => address.split_once(']').map_or("", |(address, _)| address),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.strip_suffix('.').unwrap_or(name)
}

/// Whether `host[:port]` is an address and no name.
fn is_address(host: &str) -> bool {
    name_of(host).parse::<IpAddr>().is_ok()
}

/// Whether `host[:port]` is this machine: `localhost`, a name below it, or a loopback address.
fn is_local(host: &str) -> bool {
    let name = name_of(host);
    match name.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => {
            let name = name.to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    const KEYS: Reach = Reach::Network { keys: true };
    const OPEN: Reach = Reach::Network { keys: false };

    fn judged(headers: &[(&'static str, &'static str)], reach: Reach) -> Result<(), Foreign> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        judge(&Uri::from_static("/v1/messages"), &map, reach)
    }

    #[test]
    fn this_machine_is_served_by_all_its_names() {
        for host in [
            "127.0.0.1:8402",
            "localhost",
            "LOCALHOST:1",
            "[::1]:8402",
            "127.8.9.1",
            "api.localhost:8402",
        ] {
            assert_eq!(
                judged(
                    &[("host", Box::leak(host.to_owned().into_boxed_str()))],
                    Reach::ThisMachine
                ),
                Ok(()),
                "{host}"
            );
        }
        assert_eq!(judged(&[], Reach::ThisMachine), Ok(()), "HTTP/1.0");
        assert_eq!(
            judged(
                &[("host", "localhost"), ("sec-fetch-mode", "cors")],
                Reach::ThisMachine
            ),
            Ok(()),
            "Node's fetch"
        );
    }

    #[test]
    fn a_foreign_host_is_refused_unless_other_machines_are_wanted() {
        for host in [
            "evil.example",
            "localhost.evil.example:8402",
            "10.0.0.1",
            "127.0.0.1.evil.example",
            "[::2]:1",
            "",
        ] {
            let headers = [("host", &*Box::leak(host.to_owned().into_boxed_str()))];
            assert_eq!(
                judged(&headers, Reach::ThisMachine),
                Err(Foreign::Host),
                "{host}"
            );
            assert_eq!(judged(&headers, OPEN), Ok(()), "{host}");
            assert_eq!(judged(&headers, KEYS), Ok(()), "{host}");
        }
        assert_eq!(
            judge(
                &Uri::from_static("http://evil.example/v1"),
                &HeaderMap::new(),
                Reach::ThisMachine
            ),
            Err(Foreign::Host)
        );
    }

    #[test]
    fn a_page_of_another_site_is_refused_in_every_mode() {
        let host = ("host", "localhost:8402");
        let team = ("host", "gate.team:8402");
        for reach in [Reach::ThisMachine, OPEN, KEYS] {
            for headers in [
                &[host, ("origin", "https://evil.example")][..],
                &[host, ("origin", "null")],
                &[host, ("sec-fetch-site", "cross-site")],
            ] {
                assert_eq!(judged(headers, reach), Err(Foreign::Site), "{headers:?}");
            }
            let app = [
                host,
                ("origin", "http://localhost:3000"),
                ("sec-fetch-site", "same-site"),
            ];
            assert_eq!(judged(&app, reach), Ok(()), "another port of this machine");
        }
        for reach in [OPEN, KEYS] {
            for origin in [
                "http://gate.team",
                "http://gate.team:3000",
                "http://evil.example:8402",
            ] {
                assert_eq!(
                    judged(&[team, ("origin", origin)], reach),
                    Err(Foreign::Site),
                    "{origin}"
                );
            }
        }
    }

    #[test]
    fn a_page_under_the_proxys_own_name_needs_keys_or_an_address_that_no_name_server_gives() {
        let named = [
            ("host", "gate.team:8402"),
            ("origin", "http://gate.team:8402"),
        ];
        assert_eq!(judged(&named, KEYS), Ok(()));
        assert_eq!(judged(&named, OPEN), Err(Foreign::Site));
        let by_address = [
            ("host", "10.1.2.3:8402"),
            ("origin", "http://10.1.2.3:8402"),
        ];
        assert_eq!(judged(&by_address, KEYS), Ok(()));
        assert_eq!(judged(&by_address, OPEN), Ok(()));
    }

    #[test]
    fn a_host_that_is_no_text_is_foreign() {
        let mut headers = HeaderMap::new();
        let host = HeaderValue::from_bytes(b"\xff").expect("allowed in a header");
        headers.insert("host", host);
        let uri = Uri::from_static("/v1/messages");
        assert_eq!(
            judge(&uri, &headers, Reach::ThisMachine),
            Err(Foreign::Host)
        );
        assert!(!asks_by_address(&uri, &headers));
        assert!(asks_by_address(&uri, &HeaderMap::new()));
        for (host, by_address) in [
            ("localhost:8402", true),
            ("0.0.0.0:8402", true),
            ("[2001:db8::1]:8402", true),
            ("gate.team:8402", false),
            ("127.0.0.1.evil.example", false),
        ] {
            headers.insert("host", HeaderValue::from_static(host));
            assert_eq!(asks_by_address(&uri, &headers), by_address, "{host}");
        }
    }
}
