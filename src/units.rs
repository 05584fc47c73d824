//! The small types that every part shares: money, request ids, priorities and the names of endings.
//!
//! Money is an integer. Everything here is plain data: no clock, no I/O.

use std::fmt;
use std::str::FromStr;

/// An amount of money in atto-dollars (10⁻¹⁸ USD).
///
/// Prices are quoted per million tokens with up to nine decimals, and multiplied by factors such as 1.1, so one
/// token can cost less than a nano-dollar; an atto-dollar holds all of that exactly. `i128` reaches 1.7 × 10²⁰ USD.
/// Nothing is rounded before display.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cost(i128);

/// Atto-dollars in one US dollar.
const ATTOS_PER_USD: i128 = 1_000_000_000_000_000_000;

/// Decimal places that a [`Cost`] can hold.
const DECIMALS: usize = 18;

impl Cost {
    /// No money. A known price of nothing; an unknown price is `Option::None`.
    pub const ZERO: Cost = Cost(0);

    /// One US dollar.
    pub const ONE_USD: Cost = Cost(ATTOS_PER_USD);

    /// Makes a cost from atto-dollars (10⁻¹⁸ USD).
    pub const fn from_attos(attos: i128) -> Self {
        Self(attos)
    }

    /// The amount in atto-dollars (10⁻¹⁸ USD).
    pub const fn attos(self) -> i128 {
        self.0
    }

    /// The amount in nano-dollars (10⁻⁹ USD), rounded up: what a budget must assume.
    pub fn nanos_ceil(self) -> i128 {
        self.0.div_euclid(1_000_000_000) + i128::from(self.0.rem_euclid(1_000_000_000) > 0)
    }

    /// The amount as a binary float, for gauges and charts only, never for sums.
    pub fn as_f64_for_display(self) -> f64 {
        self.0 as f64 / ATTOS_PER_USD as f64
    }

    /// Adds two amounts; stays at the largest amount instead of wrapping.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Writes the amount in USD with a fixed number of decimals (at most 18), rounded half away from zero.
    pub fn display(self, decimals: usize) -> String {
        let decimals = decimals.min(DECIMALS);
        let unit = 10_i128.pow((DECIMALS - decimals) as u32);
        let magnitude = self.0.unsigned_abs();
        let rounded = (magnitude + unit.unsigned_abs() / 2) / unit.unsigned_abs();
        let scale = 10_u128.pow(decimals as u32);
        let sign = if self.0 < 0 && rounded > 0 { "-" } else { "" };
        if decimals == 0 {
            return format!("{sign}{rounded}");
        }
        format!("{sign}{}.{:0decimals$}", rounded / scale, rounded % scale)
    }
}

impl std::ops::Add for Cost {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        self.saturating_add(other)
    }
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl std::iter::Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, |sum, amount| sum + amount)
    }
}

impl fmt::Display for Cost {
    /// The exact amount in USD: at least two decimals, no trailing zeros beyond them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = self.display(DECIMALS);
        let whole = exact.find('.').map_or(exact.len(), |point| point + 3);
        let kept = exact.trim_end_matches('0').len().max(whole);
        f.write_str(&exact[..kept])
    }
}

impl<C> minicbor::Encode<C> for Cost {
    /// Atto-dollars as 16 bytes, most significant first.
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0.to_be_bytes())?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Cost {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let bytes = <[u8; 16]>::try_from(d.bytes()?)
            .map_err(|_| minicbor::decode::Error::message("amount is not 16 bytes"))?;
        Ok(Self(i128::from_be_bytes(bytes)))
    }
}

/// Why a text is not an amount of money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a decimal amount with at most 18 decimals, such as 0.25")]
pub struct CostError;

impl FromStr for Cost {
    type Err = CostError;

    /// Reads an amount in USD such as `5`, `0.00095` or `9.5e-4`, exactly.
    fn from_str(text: &str) -> Result<Self, CostError> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => {
                (mantissa, exponent.parse::<i32>().map_err(|_| CostError)?)
            }
            None => (text, 0),
        };
        let (negative, digits) = match mantissa.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() && fraction.is_empty() {
            return Err(CostError);
        }
        let mut value: i128 = 0;
        for digit in whole.bytes().chain(fraction.bytes()) {
            if !digit.is_ascii_digit() {
                return Err(CostError);
            }
            value = value
                .checked_mul(10)
                .and_then(|v| v.checked_add(i128::from(digit - b'0')))
                .ok_or(CostError)?;
        }
        let places = i32::try_from(fraction.len())
            .map_err(|_| CostError)?
            .checked_sub(exponent)
            .ok_or(CostError)?;
        let shift = (DECIMALS as i32).checked_sub(places).ok_or(CostError)?;
        let attos = if shift >= 0 {
            let factor = 10_i128.checked_pow(shift.unsigned_abs()).ok_or(CostError)?;
            value.checked_mul(factor).ok_or(CostError)?
        } else {
            // Trailing zeros beyond the last place lose nothing; anything else would.
            let factor = 10_i128.checked_pow(shift.unsigned_abs()).ok_or(CostError)?;
            if value % factor != 0 {
                return Err(CostError);
            }
            value / factor
        };
        Ok(Self(if negative { -attos } else { attos }))
    }
}

