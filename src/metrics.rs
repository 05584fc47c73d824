//! Every metric: name, help, labels, buckets. Nothing else names one.
//!
//! Names begin with `tollgate_` and use base units. Labels come from closed sets: providers of the config, models of the
//! catalogue (others are `other`), and enums; never a session, key, path or text. The series of a request are looked
//! up once per kind of request and kept, because a lookup per metric would cost more than the counting.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter,
    IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::llm::usage::{Provenance, Usage};
use crate::policy::throttle::Level;
use crate::refusal::Refusal;
use crate::store::Health;
use crate::store::record::{CostSource, Outcome, Record};
use crate::units::{Cost, Priority};

/// Most kinds of request (provider × endpoint × model × priority) with series of their own; the rest share `other`.
const MAX_KINDS: usize = 500;

/// Seconds; from a fast local model's first token to a long reasoning run.
const LATENCY_BUCKETS: [f64; 14] = [
    0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0,
];

/// Seconds; tollgate's own work is tens of microseconds.
const ADDED_BUCKETS: [f64; 12] = [
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05,
    0.25,
];

/// All metrics of one process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    tokens: IntCounterVec,
    spend: CounterVec,
    cost_unknown: IntCounterVec,
    first_byte: HistogramVec,
    duration: HistogramVec,
    added: HistogramVec,
    in_flight: IntGaugeVec,
    refusals: IntCounterVec,
    admissions: IntCounterVec,
    waiting: IntGaugeVec,
    waited: HistogramVec,
    level_changes: IntCounterVec,
    budget_fill: GaugeVec,
    budget_level: IntGaugeVec,
    live_scopes: IntGauge,
    put_away_scopes: IntGauge,
    reserved_tokens: IntCounter,
    settled_tokens: IntCounter,
    retries: IntCounterVec,
    fallbacks: IntCounterVec,
    routed: IntCounterVec,
    route_refused: IntCounter,
    saved: GaugeVec,
    lane_in_flight: IntGaugeVec,
    lane_limit: IntGaugeVec,
    lane_waiting: IntGaugeVec,
    lane_paused: IntGaugeVec,
    breaker: IntGaugeVec,
    unparsed: IntCounterVec,
    unreadable: IntCounterVec,
    request_bytes: IntCounterVec,
    response_bytes: IntCounterVec,
    catalogue_age: Gauge,
    connections: IntGauge,
    ledger_late: IntGauge,
    ledger_lost: IntGauge,
    ledger_healthy: IntGauge,
    unrecorded: IntCounter,
    resident: IntGauge,
    cpu: Gauge,
    open_files: IntGauge,
    kinds: RwLock<HashMap<Kind, Arc<Series>>>,
}

/// How one lane stands, for the gauges.
#[derive(Debug, Clone)]
pub struct LaneFigures<'a> {
    /// The provider's name.
    pub provider: &'a str,
    /// The class of models.
    pub class: &'a str,
    /// Requests in flight.
    pub in_flight: u32,
    /// Most of them at a time.
    pub concurrency: Option<u32>,
    /// Who waits, by priority.
    pub waiting: &'a BTreeMap<String, usize>,
    /// Why it rests.
    pub pauses: Vec<&'a str>,
    /// Its breaker is not closed.
    pub breaker_open: bool,
}

/// What makes requests count together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    provider: String,
    endpoint: &'static str,
    model: String,
    priority: &'static str,
}

/// The kept series of one kind of request. Counters appear when they first count, so that a scrape stays small.
#[derive(Debug)]
struct Series {
    /// By outcome, in the order of [`OUTCOMES`].
    requests: [OnceLock<IntCounter>; OUTCOMES.len()],
    /// By provenance, then kind of token.
    tokens: [[OnceLock<IntCounter>; TOKEN_KINDS.len()]; PROVENANCES.len()],
    spend: OnceLock<Counter>,
    first_byte: Histogram,
    duration: Histogram,
    added: Histogram,
    request_bytes: IntCounter,
    response_bytes: IntCounter,
}

const OUTCOMES: [Outcome; 11] = [
    Outcome::Complete,
    Outcome::ProviderError,
    Outcome::StreamError,
    Outcome::ClientGone,
    Outcome::UpstreamCut,
    Outcome::TimedOut,
    Outcome::Unreachable,
    Outcome::Refused,
    Outcome::Interrupted,
    Outcome::Pending,
    Outcome::Withdrawn,
];

