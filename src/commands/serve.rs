//! `tollgate serve`: the proxy. Puts the parts together, runs until it is told to stop, and leaves nothing unwritten.

use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;

use crate::clock::Clock;
use crate::config::settings::Settings;
use crate::failure::{Exit, Failure};
use crate::llm::catalogue::Catalogue;
use crate::logging;
use crate::proxy::Gate;
use crate::server::{self, Tls};
use crate::store::{Ledger, OpenError, Opened};

/// Worker threads. The path is a few microseconds per request; two threads carry tens of thousands a second, and each
/// further one costs memory.
const WORKERS: usize = 2;

/// How long the ledger may take to bring everything into its store at the end.
const LEDGER_PATIENCE: Duration = Duration::from_secs(20);

/// How often what is learned of the providers' limits is kept.
const KEEP_LEARNED_EVERY: Duration = Duration::from_secs(60);

/// How far ahead of the system's clock ours may be: longer than any budget's window. Beyond that it is the ledger's times
/// that are wrong, not the system's.
const MOST_AHEAD_MS: u64 = 35 * 86_400_000;

/// Runs the proxy until SIGTERM or Ctrl-C.
///
/// # Errors
/// When the address is taken, the ledger cannot be opened, or a setting turns out to be unusable.
pub fn run(settings: Settings) -> Result<ExitCode, Failure> {
    let started = Instant::now();
    logging::start(&settings.log);
    let runtime = runtime()?;
    runtime.block_on(async {
        let _full_files = survive_full_files()?;
        let tls = tls(&settings)?;
        let listener = listen(settings.server.listen)?;
        let address = local_address(&listener)?;
        let gate = gate(settings).await?;
        announce_in_ledger(&gate, address);
        announce(&gate.settings, address);
        tracing::info!(%address, ms = started.elapsed().as_millis() as u64, "serving");
        serve_until(listener, tls, gate, stop_signal(1)?, stop_signal(2)?).await?;
        Ok(Exit::Success.into())
    })
}

/// Serves until `stop` is done, then drains (until `hurry` is done) and closes the ledger.
///
/// # Errors
/// When the ledger cannot be written to its end.
pub async fn serve_until(
    listener: TcpListener,
    tls: Option<Tls>,
    gate: Arc<Gate>,
    stop: impl Future<Output = ()>,
    hurry: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let keeping = tokio::spawn(keep_learned(Arc::clone(&gate)));
    let cut = server::run(listener, tls, Arc::clone(&gate), stop, hurry).await;
    keeping.abort();
    if cut > 0 {
        tracing::warn!(
            running = cut,
            "still open after server.drain_timeout; their requests are booked as far as they got"
        );
    }
    let closed = tokio::task::spawn_blocking(move || {
        gate.keep_learned();
        gate.ledger.shutdown(LEDGER_PATIENCE)
    })
    .await;
    match closed {
        Ok(true) => Ok(()),
        Ok(false) => {
            tracing::warn!(
                "the ledger is still at work; the next start does the rest, nothing is lost"
            );
            Ok(())
        }
        Err(error) => Err(Failure::new("the ledger could not be closed").because(error)),
    }
}

/// Keeps what is learned of the providers' limits from time to time, so that a hard end costs little of it.
async fn keep_learned(gate: Arc<Gate>) {
    loop {
        tokio::time::sleep(KEEP_LEARNED_EVERY).await;
        let gate = Arc::clone(&gate);
        if tokio::task::spawn_blocking(move || gate.keep_learned())
            .await
            .is_err()
        {
            return;
        }
    }
}

/// The runtime of the proxy and of everything that talks to it.
///
/// # Errors
/// When the system gives no threads.
pub fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("tollgate")
        .enable_all()
        .build()
        .map_err(|error| Failure::new("cannot start worker threads").because(error))
}

/// Reads the certificate, if HTTPS is to be served.
///
/// # Errors
/// It cannot be used.
pub fn tls(settings: &Settings) -> Result<Option<Tls>, Failure> {
    let tls = settings.server.tls.as_ref().map(Tls::new).transpose();
    tls.map_err(|error| Failure::usage("cannot serve HTTPS").because(error))
}

/// Opens the listening socket, and says what stands in the way.
///
/// # Errors
/// The port is in use, not allowed, or the address is not of this machine.
pub fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    server::bind(address).map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                "another program has that port (another tollgate?); choose one with --listen, or port 0 for any free one"
            }
            std::io::ErrorKind::PermissionDenied => "ports below 1024 need privileges; choose a higher one with --listen",
            std::io::ErrorKind::AddrNotAvailable => "server.listen must be an address of this machine, such as 127.0.0.1",
            _ => "see server.listen",
        };
        Failure::new(format!("cannot listen on {address}")).because(error).hint(hint)
    })
}

/// The address that a listener really has.
///
/// # Errors
/// When the system does not tell.
pub fn local_address(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    listener
        .local_addr()
        .map_err(|error| Failure::new("cannot read the listening address").because(error))
}

