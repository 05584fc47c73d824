//! What answers tell a lane: how a request fared, what it used, what the provider says is left, and which limit a refusal
//! was for.
//!
//! A refusal is for the limit that its headers show used up. Without such a header it is for the rates that are only guessed or
//! still searched for, while they rise; else for the number in flight, if as many never went well; else for whatever is near its limit; else, at the second one,
//! for a limit that nobody told.
//!
//! Guesses give way to what is told. Who tells one limit of tokens tells all that there are, and who tells requests per
//! minute, and no limit of tokens, has none. Requests per minute stay a guess until they are told: Groq and Mistral tell
//! their tokens, and limit requests in silence.

use super::gauge::{Gauge, Kind};
use super::{Lane, Quota, RateNews, Slot, Used, Verdict};

/// A second refusal that nothing explains counts within five minutes of the first.
const STRIKE_COUNTS_MS: u64 = 300_000;

impl<T> Lane<T> {
    /// The answer to a request has begun, or will not come.
    pub fn answered(&mut self, slot: &mut Slot, news: &RateNews, verdict: Verdict, now_ms: u64) {
        self.advance(now_ms);
        slot.verdict = Some(verdict);
        let refused = verdict == Verdict::RateLimited;
        if self.rules.learn {
            self.hear(slot, news, refused);
        }
        match verdict {
            Verdict::Ok => {
                self.concurrency.went_well(slot.crowd, slot.number);
                for (gauge, charge) in self.gauges.iter_mut().zip(slot.charges) {
                    gauge.passed(charge.expect, slot.started_ms);
                }
            }
            Verdict::RateLimited => self.refused(slot, news),
            Verdict::Overloaded if self.breaker_is_open() => {}
            Verdict::Overloaded => {
                self.concurrency
                    .overloaded(slot.crowd, slot.number, self.next_slot);
            }
            Verdict::Failed => {}
        }
        if verdict != Verdict::Ok {
            self.recovery.disturbed();
        }
    }

    /// A request has ended, whatever way. `used` is what the provider counted, where it is known: without it, what was
    /// expected counts as used, unless the provider refused the request.
    pub fn finished(&mut self, slot: Slot, used: Option<&Used>, now_ms: u64) {
        self.advance(now_ms);
        let good = slot.verdict == Some(Verdict::Ok);
        self.concurrency.ended(good);
        if good {
            let length_ms = self.now_ms.saturating_sub(slot.started_ms);
            self.recovery.ended(length_ms, self.now_ms);
        }
        let refused = matches!(
            slot.verdict,
            Some(Verdict::RateLimited | Verdict::Overloaded)
        );
        let used = match (used, slot.verdict) {
            (Some(used), _) => Some(*used),
            (None, _) if refused => Some(Used::default()),
            // The provider has read the prompt, for all that is known, and no output has come.
            (None, Some(Verdict::Failed)) => Some(Used {
                input_tokens: slot.charges[Kind::InputTokens as usize].expect,
                output_tokens: 0,
            }),
            (None, _) => None,
        };
        for (gauge, charge) in self.gauges.iter_mut().zip(slot.charges) {
            let amount = match used.map(|used| gauge.kind.of_used(&used)) {
                // A refused request counts as one: some providers charge it.
                Some(None) => continue,
                Some(Some(used)) if refused || !slot.kept => used,
                _ if slot.kept => charge.hold,
                _ => charge.expect,
            };
            gauge.settle(charge, amount);
            if good {
                gauge.correct(charge.expect, amount);
            }
        }
    }

    /// A request that got its turn has not been sent after all: everything goes back.
    pub fn unsent(&mut self, slot: Slot, now_ms: u64) {
        self.advance(now_ms);
        self.concurrency.ended(false);
        for (gauge, charge) in self.gauges.iter_mut().zip(slot.charges) {
            gauge.settle(charge, 0);
        }
        self.day.give_back();
    }

