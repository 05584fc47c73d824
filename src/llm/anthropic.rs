//! Reads Anthropic Messages answers: whole, streamed, and the result lines of a batch.
//!
//! `input_tokens` leaves out what the cache read and wrote, so the normal form adds the three. Figures in a stream are
//! cumulative: per field the last one that is not null counts. Iterations other than the message itself (compaction,
//! advisor) are billed besides the top-level figures.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::fields::{Count, Each, Item, TextBytes, Word, object};
use super::reader::{Progress, Shape, answer_error};
use super::reading::{Reading, SideUsage};
use super::usage::Usage;

/// Most side entries that are kept: twice the requests of the largest batch.
const MAX_SIDE: usize = 200_000;

/// The state of reading one answer.
#[derive(Debug, Default)]
pub(super) struct AnthropicReader {
    counts: Counts,
    stopped: bool,
}

/// An event of a stream or a whole message: their fields do not collide.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Word<'a>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    model: Word<'a>,
    #[serde(default)]
    content: Each<Block>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(default)]
    text: TextBytes,
    #[serde(default)]
    thinking: TextBytes,
    #[serde(default)]
    partial_json: TextBytes,
    #[serde(default)]
    content: TextBytes,
    #[serde(borrow, default)]
    stop_reason: Word<'a>,
}

#[derive(Deserialize)]
struct Block {
    #[serde(default)]
    text: TextBytes,
    #[serde(default)]
    thinking: TextBytes,
    #[serde(default)]
    input: TextBytes,
}

impl Item for Block {
    type Sum = u64;
    fn add_to(self, sum: &mut u64) {
        *sum += self.text.0 + self.thinking.0 + self.input.0;
    }
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    model: Word<'a>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct UsageFields<'a> {
    #[serde(default)]
    input_tokens: Count,
    #[serde(default)]
    cache_read_input_tokens: Count,
    #[serde(default)]
    cache_creation_input_tokens: Count,
    #[serde(borrow)]
    cache_creation: Option<&'a RawValue>,
    #[serde(default)]
    output_tokens: Count,
    #[serde(borrow)]
    output_tokens_details: Option<&'a RawValue>,
    #[serde(borrow)]
    server_tool_use: Option<&'a RawValue>,
    #[serde(borrow, default)]
    service_tier: Word<'a>,
    #[serde(borrow, default)]
    speed: Word<'a>,
    #[serde(borrow, default)]
    inference_geo: Word<'a>,
    #[serde(borrow)]
    iterations: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct CacheCreation {
    #[serde(default)]
    ephemeral_5m_input_tokens: Count,
    #[serde(default)]
    ephemeral_1h_input_tokens: Count,
}

#[derive(Deserialize)]
struct OutputDetails {
    #[serde(default)]
    thinking_tokens: Count,
}

#[derive(Deserialize)]
struct ServerTools {
    #[serde(default)]
    web_search_requests: Count,
}

/// What an iteration says besides its usage fields.
#[derive(Deserialize)]
struct Iteration<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Word<'a>,
    #[serde(borrow, default)]
    model: Word<'a>,
}

/// The last known figure of each field.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    input: Option<u64>,
    cache_read: Option<u64>,
    cache_write: Option<u64>,
    cache_write_5m: Option<u64>,
    cache_write_1h: Option<u64>,
    output: Option<u64>,
    thinking: Option<u64>,
    web_searches: Option<u64>,
}

impl Counts {
    /// Takes over every figure that the newer object states.
    fn update(&mut self, fields: &UsageFields<'_>) -> Result<(), serde_json::Error> {
        let cache: Option<CacheCreation> = object(fields.cache_creation)?;
        let output: Option<OutputDetails> = object(fields.output_tokens_details)?;
        let tools: Option<ServerTools> = object(fields.server_tool_use)?;
        for (known, newer) in [
            (&mut self.input, fields.input_tokens.0),
            (&mut self.cache_read, fields.cache_read_input_tokens.0),
            (&mut self.cache_write, fields.cache_creation_input_tokens.0),
            (
                &mut self.cache_write_5m,
                cache.as_ref().and_then(|c| c.ephemeral_5m_input_tokens.0),
            ),
            (
                &mut self.cache_write_1h,
                cache.as_ref().and_then(|c| c.ephemeral_1h_input_tokens.0),
            ),
            (&mut self.output, fields.output_tokens.0),
            (&mut self.thinking, output.and_then(|o| o.thinking_tokens.0)),
            (
                &mut self.web_searches,
                tools.and_then(|t| t.web_search_requests.0),
            ),
        ] {
            *known = newer.or(*known);
        }
        Ok(())
    }

    /// The normal form; `None` until a figure was stated.
    fn usage(&self) -> Option<Usage> {
        self.input.or(self.output)?;
        let split = |part: Option<u64>| part.unwrap_or(0);
        let cached_read = split(self.cache_read);
        let cache_write = self.cache_write.unwrap_or_else(|| {
            split(self.cache_write_5m).saturating_add(split(self.cache_write_1h))
        });
        let output = split(self.output);
        Some(Usage {
            input: split(self.input)
                .saturating_add(cached_read)
                .saturating_add(cache_write),
            cached_read,
            cache_write,
            cache_write_1h: split(self.cache_write_1h).min(cache_write),
            output,
            reasoning: split(self.thinking).min(output),
            web_searches: split(self.web_searches),
            ..Usage::default()
        })
    }
}

