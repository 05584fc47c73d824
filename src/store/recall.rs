//! Reading back what was booked before this start, so that budgets stand where they stood: older requests as hourly
//! sums, the newest ones singly. Every request is in exactly one of the two, and both are read in one go.
//!
//! The ledger's thread reads the store and hands over encoded batches; whoever asked decodes them meanwhile.

use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, SyncSender};

use minicbor::Decode;

use super::HOUR_MS;
use super::backend::{Order, Table};
use super::codec;
use super::error::{ReadError, StoreError};
use super::keeper::Keeper;
use super::pack;
use super::record::{self, CostSource, Outcome};
use super::sums::{self, Group, Sum};
use crate::llm::usage::{Provenance, Usage};
use crate::policy::budget::Amounts;
use crate::units::{Cost, Priority, RequestId};

/// What is read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recall {
    /// Everything booked from here on, in Unix milliseconds. Of sums, the hour that it lies in counts whole.
    pub since_unix_ms: u64,
    /// From the hour on in which this lies, requests come singly.
    pub single_since_unix_ms: u64,
}

/// One thing that is read back.
#[derive(Debug, Clone, Copy)]
pub enum Past<'a> {
    /// Requests of one hour before the border that have everything in common.
    Hour(&'a Group, &'a Sum),
    /// A request behind it.
    Request(&'a PastRequest<'a>),
}

/// What was read back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recalled {
    /// Sums cover what was booked before, single requests what was booked from here on, in Unix milliseconds. Later than
    /// was asked for if single records have been pruned.
    pub border_unix_ms: u64,
    /// How many sums.
    pub sums: u64,
    /// How many single requests.
    pub requests: u64,
}

/// A past request: what budgets and estimates need of a record, borrowed from its bytes. Read back a million times at a
/// start, so nothing is copied. The fields are `Record`'s.
#[derive(Debug, Clone, PartialEq, Eq, Decode)]
#[cbor(map)]
#[expect(missing_docs, reason = "see the fields of the same names of Record")]
pub struct PastRequest<'b> {
    #[n(0)]
    #[cbor(with = "codec::id")]
    pub id: RequestId,
    #[n(1)]
    #[cbor(default)]
    pub finished_unix_ms: u64,
    #[b(2)]
    pub session: &'b str,
    #[b(4)]
    pub key: Option<&'b str>,
    #[b(5)]
    pub team: Option<&'b str>,
    #[n(8)]
    #[cbor(with = "codec::priority")]
    pub priority: Priority,
    #[b(10)]
    pub provider: &'b str,
    #[b(11)]
    pub endpoint: &'b str,
    #[b(12)]
    pub requested_model: Option<&'b str>,
    #[b(13)]
    pub model: Option<&'b str>,
    #[n(14)]
    pub stream: bool,
    #[n(16)]
    pub outcome: Outcome,
    #[n(18)]
    pub usage: Usage,
    #[n(19)]
    pub provenance: Provenance,
    #[n(20)]
    #[cbor(with = "codec::cost", default)]
    pub cost: Option<Cost>,
    #[n(21)]
    pub cost_source: CostSource,
    #[n(34)]
    #[cbor(default)]
    pub reserved_tokens: u64,
    #[b(41)]
    pub sent_model: Option<&'b str>,
}

impl PastRequest<'_> {
    /// The model that budgets go by: the same as its record's.
    pub fn asked_to_serve(&self) -> Option<&str> {
        self.sent_model.or(self.requested_model)
    }

    /// What it takes of budgets: the same as its record's `charges`.
    pub fn charges(&self) -> Amounts {
        record::charges(self.endpoint, self.outcome, 1, &self.usage, self.cost)
    }
}

/// What the ledger's thread hands over.
#[derive(Debug)]
pub(super) enum Batch {
    /// Where the border lies; comes first.
    Border(u64),
    /// Encoded sums, one after the other.
    Sums(Vec<u8>),
    /// Encoded records, one after the other.
    Records(Vec<u8>),
    /// That was all, or what went wrong. Without it the ledger was shut down.
    End(Result<(), ReadError>),
}

/// Batches that may wait to be decoded.
pub(super) const WAITING_BATCHES: usize = 4;

/// Bytes after which a batch is handed over.
const BATCH_BYTES: usize = 128 * 1024;

/// Gathers bytes into batches and hands them over.
struct Outlet<'a> {
    to: &'a SyncSender<Batch>,
    wrap: fn(Vec<u8>) -> Batch,
    bytes: Vec<u8>,
}

impl<'a> Outlet<'a> {
    fn new(to: &'a SyncSender<Batch>, wrap: fn(Vec<u8>) -> Batch) -> Self {
        Self {
            to,
            wrap,
            bytes: Vec::with_capacity(BATCH_BYTES + pack::MAX_BYTES),
        }
    }

    fn put(&mut self, bytes: &[u8]) -> ControlFlow<()> {
        self.bytes.extend_from_slice(bytes);
        match self.bytes.len() >= BATCH_BYTES {
            true => self.hand_over(),
            false => ControlFlow::Continue(()),
        }
    }

