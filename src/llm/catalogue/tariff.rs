//! Prices ready for use: every fallback of a kind of token to another has been applied, so that pricing a request is
//! choosing one row and multiplying.

use serde::Deserialize;

use super::entry::Cells;

/// A kind of token with a price of its own. Every token of a request is of exactly one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(
    missing_docs,
    reason = "the catalogue's own names, explained in config/models.README.md"
)]
pub enum Kind {
    Input,
    Output,
    CacheRead,
    CacheWrite5m,
    CacheWrite1h,
    CacheWrite12h,
    ReasoningOutput,
    AudioIn,
    AudioOut,
    AudioCacheRead,
    ImageIn,
    ImageOut,
    ImageCacheRead,
    VideoIn,
    VideoOut,
}

impl Kind {
    /// How many kinds there are.
    pub const COUNT: usize = 15;

    /// Every kind, in the order of its cell.
    pub const ALL: [Kind; Kind::COUNT] = [
        Kind::Input,
        Kind::Output,
        Kind::CacheRead,
        Kind::CacheWrite5m,
        Kind::CacheWrite1h,
        Kind::CacheWrite12h,
        Kind::ReasoningOutput,
        Kind::AudioIn,
        Kind::AudioOut,
        Kind::AudioCacheRead,
        Kind::ImageIn,
        Kind::ImageOut,
        Kind::ImageCacheRead,
        Kind::VideoIn,
        Kind::VideoOut,
    ];

    /// Its name in the catalogue.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Input => "input",
            Kind::Output => "output",
            Kind::CacheRead => "cache_read",
            Kind::CacheWrite5m => "cache_write_5m",
            Kind::CacheWrite1h => "cache_write_1h",
            Kind::CacheWrite12h => "cache_write_12h",
            Kind::ReasoningOutput => "reasoning_output",
            Kind::AudioIn => "audio_in",
            Kind::AudioOut => "audio_out",
            Kind::AudioCacheRead => "audio_cache_read",
            Kind::ImageIn => "image_in",
            Kind::ImageOut => "image_out",
            Kind::ImageCacheRead => "image_cache_read",
            Kind::VideoIn => "video_in",
            Kind::VideoOut => "video_out",
        }
    }
}

/// How a request is served and billed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// The ordinary way.
    #[default]
    #[serde(skip)]
    Standard,
    /// Later, in bulk.
    Batch,
    /// When there is room.
    Flex,
    /// Before others.
    Priority,
    /// With more speed (Anthropic's fast mode).
    Fast,
    /// With still more (OpenAI).
    Ultrafast,
}

impl Service {
    /// Its name in the catalogue and in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Service::Standard => "standard",
            Service::Batch => "batch",
            Service::Flex => "flex",
            Service::Priority => "priority",
            Service::Fast => "fast",
            Service::Ultrafast => "ultrafast",
        }
    }
}

/// What every kind of token costs, in atto-dollars a token, once fallbacks are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rates([u64; Kind::COUNT]);

/// The cell of a kind that has no price and nothing to fall back to.
const UNPRICED: u64 = u64::MAX;

impl Rates {
    /// Applies the fallbacks.
    ///
    /// Cache reads and writes without a price cost what input costs; writes of an hour or twelve first try the
    /// five-minute price. Audio, images and video cost what text costs. A cached audio or image token without a price
    /// of its own costs what a cached text token costs if the kind costs the same as text when it is not cached;
    /// otherwise nothing says that it is discounted, and it costs its full uncached price.
    pub(crate) fn from_cells(cells: &Cells) -> Self {
        use Kind::{
            AudioCacheRead, AudioIn, AudioOut, CacheRead, CacheWrite1h, CacheWrite5m,
            CacheWrite12h, ImageCacheRead, ImageIn, ImageOut, Input, Output, ReasoningOutput,
            VideoIn, VideoOut,
        };
        let cell = |kind, fallback| {
            cells
                .get(kind)
                .map_or(fallback, |rate| rate.attos_per_token())
        };
        let input = cell(Input, UNPRICED);
        let output = cell(Output, UNPRICED);
        let cache_read = cell(CacheRead, input);
        let write_5m = cell(CacheWrite5m, input);
        let cached_like = |uncached: u64| {
            if uncached == input {
                cache_read
            } else {
                uncached
            }
        };
        let audio_in = cell(AudioIn, input);
        let image_in = cell(ImageIn, input);
        Self(Kind::ALL.map(|kind| match kind {
            Input => input,
            Output => output,
            CacheRead => cache_read,
            CacheWrite5m => write_5m,
            CacheWrite1h | CacheWrite12h => cell(kind, write_5m),
            AudioIn => audio_in,
            ImageIn => image_in,
            VideoIn => cell(kind, input),
            ReasoningOutput | AudioOut | ImageOut | VideoOut => cell(kind, output),
            AudioCacheRead => cell(kind, cached_like(audio_in)),
            ImageCacheRead => cell(kind, cached_like(image_in)),
        }))
    }