/// Kinds of token with a price of their own; they do not overlap, so they may be summed.
const TOKEN_KINDS: [&str; 4] = ["input", "cache_read", "cache_write", "output"];

const PROVENANCES: [Provenance; 3] = [
    Provenance::Reported,
    Provenance::Partial,
    Provenance::Estimated,
];

impl Metrics {
    /// Makes every metric. The version goes into `tollgate_build_info`.
    pub fn new(version: &str) -> Self {
        let registry = Registry::new();
        let r = &registry;
        let build = int_gauges(
            r,
            "tollgate_build_info",
            "Always 1; the version is the label.",
            &["version"],
        );
        build.with_label_values(&[version]).set(1);
        Self {
            requests: counters(
                r,
                "tollgate_requests_total",
                "Requests that ended, by outcome.",
                &["provider", "endpoint", "model", "priority", "outcome"],
            ),
            tokens: counters(
                r,
                "tollgate_tokens_total",
                "Tokens used; input is what was neither read from a prompt cache nor written to one.",
                &["provider", "model", "kind", "provenance"],
            ),
            spend: register(
                r,
                CounterVec::new(
                    Opts::new("tollgate_spend_usd_total", "Known cost in US dollars."),
                    &["provider", "model"],
                ),
            ),
            cost_unknown: counters(
                r,
                "tollgate_cost_unknown_requests_total",
                "Billed requests whose cost is unknown because the model's price is.",
                &["provider", "model"],
            ),
            first_byte: histograms(
                r,
                "tollgate_time_to_first_byte_seconds",
                "From a request's arrival to the first byte of the answer's body.",
                &["provider", "model"],
                &LATENCY_BUCKETS,
            ),
            duration: histograms(
                r,
                "tollgate_request_duration_seconds",
                "From a request's arrival to the end of its answer.",
                &["provider", "model"],
                &LATENCY_BUCKETS,
            ),
            added: histograms(
                r,
                "tollgate_added_seconds",
                "tollgate's own work before sending a request and before passing on the head of its answer.",
                &["provider"],
                &ADDED_BUCKETS,
            ),
            in_flight: int_gauges(
                r,
                "tollgate_requests_in_flight",
                "Requests that have not ended.",
                &["provider"],
            ),
            refusals: counters(
                r,
                "tollgate_refusals_total",
                "Requests that tollgate answered itself.",
                &["code", "blame"],
            ),
            admissions: counters(
                r,
                "tollgate_admissions_total",
                "Requests whose budgets were asked, by what came of it.",
                &["priority", "level", "decision"],
            ),
            waiting: int_gauges(
                r,
                "tollgate_waiting_requests",
                "Requests that wait in line for their budgets.",
                &["priority"],
            ),
            waited: histograms(
                r,
                "tollgate_wait_seconds",
                "How long requests have waited in line for their budgets.",
                &["priority", "decision"],
                &LATENCY_BUCKETS,
            ),
            level_changes: counters(
                r,
                "tollgate_budget_level_changes_total",
                "How often a budget has come to a level, over everything it is kept for.",
                &["budget", "level"],
            ),
            budget_fill: register(
                r,
                GaugeVec::new(
                    Opts::new(
                        "tollgate_budget_fill_ratio",
                        "Booked and reserved share of a budget; only of budgets for everything, for a provider or a team.",
                    ),
                    &["budget", "scope"],
                ),
            ),
            budget_level: int_gauges(
                r,
                "tollgate_budget_level",
                "Level of such a budget: 0 NONE, 1 WARNING, 2 SOFT, 3 HARD, 4 CRITICAL.",
                &["budget", "scope"],
            ),
            live_scopes: int_gauge(
                r,
                "tollgate_budget_scopes_live",
                "Sessions, keys, teams, providers and models whose budgets are in memory.",
            ),
            put_away_scopes: int_gauge(
                r,
                "tollgate_budget_scopes_put_away",
                "How often one of them was put away into the ledger.",
            ),
            reserved_tokens: register(
                r,
                IntCounter::new(
                    "tollgate_reserved_tokens_total",
                    "Fresh tokens that requests had reserved when they ended.",
                ),
            ),
            settled_tokens: register(
                r,
                IntCounter::new(
                    "tollgate_settled_tokens_total",
                    "Fresh tokens that the same requests were charged.",
                ),
            ),
            retries: counters(
                r,
                "tollgate_retries_total",
                "Attempts after the first that were sent to a provider.",
                &["provider"],
            ),
            fallbacks: counters(
                r,
                "tollgate_fallbacks_total",
                "Requests that went to a provider in place of another one.",
                &["provider"],
            ),
            routed: counters(
                r,
                "tollgate_routed_total",
                "Requests that another model served than was asked for, or would have served (mode shadow), by what decided.",
                &["mode", "by"],
            ),
            route_refused: register(
                r,
                IntCounter::new(
                    "tollgate_route_refused_total",
                    "Requests that a model refused to which they were routed.",
                ),
            ),
            saved: register(
                r,
                GaugeVec::new(
                    Opts::new(
                        "tollgate_saved_usd",
                        "What routing saved (on) or would have saved (shadow), as far as can be told, less what it cost.",
                    ),
                    &["mode"],
                ),
            ),
            lane_in_flight: int_gauges(
                r,
                "tollgate_lane_in_flight",
                "Requests in flight, over all credentials.",
                &["provider", "class"],
            ),
            lane_limit: int_gauges(
                r,
                "tollgate_lane_concurrency_limit",
                "Most requests in flight at a time now, over all credentials that have such a limit.",
                &["provider", "class"],
            ),
            lane_waiting: int_gauges(
                r,
                "tollgate_lane_waiting",
                "Requests that wait for their turn at a provider.",
                &["provider", "class", "priority"],
            ),
            lane_paused: int_gauges(
                r,
                "tollgate_lane_paused",
                "Credentials whose line rests, by the reason.",
                &["provider", "class", "reason"],
            ),
            breaker: int_gauges(
                r,
                "tollgate_breaker_open",
                "Credentials whose breaker is not closed.",
                &["provider", "class"],
            ),
            unparsed: counters(
                r,
                "tollgate_unparsed_requests_total",
                "Requests on a metered path whose body could not be read; they were passed through.",
                &["provider"],
            ),
            unreadable: counters(
                r,
                "tollgate_unreadable_answers_total",
                "Answers on a metered path that could not be read; their usage was estimated.",
                &["provider"],
            ),
            request_bytes: counters(
                r,
                "tollgate_request_body_bytes_total",
                "Bytes of requests' bodies.",
                &["provider"],
            ),
            response_bytes: counters(
                r,
                "tollgate_response_body_bytes_total",
                "Bytes of answers' bodies.",
                &["provider"],
            ),
            catalogue_age: register(
                r,
                Gauge::new(
                    "tollgate_catalogue_age_seconds",
                    "Age of the price catalogue that is in use.",
                ),
            ),
            connections: int_gauge(
                r,
                "tollgate_client_connections",
                "Open connections from clients.",
            ),
            ledger_late: int_gauge(
                r,
                "tollgate_ledger_late_requests",
                "Ended requests that wait in memory for the disk.",
            ),
            ledger_lost: int_gauge(
                r,
                "tollgate_ledger_lost_requests",
                "Ended requests whose exact figures were given up because the disk took nothing for too long.",
            ),
            ledger_healthy: int_gauge(
                r,
                "tollgate_ledger_healthy",
                "1 while the ledger can be written, else 0.",
            ),
            unrecorded: register(
                r,
                IntCounter::new(
                    "tollgate_unrecorded_requests_total",
                    "Requests let through while the ledger could not be written (ledger.on_failure = \"pass\").",
                ),
            ),
            resident: int_gauge(
                r,
                "tollgate_process_resident_memory_bytes",
                "Resident memory of this process.",
            ),
            cpu: register(
                r,
                Gauge::new(
                    "tollgate_process_cpu_seconds_total",
                    "User and system CPU time of this process.",
                ),
            ),
            open_files: int_gauge(
                r,
                "tollgate_process_open_fds",
                "Open file descriptors of this process.",
            ),
            kinds: RwLock::new(HashMap::new()),
            registry,
        }
    }

