//! What a budget is: whose spending it bounds, over which window, and at how much.
//!
//! A budget = scope (everything, or each session, key, team, provider, model, or one of them by name) × window (minute,
//! hour, day: rolling; month: calendar) × limit (tokens, US dollars, requests). All budgets that match a request apply.

use crate::llm::usage::Usage;
use crate::units::Cost;

/// What kind of thing a budget is kept for.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, minicbor::Encode, minicbor::Decode,
)]
#[cbor(index_only)]
pub enum ScopeKind {
    /// Everything together.
    #[n(0)]
    Global,
    /// A session.
    #[n(1)]
    Session,
    /// A client's key.
    #[n(2)]
    Key,
    /// A key's team.
    #[n(3)]
    Team,
    /// A provider.
    #[n(4)]
    Provider,
    /// A model, by the name that the catalogue has for it, else as it was asked for.
    #[n(5)]
    Model,
}

impl ScopeKind {
    /// Every kind.
    pub const ALL: [ScopeKind; 6] = [
        ScopeKind::Global,
        ScopeKind::Session,
        ScopeKind::Key,
        ScopeKind::Team,
        ScopeKind::Provider,
        ScopeKind::Model,
    ];

    /// The name used in config, messages, events and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            ScopeKind::Global => "global",
            ScopeKind::Session => "session",
            ScopeKind::Key => "key",
            ScopeKind::Team => "team",
            ScopeKind::Provider => "provider",
            ScopeKind::Model => "model",
        }
    }
}

/// Over which time a budget counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Window {
    /// The last 60 seconds.
    Minute,
    /// The last 60 minutes.
    Hour,
    /// The last 24 hours.
    Day,
    /// The calendar month in the configured time zone.
    Month,
}

impl Window {
    /// Every window, shortest first.
    pub const ALL: [Window; 4] = [Window::Minute, Window::Hour, Window::Day, Window::Month];

    /// The name used in config, messages, events and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Window::Minute => "minute",
            Window::Hour => "hour",
            Window::Day => "day",
            Window::Month => "month",
        }
    }

    /// The length of a rolling window in milliseconds; `None` for the calendar month.
    pub const fn rolling_ms(self) -> Option<u64> {
        match self {
            Window::Minute => Some(60_000),
            Window::Hour => Some(3_600_000),
            Window::Day => Some(86_400_000),
            Window::Month => None,
        }
    }
}

/// How much a budget allows in its window. Never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Tokens: uncached input, cache writes and output; cache reads where the budget says so.
    Tokens(u64),
    /// Money.
    Usd(Cost),
    /// Requests.
    Requests(u64),
}

/// One budget, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Its name in the config: `session-tokens-hour`.
    pub name: String,
    /// What kind of thing it is kept for.
    pub scope: ScopeKind,
    /// The one thing that it is kept for; `None` for each of the kind.
    pub only: Option<String>,
    /// Over which time.
    pub window: Window,
    /// How much.
    pub limit: Limit,
    /// Never exceeded: requests reserve their worst case, and even critical ones are refused.
    pub hard: bool,
    /// Whether tokens read from a provider's prompt cache count too.
    pub counts_cache_reads: bool,
}

impl Limit {
    /// The unit's name in config, messages, events and reports.
    pub const fn unit(self) -> &'static str {
        match self {
            Limit::Tokens(_) => "tokens",
            Limit::Usd(_) => "usd",
            Limit::Requests(_) => "requests",
        }
    }

    /// The limit in the budget's unit: tokens, atto-dollars, requests.
    pub fn amount(self) -> i128 {
        match self {
            Limit::Tokens(count) | Limit::Requests(count) => i128::from(count),
            Limit::Usd(cost) => cost.attos(),
        }
    }
}

