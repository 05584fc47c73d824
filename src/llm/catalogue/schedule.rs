//! Which of a model's prices hold at a moment: off-peak hours and announced changes, in UTC.

use super::tariff::Tariff;

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
