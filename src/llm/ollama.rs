//! Reads Ollama's own answers: lines of JSON, or one object.
//!
//! The last one says `done` and has the counts; a count that is missing there is zero (the prompt was fully cached, or
//! the model was only loaded). Embeddings have no `done`.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::fields::{Count, Flag, TextBytes, Word, object};
use super::reader::{Progress, answer_error};
use super::reading::Reading;
use super::usage::Usage;

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, default)]
    model: Word<'a>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(default)]
    response: TextBytes,
    #[serde(default)]
    thinking: TextBytes,
    #[serde(default)]
    done: Flag,
    #[serde(default)]
    prompt_eval_count: Count,
    #[serde(default)]
    eval_count: Count,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: TextBytes,
    #[serde(default)]
    thinking: TextBytes,
    #[serde(default)]
    tool_calls: TextBytes,
}

/// Reads one line or the whole answer.
pub(super) fn read(json: &[u8], reading: &mut Reading) -> Result<Progress, serde_json::Error> {
    let line: Line<'_> = serde_json::from_slice(json)?;
    if let Some(error) = answer_error(line.error) {
        reading.error = Some(error);
        return Ok(Progress::Terminal);
    }
    line.model.store(&mut reading.model);
    if let Some(message) = object::<Message>(line.message)? {
        reading.output_bytes += message.content.0 + message.thinking.0 + message.tool_calls.0;
    }
    reading.output_bytes += line.response.0 + line.thinking.0;
    if line.done.0 || line.prompt_eval_count.0.is_some() {
        reading.usage = Some(Usage {
            input: line.prompt_eval_count.0.unwrap_or(0),
            output: line.eval_count.0.unwrap_or(0),
            ..Usage::default()
        });
        reading.complete = true;
    }
    Ok(if line.done.0 {
        Progress::Terminal
    } else {
        Progress::Running
    })
}