    /// The price of a kind in atto-dollars a token; `None` if it is not known.
    pub(crate) fn get(&self, kind: Kind) -> Option<u64> {
        let rate = self.0[kind as usize];
        (rate != UNPRICED).then_some(rate)
    }
}

/// Prices by prompt size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ladder {
    /// For prompts that exceed no threshold.
    pub(crate) base: Rates,
    /// For prompts with more tokens than the threshold; ascending.
    pub(crate) steps: Box<[(u64, Rates)]>,
}

impl Ladder {
    /// The prices of a request with that many prompt tokens, and the threshold that it exceeded.
    pub(crate) fn at(&self, prompt_tokens: u64) -> (&Rates, Option<u64>) {
        self.steps
            .iter()
            .rev()
            .find(|(above, _)| prompt_tokens > *above)
            .map_or((&self.base, None), |(above, rates)| (rates, Some(*above)))
    }
}

/// The prices of all service tiers in one period of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tariff {
    pub(crate) standard: Ladder,
    pub(crate) services: Box<[(Service, Ladder)]>,
}

impl Tariff {
    /// The prices of a service tier, if the model has it.
    pub(crate) fn service(&self, wanted: Service) -> Option<&Ladder> {
        if wanted == Service::Standard {
            return Some(&self.standard);
        }
        self.services
            .iter()
            .find(|(service, _)| *service == wanted)
            .map(|(_, ladder)| ladder)
    }
}

/// All token prices of a model over time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schedule {
    pub(crate) current: Tariff,
    /// What holds instead at some times. Boxed, as few models have it.
    pub(crate) other: Option<Box<Other>>,
}

/// Prices that hold at some times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Other {
    /// In these hours.
    OffPeak(Vec<Window>, Tariff),
    /// From this moment on (Unix milliseconds).
    From(u64, Tariff),
}

/// Which of a model's prices hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Period {
    /// The catalogue's standard prices; the peak prices where the hour matters.
    #[default]
    Current,
    /// The cheap hours.
    OffPeak,
    /// An announced change that has come into force.
    Upcoming,
}

impl Schedule {
    /// The prices that hold at a moment.
    pub(crate) fn at(&self, unix_ms: u64) -> (&Tariff, Period) {
        match self.other.as_deref() {
            Some(Other::OffPeak(windows, tariff))
                if windows.iter().any(|window| window.holds(unix_ms)) =>
            {
                (tariff, Period::OffPeak)
            }
            Some(Other::From(from, tariff)) if unix_ms >= *from => (tariff, Period::Upcoming),
            _ => (&self.current, Period::Current),
        }
    }
}

const MINUTE_MS: u64 = 60_000;
const MINUTES_PER_DAY: u64 = 1_440;

/// A span of minutes within one day, on certain days of the week, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// Bit 0 is Monday.
    weekdays: u8,
    from_minute: u64,
    /// Exclusive; 1,440 is midnight.
    to_minute: u64,
}

