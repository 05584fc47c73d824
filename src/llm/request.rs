//! Reads what a request body asks for, without building it and without keeping its text.
//!
//! One pass of serde_json finds the fields that tollgate decides on and proves that the whole is JSON; one quick walk
//! measures the prompt. A body that cannot be read is not refused: it passes and is estimated by its length. Only one
//! is refused, that which names such a field twice, because provider and proxy might read different ones.

mod asks;
mod caps;
pub(in crate::llm) mod cursor;
mod declared;
mod decoded;
mod fields;
mod history;
mod multipart;
mod prompt;
mod settings;
mod stated;
mod user_text;

use std::borrow::Cow;
use std::ops::Range;

use caps::Caps;
use cursor::{Cursor, member, text_of};
use declared::Declared;
use fields::{Field, Fields};
use prompt::Prompt;
use user_text::UserText;

use super::estimate::PromptSize;
use super::wire::Endpoint;

pub use asks::{Asks, ThinkingAsked, ToolChoice};
pub(in crate::llm) use caps::whole_number;
pub use decoded::{Unreadable, decoded};
pub(in crate::llm) use fields::folded;
pub use history::{History, Seen};
pub use stated::{Stated, UserId};

/// What a request body asks for. Spans are byte ranges of the body that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peek<'a> {
    /// The model that the body names.
    pub model: Option<ModelField<'a>>,
    /// Whether the body asks for a stream (Ollama: unless it says no). A stream flag in the path beats it.
    pub stream: bool,
    /// Whether the body asks for usage in the stream, and where that could be put.
    pub usage_option: UsageOption,
    /// The most output tokens that each answer may have. Numbers too large for `u64` stay at its end.
    pub output_cap: Option<u64>,
    /// How many answers are asked for (`n`, `best_of`, `candidateCount`); at least 1.
    pub choices: u32,
    /// The service tier that is asked for, as it is spelled.
    pub service_tier: Option<Cow<'a, str>>,
    /// Anthropic's `speed` that is asked for (`fast`), as it is spelled.
    pub speed: Option<Cow<'a, str>>,
    /// Where inference is to run (Anthropic's `inference_geo`), as it is spelled.
    pub region: Option<Cow<'a, str>>,
    /// The work is to go on in the background (OpenAI Responses): the answer is a receipt, what it cost is told later.
    pub background: bool,
    /// How many tools are declared.
    pub tools: u32,
    /// Their names, and those of the provider's own tools and MCP servers, escapes resolved: a tool that the provider
    /// defines has its type here and its name, an MCP server `mcp` and its name. Empty for what has no readable name.
    pub declared: Vec<Cow<'a, str>>,
    /// Tools may be declared where they are not looked for: the provider holds a part of the request (a template, cached
    /// content, a thread), or a part of the conversation declares some (Codex's `additional_tools`).
    pub hidden_tools: bool,
    /// Models that are named besides `model`: to fall back to, or that a tool uses. Empty for what cannot be read.
    pub other_models: Vec<Cow<'a, str>>,
    /// Whether reasoning is asked for.
    pub thinking: bool,
    /// The provider holds a part of the prompt (a previous response, conversation, thread, template or cached
    /// content), so that `prompt` is too small by an unknown amount.
    pub hidden_context: bool,
    /// The model is given more than the body shows, by an unknown amount: a hidden part of the prompt, files by their id
    /// or address (images apart, whose size is bounded), a container, or what tools that the provider runs will find.
    pub hidden_input: bool,
    /// Bytes of the body, without its content encoding.
    pub body_bytes: u64,
    /// How the body is a form; `None` for JSON.
    pub form: Option<Form<'a>>,
    /// How large the prompt is.
    pub prompt: PromptSize,
    /// How many messages, or texts in their place, there are.
    pub messages: u32,
    /// What it demands of the model that serves it.
    pub asks: Asks<'a>,
    /// What the body says about who is asking.
    pub stated: Stated<'a>,
    /// The newest text that the user wrote, at most 8 KiB of it, for the detection of the task. Never kept.
    pub newest_user_text: Option<Cow<'a, str>>,
    /// Tells the conversations of one session apart: a number made of the user's first words. Never kept on disk.
    pub beginning: u64,
    /// An agent asks for a purpose of its own and not for its user: a title for the conversation, whether a topic is new.
    pub side_request: bool,
}

/// The model's name and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelField<'a> {
    /// The name, escapes resolved.
    pub name: Cow<'a, str>,
    /// The value in the body; in JSON with its quotes.
    pub span: Range<usize>,
    /// Whether it is written as JSON; a form field is not.
    pub json: bool,
}

