//! `tollgate simulate`: the simulated provider alone, in the foreground, until it is told to stop.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use super::serve::{listen, local_address, stop_signal};
use crate::cli::Options;
use crate::failure::{Exit, Failure};
use crate::simulate::{
    Behaviour, Encoding, Flavour, Limits, Script, ScriptError, SimulateSettings, serve,
};

const LONG_HELP: &str = "\
What the flags set for all answers, a script changes for some, and a request's own headers for one:

  x-simulate-input-tokens, -output-tokens, -cached-tokens, -cache-write-tokens,
  -cache-write-1h-tokens, -reasoning-tokens     the figures
  x-simulate-latency-ms, -token-ms              time to the head, time before each frame with tokens
  x-simulate-tokens-per-second                  the same as a speed, for answers in one piece too
  x-simulate-chunk-tokens                       tokens in a frame
  x-simulate-model, -flavour, -tool, -no-usage  what the answer says
  x-simulate-encoding                           gzip, deflate, br or zstd
  x-simulate-status, -retry-after, -error-code  an error instead; retry-after in seconds, 0 for none
  x-simulate-header NAME: VALUE                 a header of the answer, instead of its own; no VALUE: without
  x-simulate-drop, -hang                        no answer: connection closed, or silence
  x-simulate-cut-after N, -cut-by reset|close   N frames, then the connection is torn down
  x-simulate-end-after N                        N frames, then a clean end without its events
  x-simulate-error-after N                      N frames, then an error event
  x-simulate-hang-after N                       N frames, then silence