    /// Counts a request that has ended. `model` is the catalogue's name for it, or `other`.
    pub fn ended(&self, record: &Record, endpoint: &'static str, model: &str) {
        let (provider, priority) = (record.provider.as_str(), record.priority.as_str());
        let series = self.series(provider, endpoint, model, priority);
        if let Some(place) = OUTCOMES.iter().position(|known| *known == record.outcome) {
            let labels = [provider, endpoint, model, priority, record.outcome.as_str()];
            series.requests[place]
                .get_or_init(|| self.requests.with_label_values(&labels))
                .inc();
        }
        if let Some(row) = PROVENANCES
            .iter()
            .position(|known| *known == record.provenance)
        {
            for (column, count) in token_counts(&record.usage)
                .into_iter()
                .enumerate()
                .filter(|(_, count)| *count > 0)
            {
                let labels = [
                    provider,
                    model,
                    TOKEN_KINDS[column],
                    record.provenance.as_str(),
                ];
                series.tokens[row][column]
                    .get_or_init(|| self.tokens.with_label_values(&labels))
                    .inc_by(count);
            }
        }
        if let Some(by) = &record.routed_by {
            let mode = if record.flags.route_shadow {
                "shadow"
            } else {
                "on"
            };
            self.routed.with_label_values(&[mode, by]).inc();
            if let Some(saving) = record.saving {
                let saved = self.saved.with_label_values(&[mode]);
                saved.add(saving.as_f64_for_display());
            }
        }
        match record.cost {
            Some(cost) if cost > Cost::ZERO => {
                let spend = series
                    .spend
                    .get_or_init(|| self.spend.with_label_values(&[provider, model]));
                spend.inc_by(cost.as_f64_for_display());
            }
            None if record.cost_source == CostSource::Unknown => {
                self.cost_unknown
                    .with_label_values(&[provider, model])
                    .inc();
            }
            _ => {}
        }
        if record.first_byte_us > 0 {
            series.first_byte.observe(seconds(record.first_byte_us));
        }
        series.duration.observe(seconds(record.total_us));
        series.added.observe(seconds(record.added_us));
        series.request_bytes.inc_by(record.request_bytes);
        series.response_bytes.inc_by(record.response_bytes);
    }