impl Budget {
    /// Whether a request of these scopes charges it.
    pub fn applies_to(&self, scopes: &Scopes<'_>) -> bool {
        let name = match self.scope {
            ScopeKind::Global => return true,
            ScopeKind::Session => Some(scopes.session),
            ScopeKind::Key => scopes.key,
            ScopeKind::Team => scopes.team,
            ScopeKind::Provider => Some(scopes.provider),
            ScopeKind::Model => scopes.model,
        };
        name.is_some_and(|name| self.only.as_deref().is_none_or(|only| only == name))
    }

    /// How much of this budget the amounts are, in its unit: tokens, atto-dollars, requests.
    pub fn share_of(&self, amounts: &Amounts) -> i128 {
        match self.limit {
            Limit::Tokens(_) if self.counts_cache_reads => {
                i128::from(amounts.fresh_tokens) + i128::from(amounts.cached_tokens)
            }
            Limit::Tokens(_) => i128::from(amounts.fresh_tokens),
            Limit::Usd(_) => amounts.cost.attos(),
            Limit::Requests(_) => i128::from(amounts.requests),
        }
    }
}

/// What requests take of budgets, in every unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Amounts {
    /// Requests.
    #[n(0)]
    pub requests: u64,
    /// Uncached input, cache writes and output.
    #[n(1)]
    pub fresh_tokens: u64,
    /// Tokens read from a provider's prompt cache.
    #[n(2)]
    pub cached_tokens: u64,
    /// Money, as far as it is known.
    #[n(3)]
    pub cost: Cost,
}

impl Amounts {
    /// What one request with this usage and cost takes.
    pub const fn of_request(usage: &Usage, cost: Cost) -> Self {
        Self {
            requests: 1,
            fresh_tokens: usage.fresh(),
            cached_tokens: usage.cached_read,
            cost,
        }
    }

    /// Adds another amount; stays at the largest instead of wrapping.
    pub fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.fresh_tokens = self.fresh_tokens.saturating_add(other.fresh_tokens);
        self.cached_tokens = self.cached_tokens.saturating_add(other.cached_tokens);
        self.cost += other.cost;
    }

    /// Takes another amount away that was added before; never below nothing.
    pub fn subtract(&mut self, other: &Self) {
        self.requests = self.requests.saturating_sub(other.requests);
        self.fresh_tokens = self.fresh_tokens.saturating_sub(other.fresh_tokens);
        self.cached_tokens = self.cached_tokens.saturating_sub(other.cached_tokens);
        self.cost = Cost::from_attos(self.cost.attos().saturating_sub(other.cost.attos()).max(0));
    }

    /// The larger of both, unit by unit.
    #[must_use]
    pub fn max(&self, other: &Self) -> Self {
        Self {
            requests: self.requests.max(other.requests),
            fresh_tokens: self.fresh_tokens.max(other.fresh_tokens),
            cached_tokens: self.cached_tokens.max(other.cached_tokens),
            cost: self.cost.max(other.cost),
        }
    }
}

/// Whom a request charges, besides everything together. Kinds that are `None` do not apply to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scopes<'a> {
    /// The session.
    pub session: &'a str,
    /// The client's key: a tollgate key's name, or the fingerprint of the provider key.
    pub key: Option<&'a str>,
    /// The key's team.
    pub team: Option<&'a str>,
    /// The provider's name.
    pub provider: &'a str,
    /// The model that serves.
    pub model: Option<&'a str>,
}

/// Names one thing that budgets are kept for.
#[derive(
    Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, minicbor::Encode, minicbor::Decode,
)]
pub struct ScopeKey {
    /// What kind of thing.
    #[n(0)]
    pub kind: ScopeKind,
    /// Its name; empty for everything together.
    #[n(1)]
    pub name: String,
}

impl std::fmt::Display for ScopeKey {
    /// `global`, `session docs`, `team research`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind {
            ScopeKind::Global => f.write_str("global"),
            kind => write!(f, "{} {}", kind.as_str(), self.name),
        }
    }
}
