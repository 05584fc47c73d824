//! Settings that are amounts: limits with their unit, shares of a limit, counts, prices. All are read exactly, digit by
//! digit; what is negative, zero, absurd or not a number is refused.

use super::scalar::{Base, Raw, Refused, Setting};
use crate::policy::budget::Limit;
use crate::policy::throttle::Share;
use crate::units::Cost;

/// Most tokens or requests: more than anybody uses, and far from where sums of a window would overflow.
const MOST: u64 = 1_000_000_000_000_000;

/// Most US dollars of a limit.
const MOST_USD: u64 = 1_000_000_000;

/// Most US dollars for a million tokens: a dollar a token.
const DEAREST_USD: u64 = 1_000_000;

/// Decimals that money can have.
const DECIMALS: usize = 18;

const UNITS: &str = "the units are tokens, usd (or $ in front) and requests";

const NO_LIMIT: &str = "for no limit switch the budget off: enabled = false";

/// A decimal number as it was written: `100_000`, `100,000`, `0.50`, `-1`.
struct Written {
    negative: bool,
    /// Digits without leading zeros; empty for 0.
    whole: String,
    /// Digits without trailing zeros.
    fraction: String,
    /// Whether there was a point.
    pointed: bool,
}

impl Written {
    fn read(text: &str) -> Result<Self, Refused> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, fraction) = match digits.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (digits, None),
        };
        if whole.contains(',') && !is_grouped(whole) {
            return Err(Refused::Mend(
                "has a comma that does not separate three digits from three digits".into(),
                "a comma is not a decimal point here: write 100,000 or 100_000 or 100000, and 0.50",
            ));
        }
        let is_apart =
            |part: &str| !part.starts_with('_') && !part.ends_with('_') && !part.contains("__");
        let plain = |part: &str| part.replace([',', '_'], "");
        let (whole, fraction, pointed) = match fraction {
            Some(fraction)
                if fraction.is_empty() || !is_apart(fraction) || fraction.contains(',') =>
            {
                return Err(Refused::Kind);
            }
            Some(fraction) => (whole, fraction, true),
            None => (whole, "", false),
        };
        let digits_only = |part: &str| {
            part.bytes()
                .all(|b| b.is_ascii_digit() || b == b',' || b == b'_')
        };
        if !is_apart(whole)
            || !digits_only(whole)
            || !digits_only(fraction)
            || (whole.is_empty() && !pointed)
        {
            return Err(Refused::Kind);
        }
        Ok(Self {
            negative,
            whole: plain(whole).trim_start_matches('0').to_owned(),
            fraction: plain(fraction).trim_end_matches('0').to_owned(),
            pointed,
        })
    }

    fn is_zero(&self) -> bool {
        self.whole.is_empty() && self.fraction.is_empty()
    }

    /// The whole part; `None` above `most`.
    fn whole(&self, most: u64) -> Option<u64> {
        let whole = if self.whole.is_empty() {
            "0"
        } else {
            &self.whole
        };
        whole.parse().ok().filter(|whole| *whole <= most)
    }

    /// A count from 1 to [`MOST`]; `unit` may be empty, `help` says what to do where that is no answer.
    fn count(&self, unit: &str, help: &'static str) -> Result<u64, Refused> {
        if self.negative || self.is_zero() {
            return Err(Refused::Mend("must be larger than zero".into(), help));
        }
        if self.pointed {
            let why = match unit {
                "" => "must be a whole number".into(),
                unit => format!("must be a whole number of {unit}").into(),
            };
            return Err(Refused::Because(why));
        }
        self.whole(MOST).ok_or_else(|| {
            let space = if unit.is_empty() { "" } else { " " };
            let why = format!("is above 1,000,000,000,000,000{space}{unit}, which nobody reaches");
            Refused::Mend(why.into(), help)
        })
    }

    /// Money above zero and up to `most` whole dollars; `help` says what to do where that is no answer.
    fn money(
        &self,
        most: u64,
        too_much: &'static str,
        help: &'static str,
    ) -> Result<Cost, Refused> {
        if self.negative || self.is_zero() {
            return Err(Refused::Mend("must be larger than zero".into(), help));
        }
        if self.fraction.len() > DECIMALS {
            return Err(Refused::Because("has more than 18 decimals".into()));
        }
        match self.whole(most) {
            Some(whole) if whole < most || self.fraction.is_empty() => {
                format!("{whole}.{}", self.fraction)
                    .parse()
                    .map_err(|_| Refused::Kind)
            }
            _ => Err(Refused::Mend(too_much.into(), help)),
        }
    }
}