    /// Counts one of our own answers.
    pub fn refused(&self, refusal: &Refusal) {
        self.refusals
            .with_label_values(&[refusal.code(), refusal.blame().as_str()])
            .inc();
    }

    /// Counts a request whose budgets were asked: `decision` is `pass`, `wait`, `refuse` or `shadow` (it passed because
    /// nothing is refused in that mode).
    pub fn admission(&self, priority: Priority, level: Level, decision: &'static str) {
        self.admissions
            .with_label_values(&[priority.as_str(), level.as_str(), decision])
            .inc();
    }

    /// Sets how many requests of a priority wait for their budgets.
    pub fn waiting(&self, priority: Priority, count: usize) {
        self.waiting
            .with_label_values(&[priority.as_str()])
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Notes how long a request has waited, and whether it passed then.
    pub fn waited(&self, priority: Priority, waited: Duration, passed: bool) {
        let decision = if passed { "pass" } else { "refuse" };
        self.waited
            .with_label_values(&[priority.as_str(), decision])
            .observe(waited.as_secs_f64());
    }

    /// Counts a change of a budget's level.
    pub fn level_changed(&self, budget: &str, level: Level) {
        self.level_changes
            .with_label_values(&[budget, level.as_str()])
            .inc();
    }

    /// Counts what an ended request had reserved, and what it was charged.
    pub fn settled(&self, reserved_tokens: u64, settled_tokens: u64) {
        self.reserved_tokens.inc_by(reserved_tokens);
        self.settled_tokens.inc_by(settled_tokens);
    }

    /// Sets the gauges of the budgets at the moment of a scrape: those whose scopes are bounded by the config.
    pub fn observe_budgets<'a>(
        &self,
        fills: impl Iterator<Item = (&'a str, &'a str, f64, Level)>,
        live: usize,
        put_away: u64,
    ) {
        self.budget_fill.reset();
        self.budget_level.reset();
        for (budget, scope, fill, level) in fills {
            let labels = [budget, scope];
            self.budget_fill.with_label_values(&labels).set(fill);
            self.budget_level
                .with_label_values(&labels)
                .set(level as i64);
        }
        self.live_scopes
            .set(i64::try_from(live).unwrap_or(i64::MAX));
        self.put_away_scopes
            .set(i64::try_from(put_away).unwrap_or(i64::MAX));
    }