    /// Takes in what an answer says about the limits.
    fn hear(&mut self, slot: &Slot, news: &RateNews, refused: bool) {
        for (place, gauge) in self.gauges.iter_mut().enumerate() {
            let Some(quota) = quota_of(gauge.kind, news) else {
                continue;
            };
            let charge = slot.charges[place];
            gauge.hear(&quota, slot.marks[place], slot.started_ms, refused);
            if !refused && matches!(gauge.kind, Kind::Tokens | Kind::OutputTokens) {
                self.reserves_nothing |= gauge.disproves(&quota, charge.hold, slot.started_ms);
            }
        }
        let told = |gauge: &Gauge| gauge.kind.counts_tokens() && gauge.told.is_some();
        let tells_tokens = self.gauges.iter().any(told);
        let tells_requests = !refused && self.gauges[Kind::Requests as usize].told.is_some();
        for gauge in self
            .gauges
            .iter_mut()
            .filter(|gauge| gauge.kind.counts_tokens())
        {
            if tells_tokens || tells_requests && gauge.climb.is_a_guess() {
                gauge.drop_guess();
            }
        }
        if let Some(quota) = &news.requests_day {
            self.day.hear(quota, slot.day_mark, self.now_ms);
        }
        if let Some(quota) = &news.tokens_day {
            self.day.hear_tokens(quota, self.now_ms);
        }
    }

    /// A request was refused for its limits: finds out which, and lowers it.
    fn refused(&mut self, slot: &Slot, news: &RateNews) {
        let spent = |quota: Option<Quota>| quota.is_some_and(|quota| quota.remaining == Some(0));
        if spent(news.requests_day) || spent(news.tokens_day) {
            return;
        }
        let next = self.next_slot;
        let mut explained = false;
        for (gauge, charge) in self.gauges.iter_mut().zip(slot.charges) {
            let left = quota_of(gauge.kind, news).and_then(|quota| quota.remaining);
            if left.is_some_and(|left| left < charge.hold.max(1)) {
                explained = true;
                gauge.refused(slot.number, next);
                if gauge.kind != Kind::Requests {
                    // Perhaps it does reserve.
                    self.reserves_nothing = false;
                }
            }
        }
        if explained {
            return;
        }
        let suspect = |gauge: &Gauge| gauge.is_suspect();
        if self.gauges.iter().any(suspect) {
            let suspects = self.gauges.iter_mut().filter(|gauge| suspect(gauge));
            suspects.for_each(|gauge| gauge.refused(slot.number, next));
            self.concurrency.was_refused(next);
            return;
        }
        if self.concurrency.refused(slot.crowd, slot.number, next) {
            return;
        }
        let near = |gauge: &Gauge| gauge.is_near_its_limit();
        if self.gauges.iter().any(near) {
            let near = self.gauges.iter_mut().filter(|gauge| near(gauge));
            near.for_each(|gauge| gauge.refused(slot.number, next));
            return;
        }
        // None of the limits that are known explains it. One refusal may be a whim; a second one soon after means that
        // there is a limit nobody told: of requests or of tokens.
        let strike = self.strike_ms.replace(self.now_ms);
        if self.rules.learn && strike.is_some_and(|strike| self.now_ms - strike < STRIKE_COUNTS_MS)
        {
            let counts = |gauge: &Gauge| gauge.kind.counts_tokens() && gauge.climb.value.is_some();
            let counts_tokens = self.gauges.iter().any(counts);
            let guesses = self.gauges.iter_mut().filter(|gauge| {
                gauge.known().is_none()
                    && match gauge.kind {
                        Kind::Requests => true,
                        Kind::Tokens if !counts_tokens => true,
                        _ => gauge.climb.value.is_some(),
                    }
            });
            guesses.for_each(|gauge| gauge.refused(slot.number, next));
        }
    }
}

/// What an answer says about what a gauge measures.
fn quota_of(kind: Kind, news: &RateNews) -> Option<Quota> {
    match kind {
        Kind::RequestsPerSecond => None,
        Kind::Requests => news.requests,
        // Where both kinds are told apart, the sum is only the stricter of the two.
        Kind::Tokens if news.input_tokens.is_some() && news.output_tokens.is_some() => None,
        Kind::Tokens => news.tokens,
        Kind::InputTokens => news.input_tokens,
        Kind::OutputTokens => news.output_tokens,
    }
}
