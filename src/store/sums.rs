//! Hourly sums: what reports are made of. One sum for each hour and combination of who, what and how it ended.
//!
//! In the store a sum's key is its hour and a hash of its group, so that keys stay short and hours lie in order; the
//! group itself is in the value. What does not apply is left out of the encoding, so that a group of an older version
//! keeps its key, and what is booked in its hour goes on adding up to it.

use std::collections::HashMap;

use minicbor::{Decode, Encode};
use sha2::{Digest, Sha256};

use super::HOUR_MS;
use super::codec::{self, is_false};
use super::error::StoreError;
use super::record::{self, CostSource, Outcome, Record};
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
    /// Why another model served them, or would have; `None` where none did, and for what never reached a model.
    #[n(15)]
    pub routed_by: Option<String>,
    /// Whether another model only would have served them.
    #[n(16)]
    #[cbor(default, skip_if = "is_false")]
    pub route_shadow: bool,
    /// Whether what that saved cannot be told.
    #[n(17)]
    #[cbor(default, skip_if = "is_false")]
    pub saving_unknown: bool,
}

/// Why another model served a request, or would have.
fn routed_by(record: &Record) -> Option<&String> {
    let served = !matches!(record.outcome, Outcome::Refused | Outcome::Withdrawn);
    record.routed_by.as_ref().filter(|_| served)
}

/// What routing saved, or would have saved; `None` if that cannot be told. What bills nothing would not have either.
fn saving_of(record: &Record) -> Option<Cost> {
    match record.cost_source {
        CostSource::Unknown => None,
        CostSource::None => Some(record.saving.unwrap_or_default()),
        CostSource::Table | CostSource::Stated | CostSource::Assumed => record.saving,
    }
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
            routed_by: routed_by(record).cloned(),
            route_shadow: routed_by(record).is_some() && record.flags.route_shadow,
            saving_unknown: routed_by(record).is_some() && saving_of(record).is_none(),
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
    /// What another model saved, or would have saved; negative is a loss. `None` where no other one was chosen, or
    /// that cannot be told.
    #[n(4)]
    #[cbor(with = "codec::cost", default, skip_if = "Option::is_none")]
    pub saving: Option<Cost>,
}

impl Sum {
    /// The sum of one record.
    pub fn of(record: &Record) -> Self {
        Self {
            requests: 1,
            usage: record.usage,
            cost: record.cost,
            unknown_cost: u64::from(record.cost_source == CostSource::Unknown),
            saving: routed_by(record).and_then(|_| saving_of(record)),
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
        self.cost = known(self.cost, other.cost);
        self.saving = known(self.saving, other.saving);
    }
}

/// Two amounts added up, as far as they are known.
fn known(mine: Option<Cost>, theirs: Option<Cost>) -> Option<Cost> {
    match (mine, theirs) {
        (Some(mine), Some(theirs)) => Some(mine + theirs),
        (mine, theirs) => mine.or(theirs),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::RequestId;

    fn routed() -> Record {
        let mut record = Record::new(RequestId(7));
        record.finished_unix_ms = 5 * HOUR_MS;
        record.session = "docs".to_owned();
        record.provider = "anthropic".to_owned();
        record.model = Some("claude-haiku-4-5".to_owned());
        record.requested_model = Some("claude-sonnet-4-5".to_owned());
        record.outcome = Outcome::Complete;
        record.cost = Some(Cost::from_attos(30));
        record.cost_source = CostSource::Table;
        record.routed_by = Some("rule:documentation".to_owned());
        record.saving = Some(Cost::from_attos(60));
        record
    }

    #[test]
    fn a_request_that_kept_its_model_is_summed_under_the_key_of_the_versions_before_routing() {
        let mut record = routed();
        record.routed_by = None;
        // Not to be believed without a reason.
        record.saving = Some(Cost::from_attos(9));
        record.flags.route_shadow = true;
        let (group, sum) = (Group::of(&record), Sum::of(&record));
        assert_eq!(sum.saving, None);
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let (key, value): (String, String) = (hex(&group.key()), hex(&encode(&group, &sum)));
        assert_eq!(key, OLD_KEY);
        assert_eq!(value, OLD_VALUE);
        let bytes = encode(&group, &sum);
        assert_eq!(decode(&bytes).expect("own encoding"), (group, sum));
    }

    // Both written by the version before routing.
    const OLD_KEY: &str = "0000000521428e3b380552e0b2f48827b9000f3d";
    const OLD_VALUE: &str = "82aa00050164646f63730569616e7468726f7069630670636c617564652d6861696b752d342d3508010a600b010c00\
        0d010e71636c617564652d736f6e6e65742d342d35a4000101a002500000000000000000000000000000001e0300";

    #[test]
    fn saved_and_would_have_saved_and_what_cannot_be_told_are_summed_apart() {
        let on = routed();
        let mut shadow = routed();
        shadow.flags.route_shadow = true;
        let mut unknown = routed();
        unknown.saving = None;
        let mut priceless = routed();
        priceless.cost_source = CostSource::Unknown;
        let mut unbilled = unknown.clone();
        unbilled.cost = None;
        unbilled.cost_source = CostSource::None;
        unbilled.outcome = Outcome::ProviderError;
        let mut refused = unbilled.clone();
        refused.outcome = Outcome::Refused;
        let told = |record: &Record| {
            let (group, sum) = (Group::of(record), Sum::of(record));
            let bytes = encode(&group, &sum);
            assert_eq!(decode(&bytes).ok(), Some((group.clone(), sum)));
            let saving = sum.saving.map(Cost::attos);
            (
                group.routed_by.is_some(),
                group.route_shadow,
                group.saving_unknown,
                saving,
            )
        };
        assert_eq!(told(&on), (true, false, false, Some(60)));
        assert_eq!(told(&shadow), (true, true, false, Some(60)));
        assert_eq!(told(&unknown), (true, false, true, None));
        assert_eq!(told(&priceless), (true, false, true, None));
        assert_eq!(told(&unbilled), (true, false, false, Some(0)));
        assert_eq!(told(&refused), (false, false, false, None));
        let mut sum = Sum::of(&on);
        sum.add(&Sum::of(&unknown));
        sum.add(&Sum::of(&shadow));
        assert_eq!(sum.saving, Some(Cost::from_attos(120)));
    }
}
