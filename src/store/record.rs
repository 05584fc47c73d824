//! One request as the ledger keeps it: who, what, when, how much. Never a word of what was asked or answered.
//!
//! Encoded as CBOR maps with numbered fields: a newer version adds numbers and reads older data; it never reuses one.

use minicbor::{Decode, Encode};

use super::codec::{self, is_zero};
use crate::llm::usage::{Provenance, Usage};
use crate::llm::wire::Endpoint;
use crate::policy::budget::Amounts;
use crate::policy::throttle::Level;
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
    /// The client left before the request was admitted: while its body came, or while it waited in line.
    #[n(11)]
    Withdrawn,
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
            Outcome::Withdrawn => "withdrawn",
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
    /// The model's price is not known: the cost is the ceiling that the config says to assume.
    #[n(4)]
    Assumed,
}

impl CostSource {
    /// The name used in metrics and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            CostSource::None => "none",
            CostSource::Table => "table",
            CostSource::Stated => "stated",
            CostSource::Unknown => "unknown",
            CostSource::Assumed => "assumed",
        }
    }
}

/// What was out of the ordinary when a request was admitted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags {
    /// Its price is not known; it passed all the same.
    pub price_unknown: bool,
    /// Its price is not known; it was admitted at the ceiling price.
    pub price_assumed: bool,
    /// It asked for a higher priority than its caller may have.
    pub priority_capped: bool,
    /// It would have been refused, or would have waited, if shadow mode were not on.
    pub shadow: bool,
    /// Another model would have served it if routing did more than record.
    pub route_shadow: bool,
}

impl Flags {
    /// Each flag: its bit on disk, its name in reports, and whether it is raised.
    const fn all(self) -> [(u32, &'static str, bool); 5] {
        [
            (1, "price_unknown", self.price_unknown),
            (2, "price_assumed", self.price_assumed),
            (4, "priority_capped", self.priority_capped),
            (8, "shadow", self.shadow),
            (16, "route_shadow", self.route_shadow),
        ]
    }

    /// The names of those that are raised.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let all = self.all().into_iter();
        all.filter_map(|(_, name, raised)| raised.then_some(name))
    }

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the encoder hands out references"
    )]
    fn are_down(&self) -> bool {
        *self == Self::default()
    }
}

impl<C> Encode<C> for Flags {
    /// As a number with one bit for each flag.
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        let raised = self.all().into_iter().filter(|(_, _, raised)| *raised);
        e.u32(raised.map(|(bit, _, _)| bit).sum())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Flags {
    /// Bits of a newer version mean nothing here.
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let bits = d.u32()?;
        Ok(Self {
            price_unknown: bits & 1 != 0,
            price_assumed: bits & 2 != 0,
            priority_capped: bits & 4 != 0,
            shadow: bits & 8 != 0,
            route_shadow: bits & 16 != 0,
        })
    }
}

/// One request. Text fields are names (session, model, …), bounded in length where they enter.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Record {
    /// Names the request; holds the time of its arrival.
    #[n(0)]
    #[cbor(with = "codec::id")]
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
    #[cbor(with = "codec::priority")]
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
    #[cbor(with = "codec::cost", default)]
    pub cost: Option<Cost>,
    /// Where `cost` comes from.
    #[n(21)]
    pub cost_source: CostSource,
    /// What the price table says, kept beside a cost that the provider stated.
    #[n(22)]
    #[cbor(with = "codec::cost", default)]
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
    /// The level at which it was decided upon: the highest of its budgets'.
    #[n(32)]
    #[cbor(default, skip_if = "is_calm")]
    pub level: Level,
    /// The budget or rule that decided, or the budget that was fullest.
    #[n(33)]
    pub decided_by: Option<String>,
    /// Tokens that were reserved for it when it was admitted.
    #[n(34)]
    #[cbor(default, skip_if = "is_zero")]
    pub reserved_tokens: u64,
    /// Money that was reserved for it when it was admitted.
    #[n(35)]
    #[cbor(with = "codec::cost", default, skip_if = "Option::is_none")]
    pub reserved_cost: Option<Cost>,
    /// What was out of the ordinary.
    #[n(36)]
    #[cbor(default, skip_if = "Flags::are_down")]
    pub flags: Flags,
    /// The provider that was asked, where another one served: by a route or as a fallback.
    #[n(37)]
    pub requested_provider: Option<String>,
    /// Why another model served, or would have served in shadow mode: the rule, the ladder, the budget.
    #[n(38)]
    pub routed_by: Option<String>,
    /// That model; `provider/model` where it is another provider's.
    #[n(39)]
    pub routed_to: Option<String>,
    /// What that saved, or would have saved, as far as can be told: what the model asked for would have cost, less what
    /// the other one costs. Negative is a loss.
    #[n(40)]
    #[cbor(with = "codec::cost", default, skip_if = "Option::is_none")]
    pub saving: Option<Cost>,
    /// The model that was asked to serve, where that is not the one that the client asked for.
    #[n(41)]
    pub sent_model: Option<String>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the encoder hands out references"
)]
fn is_calm(level: &Level) -> bool {
    *level == Level::None
}

