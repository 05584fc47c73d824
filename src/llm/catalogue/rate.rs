//! Exact prices as integers: what a token costs, what a call costs, and the factors that multiply them.
//!
//! Prices are written as decimal strings, so no figure ever passes through a binary float.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};

use crate::units::Cost;

/// Tokens that a quoted token price is for.
const QUOTED_TOKENS: i128 = 1_000_000;

/// Calls that a quoted call fee is for.
const QUOTED_CALLS: i128 = 1_000;

/// Atto-dollars in one US dollar.
const ATTOS_PER_USD: i128 = 1_000_000_000_000_000_000;

/// Why a text is not a price, a fee or a factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// Not a decimal number.
    #[error("not a decimal number in quotes, such as \"0.25\"")]
    Malformed,
    /// Below zero.
    #[error("negative")]
    Negative,
    /// More decimals than an atto-dollar can hold, or an amount that no provider charges.
    #[error("too large or too many decimals to be kept exactly")]
    Inexact,
}

/// Reads a decimal and divides it by `per`, exactly; the quotient is at most 10¹⁸.
fn exact_share(text: &str, per: i128) -> Result<u64, RateError> {
    let attos = text
        .parse::<Cost>()
        .map_err(|_| RateError::Malformed)?
        .attos();
    if attos < 0 {
        return Err(RateError::Negative);
    }
    let share = attos / per;
    if attos % per != 0 || share > ATTOS_PER_USD {
        return Err(RateError::Inexact);
    }
    u64::try_from(share).map_err(|_| RateError::Inexact)
}

/// What one token costs in atto-dollars: 0 to 10¹⁸ (a dollar a token).
///
/// Quoted per million tokens with up to twelve decimals; `"2.5"` is 2 500 000 000 000 atto-dollars a token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(u64);

impl Rate {
    /// Costs nothing.
    pub const ZERO: Rate = Rate(0);

    /// The price of one token in atto-dollars.
    pub const fn attos_per_token(self) -> u64 {
        self.0
    }

    /// The price times `new / old`, rounded half to even at the atto-dollar; `new` itself where `old` is zero, as
    /// there is no ratio to keep.
    pub(super) fn rescaled(self, old: u64, new: u64) -> Rate {
        if old == 0 {
            return Rate(new);
        }
        let (product, old) = (i128::from(self.0) * i128::from(new), i128::from(old));
        let scaled = rounded(product / old, product % old, old);
        Rate(
            u64::try_from(scaled)
                .unwrap_or(u64::MAX)
                .min(ATTOS_PER_USD as u64),
        )
    }
}

impl FromStr for Rate {
    type Err = RateError;
    /// Reads a price in USD per 1,000,000 tokens.
    fn from_str(text: &str) -> Result<Self, RateError> {
        exact_share(text, QUOTED_TOKENS).map(Self)
    }
}

