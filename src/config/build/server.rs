//! `[server]` and `[upstream]`: the sides towards the clients and towards the providers, and who may be let in from other
//! machines.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::lookup::Lookup;
use crate::config::scalar::{OptionalLimit, Size, TimeLimit};
use crate::config::settings::{AuthMode, ServerSettings, Settings, TlsFiles, UpstreamSettings};

pub(super) fn server(lookup: &mut Lookup<'_>) -> ServerSettings {
    let server = ServerSettings {
        listen: lookup.ask("server.listen"),
        allow_remote: lookup.ask("server.allow_remote"),
        max_body_bytes: memory_size(lookup, "server.max_body"),
        max_header_bytes: memory_size(lookup, "server.max_header"),
        header_timeout: limit(lookup, "server.header_timeout"),
        body_timeout: limit(lookup, "server.body_timeout"),
        write_timeout: limit(lookup, "server.write_timeout"),
        tls: tls(lookup),
        drain_timeout: lookup.ask("server.drain_timeout"),
    };
    // hyper's smallest read buffer.
    if server.max_header_bytes < 8192 && lookup.place("server.max_header").is_some() {
        let place = lookup.place("server.max_header");
        let message = "`server.max_header` is below 8 KiB".to_owned();
        lookup.object(
            place,
            "server.max_header",
            message,
            "agents send heads of several KiB; 64 KiB is the default",
        );
    }
    server
}

/// Certificate and key: both or none.
fn tls(lookup: &mut Lookup<'_>) -> Option<TlsFiles> {
    const CERT: &str = "server.tls_cert_file";
    const KEY: &str = "server.tls_key_file";
    let cert_file: Option<PathBuf> = lookup.ask_optional(CERT);
    let key_file: Option<PathBuf> = lookup.ask_optional(KEY);
    let (set, missing) = match (lookup.place(CERT), lookup.place(KEY)) {
        (Some(_), None) => (CERT, KEY),
        (None, Some(_)) => (KEY, CERT),
        _ => {
            return cert_file
                .zip(key_file)
                .map(|(cert_file, key_file)| TlsFiles {
                    cert_file,
                    key_file,
                });
        }
    };
    let place = lookup.place(set);
    let message = format!("`{set}` is set and `{missing}` is not");
    let help = "HTTPS takes both: the certificate chain and its private key, as PEM files";
    lookup.object(place, set, message, help);
    None
}

/// Whoever reaches the proxy can spend: beyond this machine they must show a tollgate key, and over TLS, unless the user
/// says otherwise. Where they may be let in, `allow_remote` is true from here on.
pub(super) fn check_reach(lookup: &mut Lookup<'_>, settings: &mut Settings) {
    let server = &mut settings.server;
    if server.listen.ip().is_loopback() || server.allow_remote {
        return;
    }
    let lacks = match (settings.auth.mode, &server.tls) {
        (AuthMode::Keys, Some(_)) => {
            server.allow_remote = true;
            return;
        }
        (AuthMode::Keys, None) => "TLS",
        (AuthMode::Passthrough, Some(_)) => "auth.mode = \"keys\"",
        (AuthMode::Passthrough, None) => "auth.mode = \"keys\" and TLS",
    };
    let place = lookup.place("server.listen");
    let message = format!("`server.listen` is reachable from other machines, which needs {lacks}");
    let help = match (settings.auth.mode, &server.tls) {
        (AuthMode::Keys, _) => {
            "keys and prompts would pass in clear text: set server.tls_cert_file and server.tls_key_file, or listen on \
             127.0.0.1; server.allow_remote = true lets everybody in if the network is trusted"
        }
        (AuthMode::Passthrough, _) => {
            "anyone who reaches it could spend, and keys and prompts must not pass in clear text: set auth.mode = \"keys\", \
             server.tls_cert_file and server.tls_key_file, or listen on 127.0.0.1; server.allow_remote = true lets \
             everybody in if the network is trusted"
        }
    };
    lookup.object(place, "server.listen", message, help);
}

pub(super) fn upstream(lookup: &mut Lookup<'_>) -> UpstreamSettings {
    let upstream = UpstreamSettings {
        connect_timeout: limit(lookup, "upstream.connect_timeout"),
        header_timeout: limit(lookup, "upstream.header_timeout"),
        idle_timeout: limit(lookup, "upstream.idle_timeout"),
        total_timeout: lookup.ask::<OptionalLimit>("upstream.total_timeout").0,
        pool_idle_timeout: limit(lookup, "upstream.pool_idle_timeout"),
        pool_max_idle: lookup.ask("upstream.pool_max_idle"),
        extra_ca_file: lookup.ask_optional("upstream.extra_ca_file"),
        proxy_from_env: lookup.ask("upstream.proxy_from_env"),
    };
    if upstream
        .total_timeout
        .is_some_and(|total| total < upstream.connect_timeout)
    {
        let place = lookup.place("upstream.total_timeout");
        let message =
            "`upstream.total_timeout` is shorter than `upstream.connect_timeout`".to_owned();
        lookup.object(
            place,
            "upstream.total_timeout",
            message,
            "\"never\" means no limit",
        );
    }
    upstream
}

fn limit(lookup: &mut Lookup<'_>, path: &str) -> Duration {
    lookup.ask::<TimeLimit>(path).0
}

/// A size that is held in memory.
fn memory_size(lookup: &mut Lookup<'_>, path: &str) -> usize {
    let size = lookup.ask::<Size>(path).0;
    usize::try_from(size).unwrap_or(usize::MAX)
}
