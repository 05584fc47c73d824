//! A tollgate in this process between a client and a provider that the test plays by hand, on real sockets.
//!
//! The tollgate is the library's own: settings from the config loader, a ledger in a folder of its own, a calendar that
//! the test sets. Tests look into its ledger and metrics.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tollgate::clock::Clock;
use tollgate::config::settings::Settings;
use tollgate::config::{self, Inputs, Override};
use tollgate::llm::catalogue::Catalogue;
use tollgate::proxy::Gate;
use tollgate::server::{self, Tls};
use tollgate::store::Ledger;
use tollgate::store::query::Query;
use tollgate::store::record::Record;
use tollgate::store::report::Report;
use tollgate::units::RequestId;

pub(crate) use crate::wire::*;

/// Where the tests' calendar stands at first: noon of a working day in 2026.
pub(crate) const NOON: u64 = 1_795_176_000_000;

/// Providers of the built-in configuration.
const PROVIDERS: [&str; 12] = [
    "anthropic",
    "openai",
    "openrouter",
    "gemini",
    "ollama",
    "groq",
    "mistral",
    "deepseek",
    "xai",
    "together",
    "llamacpp",
    "vllm",
];

/// A provider that the test plays by hand: each connection is the test's.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    listener: TcpListener,
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("a bound socket");
        Self { address, listener }
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> Wire {
        let accepted = within("a connection to the provider", self.listener.accept()).await;
        let (io, _) = accepted.expect("a connection");
        io.set_nodelay(true).expect("a fresh socket");
        Wire::new(io)
    }

    /// The next connection and the request on it.
    pub(crate) async fn request(&self) -> (Wire, Head, Body) {
        let mut wire = self.accept().await;
        let (head, body) = wire.message().await;
        (wire, head, body)
    }

    /// Whether nobody has connected that was not accepted. Only a look: call it after the answer has come.
    pub(crate) async fn is_untouched(&self) -> bool {
        let accept = self.listener.accept();
        tokio::time::timeout(std::time::Duration::from_millis(20), accept)
            .await
            .is_err()
    }

    /// Answers every request by a function, on as many connections as come; closes those on which it said so.
    pub(crate) fn answering(
        self,
        answer: impl Fn(&Arrived) -> Vec<u8> + Send + Sync + 'static,
    ) -> Answering {
        let arrivals: Arc<Mutex<Vec<Arrived>>> = Arc::default();
        let seen = Arc::clone(&arrivals);
        let answer = Arc::new(answer);
        let connections = AtomicUsize::new(0);
        let address = self.address;
        let task = tokio::spawn(async move {
            while let Ok((io, _)) = self.listener.accept().await {
                let connection = connections.fetch_add(1, Ordering::Relaxed);
                let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
                tokio::spawn(async move {
                    let mut wire = Wire::new(io);
                    while let Some(head) = wire.try_head().await {
                        let body = wire.body().await;
                        let arrived = Arrived {
                            head,
                            body,
                            connection,
                        };
                        let bytes = answer(&arrived);
                        seen.lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(arrived);
                        let close = memchr::memmem::find(&bytes, b"\r\nconnection: close\r\n");
                        if !wire.try_send(bytes).await || close.is_some() {
                            break;
                        }
                    }
                });
            }
        });
        Answering {
            address,
            arrivals,
            task,
        }
    }
}

/// A request as a provider got it.
#[derive(Debug, Clone)]
pub(crate) struct Arrived {
    pub(crate) head: Head,
    pub(crate) body: Body,
    /// On which connection, counted from zero.
    pub(crate) connection: usize,
}

/// A provider that answers by a function.
#[derive(Debug)]
pub(crate) struct Answering {
    pub(crate) address: SocketAddr,
    arrivals: Arc<Mutex<Vec<Arrived>>>,
    task: JoinHandle<()>,
}

