//! One frame of the journal: checksum, length, kind, payload. Pure functions over bytes.
//!
//! A frame is `crc32 (4, little-endian) · payload length (4, little-endian) · kind (1) · payload (CBOR record or
//! event)`; the checksum covers all that follows it. Kinds are odd bytes, so that after damage the next frame is found again by
//! looking for a kind whose length and checksum fit.

use std::ops::Range;

use super::event::Event;
use super::record::{self, Record};
use crate::units::RequestId;

/// What a frame says of its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request runs; the record holds its estimate.
    Open,
    /// The request has ended; the record is final.
    Close,
    /// A throttle event.
    Event,
}

impl Kind {
    const fn byte(self) -> u8 {
        match self {
            Kind::Open => 0xA5,
            Kind::Close => 0xC7,
            Kind::Event => 0xD9,
        }
    }

    const fn of(byte: u8) -> Option<Self> {
        match byte {
            0xA5 => Some(Kind::Open),
            0xC7 => Some(Kind::Close),
            0xD9 => Some(Kind::Event),
            _ => None,
        }
    }
}

/// Bytes before the payload.
const HEAD: usize = 9;

/// Longest payload. Records and events are clamped far below it (see `clamp`), so a longer one is damage.
const MAX_PAYLOAD: usize = 64 * 1024;

/// Longest text in a record, in bytes: eighteen of them and the numbers stay below the 4 KiB of a pack, as the last four
/// are shorter.
const MAX_TEXT: usize = 240;

/// Longest name that a route leaves in a record, in bytes.
const MAX_ROUTE_TEXT: usize = 80;

/// Cuts texts that are too long, so that one record always fits a pack. Names are bounded where they enter; this is
/// the last line.
pub fn clamp(record: &mut Record) {
    let optional = [
        &mut record.agent,
        &mut record.key,
        &mut record.team,
        &mut record.phase,
        &mut record.task,
        &mut record.requested_model,
        &mut record.model,
        &mut record.error,
        &mut record.service_tier,
        &mut record.answer_id,
        &mut record.decided_by,
    ];
    let plain = [
        &mut record.session,
        &mut record.provider,
        &mut record.endpoint,
    ];
    for text in optional.into_iter().flatten().chain(plain) {
        if text.len() > MAX_TEXT {
            text.truncate(text.floor_char_boundary(MAX_TEXT));
        }
    }
    let of_route = [
        &mut record.requested_provider,
        &mut record.routed_by,
        &mut record.routed_to,
        &mut record.sent_model,
    ];
    for text in of_route.into_iter().flatten() {
        if text.len() > MAX_ROUTE_TEXT {
            text.truncate(text.floor_char_boundary(MAX_ROUTE_TEXT));
        }
    }
}

/// Appends one frame to `into`.
pub fn encode(kind: Kind, payload: &impl minicbor::Encode<()>, into: &mut Vec<u8>) {
    let start = into.len();
    into.extend_from_slice(&[0; HEAD]);
    into[start + 8] = kind.byte();
    minicbor::encode(payload, &mut *into).expect("encoding into memory cannot fail");
    seal(into, start);
}

/// Appends one frame around a payload that is encoded already.
pub fn wrap(kind: Kind, payload: &[u8], into: &mut Vec<u8>) {
    let start = into.len();
    into.extend_from_slice(&[0; HEAD]);
    into[start + 8] = kind.byte();
    into.extend_from_slice(payload);
    seal(into, start);
}

fn seal(into: &mut [u8], start: usize) {
    let length = (into.len() - start - HEAD) as u32;
    into[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
    let checksum = crc32fast::hash(&into[start + 4..]);
    into[start..start + 4].copy_from_slice(&checksum.to_le_bytes());
}

/// Reads the frame at the start of `bytes`: its kind and payload; `None` if no whole, undamaged frame is there.
fn decode(bytes: &[u8]) -> Option<(Kind, &[u8])> {
    let kind = Kind::of(*bytes.get(8)?)?;
    let checksum = u32::from_le_bytes(bytes[..4].try_into().ok()?);
    let length = u32::from_le_bytes(bytes[4..8].try_into().ok()?) as usize;
    if length > MAX_PAYLOAD {
        return None;
    }
    let frame = bytes.get(..HEAD + length)?;
    (crc32fast::hash(&frame[4..]) == checksum).then_some((kind, &frame[HEAD..]))
}

/// What a frame holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A request runs. Most are closed a moment later, so its record is left as it is written.
    Open(RequestId),
    /// A request has ended.
    Close(Box<Record>),
    /// Something happened.
    Event(Box<Event>),
}

impl Found {
    fn of(kind: Kind, payload: &[u8]) -> Option<Self> {
        match kind {
            Kind::Open => record::id_of(payload).ok().map(Found::Open),
            Kind::Close => minicbor::decode(payload)
                .ok()
                .map(|record| Found::Close(Box::new(record))),
            Kind::Event => minicbor::decode(payload)
                .ok()
                .map(|event| Found::Event(Box::new(event))),
        }
    }
}