/// Sets up the path: catalogue and ledger side by side, because both take milliseconds.
///
/// # Errors
/// See [`run`].
pub async fn gate(settings: Settings) -> Result<Arc<Gate>, Failure> {
    let overrides = settings.models.clone();
    let catalogue = tokio::task::spawn_blocking(move || Catalogue::builtin().extended(&overrides));
    let clock = Clock::system();
    let (ledger_settings, source) = (settings.ledger.clone(), clock.source());
    let ledger = tokio::task::spawn_blocking(move || Ledger::open(&ledger_settings, source));
    let catalogue = catalogue
        .await
        .map_err(|error| Failure::new("cannot read the price catalogue").because(error))?
        .map_err(|error| {
            Failure::usage("the prices under [[models]] cannot be used").because(error)
        })?;
    let (ledger, opened) = ledger
        .await
        .map_err(|error| Failure::new("cannot open the ledger").because(error))?
        .map_err(ledger_failure)?;
    tell(&opened);
    follow(&clock, &opened);
    let gate = Gate::new(settings, catalogue, ledger, clock, process_number())
        .map_err(|error| Failure::usage("a setting cannot be used").because(error))?;
    let gate = Arc::new(gate);
    let counting = Arc::clone(&gate);
    tokio::task::spawn_blocking(move || counting.recall())
        .await
        .map_err(|error| Failure::new("cannot count what was spent").because(error))?
        .map_err(|error| {
            Failure::new("cannot read from the ledger what was spent")
                .because(error)
                .hint("without it budgets would allow too much; see the log for what is wrong with the ledger")
        })?;
    Ok(gate)
}

/// Lets the clock begin no earlier than the newest request in the ledger, if it was set back between two runs.
fn follow(clock: &Clock, opened: &Opened) {
    let newest = opened.newest_unix_ms;
    let ahead_ms = newest.saturating_sub(clock.unix_ms());
    if ahead_ms == 0 {
        return;
    }
    let ahead = humantime::format_duration(Duration::from_secs(ahead_ms / 1_000));
    if ahead_ms > MOST_AHEAD_MS {
        tracing::error!(
            %ahead,
            "the ledger holds requests of the future; is the clock right? budgets count them as of now"
        );
        return;
    }
    tracing::warn!(%ahead, "the clock was set back since the last request; going on from there");
    clock.not_before(newest);
}

/// Says what opening the ledger found.
fn tell(opened: &Opened) {
    if opened.recovered > 0 || opened.interrupted > 0 {
        let (recovered, interrupted) = (opened.recovered, opened.interrupted);
        tracing::warn!(
            recovered,
            interrupted,
            "the last run ended hard; interrupted requests are booked at their estimate"
        );
    }
    for damage in &opened.damage {
        let (bytes, kept) = (damage.bytes, damage.kept.display());
        tracing::error!(bytes, %kept, "a part of the journal could not be read; the rest of it was, and the file is kept");
    }
}

/// What stands in the way of a ledger.
fn ledger_failure(error: OpenError) -> Failure {
    let hint = error.hint();
    Failure::new("cannot open the ledger")
        .because(error)
        .hint(hint)
}

/// A number that no other process shares (in practice): the system's random seed for hash tables.
fn process_number() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish()
}

/// Done when the process has been asked to stop so many times: once to end in peace, twice to end now.
///
/// # Errors
/// When signals cannot be listened for.
pub fn stop_signal(times: usize) -> Result<impl Future<Output = ()>, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| {
        signal(kind).map_err(|error| Failure::new("cannot listen for signals").because(error))
    };
    let (mut terminate, mut interrupt) = (
        listen(SignalKind::terminate())?,
        listen(SignalKind::interrupt())?,
    );
    Ok(async move {
        for _ in 0..times {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
    })
}

/// Writes down where this process listens, so that `tollgate usage` finds it.
pub fn announce_in_ledger(gate: &Gate, address: SocketAddr) {
    if let Err(error) = gate.ledger.announce(address) {
        tracing::warn!(%error, "cannot write down the address for other commands");
    }
}

/// A file that has reached the limit of `ulimit -f` ends a process by a signal, unless somebody listens for it; then
/// writing fails like on a full disk, which the ledger can live with.
fn survive_full_files() -> Result<tokio::signal::unix::Signal, Failure> {
    /// SIGXFSZ on Linux and the BSDs.
    const FILE_SIZE_EXCEEDED: i32 = 25;
    let kind = tokio::signal::unix::SignalKind::from_raw(FILE_SIZE_EXCEEDED);
    tokio::signal::unix::signal(kind)
        .map_err(|error| Failure::new("cannot listen for signals").because(error))
}

/// Says where the proxy is: one line for scripts, and for a person what to copy.
fn announce(settings: &Settings, address: SocketAddr) {
    let mut out = std::io::stdout().lock();
    // Nobody may be reading any more; that is no reason not to serve.
    let _ = writeln!(out, "listening on {}", base(settings, address)).and_then(|()| out.flush());
    if std::io::stderr().is_terminal() {
        let _ = anstream::stderr().write_all(banner(settings, address).as_bytes());
    }
}

/// The address as a URL.
fn base(settings: &Settings, address: SocketAddr) -> String {
    let scheme = if settings.server.tls.is_some() {
        "https"
    } else {
        "http"
    };
    format!("{scheme}://{address}")
}

/// What a person can copy and paste.
fn banner(settings: &Settings, address: SocketAddr) -> String {
    let base = base(settings, address);
    let mounted: Vec<&str> = settings
        .providers
        .iter()
        .map(|provider| provider.name.as_str())
        .collect();
    format!(
        "\n  tollgate {version} is in front of: {mounted}\n\n  \
         Anthropic SDKs, Claude Code   export ANTHROPIC_BASE_URL={base}/anthropic\n  \
         OpenAI SDKs                   export OPENAI_BASE_URL={base}/openai/v1\n  \
         Codex                         codex -c openai_base_url=\"{base}/openai/v1\"\n  \
         Gemini SDKs and CLI           export GOOGLE_GEMINI_BASE_URL={base}/gemini\n  \
         Ollama clients                export OLLAMA_HOST={base}/ollama\n  \
         all of them                   eval \"$(tollgate env -s my-session)\"\n\n  \
         what was used                 tollgate usage --by session,model\n  \
         metrics                       {base}/metrics\n  \
         stop                          Ctrl-C\n\n",
        version = env!("CARGO_PKG_VERSION"),
        mounted = mounted.join(" "),
    )
}