/// What requests that ended this way take of budgets. Those that were never admitted, and those that asked nothing of a
/// model, are no requests there; what is not known to have cost anything takes no money.
pub(super) fn charges(
    endpoint: &str,
    outcome: Outcome,
    requests: u64,
    usage: &Usage,
    cost: Option<Cost>,
) -> Amounts {
    Amounts {
        requests: match outcome {
            Outcome::Refused | Outcome::Withdrawn => 0,
            _ if !Endpoint::name_asks_a_model(endpoint) => 0,
            _ => requests,
        },
        ..Amounts::of_request(usage, cost.unwrap_or_default())
    }
}

/// Reads only the id of an encoded record, which is its first field.
pub(super) fn id_of(bytes: &[u8]) -> Result<RequestId, minicbor::decode::Error> {
    let mut decoder = minicbor::Decoder::new(bytes);
    decoder.map()?;
    match decoder.u32()? {
        0 => codec::id::decode(&mut decoder, &mut ()),
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
            level: Level::None,
            decided_by: None,
            reserved_tokens: 0,
            reserved_cost: None,
            flags: Flags::default(),
            requested_provider: None,
            routed_by: None,
            routed_to: None,
            saving: None,
            sent_model: None,
        }
    }

    /// The model that budgets and prices go by, as long as the answer names none: the one that was asked to serve.
    pub fn asked_to_serve(&self) -> Option<&str> {
        self.sent_model
            .as_deref()
            .or(self.requested_model.as_deref())
    }

    /// What it takes of budgets, now and when it is read back after a restart.
    pub fn charges(&self) -> Amounts {
        charges(&self.endpoint, self.outcome, 1, &self.usage, self.cost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Record {
        let mut record = Record::new(RequestId::new(1_795_000_000_000, 1, 2));
        record.session = "docs".into();
        record.priority = Priority::High;
        record.cost = Some(Cost::from_attos(-3));
        record.cost_source = CostSource::Assumed;
        record.usage.input = 12;
        record.outcome = Outcome::Complete;
        record.level = Level::Soft;
        record.decided_by = Some("session-tokens-hour".into());
        record.reserved_tokens = 5;
        record.reserved_cost = Some(Cost::from_attos(7));
        record.flags.priority_capped = true;
        record.flags.shadow = true;
        record.flags.route_shadow = true;
        record.requested_provider = Some("anthropic".into());
        record.routed_by = Some("rule:ui".into());
        record.routed_to = Some("local/qwen3".into());
        record.saving = Some(Cost::from_attos(-11));
        record.sent_model = Some("qwen3".into());
        record
    }

    #[test]
    fn a_record_reads_back() {
        let bytes = minicbor::to_vec(full()).expect("encoding into memory cannot fail");
        let read: Record = minicbor::decode(&bytes).expect("own encoding");
        assert_eq!(read, full());
        let names: Vec<_> = read.flags.names().collect();
        assert_eq!(names, ["priority_capped", "shadow", "route_shadow"]);
    }

    #[test]
    fn a_record_of_the_first_version_reads_as_one_without_levels() {
        // Written by version 0.1.0: fields 0 to 31, none of the later ones.
        let old = "b2005001a1ee565e0000000000030000000029011b000001a1ee565e000263617069046b66703a393161633034653205 \
                   68726573656172636808020a666f70656e61690b70636861745f636f6d706c6574696f6e730c656770742d350d706770 \
                   742d352d323032352d30382d30370ef40f00100112a10018291301145000000000000000000000000000000029150118 \
                   1800";
        let digits: Vec<u8> = old.bytes().filter(u8::is_ascii_hexdigit).collect();
        let bytes: Vec<u8> = digits
            .chunks(2)
            .map(|pair| {
                let pair = std::str::from_utf8(pair).expect("ASCII");
                u8::from_str_radix(pair, 16).expect("hex digits")
            })
            .collect();
        let read: Record = minicbor::decode(&bytes).expect("an old record is read");
        let mut expected = Record::new(RequestId::new(1_795_000_000_000, 3, 41));
        expected.finished_unix_ms = 1_795_000_000_000;
        expected.session = "api".into();
        expected.key = Some("fp:91ac04e2".into());
        expected.team = Some("research".into());
        expected.priority = Priority::High;
        expected.provider = "openai".into();
        expected.endpoint = "chat_completions".into();
        expected.requested_model = Some("gpt-5".into());
        expected.model = Some("gpt-5-2025-08-07".into());
        expected.outcome = Outcome::Complete;
        expected.usage.input = 41;
        expected.provenance = Provenance::Reported;
        expected.cost = Some(Cost::from_attos(41));
        expected.cost_source = CostSource::Table;
        assert_eq!(read, expected);
    }

    #[test]
    fn what_tollgate_refused_takes_no_request_of_a_budget() {
        let mut record = full();
        record.usage.cached_read = 2;
        record.usage.output = 30;
        record.cost = Some(Cost::from_attos(9));
        let takes = |record: &Record| {
            let charges = record.charges();
            let tokens = (charges.fresh_tokens, charges.cached_tokens);
            (charges.requests, tokens, charges.cost.attos())
        };
        assert_eq!(takes(&record), (1, (40, 2), 9));
        record.outcome = Outcome::ProviderError;
        record.cost = None;
        assert_eq!(takes(&record), (1, (40, 2), 0));
        let mut refused = Record::new(record.id);
        for outcome in [Outcome::Refused, Outcome::Withdrawn] {
            refused.outcome = outcome;
            assert_eq!(refused.charges(), Amounts::default());
        }
    }
}
