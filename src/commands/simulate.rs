//! `tollgate simulate`: the simulated provider alone, in the foreground, until it is told to stop.

use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use tokio::net::TcpListener;

use crate::simulate::{Behaviour, Encoding, Flavour, Script, SimulateSettings, serve};

const LONG_HELP: &str = "\
What the flags set for all answers, a script changes for some, and a request's own headers for one:

  x-simulate-input-tokens, -output-tokens, -cached-tokens, -cache-write-tokens,
  -cache-write-1h-tokens, -reasoning-tokens     the figures
  x-simulate-latency-ms, -token-ms              time to the head, time before each frame with tokens
  x-simulate-chunk-tokens                       tokens in a frame
  x-simulate-model, -flavour, -tool, -no-usage  what the answer says
  x-simulate-encoding                           gzip, deflate, br or zstd
  x-simulate-status, -retry-after, -error-code  an error instead; retry-after in seconds, 0 for none
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

Keys of `answer`: input_tokens, output_tokens, cached_tokens, cache_write_tokens, cache_write_1h_tokens,
reasoning_tokens, latency, token_pace, chunk_tokens, status, retry_after, error_code, drop, hang,
cut_after, cut_by, end_after, error_after, hang_after, encoding, flavour, model, no_usage, tool.

GET /_simulate/stats and /_simulate/requests?last=N tell what was done, POST /_simulate/reset forgets it,
/_simulate/echo tells a request back, /_simulate/reflect sends its body back.";

/// Answers like Anthropic, OpenAI, Gemini and Ollama, without a model: for trying out, tests and benchmarks.
#[derive(Debug, Args)]
#[command(after_long_help = LONG_HELP)]
pub struct SimulateArgs {
    /// Address to listen on; port 0 lets the system choose
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8403")]
    listen: SocketAddr,

    /// Time to the head of every answer, such as 50ms
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    latency: Option<Duration>,

    /// Time before every frame that carries tokens, such as 5ms
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    token_pace: Option<Duration>,

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

/// Runs the simulated provider until SIGTERM or Ctrl-C.
///
/// # Errors
/// The script cannot be read or is wrong, or the address cannot be listened on.
pub fn run(args: SimulateArgs) -> anyhow::Result<()> {
    let script = args
        .script
        .as_deref()
        .map(read_script)
        .transpose()?
        .unwrap_or_default();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = args.threads {
        runtime.worker_threads(threads.get());
    }
    let runtime = runtime
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let listener = listen(args.listen).await?;
        let address = listener
            .local_addr()
            .context("cannot learn the own address")?;
        announce(address, args.json).context("cannot write to standard output")?;
        serve(listener, settings(args, script), stop_signal()?).await;
        Ok(())
    })
}

fn settings(args: SimulateArgs, script: Script) -> SimulateSettings {
    SimulateSettings {
        defaults: Behaviour {
            latency: args.latency,
            token_pace: args.token_pace,
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
        keep_requests: args.keep_requests,
        ..SimulateSettings::default()
    }
}

fn read_script(path: &Path) -> anyhow::Result<Script> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the script {}", path.display()))?;
    text.parse()
        .map_err(|problem| anyhow!("script {}: {problem}", path.display()))
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|problem| {
        let hint = match problem.kind() {
            ErrorKind::AddrInUse => {
                "\nhint: another program listens there, perhaps another simulated provider; \
                 choose a free port with --listen 127.0.0.1:0"
            }
            ErrorKind::PermissionDenied => {
                "\nhint: ports below 1024 are reserved; choose a higher one with --listen"
            }
            ErrorKind::AddrNotAvailable => {
                "\nhint: this machine has no such address; try --listen 127.0.0.1:8403"
            }
            _ => "",
        };
        anyhow!("cannot listen on {address}: {problem}{hint}")
    })
}

/// Tells where it listens, for people and scripts, at once.
fn announce(address: SocketAddr, json: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(
            out,
            "{}",
            serde_json::json!({ "listening": format!("http://{address}") })
        )?;
    } else {
        writeln!(out, "listening on http://{address}")?;
    }
    out.flush()
}

/// Done when the program is told to stop.
#[cfg(unix)]
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Done when the program is told to stop.
#[cfg(not(unix))]
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    Ok(async {
        // Without a way to be told, it goes on until it is killed.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}