impl AnthropicReader {
    /// Reads an event or a whole message.
    pub(super) fn read(
        &mut self,
        json: &[u8],
        shape: Shape,
        reading: &mut Reading,
    ) -> Result<Progress, serde_json::Error> {
        let event: Event<'_> = serde_json::from_slice(json)?;
        if let Some(error) = answer_error(event.error) {
            reading.error = Some(error);
            return Ok(Progress::Terminal);
        }
        match event.kind.as_str() {
            "content_block_delta" => {
                if let Some(delta) = event.delta {
                    reading.output_bytes +=
                        delta.text.0 + delta.thinking.0 + delta.partial_json.0 + delta.content.0;
                }
            }
            "message_start" => {
                if let Some(message) = object::<Message<'_>>(event.message)? {
                    message.model.store(&mut reading.model);
                    self.update(message.usage, reading)?;
                }
            }
            "message_delta" => {
                self.stopped |= event
                    .delta
                    .is_some_and(|delta| delta.stop_reason.name().is_some());
                self.update(event.usage, reading)?;
            }
            "message_stop" => {
                reading.complete = reading.usage.is_some();
                return Ok(Progress::Terminal);
            }
            _ if event.usage.is_some() => {
                event.model.store(&mut reading.model);
                reading.output_bytes += event.content.sum;
                self.update(event.usage, reading)?;
                reading.complete = shape == Shape::Whole && reading.usage.is_some();
            }
            _ => {}
        }
        Ok(Progress::Running)
    }

    /// The body has ended cleanly.
    pub(super) fn finish(&mut self, reading: &mut Reading) {
        reading.complete |= self.stopped && reading.usage.is_some();
    }

    fn update(
        &mut self,
        usage: Option<&RawValue>,
        reading: &mut Reading,
    ) -> Result<(), serde_json::Error> {
        let Some(fields) = object::<UsageFields<'_>>(usage)? else {
            return Ok(());
        };
        self.counts.update(&fields)?;
        reading.usage = self.counts.usage();
        fields.service_tier.store(&mut reading.service_tier);
        fields.speed.store(&mut reading.speed);
        if fields.inference_geo.as_str() != "not_available" {
            fields.inference_geo.store(&mut reading.region);
        }
        if let Some(side) = side_usage(&fields, &mut reading.model)? {
            reading.side = side;
        }
        Ok(())
    }
}

/// The iterations that the top-level figures leave out; `None` if none are stated. A fallback message is part of the
/// top-level figures, but names the model that really served.
fn side_usage(
    fields: &UsageFields<'_>,
    model: &mut Option<String>,
) -> Result<Option<Vec<SideUsage>>, serde_json::Error> {
    let Some(list) = fields.iterations.filter(|raw| raw.get().starts_with('[')) else {
        return Ok(None);
    };
    let mut side = Vec::new();
    for entry in serde_json::from_str::<Vec<&RawValue>>(list.get())? {
        let (Some(iteration), Some(fields)) = (
            object::<Iteration<'_>>(Some(entry))?,
            object::<UsageFields<'_>>(Some(entry))?,
        ) else {
            continue;
        };
        match iteration.kind.as_str() {
            "message" => {}
            "fallback_message" => iteration.model.store(model),
            _ => {
                let mut counts = Counts::default();
                counts.update(&fields)?;
                if let Some(usage) = counts.usage() {
                    side.push(SideUsage {
                        model: iteration.model.name().map(str::to_owned),
                        service_tier: fields.service_tier.name().map(str::to_owned),
                        usage,
                    });
                }
            }
        }
    }
    Ok(Some(side))
}

/// One line of a batch's results.
#[derive(Deserialize)]
struct BatchLine<'a> {
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct BatchResult<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Word<'a>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
}

/// Reads one line of a batch's results: each request that succeeded is side usage of the fetch.
pub(super) fn read_batch_line(
    json: &[u8],
    reading: &mut Reading,
) -> Result<Progress, serde_json::Error> {
    let line: BatchLine<'_> = serde_json::from_slice(json)?;
    if let Some(error) = answer_error(line.error) {
        reading.error = Some(error);
        return Ok(Progress::Running);
    }
    let result = object::<BatchResult<'_>>(line.result)?
        .filter(|result| result.kind.as_str() == "succeeded");
    let Some(message) = result
        .map(|result| object::<Message<'_>>(result.message))
        .transpose()?
        .flatten()
    else {
        return Ok(Progress::Running);
    };
    let Some(fields) = object::<UsageFields<'_>>(message.usage)? else {
        return Ok(Progress::Running);
    };
    let mut counts = Counts::default();
    counts.update(&fields)?;
    let mut model = message.model.name().map(str::to_owned);
    let mut side = side_usage(&fields, &mut model)?.unwrap_or_default();
    if let Some(usage) = counts.usage() {
        side.push(SideUsage {
            model: model.clone(),
            service_tier: fields.service_tier.name().map(str::to_owned),
            usage,
        });
    }
    for mut entry in side {
        if reading.side.len() >= MAX_SIDE {
            reading.unreadable = true;
            break;
        }
        entry.model = entry.model.or_else(|| model.clone());
        entry.service_tier = entry.service_tier.or_else(|| Some("batch".to_owned()));
        reading.side.push(entry);
    }
    Ok(Progress::Running)
}
