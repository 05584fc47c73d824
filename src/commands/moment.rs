//! Moments as they are written on the command line, in the time zone that is asked for.

use anyhow::Context as _;
use jiff::tz::TimeZone;

/// The zone of `--tz`, else the local one.
///
/// # Errors
///
/// When there is no such zone.
pub(super) fn zone(name: Option<&str>) -> anyhow::Result<TimeZone> {
    match name {
        Some(name) => {
            TimeZone::get(name).map_err(|_| anyhow::anyhow!("--tz: {name:?} is no time zone"))
        }
        None => Ok(TimeZone::system()),
    }
}

/// The moment that the value of a flag means, in Unix milliseconds.
///
/// # Errors
///
/// When it cannot be read; the flag is named.
pub(super) fn of_flag(
    flag: &'static str,
    text: Option<&str>,
    now_unix_ms: u64,
    zone: &TimeZone,
) -> anyhow::Result<Option<u64>> {
    let moment = text.map(|text| moment(text, now_unix_ms, zone));
    moment
        .transpose()
        .with_context(|| format!("{flag} cannot be read"))
}

/// Reads `24h`, `7d`, `2026-11-01` or `2026-11-01T14:00` as Unix milliseconds.
fn moment(text: &str, now_unix_ms: u64, zone: &TimeZone) -> anyhow::Result<u64> {
    if let Ok(ago) = humantime::parse_duration(text) {
        let ago = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
        return Ok(now_unix_ms.saturating_sub(ago));
    }
    let date: jiff::civil::DateTime = text
        .parse()
        .map_err(|_| anyhow::anyhow!("{text:?} is no time: 24h, 7d or 2026-11-01 expected"))?;
    let moment = date.to_zoned(zone.clone())?.timestamp().as_millisecond();
    Ok(u64::try_from(moment).unwrap_or(0))
}

/// A moment as people read it, to the second.
pub(super) fn text(unix_ms: u64, zone: &TimeZone) -> String {
    let moment = i64::try_from(unix_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    moment.map_or_else(
        || "?".to_owned(),
        |moment| {
            let local = moment.to_zoned(zone.clone());
            local.strftime("%Y-%m-%d %H:%M:%S").to_string()
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_dates_are_read_and_other_texts_are_named() {
        let berlin = zone(Some("Europe/Berlin")).expect("a known zone");
        let read = |text| of_flag("--since", Some(text), 1_795_000_000_000, &berlin);
        assert_eq!(read("24h").ok(), Some(Some(1_795_000_000_000 - 86_400_000)));
        let midnight = read("2026-11-01").expect("readable").expect("a moment");
        assert_eq!(midnight, 1_793_487_600_000, "midnight in Berlin");
        assert_eq!(super::text(midnight, &berlin), "2026-11-01 00:00:00");
        let error = format!("{:#}", read("tomorrow").expect_err("no time"));
        assert!(error.starts_with("--since cannot be read"), "{error}");
        assert!(error.contains("\"tomorrow\" is no time"), "{error}");
        assert!(zone(Some("Mars/Base")).is_err());
    }
}
