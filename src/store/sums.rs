//! Hourly sums: what reports are made of. One sum for each hour and combination of who, what and how it ended.
//!
//! In the store a sum's key is its hour and a hash of its group, so that keys stay short and hours lie in order; the
//! group itself is in the value.

use std::collections::HashMap;

use minicbor::{Decode, Encode};
use sha2::{Digest, Sha256};

use super::error::StoreError;
use super::record::{self, CostSource, Outcome, Record};
use super::{HOUR_MS, codec};
use crate::llm::usage::{Provenance, Usage};
use crate::policy::budget::Amounts;
use crate::units::{Cost, Priority};

/// What a sum is kept for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub struct Group {
    /// Hours since 1970 in which the requests were booked.
    #[n(0)]
    pub hour: u32,
    /// The session that is charged.
    #[n(1)]
    pub session: String,
    /// The agent inside the session.
    #[n(2)]
    pub agent: Option<String>,
    /// The client's key.
    #[n(3)]
    pub key: Option<String>,
    /// The key's team.
    #[n(4)]
    pub team: Option<String>,
    /// The provider's name.
    #[n(5)]
    pub provider: String,
    /// The model that served, else the one that was asked for.
    #[n(6)]
    pub model: Option<String>,
    /// What kind of work it was.
    #[n(7)]
    pub task: Option<String>,
    /// How urgent it was.
    #[n(8)]
    #[cbor(with = "codec::priority")]
    pub priority: Priority,
    /// The client's own label.
    #[n(9)]
    pub phase: Option<String>,
    /// What was asked of the provider.
    #[n(10)]
    pub endpoint: String,
    /// How the requests ended.
    #[n(11)]
    pub outcome: Outcome,
    /// How far their usage can be trusted.
    #[n(12)]
    pub provenance: Provenance,
    /// Where their cost comes from.
    #[n(13)]
    pub cost_source: CostSource,
    /// The model that was asked to serve, where the one that did has another name: it is the one that budgets go by.
    #[n(14)]
    pub requested_model: Option<String>,
}

impl Group {
    /// The group that a record belongs to.
    pub fn of(record: &Record) -> Self {
        Self {
            hour: u32::try_from(record.finished_unix_ms / HOUR_MS)
                .map_or(LAST_HOUR, |hour| hour.min(LAST_HOUR)),
            session: record.session.clone(),
            agent: record.agent.clone(),
            key: record.key.clone(),
            team: record.team.clone(),
            provider: record.provider.clone(),
            model: record
                .model
                .clone()
                .or_else(|| record.asked_to_serve().map(str::to_owned)),
            task: record.task.clone(),
            priority: record.priority,
            phase: record.phase.clone(),
            endpoint: record.endpoint.clone(),
            outcome: record.outcome,
            provenance: record.provenance,
            cost_source: record.cost_source,
            requested_model: record
                .asked_to_serve()
                .filter(|asked| record.model.as_deref().is_some_and(|model| model != *asked))
                .map(str::to_owned),
        }
    }

    /// The key in the store: 4 bytes of hour, 16 bytes of hash.
    pub fn key(&self) -> Vec<u8> {
        let group = minicbor::to_vec(self).expect("encoding into memory cannot fail");
        let mut key = hour_key(self.hour);
        key.extend_from_slice(&Sha256::digest(&group)[..16]);
        key
    }
}

/// The last hour that a sum can be kept for: behind it lies the mark.
const LAST_HOUR: u32 = u32::MAX - 1;

/// The smallest key of an hour.
pub fn hour_key(hour: u32) -> Vec<u8> {
    hour.to_be_bytes().to_vec()
}

/// What a group's requests add up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Sum {
    /// How many requests.
    #[n(0)]
    pub requests: u64,
    /// Their usage.
    #[n(1)]
    pub usage: Usage,
    /// Their known costs.
    #[n(2)]
    #[cbor(with = "codec::cost", default)]
    pub cost: Option<Cost>,
    /// How many of them have no known cost although something was billed.
    #[n(3)]
    pub unknown_cost: u64,
}

impl Sum {
    /// The sum of one record.
    pub fn of(record: &Record) -> Self {
        Self {
            requests: 1,
            usage: record.usage,
            cost: record.cost,
            unknown_cost: u64::from(record.cost_source == CostSource::Unknown),
        }
    }

    /// What the requests of a group take of budgets: the same as their records do one by one.
    pub fn charges(&self, group: &Group) -> Amounts {
        record::charges(
            &group.endpoint,
            group.outcome,
            self.requests,
            &self.usage,
            self.cost,
        )
    }

    /// Adds another sum.
    pub fn add(&mut self, other: &Sum) {
        self.requests = self.requests.saturating_add(other.requests);
        self.usage.add(&other.usage);
        self.unknown_cost = self.unknown_cost.saturating_add(other.unknown_cost);
        self.cost = match (self.cost, other.cost) {
            (Some(mine), Some(theirs)) => Some(mine + theirs),
            (mine, theirs) => mine.or(theirs),
        };
    }
}

/// Sums in memory, not yet in the store.
pub type PendingSums = HashMap<Group, Sum>;

/// A stored sum as bytes.
pub fn encode(group: &Group, sum: &Sum) -> Vec<u8> {
    minicbor::to_vec((group, sum)).expect("encoding into memory cannot fail")
}

/// Reads a stored sum.
///
/// # Errors
///
/// When the bytes are no sum.
pub fn decode(bytes: &[u8]) -> Result<(Group, Sum), StoreError> {
    minicbor::decode(bytes)
        .map_err(|error| StoreError::Damaged(format!("an hourly sum is damaged: {error}")))
}

/// Beside the sums, in the same batches: how far they reach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SumsMark {
    /// The last segment whose records are in the sums.
    #[n(0)]
    pub applied: u64,
    /// Bytes of all sums, keys included.
    #[n(1)]
    pub bytes: u64,
}

/// The mark's key. Hours are four bytes, so it lies behind every sum.
pub const MARK_KEY: &[u8] = &[0xFF; 5];
