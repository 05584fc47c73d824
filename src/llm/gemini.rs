//! Reads Gemini's generateContent, whole or streamed (also as one JSON array), and its embeddings.
//!
//! Usage is repeated and cumulative: per field the last figure counts. Thoughts are output besides the candidates, and
//! tool results are input besides the prompt; older Vertex replies count thoughts among the candidates, and the total
//! tells which.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::fields::{Count, Each, Item, TextBytes, Word, object};
use super::reader::{Progress, Shape, answer_error};
use super::reading::Reading;
use super::usage::Usage;

/// Candidates whose searches are told apart; the API gives at most eight.
const MAX_CANDIDATES: usize = 32;

/// The state of reading one answer.
#[derive(Debug, Default)]
pub(super) struct GeminiReader {
    counts: Counts,
    /// Searches of each candidate's last list of queries, by the candidate's index.
    searches: Vec<(u64, u64)>,
    finished: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chunk<'a> {
    /// Code Assist wraps the answer.
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    #[serde(default)]
    candidates: Each<Candidate>,
    #[serde(borrow)]
    prompt_feedback: Option<&'a RawValue>,
    #[serde(borrow)]
    usage_metadata: Option<&'a RawValue>,
    #[serde(borrow, default)]
    model_version: Word<'a>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate {
    #[serde(default)]
    index: Count,
    #[serde(default)]
    content: Option<Content>,
    #[serde(default)]
    finish_reason: TextBytes,
    #[serde(default)]
    grounding_metadata: Option<Grounding>,
}

#[derive(Deserialize)]
struct Content {
    #[serde(default)]
    parts: Each<Part>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    #[serde(default)]
    text: TextBytes,
    #[serde(default)]
    function_call: TextBytes,
    #[serde(default)]
    executable_code: TextBytes,
}