    /// Counts an attempt after the first.
    pub fn retried(&self, provider: &str) {
        self.retries.with_label_values(&[provider]).inc();
    }

    /// Counts a request that goes to a provider in place of another one.
    pub fn fell_back(&self, to: &str) {
        self.fallbacks.with_label_values(&[to]).inc();
    }

    /// Counts a request that went back to the model that was asked for.
    pub fn route_refused(&self) {
        self.route_refused.inc();
    }

    /// Sets the gauges of the lanes at the moment of a scrape. A class is a model of the catalogue, or `other`.
    pub fn observe_lanes<'a>(&self, lanes: impl Iterator<Item = LaneFigures<'a>>) {
        for gauges in [
            &self.lane_in_flight,
            &self.lane_limit,
            &self.lane_waiting,
            &self.lane_paused,
            &self.breaker,
        ] {
            gauges.reset();
        }
        for lane in lanes {
            let labels = [lane.provider, lane.class];
            let add = |gauges: &IntGaugeVec, labels: &[&str], count: usize| {
                gauges
                    .with_label_values(labels)
                    .add(i64::try_from(count).unwrap_or(i64::MAX));
            };
            add(&self.lane_in_flight, &labels, lane.in_flight as usize);
            if let Some(limit) = lane.concurrency {
                add(&self.lane_limit, &labels, limit as usize);
            }
            for (priority, count) in lane.waiting {
                add(
                    &self.lane_waiting,
                    &[lane.provider, lane.class, priority],
                    *count,
                );
            }
            for reason in lane.pauses {
                add(&self.lane_paused, &[lane.provider, lane.class, reason], 1);
            }
            add(&self.breaker, &labels, usize::from(lane.breaker_open));
        }
    }

    /// Counts a request's body that could not be read.
    pub fn unparsed(&self, provider: &str) {
        self.unparsed.with_label_values(&[provider]).inc();
    }

    /// Counts an answer that could not be read.
    pub fn unreadable(&self, provider: &str) {
        self.unreadable.with_label_values(&[provider]).inc();
    }

    /// Counts a request that was served unrecorded.
    pub fn unrecorded(&self) {
        self.unrecorded.inc();
    }

    /// The gauge of a provider's requests in flight.
    pub fn in_flight(&self, provider: &str) -> IntGauge {
        self.in_flight.with_label_values(&[provider])
    }

    /// The gauge of open client connections.
    pub fn connections(&self) -> &IntGauge {
        &self.connections
    }

    /// Sets the gauges that are read at the moment of a scrape.
    pub fn observe_now(&self, catalogue_age: Duration, ledger: &Health) {
        self.catalogue_age.set(catalogue_age.as_secs_f64());
        self.ledger_healthy.set(i64::from(ledger.is_good()));
        self.ledger_late
            .set(i64::try_from(ledger.journal.late).unwrap_or(i64::MAX));
        self.ledger_lost
            .set(i64::try_from(ledger.journal.lost).unwrap_or(i64::MAX));
        if let Some(process) = process_figures() {
            self.resident.set(process.resident_bytes);
            self.cpu.set(process.cpu_seconds);
            self.open_files.set(process.open_files);
        }
    }

    /// Writes everything in Prometheus' text format.
    pub fn encode(&self) -> String {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap_or_else(|error| format!("# the metrics could not be encoded: {error}\n"))
    }

    fn series(
        &self,
        provider: &str,
        endpoint: &'static str,
        model: &str,
        priority: &'static str,
    ) -> Arc<Series> {
        let kind = Kind {
            provider: provider.to_owned(),
            endpoint,
            model: model.to_owned(),
            priority,
        };
        let kinds = self.kinds.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = kinds.get(&kind) {
            return Arc::clone(series);
        }
        let full = kinds.len() >= MAX_KINDS;
        drop(kinds);
        let kind = if full {
            Kind {
                model: "other".to_owned(),
                ..kind
            }
        } else {
            kind
        };
        let mut kinds = self.kinds.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(
            kinds
                .entry(kind)
                .or_insert_with_key(|kind| Arc::new(self.make_series(kind))),
        )
    }

    fn make_series(&self, kind: &Kind) -> Series {
        let (provider, model) = (kind.provider.as_str(), kind.model.as_str());
        Series {
            requests: Default::default(),
            tokens: Default::default(),
            spend: OnceLock::new(),
            first_byte: self.first_byte.with_label_values(&[provider, model]),
            duration: self.duration.with_label_values(&[provider, model]),
            added: self.added.with_label_values(&[provider]),
            request_bytes: self.request_bytes.with_label_values(&[provider]),
            response_bytes: self.response_bytes.with_label_values(&[provider]),
        }
    }
}

