//! One limit of a rate: what the provider has left, and the pace at which it is used.
//!
//! Two buckets. The *mirror* is the provider's own bucket as far as it is known: it holds a window's worth and is charged
//! as the provider charges, reservations included. The *pace* holds less than a second's worth and is charged with what a
//! request is expected to use, so that a minute's allowance is spread over the minute. A request starts when the mirror
//! has all of it and the pace is out of debt; what it really used settles both.
//!
//! What cannot fit into the mirror at all starts when the mirror is full, so it never keeps the line waiting for more than
//! a window. A provider that caps its reservations takes it then; one that does not refuses it, whenever it is sent, and
//! its refusal says so better than we can.

use super::bucket::{Bucket, MILLI};
use super::climb::Climb;
use super::learned::LearnedRate;
use super::news::Quota;
use super::rules::Used;

/// What a full provider bucket loses while a request is on its way: we charge when it leaves, the provider when it
/// arrives, and meanwhile a full bucket does not fill.
const ON_ITS_WAY_MS: u64 = 1_000;

/// The pace holds what comes in meanwhile.
const BURST_MS: u64 = 750;

/// The pace holds as much beyond one request, so that a timer that is late loses nothing.
const LATE_MS: u64 = 20;

/// Tokens left are rounded to thousands by some (Anthropic), up or down.
const ROUNDED_TO: u64 = 1_000;

/// What a gauge measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Requests per second or whatever short time is configured.
    RequestsPerSecond,
    /// Requests per minute.
    Requests,
    /// Input and output tokens per minute.
    Tokens,
    /// Input tokens per minute.
    InputTokens,
    /// Output tokens per minute.
    OutputTokens,
}

impl Kind {
    /// Every kind, in the order in which a lane keeps them.
    pub const ALL: [Self; 5] = [
        Self::RequestsPerSecond,
        Self::Requests,
        Self::Tokens,
        Self::InputTokens,
        Self::OutputTokens,
    ];

    /// The name in metrics and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RequestsPerSecond => "requests_per_second",
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::InputTokens => "input_tokens",
            Self::OutputTokens => "output_tokens",
        }
    }

    /// How much of it was used.
    pub(super) fn of_used(self, used: &Used) -> Option<u64> {
        match self {
            Self::RequestsPerSecond | Self::Requests => None,
            Self::Tokens => Some(used.input_tokens.saturating_add(used.output_tokens)),
            Self::InputTokens => Some(used.input_tokens),
            Self::OutputTokens => Some(used.output_tokens),
        }
    }

    pub(super) const fn counts_tokens(self) -> bool {
        matches!(self, Self::Tokens | Self::InputTokens | Self::OutputTokens)
    }
}

/// Where a limit comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The config.
    Configured,
    /// The provider's headers.
    Told,
    /// Trying, and refusals.
    Learned,
}

impl Source {
    /// The name in metrics and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Configured => "configured",
            Self::Told => "told",
            Self::Learned => "learned",
        }
    }
}

/// What a request holds of one gauge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Charge {
    /// What the provider reserves.
    pub(super) hold: u64,
    /// What it is expected to use.
    pub(super) expect: u64,
}

/// How far a gauge's sums had come when a request started; they count on for ever.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mark {
    charged: u64,
    given: u64,
}

/// One limit.
#[derive(Debug, Clone)]
pub(super) struct Gauge {
    pub(super) kind: Kind,
    pub(super) window_ms: u64,
    configured: Option<u64>,
    pub(super) told: Option<u64>,
    pub(super) mirror: Option<Bucket>,
    pub(super) pace: Option<Bucket>,
    pub(super) climb: Climb,
    mark: Mark,
    now_ms: u64,
}

impl Gauge {
    /// With the configured limit per window, or else one to start from.
    pub(super) fn new(
        kind: Kind,
        configured: Option<u64>,
        start: Option<u64>,
        window_ms: u64,
        now_ms: u64,
    ) -> Self {
        let start = start.filter(|start| *start > 0);
        let floor = if kind.counts_tokens() { 100 } else { 1 };
        let mut gauge = Self {
            kind,
            window_ms: window_ms.max(1),
            configured: configured.filter(|limit| *limit > 0),
            told: None,
            mirror: None,
            pace: None,
            climb: Climb::new(
                start.map(|start| start.saturating_mul(MILLI)),
                floor * MILLI,
                window_ms.max(1),
                now_ms,
            ),
            mark: Mark::default(),
            now_ms,
        };
        gauge.adjust();
        gauge
    }

    /// The limit per window that is known for sure.
    pub(super) fn known(&self) -> Option<u64> {
        match (self.configured, self.told) {
            (Some(configured), Some(told)) => Some(configured.min(told)),
            (configured, told) => configured.or(told),
        }
    }

    /// The limit per window that it goes by, and where it comes from; `None` for no limit.
    pub(super) fn limit(&self) -> Option<(u64, Source)> {
        let value = self.climb.value?.div_ceil(MILLI);
        Some(match self.known() {
            None => (value, Source::Learned),
            Some(known) if value < known => (value, Source::Learned),
            Some(known) if self.configured == Some(known) => (known, Source::Configured),
            Some(known) => (known, Source::Told),
        })
    }

