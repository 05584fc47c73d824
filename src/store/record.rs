//! One request as the ledger keeps it: who, what, when, how much. Never a word of what was asked or answered.
//!
//! Encoded as CBOR maps with numbered fields: a newer version adds numbers and reads older data; it never reuses one.

use minicbor::{Decode, Encode};

use crate::llm::usage::{Provenance, Usage};
use crate::units::{Cost, Priority, RequestId};

/// How a request ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Outcome {
    /// Still running. Found in the journal after a crash it becomes `Interrupted`.
    #[default]
    #[n(0)]
    Open,
    /// The answer went to the client whole, with a status below 400.
    #[n(1)]
    Complete,
    /// The provider answered with an error status; its answer went to the client.
    #[n(2)]
    ProviderError,
    /// A stream with status 200 carried an error event.
    #[n(3)]
    StreamError,
    /// The client left before the end.
    #[n(4)]
    ClientGone,
    /// The provider closed the connection in mid-answer.
    #[n(5)]
    UpstreamCut,
    /// A time limit passed.
    #[n(6)]
    TimedOut,
    /// The provider could not be reached.
    #[n(7)]
    Unreachable,
    /// tollgate refused the request itself.
    #[n(8)]
    Refused,
    /// The process died while the request ran; booked at its estimate on the next start.
    #[n(9)]
    Interrupted,
    /// The provider took the work into the background; fetching the result books it.
    #[n(10)]
    Pending,
}

impl Outcome {
    /// The name used in metrics and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Outcome::Open => "open",
            Outcome::Complete => "complete",
            Outcome::ProviderError => "provider_error",
            Outcome::StreamError => "stream_error",
            Outcome::ClientGone => "client_gone",
            Outcome::UpstreamCut => "upstream_cut",
            Outcome::TimedOut => "timed_out",
            Outcome::Unreachable => "unreachable",
            Outcome::Refused => "refused",
            Outcome::Interrupted => "interrupted",
            Outcome::Pending => "pending",
        }
    }
}

/// Where a cost comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum CostSource {
    /// Nothing is billed for such a request.
    #[default]
    #[n(0)]
    None,
    /// The price table.
    #[n(1)]
    Table,
    /// The provider stated it.
    #[n(2)]
    Stated,
    /// The model's price is not known: the cost is unknown, not zero.
    #[n(3)]
    Unknown,
}

impl CostSource {
    /// The name used in metrics and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            CostSource::None => "none",
            CostSource::Table => "table",
            CostSource::Stated => "stated",
            CostSource::Unknown => "unknown",
        }
    }
}

/// One request. Text fields are names (session, model, …), bounded in length where they enter.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Record {
    /// Names the request; holds the time of its arrival.
    #[n(0)]
    #[cbor(with = "id_codec")]
    pub id: RequestId,
    /// Unix milliseconds at which it was booked; 0 while it is open.
    #[n(1)]
    #[cbor(default, skip_if = "is_zero")]
    pub finished_unix_ms: u64,
    /// The session that is charged.
    #[n(2)]
    pub session: String,
    /// The agent inside the session, where the client states one.
    #[n(3)]
    pub agent: Option<String>,
    /// The client's key: a tollgate key's name, or a fingerprint of the provider key.
    #[n(4)]
    pub key: Option<String>,
    /// The key's team.
    #[n(5)]
    pub team: Option<String>,
    /// The client's own label for billing (`x-tollgate-phase`).
    #[n(6)]
    pub phase: Option<String>,
    /// Recursion depth that the agent stated.
    #[n(7)]
    pub depth: Option<u32>,
    /// How urgent it was.
    #[n(8)]
    #[cbor(with = "priority_codec")]
    pub priority: Priority,
    /// What kind of work it was (`coding`, `ui`, …).
    #[n(9)]
    pub task: Option<String>,
    /// The provider's name in the config.
    #[n(10)]
    pub provider: String,
    /// What was asked of it (`messages`, `chat_completions`, …).
    #[n(11)]
    pub endpoint: String,
    /// The model that the client asked for.
    #[n(12)]
    pub requested_model: Option<String>,
    /// The model that served, as far as is known: what the answer names, else what was sent.
    #[n(13)]
    pub model: Option<String>,
    /// Whether the client asked for a stream.
    #[n(14)]
    pub stream: bool,
    /// The status that went to the client; 0 if none did.
    #[n(15)]
    pub status: u16,
    /// How it ended.
    #[n(16)]
    pub outcome: Outcome,
    /// Machine-readable name of the error, the provider's or ours.
    #[n(17)]
    pub error: Option<String>,
    /// What it used; the estimate while it is open.
    #[n(18)]
    pub usage: Usage,
    /// How far `usage` can be trusted.
    #[n(19)]
    pub provenance: Provenance,
    /// What it cost; `None` when that is unknown.
    #[n(20)]
    #[cbor(with = "cost_codec", default)]
    pub cost: Option<Cost>,
    /// Where `cost` comes from.
    #[n(21)]
    pub cost_source: CostSource,
    /// What the price table says, kept beside a cost that the provider stated.
    #[n(22)]
    #[cbor(with = "cost_codec", default)]
    pub table_cost: Option<Cost>,
    /// The service tier that was billed, if it was not the standard one.
    #[n(23)]
    pub service_tier: Option<String>,
    /// How often the request was sent to the provider.
    #[n(24)]
    pub attempts: u32,
    /// Microseconds spent waiting in line.
    #[n(25)]
    #[cbor(default, skip_if = "is_zero")]
    pub queued_us: u64,
    /// Microseconds of tollgate's own work before sending and before passing on the answer's head.
    #[n(26)]
    #[cbor(default, skip_if = "is_zero")]
    pub added_us: u64,
    /// Microseconds from the request's arrival to the first byte of the answer's body; 0 if none came.
    #[n(27)]
    #[cbor(default, skip_if = "is_zero")]
    pub first_byte_us: u64,
    /// Microseconds from the request's arrival to its end.
    #[n(28)]
    #[cbor(default, skip_if = "is_zero")]
    pub total_us: u64,
    /// Bytes of the request's body.
    #[n(29)]
    #[cbor(default, skip_if = "is_zero")]
    pub request_bytes: u64,
    /// Bytes of the answer's body that went to the client.
    #[n(30)]
    #[cbor(default, skip_if = "is_zero")]
    pub response_bytes: u64,
    /// The provider's id of background work, by which it is booked once.
    #[n(31)]
    pub answer_id: Option<String>,
}