/// A form that was read, and how far that can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form<'a> {
    /// The boundary by which it was taken apart: that of its first line. The content type must name the same, or else the
    /// provider takes it apart in another way.
    pub boundary: &'a [u8],
    /// Every part has a name that can be read in one way only.
    pub plain: bool,
}

/// The state of `stream_options.include_usage`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UsageOption {
    /// There is no `stream_options`; a first member of the body would stand at this offset.
    Absent(usize),
    /// `stream_options` is null, here.
    Null(Range<usize>),
    /// `stream_options` is an object without `include_usage`; its first member would stand at this offset.
    Without {
        /// Just behind the opening brace.
        at: usize,
        /// Whether the object is `{}`.
        empty: bool,
    },
    /// `include_usage` is false or null, here.
    Off(Range<usize>),
    /// `include_usage` is true: the client expects the extra chunk.
    On,
    /// Anything else, about which the provider will complain; or the endpoint has no such option.
    Odd,
}

/// Why a body has no [`Peek`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unparsed {
    /// It is no JSON object (nor a form where one is usual): it passes, counted as unparsed.
    NotJson,
    /// It has this field twice: it is refused, as it could mean two things.
    DuplicateField(&'static str),
}

/// Reads a request body.
///
/// # Errors
///
/// [`Unparsed::NotJson`] is not the client's fault; only [`Unparsed::DuplicateField`] is to be refused.
pub fn peek(endpoint: Endpoint, body: &[u8]) -> Result<Peek<'_>, Unparsed> {
    if matches!(endpoint, Endpoint::Images | Endpoint::Audio) && body.starts_with(b"--") {
        return multipart::peek(body);
    }
    let whole = std::str::from_utf8(body).map_err(|_| Unparsed::NotJson)?;
    // Some providers' parsers skip a byte-order mark; those that do not refuse the body themselves.
    let text = whole.strip_prefix('\u{FEFF}').unwrap_or(whole);
    let fields = Fields::read(endpoint, text).map_err(|_| Unparsed::NotJson)?;
    if let Some(name) = fields.duplicate() {
        return Err(Unparsed::DuplicateField(name));
    }

    let mut prompt = Prompt::default();
    for field in [
        Field::Messages,
        Field::Input,
        Field::Contents,
        Field::Prompt,
    ] {
        if let Some(raw) = fields.get(field) {
            prompt.add_messages(raw);
        }
    }
    for field in [Field::System, Field::Content, Field::Requests] {
        if let Some(raw) = fields.get(field) {
            prompt.add_content(raw);
        }
    }
    if let Some(raw) = fields.get(Field::Images) {
        prompt.add_images(raw);
    }
    for field in [Field::Tools, Field::Functions, Field::Format] {
        if let Some(raw) = fields.get(field) {
            prompt.add_raw(raw);
        }
    }
    // Ollama's `context` is the conversation so far, in token ids.
    prompt.size.token_ids += u64::from(fields.get(Field::Context).map_or(0, count));
    let user_text = if asks_in_words(endpoint) {
        user_text::newest(prompt.newest_turns())
    } else {
        UserText::default()
    };
    let model = fields.get(Field::Model).and_then(|raw| {
        Some(ModelField {
            name: text_of(raw)?,
            span: span_in(whole, raw),
            json: true,
        })
    });
    let mut declared = Declared::read(endpoint, &fields);
    if let Some(model) = &model {
        declared.note_model(&model.name);
    }
    prompt.size.defined_tools = declared.defined;
    let caps = Caps::read(endpoint, &fields)?;
    let hidden_context = hides_context(&fields);
    let asks = Asks::read(
        endpoint,
        &fields,
        &declared,
        prompt.history,
        prompt.strange.take(),
        prompt.refers_to_files,
    );

    Ok(Peek {
        model,
        stream: streams(endpoint, fields.get(Field::Stream)),
        usage_option: usage_option(endpoint, whole, &fields),
        output_cap: caps.output,
        choices: caps.choices,
        service_tier: fields.get(Field::ServiceTier).and_then(text_of),
        speed: fields.get(Field::Speed).and_then(text_of),
        region: fields.get(Field::Region).and_then(text_of),
        background: fields.get(Field::Background).is_some_and(is_true),
        tools: declared.count,
        declared: declared.names,
        hidden_tools: hides_tools(&fields) || prompt.brings_tools,
        other_models: declared.models,
        thinking: asks_to_think(&fields),
        hidden_context,
        hidden_input: hidden_context
            || declared.provider_runs
            || prompt.refers_to_files
            || fields.get(Field::Container).is_some(),
        body_bytes: body.len() as u64,
        form: None,
        prompt: prompt.size,
        messages: prompt.messages,
        asks,
        stated: Stated::read(&fields),
        newest_user_text: user_text.own,
        beginning: prompt.beginning(),
        side_request: user_text.side_request,
    })
}

