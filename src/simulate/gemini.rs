//! Gemini's generateContent: reads requests, writes answers whole, as events and as a JSON array in pieces.

use std::borrow::Cow;
use std::fmt::Write as _;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::ask::Ask;
use super::frames::{Event, Part, Queue, Writer};
use super::reply::{Finish, Forget, Reply, json_string};
use super::text::{TextSize, Tokens};

/// Gemini has no word for cache writes: its caches are made by calls of their own.
pub(super) const FORGETS: Forget = Forget {
    cached: false,
    cache_write: true,
    cache_life: true,
    reasoning: false,
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    contents: Option<TextSize>,
    #[serde(alias = "system_instruction")]
    system_instruction: Option<TextSize>,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    #[serde(borrow, alias = "tool_config")]
    tool_config: Option<ToolConfig<'a>>,
    #[serde(alias = "generation_config")]
    generation_config: Option<GenerationConfig>,
    /// The whole request again, in `countTokens`.
    #[serde(alias = "generate_content_request")]
    generate_content_request: Option<TextSize>,
    content: Option<TextSize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolConfig<'a> {
    #[serde(borrow, alias = "function_calling_config")]
    function_calling_config: Option<FunctionCalling<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FunctionCalling<'a> {
    #[serde(borrow)]
    mode: Option<Cow<'a, str>>,
    #[serde(alias = "allowed_function_names")]
    allowed_function_names: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GenerationConfig {
    #[serde(alias = "max_output_tokens")]
    max_output_tokens: Option<u64>,
    #[serde(alias = "thinking_config")]
    thinking_config: Option<ThinkingConfig>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ThinkingConfig {
    #[serde(alias = "thinking_budget")]
    thinking_budget: Option<i64>,
}

/// Reads a request; model and streaming are in its path.
///
/// # Errors
/// Not JSON, or no contents.
pub(super) fn ask<'a>(body: &'a [u8], model: &'a str, stream: bool) -> Result<Ask<'a>, String> {
    let request: Request<'_> =
        serde_json::from_slice(body).map_err(|problem| problem.to_string())?;
    let contents = request
        .contents
        .or(request.generate_content_request)
        .or(request.content)
        .ok_or("* GenerateContentRequest.contents: contents is not specified")?;
    let tools = request
        .tools
        .map(|tools| TextSize::of_json(tools.get()))
        .unwrap_or_default();
    let config = request.generation_config;
    let calling = request
        .tool_config
        .and_then(|config| config.function_calling_config);
    Ok(Ask {
        model: Cow::Borrowed(model),
        stream,
        text: contents
            .plus(request.system_instruction.unwrap_or_default())
            .plus(tools),
        max_output: config.as_ref().and_then(|config| config.max_output_tokens),
        wants_reasoning: config
            .and_then(|config| config.thinking_config)
            .is_some_and(|thinking| thinking.thinking_budget != Some(0)),
        tools: request.tools,
        forced_tool: calling
            .filter(|calling| calling.mode.as_deref() == Some("ANY"))
            .map(|calling| {
                let allowed = calling.allowed_function_names.unwrap_or_default();
                allowed
                    .into_iter()
                    .next()
                    .map_or(Cow::Borrowed("any"), Cow::Owned)
            }),
        ..Ask::default()
    })
}

/// The answer to `countTokens`.
pub(super) fn count(reply: &Reply) -> String {
    let tokens = reply.usage.input;
    format!(
        r#"{{"totalTokens":{tokens},"promptTokensDetails":[{{"modality":"TEXT","tokenCount":{tokens}}}]}}"#
    )
}

fn text_part(text: &Tokens) -> String {
    format!(r#"{{"text":"{text}"}}"#)
}

fn thought_part(text: &Tokens) -> String {
    format!(r#"{{"text":"{text}","thought":true}}"#)
}

fn call_part(reply: &Reply) -> Option<String> {
    let tool = reply.tool.as_ref()?;
    Some(format!(
        r#"{{"functionCall":{{"name":{},"args":{}}}}}"#,
        json_string(&tool.name),
        tool.arguments
    ))
}

const fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::Tool => "STOP",
        Finish::Length => "MAX_TOKENS",
    }
}

/// One response object: the whole answer or a piece of it, with the figures so far.
fn response(
    reply: &Reply,
    parts: &str,
    finish: Option<Finish>,
    candidates: u64,
    thoughts: u64,
) -> String {
    let finish = finish
        .map(|finish| format!(r#","finishReason":"{}""#, finish_reason(finish)))
        .unwrap_or_default();
    let mut usage = String::new();
    if reply.tells_usage {
        let prompt = reply.usage.input;
        usage = format!(r#","usageMetadata":{{"promptTokenCount":{prompt}"#);
        for (name, count) in [
            ("cachedContentTokenCount", reply.usage.cached_read),
            ("candidatesTokenCount", candidates),
            ("thoughtsTokenCount", thoughts),
        ] {
            if count > 0 {
                let _ = write!(usage, r#","{name}":{count}"#);
            }
        }
        let total = prompt + candidates + thoughts;
        let _ = write!(
            usage,
            r#","totalTokenCount":{total},"promptTokensDetails":[{{"modality":"TEXT","tokenCount":{prompt}}}]}}"#
        );
    }
    format!(
        r#"{{"candidates":[{{"content":{{"parts":[{parts}],"role":"model"}},"index":0{finish}}}]{usage},"modelVersion":{},"responseId":"sim{}"}}"#,
        reply.model, reply.id
    )
}

/// The whole answer.
pub(super) fn whole(reply: &Reply) -> String {
    let mut parts = Vec::with_capacity(2);
    if reply.reasoning > 0 {
        parts.push(thought_part(&Tokens(0, reply.reasoning)));
    }
    if reply.text > 0 {
        parts.push(text_part(&Tokens(0, reply.text)));
    }
    parts.extend(call_part(reply));
    let usage = &reply.usage;
    response(
        reply,
        &parts.join(","),
        Some(reply.finish),
        usage.output - usage.reasoning,
        usage.reasoning,
    )
}

/// How the pieces of a stream are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// `alt=sse`: events that end in CRLF.
    Events,
    /// One JSON array, sent in pieces.
    Array,
}

/// The stream.
#[derive(Debug)]
pub(super) struct Stream {
    framing: Framing,
    /// Whether an element has gone before.
    begun: bool,
    thoughts: u64,
    candidates: u64,
}

impl Stream {
    /// A stream in that framing.
    pub(super) fn new(framing: Framing) -> Self {
        Self {
            framing,
            begun: false,
            thoughts: 0,
            candidates: 0,
        }
    }

    fn piece(&mut self, out: &mut Queue, response: &str, last: bool) {
        let before = if self.begun { "\n,\r\n" } else { "[" };
        let after = if last { "\n]" } else { "" };
        let text = match self.framing {
            Framing::Events => format_args!("data: {response}\r\n\r\n"),
            Framing::Array => format_args!("{before}{response}{after}"),
        };
        if last {
            out.usage_frame(text)
        } else {
            out.frame(text)
        }
        self.begun = true;
    }
}

impl Writer for Stream {
    fn write(&mut self, reply: &Reply, event: Event, out: &mut Queue) {
        match event {
            Event::Delta(_, Part::Reasoning, from, to) => {
                self.thoughts = to;
                let part = thought_part(&Tokens(from, to));
                let response = response(reply, &part, None, 0, to);
                self.piece(out, &response, false);
            }
            Event::Delta(_, Part::Text, from, to) => {
                self.candidates = to;
                let part = text_part(&Tokens(from, to));
                let response = response(reply, &part, None, to, self.thoughts);
                self.piece(out, &response, false);
            }
            Event::PartClose(_, Part::Tool) => {
                if let Some(part) = call_part(reply) {
                    let response = response(reply, &part, None, self.candidates, self.thoughts);
                    self.piece(out, &response, false);
                }
            }
            Event::Close => {
                let usage = &reply.usage;
                let part = text_part(&Tokens(0, 0));
                let response = response(
                    reply,
                    &part,
                    Some(reply.finish),
                    usage.output - usage.reasoning,
                    usage.reasoning,
                );
                self.piece(out, &response, true);
            }
            _ => {}
        }
    }

    /// Not an event: the bare object over several lines, as Google sends it.
    fn error(&self, _: &Reply, code: Option<&str>) -> Bytes {
        let status = json_string(code.unwrap_or("UNAVAILABLE"));
        let pretty = format!(
            "{{\n  \"error\": {{\n    \"code\": 503,\n    \"message\": \"The model is overloaded. Please try again later.\",\n    \"status\": {status}\n  }}\n}}\n"
        );
        match self.framing {
            Framing::Events => pretty.into(),
            Framing::Array if self.begun => format!("\n,\r\n{pretty}]").into(),
            Framing::Array => format!("[{pretty}]").into(),
        }
    }
}