impl fmt::Display for Rate {
    /// The price in USD per 1,000,000 tokens, without trailing zeros: the way it is quoted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = Cost::from_attos(i128::from(self.0) * QUOTED_TOKENS).display(18);
        f.write_str(exact.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// What one call of a provider's tool costs in atto-dollars; quoted per 1,000 calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fee(u64);

impl Fee {
    /// The price of one call in atto-dollars.
    pub const fn attos_per_call(self) -> u64 {
        self.0
    }
}

impl FromStr for Fee {
    type Err = RateError;
    /// Reads a price in USD per 1,000 calls.
    fn from_str(text: &str) -> Result<Self, RateError> {
        exact_share(text, QUOTED_CALLS).map(Self)
    }
}

/// A factor on token prices, such as `"1.1"`, as a fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Factor {
    numerator: i128,
    denominator: i128,
}

impl Factor {
    /// The amount times this factor, rounded half to even at the atto-dollar.
    pub(crate) fn of(self, attos: i128) -> i128 {
        // Split first: the product of a large amount and the numerator might not fit.
        let (quotient, rest) = (attos / self.denominator, attos % self.denominator);
        let rest = rest * self.numerator;
        let whole = quotient
            .saturating_mul(self.numerator)
            .saturating_add(rest / self.denominator);
        rounded(whole, rest % self.denominator, self.denominator)
    }
}

impl FromStr for Factor {
    type Err = RateError;
    fn from_str(text: &str) -> Result<Self, RateError> {
        let numerator = i128::from(exact_share(text, ATTOS_PER_USD / QUOTED_TOKENS)?);
        let common = greatest_common_divisor(numerator, QUOTED_TOKENS);
        Ok(Self {
            numerator: numerator / common,
            denominator: QUOTED_TOKENS / common,
        })
    }
}

fn greatest_common_divisor(a: i128, b: i128) -> i128 {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

/// Rounds `whole + rest / divisor` half to even, for a rest from 0 to below the divisor.
fn rounded(whole: i128, rest: i128, divisor: i128) -> i128 {
    let above_half = rest > divisor - rest;
    let at_half = rest == divisor - rest;
    whole.saturating_add(i128::from(above_half || (at_half && whole % 2 == 1)))
}

/// Reads a type from a quoted decimal; a bare number is refused, as it may have lost digits already.
struct Quoted<T>(std::marker::PhantomData<T>);

impl<T: FromStr<Err = RateError>> de::Visitor<'_> for Quoted<T> {
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a decimal number in quotes, such as \"0.25\"")
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse()
            .map_err(|error| E::custom(format_args!("price `{text}`: {error}")))
    }
}

macro_rules! read_quoted {
    ($($name:ty),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_str(Quoted(std::marker::PhantomData))
            }
        }
    )*};
}
read_quoted!(Rate, Fee, Factor);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prices_are_read_exactly_or_not_at_all() {
        assert_eq!("2.5".parse(), Ok(Rate(2_500_000_000_000)));
        assert_eq!("0.000000000001".parse(), Ok(Rate(1)));
        assert_eq!(
            "0.0000000000001".parse::<Rate>(),
            Err(RateError::Inexact),
            "half a digit too fine"
        );
        assert_eq!("-1".parse::<Rate>(), Err(RateError::Negative));
        assert_eq!("1,5".parse::<Rate>(), Err(RateError::Malformed));
        assert_eq!("1000001".parse::<Rate>(), Err(RateError::Inexact));
        assert_eq!(
            "10".parse::<Fee>().map(Fee::attos_per_call),
            Ok(10_000_000_000_000_000)
        );
    }

    #[test]
    fn factors_multiply_exactly_and_round_half_to_even_where_they_must() {
        let factor = |text: &str| text.parse::<Factor>().expect("a decimal");
        assert_eq!(factor("1.1").of(10), 11);
        assert_eq!(factor("1.1").of(1), 1);
        assert_eq!(factor("1.5").of(1), 2, "1.5 goes to the even 2");
        assert_eq!(factor("1.5").of(3), 4, "4.5 goes to the even 4");
        assert_eq!(factor("0").of(7), 0);
        assert_eq!("1.0000001".parse::<Factor>(), Err(RateError::Inexact));
        assert_eq!(Rate(5).rescaled(10, 20), Rate(10));
        assert_eq!(Rate(5).rescaled(2, 1), Rate(2), "2.5 goes to the even 2");
        assert_eq!(Rate(5).rescaled(0, 7), Rate(7), "no ratio to keep");
    }

    proptest! {
        #[test]
        fn a_price_is_written_as_it_was_read(whole in 0_u64..100_000, decimals in 0_u64..1_000_000_000_000) {
            let mut text = format!("{whole}.{decimals:012}");
            while text.ends_with('0') { text.pop(); }
            let text = text.trim_end_matches('.');
            prop_assert_eq!(text.parse::<Rate>().expect("twelve decimals fit").to_string(), text);
        }
    }
}
