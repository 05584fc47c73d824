//! Reads how much output a body asks for: the cap of each answer, and how many answers.
//!
//! No value overflows anything: what is too large stays at the end of its type, and what bounds nothing (null, below
//! zero, no number at all) is no cap.

use super::Unparsed;
use super::cursor::{Cursor, only_member, text_of};
use super::declared::entries;
use super::fields::{Field, Fields};
use crate::llm::wire::Endpoint;

/// The output that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Caps {
    /// The most tokens of each answer, where that is stated.
    pub(super) output: Option<u64>,
    /// How many answers; at least 1.
    pub(super) choices: u32,
}

impl Caps {
    /// Reads both.
    ///
    /// # Errors
    ///
    /// A cap inside an object is there twice.
    pub(super) fn read(endpoint: Endpoint, fields: &Fields<'_>) -> Result<Self, Unparsed> {
        let gemini = |names: [&str; 2], name| inside(fields, Field::GenerationConfig, &names, name);
        let own = [
            fields.get(Field::MaxTokens),
            fields.get(Field::MaxCompletionTokens),
            fields.get(Field::MaxOutputTokens),
            gemini(
                ["maxOutputTokens", "max_output_tokens"],
                "generationConfig.maxOutputTokens",
            )?,
            inside(
                fields,
                Field::Options,
                &["num_predict"],
                "options.num_predict",
            )?,
        ];
        let counts = [
            fields.get(Field::Choices),
            fields.get(Field::BestOf),
            gemini(
                ["candidateCount", "candidate_count"],
                "generationConfig.candidateCount",
            )?,
        ];
        // The largest of the caps that are given: a provider may go by any of them.
        let own = own.into_iter().flatten().filter_map(whole_number).max();
        let answers = counts.into_iter().flatten().filter_map(whole_number).max();
        let answers = answers
            .unwrap_or(1)
            .max(1)
            .saturating_mul(texts_to_complete(endpoint, fields));
        Ok(Self {
            // Another model's turn (Anthropic's `fallbacks`) may have a cap of its own.
            output: own.max(own.and(fallback_cap(fields))),
            choices: u32::try_from(answers).unwrap_or(u32::MAX),
        })
    }
}

fn inside<'a>(
    fields: &Fields<'a>,
    field: Field,
    names: &[&str],
    name: &'static str,
) -> Result<Option<&'a str>, Unparsed> {
    let Some(raw) = fields.get(field) else {
        return Ok(None);
    };
    only_member(raw, names).map_err(|_| Unparsed::DuplicateField(name))
}

/// The largest cap among the entries of `fallbacks`.
fn fallback_cap(fields: &Fields<'_>) -> Option<u64> {
    let mut largest = None;
    entries(fields.get(Field::Fallbacks)?, |cursor| {
        if cursor.peek() != b'{' {
            cursor.skip();
            return;
        }
        cursor.open();
        while let Some(key) = cursor.key() {
            cursor.peek();
            let value = cursor.skip();
            if key == "max_tokens" {
                largest = largest.max(whole_number(value));
            }
        }
    });
    largest
}

/// How many texts an old completion request asks to complete: each gets its own answers.
fn texts_to_complete(endpoint: Endpoint, fields: &Fields<'_>) -> u64 {
    let Some(raw) = fields
        .get(Field::Prompt)
        .filter(|_| endpoint == Endpoint::Completions)
    else {
        return 1;
    };
    let mut texts = 0_u64;
    let mut cursor = Cursor::new(raw);
    if cursor.peek() == b'[' {
        cursor.open();
        while cursor.element() {
            // A list of bare numbers is one text in token ids.
            texts += u64::from(matches!(cursor.peek(), b'"' | b'['));
            cursor.skip();
        }
    }
    texts.max(1)
}

/// Reads a count however it is written (`2.0`, `1e3`, `"5"`), fractions upwards; too large stays at the end, below zero
/// is no limit.
pub(in crate::llm) fn whole_number(raw: &str) -> Option<u64> {
    let text = text_of(raw);
    let text = text.as_deref().unwrap_or(raw).trim();
    text.parse::<u64>().ok().or_else(|| {
        let value = text.parse::<f64>().ok()?;
        // The cast stays at the ends of u64.
        (value >= 0.0).then_some(value.ceil() as u64)
    })
}
