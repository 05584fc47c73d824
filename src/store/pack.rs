//! Single records (and events) in the store: packed into values of about 1 KiB, in the order in which they were booked.
//!
//! Values above 4 KiB make sled write separate files that it never syncs. Below that, its memory follows the size of its
//! pages (16 values each): with packs of 4, 2 and 1 KiB a burst of 200,000 records took 98, 77 and 52 MiB. A pack's
//! records lie within a minute of each other, so a pack can be found and pruned by the time in its key.

use minicbor::{Decode, Encode};

use super::backend::Table;
use super::error::StoreError;

/// What is packed. Each has a table and a mark of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Series {
    /// Requests.
    Records,
    /// Throttle events.
    Events,
}

impl Series {
    /// Where its packs are.
    pub const fn table(self) -> Table {
        match self {
            Series::Records => Table::Packs,
            Series::Events => Table::Events,
        }
    }
}

/// Largest value, in bytes; a record that is longer (at most 4 KiB) has a pack to itself.
pub const MAX_BYTES: usize = 1024;

/// Longest time between a pack's records, in milliseconds.
pub const SPAN_MS: u64 = 60_000;

/// Beside the packs, in the same batches: how far they reach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct PacksMark {
    /// The last segment that was begun to be packed.
    #[n(0)]
    pub segment: u64,
    /// How many records of it are packed.
    #[n(1)]
    pub records: u64,
    /// Bytes of all packs, keys included.
    #[n(2)]
    pub bytes: u64,
    /// How many packs there are.
    #[n(3)]
    pub packs: u64,
    /// Packs up to this time, in Unix milliseconds, may have been pruned; 0 if none ever was.
    #[n(4)]
    #[cbor(default)]
    pub pruned_unix_ms: u64,
}

/// The mark's key, behind every pack.
pub const MARK_KEY: &[u8] = &[0xFF; 9];

/// The smallest key of a pack whose newest record was booked at `unix_ms` or later.
pub fn time_key(unix_ms: u64) -> Vec<u8> {
    unix_ms.to_be_bytes().to_vec()
}

/// The time in a pack's key: when its newest record was booked.
pub fn time_of(key: &[u8]) -> u64 {
    key.get(..8)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u64::from_be_bytes)
}

/// Gathers the records of one segment into packs. The same segment always gives the same packs.
pub struct Packer {
    segment: u64,
    /// Records of the segment seen so far.
    seen: u64,
    oldest_ms: u64,
    newest_ms: u64,
    value: Vec<u8>,
}

/// A finished pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pack {
    /// Its key: time of the newest record, segment, number of records of the segment up to its end.
    pub key: Vec<u8>,
    /// Records, one after the other.
    pub value: Vec<u8>,
    /// How many records of the segment are packed with it.
    pub records: u64,
}

impl Packer {
    /// Packs the records of a segment behind the first `skip` ones, which are packed already.
    pub fn new(segment: u64, skip: u64) -> Self {
        Self {
            segment,
            seen: skip,
            oldest_ms: u64::MAX,
            newest_ms: 0,
            value: Vec::new(),
        }
    }

    /// Adds a record, and returns the pack that it no longer fits into.
    pub fn add(&mut self, finished_unix_ms: u64, payload: &[u8]) -> Option<Pack> {
        let oldest = self.oldest_ms.min(finished_unix_ms);
        let newest = self.newest_ms.max(finished_unix_ms);
        let full =
            self.value.len() + payload.len() > MAX_BYTES || newest.saturating_sub(oldest) > SPAN_MS;
        let done = if full { self.finish() } else { None };
        self.oldest_ms = self.oldest_ms.min(finished_unix_ms);
        self.newest_ms = self.newest_ms.max(finished_unix_ms);
        self.value.extend_from_slice(payload);
        self.seen += 1;
        done
    }

    /// Returns the pack that is being filled.
    pub fn finish(&mut self) -> Option<Pack> {
        if self.value.is_empty() {
            return None;
        }
        let mut key = time_key(self.newest_ms);
        key.extend_from_slice(&self.segment.to_be_bytes());
        key.extend_from_slice(&self.seen.to_be_bytes());
        self.oldest_ms = u64::MAX;
        self.newest_ms = 0;
        Some(Pack {
            key,
            value: std::mem::take(&mut self.value),
            records: self.seen,
        })
    }
}

/// Reads what is in a pack.
///
/// # Errors
///
/// When the bytes are no pack.
pub fn unpack<'b, T: Decode<'b, ()>>(
    value: &'b [u8],
) -> impl Iterator<Item = Result<T, StoreError>> + 'b {
    let mut decoder = minicbor::Decoder::new(value);
    std::iter::from_fn(move || {
        (decoder.position() < value.len()).then(|| {
            decoder
                .decode()
                .map_err(|error| StoreError::Damaged(format!("a pack is damaged: {error}")))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::record::Record;
    use crate::units::RequestId;

    #[test]
    fn packs_stay_small_keep_every_record_and_are_the_same_each_time() {
        let pack = || {
            let mut packer = Packer::new(7, 0);
            let mut packs = Vec::new();
            for number in 0..500_u64 {
                let mut record = Record::new(RequestId(u128::from(number)));
                record.session = "s".repeat(number as usize % 256);
                record.finished_unix_ms = 1_000 + number * 500;
                let payload = minicbor::to_vec(&record).expect("encoding into memory cannot fail");
                packs.extend(packer.add(record.finished_unix_ms, &payload));
            }
            packs.extend(packer.finish());
            packs
        };
        let packs = pack();
        assert_eq!(packs, pack());
        let mut ids = Vec::new();
        for pack in &packs {
            let records: Result<Vec<Record>, _> = unpack(&pack.value).collect();
            let records = records.expect("own encoding");
            assert!(pack.value.len() <= MAX_BYTES || records.len() == 1);
            let newest = records.last().map(|record| record.finished_unix_ms);
            assert_eq!(newest, Some(time_of(&pack.key)));
            assert!(time_of(&pack.key) - records[0].finished_unix_ms <= SPAN_MS);
            ids.extend(records.iter().map(|record| record.id.0));
        }
        assert_eq!(ids, (0..500).collect::<Vec<_>>());
        assert_eq!(packs.last().map(|pack| pack.records), Some(500));
    }
}
