//! Ready values: what the rest of the program reads. Everything here has been checked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::llm::abilities::AbilityEntry;
use crate::llm::catalogue::ModelEntry;
use crate::llm::wire::Dialect;
use crate::policy::budget::Budget;
use crate::policy::limits::LimitRule;
use crate::policy::priority::PriorityRule;
use crate::policy::routing::Routing;
use crate::policy::rules::Policy;
use crate::policy::task::TaskRules;
use crate::policy::throttle::{Share, Thresholds};
use crate::units::{Cost, Priority};

/// The whole configuration, checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The side towards the clients.
    pub server: ServerSettings,
    /// The side towards the providers.
    pub upstream: UpstreamSettings,
    /// Where requests can go, in the order of the file; names are unique.
    pub providers: Vec<ProviderSettings>,
    /// Where requests are kept.
    pub ledger: LedgerSettings,
    /// What is written to standard error.
    pub log: LogSettings,
    /// How requests get their priority and task when their client names none.
    pub classify: ClassifySettings,
    /// How budgets are applied.
    pub throttle: ThrottleSettings,
    /// The budgets, in the order of the file; names are unique.
    pub budgets: Vec<Budget>,
    /// Who may send requests.
    pub auth: AuthSettings,
    /// The tiers' policies by name.
    pub tiers: BTreeMap<String, Policy>,
    /// The teams by name.
    pub teams: BTreeMap<String, TeamSettings>,
    /// Policies of single keys, by the key's name or fingerprint.
    pub keys: BTreeMap<String, Policy>,
    /// Which model may serve a request in another's place.
    pub routing: Routing,
    /// How requests are sent.
    pub send: SendSettings,
    /// The `[[limits]]` blocks: the providers' limits, as far as the user states them.
    pub limits: Vec<LimitRule>,
    /// The `[[models]]` blocks: prices that go before the catalogue's.
    pub models: Vec<ModelEntry>,
    /// The `[[abilities]]` blocks: what models can do, before what is built in.
    pub abilities: Vec<AbilityEntry>,
}

/// How requests wait for their provider, and are sent again.
#[derive(Debug, Clone)]
pub struct SendSettings {
    /// Most retries of one request.
    pub max_retries: u32,
    /// Most retries in percent of a provider's recent requests.
    pub retry_percent: u32,
    /// Whether limits are learned from the provider's answers.
    pub learn: bool,
    /// Most requests that wait in one lane.
    pub max_waiting: usize,
    /// Longest wait from a request's arrival to its sending, in the order of [`Priority::ALL`].
    pub deadlines: [Duration; 4],
}

impl SendSettings {
    /// The longest wait of a priority.
    pub const fn deadline(&self, priority: Priority) -> Duration {
        self.deadlines[priority as usize]
    }
}

/// How clients are served.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// Address to listen on; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Whether clients beyond this machine are wanted: said so, or listening for them in mode `keys` with TLS. `listen`
    /// is a loopback address otherwise.
    pub allow_remote: bool,
    /// Largest request body in bytes; larger ones get a 413.
    pub max_body_bytes: usize,
    /// Largest request head in bytes (all headers together).
    pub max_header_bytes: usize,
    /// Longest time until a request's head is complete; also how long an idle connection is kept.
    pub header_timeout: Duration,
    /// Longest pause inside a request's body.
    pub body_timeout: Duration,
    /// Longest time that a client may leave written bytes untaken.
    pub write_timeout: Duration,
    /// Certificate chain and private key (PEM files) to serve HTTPS with; `None` for plain HTTP.
    pub tls: Option<TlsFiles>,
    /// How long running answers may go on after SIGTERM or Ctrl-C.
    pub drain_timeout: Duration,
}

/// PEM files for HTTPS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain, the server's own first.
    pub cert_file: PathBuf,
    /// The private key.
    pub key_file: PathBuf,
}

/// How providers are called.
#[derive(Debug, Clone)]
pub struct UpstreamSettings {
    /// Longest time for TCP and TLS to be set up.
    pub connect_timeout: Duration,
    /// Longest time from sending a request to the head of its answer.
    pub header_timeout: Duration,
    /// Longest pause inside an answer.
    pub idle_timeout: Duration,
    /// Longest time for an answer in all; `None` for no limit.
    pub total_timeout: Option<Duration>,
    /// How long an unused connection is kept.
    pub pool_idle_timeout: Duration,
    /// How many unused connections are kept for each host.
    pub pool_max_idle: usize,
    /// PEM file with certificate authorities to trust besides the built-in ones.
    pub extra_ca_file: Option<PathBuf>,
    /// Whether HTTPS_PROXY, ALL_PROXY and NO_PROXY are honoured.
    pub proxy_from_env: bool,
}

/// One provider.
#[derive(Debug, Clone)]
pub struct ProviderSettings {
    /// Its name: the first segment of the path, and its name in metrics and the ledger.
    pub name: String,
    /// Where its requests go; scheme, host, port and an optional path prefix without a final slash.
    pub base_url: http::Uri,
    /// The wire format it speaks.
    pub dialect: Dialect,
    /// Its name in the price catalogue (`google` for gemini, …).
    pub catalogue: String,
    /// Where inference runs, if that has its own price: `us`, `eu`, a Vertex AI location.
    pub region: Option<String>,
    /// tollgate's own key for this provider, shown in place of the client's in mode `keys`.
    pub api_key: Option<Secret>,
    /// Whether its only limit is its hardware; `None` for: if it is on this machine.
    pub local: Option<bool>,
    /// The providers, by name, to which its requests go when it does not serve them; in this order.
    pub fallbacks: Vec<String>,
    /// HTTP/2 upstream instead of HTTP/1.1.
    pub http2: bool,
    /// Ask for usage in OpenAI chat and completion streams when the client does not.
    pub ask_stream_usage: bool,
}

