//! Reads OpenAI Responses: whole, streamed, and fetched later.
//!
//! Snapshots of the response stand in several events; only the terminal one has usage. Web searches are counted from
//! the output's items. Work in the background answers at once with a receipt and is booked when it is fetched.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::fields::{Each, Flag, Item, Object, TextBytes, Word, object};
use super::openai_usage::{Counts, UsageFields};
use super::reader::{Progress, Shape, answer_error};
use super::reading::{AnswerError, Reading};

/// The state of reading one answer.
#[derive(Debug, Default)]
pub(super) struct ResponsesReader {
    counts: Counts,
    searches: u64,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Word<'a>,
    #[serde(borrow, default)]
    object: Word<'a>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    #[serde(borrow)]
    item: Option<&'a RawValue>,
    #[serde(default)]
    delta: TextBytes,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    code: Word<'a>,
}

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(borrow, default)]
    id: Word<'a>,
    #[serde(borrow, default)]
    status: Word<'a>,
    #[serde(default)]
    background: Flag,
    #[serde(borrow, default)]
    model: Word<'a>,
    #[serde(borrow, default)]
    service_tier: Word<'a>,
    #[serde(borrow, default)]
    usage: Object<UsageFields<'a>>,
    #[serde(borrow, default)]
    output: Each<OutputItem<'a>>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct OutputItem<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Word<'a>,
    #[serde(default)]
    content: Each<Part>,
    #[serde(default)]
    summary: Each<Part>,
    #[serde(default)]
    arguments: TextBytes,
    #[serde(default)]
    input: TextBytes,
    #[serde(default)]
    code: TextBytes,
}

#[derive(Deserialize)]
struct Part {
    #[serde(default)]
    text: TextBytes,
    #[serde(default)]
    refusal: TextBytes,
}

impl Item for Part {
    type Sum = u64;
    fn add_to(self, sum: &mut u64) {
        *sum += self.text.0 + self.refusal.0;
    }
}

/// What the items of an output add up to.
#[derive(Debug, Default)]
struct Output {
    bytes: u64,
    searches: u64,
}

impl Item for OutputItem<'_> {
    type Sum = Output;
    fn add_to(self, sum: &mut Output) {
        sum.bytes +=
            self.content.sum + self.summary.sum + self.arguments.0 + self.input.0 + self.code.0;
        sum.searches += u64::from(self.kind.as_str() == "web_search_call");
    }
}

impl ResponsesReader {
    /// Reads an event or a whole response.
    pub(super) fn read(
        &mut self,
        json: &[u8],
        shape: Shape,
        reading: &mut Reading,
    ) -> Result<Progress, serde_json::Error> {
        let event: Event<'_> = serde_json::from_slice(json)?;
        if event.object.as_str() == "response" {
            let response: Response<'_> = serde_json::from_slice(json)?;
            return self.snapshot(response, shape == Shape::Whole, reading);
        }
        let kind = event.kind.as_str();
        if let Some(error) = answer_error(event.error) {
            reading.error = Some(error);
            return Ok(Progress::Terminal);
        }
        if kind == "error" {
            // The flat error event of a stream.
            reading.error = Some(AnswerError {
                kind: None,
                code: event.code.code(),
            });
            return Ok(Progress::Terminal);
        }
        if kind.ends_with(".delta") && !kind.ends_with("audio.delta") {
            reading.output_bytes += event.delta.0;
        } else if kind == "response.output_item.done" {
            let item: Option<OutputItem<'_>> = object(event.item)?;
            self.searches +=
                u64::from(item.is_some_and(|item| item.kind.as_str() == "web_search_call"));
        } else if let Some(response) = object::<Response<'_>>(event.response)? {
            return self.snapshot(response, false, reading);
        }
        Ok(Progress::Running)
    }

    fn snapshot(
        &mut self,
        response: Response<'_>,
        whole: bool,
        reading: &mut Reading,
    ) -> Result<Progress, serde_json::Error> {
        response.id.store(&mut reading.answer_id);
        response.model.store(&mut reading.model);
        response.service_tier.store(&mut reading.service_tier);
        reading.background = response.background.0;
        let status = response.status.as_str();
        let running = matches!(status, "queued" | "in_progress");
        // A stream of foreground work that breaks off is lost; background work goes on without it.
        reading.pending = running && (whole || response.background.0);
        self.counts.web_searches = self.searches.max(response.output.sum.searches);
        self.counts.update(response.usage.0);
        reading.usage = self.counts.usage(false);
        reading.stated_cost = self.counts.cost;
        if let Some(error) = answer_error(response.error) {
            reading.error = Some(error);
        } else if status == "failed" {
            reading.error = Some(AnswerError::default());
        }
        if running {
            return Ok(Progress::Running);
        }
        if reading.output_bytes == 0 {
            // A whole answer, or a stream taken up in the middle: there were no deltas to count.
            reading.output_bytes = response.output.sum.bytes;
        }
        reading.complete = reading.usage.is_some();
        Ok(if whole {
            Progress::Running
        } else {
            Progress::Terminal
        })
    }
}