A script is TOML. Rules apply in the order of the file, the later over the earlier; all conditions of
a rule must hold (nth and every count the requests that path, model and time let through):

  [[rule]]
  match = { path = \"/messages\", model = \"claude-opus*\", nth = 3 }
  answer = { status = 529 }

  [[rule]]
  match = { from = \"10s\", until = \"40s\", every = 2, times = 5 }
  answer = { cut_after = 4, latency = \"200ms\" }

  [[rule]]
  match = { share = 0.01 }          # by chance; a line `seed = N` at the top chooses which
  answer = { status = 500 }

  [[outage]]                        # nobody listens, connections are refused
  from = \"60s\"
  until = \"80s\"

Keys of `answer`: input_tokens, output_tokens, cached_tokens, cache_write_tokens, cache_write_1h_tokens,
reasoning_tokens, latency, token_pace, tokens_per_second, chunk_tokens, status, retry_after, error_code, drop, hang,
cut_after, cut_by, end_after, error_after, hang_after, encoding, flavour, model, no_usage, tool,
headers (such as { retry-after = \"-1\" }).

Limits are enforced for each credential and class of models. --limit sets those of every model, a
file those of classes as well (of several patterns that fit, the longest counts):

  minute = \"6s\"                   # a short minute for tests; seconds and days go with it

  [class.\"*\"]
  requests_per_minute = 50
  input_tokens_per_minute = 30000

  [class.\"claude-opus*\"]          # these models share one pool
  concurrency = 4

  concurrency, requests_per_second, requests_per_minute, requests_per_day, tokens_per_minute,
  input_tokens_per_minute, output_tokens_per_minute
  request_burst    time whose share may be used at once [default: 1s]
  token_burst      the same for tokens [default: 60s]
  reserve          how output counts before it is written: corrected, kept or nothing
                   [default: corrected for Anthropic, kept for OpenAI's format, else nothing]
  count_cached     whether tokens from the cache count [default: not for Anthropic and Groq]
  charge_refused   refused requests take what accepted ones would, into debt up to a window's worth
  headers          own, none, or lie: all is left, and a millisecond is enough to wait
  retry_after      the wait that refusals name [default: until the request would fit]
  refusal_latency  time to a refusal

GET /_simulate/limits tells what they let through, refused and hold; PUT puts another file's in
place. PUT /_simulate/script does so for the script. GET /_simulate/timeline counts what arrived,
was accepted, refused, failed and completed, in tenths of a second.

GET /_simulate/stats and /_simulate/requests?last=N tell what was done, POST /_simulate/reset
forgets it, fills all limits and starts the script's clock again, /_simulate/echo tells a request back, /_simulate/reflect sends its body back.";

/// Answers like Anthropic, OpenAI, Gemini and Ollama, without a model: for trying out, tests and benchmarks.
#[derive(Debug, Args)]
#[command(after_long_help = LONG_HELP)]
pub struct SimulateArgs {
    /// Time to the head of every answer, such as 50ms
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    latency: Option<Duration>,

    /// Time before every frame that carries tokens, such as 5ms
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    token_pace: Option<Duration>,

    /// How fast tokens are written, where no pace is set: for streams, and for answers in one piece too
    #[arg(long, value_name = "N")]
    tokens_per_second: Option<NonZeroU64>,

    /// Tokens in one frame of a stream [default: 1]
    #[arg(long, value_name = "N")]
    chunk_tokens: Option<NonZeroU64>,

    /// Input tokens, those of the cache included [default: a quarter of the text's bytes]
    #[arg(long, value_name = "N", value_parser = tokens())]
    input_tokens: Option<u64>,

    /// Output tokens, reasoning included; a request's own maximum cuts them [default: 16]
    #[arg(long, value_name = "N", value_parser = tokens())]
    output_tokens: Option<u64>,

    /// Part of the input that is read from the provider's cache
    #[arg(long, value_name = "N", value_parser = tokens())]
    cached_tokens: Option<u64>,

    /// Part of the input that is written to the provider's cache
    #[arg(long, value_name = "N", value_parser = tokens())]
    cache_write_tokens: Option<u64>,

    /// Part of the output that is reasoning [default: 8 where a request asks for reasoning]
    #[arg(long, value_name = "N", value_parser = tokens())]
    reasoning_tokens: Option<u64>,

    /// Which OpenAI-compatible provider to be like: openai, azure, openrouter, groq, mistral, together, deepseek, xai,
    /// llamacpp, vllm [default: by the path]
    #[arg(long, value_name = "NAME")]
    flavour: Option<Flavour>,

    /// Compress every answer: gzip, deflate, br, zstd
    #[arg(long, value_name = "NAME")]
    encoding: Option<Encoding>,

    /// Rules that change how answers behave (see below with --help)
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,

    /// Limits by class of models (see below with --help)
    #[arg(long, value_name = "FILE")]
    limits: Option<PathBuf>,

    /// One limit for every model, such as requests_per_minute=60, concurrency=4 or minute=6s; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    limit: Vec<String>,

    /// Refuse what the real models refuse: settings that they do not take, prompts that are too long, others' thoughts
    #[arg(long)]
    strict: bool,

    /// How many finished requests /_simulate/requests can tell about
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    keep_requests: usize,

    /// Threads that answer [default: one for each core]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,

    /// Print the address as JSON
    #[arg(long)]
    json: bool,
}

fn tokens() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(..=Behaviour::MAX_TOKENS)
}

/// Where it listens unless it is told otherwise: next to the proxy.
const DEFAULT_LISTEN: &str = "127.0.0.1:8403";

/// Runs the simulated provider until SIGTERM or Ctrl-C.
///
/// # Errors
/// The script cannot be read or is wrong, or the address cannot be listened on.
pub fn run(args: SimulateArgs, options: &Options) -> Result<ExitCode, Failure> {
    let script: Script = match &args.script {
        Some(path) => read("script", path)?,
        None => Script::default(),
    };
    let mut limits: Limits = match &args.limits {
        Some(path) => read("limits file", path)?,
        None => Limits::default(),
    };
    for limit in &args.limit {
        limits
            .set(limit)
            .map_err(|problem| Failure::usage("a limit is wrong").because(problem))?;
    }
    let address = options.listen.as_deref().unwrap_or(DEFAULT_LISTEN);
    let address = address.parse().map_err(|_| {
        Failure::usage(format!(
            "`{address}` is not an address such as {DEFAULT_LISTEN}"
        ))
    })?;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = args.threads {
        runtime.worker_threads(threads.get());
    }
    let runtime = runtime.enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::new("cannot start worker threads").because(error))?;
    runtime.block_on(async {
        let listener = listen(address)?;
        let address = local_address(&listener)?;
        super::print(&if args.json {
            format!(
                "{}\n",
                serde_json::json!({ "listening": format!("http://{address}") })
            )
        } else {
            format!("listening on http://{address}\n")
        })?;
        serve(listener, settings(args, script, limits), stop_signal(1)?).await;
        Ok(Exit::Success.into())
    })
}

fn settings(args: SimulateArgs, script: Script, limits: Limits) -> SimulateSettings {
    SimulateSettings {
        defaults: Behaviour {
            latency: args.latency,
            token_pace: args.token_pace,
            tokens_per_second: args.tokens_per_second,
            chunk_tokens: args.chunk_tokens,
            input_tokens: args.input_tokens,
            output_tokens: args.output_tokens,
            cached_tokens: args.cached_tokens,
            cache_write_tokens: args.cache_write_tokens,
            reasoning_tokens: args.reasoning_tokens,
            flavour: args.flavour,
            encoding: args.encoding,
            ..Behaviour::default()
        },
        script,
        limits,
        strict: args.strict,
        keep_requests: args.keep_requests,
        ..SimulateSettings::default()
    }
}

fn read<T: FromStr<Err = ScriptError>>(what: &str, path: &Path) -> Result<T, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::usage(format!("cannot read the {what} {}", path.display())).because(error)
    })?;
    text.parse().map_err(|problem| {
        Failure::usage(format!("the {what} {} is wrong", path.display())).because(problem)
    })
}
