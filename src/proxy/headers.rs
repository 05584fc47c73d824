//! Which headers go on and which end here.

use bytes::BytesMut;
use http::HeaderMap;
use http::header::{self, HeaderName, HeaderValue};

use crate::store::record::Record;

/// Headers that speak of one connection only (RFC 9110, section 7.6.1), and those that hyper writes anew.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Prefix of tollgate's own headers. They are never sent upstream.
const OWN_PREFIX: &str = "x-tollgate-";

/// Removes what must not go upstream: hop-by-hop headers, those named in `Connection`, the host, tollgate's own.
pub(super) fn for_upstream(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
    headers.remove(header::HOST);
    // The body is at hand (or comes as it comes): nobody waits for a 100 any more.
    headers.remove(header::EXPECT);
    if headers.get(header::TE).is_some_and(|te| te != "trailers") {
        headers.remove(header::TE);
    }
    let own: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(OWN_PREFIX))
        .cloned()
        .collect();
    for name in own {
        headers.remove(name);
    }
}

/// Tells a client, in the answer's headers, as what its request counted.
pub(super) fn tell(record: &Record, headers: &mut HeaderMap) {
    let mut named = |name: &'static str, text: &str| {
        // Names that cannot stand in a header are left out rather than changed.
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    named("x-tollgate-session", &record.session);
    if let Some(task) = &record.task {
        named("x-tollgate-task", task);
    }
    if record.sent_model.is_some() || record.requested_provider.is_some() {
        if let Some(model) = &record.requested_model {
            named("x-tollgate-requested-model", model);
        }
        if let Some(provider) = &record.requested_provider {
            named("x-tollgate-requested-provider", provider);
        }
        if let Some(why) = &record.routed_by {
            named("x-tollgate-route", why);
        }
    }
    let fixed = HeaderValue::from_static;
    headers.insert("x-tollgate-priority", fixed(record.priority.as_str()));
    headers.insert("x-tollgate-level", fixed(record.level.as_str()));
    headers.insert("x-tollgate-attempts", record.attempts.into());
    headers.insert("x-tollgate-queued-ms", (record.queued_us / 1_000).into());
}

/// The same headers in memory of their own: all values in one piece.
pub(super) fn copied(headers: &HeaderMap) -> HeaderMap {
    let mut bytes = BytesMut::with_capacity(headers.values().map(HeaderValue::len).sum());
    for value in headers.values() {
        bytes.extend_from_slice(value.as_bytes());
    }
    let bytes = bytes.freeze();
    let mut copied = HeaderMap::with_capacity(headers.keys_len());
    let mut start = 0;
    for (name, value) in headers {
        let end = start + value.len();
        let own = HeaderValue::from_maybe_shared(bytes.slice(start..end));
        let mut own = own.expect("it was a value before");
        own.set_sensitive(value.is_sensitive());
        copied.append(name.clone(), own);
        start = end;
    }
    copied
}

/// Removes what must not go to the client.
pub(super) fn for_client(headers: &mut HeaderMap) {
    if headers.contains_key(header::TRANSFER_ENCODING) {
        // RFC 9112, section 6.3: then the length means nothing, and would cut the answer short.
        headers.remove(header::CONTENT_LENGTH);
    }
    remove_hop_by_hop(headers);
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            // Naming one of these would change what the message means.
            .filter(|name| {
                name != header::CONTENT_LENGTH && name != header::HOST && name != header::TE
            })
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn only_what_concerns_the_provider_goes_upstream() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "127.0.0.1:8402"),
            ("connection", "keep-alive, x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("x-tollgate-session", "s"),
            ("te", "gzip"),
            ("expect", "100-continue"),
            ("authorization", "Bearer k"),
            ("anthropic-beta", "a,b"),
            ("session_id", "with underscore"),
            ("cookie", "a=1"),
        ] {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        headers.append("cookie", HeaderValue::from_static("b=2"));
        for_upstream(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(
            left,
            ["anthropic-beta", "authorization", "cookie", "session_id"]
        );
        assert_eq!(
            headers.get_all("cookie").iter().count(),
            2,
            "repeated headers stay repeated"
        );
    }

    #[test]
    fn copied_headers_are_the_same_headers() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("a", "1"), ("b", ""), ("a", "2"), ("c", "three")] {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        if let Some(secret) = headers.get_mut("c") {
            secret.set_sensitive(true);
        }
        let copied = copied(&headers);
        assert_eq!(copied, headers);
        assert!(copied["c"].is_sensitive());
    }

    #[test]
    fn a_length_beside_a_transfer_encoding_is_not_believed() {
        let mut headers = HeaderMap::new();
        headers.insert("transfer-encoding", HeaderValue::from_static("chunked"));
        headers.insert("content-length", HeaderValue::from_static("10"));
        for_client(&mut headers);
        assert!(headers.is_empty());
    }

    #[test]
    fn a_connection_header_cannot_remove_the_length() {
        let mut headers = HeaderMap::new();
        headers.insert(
            "connection",
            HeaderValue::from_static("close, content-length"),
        );
        headers.insert("content-length", HeaderValue::from_static("3"));
        headers.insert("te", HeaderValue::from_static("trailers"));
        for_upstream(&mut headers);
        assert_eq!(headers.len(), 2);
    }
}
