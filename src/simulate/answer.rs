//! From a request's body to what the asked endpoint answers: reads the request in its dialect, decides the reply, puts
//! it into the dialect's words.

use std::time::Duration;

use super::ask::Ask;
use super::behaviour::{Behaviour, Flavour};
use super::body::writing;
use super::chat_usage;
use super::frames::Frames;
use super::gemini::Framing;
use super::limits::{ClassLimits, Need, Reserve};
use super::remembered::{BACKGROUND_TIME, Recalled, Remembered};
use super::reply::{Figures, Forget, Reply};
use super::responses::Status;
use super::route::Call;
use super::stats::Seen;
use super::{anthropic, chat, chat_stream, completions, gemini, media, ollama, responses, vectors};
use crate::llm::wire::Dialect;

/// A model that is named where a request names none.
const UNNAMED_MODEL: &str = "claude-sonnet-5-5";

/// The answer's content.
#[derive(Debug)]
pub(super) enum Content {
    /// In one piece, with its content type.
    Whole(&'static str, String),
    /// Frame by frame, with its content type.
    Stream(&'static str, Box<Frames>),
}

const JSON: &str = "application/json";
const GOOGLE_JSON: &str = "application/json; charset=UTF-8";
const OLLAMA_JSON: &str = "application/json; charset=utf-8";
const EVENTS: &str = "text/event-stream; charset=utf-8";
const BARE_EVENTS: &str = "text/event-stream";
const LINES: &str = "application/x-ndjson";
const BATCH_LINES: &str = "application/x-jsonl";

/// A request that has been read.
#[derive(Debug)]
pub(super) struct Question<'a> {
    call: Call<'a>,
    /// What it asks for.
    pub(super) ask: Ask<'a>,
    vectors: Option<vectors::Wanted>,
    /// How many vectors Gemini's form asks for.
    inputs: usize,
}

/// Reads a request. `deployment` is Azure's model in the path.
///
/// # Errors
/// What is wrong with it, in the provider's manner.
pub(super) fn read<'a>(
    call: Call<'a>,
    body: &'a [u8],
    deployment: Option<&'a str>,
) -> Result<Question<'a>, String> {
    let mut question = Question {
        call,
        ask: Ask::default(),
        vectors: None,
        inputs: 0,
    };
    question.ask = match call {
        Call::Messages => anthropic::ask(body, false)?,
        Call::CountTokens => anthropic::ask(body, true)?,
        Call::BatchResults => Ask {
            model: UNNAMED_MODEL.into(),
            ..Ask::default()
        },
        Call::Chat => chat::ask(body, deployment)?,
        Call::Completions => completions::ask(body)?,
        Call::Responses | Call::ResponseTokens => responses::ask(body)?,
        Call::Images => media::ask_images(body)?,
        Call::Transcription => media::ask_transcription(body),
        Call::Generate(model) | Call::GeminiCount(model) => gemini::ask(body, model, false)?,
        Call::StreamGenerate(model, _) => gemini::ask(body, model, true)?,
        Call::GeminiEmbed(model, _) => {
            question.inputs = vectors::gemini_inputs(body);
            Ask {
                model: model.into(),
                ..Ask::default()
            }
        }
        Call::Ollama(_) => ollama::ask(body)?,
        Call::Embeddings | Call::OllamaEmbed(_) => {
            let (ask, wanted) = vectors::ask(body)?;
            question.vectors = Some(wanted);
            ask
        }
    };
    Ok(question)
}