    /// Forgets a limit that nobody has stated.
    pub(super) fn drop_guess(&mut self) {
        if self.known().is_none() {
            self.climb.value = None;
            self.pace = None;
        }
    }

    /// Makes the buckets what the limits are now.
    pub(super) fn adjust(&mut self) {
        let known = self.known();
        self.climb
            .set_top(known.map(|known| known.saturating_mul(MILLI)));
        let now_ms = self.now_ms;
        // A second's worth is all pace.
        if let Some(known) = known.filter(|_| self.kind != Kind::RequestsPerSecond) {
            let rate = known.saturating_mul(MILLI);
            match &mut self.mirror {
                Some(mirror) => mirror.change(rate, rate),
                None => self.mirror = Some(Bucket::new(rate, self.window_ms, rate, now_ms)),
            }
        }
        if let Some(rate) = self.climb.value {
            let share = |ms: u64| {
                let share = u128::from(rate) * u128::from(ms) / u128::from(self.window_ms);
                u64::try_from(share).unwrap_or(u64::MAX)
            };
            let one = MILLI.saturating_add(share(LATE_MS));
            let holds = match self.kind {
                Kind::RequestsPerSecond => one,
                // Part of a request beyond whole ones would only let the next one start before its time.
                Kind::Requests => one.max(share(BURST_MS) / MILLI * MILLI),
                Kind::Tokens | Kind::InputTokens | Kind::OutputTokens => one.max(share(BURST_MS)),
            };
            match &mut self.pace {
                Some(pace) => pace.change(rate, holds),
                None => self.pace = Some(Bucket::new(rate, self.window_ms, holds, now_ms)),
            }
        }
    }

    /// Refills up to now.
    pub(super) fn advance(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        for bucket in [&mut self.mirror, &mut self.pace].into_iter().flatten() {
            bucket.advance(now_ms);
        }
    }

    /// The largest amount that one request is charged: a window's worth.
    fn most(&self) -> u64 {
        let value = self.climb.value.map(|value| value.div_ceil(MILLI));
        self.known().or(value).unwrap_or(u64::MAX)
    }

    /// Milliseconds until a request of this size may start, if nothing else does; `None` for never.
    pub(super) fn wait(&self, charge: Charge) -> Option<u64> {
        let mirror = match &self.mirror {
            Some(mirror) => mirror.wait_for(charge.hold)?,
            None => 0,
        };
        Some(mirror.max(self.pace_wait()?))
    }

    /// Milliseconds until the pace is out of debt.
    fn pace_wait(&self) -> Option<u64> {
        self.pace.as_ref().map_or(Some(0), |pace| pace.wait_for(1))
    }

    /// Milliseconds until all of this has passed at the known rate, and one more may start; `None` where no rate is known.
    pub(super) fn wait_behind(&self, ahead: u64) -> Option<u64> {
        self.known()?;
        self.pace.as_ref()?.wait_for_all(ahead.saturating_add(1))
    }

    /// A request starts: what it is charged in the end, and where the sums stand with it.
    pub(super) fn take(&mut self, charge: Charge) -> (Charge, Mark) {
        let most = self.most();
        let charge = Charge {
            hold: charge.hold.min(most),
            expect: charge.expect.min(most),
        };
        if let Some(mirror) = &mut self.mirror {
            mirror.lose_what_runs_over_in(ON_ITS_WAY_MS);
            mirror.take(charge.hold);
        }
        if let Some(pace) = &mut self.pace {
            pace.take(charge.expect);
        }
        self.mark.charged = self.mark.charged.wrapping_add(charge.hold);
        (charge, self.mark)
    }

    /// A request has ended: what it used takes the place of what it was charged.
    pub(super) fn settle(&mut self, charge: Charge, used: u64) {
        let most = self.most();
        let used = used.min(most.max(charge.hold));
        if let Some(mirror) = &mut self.mirror {
            mirror.give(charge.hold.saturating_sub(used));
            mirror.take(used.saturating_sub(charge.hold));
        }
        if let Some(pace) = &mut self.pace {
            // Beyond its rim: what was charged too much has kept others waiting.
            pace.give_up_to(charge.expect.saturating_sub(used), most);
            pace.take(used.saturating_sub(charge.expect));
        }
        let mark = &mut self.mark;
        mark.given = mark.given.wrapping_add(charge.hold.saturating_sub(used));
        mark.charged = mark.charged.wrapping_add(used.saturating_sub(charge.hold));
    }

    /// What the pace has saved up is gone: after a pause the line goes on one by one.
    pub(super) fn spend_savings(&mut self) {
        if let Some(pace) = &mut self.pace {
            pace.lower_to(1);
        }
    }