/// A secret: it prints as a mask.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// How budgets are applied.
#[derive(Debug, Clone)]
pub struct ThrottleSettings {
    /// Whether budgets decide, only record, or do nothing.
    pub mode: ThrottleMode,
    /// Where the levels begin.
    pub thresholds: Thresholds,
    /// The time zone of calendar months.
    pub time_zone: jiff::tz::TimeZone,
    /// How many sessions, keys … are kept in memory at once; the rest is in the ledger.
    pub max_live: usize,
    /// The share of past outputs that an expected output covers.
    pub output_quantile: Share,
    /// What happens to a request whose price is not known.
    pub unknown_price: UnknownPrice,
    /// The line in which low priority waits.
    pub queue: QueueSettings,
}

/// Whether budgets and policies decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThrottleMode {
    /// They decide.
    On,
    /// What they would decide is recorded; every request passes.
    Shadow,
    /// Nothing is checked.
    Off,
}

impl ThrottleMode {
    /// The name used in config and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            ThrottleMode::On => "on",
            ThrottleMode::Shadow => "shadow",
            ThrottleMode::Off => "off",
        }
    }
}

/// What happens to a request whose price is not known, where a budget counts money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownPrice {
    /// It passes, takes nothing of money budgets, and is flagged in the ledger, the metrics and an event.
    Allow,
    /// It is refused.
    Refuse,
    /// It is charged at these prices.
    Ceiling {
        /// For a million input tokens.
        input: Cost,
        /// For a million output tokens.
        output: Cost,
    },
}

/// The line in which low priority waits while its budgets are at SOFT.
#[derive(Debug, Clone)]
pub struct QueueSettings {
    /// How many requests may wait at once.
    pub max_waiting: usize,
    /// Longest wait.
    pub max_wait: Duration,
    /// After so long, and then every so often, a streaming client gets a comment line; `None` for never.
    pub keep_alive: Option<Duration>,
}

/// Who may send requests.
#[derive(Debug, Clone)]
pub struct AuthSettings {
    /// What clients show.
    pub mode: AuthMode,
    /// Where tollgate's keys are kept (hashed).
    pub keys_file: PathBuf,
    /// The tier of callers that have none.
    pub tier: Option<String>,
}

/// What clients show where their SDK puts an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMode {
    /// The provider's key, which goes upstream unchanged.
    Passthrough,
    /// A tollgate key; tollgate holds the providers' keys.
    Keys,
}

impl AuthMode {
    /// The name used in config and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            AuthMode::Passthrough => "passthrough",
            AuthMode::Keys => "keys",
        }
    }
}

/// One team.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TeamSettings {
    /// Its tier.
    pub tier: Option<String>,
    /// Its own rules, besides the tier's.
    pub policy: Policy,
}

impl ProviderSettings {
    /// Whether requests in a wire format can be sent to it. Ollama understands OpenAI's and Anthropic's besides its own.
    pub fn speaks(&self, dialect: Dialect) -> bool {
        self.dialect == dialect
            || (self.dialect == Dialect::Ollama
                && matches!(dialect, Dialect::OpenAi | Dialect::Anthropic))
    }

    /// Whether its only limit is its hardware.
    pub fn is_local(&self) -> bool {
        self.local.unwrap_or_else(|| self.is_on_this_machine())
    }

    fn is_on_this_machine(&self) -> bool {
        let host = self.base_url.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }
}

/// How the ledger is kept.
#[derive(Debug, Clone)]
pub struct LedgerSettings {
    /// The directory; made if it is missing.
    pub dir: PathBuf,
    /// Longest time that a booked request may be lost by a power cut. Zero means an fsync per request.
    pub sync_interval: Duration,
    /// How long single requests are kept.
    pub keep_records: Duration,
    /// How long the hourly sums are kept.
    pub keep_sums: Duration,
    /// Upper bound for the store in bytes; the oldest requests go first.
    pub max_bytes: u64,
    /// Whether requests go on (unrecorded, counted in a metric) when the ledger cannot be written. Default: refuse.
    pub pass_on_failure: bool,
}

/// What is written to standard error.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// The least weighty kind of line that is written.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
}

/// How much is written to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What failed.
    Error,
    /// What may need a person.
    Warn,
    /// What happened.
    Info,
    /// Each step.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The name used in config, which tracing's filters understand too.
    pub const fn as_str(self) -> &'static str {
        match self {
            LogLevel::Off => "off",
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object for each line.
    Json,
}

impl LogFormat {
    /// The name used in config.
    pub const fn as_str(self) -> &'static str {
        match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        }
    }
}

/// How requests are classified when their client does not say.
#[derive(Debug, Clone)]
pub struct ClassifySettings {
    /// Rules for the priority; the first that matches decides.
    pub priority_rules: Vec<PriorityRule>,
    /// Rules for the task.
    pub tasks: TaskRules,
}
