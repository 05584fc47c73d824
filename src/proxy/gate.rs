//! The shared state of the path: handles only. Each holds its own lock, if it needs one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::config::settings::{ProviderSettings, Settings};
use crate::llm::catalogue::Catalogue;
use crate::metrics::Metrics;
use crate::policy::task::{TaskDetector, TaskRuleError};
use crate::store::Ledger;
use crate::units::RequestId;
use crate::upstream::{TlsRootsError, Upstream};

/// Everything that requests share.
#[derive(Debug)]
pub struct Gate {
    /// The configuration.
    pub settings: Settings,
    /// Prices and models.
    pub catalogue: Catalogue,
    /// Where requests are kept.
    pub ledger: Ledger,
    /// What is counted.
    pub metrics: Metrics,
    /// The calendar.
    pub clock: Clock,
    /// Everything that runs for a client.
    pub tasks: Tasks,
    pub(super) providers: Vec<Provider>,
    pub(super) tasks_by_words: TaskDetector,
    ids: Ids,
    draining: AtomicBool,
    unknown_models: super::account::UnknownModels,
}

/// One provider: its settings and its connections.
#[derive(Debug)]
pub(super) struct Provider {
    pub(super) settings: ProviderSettings,
    pub(super) upstream: Upstream,
}

/// The path cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The extra certificate authorities cannot be used.
    #[error("upstream.extra_ca_file")]
    Roots(#[from] TlsRootsError),
    /// The rules that tell tasks cannot be used.
    #[error("classify.task")]
    Tasks(#[from] TaskRuleError),
}

impl Gate {
    /// Sets the path up. `process` makes this process' request ids its own.
    ///
    /// # Errors
    /// When a part of the configuration turns out to be unusable.
    pub fn new(
        settings: Settings,
        catalogue: Catalogue,
        ledger: Ledger,
        clock: Clock,
        process: u64,
    ) -> Result<Self, GateError> {
        let providers = settings
            .providers
            .iter()
            .map(|provider| {
                let upstream = Upstream::new(&settings.upstream, provider)?;
                Ok(Provider {
                    settings: provider.clone(),
                    upstream,
                })
            })
            .collect::<Result<Vec<_>, TlsRootsError>>()?;
        let tasks_by_words = TaskDetector::new(&settings.classify.tasks)?;
        Ok(Self {
            settings,
            catalogue,
            ledger,
            metrics: Metrics::new(env!("CARGO_PKG_VERSION")),
            clock,
            tasks: Tasks::default(),
            providers,
            tasks_by_words,
            ids: Ids {
                process,
                count: AtomicU64::new(0),
            },
            draining: AtomicBool::new(false),
            unknown_models: Default::default(),
        })
    }

    /// From now on the process is on its way out: `/readyz` says so.
    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the process is on its way out.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(super) fn next_id(&self) -> RequestId {
        RequestId::new(
            self.clock.unix_ms(),
            self.ids.process,
            self.ids.count.fetch_add(1, Ordering::Relaxed),
        )
    }

    pub(super) fn unknown_models(&self) -> &super::account::UnknownModels {
        &self.unknown_models
    }

    /// The shared state behind one handle.
    pub fn shared(self) -> Arc<Self> {
        Arc::new(self)
    }
}

/// Everything that runs for a client, so that the end of the process can wait for it, or cut it off and still see it
/// booked.
#[derive(Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    cut: CancellationToken,
}

impl Tasks {
    /// Runs something for a client.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(task);
    }

    /// Waits until everything has ended by itself.
    pub async fn finish(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Tells everything to end now, and waits for it.
    pub async fn cut(&self) {
        self.cut.cancel();
        self.finish().await;
    }

    /// Done when everything has been told to end.
    pub async fn are_cut(&self) {
        self.cut.cancelled().await;
    }

    /// Whether everything has been told to end.
    pub fn is_cut(&self) -> bool {
        self.cut.is_cancelled()
    }
}

/// Makes request ids.
#[derive(Debug)]
struct Ids {
    process: u64,
    count: AtomicU64,
}
