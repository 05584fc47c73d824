//! What a request costs that waits for its provider, and how a long line is released: ten thousand clients in front of a
//! provider that takes one at a time and holds the first one until all the others stand in line.
//!
//! `cargo bench --bench waiting` (or `scripts/waiting`) prints one Markdown table. Linux only, as it reads /proc. The clients
//! and the provider run here, tollgate in a process of its own.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Parser;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Sessions that the clients belong to, in turn.
const SESSIONS: usize = 10;

/// What a waiting request may need besides its body, in KiB.
const PROMISE_KIB: f64 = 10.0;

const ANSWER: &str = r#"{"id":"m","model":"claude-sonnet-5-5","stop_reason":"end_turn","content":[],"usage":{"input_tokens":5,"output_tokens":5}}"#;

/// Measures a long line before a provider.
#[derive(Parser)]
#[command(name = "waiting")]
struct Arguments {
    /// Clients, each with one request.
    #[arg(long, default_value_t = 10_000)]
    clients: usize,
    /// Bytes of each prompt.
    #[arg(long, default_value_t = 200)]
    prompt: usize,
    /// The program to measure instead of the one built along with this benchmark.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Passed by `cargo bench`; without it (`cargo test --all-targets`) nothing is measured.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if !arguments.bench {
        return Ok(());
    }
    tokio::runtime::Runtime::new()?.block_on(measure(&arguments))
}

async fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let scratch = tempfile::tempdir()?;
    let provider = Provider::start().await?;
    let built = Path::new(env!("CARGO_BIN_EXE_tollgate"));
    let binary = arguments.binary.as_deref().unwrap_or(built);
    let tollgate = Tollgate::start(binary, scratch.path(), provider.address)?;
    let mut look = Client::connect(tollgate.address).await?;

    // Connections that have served a request, and rest.
    let mut clients = Vec::with_capacity(arguments.clients);
    for _ in 0..arguments.clients {
        let mut client = Client::connect(tollgate.address).await?;
        client.send("GET /healthz", "", "").await?;
        client.answer().await?;
        clients.push(client);
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let idle = tollgate.resident_kib()?;

    // One of each session at a time, so that it is known who came first in a session.
    let mut body_bytes = 0;
    let mut joined = 0;
    for (number, client) in clients.iter_mut().enumerate() {
        let session = format!("x-tollgate-session: s{}\r\n", number % SESSIONS);
        let prompt = format!("#{number}#{}", "x".repeat(arguments.prompt));
        let body = format!(
            r#"{{"model":"claude-sonnet-5-5","max_tokens":10,"messages":[{{"role":"user","content":"{prompt}"}}]}}"#
        );
        body_bytes += body.len();
        client
            .send("POST /anthropic/v1/messages", &session, &body)
            .await?;
        joined += 1;
        if joined % SESSIONS == 0 {
            // The first one is with the provider.
            while look.waiting().await? + 1 < joined {}
        }
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let waiting = tollgate.resident_kib()?;

    let released = Instant::now();
    provider.release.send_replace(true);
    let mut readers = tokio::task::JoinSet::new();
    for mut client in clients {
        readers.spawn(async move { client.answer().await });
    }
    while let Some(answered) = readers.join_next().await {
        let (status, _) = answered??;
        ensure!(status == 200, "an answer with status {status}");
    }
    let took = released.elapsed();
    let served = provider
        .served
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    ensure!(
        served.len() == arguments.clients,
        "{} were served",
        served.len()
    );

    let count = arguments.clients as f64;
    let body_kib = body_bytes as f64 / 1024.0 / count;
    let each = (waiting.saturating_sub(idle)) as f64 / count - body_kib;
    let (apart, overtaken) = order(&served);
    let gaps = served.windows(2);
    let mut gaps: Vec<Duration> = gaps.map(|two| two[1].1 - two[0].2).collect();
    gaps.sort_unstable();
    let gap = |share: f64| gaps[((gaps.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let held = if each < PROMISE_KIB { "held" } else { "BROKEN" };
    println!(
        "| {} requests in one line | tollgate | promise | |",
        arguments.clients
    );
    println!("| --- | --- | --- | --- |");
    println!(
        "| resident memory per waiting request besides its body of {body_kib:.2} KiB, beyond an idle connection's, KiB | {each:.2} | < {PROMISE_KIB} | {held} |"
    );
    println!(
        "| resident memory with all connections idle, with all requests waiting, MB | {:.1}, {:.1} | | |",
        idle as f64 / 1024.0,
        waiting as f64 / 1024.0
    );
    println!(
        "| from the release to the last answer, one at a time, s | {:.2} | | |",
        took.as_secs_f64()
    );
    println!(
        "| from an answer to the next request at the provider, ms: median, 99th percentile, longest | {:.2}, {:.2}, {:.1} | | |",
        gap(0.5),
        gap(0.99),
        gap(1.0)
    );
    println!("| requests that overtook an earlier one of their session | {overtaken} | 0 | |");
    println!("| most turns that one session was ahead of another | {apart} | | |");
    Ok(())
}

/// By how many turns the sessions were apart at most, and how often somebody overtook an earlier one of its session.
fn order(served: &[(usize, Instant, Instant)]) -> (usize, usize) {
    let mut turns = [0_usize; SESSIONS];
    let mut last: HashMap<usize, usize> = HashMap::new();
    let (mut apart, mut overtaken) = (0, 0);
    let even = served.len() / SESSIONS * SESSIONS;
    for (number, ..) in &served[..even] {
        let session = number % SESSIONS;
        turns[session] += 1;
        if last
            .insert(session, *number)
            .is_some_and(|before| before > *number)
        {
            overtaken += 1;
        }
        let (least, most) = (turns.iter().min(), turns.iter().max());
        apart = apart.max(most.unwrap_or(&0) - least.unwrap_or(&0));
    }
    (apart, overtaken)
}

/// Takes one at a time, and holds the first.
struct Provider {
    address: SocketAddr,
    release: watch::Sender<bool>,
    /// Number, when it came, when it was answered.
    served: Arc<Mutex<Vec<(usize, Instant, Instant)>>>,
}

impl Provider {
    async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (release, released) = watch::channel(false);
        let served = Arc::<Mutex<Vec<_>>>::default();
        let all = Arc::clone(&served);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (mut released, all) = (released.clone(), Arc::clone(&all));
                tokio::spawn(async move {
                    let mut peer = Client::over(stream);
                    while let Ok((_, body)) = peer.message().await {
                        let came = Instant::now();
                        let number = body.split('#').nth(1).and_then(|text| text.parse().ok());
                        released.wait_for(|released| *released).await.ok();
                        let answer = format!(
                            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{ANSWER}",
                            ANSWER.len()
                        );
                        let number = number.unwrap_or(usize::MAX);
                        all.lock().unwrap_or_else(PoisonError::into_inner).push((
                            number,
                            came,
                            Instant::now(),
                        ));
                        if peer.stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Ok(Self {
            address,
            release,
            served,
        })
    }
}

struct Tollgate {
    process: Child,
    address: SocketAddr,
}

impl Tollgate {
    fn start(binary: &Path, scratch: &Path, provider: SocketAddr) -> anyhow::Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let config = scratch.join("tollgate.toml");
        // Nothing is guessed beside the one limit, and no budget stands in the way.
        fs::write(
            &config,
            format!(
                "[server]\nlisten = \"{port}\"\n\n[ledger]\ndir = \"{}\"\n\n[providers.anthropic]\nbase_url = \"http://{provider}\"\n\n[throttle]\nmode = \"shadow\"\n\n[send]\nlearn = false\n\n[[limits]]\nconcurrency = 1\n",
                scratch.join("ledger").display()
            ),
        )?;
        let process = Command::new("sh")
            .args(["-c", "ulimit -n $(ulimit -Hn); exec \"$0\" \"$@\""])
            .arg(binary)
            .args(["serve", "--config"])
            .arg(&config)
            .current_dir(scratch)
            .env("HOME", scratch)
            .stdin(Stdio::null())
            .env("TOLLGATE_LOG", "error")
            .stdout(Stdio::null())
            .spawn()?;
        let tollgate = Self {
            process,
            address: port,
        };
        for _ in 0..200 {
            if std::net::TcpStream::connect(port).is_ok() {
                return Ok(tollgate);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("tollgate does not listen")
    }

    fn resident_kib(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let figure = line.and_then(|line| line.split_whitespace().next());
        Ok(figure.context("no VmRSS")?.parse()?)
    }
}

impl Drop for Tollgate {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// One end of a connection.
struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).ok();
        Self {
            stream: BufReader::with_capacity(1024, stream),
        }
    }

    async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self::over(TcpStream::connect(address).await?))
    }

    async fn send(&mut self, line: &str, headers: &str, body: &str) -> anyhow::Result<()> {
        let length = body.len();
        let request = format!(
            "{line} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\nx-api-key: k\r\n{headers}content-length: {length}\r\n\r\n{body}"
        );
        Ok(self.stream.write_all(request.as_bytes()).await?)
    }

    /// A head and its body.
    async fn message(&mut self) -> anyhow::Result<(String, String)> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.stream.read_u8().await?);
        }
        let head = String::from_utf8(head)?.to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"));
        let mut body = vec![0; length.map_or(Ok(0), |length| length.trim().parse())?];
        self.stream.read_exact(&mut body).await?;
        Ok((head, String::from_utf8(body)?))
    }

    async fn answer(&mut self) -> anyhow::Result<(u16, String)> {
        let (head, body) = self.message().await?;
        let status = head.split(' ').nth(1).context("no status")?.parse()?;
        Ok((status, body))
    }

    /// How many stand in line.
    async fn waiting(&mut self) -> anyhow::Result<usize> {
        self.send("GET /api/v1/providers", "", "").await?;
        let (_, body) = self.answer().await?;
        let standing: serde_json::Value = serde_json::from_str(&body)?;
        let waiting = standing["lanes"][0]["waiting"]["normal"].as_u64();
        Ok(usize::try_from(waiting.unwrap_or(0))?)
    }
}