fn token_counts(usage: &Usage) -> [u64; TOKEN_KINDS.len()] {
    [
        usage.uncached(),
        usage.cached_read,
        usage.cache_write,
        usage.output,
    ]
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

/// Puts a metric into the registry. Names and labels are constants of this file, so only a slip here can fail, and any
/// test that makes the metrics finds it.
fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<C>,
) -> C {
    let metric = metric.expect("metric names and labels are valid");
    registry
        .register(Box::new(metric.clone()))
        .expect("metric names are unique");
    metric
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels))
}

fn int_gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    register(registry, IntGaugeVec::new(Opts::new(name, help), labels))
}

fn int_gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    register(registry, IntGauge::new(name, help))
}

fn histograms(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
    buckets: &[f64],
) -> HistogramVec {
    register(
        registry,
        HistogramVec::new(
            HistogramOpts::new(name, help).buckets(buckets.to_vec()),
            labels,
        ),
    )
}

/// What the kernel says of this process.
struct ProcessFigures {
    resident_bytes: i64,
    cpu_seconds: f64,
    open_files: i64,
}

/// Reads `/proc/self`; `None` where there is none.
fn process_figures() -> Option<ProcessFigures> {
    // Linux reports memory in pages and time in ticks; both constants hold on every platform Rust supports there.
    const TICKS_PER_SECOND: f64 = 100.0;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let resident_kib: i64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()?;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name, in parentheses, may hold spaces; the fields after it are numbered from 3.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    let cpu_seconds = (ticks()? + ticks()?) / TICKS_PER_SECOND;
    let open_files = i64::try_from(std::fs::read_dir("/proc/self/fd").ok()?.count()).ok()?;
    Some(ProcessFigures {
        resident_bytes: resident_kib * 1024,
        cpu_seconds,
        open_files,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::RequestId;

    #[test]
    fn a_request_is_counted_once_with_its_tokens_and_money() {
        let metrics = Metrics::new("0.0.0");
        let mut record = Record::new(RequestId::new(1, 1, 1));
        record.provider = "anthropic".into();
        record.outcome = Outcome::Complete;
        record.provenance = Provenance::Reported;
        record.usage = Usage {
            input: 10,
            cached_read: 3,
            cache_write: 2,
            output: 7,
            ..Usage::default()
        };
        record.cost = Some(Cost::from_attos(500_000_000_000_000_000));
        record.cost_source = CostSource::Table;
        metrics.ended(&record, "messages", "claude-sonnet-5-5");
        metrics.observe_now(Duration::from_secs(86_400), &Health::default());
        let text = metrics.encode();
        for line in [
            r#"tollgate_requests_total{endpoint="messages",model="claude-sonnet-5-5",outcome="complete",priority="normal",provider="anthropic"} 1"#,
            r#"tollgate_tokens_total{kind="input",model="claude-sonnet-5-5",provenance="reported",provider="anthropic"} 5"#,
            r#"tollgate_tokens_total{kind="output",model="claude-sonnet-5-5",provenance="reported",provider="anthropic"} 7"#,
            r#"tollgate_spend_usd_total{model="claude-sonnet-5-5",provider="anthropic"} 0.5"#,
            "tollgate_catalogue_age_seconds 86400",
            "tollgate_ledger_healthy 1",
        ] {
            assert!(text.contains(line), "{line} missing in\n{text}");
        }
    }
}