    /// The provider's figure in an answer to a request that was charged up to `mark` and started at `started_ms`.
    ///
    /// The figure was true at some moment between that start and now, and all that was charged since may or may not be
    /// in it. So it is a range; the mirror is moved into that range and no further.
    pub(super) fn hear(&mut self, quota: &Quota, mark: Mark, started_ms: u64, refused: bool) {
        let window = quota.window.map_or(self.window_ms, |window| {
            u64::try_from(window.as_millis()).unwrap_or(u64::MAX).max(1)
        });
        let limit = quota.limit.filter(|limit| *limit > 0).map(|limit| {
            let limit = u128::from(limit) * u128::from(self.window_ms) / u128::from(window);
            u64::try_from(limit).unwrap_or(u64::MAX).max(1)
        });
        if limit.is_some() && limit != self.told {
            self.told = limit;
            self.adjust();
        }
        let (Some(known), Some(left)) = (self.known(), quota.remaining) else {
            return;
        };
        if window != self.window_ms {
            // Of another bucket than the mirror; the pace keeps to its rate.
            return;
        }
        let left_signed = i64::try_from(left).unwrap_or(i64::MAX);
        let signed = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
        let charged = signed(self.mark.charged.wrapping_sub(mark.charged));
        let given = signed(self.mark.given.wrapping_sub(mark.given));
        let rounded = self.kind.counts_tokens() && left % ROUNDED_TO == 0;
        let rounding = signed(if rounded { ROUNDED_TO } else { 0 });
        // A refusal is answered at once, and says what was too little.
        let slack = if refused { 0 } else { rounding };
        let now_ms = self.now_ms;
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        let refill = mirror.refill_in(now_ms.saturating_sub(started_ms));
        let refill = signed(if refused { 0 } else { refill });
        let most = left_signed.saturating_add(slack);
        mirror.lower_to(most.saturating_add(refill).saturating_add(given));
        // With less configured than the provider allows, the mirror is not the provider's bucket.
        if self.told == Some(known) {
            let least = left_signed.saturating_sub(rounding);
            mirror.raise_to(least.saturating_sub(charged));
        }
    }

    /// The provider let a request through that is expected to use so much, and had started then.
    pub(super) fn passed(&mut self, expected: u64, started_ms: u64) {
        self.climb.passed(expected, started_ms, self.now_ms);
        self.adjust();
    }

    /// A request that was let through has used another amount.
    pub(super) fn correct(&mut self, expected: u64, used: u64) {
        let signed = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
        self.climb
            .correct(signed(used).saturating_sub(signed(expected)), self.now_ms);
    }

    /// Whether the limit is used so far that a refusal may well be for it.
    pub(super) fn is_near_its_limit(&self) -> bool {
        self.climb.is_near(self.now_ms)
    }

    /// Whether a refusal that nothing explains is most likely for this limit.
    pub(super) fn is_suspect(&self) -> bool {
        self.climb.is_suspect(self.now_ms)
    }

    /// A request was refused for this limit; `slot` and `next_slot` number it and the next one.
    pub(super) fn refused(&mut self, slot: u64, next_slot: u64) {
        self.climb.refused(slot, next_slot, self.now_ms);
        self.adjust();
    }

    /// All that was ever charged, and not given back.
    #[cfg(test)]
    pub(super) fn charged_in_all(&self) -> u64 {
        self.mark.charged.wrapping_sub(self.mark.given)
    }

    /// What is put away.
    pub(super) fn learned(&self) -> LearnedRate {
        LearnedRate {
            told: self.told,
            value_milli: self.climb.value,
            ceiling_milli: self.climb.ceiling,
            left: self.mirror.map(|mirror| mirror.level()),
            window_ms: self.window_ms,
        }
    }

    /// Takes over what was put away so long ago.
    pub(super) fn resume(&mut self, rate: &LearnedRate, learn: bool, passed_ms: u64) {
        if rate.window_ms != self.window_ms {
            return;
        }
        if learn {
            self.told = rate.told.filter(|told| *told > 0);
            self.adjust();
            self.climb.resume(rate.value_milli, rate.ceiling_milli);
            self.adjust();
        }
        if let (Some(left), Some(mirror)) = (rate.left, &mut self.mirror) {
            let refill = i64::try_from(mirror.refill_in(passed_ms)).unwrap_or(i64::MAX);
            mirror.lower_to(left.saturating_add(refill));
        }
    }

    /// Whether the provider cannot have reserved `hold` of this request, because more is left than would be.
    pub(super) fn disproves(&self, quota: &Quota, hold: u64, started_ms: u64) -> bool {
        let (Some(limit), Some(left), Some(mirror), None) = (
            quota.limit,
            quota.remaining,
            self.mirror,
            quota
                .window
                .filter(|window| window.as_millis() != u128::from(self.window_ms)),
        ) else {
            return false;
        };
        let refill = mirror.refill_in(self.now_ms.saturating_sub(started_ms));
        let slack = refill.saturating_add(ROUNDED_TO);
        left.saturating_add(hold.min(limit)) > limit.saturating_add(slack)
    }
}