/// Names one request for ever: milliseconds of its arrival (48 bits), then a part that is unique to the process (40
/// bits) and a count (40 bits), so ids sort by time and two proxies never make the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u128);

/// Crockford's base 32: no letter that reads like a digit.
const BASE32: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl RequestId {
    /// Puts an id together. Bits beyond the stated widths are cut off.
    pub fn new(unix_ms: u64, process: u64, count: u64) -> Self {
        const MASK_40: u128 = (1 << 40) - 1;
        Self(
            (u128::from(unix_ms) << 80)
                | ((u128::from(process) & MASK_40) << 40)
                | (u128::from(count) & MASK_40),
        )
    }

    /// Unix milliseconds at which the request arrived.
    pub fn unix_ms(self) -> u64 {
        (self.0 >> 80) as u64
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0_u8; 26];
        for (place, letter) in text.iter_mut().rev().enumerate() {
            *letter = BASE32[(self.0 >> (5 * place)) as usize & 31];
        }
        f.write_str(std::str::from_utf8(&text).expect("base 32 letters are ASCII"))
    }
}

/// The text is not a request id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a request id: 26 characters of 0-9 and A-Z expected, as in the x-tollgate-request-id header"
)]
pub struct RequestIdError;

impl FromStr for RequestId {
    type Err = RequestIdError;
    fn from_str(text: &str) -> Result<Self, RequestIdError> {
        if text.len() != 26 {
            return Err(RequestIdError);
        }
        text.bytes()
            .try_fold(0_u128, |value, letter| {
                let digit = BASE32
                    .iter()
                    .position(|known| *known == letter.to_ascii_uppercase())?;
                value.checked_mul(32)?.checked_add(digit as u128)
            })
            .map(Self)
            .ok_or(RequestIdError)
    }
}

/// How urgent a request is. The order is the order of urgency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    /// Documentation, research, clean-up: waits and is refused first.
    Low,
    /// Standard work.
    #[default]
    Normal,
    /// Important work.
    High,
    /// Incidents and security.
    Critical,
}

impl Priority {
    /// Every priority, least urgent first.
    pub const ALL: [Priority; 4] = [
        Priority::Low,
        Priority::Normal,
        Priority::High,
        Priority::Critical,
    ];

    /// The name used in headers, config, metrics and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Priority::Low => "low",
            Priority::Normal => "normal",
            Priority::High => "high",
            Priority::Critical => "critical",
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a priority: low, normal, high or critical expected")]
pub struct PriorityError;

impl FromStr for Priority {
    type Err = PriorityError;
    /// Reads a name in any case.
    fn from_str(text: &str) -> Result<Self, PriorityError> {
        Self::ALL
            .into_iter()
            .find(|known| known.as_str().eq_ignore_ascii_case(text))
            .ok_or(PriorityError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_read_and_written_exactly() {
        for (text, attos) in [
            ("5", 5 * ATTOS_PER_USD),
            ("0.00095", 950_000_000_000_000),
            ("9.5e-4", 950_000_000_000_000),
            ("-1.5", -1_500_000_000_000_000_000),
            ("0.000000000000000001", 1),
            (".5", 500_000_000_000_000_000),
            ("1.0000000000000000000", ATTOS_PER_USD),
        ] {
            assert_eq!(text.parse::<Cost>().map(Cost::attos), Ok(attos), "{text}");
        }
        for bad in [
            "",
            ".",
            "-",
            "1,5",
            "0x1",
            "1e",
            "0.0000000000000000001",
            "1e40",
            "NaN",
        ] {
            assert_eq!(bad.parse::<Cost>(), Err(CostError), "{bad}");
        }
        assert_eq!(Cost(1).to_string(), "0.000000000000000001");
        assert_eq!(Cost(ATTOS_PER_USD * 3 / 2).to_string(), "1.50");
        assert_eq!(Cost(1_499_999_999).display(9), "0.000000001");
        assert_eq!(Cost(-600_000_000).display(9), "-0.000000001");
        assert_eq!(Cost(1).nanos_ceil(), 1);
    }

    #[test]
    fn ids_read_back_and_sort_by_time() {
        let id = RequestId::new(1_795_000_000_123, 0xABCDEF, 7);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.unix_ms(), 1_795_000_000_123);
        assert!(id < RequestId::new(1_795_000_000_124, 0, 0));
        assert_eq!(
            "UUUUUUUUUUUUUUUUUUUUUUUUUU".parse::<RequestId>(),
            Err(RequestIdError)
        );
        assert_eq!(
            "ZZZZZZZZZZZZZZZZZZZZZZZZZZ".parse::<RequestId>(),
            Err(RequestIdError),
            "over 128 bits"
        );
    }
}
