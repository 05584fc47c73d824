//! What is booked when a request ends: whose figures count, and what is estimated when the provider gave none.
//!
//! The rule: the provider's final figures win; figures up to a break are kept and only the missing output is estimated;
//! with no figures at all, input and output are estimated from bytes, unless nothing was billed.

use crate::llm::estimate;
use crate::llm::reading::Reading;
use crate::llm::usage::{Provenance, Usage};
use crate::llm::wire::Billing;

/// How far an answer got, seen from its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// The request never left, or the provider answered with an error status: nothing is billed unless it says so.
    NotServed,
    /// The request was sent and no answer had begun.
    Sent,
    /// The answer had begun, or was complete.
    Answer,
}

/// Decides usage and provenance.
///
/// `expected` is the estimate that was made before sending: it stands for a request that was sent and whose answer
/// nobody saw, because the provider may have done the whole work.
pub fn book(
    billing: Billing,
    reached: Reached,
    expected: &Usage,
    reading: &Reading,
) -> (Usage, Provenance) {
    if let Some(total) = reading.total() {
        if reading.complete || reading.usage.is_none() {
            return (total, Provenance::Reported);
        }
        let seen = estimate::output_tokens(reading.output_bytes);
        let usage = Usage {
            output: total.output.max(seen),
            ..total
        };
        return (usage, Provenance::Partial);
    }
    if billing != Billing::ByTokens || reading.pending {
        return (Usage::default(), Provenance::None);
    }
    match reached {
        Reached::NotServed => (Usage::default(), Provenance::None),
        Reached::Sent => (*expected, Provenance::Estimated),
        // An error before the first word is not billed.
        Reached::Answer if reading.error.is_some() && reading.output_bytes == 0 => {
            (Usage::default(), Provenance::None)
        }
        Reached::Answer => {
            let output = estimate::output_tokens(reading.output_bytes);
            (
                Usage {
                    input: expected.input,
                    output,
                    ..Usage::default()
                },
                Provenance::Estimated,
            )
        }
    }
}

/// What a running answer has used as far as can be seen: the provider's figures, with the output at least what its bytes
/// amount to; without figures the input is taken to be as expected.
pub fn so_far(expected: &Usage, reading: &Reading) -> Usage {
    let seen = estimate::output_tokens(reading.output_bytes);
    match reading.total() {
        Some(total) => Usage {
            output: total.output.max(seen),
            ..total
        },
        None => Usage {
            output: seen,
            ..*expected
        },
    }
}

/// The output for which a reservation grows when so much has been seen: half as much again.
pub const fn room_ahead(output: u64) -> u64 {
    output.saturating_add(output / 2).saturating_add(64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECTED: Usage = Usage {
        input: 100,
        output: 50,
        ..ZERO
    };
    const ZERO: Usage = Usage {
        input: 0,
        cached_read: 0,
        cache_write: 0,
        cache_write_1h: 0,
        cache_write_12h: 0,
        output: 0,
        reasoning: 0,
        audio_in: 0,
        audio_cached: 0,
        audio_out: 0,
        image_in: 0,
        image_cached: 0,
        image_out: 0,
        video_in: 0,
        video_out: 0,
        web_searches: 0,
    };

    fn reading(usage: Option<Usage>, complete: bool, output_bytes: u64) -> Reading {
        Reading {
            usage,
            complete,
            output_bytes,
            ..Reading::default()
        }
    }

    #[test]
    fn final_figures_win_over_any_estimate() {
        let stated = Usage {
            input: 7,
            output: 9,
            ..ZERO
        };
        let booked = book(
            Billing::ByTokens,
            Reached::Answer,
            &EXPECTED,
            &reading(Some(stated), true, 4_000),
        );
        assert_eq!(booked, (stated, Provenance::Reported));
    }

    #[test]
    fn a_break_keeps_the_stated_input_and_estimates_the_output() {
        let stated = Usage {
            input: 7,
            output: 1,
            ..ZERO
        };
        let (usage, provenance) = book(
            Billing::ByTokens,
            Reached::Answer,
            &EXPECTED,
            &reading(Some(stated), false, 300),
        );
        assert_eq!((usage.input, provenance), (7, Provenance::Partial));
        assert_eq!(usage.output, estimate::output_tokens(300));
        let stated = Usage {
            output: 5_000,
            ..stated
        };
        let (usage, _) = book(
            Billing::ByTokens,
            Reached::Answer,
            &EXPECTED,
            &reading(Some(stated), false, 300),
        );
        assert_eq!(usage.output, 5_000, "a stated lower bound is never lowered");
    }

    #[test]
    fn without_figures_bytes_decide() {
        let (usage, provenance) = book(
            Billing::ByTokens,
            Reached::Answer,
            &EXPECTED,
            &reading(None, true, 300),
        );
        assert_eq!(
            (usage.input, usage.output),
            (100, estimate::output_tokens(300))
        );
        assert_eq!(provenance, Provenance::Estimated);
        let unseen = book(
            Billing::ByTokens,
            Reached::Sent,
            &EXPECTED,
            &reading(None, false, 0),
        );
        assert_eq!(unseen, (EXPECTED, Provenance::Estimated));
    }

    #[test]
    fn what_is_not_billed_books_nothing() {
        let nothing = (ZERO, Provenance::None);
        assert_eq!(
            book(
                Billing::ByTokens,
                Reached::NotServed,
                &EXPECTED,
                &reading(None, false, 0)
            ),
            nothing
        );
        assert_eq!(
            book(
                Billing::Free,
                Reached::Answer,
                &EXPECTED,
                &reading(None, true, 900)
            ),
            nothing
        );
        let mut failed = reading(None, false, 0);
        failed.error = Some(Default::default());
        assert_eq!(
            book(Billing::ByTokens, Reached::Answer, &EXPECTED, &failed),
            nothing
        );
        let mut receipt = reading(None, true, 0);
        receipt.pending = true;
        assert_eq!(
            book(Billing::ByTokens, Reached::Answer, &EXPECTED, &receipt),
            nothing
        );
    }
}