/// Whether a prompt at this endpoint tells a model what to do, so that a task can be read from it. Texts to be embedded
/// or spoken are material.
fn asks_in_words(endpoint: Endpoint) -> bool {
    !matches!(
        endpoint,
        Endpoint::Embeddings | Endpoint::OllamaEmbed | Endpoint::EmbedContent | Endpoint::Audio
    )
}

/// Where a part of the body stands in it.
fn span_in(whole: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    start..start + part.len()
}

/// Reads the stream flag. Some servers take 1 and "true" for true.
fn streams(endpoint: Endpoint, raw: Option<&str>) -> bool {
    match raw {
        None => matches!(endpoint, Endpoint::OllamaChat | Endpoint::OllamaGenerate),
        Some(raw) => is_true(raw),
    }
}

fn is_true(raw: &str) -> bool {
    matches!(raw, "true" | "1" | "\"true\"")
}

fn usage_option(endpoint: Endpoint, whole: &str, fields: &Fields<'_>) -> UsageOption {
    if !matches!(endpoint, Endpoint::ChatCompletions | Endpoint::Completions) {
        return UsageOption::Odd;
    }
    let Some(options) = fields.written(Field::StreamOptions) else {
        return match whole.find('{') {
            Some(brace) => UsageOption::Absent(brace + 1),
            None => UsageOption::Odd,
        };
    };
    let span = span_in(whole, options);
    let mut cursor = Cursor::new(options);
    if options == "null" {
        return UsageOption::Null(span);
    }
    if cursor.peek() != b'{' {
        return UsageOption::Odd;
    }
    cursor.open();
    let mut state = UsageOption::Without {
        at: span.start + 1,
        empty: true,
    };
    while let Some(key) = cursor.key() {
        cursor.peek();
        let value = cursor.skip();
        if key == "include_usage" {
            state = match value {
                "true" => UsageOption::On,
                "false" | "null" => UsageOption::Off(span_in(whole, value)),
                _ => UsageOption::Odd,
            };
        } else if let UsageOption::Without { empty, .. } = &mut state {
            *empty = false;
        }
    }
    state
}

/// How many elements an array has.
fn count(raw: &str) -> u32 {
    let mut cursor = Cursor::new(raw);
    if cursor.peek() != b'[' {
        return 0;
    }
    cursor.open();
    let mut elements = 0_u32;
    while cursor.element() {
        cursor.skip();
        elements = elements.saturating_add(1);
    }
    elements
}

/// Reads the switches for reasoning: Anthropic's and Ollama's, OpenAI's two spellings, Gemini's.
fn asks_to_think(fields: &Fields<'_>) -> bool {
    let switched_on = |raw: &str| match raw.as_bytes().first() {
        Some(b'{') => member(raw, "type") != Some("\"disabled\""),
        _ => raw != "false",
    };
    let effort = |raw: &str| raw != "\"none\"";
    let gemini = fields
        .get(Field::GenerationConfig)
        .and_then(|raw| member(raw, "thinkingConfig").or_else(|| member(raw, "thinking_config")))
        .is_some_and(|raw| {
            member(raw, "thinkingBudget").or_else(|| member(raw, "thinking_budget")) != Some("0")
        });
    gemini
        || fields.get(Field::Thinking).is_some_and(switched_on)
        || fields.get(Field::ReasoningEffort).is_some_and(effort)
        || fields.get(Field::Reasoning).is_some_and(|raw| {
            member(raw, "effort").is_none_or(effort) && member(raw, "enabled") != Some("false")
        })
}

fn hides_context(fields: &Fields<'_>) -> bool {
    hides_tools(fields) || any_given(fields, &[Field::PreviousResponse, Field::Conversation])
}

/// Whether the provider holds something that can bring tools along: OpenAI's templates and OpenRouter's presets do,
/// Gemini's cached content too; of Anthropic's threads it is not known.
fn hides_tools(fields: &Fields<'_>) -> bool {
    any_given(
        fields,
        &[Field::Template, Field::Preset, Field::CachedContent],
    ) || fields
        .get(Field::Thread)
        .is_some_and(|raw| member(raw, "type") != Some("\"create\""))
}

fn any_given(fields: &Fields<'_>, any: &[Field]) -> bool {
    any.iter()
        .any(|field| fields.get(*field).is_some_and(|raw| raw != "\"\""))
}
