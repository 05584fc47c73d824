//! Decides whether a request comes from where tollgate serves: this machine. A web page must not be able to spend
//! through a proxy on localhost, nor read what was used.
//!
//! Two rules. The `Host` must be this machine's (a foreign name that resolves here is a DNS rebinding attack). A request
//! that a browser made for a page of another site, told by `Sec-Fetch-Site` and `Origin`, is refused. Node's fetch sends
//! `sec-fetch-mode` too, so that header says nothing.

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

/// Judges a request. `any_host` is for a proxy that is meant to be reached from other machines, under whatever name.
///
/// # Errors
/// Which rule it breaks.
pub fn judge(uri: &Uri, headers: &HeaderMap, any_host: bool) -> Result<(), Foreign> {
    let named = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    // HTTP/2 states the host in the target. HTTP/1.0 may state none; a browser always does.
    let host = uri.authority().map(http::uri::Authority::as_str).or(named);
    if !any_host && host.is_some_and(|host| !is_local(host)) {
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
    if same_host || is_local(site) {
        Ok(())
    } else {
        Err(Foreign::Site)
    }
}

/// Whether `host[:port]` is this machine: `localhost`, a name below it, or a loopback address.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(address) => address.split_once(']').map_or("", |(address, _)| address),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
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

    fn judged(headers: &[(&'static str, &'static str)], any_host: bool) -> Result<(), Foreign> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        judge(&Uri::from_static("/v1/messages"), &map, any_host)
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
                    false
                ),
                Ok(()),
                "{host}"
            );
        }
        assert_eq!(judged(&[], false), Ok(()), "HTTP/1.0");
        assert_eq!(
            judged(&[("host", "localhost"), ("sec-fetch-mode", "cors")], false),
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
            assert_eq!(judged(&headers, false), Err(Foreign::Host), "{host}");
            assert_eq!(judged(&headers, true), Ok(()), "{host}");
        }
        assert_eq!(
            judge(
                &Uri::from_static("http://evil.example/v1"),
                &HeaderMap::new(),
                false
            ),
            Err(Foreign::Host)
        );
    }

    #[test]
    fn a_page_of_another_site_is_refused() {
        let host = ("host", "localhost:8402");
        assert_eq!(
            judged(&[host, ("origin", "https://evil.example")], false),
            Err(Foreign::Site)
        );
        assert_eq!(
            judged(&[host, ("origin", "null")], false),
            Err(Foreign::Site)
        );
        assert_eq!(
            judged(&[host, ("sec-fetch-site", "cross-site")], true),
            Err(Foreign::Site)
        );
        assert_eq!(
            judged(
                &[
                    host,
                    ("origin", "http://localhost:3000"),
                    ("sec-fetch-site", "same-site")
                ],
                false
            ),
            Ok(())
        );
        let team = [
            ("host", "gate.team:8402"),
            ("origin", "http://gate.team:8402"),
        ];
        assert_eq!(judged(&team, true), Ok(()), "its own page");
    }
}