impl Item for Part {
    type Sum = u64;
    fn add_to(self, sum: &mut u64) {
        *sum += self.text.0 + self.function_call.0 + self.executable_code.0;
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Grounding {
    #[serde(default)]
    web_search_queries: Each<TextBytes>,
}

/// What the candidates of a chunk add up to. The list stays empty unless the web was searched.
#[derive(Debug, Default)]
struct Candidates {
    bytes: u64,
    finished: bool,
    searches: Vec<(u64, u64)>,
}

impl Item for Candidate {
    type Sum = Candidates;
    fn add_to(self, sum: &mut Candidates) {
        sum.bytes += self.content.map_or(0, |content| content.parts.sum);
        sum.finished |= self.finish_reason.0 > 0;
        if let Some(queries) = self
            .grounding_metadata
            .map(|grounding| grounding.web_search_queries)
            && queries.listed
        {
            sum.searches
                .push((self.index.0.unwrap_or(0), queries.count));
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Feedback {
    #[serde(default)]
    block_reason: TextBytes,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UsageMetadata<'a> {
    #[serde(default)]
    prompt_token_count: Count,
    #[serde(default)]
    cached_content_token_count: Count,
    #[serde(default)]
    candidates_token_count: Count,
    #[serde(default)]
    thoughts_token_count: Count,
    #[serde(default)]
    tool_use_prompt_token_count: Count,
    #[serde(default)]
    total_token_count: Count,
    #[serde(default)]
    prompt_tokens_details: Each<ModalityCount<'a>>,
    #[serde(borrow, default)]
    cache_tokens_details: Each<ModalityCount<'a>>,
    #[serde(borrow, default)]
    candidates_tokens_details: Each<ModalityCount<'a>>,
    #[serde(borrow, default)]
    tool_use_prompt_tokens_details: Each<ModalityCount<'a>>,
    #[serde(borrow, default)]
    service_tier: Word<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ModalityCount<'a> {
    #[serde(borrow, default)]
    modality: Word<'a>,
    #[serde(default)]
    token_count: Count,
}

/// Tokens by modality; text is the rest.
#[derive(Debug, Default, Clone, Copy)]
struct Modalities {
    audio: u64,
    image: u64,
    video: u64,
}

impl Item for ModalityCount<'_> {
    type Sum = Modalities;
    fn add_to(self, sum: &mut Modalities) {
        let slot = match self.modality.as_str() {
            "AUDIO" => &mut sum.audio,
            "IMAGE" => &mut sum.image,
            "VIDEO" => &mut sum.video,
            _ => return,
        };
        *slot = slot.saturating_add(self.token_count.0.unwrap_or(0));
    }
}

/// The last known figure of each field.
#[derive(Debug, Default)]
struct Counts {
    prompt: Option<u64>,
    cached: Option<u64>,
    candidates: Option<u64>,
    thoughts: Option<u64>,
    tool_use: Option<u64>,
    total: Option<u64>,
    prompt_by: Modalities,
    cached_by: Modalities,
    candidates_by: Modalities,
    tool_use_by: Modalities,
}

impl Counts {
    fn update(&mut self, fields: &UsageMetadata<'_>) {
        for (known, newer) in [
            (&mut self.prompt, fields.prompt_token_count),
            (&mut self.cached, fields.cached_content_token_count),
            (&mut self.candidates, fields.candidates_token_count),
            (&mut self.thoughts, fields.thoughts_token_count),
            (&mut self.tool_use, fields.tool_use_prompt_token_count),
            (&mut self.total, fields.total_token_count),
        ] {
            *known = newer.0.or(*known);
        }
        for (known, newer) in [
            (&mut self.prompt_by, &fields.prompt_tokens_details),
            (&mut self.cached_by, &fields.cache_tokens_details),
            (&mut self.candidates_by, &fields.candidates_tokens_details),
            (
                &mut self.tool_use_by,
                &fields.tool_use_prompt_tokens_details,
            ),
        ] {
            if newer.listed {
                *known = newer.sum;
            }
        }
    }

    fn usage(&self) -> Option<Usage> {
        self.prompt.or(self.candidates).or(self.total)?;
        let figure = |count: Option<u64>| count.unwrap_or(0);
        let input = figure(self.prompt).saturating_add(figure(self.tool_use));
        let candidates = figure(self.candidates);
        let thoughts = figure(self.thoughts);
        let thoughts_inside = self.total.is_some() && self.total == input.checked_add(candidates);
        let output = if thoughts_inside {
            candidates
        } else {
            candidates.saturating_add(thoughts)
        };
        let part_of = |whole: u64, part: u64| part.min(whole);
        let cached_read = part_of(input, figure(self.cached));
        let audio_in = part_of(
            input,
            self.prompt_by.audio.saturating_add(self.tool_use_by.audio),
        );
        let image_in = part_of(
            input,
            self.prompt_by.image.saturating_add(self.tool_use_by.image),
        );
        Some(Usage {
            input,
            cached_read,
            output,
            reasoning: part_of(output, thoughts),
            audio_in,
            audio_cached: part_of(audio_in, self.cached_by.audio),
            audio_out: part_of(output, self.candidates_by.audio),
            image_in,
            image_cached: part_of(image_in, self.cached_by.image),
            image_out: part_of(output, self.candidates_by.image),
            video_in: part_of(
                input,
                self.prompt_by.video.saturating_add(self.tool_use_by.video),
            ),
            ..Usage::default()
        })
    }
}

impl GeminiReader {
    /// Reads a chunk or a whole answer.
    pub(super) fn read(
        &mut self,
        json: &[u8],
        shape: Shape,
        reading: &mut Reading,
    ) -> Result<Progress, serde_json::Error> {
        let mut chunk: Chunk<'_> = serde_json::from_slice(json)?;
        if let Some(inner) = object::<Chunk<'_>>(chunk.response)? {
            chunk = inner;
        }
        if let Some(error) = answer_error(chunk.error) {
            reading.error = Some(error);
            return Ok(Progress::Terminal);
        }
        chunk.model_version.store(&mut reading.model);
        reading.output_bytes += chunk.candidates.sum.bytes;
        let blocked = object::<Feedback>(chunk.prompt_feedback)?;
        self.finished |= chunk.candidates.sum.finished
            || blocked.is_some_and(|feedback| feedback.block_reason.0 > 0);
        for (candidate, searches) in chunk.candidates.sum.searches {
            let known = self
                .searches
                .iter_mut()
                .find(|(known, _)| *known == candidate);
            if let Some((_, count)) = known {
                *count = searches;
            } else if self.searches.len() < MAX_CANDIDATES {
                self.searches.push((candidate, searches));
            }
        }
        if let Some(fields) = object::<UsageMetadata<'_>>(chunk.usage_metadata)? {
            self.counts.update(&fields);
            fields.service_tier.store(&mut reading.service_tier);
        }
        reading.usage = self.counts.usage();
        if let Some(usage) = &mut reading.usage {
            usage.web_searches = self.searches.iter().map(|(_, count)| count).sum();
        }
        reading.complete = shape == Shape::Whole && reading.usage.is_some();
        Ok(Progress::Running)
    }

    /// The body has ended cleanly: that alone ends a stream.
    pub(super) fn finish(&mut self, reading: &mut Reading) {
        reading.complete |= self.finished && reading.usage.is_some();
    }
}