    /// Breaks off if nobody listens any more.
    fn hand_over(&mut self) -> ControlFlow<()> {
        let bytes = std::mem::take(&mut self.bytes);
        if self.to.send((self.wrap)(bytes)).is_err() {
            return ControlFlow::Break(());
        }
        self.bytes.reserve(BATCH_BYTES + pack::MAX_BYTES);
        ControlFlow::Continue(())
    }
}

/// The beginning of an hour, in Unix milliseconds.
const fn hour_of(unix_ms: u64) -> u64 {
    unix_ms / HOUR_MS * HOUR_MS
}

impl Keeper {
    /// Hands over what is asked for, ending with whether that was all.
    pub(super) fn recall(
        &mut self,
        recall: Recall,
        to: &SyncSender<Batch>,
    ) -> Result<(), StoreError> {
        self.take_over()?;
        self.with_shelf(|shelf| {
            // Of the hour in which the newest pruned record lies, only the sums are whole.
            let whole_from = match shelf.packs.pruned_unix_ms {
                0 => 0,
                pruned => hour_of(pruned).saturating_add(HOUR_MS),
            };
            let since = hour_of(recall.since_unix_ms);
            let border = hour_of(recall.single_since_unix_ms)
                .max(whole_from)
                .max(since);
            to.send(Batch::Border(border)).ok();

            let hour = |unix_ms: u64| u32::try_from(unix_ms / HOUR_MS).unwrap_or(u32::MAX);
            let (first, beyond) = (hour(since), hour(border));
            let mut sums = Outlet::new(to, Batch::Sums);
            shelf.store.scan(
                Table::Sums,
                &sums::hour_key(first),
                &sums::hour_key(beyond),
                Order::Rising,
                &mut |_, value| sums.put(value),
            )?;
            for (group, sum) in &shelf.pending {
                if (first..beyond).contains(&group.hour) {
                    // Whoever has gone needs no rest.
                    let _ = sums.put(&sums::encode(group, sum));
                }
            }
            let _ = sums.hand_over();

            let mut records = Outlet::new(to, Batch::Records);
            shelf.store.scan(
                Table::Packs,
                &pack::time_key(border.max(recall.since_unix_ms)),
                &[0xFF; 8],
                Order::Rising,
                &mut |_, value| records.put(value),
            )?;
            let _ = records.hand_over();
            Ok(())
        })
    }
}

/// Decodes what is handed over, and calls `each` for all of it.
pub(super) fn decode(
    recall: Recall,
    from: &Receiver<Batch>,
    each: &mut dyn FnMut(Past<'_>),
) -> Result<Recalled, ReadError> {
    let mut recalled = Recalled::default();
    for batch in from {
        match batch {
            Batch::Border(border) => recalled.border_unix_ms = border,
            Batch::Sums(bytes) => {
                for sum in pack::unpack::<(Group, Sum)>(&bytes) {
                    let (group, sum) = sum?;
                    each(Past::Hour(&group, &sum));
                    recalled.sums += 1;
                }
            }
            Batch::Records(bytes) => {
                let first = recalled.border_unix_ms.max(recall.since_unix_ms);
                for request in pack::unpack::<PastRequest<'_>>(&bytes) {
                    let request = request?;
                    // A pack may begin before the border.
                    if request.finished_unix_ms >= first {
                        each(Past::Request(&request));
                        recalled.requests += 1;
                    }
                }
            }
            Batch::End(end) => return end.map(|()| recalled),
        }
    }
    Err(ReadError::Closed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::record::Record;

    #[test]
    fn a_past_request_is_its_record() {
        let mut record = Record::new(RequestId(77));
        record.finished_unix_ms = 5;
        record.session = "docs".to_owned();
        record.agent = Some("planner".to_owned());
        record.key = Some("k".to_owned());
        record.team = Some("t".to_owned());
        record.depth = Some(3);
        record.priority = Priority::Critical;
        record.provider = "p".to_owned();
        record.endpoint = "messages".to_owned();
        record.requested_model = Some("r".to_owned());
        record.model = Some("m".to_owned());
        record.stream = true;
        record.outcome = Outcome::StreamError;
        record.error = Some("overloaded".to_owned());
        record.usage.input = 100;
        record.usage.cached_read = 30;
        record.usage.output = 7;
        record.provenance = Provenance::Partial;
        record.cost = Some(Cost::from_attos(12));
        record.cost_source = CostSource::Assumed;
        record.reserved_tokens = 90;
        record.flags.shadow = true;
        let bytes = minicbor::to_vec(&record).expect("encoding into memory cannot fail");
        let past: PastRequest<'_> = minicbor::decode(&bytes).expect("own encoding");
        let expected = PastRequest {
            id: record.id,
            finished_unix_ms: 5,
            session: "docs",
            key: Some("k"),
            team: Some("t"),
            priority: Priority::Critical,
            provider: "p",
            endpoint: "messages",
            requested_model: Some("r"),
            model: Some("m"),
            stream: true,
            outcome: Outcome::StreamError,
            usage: record.usage,
            provenance: Provenance::Partial,
            cost: Some(Cost::from_attos(12)),
            cost_source: CostSource::Assumed,
            reserved_tokens: 90,
            sent_model: None,
        };
        assert_eq!(past, expected);
        assert_eq!(past.charges(), record.charges());
    }
}
