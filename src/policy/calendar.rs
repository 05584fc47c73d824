//! Decides when the calendar months of a time zone begin and end.
//!
//! A month begins at local midnight: the first of two if the clock is set back then, and where there is none because the
//! clock is set forward over it, when it would have been. What the clock repeats of the month before belongs to the new
//! one: a month never comes back.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

/// The months of one time zone.
#[derive(Debug, Clone)]
pub struct Calendar {
    zone: TimeZone,
}

/// One calendar month, from its first millisecond to the first of the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Month {
    /// Its first instant, in Unix milliseconds.
    pub begins_ms: u64,
    /// The first instant that is not in it, in Unix milliseconds.
    pub ends_ms: u64,
}

impl Calendar {
    /// The months as they are counted in a time zone.
    pub const fn new(zone: TimeZone) -> Self {
        Self { zone }
    }

    /// The month that an instant (Unix milliseconds) lies in. The last month of the calendar, in the year 9999, never ends.
    pub fn month_of(&self, at_ms: u64) -> Month {
        let at = i64::try_from(at_ms)
            .ok()
            .and_then(|at| Timestamp::from_millisecond(at).ok())
            .unwrap_or(Timestamp::MAX);
        let first = self.zone.to_datetime(at).date().first_of_month();
        let (begins, ends) = (self.begins(first, 0), self.begins(first, 1));
        // A clock that is set over the midnight between two months lets the local date differ from the month.
        let (begins_ms, ends_ms) = if at_ms < begins {
            (self.begins(first, -1), begins)
        } else if at_ms >= ends {
            (ends, self.begins(first, 2))
        } else {
            (begins, ends)
        };
        Month { begins_ms, ends_ms }
    }

    /// When the month begins that is so many months after the one of `first`: 0 before 1970, the largest number when the
    /// calendar is at its end.
    fn begins(&self, first: Date, months_later: i32) -> u64 {
        first
            .checked_add(Span::new().months(months_later))
            .and_then(|first| {
                let midnight = first.at(0, 0, 0, 0);
                self.zone.to_ambiguous_timestamp(midnight).compatible()
            })
            .map_or(u64::MAX, |at| {
                u64::try_from(at.as_millisecond()).unwrap_or_default()
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calendar(zone: &str) -> Calendar {
        Calendar::new(TimeZone::get(zone).expect("a known zone"))
    }

    fn ms(instant: &str) -> u64 {
        let at: Timestamp = instant.parse().expect("an instant");
        u64::try_from(at.as_millisecond()).expect("after 1970")
    }

    #[test]
    fn a_month_begins_at_local_midnight() {
        for (zone, at, begins, ends) in [
            (
                "UTC",
                "2026-02-28T23:59:59.999Z",
                "2026-02-01T00:00:00Z",
                "2026-03-01T00:00:00Z",
            ),
            (
                "UTC",
                "2026-03-01T00:00:00Z",
                "2026-03-01T00:00:00Z",
                "2026-04-01T00:00:00Z",
            ),
            // Summer time begins inside March and ends inside October.
            (
                "Europe/Berlin",
                "2026-03-15T12:00:00Z",
                "2026-02-28T23:00:00Z",
                "2026-03-31T22:00:00Z",
            ),
            (
                "Europe/Berlin",
                "2026-10-31T22:59:59Z",
                "2026-09-30T22:00:00Z",
                "2026-10-31T23:00:00Z",
            ),
            // Offsets of 5:45, 5:30 and -3:30 hours.
            (
                "Asia/Kathmandu",
                "2026-06-30T18:15:00Z",
                "2026-06-30T18:15:00Z",
                "2026-07-31T18:15:00Z",
            ),
            (
                "Asia/Kolkata",
                "2026-06-30T18:29:59Z",
                "2026-05-31T18:30:00Z",
                "2026-06-30T18:30:00Z",
            ),
            (
                "America/St_Johns",
                "2026-01-15T00:00:00Z",
                "2026-01-01T03:30:00Z",
                "2026-02-01T03:30:00Z",
            ),
        ] {
            let month = Month {
                begins_ms: ms(begins),
                ends_ms: ms(ends),
            };
            assert_eq!(calendar(zone).month_of(ms(at)), month, "{at} in {zone}");
        }
    }

    #[test]
    fn february_has_29_days_in_leap_years_only() {
        const DAY_MS: u64 = 86_400_000;
        for (year, days) in [(2024, 29), (2026, 28), (2028, 29), (2100, 28), (2400, 29)] {
            let month = calendar("UTC").month_of(ms(&format!("{year}-02-10T00:00:00Z")));
            assert_eq!(month.ends_ms - month.begins_ms, days * DAY_MS, "{year}");
        }
    }

    #[test]
    fn months_follow_one_another_without_gap_or_overlap_in_every_kind_of_zone() {
        for zone in [
            "UTC",
            "Europe/Berlin",
            "America/New_York",
            "Australia/Lord_Howe",
            "Asia/Kathmandu",
            "Pacific/Chatham",
            // Clocks were set over the midnight of a month's first day here.
            "America/Sao_Paulo",
            "Asia/Amman",
            "America/Toronto",
            "Africa/Cairo",
            "America/Asuncion",
            "Antarctica/Casey",
        ] {
            let calendar = calendar(zone);
            let mut month = calendar.month_of(0);
            assert_eq!(month.begins_ms, 0, "nothing is before 1970");
            for _ in 0..12 * 60 {
                let next = calendar.month_of(month.ends_ms);
                assert_eq!(next.begins_ms, month.ends_ms, "{zone}");
                // Around the border no instant falls into a third month.
                for minutes in [1, 15, 30, 31, 60, 61, 120] {
                    let apart = minutes * 60_000;
                    assert_eq!(calendar.month_of(month.ends_ms - apart), month, "{zone}");
                    assert_eq!(calendar.month_of(month.ends_ms + apart), next, "{zone}");
                }
                month = next;
            }
        }
    }

    #[test]
    fn a_clock_that_is_set_over_the_midnight_between_two_months_ends_a_month_once() {
        // Set forward on 28 February at 23:30, and back on 1 July at 00:30 to 30 June 23:30.
        let zone = TimeZone::posix("AAA0BBB,J59/23:30,J182/0:30").expect("a rule");
        let calendar = Calendar::new(zone);
        for (begins, last_before, repeated) in [
            (
                "2026-06-30T23:00:00Z",
                "2026-06-30T22:59:59.999Z",
                "2026-06-30T23:45:00Z",
            ),
            (
                "2026-03-01T00:00:00Z",
                "2026-02-28T23:45:00Z",
                "2026-03-01T00:00:00Z",
            ),
        ] {
            assert_eq!(calendar.month_of(ms(begins)).begins_ms, ms(begins));
            assert_eq!(calendar.month_of(ms(last_before)).ends_ms, ms(begins));
            assert_eq!(calendar.month_of(ms(repeated)).begins_ms, ms(begins));
        }
    }

    #[test]
    fn the_end_of_the_calendar_is_no_error() {
        for zone in ["UTC", "Pacific/Kiritimati", "Pacific/Niue"] {
            let month = calendar(zone).month_of(u64::MAX);
            assert_eq!(month.ends_ms, u64::MAX, "{zone}");
            assert!(month.begins_ms > ms("9999-11-29T00:00:00Z"), "{zone}");
        }
    }
}
