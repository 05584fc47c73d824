//! How single values are written in CBOR: ids, priorities and amounts, alone and where there may be none.
//!
//! What has no value is left out of a map where the field says so; else it is null.

use minicbor::data::Type;
use minicbor::decode::Error as DecodeError;
use minicbor::encode::{Error as EncodeError, Write};
use minicbor::{Decoder, Encoder};

use crate::units::{Cost, Priority, RequestId};

/// What is zero is left out of what is written down.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the encoder hands out references"
)]
pub(super) fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// So is what does not hold.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the encoder hands out references"
)]
pub(super) fn is_false(holds: &bool) -> bool {
    !*holds
}

fn sixteen(d: &mut Decoder<'_>, what: &'static str) -> Result<[u8; 16], DecodeError> {
    <[u8; 16]>::try_from(d.bytes()?).map_err(|_| DecodeError::message(what))
}

/// Reads null as nothing, and anything else with `read`.
fn unless_null<'b, T>(
    d: &mut Decoder<'b>,
    read: impl FnOnce(&mut Decoder<'b>) -> Result<T, DecodeError>,
) -> Result<Option<T>, DecodeError> {
    if d.datatype()? == Type::Null {
        d.null()?;
        return Ok(None);
    }
    read(d).map(Some)
}

pub(super) mod id {
    //! A request id as 16 bytes.
    use super::*;

    pub(in crate::store) fn encode<C, W: Write>(
        id: &RequestId,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        e.bytes(&id.0.to_be_bytes())?.ok()
    }

    pub(in crate::store) fn decode<C>(
        d: &mut Decoder<'_>,
        _: &mut C,
    ) -> Result<RequestId, DecodeError> {
        let bytes = sixteen(d, "request id is not 16 bytes")?;
        Ok(RequestId(u128::from_be_bytes(bytes)))
    }
}

pub(super) mod maybe_id {
    //! A request id or null.
    use super::*;

    pub(in crate::store) fn encode<C, W: Write>(
        id: &Option<RequestId>,
        e: &mut Encoder<W>,
        context: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        match id {
            Some(known) => id::encode(known, e, context),
            None => e.null()?.ok(),
        }
    }

    pub(in crate::store) fn decode<C>(
        d: &mut Decoder<'_>,
        context: &mut C,
    ) -> Result<Option<RequestId>, DecodeError> {
        unless_null(d, |d| id::decode(d, context))
    }
}

pub(super) mod priority {
    //! A priority as its rank. An unknown rank is an error, not a guess.
    use super::*;

    pub(in crate::store) fn encode<C, W: Write>(
        priority: &Priority,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        e.u8(*priority as u8)?.ok()
    }

    pub(in crate::store) fn decode<C>(
        d: &mut Decoder<'_>,
        _: &mut C,
    ) -> Result<Priority, DecodeError> {
        let rank = usize::from(d.u8()?);
        Priority::ALL
            .get(rank)
            .copied()
            .ok_or_else(|| DecodeError::message("unknown priority"))
    }
}

pub(super) mod maybe_priority {
    //! A priority or null.
    use super::*;

    pub(in crate::store) fn encode<C, W: Write>(
        priority: &Option<Priority>,
        e: &mut Encoder<W>,
        context: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        match priority {
            Some(known) => priority::encode(known, e, context),
            None => e.null()?.ok(),
        }
    }

    pub(in crate::store) fn decode<C>(
        d: &mut Decoder<'_>,
        context: &mut C,
    ) -> Result<Option<Priority>, DecodeError> {
        unless_null(d, |d| priority::decode(d, context))
    }
}

pub(super) mod cost {
    //! An optional amount of money: null, or atto-dollars as 16 bytes.
    use super::*;

    pub(in crate::store) fn encode<C, W: Write>(
        cost: &Option<Cost>,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        match cost {
            Some(cost) => e.bytes(&cost.attos().to_be_bytes())?.ok(),
            None => e.null()?.ok(),
        }
    }

    pub(in crate::store) fn decode<C>(
        d: &mut Decoder<'_>,
        _: &mut C,
    ) -> Result<Option<Cost>, DecodeError> {
        unless_null(d, |d| {
            let bytes = sixteen(d, "amount is not 16 bytes")?;
            Ok(Cost::from_attos(i128::from_be_bytes(bytes)))
        })
    }
}

pub(super) mod amount {
    //! An optional amount in a budget's unit: null, a number of at most 64 bits, or 16 bytes.
    use super::*;

    pub(in crate::store) fn encode<C, W: Write>(
        amount: &Option<i128>,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        match amount.map(|amount| (amount, i64::try_from(amount))) {
            Some((_, Ok(short))) => e.i64(short)?.ok(),
            Some((long, Err(_))) => e.bytes(&long.to_be_bytes())?.ok(),
            None => e.null()?.ok(),
        }
    }

    pub(in crate::store) fn decode<C>(
        d: &mut Decoder<'_>,
        _: &mut C,
    ) -> Result<Option<i128>, DecodeError> {
        unless_null(d, |d| match d.datatype()? {
            Type::Bytes => sixteen(d, "amount is not 16 bytes").map(i128::from_be_bytes),
            _ => d.i64().map(i128::from),
        })
    }
}
