//! Chooses the reader for an endpoint and holds what all of them share: how an error looks, and what a document is.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::anthropic::{AnthropicReader, read_batch_line};
use super::fields::{Word, object};
use super::gemini::GeminiReader;
use super::openai::OpenAiReader;
use super::reading::{AnswerError, Reading};
use super::responses::ResponsesReader;
use super::wire::Endpoint;

/// Whether an answer goes on, as far as its client is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// More may come, or only the end of the body tells.
    Running,
    /// The client has all that it waits for.
    Terminal,
}

/// What a JSON document is to an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// All of it.
    Whole,
    /// One of several: an event, a line, an element of a list.
    Part,
}

/// The reader of one answer.
pub(super) enum Reader {
    Anthropic(AnthropicReader),
    Batch,
    OpenAi(OpenAiReader),
    Responses(ResponsesReader),
    Gemini(GeminiReader),
    Ollama,
    /// Free endpoints: nothing counts, but an error has a name.
    Free,
}

#[derive(Deserialize)]
struct OnlyError<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

impl Reader {
    /// The reader for an endpoint; `None` if its answers are not read at all.
    pub(super) fn new(endpoint: Endpoint) -> Option<Self> {
        Some(match endpoint {
            Endpoint::Messages => Reader::Anthropic(AnthropicReader::default()),
            Endpoint::BatchResults => Reader::Batch,
            Endpoint::ChatCompletions
            | Endpoint::Completions
            | Endpoint::Embeddings
            | Endpoint::Images
            | Endpoint::Audio => Reader::OpenAi(OpenAiReader::new(endpoint)),
            Endpoint::Responses | Endpoint::ResponseFetch => {
                Reader::Responses(ResponsesReader::default())
            }
            Endpoint::GenerateContent | Endpoint::EmbedContent => {
                Reader::Gemini(GeminiReader::default())
            }
            Endpoint::OllamaChat | Endpoint::OllamaGenerate | Endpoint::OllamaEmbed => {
                Reader::Ollama
            }
            Endpoint::CountTokens | Endpoint::GeminiCountTokens => Reader::Free,
            Endpoint::Other => return None,
        })
    }

    /// Reads one JSON document.
    ///
    /// # Errors
    /// When it is not what the endpoint answers. Nothing of it has been taken over then, or only a part.
    pub(super) fn read(
        &mut self,
        json: &[u8],
        shape: Shape,
        reading: &mut Reading,
    ) -> Result<Progress, serde_json::Error> {
        let progress = match self {
            Reader::Anthropic(reader) => reader.read(json, shape, reading),
            Reader::Batch => read_batch_line(json, reading),
            Reader::OpenAi(reader) => reader.read(json, shape, reading),
            Reader::Responses(reader) => reader.read(json, shape, reading),
            Reader::Gemini(reader) => reader.read(json, shape, reading),
            Reader::Ollama => super::ollama::read(json, reading),
            Reader::Free => {
                let body: OnlyError<'_> = serde_json::from_slice(json)?;
                reading.error = answer_error(body.error);
                reading.complete = true;
                Ok(Progress::Running)
            }
        }?;
        if shape == Shape::Part {
            return Ok(progress);
        }
        // An answer that is nothing but an error has no usage, and that is final.
        reading.complete |= reading.error.is_some() && reading.usage.is_none() && !reading.pending;
        Ok(Progress::Running)
    }

    /// OpenAI's `[DONE]` has come; in other streams it means nothing.
    pub(super) fn done(&mut self, reading: &mut Reading) -> Progress {
        match self {
            Reader::OpenAi(reader) => reader.done(reading),
            _ => Progress::Running,
        }
    }

    /// The body has ended cleanly.
    pub(super) fn finish(&mut self, reading: &mut Reading) {
        if reading.error.is_some() || reading.unreadable {
            return;
        }
        match self {
            Reader::Anthropic(reader) => reader.finish(reading),
            Reader::OpenAi(reader) => reader.finish(reading),
            Reader::Gemini(reader) => reader.finish(reading),
            Reader::Batch => reading.complete = true,
            Reader::Responses(_) | Reader::Ollama | Reader::Free => {}
        }
    }
}

/// The names that an error may have; its message is not read.
#[derive(Deserialize)]
struct ErrorFields<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Word<'a>,
    /// Google's name for the type.
    #[serde(borrow, default)]
    status: Word<'a>,
    #[serde(borrow, default)]
    code: Word<'a>,
    /// Anthropic's place for the code; Google has a list there.
    #[serde(borrow)]
    details: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ErrorDetails<'a> {
    #[serde(borrow, default)]
    error_code: Word<'a>,
}

/// Reads the value of an `error` field: an object, or a text as Ollama sends it. Anything else is no error.
pub(super) fn answer_error(raw: Option<&RawValue>) -> Option<AnswerError> {
    let raw = raw?;
    match raw.get().as_bytes() {
        b"\"\"" => None,
        [b'"', ..] => Some(AnswerError::default()),
        [b'{', ..] => {
            let Ok(Some(fields)) = object::<ErrorFields<'_>>(Some(raw)) else {
                return Some(AnswerError::default());
            };
            let details: Option<ErrorDetails<'_>> = object(fields.details).ok().flatten();
            Some(AnswerError {
                kind: fields.kind.code().or_else(|| fields.status.code()),
                code: details
                    .and_then(|details| details.error_code.code())
                    .or_else(|| fields.code.code()),
            })
        }
        _ => None,
    }
}