/// Whether every comma stands between groups of three digits.
fn is_grouped(whole: &str) -> bool {
    let mut groups = whole.split(',');
    let first = groups.next().unwrap_or_default();
    (1..=3).contains(&first.len()) && groups.all(|group| group.len() == 3)
}

/// How much a budget allows: `100000 tokens`, `100,000 tokens`, `5 usd`, `$0.50`, `60 requests`.
impl Setting for Limit {
    const EXPECTED: &'static str =
        "expected a limit with its unit, such as \"100000 tokens\", \"5 usd\" or \"60 requests\"";
    fn placeholder() -> Self {
        Limit::Tokens(1)
    }
    fn read(raw: &Raw<'_>, _: Base<'_>) -> Result<Self, Refused> {
        let text = raw.text().ok_or(Refused::Kind)?.trim();
        let (sign, unsigned) =
            text.split_at(text.len() - text.trim_start_matches(['-', '+']).len());
        let (number, unit) = match unsigned.strip_prefix('$') {
            Some(number) => (format!("{sign}{}", number.trim_start()), "usd".to_owned()),
            None => {
                let end = text
                    .find(|c: char| {
                        !(c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | ',' | '_'))
                    })
                    .unwrap_or(text.len());
                let (number, unit) = text.split_at(end);
                (number.to_owned(), unit.trim().to_ascii_lowercase())
            }
        };
        if number.is_empty() {
            return Err(Refused::Kind);
        }
        let number = Written::read(&number)?;
        match unit.as_str() {
            "token" | "tokens" => number.count("tokens", NO_LIMIT).map(Limit::Tokens),
            "request" | "requests" => number.count("requests", NO_LIMIT).map(Limit::Requests),
            "usd" | "$" | "dollar" | "dollars" => number
                .money(
                    MOST_USD,
                    "is above 1,000,000,000 USD, which nobody spends",
                    NO_LIMIT,
                )
                .map(Limit::Usd),
            "" => Err(Refused::Mend("has no unit".into(), UNITS)),
            _ => Err(Refused::Mend("has a unit that is not known".into(), UNITS)),
        }
    }
}

/// A share of a limit, from nothing to all of it, exact to a millionth: `70%`, or 0.7.
impl Setting for Share {
    const EXPECTED: &'static str = "expected a share such as \"70%\" or 0.7";
    fn placeholder() -> Self {
        Share(0)
    }
    fn read(raw: &Raw<'_>, _: Base<'_>) -> Result<Self, Refused> {
        let text = match raw {
            Raw::Fraction(number) => number,
            _ => raw.text().ok_or(Refused::Kind)?.trim(),
        };
        let (number, places) = match text.strip_suffix('%') {
            Some(percent) => (percent.trim_end(), 4),
            None => (text, 6),
        };
        let number = match Written::read(number) {
            Err(Refused::Kind) if matches!(raw, Raw::Fraction(_)) => {
                Err(Refused::Because("is not a plain decimal number".into()))
            }
            read => read,
        }?;
        if number.negative {
            return Err(Refused::Because("must not be negative".into()));
        }
        if number.fraction.len() > places {
            return Err(Refused::Because(
                "is finer than a ten-thousandth of a percent".into(),
            ));
        }
        let above = Refused::Mend(
            "is above 100%".into(),
            "a percentage has its sign: \"70%\" is 0.7",
        );
        let Ok(millionths) =
            format!("{}{:0<places$}", number.whole, number.fraction).parse::<u32>()
        else {
            return Err(above);
        };
        if Share(millionths) > Share::WHOLE {
            return Err(above);
        }
        Ok(Share(millionths))
    }
}

/// A count above zero of something that can be many: tokens, requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count(pub(super) u64);

impl Setting for Count {
    const EXPECTED: &'static str = "expected a whole number";
    const IS_TEXT: bool = false;
    fn placeholder() -> Self {
        Self(1)
    }
    fn read(raw: &Raw<'_>, _: Base<'_>) -> Result<Self, Refused> {
        let number = match raw {
            Raw::Integer(number) => Written::read(&number.to_string()),
            Raw::Word(word) => Written::read(word.trim()),
            _ => Err(Refused::Kind),
        }?;
        number.count("", "for no limit leave the key out").map(Self)
    }
}