impl Window {
    /// Reads a span such as `10:00-12:30` for a set of days; one that runs past midnight becomes two, the second on
    /// the days after. An end of `00:00` is the midnight that ends the day. `None` if it makes no sense.
    pub(crate) fn parse(iso_weekdays: &[u8], hours: &str) -> Option<Vec<Window>> {
        let mut weekdays = 0_u8;
        for day in iso_weekdays {
            if !(1..=7).contains(day) {
                return None;
            }
            weekdays |= 1 << (day - 1);
        }
        let (from, to) = hours.split_once('-')?;
        let (from, to) = (minute_of_day(from)?, minute_of_day(to)?);
        let window = |weekdays, from_minute, to_minute| Window {
            weekdays,
            from_minute,
            to_minute,
        };
        if to == 0 {
            return Some(vec![window(weekdays, from, MINUTES_PER_DAY)]);
        }
        if from < to {
            return Some(vec![window(weekdays, from, to)]);
        }
        let next_days = (weekdays << 1 | weekdays >> 6) & 0b111_1111;
        Some(vec![
            window(weekdays, from, MINUTES_PER_DAY),
            window(next_days, 0, to),
        ])
    }

    fn holds(&self, unix_ms: u64) -> bool {
        let minutes = unix_ms / MINUTE_MS;
        let (day, minute) = (minutes / MINUTES_PER_DAY, minutes % MINUTES_PER_DAY);
        // The first of January 1970 was a Thursday: bit 3.
        let weekday = (day + 3) % 7;
        self.weekdays >> weekday & 1 == 1 && (self.from_minute..self.to_minute).contains(&minute)
    }
}

fn minute_of_day(text: &str) -> Option<u64> {
    let (hour, minute) = text.split_once(':')?;
    let (hour, minute) = (hour.parse::<u64>().ok()?, minute.parse::<u64>().ok()?);
    (hour < 24 && minute < 60).then_some(hour * 60 + minute)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 60 * MINUTE_MS;
    /// 2026-11-23, a Monday, at midnight UTC.
    const MONDAY: u64 = 1_795_392_000_000;

    fn holds(days: &[u8], hours: &str, at: u64) -> bool {
        Window::parse(days, hours)
            .expect("a valid span")
            .iter()
            .any(|window| window.holds(at))
    }

    #[test]
    fn a_span_includes_its_start_and_not_its_end() {
        assert!(holds(&[1], "04:00-06:00", MONDAY + 4 * HOUR_MS));
        assert!(!holds(&[1], "04:00-06:00", MONDAY + 4 * HOUR_MS - 1));
        assert!(holds(&[1], "04:00-06:00", MONDAY + 6 * HOUR_MS - 1));
        assert!(!holds(&[1], "04:00-06:00", MONDAY + 6 * HOUR_MS));
        assert!(
            !holds(&[2], "04:00-06:00", MONDAY + 4 * HOUR_MS),
            "Monday is day 1"
        );
    }

    #[test]
    fn a_span_to_midnight_ends_with_the_day_and_zero_to_zero_is_all_of_it() {
        assert!(holds(&[1], "10:00-00:00", MONDAY + 24 * HOUR_MS - 1));
        assert!(!holds(&[1], "10:00-00:00", MONDAY + 24 * HOUR_MS));
        assert!(holds(&[1], "00:00-00:00", MONDAY));
        assert!(holds(&[1], "00:00-00:00", MONDAY + 12 * HOUR_MS));
        assert!(!holds(&[1], "00:00-00:00", MONDAY - 1));
    }

    #[test]
    fn a_span_past_midnight_goes_on_the_day_after() {
        assert!(holds(&[7], "22:00-02:00", MONDAY + HOUR_MS), "Sunday night");
        assert!(!holds(&[1], "22:00-02:00", MONDAY + HOUR_MS));
        assert!(holds(&[1], "22:00-02:00", MONDAY + 25 * HOUR_MS));
    }

    #[test]
    fn senseless_spans_are_refused() {
        for (days, hours) in [
            (&[0_u8][..], "00:00-01:00"),
            (&[8], "00:00-01:00"),
            (&[1], "24:00-01:00"),
            (&[1], "00:60-01:00"),
            (&[1], "00:00"),
            (&[1], "a-b"),
        ] {
            assert_eq!(Window::parse(days, hours), None, "{days:?} {hours}");
        }
    }
}