impl Question<'_> {
    /// Whether the answer is a receipt for work in the background.
    pub(super) fn is_background(&self) -> bool {
        matches!(self.call, Call::Responses) && self.ask.openai.background && !self.ask.stream
    }

    /// What it asks of the provider's limits; `None` for calls that have none, or limits apart.
    pub(super) fn need(
        &self,
        behaviour: &Behaviour,
        flavour: Flavour,
        rules: &ClassLimits,
    ) -> Option<Need> {
        let writes = match self.call {
            Call::CountTokens
            | Call::ResponseTokens
            | Call::GeminiCount(_)
            | Call::BatchResults => return None,
            Call::Embeddings
            | Call::OllamaEmbed(_)
            | Call::GeminiEmbed(..)
            | Call::Images
            | Call::Transcription => false,
            _ => true,
        };
        let figures = Figures::of(&self.ask, behaviour);
        let (counts_cached, reserve) = match (self.call.dialect(), flavour) {
            (Dialect::Anthropic, _) => (false, Reserve::Corrected),
            (Dialect::Gemini | Dialect::Ollama, _) => (true, Reserve::Nothing),
            (Dialect::OpenAi, Flavour::Groq) => (false, Reserve::Kept),
            (Dialect::OpenAi, _) => (true, Reserve::Kept),
        };
        let uncounted = if rules.count_cached.unwrap_or(counts_cached) {
            0
        } else {
            figures.cached
        };
        Some(Need {
            input: figures.input.saturating_sub(uncounted),
            max_output: if writes {
                self.ask
                    .max_output
                    .map(|most| most.saturating_mul(figures.choices))
            } else {
                Some(0)
            },
            reserve: rules.reserve.unwrap_or(reserve),
        })
    }

    /// The time that writing a whole answer takes, which comes only when all is written.
    pub(super) fn writing(&self, behaviour: &Behaviour) -> Duration {
        match behaviour.tokens_per_second {
            Some(speed) if !self.ask.stream && behaviour.token_pace.is_none() => {
                writing(Figures::of(&self.ask, behaviour).output, speed)
            }
            _ => Duration::ZERO,
        }
    }

    /// What the endpoint answers. Writes down in `seen` what that uses and tells.
    pub(super) fn answer(
        mut self,
        behaviour: &Behaviour,
        flavour: Flavour,
        id: String,
        created: u64,
        remembered: &Remembered,
        seen: &mut Seen,
    ) -> Content {
        if let Some(previous) = &self.ask.openai.previous {
            self.ask.text.bytes += 4 * remembered.tokens_before(previous);
        }
        let mut reply = Reply::new(&self.ask, behaviour, flavour, id, created);
        reply.forget(self.forgets(flavour));
        self.book(&mut reply, seen);
        if let Call::Responses = self.call {
            self.remember(&reply, behaviour, remembered);
        }
        let ask = &self.ask;
        seen.stream = ask.stream;
        if ask.stream {
            return self.stream(reply);
        }
        seen.usage_sent = seen.usage.is_some() && reply.tells_usage;
        let whole = |content_type, text| Content::Whole(content_type, text);
        match self.call {
            Call::Messages => whole(JSON, anthropic::whole(&reply)),
            Call::CountTokens => whole(JSON, anthropic::count(&reply)),
            Call::BatchResults => {
                let (lines, usage) = anthropic::batch_results(&reply);
                seen.usage = Some(usage);
                whole(BATCH_LINES, lines)
            }
            Call::Chat => whole(JSON, chat::whole(&reply)),
            Call::Completions => whole(JSON, completions::whole(&reply)),
            Call::Responses => {
                let background = ask.openai.background;
                let status = if background {
                    Status::Queued
                } else {
                    Status::Done
                };
                whole(JSON, responses::object(&reply, background, status))
            }
            Call::ResponseTokens => whole(JSON, responses::count(&reply)),
            Call::Embeddings => whole(
                JSON,
                self.vectors
                    .map(|wanted| vectors::openai(&reply, &wanted))
                    .unwrap_or_default(),
            ),
            Call::Images => whole(JSON, media::images(&reply)),
            Call::Transcription => whole(
                JSON,
                media::transcription(&reply, media::counts_seconds(&ask.model)),
            ),
            Call::Generate(_) | Call::StreamGenerate(..) => {
                whole(GOOGLE_JSON, gemini::whole(&reply))
            }
            Call::GeminiCount(_) => whole(GOOGLE_JSON, gemini::count(&reply)),
            Call::GeminiEmbed(_, batch) => whole(GOOGLE_JSON, vectors::gemini(self.inputs, batch)),
            Call::Ollama(form) => whole(OLLAMA_JSON, ollama::whole(&reply, form)),
            Call::OllamaEmbed(old) => whole(
                OLLAMA_JSON,
                self.vectors
                    .map(|wanted| vectors::ollama(&reply, &wanted, old))
                    .unwrap_or_default(),
            ),
        }
    }

    fn stream(&self, reply: Reply) -> Content {
        let openai = &self.ask.openai;
        match self.call {
            Call::Messages => Content::Stream(EVENTS, Frames::new(reply, anthropic::Stream)),
            Call::Completions => {
                let stream = completions::Stream::new(&reply, openai);
                Content::Stream(EVENTS, Frames::new(reply, stream))
            }
            Call::Responses => {
                let stream = responses::Stream::new(openai.background);
                Content::Stream(EVENTS, Frames::new(reply, stream))
            }
            Call::StreamGenerate(_, framing) => {
                let content_type = if framing == Framing::Events {
                    BARE_EVENTS
                } else {
                    GOOGLE_JSON
                };
                Content::Stream(
                    content_type,
                    Frames::new(reply, gemini::Stream::new(framing)),
                )
            }
            Call::Ollama(form) => {
                let stream = ollama::Stream::new(&reply, form);
                Content::Stream(LINES, Frames::new(reply, stream))
            }
            // Nothing else is asked for as a stream.
            _ => {
                let stream = chat_stream::Stream::new(&reply, openai);
                let content_type = if reply.flavour == Flavour::OpenAi {
                    EVENTS
                } else {
                    BARE_EVENTS
                };
                Content::Stream(content_type, Frames::new(reply, stream))
            }
        }
    }

    fn forgets(&self, flavour: Flavour) -> Forget {
        match (self.call, self.call.dialect()) {
            (Call::Chat | Call::Completions, _) => chat_usage::forgets(flavour),
            (Call::Responses, _) => chat_usage::forgets(Flavour::OpenAi),
            (Call::Embeddings | Call::Images | Call::Transcription, _) => ollama::FORGETS,
            (_, Dialect::Anthropic) => anthropic::FORGETS,
            (_, Dialect::Gemini) => gemini::FORGETS,
            (_, Dialect::OpenAi | Dialect::Ollama) => ollama::FORGETS,
        }
    }

    /// Writes down what the answer uses; nothing for what is free, or what is paid for when it is fetched.
    fn book(&self, reply: &mut Reply, seen: &mut Seen) {
        match self.call {
            Call::CountTokens
            | Call::ResponseTokens
            | Call::GeminiCount(_)
            | Call::GeminiEmbed(..) => return,
            Call::OllamaEmbed(true) => return,
            Call::Responses if self.is_background() => return,
            Call::Transcription if media::counts_seconds(&self.ask.model) => return,
            Call::Transcription => reply.usage.audio_in = reply.usage.input,
            Call::Images => reply.usage.image_out = reply.usage.output,
            Call::Chat if reply.flavour == Flavour::OpenRouter && reply.tells_usage => {
                seen.cost = Some(chat_usage::stated_cost(&reply.usage));
            }
            _ => {}
        }
        seen.usage = Some(reply.usage);
    }

    fn remember(&self, reply: &Reply, behaviour: &Behaviour, remembered: &Remembered) {
        let openai = &self.ask.openai;
        if self.is_background() {
            let takes = behaviour
                .latency
                .filter(|latency| !latency.is_zero())
                .unwrap_or(BACKGROUND_TIME);
            remembered.remember(reply.clone(), true, takes, false);
        } else if !openai.no_store {
            remembered.remember(reply.clone(), openai.background, Duration::ZERO, true);
        }
    }
}

/// A response that was asked for before: as it is now, or its events after the one with that number.
pub(super) fn recalled(
    recalled: Recalled,
    stream: bool,
    starting_after: Option<u64>,
    seen: &mut Seen,
) -> Content {
    let Recalled {
        reply,
        background,
        status,
        books,
    } = recalled;
    if books {
        seen.usage = Some(reply.usage);
    }
    if stream {
        seen.stream = true;
        let mut frames = Frames::new(reply, responses::Stream::new(background));
        for _ in 0..starting_after.map_or(0, |last| last.saturating_add(1)) {
            if frames.next().is_none() {
                break;
            }
        }
        return Content::Stream(EVENTS, frames);
    }
    seen.usage_sent = books && reply.tells_usage;
    Content::Whole(JSON, responses::object(&reply, background, status))
}
