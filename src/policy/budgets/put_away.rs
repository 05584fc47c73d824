//! How a scope is written down while it is not live, and read back.
//!
//! CBOR of windows and levels in the order of the scope's plan, then four bytes of checksum over the scope's name and
//! that: bytes that were damaged, or belong to another scope or to other budgets, are an error and never count as nothing.

use minicbor::{Decode, Encode};

use super::plan::{Plan, PlanId};
use super::scope::Scope;
use crate::policy::budget::{Amounts, ScopeKey};
use crate::policy::throttle::Level;
use crate::policy::window::{Counter, Monthly};

/// What was put away of a scope cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what was put away of a scope's budgets is damaged")]
pub struct Undecodable;

#[derive(Encode, Decode)]
struct PutAway {
    #[n(0)]
    windows: Vec<Contents>,
    #[n(1)]
    levels: Vec<Level>,
}

#[derive(Encode, Decode)]
enum Contents {
    #[n(0)]
    Rolling(#[n(0)] Vec<(u32, Amounts)>),
    #[n(1)]
    Monthly(#[n(0)] u64, #[n(1)] Amounts),
}

/// Writes down a scope that has no reservations.
pub(super) fn encode(scope: &Scope) -> Vec<u8> {
    debug_assert_eq!(scope.holders, 0, "reservations cannot be put away");
    let contents = |counter: &Counter| match counter {
        Counter::Rolling(rolling) => Contents::Rolling(rolling.slots().collect()),
        Counter::Monthly(monthly) => Contents::Monthly(monthly.begins_ms, monthly.total),
    };
    let put_away = PutAway {
        windows: scope.counters.iter().map(contents).collect(),
        levels: scope.fills.iter().map(|fill| fill.level).collect(),
    };
    let mut bytes = minicbor::to_vec(put_away).expect("a vector takes everything");
    let checksum = checksum(&scope.key(), &bytes);
    bytes.extend(checksum);
    bytes
}

/// Reads back what [`encode`] wrote of the scope with this key; it has yet to be counted anew.
///
/// # Errors
/// [`Undecodable`] if it did not write these bytes, or wrote them for another scope or plan.
pub(super) fn decode(
    key: &ScopeKey,
    id: PlanId,
    plan: &Plan,
    bytes: &[u8],
) -> Result<Scope, Undecodable> {
    let (content, stored) = bytes.split_last_chunk().ok_or(Undecodable)?;
    if checksum(key, content) != *stored {
        return Err(Undecodable);
    }
    let put_away: PutAway = minicbor::decode(content).map_err(|_| Undecodable)?;
    let mut scope = Scope::new(key.kind, key.name.as_str().into(), id, plan);
    if put_away.windows.len() != scope.counters.len() || put_away.levels.len() != scope.fills.len()
    {
        return Err(Undecodable);
    }
    for (counter, contents) in scope.counters.iter_mut().zip(put_away.windows) {
        let fits = match (counter, contents) {
            (Counter::Rolling(rolling), Contents::Rolling(slots)) => rolling.refill(&slots),
            (Counter::Monthly(monthly), Contents::Monthly(begins_ms, total)) => {
                **monthly = Monthly { begins_ms, total };
                true
            }
            (Counter::Rolling(_), Contents::Monthly(..))
            | (Counter::Monthly(_), Contents::Rolling(_)) => false,
        };
        if !fits {
            return Err(Undecodable);
        }
    }
    for (fill, level) in scope.fills.iter_mut().zip(put_away.levels) {
        fill.level = level;
    }
    Ok(scope)
}

fn checksum(key: &ScopeKey, content: &[u8]) -> [u8; 4] {
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&[key.kind as u8]);
    checksum.update(key.name.as_bytes());
    // Ends the name: no UTF-8 text contains it.
    checksum.update(&[0xFF]);
    checksum.update(content);
    checksum.finalize().to_be_bytes()
}
