//! Ready values: what the rest of the program reads. Everything here has been checked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::llm::catalogue::ModelEntry;
use crate::llm::wire::Dialect;
use crate::policy::priority::PriorityRule;
use crate::policy::task::TaskRules;

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
    /// The `[[models]]` blocks: prices that go before the catalogue's.
    pub models: Vec<ModelEntry>,
}

/// How clients are served.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// Address to listen on; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Whether clients beyond this machine are wanted; `listen` is a loopback address otherwise.
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
    /// How long running answers may go on after SIGTERM or Ctrl-C.
    pub drain_timeout: Duration,
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
    /// HTTP/2 upstream instead of HTTP/1.1.
    pub http2: bool,
    /// Ask for usage in OpenAI chat and completion streams when the client does not.
    pub ask_stream_usage: bool,
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
