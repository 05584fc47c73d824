//! Reads points and spans of time in each way that providers write them, as the time that is left from now.
//!
//! What is no time gives `None`; what is past gives zero; what is further away than [`MAX_WAIT`] gives that.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;

use super::MAX_WAIT;

/// From this number on a plain number is a moment in seconds since 1970 (it is one of 2001), not a span.
const EPOCH_SECONDS: f64 = 1e9;
/// From this number on it is a moment in milliseconds (it is one of 1973).
const EPOCH_MILLIS: f64 = 1e11;

/// Longest text that is looked at for a time, in bytes.
const MAX_TEXT: usize = 4096;

/// The value of a reset header: seconds, a moment in seconds or milliseconds since 1970, a Go duration, RFC 3339 or an
/// HTTP date.
pub(super) fn until(text: &str, now_ms: u64) -> Option<Duration> {
    let text = text.trim();
    if let Some(number) = number(text) {
        return Some(if number >= EPOCH_MILLIS {
            until_ms(number, now_ms)
        } else if number >= EPOCH_SECONDS {
            until_ms(number * 1000.0, now_ms)
        } else {
            seconds(number)
        });
    }
    span(text).or_else(|| date(text, now_ms))
}

/// The value of `retry-after`: seconds, whole or not, or an HTTP date. A large number stays a number of seconds.
pub(super) fn after(text: &str, now_ms: u64) -> Option<Duration> {
    let text = text.trim();
    let plain = number(text).map(seconds);
    plain.or_else(|| span(text)).or_else(|| date(text, now_ms))
}

/// A plain number of milliseconds.
pub(super) fn millis(text: &str) -> Option<Duration> {
    number(text.trim()).map(|number| seconds(number / 1000.0))
}

/// A moment in seconds since 1970.
pub(super) fn until_epoch_seconds(text: &str, now_ms: u64) -> Option<Duration> {
    number(text.trim()).map(|number| until_ms(number * 1000.0, now_ms))
}

/// A span and nothing else, as Go and Google write it: `1h2m3.5s`, `6m0s`, `120ms`, `37s`.
pub(super) fn span(text: &str) -> Option<Duration> {
    let (span, rest) = leading_span(text.trim())?;
    rest.is_empty().then_some(span)
}

/// The longest wait that a sentence asks for: `Please try again in 6m0s.`, `Please retry after 8 seconds.`
pub(super) fn in_sentence(text: &str) -> Option<Duration> {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = text[..end].to_ascii_lowercase();
    [
        "try again in ",
        "retry in ",
        "try again after ",
        "retry after ",
    ]
    .iter()
    .flat_map(|phrase| text.match_indices(phrase))
    .filter_map(|(at, phrase)| leading_span(&text[at + phrase.len()..]))
    .map(|(span, _)| span)
    .max()
}

/// Spans one after another, and what follows them.
fn leading_span(text: &str) -> Option<(Duration, &str)> {
    let (mut total, mut rest) = (None, text);
    while let Some((span, after)) = one_span(rest) {
        total = Some(bounded(
            total.map_or(span, |total: Duration| total.saturating_add(span)),
        ));
        rest = after;
    }
    total.map(|total| (total, rest))
}

/// A number and its unit, with at most one space between.
fn one_span(text: &str) -> Option<(Duration, &str)> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let amount = number(&text[..digits])?;
    let rest = &text[digits..];
    let rest = rest.strip_prefix(' ').unwrap_or(rest);
    let letters = rest
        .find(|c: char| !c.is_alphabetic())
        .unwrap_or(rest.len());
    let unit = match &rest[..letters] {
        "ns" => 1e-9,
        "us" | "µs" | "μs" => 1e-6,
        "ms" | "millisecond" | "milliseconds" => 1e-3,
        "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86_400.0,
        _ => return None,
    };
    Some((seconds(amount * unit), &rest[letters..]))
}

/// A moment as RFC 3339 or as an HTTP date.
fn date(text: &str, now_ms: u64) -> Option<Duration> {
    // Servers that get the day of the week wrong still mean the date.
    let http_date = || {
        rfc2822::DateTimeParser::new()
            .relaxed_weekday(true)
            .parse_timestamp(text)
    };
    let moment = text.parse::<Timestamp>().or_else(|_| http_date()).ok()?;
    Some(until_ms(moment.as_millisecond() as f64, now_ms))
}