/// What is zero is left out of what is written down.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the encoder hands out references"
)]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Reads only the id of an encoded record, which is its first field.
pub(super) fn id_of(bytes: &[u8]) -> Result<RequestId, minicbor::decode::Error> {
    let mut decoder = minicbor::Decoder::new(bytes);
    decoder.map()?;
    match decoder.u32()? {
        0 => id_codec::decode(&mut decoder, &mut ()),
        _ => Err(minicbor::decode::Error::message(
            "a record begins with its id",
        )),
    }
}

impl Record {
    /// A request that has just arrived: everything unknown is empty, the outcome is open.
    pub fn new(id: RequestId) -> Self {
        Self {
            id,
            finished_unix_ms: 0,
            session: String::new(),
            agent: None,
            key: None,
            team: None,
            phase: None,
            depth: None,
            priority: Priority::Normal,
            task: None,
            provider: String::new(),
            endpoint: String::new(),
            requested_model: None,
            model: None,
            stream: false,
            status: 0,
            outcome: Outcome::Open,
            error: None,
            usage: Usage::default(),
            provenance: Provenance::None,
            cost: None,
            cost_source: CostSource::None,
            table_cost: None,
            service_tier: None,
            attempts: 0,
            queued_us: 0,
            added_us: 0,
            first_byte_us: 0,
            total_us: 0,
            request_bytes: 0,
            response_bytes: 0,
            answer_id: None,
        }
    }
}

mod id_codec {
    //! A request id as 16 bytes.
    use super::RequestId;
    use minicbor::decode::Error as DecodeError;
    use minicbor::encode::{Error as EncodeError, Write};
    use minicbor::{Decoder, Encoder};

    pub(super) fn encode<C, W: Write>(
        id: &RequestId,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        e.bytes(&id.0.to_be_bytes())?.ok()
    }

    pub(super) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<RequestId, DecodeError> {
        let bytes = <[u8; 16]>::try_from(d.bytes()?)
            .map_err(|_| DecodeError::message("request id is not 16 bytes"))?;
        Ok(RequestId(u128::from_be_bytes(bytes)))
    }
}

pub(super) mod priority_codec {
    //! A priority as its rank. An unknown rank is an error, not a guess.
    use super::Priority;
    use minicbor::decode::Error as DecodeError;
    use minicbor::encode::{Error as EncodeError, Write};
    use minicbor::{Decoder, Encoder};

    pub(in crate::store) fn encode<C, W: Write>(
        priority: &Priority,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        e.u8(*priority as u8)?.ok()
    }

    pub(in crate::store) fn decode<C>(
        d: &mut Decoder<'_>,
        _: &mut C,
    ) -> Result<Priority, DecodeError> {
        let rank = usize::from(d.u8()?);
        Priority::ALL
            .get(rank)
            .copied()
            .ok_or_else(|| DecodeError::message("unknown priority"))
    }
}

pub(super) mod cost_codec {
    //! An optional amount: null, or atto-dollars as 16 bytes.
    use super::Cost;
    use minicbor::data::Type;
    use minicbor::decode::Error as DecodeError;
    use minicbor::encode::{Error as EncodeError, Write};
    use minicbor::{Decoder, Encoder};

    pub(in crate::store) fn encode<C, W: Write>(
        cost: &Option<Cost>,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        match cost {
            Some(cost) => e.bytes(&cost.attos().to_be_bytes())?.ok(),
            None => e.null()?.ok(),
        }
    }

    pub(in crate::store) fn decode<C>(
        d: &mut Decoder<'_>,
        _: &mut C,
    ) -> Result<Option<Cost>, DecodeError> {
        if d.datatype()? == Type::Null {
            d.null()?;
            return Ok(None);
        }
        let bytes = <[u8; 16]>::try_from(d.bytes()?)
            .map_err(|_| DecodeError::message("amount is not 16 bytes"))?;
        Ok(Some(Cost::from_attos(i128::from_be_bytes(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back() {
        let mut record = Record::new(RequestId::new(1_795_000_000_000, 1, 2));
        record.session = "docs".into();
        record.priority = Priority::High;
        record.cost = Some(Cost::from_attos(-3));
        record.usage.input = 12;
        record.outcome = Outcome::Complete;
        let bytes = minicbor::to_vec(&record).expect("encoding into memory cannot fail");
        assert_eq!(
            minicbor::decode::<Record>(&bytes).expect("own encoding"),
            record
        );
    }
}