/// A price in US dollars for a million tokens, above zero.
impl Setting for Cost {
    const EXPECTED: &'static str =
        "expected US dollars for a million tokens, such as \"15\" or \"0.25\"";
    fn placeholder() -> Self {
        Cost::ZERO
    }
    fn read(raw: &Raw<'_>, _: Base<'_>) -> Result<Self, Refused> {
        let number = match raw {
            Raw::Integer(number) => Written::read(&number.to_string()),
            Raw::Fraction(number) => Written::read(number)
                .map_err(|_| Refused::Because("is not a plain decimal number".into())),
            _ => Written::read(raw.text().ok_or(Refused::Kind)?.trim()),
        }?;
        number.money(
            DEAREST_USD,
            "is above a dollar for a token",
            "it is a price for a million tokens: 15 is what large models cost",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Setting>(text: &str) -> Result<T, String> {
        let base = Base {
            dir: None,
            home: None,
        };
        T::read(&Raw::Text(text.into()), base).map_err(|refused| match refused {
            Refused::Kind => "kind".to_owned(),
            Refused::Because(why) | Refused::Mend(why, _) => why.into_owned(),
        })
    }

    fn usd(text: &str) -> Limit {
        Limit::Usd(text.parse().expect("money"))
    }

    #[test]
    fn limits_are_read_in_every_way_that_people_write_them() {
        for (text, limit) in [
            ("100000 tokens", Limit::Tokens(100_000)),
            ("100_000 tokens", Limit::Tokens(100_000)),
            ("100,000 tokens", Limit::Tokens(100_000)),
            (" 1,000,000tokens ", Limit::Tokens(1_000_000)),
            ("+1 Token", Limit::Tokens(1)),
            ("1_000_000_000_000_000 tokens", Limit::Tokens(MOST)),
            ("60 requests", Limit::Requests(60)),
            ("1 request", Limit::Requests(1)),
            ("5 usd", usd("5")),
            ("5 USD", usd("5")),
            ("$5", usd("5")),
            ("$ 5", usd("5")),
            ("5$", usd("5")),
            ("$0.50", usd("0.5")),
            ("$.5", usd("0.5")),
            ("1,000.25 dollars", usd("1000.25")),
            ("0.000000000000000001 usd", usd("0.000000000000000001")),
            ("$1,000,000,000.00", usd("1000000000")),
        ] {
            assert_eq!(read(text), Ok(limit), "{text}");
        }
    }

    #[test]
    fn limits_that_cannot_be_are_refused_with_the_reason() {
        for (text, why) in [
            ("0 tokens", "larger than zero"),
            ("-5 tokens", "larger than zero"),
            ("-$5", "larger than zero"),
            ("$-5", "larger than zero"),
            ("$0.00", "larger than zero"),
            ("1.5 tokens", "whole number of tokens"),
            ("1.0 requests", "whole number of requests"),
            ("1_000_000_000_000_001 tokens", "is above"),
            ("18446744073709551616 tokens", "is above"),
            ("340282366920938463463374607431768211456 tokens", "is above"),
            ("340282366920938463463374607431768211456 usd", "is above"),
            ("$1000000000.01", "is above"),
            ("0.0000000000000000001 usd", "more than 18 decimals"),
            ("5", "has no unit"),
            ("5 euros", "a unit that is not known"),
            ("5 €", "a unit that is not known"),
            ("5e3 tokens", "a unit that is not known"),
            ("0x10 tokens", "a unit that is not known"),
            ("1,5 usd", "comma"),
            ("10,00 usd", "comma"),
            (",100 tokens", "comma"),
            ("nan tokens", "kind"),
            ("inf usd", "kind"),
            ("", "kind"),
            ("tokens", "kind"),
            ("$", "kind"),
            (". usd", "kind"),
            ("5. usd", "kind"),
            ("_5 tokens", "kind"),
            ("5__0 tokens", "kind"),
            ("--5 tokens", "kind"),
            ("1.2.3 usd", "kind"),
            ("$5 usd", "kind"),
        ] {
            let refused = read::<Limit>(text).expect_err(text);
            assert!(refused.contains(why), "{text}: {refused}");
        }
    }

    #[test]
    fn shares_are_exact_millionths_between_nothing_and_all() {
        for (text, share) in [
            ("70%", 700_000),
            ("70 %", 700_000),
            ("0.7", 700_000),
            ("99.9999%", 999_999),
            ("0.000001", 1),
            ("0%", 0),
            ("100%", 1_000_000),
            ("1.0", 1_000_000),
        ] {
            assert_eq!(read(text), Ok(Share(share)), "{text}");
        }
        for (text, why) in [
            ("101%", "above 100%"),
            ("70", "above 100%"),
            ("1.1", "above 100%"),
            ("99999999999999999999%", "above 100%"),
            ("-1%", "negative"),
            ("0.00001%", "finer"),
            ("0.0000001", "finer"),
            ("%", "kind"),
            ("most", "kind"),
            ("nan", "kind"),
            ("0,7", "comma"),
        ] {
            let refused = read::<Share>(text).expect_err(text);
            assert!(refused.contains(why), "{text}: {refused}");
        }
    }
}