/// A number of at least 0, without a sign or an exponent. One that is too large to be told is infinite.
fn number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|c| c.is_ascii_digit() || c == b'.')
        && text.starts_with(|c: char| c.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

fn until_ms(moment_ms: f64, now_ms: u64) -> Duration {
    // Exact: both are far below 2^53.
    seconds((moment_ms - now_ms as f64).max(0.0) / 1000.0)
}

fn seconds(seconds: f64) -> Duration {
    bounded(Duration::try_from_secs_f64(seconds).unwrap_or(MAX_WAIT))
}

fn bounded(span: Duration) -> Duration {
    span.min(MAX_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-21 12:00:00 UTC.
    const NOW: u64 = 1_795_262_400_000;

    fn ms(millis: u64) -> Option<Duration> {
        Some(Duration::from_millis(millis))
    }

    #[test]
    fn reset_headers_are_read_in_every_way_they_are_written() {
        for (text, expected) in [
            ("1s", ms(1000)),
            ("6m0s", ms(360_000)),
            ("120ms", ms(120)),
            ("4µs", Some(Duration::from_micros(4))),
            ("1h2m3.5s", ms(3_723_500)),
            ("2m59.56s", ms(179_560)),
            ("1d2h", ms(93_600_000)),
            ("0s", ms(0)),
            ("17", ms(17_000)),
            (" 7.66 ", ms(7660)),
            (
                "33011.382867",
                Some(Duration::from_nanos(33_011_382_867_000)),
            ),
            ("1795262417", ms(17_000)),
            ("1795262417500", ms(17_500)),
            ("2026-11-21T12:00:17Z", ms(17_000)),
            ("2026-11-21T13:00:17.5+01:00", ms(17_500)),
            ("Sat, 21 Nov 2026 12:00:17 GMT", ms(17_000)),
            ("Mon, 21 Nov 2026 12:00:17 GMT", ms(17_000)),
            // Past.
            ("2026-11-21T11:00:00Z", ms(0)),
            ("1795000000", ms(0)),
            ("1000000000000", ms(0)),
            // Far.
            ("2126-11-21T11:00:00Z", Some(MAX_WAIT)),
            ("99999d", Some(MAX_WAIT)),
            ("9999999999999999999999999999", Some(MAX_WAIT)),
        ] {
            assert_eq!(until(text, NOW), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            " ",
            "-1",
            "-1s",
            "+5",
            "soon",
            "NaN",
            "inf",
            "1e3",
            "1.2.3",
            ".5",
            "5 apples",
            "1s1",
            "5 m s",
            "2026-13-45T99:00:00Z",
            "Sat, 99 Nov 2026",
            "０",
            "1s ",
            "\u{0}",
            "0x10",
        ] {
            let expected = (text == "1s ").then_some(Duration::from_secs(1));
            assert_eq!(until(text, NOW), expected, "{text:?}");
            assert_eq!(after(text, NOW), expected, "{text:?}");
        }
        assert_eq!(millis("-5"), None);
    }

    #[test]
    fn retry_after_is_seconds_however_many() {
        for (text, expected) in [
            ("17", ms(17_000)),
            ("0.25", ms(250)),
            ("1795262417", Some(MAX_WAIT)),
            ("1000000000000", Some(MAX_WAIT)),
            ("Sat, 21 Nov 2026 12:00:17 GMT", ms(17_000)),
            ("Sat, 21 Nov 2020 12:00:17 GMT", ms(0)),
        ] {
            assert_eq!(after(text, NOW), expected, "{text}");
        }
        let huge = "9".repeat(500);
        assert_eq!(after(&huge, NOW), Some(MAX_WAIT));
    }

    #[test]
    fn sentences_name_their_wait() {
        for (text, expected) in [
            ("Please try again in 960ms. Visit the dashboard.", ms(960)),
            ("Please try again in 11.054s.", ms(11_054)),
            ("Please try again in 6m0s.", ms(360_000)),
            (
                "have exceeded token rate limit. Please retry after 8 seconds.",
                ms(8000),
            ),
            ("Please retry after 1 second.", ms(1000)),
            (
                "You exceeded your current quota. Please retry in 37.41s.",
                ms(37_410),
            ),
            ("TRY AGAIN IN 2 MINUTES", ms(120_000)),
            ("try again in 1s or try again in 3s", ms(3000)),
            ("please try again in 5.", None),
            ("please try again in -5s", None),
            ("please try again in a moment", None),
            ("try again in ", None),
            ("", None),
        ] {
            assert_eq!(in_sentence(text), expected, "{text}");
        }
        // Cut in the middle of a character.
        assert_eq!(in_sentence(&"é".repeat(4000)), None);
        let late = format!("{}try again in 5s", "x".repeat(MAX_TEXT));
        assert_eq!(in_sentence(&late), None);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_or_goes_beyond_the_bounds(text in "\\PC{0,40}", digits in "[0-9.hmsdnµ :TZ+-]{0,30}", now in 0..u64::MAX) {
            for text in [text, digits] {
                for span in [until(&text, now), after(&text, now), millis(&text), in_sentence(&text), until_epoch_seconds(&text, now)] {
                    proptest::prop_assert!(span.is_none_or(|span| span <= MAX_WAIT));
                }
            }
        }
    }
}
