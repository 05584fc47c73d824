//! Reads the headers in which providers tell how a caller's limits stand.
//!
//! Nearly all share one grammar: a family's prefix, then words for the field (`limit`, `remaining`, `reset`), for what is
//! counted and for the window, in any order. Sources: the rate-limit pages of Anthropic, OpenAI, Groq, Mistral, Together,
//! xAI, Azure, OpenRouter, Fireworks, Cerebras; the sources of Codex (`x-codex-*`); Claude Code's contract for gateways
//! (`anthropic-ratelimit-unified-*`). A header with a word that is not known here belongs to a pool of its own (`images`,
//! `priority`, `fast`, an hour, a month) and is left alone.

use std::time::Duration;

use http::HeaderMap;

use super::{DAY, MAX_AMOUNT, MINUTE, Plan, PlanWindow, Quota, RateNews, SECOND, moment};

/// A limit that is whole again only after this long counts per day, when nothing else tells.
const SURELY_DAY: Duration = Duration::from_secs(600);

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pool {
    Requests,
    Tokens,
    Input,
    Output,
}

/// In which window, by the header's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Period {
    /// Not named.
    Unnamed,
    Second,
    Minute,
    Day,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Limit,
    Remaining,
    Reset,
}

/// What the name of a header tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    pool: Pool,
    period: Period,
    field: Field,
}

impl RateNews {
    /// Reads the head of any answer, a success or not. `now_ms` is the time in milliseconds since 1970.
    pub fn of_head(headers: &HeaderMap, now_ms: u64) -> Self {
        let pairs = headers
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        Self::of_pairs(pairs, now_ms)
    }

    /// The same from names in lower case and their values.
    pub(super) fn of_pairs<'a>(
        pairs: impl Iterator<Item = (&'a str, &'a str)>,
        now_ms: u64,
    ) -> Self {
        let mut news = Self::default();
        let mut limits = Limits::default();
        for (name, value) in pairs {
            match name {
                "retry-after" => news.asks(moment::after(value, now_ms)),
                "retry-after-ms" | "x-amz-retry-after" => news.asks(moment::millis(value)),
                "x-should-retry" => match value {
                    "true" => news.should_retry = news.should_retry.or(Some(true)),
                    "false" => news.should_retry = Some(false),
                    _ => {}
                },
                _ => {
                    if let Some(rest) = name.strip_prefix("anthropic-ratelimit-unified-") {
                        claude_plan(&mut news.plan, rest, value, now_ms);
                    } else if let Some(rest) = name.strip_prefix("x-codex-") {
                        codex_plan(&mut news.plan, rest, value, now_ms);
                    } else if let Some(place) = place(name) {
                        limits.set(place, value, now_ms);
                    }
                }
            }
        }
        limits.hand_over(&mut news);
        news
    }
}

/// Understands a header's name.
fn place(name: &str) -> Option<Place> {
    // The bare forms are the IETF draft's; "by size" is Mistral's word for tokens, "tokenlimit" Together's.
    let families = [
        ("anthropic-ratelimit-", Pool::Requests, Period::Minute),
        ("x-ratelimit-", Pool::Requests, Period::Unnamed),
        ("ratelimit-", Pool::Requests, Period::Unnamed),
        ("x-ratelimitbysize-", Pool::Tokens, Period::Minute),
        ("ratelimitbysize-", Pool::Tokens, Period::Minute),
        ("x-tokenlimit-", Pool::Tokens, Period::Unnamed),
    ];
    let (rest, mut pool, mut period) = families.iter().find_map(|(prefix, pool, period)| {
        name.strip_prefix(prefix).map(|rest| (rest, *pool, *period))
    })?;
    let mut field = None;
    for word in rest.split('-') {
        match word {
            "limit" => field = Some(Field::Limit),
            "remaining" => field = Some(Field::Remaining),
            "reset" => field = Some(Field::Reset),
            "requests" | "req" => pool = Pool::Requests,
            "tokens" if matches!(pool, Pool::Input | Pool::Output) => {}
            "tokens" => pool = Pool::Tokens,
            "input" | "prompt" => pool = Pool::Input,
            "output" | "generated" => pool = Pool::Output,
            "second" => period = Period::Second,
            "minute" => period = Period::Minute,
            "day" => period = Period::Day,
            // A project's share of its organisation's limit binds as well.
            "project" => {}
            _ => return None,
        }
    }
    field.map(|field| Place {
        pool,
        period,
        field,
    })
}

/// The limits as they are put together, by pool and period.
#[derive(Debug, Default)]
struct Limits([[Quota; 4]; 4]);

impl Limits {
    fn set(&mut self, place: Place, value: &str, now_ms: u64) {
        let quota = &mut self.0[place.pool as usize][place.period as usize];
        match place.field {
            Field::Limit => {
                let limit = amount(value).filter(|limit| *limit > 0);
                quota.limit = least(quota.limit, limit);
            }
            Field::Remaining => quota.remaining = least(quota.remaining, amount(value)),
            Field::Reset => quota.resets_in = quota.resets_in.max(moment::until(value, now_ms)),
        }
    }