/// Calls `each` for every whole frame with what it holds and its payload, in order, and returns the byte ranges that hold
/// none: a torn tail, flipped bits, or a payload that is no record.
pub fn walk(bytes: &[u8], mut each: impl FnMut(Found, &[u8])) -> Vec<Range<usize>> {
    let mut damage: Vec<Range<usize>> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let frame = decode(&bytes[at..])
            .and_then(|(kind, payload)| Some((Found::of(kind, payload)?, payload)));
        if let Some((found, payload)) = frame {
            each(found, payload);
            at += HEAD + payload.len();
            continue;
        }
        match damage.last_mut() {
            Some(last) if last.end == at => last.end = at + 1,
            _ => damage.push(at..at + 1),
        }
        at += 1;
    }
    damage
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::event::EventKind;
    use crate::units::Cost;

    fn journal(count: u64) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for number in 0..count {
            let mut record = Record::new(RequestId::new(1, 2, number));
            record.session = "s".repeat(number as usize % 40);
            encode(Kind::Close, &record, &mut bytes);
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    fn numbers(bytes: &[u8]) -> (Vec<u64>, Vec<Range<usize>>) {
        let mut found = Vec::new();
        let damage = walk(bytes, |frame, _| {
            if let Found::Close(record) = frame {
                found.push(record.id.0 as u64 & 0xFFFF);
            }
        });
        (found, damage)
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_at_a_letter() {
        let mut record = Record::new(RequestId(1));
        record.session = format!("{}ä", "x".repeat(MAX_TEXT - 1));
        record.model = Some("y".repeat(5000));
        clamp(&mut record);
        assert_eq!(record.session, "x".repeat(MAX_TEXT - 1));
        assert_eq!(record.model.map(|model| model.len()), Some(MAX_TEXT));
    }

    #[test]
    fn the_fullest_record_fits_a_pack() {
        let text = || "x".repeat(5000);
        let mut record = Record::new(RequestId(u128::MAX));
        for plain in [
            &mut record.session,
            &mut record.provider,
            &mut record.endpoint,
        ] {
            *plain = text();
        }
        for optional in [
            &mut record.agent,
            &mut record.key,
            &mut record.team,
            &mut record.phase,
            &mut record.task,
            &mut record.requested_model,
            &mut record.model,
            &mut record.error,
            &mut record.service_tier,
            &mut record.answer_id,
            &mut record.decided_by,
            &mut record.requested_provider,
            &mut record.routed_by,
            &mut record.routed_to,
            &mut record.sent_model,
        ] {
            *optional = Some(text());
        }
        for cost in [
            &mut record.cost,
            &mut record.table_cost,
            &mut record.reserved_cost,
            &mut record.saving,
        ] {
            *cost = Some(Cost::from_attos(i128::MAX));
        }
        for number in [
            &mut record.finished_unix_ms,
            &mut record.queued_us,
            &mut record.added_us,
            &mut record.first_byte_us,
            &mut record.total_us,
            &mut record.request_bytes,
            &mut record.response_bytes,
            &mut record.reserved_tokens,
            &mut record.usage.input,
            &mut record.usage.cached_read,
            &mut record.usage.cache_write,
            &mut record.usage.output,
            &mut record.usage.reasoning,
            &mut record.usage.audio_in,
        ] {
            *number = u64::MAX;
        }
        record.depth = Some(u32::MAX);
        record.attempts = u32::MAX;
        clamp(&mut record);
        let bytes = minicbor::to_vec(&record).expect("encoding into memory cannot fail");
        assert!(bytes.len() <= 4096, "{} bytes", bytes.len());
    }

    #[test]
    fn events_stand_between_records_and_damage_in_one_costs_it_alone() {
        let (mut bytes, _) = journal(1);
        let start = bytes.len();
        let event = Event::new(EventKind::Refused, 7);
        encode(Kind::Event, &event, &mut bytes);
        let end = bytes.len();
        bytes.extend_from_slice(&journal(1).0);
        let kinds = |bytes: &[u8]| {
            let mut kinds = Vec::new();
            let damage = walk(bytes, |found, _| {
                kinds.push(match found {
                    Found::Event(found) => {
                        assert_eq!(*found, event);
                        'e'
                    }
                    Found::Open(_) | Found::Close(_) => 'r',
                });
            });
            (kinds, damage)
        };
        assert_eq!(kinds(&bytes), (vec!['r', 'e', 'r'], Vec::new()));
        for place in start..end {
            let mut flipped = bytes.clone();
            flipped[place] ^= 0x20;
            assert_eq!(
                kinds(&flipped),
                (vec!['r', 'r'], std::iter::once(start..end).collect()),
                "flipped at {place}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_journal_cut_anywhere_keeps_every_frame_before_the_cut(cut in 0_usize..3000) {
            let (bytes, ends) = journal(20);
            let cut = cut.min(bytes.len());
            let whole = ends.iter().filter(|end| **end <= cut).count() as u64;
            let (found, damage) = numbers(&bytes[..cut]);
            prop_assert_eq!(found, (0..whole).collect::<Vec<_>>());
            prop_assert_eq!(damage.is_empty(), cut == 0 || ends.contains(&cut));
        }

        #[test]
        fn a_flipped_bit_costs_one_frame_and_is_told(place in 0_usize..3000, bit in 0_u8..8) {
            let (mut bytes, ends) = journal(20);
            let place = place % bytes.len();
            bytes[place] ^= 1 << bit;
            let hit = ends.iter().position(|end| place < *end);
            let hit = hit.expect("the place lies in a frame") as u64;
            let (found, damage) = numbers(&bytes);
            prop_assert_eq!(found, (0..20).filter(|n| *n != hit).collect::<Vec<_>>());
            prop_assert_eq!(damage.len(), 1);
        }
    }
}
