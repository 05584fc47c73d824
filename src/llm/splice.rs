//! Changes single values inside a request body and no other byte of it.
//!
//! Parsing and printing would reorder keys, respell numbers and break prompt-cache prefixes; so a body is cut where the
//! reading found the value, and joined again.

use std::ops::Range;

use super::request::{Peek, UsageOption};

/// Adds `"stream_options":{"include_usage":true}` to an OpenAI chat or completion request, or sets it in the object that
/// is there.
///
/// `None` if the client asks for usage already, if no stream is asked for (providers refuse the option then), or if
/// what is there is not understood. `body` is the text that `peek` was read from.
pub fn ask_for_usage(body: &[u8], peek: &Peek<'_>) -> Option<Vec<u8>> {
    if !peek.stream {
        return None;
    }
    match &peek.usage_option {
        // A stream was asked for, so the body has members and the comma is right.
        UsageOption::Absent(at) => splice(
            body,
            *at..*at,
            br#""stream_options":{"include_usage":true},"#,
        ),
        UsageOption::Null(span) => splice(body, span.clone(), br#"{"include_usage":true}"#),
        UsageOption::Without { at, empty: true } => {
            splice(body, *at..*at, br#""include_usage":true"#)
        }
        UsageOption::Without { at, empty: false } => {
            splice(body, *at..*at, br#""include_usage":true,"#)
        }
        UsageOption::Off(span) => splice(body, span.clone(), b"true"),
        UsageOption::On | UsageOption::Odd => None,
    }
}

/// Puts another model into the body. `None` if the body names none.
pub fn replace_model(body: &[u8], peek: &Peek<'_>, model: &str) -> Option<Vec<u8>> {
    let field = peek.model.as_ref()?;
    if field.json {
        let written = serde_json::to_string(model).ok()?;
        splice(body, field.span.clone(), written.as_bytes())
    } else {
        splice(body, field.span.clone(), model.as_bytes())
    }
}

/// Replaces a span; `None` if the span is not of this body.
fn splice(body: &[u8], span: Range<usize>, new: &[u8]) -> Option<Vec<u8>> {
    Some([body.get(..span.start)?, new, body.get(span.end..)?].concat())
}