    fn hand_over(self, news: &mut RateNews) {
        for pool in [Pool::Requests, Pool::Tokens, Pool::Input, Pool::Output] {
            for period in [Period::Unnamed, Period::Second, Period::Minute, Period::Day] {
                let mut quota = self.0[pool as usize][period as usize];
                if quota.limit.is_none() && quota.remaining.is_none() {
                    continue;
                }
                quota.remaining = least(quota.remaining, quota.remaining.and(quota.limit));
                quota.window = match period {
                    Period::Second => Some(SECOND),
                    Period::Minute => Some(MINUTE),
                    Period::Day => Some(DAY),
                    Period::Unnamed => window(&quota),
                };
                let daily = quota.window == Some(DAY);
                let slot = match (pool, daily) {
                    (Pool::Requests, false) => &mut news.requests,
                    (Pool::Requests, true) => &mut news.requests_day,
                    (Pool::Tokens, false) => &mut news.tokens,
                    (Pool::Tokens, true) => &mut news.tokens_day,
                    (Pool::Input, false) => &mut news.input_tokens,
                    (Pool::Output, false) => &mut news.output_tokens,
                    // Nobody counts the two kinds apart by the day.
                    (Pool::Input | Pool::Output, true) => continue,
                };
                *slot = Some(slot.map_or(quota, |other| other.stricter(quota)));
            }
        }
    }
}

/// The window of a limit whose name does not tell it: OpenAI's are per minute or, on small accounts, per day; Groq's
/// requests are per day. Both refill continuously, so the window is the reset time scaled from what is used to all of it:
/// with 14,370 of 14,400 left and whole again in 179.56 s it is 86,189 s. A window that jumps (OpenRouter's,
/// Together's) can seem to be anything and is taken for a day only when it is surely longer than a minute.
fn window(quota: &Quota) -> Option<Duration> {
    let (limit, resets_in) = (quota.limit?, quota.resets_in.unwrap_or_default());
    if resets_in > SURELY_DAY {
        return Some(DAY);
    }
    let used = limit - quota.remaining.unwrap_or(limit).min(limit);
    if used == 0 || resets_in.is_zero() {
        return None;
    }
    let scaled = resets_in.as_secs_f64() * limit as f64 / used as f64;
    let is = |window: Duration| (scaled / window.as_secs_f64() - 1.0).abs() < 0.03;
    [MINUTE, DAY].into_iter().find(|one| is(*one))
}

impl Quota {
    /// The stricter of two views of one limit: a spent one, else the one that lets less pass over time.
    pub(super) fn stricter(self, other: Self) -> Self {
        let strictness = |quota: &Quota| {
            let window = quota.window.unwrap_or(MINUTE).as_secs_f64();
            let rate = quota.limit.map_or(f64::MAX, |limit| limit as f64 / window);
            (quota.remaining != Some(0), rate)
        };
        if strictness(&other) < strictness(&self) {
            other
        } else {
            self
        }
    }
}

/// Claude's subscriptions: statuses `allowed`, `allowed_warning`, `rejected`; moments in seconds since 1970; fractions.
fn claude_plan(plan: &mut Plan, rest: &str, value: &str, now_ms: u64) {
    let reset = || moment::until_epoch_seconds(value, now_ms);
    let window = |slot: &mut Option<PlanWindow>, hours: u64| {
        let window = slot.get_or_insert_default();
        window.window = Some(Duration::from_secs(hours * 3600));
        window.set(rest, value, 1e6, reset());
    };
    match rest {
        "status" => plan.rejected |= value == "rejected",
        "reset" => plan.resets_in = reset(),
        "5h-reset" | "5h-utilization" => window(&mut plan.short, 5),
        "7d-reset" | "7d-utilization" => window(&mut plan.long, 7 * 24),
        _ => {}
    }
}

/// ChatGPT's, as Codex reads them: percents, minutes, moments in seconds since 1970.
fn codex_plan(plan: &mut Plan, rest: &str, value: &str, now_ms: u64) {
    let (slot, field) = if let Some(field) = rest.strip_prefix("primary-") {
        (&mut plan.short, field)
    } else if let Some(field) = rest.strip_prefix("secondary-") {
        (&mut plan.long, field)
    } else {
        return;
    };
    match field {
        "used-percent" | "reset-at" => {
            let reset = moment::until_epoch_seconds(value, now_ms);
            slot.get_or_insert_default().set(field, value, 1e4, reset);
        }
        "window-minutes" => {
            let minutes = amount(value).filter(|minutes| *minutes > 0);
            let window = minutes.map(|minutes| Duration::from_secs(minutes * 60));
            slot.get_or_insert_default().window = window.map(|window| window.min(super::MAX_WAIT));
        }
        _ => {}
    }
}

impl PlanWindow {
    /// Takes over a field by the end of its name; `ppm` is how many millionths one of its units is.
    fn set(&mut self, name: &str, value: &str, ppm: f64, reset: Option<Duration>) {
        if name.ends_with("utilization") || name.ends_with("percent") {
            let used = value.trim().parse().unwrap_or(0.0_f64) * ppm;
            // Also for what is no number: NaN becomes 0.
            self.used_ppm = used.clamp(0.0, 10e6) as u32;
        } else {
            self.resets_in = reset;
        }
    }
}

/// A count: whole, or a decimal that is cut. Azure sends -1 for what it does not know.
fn amount(text: &str) -> Option<u64> {
    let text = text.trim();
    let whole = text.split_once('.').map_or(text, |(whole, _)| whole);
    if whole.is_empty() || !whole.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    Some(whole.parse().unwrap_or(u64::MAX).min(MAX_AMOUNT))
}

fn least(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