impl Answering {
    /// Everything that arrived since the last look.
    pub(crate) fn take(&self) -> Vec<Arrived> {
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut arrivals)
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A running tollgate.
#[derive(Debug)]
pub(crate) struct Tollgate {
    pub(crate) address: SocketAddr,
    pub(crate) gate: Arc<Gate>,
    now: Arc<AtomicU64>,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<usize>,
    // Last: everything above is gone before the folder is.
    _home: TempDir,
}

impl Tollgate {
    /// In front of a provider that stands for every provider.
    pub(crate) async fn before(upstream: SocketAddr) -> Self {
        Self::with(upstream, &[]).await
    }

    /// The same with settings of one's own; they go before the rig's.
    pub(crate) async fn with(upstream: SocketAddr, extra: &[(&str, &str)]) -> Self {
        Self::changed(upstream, extra, |_| ()).await
    }

    /// The same with settings changed by hand.
    pub(crate) async fn changed(
        upstream: SocketAddr,
        extra: &[(&str, &str)],
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let home = TempDir::new().expect("a temporary folder");
        let mut settings = settings(&home, upstream, extra);
        change(&mut settings);
        let tls = settings.server.tls.as_ref().map(Tls::new).transpose();
        let tls = tls.expect("a good certificate");
        let now = Arc::new(AtomicU64::new(NOON));
        let source = Arc::clone(&now);
        let clock = Clock::from_fn(move || source.load(Ordering::Relaxed));
        let (ledger, opened) =
            Ledger::open(&settings.ledger, clock.source()).expect("a fresh folder");
        assert!(opened.created);
        let catalogue = Catalogue::builtin();
        let address = SocketAddr::new(settings.server.listen.ip(), 0);
        let gate = Gate::new(settings, catalogue, ledger, clock, 1).expect("usable settings");
        gate.recall().expect("a fresh ledger");
        let gate = Arc::new(gate);
        let listener = server::bind(address).expect("a port");
        let address = listener.local_addr().expect("a bound socket");
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            stopped.await.ok();
        };
        let server = tokio::spawn(server::run(
            listener,
            tls,
            Arc::clone(&gate),
            stopped,
            std::future::pending(),
        ));
        Self {
            address,
            gate,
            now,
            stop: Some(stop),
            server,
            _home: home,
        }
    }

    /// Sets the calendar.
    pub(crate) fn set_clock(&self, unix_ms: u64) {
        self.now.store(unix_ms, Ordering::Relaxed);
    }

    /// A client's connection.
    pub(crate) async fn connect(&self) -> Wire {
        Wire::connect(self.address).await
    }

    /// Sends a request on a fresh connection and reads the whole answer.
    pub(crate) async fn ask(&self, request: impl AsRef<[u8]>) -> (Head, Body) {
        let mut client = self.connect().await;
        client.send(request).await;
        client.message().await
    }

    /// One of tollgate's own addresses.
    pub(crate) async fn get(&self, path: &str) -> Body {
        self.ask(request(&format!("GET {path}"), &[], "")).await.1
    }

    /// The ledger's record of an answer, which must be there as soon as its client has the answer whole.
    pub(crate) async fn record(&self, answer: &Head) -> Record {
        let id = id_of(answer);
        let found = within("the ledger", self.gate.ledger.find(id)).await;
        let found = found.expect("the ledger answers");
        found.unwrap_or_else(|| panic!("{id} is not in the ledger, but its client has the answer"))
    }

    /// The ledger's record of an answer that did not end well for its client, who therefore cannot know when it is
    /// booked.
    pub(crate) async fn record_of_cut(&self, answer: &Head) -> Record {
        let id = id_of(answer);
        eventually("the record", async || {
            self.gate.ledger.find(id).await.expect("the ledger answers")
        })
        .await
    }

    /// The only record in the ledger, for requests whose client never learned an id.
    pub(crate) async fn only_record(&self) -> Record {
        let mut records = eventually("a record", async || {
            let records = self.records().await;
            (!records.is_empty()).then_some(records)
        })
        .await;
        assert_eq!(records.len(), 1, "{records:#?}");
        records.remove(0)
    }

