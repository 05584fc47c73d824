//! The shared state of the path: handles only. Each holds its own lock, if it needs one.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;

use super::authenticate;
use super::conversations::Conversations;
use super::known::KnownModels;
use super::lanes::Lanes;
use super::police::Rates;
use super::provider_key::{ProviderKey, ProviderKeyError};
use super::tasks::Tasks;
use super::throttle::Throttle;
use super::unknown_models::UnknownModels;
use crate::clock::Clock;
use crate::config::settings::{AuthMode, ProviderSettings, Settings};
use crate::keys::{KeyFile, KeyFileError, Keyring};
use crate::llm::abilities::AbilityTable;
use crate::llm::catalogue::Catalogue;
use crate::metrics::Metrics;
use crate::policy::retry::RetryBudget;
use crate::policy::task::{TaskDetector, TaskRuleError};
use crate::store::Ledger;
use crate::units::RequestId;
use crate::upstream::{TlsRootsError, Upstream};

/// Retries that any provider may get in 30 seconds, however few requests it was sent.
const RETRY_FLOOR: u32 = 10;

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
    /// The clients' keys, in mode `keys`.
    pub keys: Keyring,
    /// Everything that runs for a client.
    pub tasks: Tasks,
    pub(super) providers: Vec<Provider>,
    pub(super) tasks_by_words: TaskDetector,
    pub(super) rates: Rates,
    ids: Ids,
    draining: CancellationToken,
    pub(super) unknown_models: UnknownModels,
    pub(super) throttle: Throttle,
    pub(super) lanes: Lanes,
    pub(super) known: KnownModels,
    pub(super) conversations: Conversations,
}

/// One provider: its settings and its connections.
#[derive(Debug)]
pub(super) struct Provider {
    pub(super) settings: ProviderSettings,
    pub(super) upstream: Upstream,
    /// What it is shown in place of the client's key, in mode `keys`.
    pub(super) key: Option<ProviderKey>,
    /// How many retries it may still get.
    pub(super) retries: Mutex<RetryBudget>,
    /// Its requests that have not ended.
    pub(super) in_flight: prometheus::IntGauge,
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
    /// The clients' keys cannot be read.
    #[error("auth.keys_file")]
    Keys(#[from] KeyFileError),
    /// A provider's key cannot be shown to it.
    #[error("providers")]
    ProviderKey(#[from] ProviderKeyError),
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
        let metrics = Metrics::new(env!("CARGO_PKG_VERSION"));
        let providers = settings
            .providers
            .iter()
            .map(|provider| {
                let upstream = Upstream::new(&settings.upstream, provider)?;
                Ok(Provider {
                    settings: provider.clone(),
                    upstream,
                    key: ProviderKey::of(provider)?,
                    retries: Mutex::new(RetryBudget::new(settings.send.retry_percent, RETRY_FLOOR)),
                    in_flight: metrics.in_flight(&provider.name),
                })
            })
            .collect::<Result<Vec<_>, GateError>>()?;
        let keys = keyring(&settings)?;
        let tasks_by_words = TaskDetector::new(&settings.classify.tasks)?;
        let throttle = Throttle::new(&settings, &catalogue);
        let lanes = Lanes::new(Clock::system(), &settings.ledger.dir);
        Ok(Self {
            throttle,
            lanes,
            known: KnownModels::new(AbilityTable::builtin().with(&settings.abilities)),
            conversations: Conversations::default(),
            settings,
            catalogue,
            ledger,
            metrics,
            clock,
            keys,
            tasks: Tasks::default(),
            providers,
            tasks_by_words,
            rates: Rates::default(),
            ids: Ids {
                process,
                count: AtomicU64::new(0),
            },
            draining: CancellationToken::new(),
            unknown_models: UnknownModels::default(),
        })
    }

    /// From now on the process is on its way out: `/readyz` says so.
    pub fn start_draining(&self) {
        self.draining.cancel();
    }

    /// Done when the process is on its way out.
    pub async fn draining(&self) {
        self.draining.cancelled().await;
    }

    /// Whether the process is on its way out.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    pub(super) fn next_id(&self) -> RequestId {
        RequestId::new(
            self.clock.unix_ms(),
            self.ids.process,
            self.ids.count.fetch_add(1, Ordering::Relaxed),
        )
    }
}

/// Reads the clients' keys, if any are asked for, and says which of them cannot be used.
fn keyring(settings: &Settings) -> Result<Keyring, KeyFileError> {
    if settings.auth.mode == AuthMode::Passthrough {
        return Ok(Keyring::default());
    }
    let file = &settings.auth.keys_file;
    let keys = Keyring::open(KeyFile::at(file))?;
    if keys.count() == 0 {
        tracing::warn!(file = %file.display(), "there are no keys yet, so every request is refused; `tollgate keys create NAME` makes one");
    }
    for key in keys.all() {
        if let Some(why) = authenticate::missing_rules(&key, settings) {
            tracing::warn!(key = key.name, why, "a key cannot be used");
        }
    }
    Ok(keys)
}

/// Makes request ids.
#[derive(Debug)]
struct Ids {
    process: u64,
    count: AtomicU64,
}
