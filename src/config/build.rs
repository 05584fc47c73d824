//! Turns the layers into settings: which keys there are, what type each has, and what contradicts what.

use std::collections::BTreeSet;
use std::time::Duration;

use super::choice::OnFailure;
use super::lookup::Lookup;
use super::scalar::{OptionalLimit, Size, TimeLimit};
use super::settings::{
    ClassifySettings, LedgerSettings, LogSettings, ProviderSettings, ServerSettings, Settings,
    UpstreamSettings,
};
use super::source::Place;
use crate::llm::wire::Dialect;
use crate::policy::task::{TaskDetector, TaskRule, TaskRules};

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

/// Longest name of a provider; it is a label in metrics.
const LONGEST_NAME: usize = 64;

/// Asks for every key.
pub(super) fn settings(lookup: &mut Lookup<'_>, names: &[(String, Option<Place>)]) -> Settings {
    Settings {
        server: server(lookup),
        upstream: upstream(lookup),
        providers: providers(lookup, names),
        ledger: ledger(lookup),
        log: LogSettings {
            level: lookup.ask("log.level"),
            format: lookup.ask("log.format"),
        },
        classify: ClassifySettings {
            priority_rules: lookup.ask_tables("classify.priority"),
            tasks: task_rules(lookup),
        },
        throttle: super::settings::ThrottleSettings {
            mode: super::settings::ThrottleMode::On,
            thresholds: crate::policy::throttle::Thresholds::default(),
            time_zone: jiff::tz::TimeZone::UTC,
            max_live: 100_000,
            output_quantile: crate::policy::learned::Quantile(950),
            unknown_price: super::settings::UnknownPrice::Allow,
            queue: super::settings::QueueSettings {
                max_waiting: 1000,
                max_wait: Duration::from_secs(300),
                keep_alive: None,
            },
        },
        budgets: Vec::new(),
        auth: super::settings::AuthSettings {
            mode: super::settings::AuthMode::Passthrough,
            keys_file: std::path::PathBuf::from("keys.json"),
            tier: None,
        },
        tiers: Default::default(),
        teams: Default::default(),
        keys: Default::default(),
        models: lookup.ask_tables("models"),
    }
}

/// The user's tasks in place of the built-in ones, if there are any.
fn task_rules(lookup: &mut Lookup<'_>) -> TaskRules {
    let built_in = TaskRules::default();
    let tasks: Vec<TaskRule> = lookup.ask_tables("classify.task");
    let rules = if tasks.is_empty() {
        built_in
    } else {
        TaskRules { tasks, ..built_in }
    };
    if let Err(problem) = TaskDetector::new(&rules) {
        let place = lookup.place("classify.task");
        let help = "a task is a name, the single words that speak for it, and whether even a short request is demanding";
        lookup.object(
            place,
            "classify.task",
            format!("`classify.task` cannot be used: {problem}"),
            help,
        );
    }
    rules
}

fn limit(lookup: &mut Lookup<'_>, path: &str) -> Duration {
    lookup.ask::<TimeLimit>(path).0
}

/// A size that is held in memory.
fn memory_size(lookup: &mut Lookup<'_>, path: &str) -> usize {
    let size = lookup.ask::<Size>(path).0;
    usize::try_from(size).unwrap_or(usize::MAX)
}

fn server(lookup: &mut Lookup<'_>) -> ServerSettings {
    let server = ServerSettings {
        listen: lookup.ask("server.listen"),
        allow_remote: lookup.ask("server.allow_remote"),
        max_body_bytes: memory_size(lookup, "server.max_body"),
        max_header_bytes: memory_size(lookup, "server.max_header"),
        header_timeout: limit(lookup, "server.header_timeout"),
        body_timeout: limit(lookup, "server.body_timeout"),
        write_timeout: limit(lookup, "server.write_timeout"),
        tls: None,
        drain_timeout: lookup.ask("server.drain_timeout"),
    };
    if !server.listen.ip().is_loopback() && !server.allow_remote {
        let place = lookup.place("server.listen");
        let message =
            "`server.listen` is reachable from other machines, and `server.allow_remote` is false"
                .to_owned();
        let help = "anyone who reaches it can spend on the keys that pass through, and they pass in clear text: listen on \
                    127.0.0.1, or set server.allow_remote = true if the network is trusted";
        lookup.object(place, "server.listen", message, help);
    }
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

fn upstream(lookup: &mut Lookup<'_>) -> UpstreamSettings {
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

fn ledger(lookup: &mut Lookup<'_>) -> LedgerSettings {
    LedgerSettings {
        dir: lookup.ask("ledger.dir"),
        sync_interval: lookup.ask("ledger.sync_interval"),
        keep_records: limit(lookup, "ledger.keep_records"),
        keep_sums: limit(lookup, "ledger.keep_sums"),
        max_bytes: lookup.ask::<Size>("ledger.max_size").0,
        pass_on_failure: lookup.ask::<OnFailure>("ledger.on_failure") == OnFailure::Pass,
    }
}

fn providers(lookup: &mut Lookup<'_>, names: &[(String, Option<Place>)]) -> Vec<ProviderSettings> {
    let mut providers = Vec::new();
    let mut variables = BTreeSet::new();
    for (name, place) in names {
        if let Some((message, help)) = refused_name(name) {
            lookup.object(place.clone(), &format!("providers.{name}"), message, help);
            continue;
        }
        // `my-proxy` and `my_proxy` would share their environment variables.
        if !variables.insert(name.replace('-', "_")) {
            let message = format!("provider `{name}` differs from another one only in - and _");
            lookup.object(
                place.clone(),
                &format!("providers.{name}"),
                message,
                "give it another name",
            );
            continue;
        }
        let key = |key: &str| format!("providers.{name}.{key}");
        let provider = ProviderSettings {
            name: name.clone(),
            base_url: lookup.ask(&key("base_url")),
            dialect: lookup.ask_or(&key("dialect"), Dialect::OpenAi, Dialect::OpenAi.as_str()),
            catalogue: lookup.ask_or(&key("catalogue"), name.clone(), name.as_str()),
            region: lookup.ask_optional(&key("region")),
            api_key: None,
            http2: lookup.ask_or(&key("http2"), false, false),
            ask_stream_usage: lookup.ask_or(&key("ask_stream_usage"), true, true),
        };
        if lookup.ask_or(&key("enabled"), true, true) {
            providers.push(provider);
        }
    }
    providers
}

/// Why a provider cannot have this name, and how to mend it.
fn refused_name(name: &str) -> Option<(String, &'static str)> {
    let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(letters) {
        let help = "1 to 64 lower-case letters, digits, - and _: it is the first part of the path";
        return Some((format!("`{name}` cannot be a provider's name"), help));
    }
    RESERVED.contains(&name).then(|| {
        (
            format!("`{name}` cannot be a provider's name"),
            "this first part of the path already has a meaning",
        )
    })
}
