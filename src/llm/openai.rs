//! Reads OpenAI's chat completions and the other endpoints of its family: completions, embeddings, images, audio.
//!
//! Usage may stand in any chunk, also beside choices, on every chunk (cumulative), or under `x_groq`; the last figures
//! count. Images and audio may be billed by other units than tokens, so there no usage is an answer too.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::fields::{Each, Item, Object, TextBytes, Word};
use super::openai_usage::{Counts, Timings, UsageFields};
use super::reader::{Progress, Shape, answer_error};
use super::reading::{AnswerError, Reading};
use super::wire::Endpoint;

/// The state of reading one answer.
#[derive(Debug)]
pub(super) struct OpenAiReader {
    endpoint: Endpoint,
    counts: Counts,
    finished: bool,
}

/// A chunk of a stream or a whole answer.
#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    model: Word<'a>,
    #[serde(borrow, default)]
    service_tier: Word<'a>,
    #[serde(default)]
    choices: Each<Choice>,
    #[serde(borrow, default)]
    usage: Object<UsageFields<'a>>,
    #[serde(borrow, default)]
    x_groq: Object<Groq<'a>>,
    #[serde(default)]
    timings: Object<Timings>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    /// `error` in the flat errors of Mistral and old vLLM.
    #[serde(borrow, default)]
    object: Word<'a>,
    #[serde(borrow, default, rename = "type")]
    kind: Word<'a>,
    #[serde(borrow, default)]
    code: Word<'a>,
    /// A transcription, whole or streamed.
    #[serde(default)]
    text: TextBytes,
    #[serde(default)]
    delta: TextBytes,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Option<Message>,
    #[serde(default)]
    message: Option<Message>,
    #[serde(default)]
    text: TextBytes,
    #[serde(default)]
    finish_reason: TextBytes,
}

#[derive(Deserialize, Default)]
struct Message {
    #[serde(default)]
    content: TextBytes,
    #[serde(default)]
    refusal: TextBytes,
    #[serde(default)]
    reasoning: TextBytes,
    #[serde(default)]
    reasoning_content: TextBytes,
    #[serde(default)]
    tool_calls: Each<ToolCall>,
    #[serde(default)]
    function_call: Option<Function>,
}

#[derive(Deserialize)]
struct ToolCall {
    #[serde(default)]
    function: Option<Function>,
}

#[derive(Deserialize)]
struct Function {
    #[serde(default)]
    name: TextBytes,
    #[serde(default)]
    arguments: TextBytes,
}

impl Function {
    fn bytes(&self) -> u64 {
        self.name.0 + self.arguments.0
    }
}

impl Item for ToolCall {
    type Sum = u64;
    fn add_to(self, sum: &mut u64) {
        *sum += self.function.map_or(0, |function| function.bytes());
    }
}

/// What the choices of a chunk add up to.
#[derive(Debug, Default)]
struct Choices {
    bytes: u64,
    finished: bool,
}

impl Item for Choice {
    type Sum = Choices;
    fn add_to(self, sum: &mut Choices) {
        for message in [&self.delta, &self.message].into_iter().flatten() {
            // Some servers send the same reasoning under both names.
            sum.bytes += message.content.0
                + message.refusal.0
                + message.reasoning.0.max(message.reasoning_content.0)
                + message.tool_calls.sum
                + message.function_call.as_ref().map_or(0, Function::bytes);
        }
        sum.bytes += self.text.0;
        sum.finished |= self.finish_reason.0 > 0;
    }
}

#[derive(Deserialize)]
struct Groq<'a> {
    #[serde(borrow, default)]
    usage: Object<UsageFields<'a>>,
}

impl OpenAiReader {
    /// Starts to read an answer of this endpoint.
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            counts: Counts::default(),
            finished: false,
        }
    }

    /// Reads a chunk or a whole answer.
    pub(super) fn read(
        &mut self,
        json: &[u8],
        shape: Shape,
        reading: &mut Reading,
    ) -> Result<Progress, serde_json::Error> {
        let chunk: Chunk<'_> = serde_json::from_slice(json)?;
        chunk.model.store(&mut reading.model);
        chunk.service_tier.store(&mut reading.service_tier);
        reading.output_bytes += chunk.choices.sum.bytes + chunk.text.0 + chunk.delta.0;
        self.finished |= chunk.choices.sum.finished;

        let mut stated = self.counts.update(chunk.usage.0);
        if let Some(groq) = chunk.x_groq.0 {
            stated |= self.counts.update(groq.usage.0);
        }
        let timed = chunk.timings.0.is_some();
        self.counts.update_timings(chunk.timings.0);
        if stated || timed {
            reading.usage = self.counts.usage(self.endpoint == Endpoint::Images);
        }
        reading.stated_cost = self.counts.cost;

        let flat = || {
            (chunk.object.as_str() == "error").then(|| AnswerError {
                kind: chunk.kind.code(),
                code: chunk.code.code(),
            })
        };
        if let Some(error) = answer_error(chunk.error).or_else(flat) {
            reading.error = Some(error);
            reading.complete = false;
            return Ok(Progress::Terminal);
        }
        let whole = shape == Shape::Whole;
        // The extra chunk that closes a chat stream: nothing but usage.
        let last = stated && chunk.choices.listed && chunk.choices.count == 0;
        // Image and transcription streams have events with usage instead of choices.
        self.finished |= stated && !chunk.choices.listed;
        if whole || last {
            reading.complete = reading.usage.is_some() || (whole && self.may_lack_usage());
        }
        Ok(Progress::Running)
    }

    /// `[DONE]` has come.
    pub(super) fn done(&mut self, reading: &mut Reading) -> Progress {
        reading.complete = reading.error.is_none() && reading.usage.is_some();
        Progress::Terminal
    }

    /// The body has ended cleanly; some servers send no `[DONE]`.
    pub(super) fn finish(&mut self, reading: &mut Reading) {
        reading.whole = self.finished;
        reading.complete |= (self.finished && reading.usage.is_some()) || self.may_lack_usage();
    }

    fn may_lack_usage(&self) -> bool {
        matches!(self.endpoint, Endpoint::Images | Endpoint::Audio)
    }
}