    /// Every record.
    pub(crate) async fn records(&self) -> Vec<Record> {
        let records = self.gate.ledger.records(everything(), 10_000);
        within("the ledger", records)
            .await
            .expect("the ledger answers")
    }

    /// The sums over everything.
    pub(crate) async fn report(&self) -> Report {
        let report = self.gate.ledger.report(everything());
        within("the ledger", report)
            .await
            .expect("the ledger answers")
    }

    /// The sum over the series of a metric whose labels hold all of these.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        sum_of_metric(&self.gate.metrics.encode(), name, labels)
    }

    /// Waits until no request is in flight any more.
    pub(crate) async fn settled(&self) {
        eventually("no request in flight", async || {
            (self.metric("tollgate_requests_in_flight", &[]) == 0.0).then_some(())
        })
        .await;
    }

    /// Stops as on SIGTERM; how many connections were cut off.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// Waits for the end after [`Self::stop`].
    pub(crate) async fn stopped(&mut self) -> usize {
        within("the end", &mut self.server).await.expect("no panic")
    }
}

/// An address of this machine that is not a loopback one: whoever comes from there counts as beyond this machine. `None`
/// where there is no network.
pub(crate) fn address_beyond_loopback() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent: the system only chooses where it would send from. The address is one for documentation.
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

/// One request and its answer, as each end saw them.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// What arrived at the provider.
    pub(crate) asked: Head,
    pub(crate) sent: Body,
    /// What arrived at the client.
    pub(crate) head: Head,
    pub(crate) body: Body,
}

/// Sends a request through; the provider answers with exactly these bytes and closes.
pub(crate) async fn exchange(
    tollgate: &Tollgate,
    upstream: &Upstream,
    request: impl AsRef<[u8]>,
    answer: impl AsRef<[u8]>,
) -> Exchange {
    let mut client = tollgate.connect().await;
    client.send(request).await;
    let (mut provider, asked, sent) = upstream.request().await;
    provider.send(answer).await;
    drop(provider);
    let (head, body) = client.message().await;
    Exchange {
        asked,
        sent,
        head,
        body,
    }
}

fn everything() -> Query {
    Query {
        by: Vec::new(),
        ..Query::default()
    }
}

/// The id that an answer carries.
pub(crate) fn id_of(answer: &Head) -> RequestId {
    let id = answer.value("x-tollgate-request-id");
    let id = id.unwrap_or_else(|| panic!("no request id in {answer:#?}"));
    id.parse().expect("a request id")
}

/// Reads a sum out of Prometheus text.
pub(crate) fn sum_of_metric(text: &str, name: &str, labels: &[&str]) -> f64 {
    let lines = text.lines().filter(|line| {
        let rest = line.strip_prefix(name).unwrap_or("");
        rest.starts_with(['{', ' ']) && labels.iter().all(|label| rest.contains(label))
    });
    let values = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
    values.sum()
}

fn settings(home: &TempDir, upstream: SocketAddr, extra: &[(&str, &str)]) -> Settings {
    let mut overrides: Vec<(String, String)> = PROVIDERS
        .iter()
        .map(|name| {
            let key = format!("providers.{name}.base_url");
            (key, format!("http://{upstream}"))
        })
        .collect();
    let ledger = home.path().join("ledger").display().to_string();
    overrides.push(("ledger.dir".to_owned(), ledger));
    overrides.push(("upstream.proxy_from_env".to_owned(), "false".to_owned()));
    // What a provider answers is what its client gets, unless a test is about retries.
    overrides.push(("send.max_retries".to_owned(), "0".to_owned()));
    let extra = extra.iter();
    overrides.extend(extra.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    let overrides = overrides.into_iter().map(|(key, value)| Override {
        flag: format!("--set {key}"),
        key,
        value,
    });
    let inputs = Inputs {
        config: None,
        overrides: overrides.collect(),
        environment: [("HOME".to_owned(), home.path().display().to_string())].into(),
        working_dir: home.path().to_path_buf(),
    };
    let loaded = config::load(&inputs);
    loaded.unwrap_or_else(|error| panic!("{error}")).settings
}
