//! Anthropic Messages: reads requests, writes answers whole and as events.

use std::borrow::Cow;
use std::fmt::{self, Display};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::ask::{Ask, ToolChoice};
use super::errors;
use super::frames::{Event, Part, Queue, Writer};
use super::reply::{Finish, Forget, Reply, json_string};
use super::text::{TextSize, Tokens};
use crate::llm::usage::Usage;

/// Anthropic has a word for every kind of token.
pub(super) const FORGETS: Forget = Forget {
    cached: false,
    cache_write: false,
    cache_life: false,
    reasoning: false,
};

/// Stands for the proof that thinking was not changed.
const SIGNATURE: &str = "c2ltdWxhdGVk";

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    max_tokens: Option<u64>,
    stream: Option<bool>,
    messages: Option<TextSize>,
    system: Option<TextSize>,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    tool_choice: Option<ToolChoice>,
    thinking: Option<Thinking>,
}

#[derive(Deserialize)]
struct Thinking {
    #[serde(rename = "type", default)]
    kind: String,
}

/// Reads a request; `counting` ones need no maximum.
///
/// # Errors
/// Not JSON, or a field that is required is missing.
pub(super) fn ask(body: &[u8], counting: bool) -> Result<Ask<'_>, String> {
    let request: Request<'_> =
        serde_json::from_slice(body).map_err(|problem| problem.to_string())?;
    let missing = |field: &str| format!("{field}: Field required");
    let text = request
        .messages
        .ok_or_else(|| missing("messages"))?
        .plus(request.system.unwrap_or_default())
        .plus(
            request
                .tools
                .map(|tools| TextSize::of_json(tools.get()))
                .unwrap_or_default(),
        );
    if request.max_tokens.is_none() && !counting {
        return Err(missing("max_tokens"));
    }
    Ok(Ask {
        model: request.model.ok_or_else(|| missing("model"))?,
        stream: request.stream.unwrap_or(false),
        text,
        max_output: request.max_tokens,
        wants_reasoning: request
            .thinking
            .is_some_and(|thinking| thinking.kind != "disabled"),
        tools: request.tools,
        forced_tool: request.tool_choice.and_then(ToolChoice::forced),
        ..Ask::default()
    })
}

/// The answer to `count_tokens`.
pub(super) fn count(reply: &Reply) -> String {
    format!(r#"{{"input_tokens":{}}}"#, reply.usage.input)
}

/// The whole answer.
pub(super) fn whole(reply: &Reply) -> String {
    message(
        reply,
        &content(reply),
        stop_reason(reply),
        Some((&reply.usage, "standard")),
    )
}

/// The results of a batch, with this reply for two of its requests; and what they use together.
pub(super) fn batch_results(reply: &Reply) -> (String, Usage) {
    let one = message(
        reply,
        &content(reply),
        stop_reason(reply),
        Some((&reply.usage, "batch")),
    );
    let mut both = reply.usage;
    both.add(&reply.usage);
    let lines = format!(
        "{{\"custom_id\":\"first\",\"result\":{{\"type\":\"succeeded\",\"message\":{one}}}}}\n\
         {{\"custom_id\":\"second\",\"result\":{{\"type\":\"expired\"}}}}\n\
         {{\"custom_id\":\"third\",\"result\":{{\"type\":\"succeeded\",\"message\":{one}}}}}\n"
    );
    (lines, both)
}

fn message(
    reply: &Reply,
    content: &str,
    stop_reason: &str,
    usage: Option<(&Usage, &str)>,
) -> String {
    let usage = Maybe(
        usage
            .filter(|_| reply.tells_usage)
            .map(|(usage, tier)| UsageText(usage, Some(tier))),
    );
    format!(
        r#"{{"model":{},"id":"msg_sim{}","type":"message","role":"assistant","content":[{content}],"stop_reason":{stop_reason},"stop_sequence":null,"stop_details":null{usage}}}"#,
        reply.model, reply.id
    )
}

fn content(reply: &Reply) -> String {
    let mut blocks = Vec::with_capacity(2);
    if reply.reasoning > 0 {
        blocks.push(format!(
            r#"{{"type":"thinking","thinking":"{}","signature":"{SIGNATURE}"}}"#,
            Tokens(0, reply.reasoning)
        ));
    }
    if reply.text > 0 {
        blocks.push(format!(
            r#"{{"type":"text","text":"{}"}}"#,
            Tokens(0, reply.text)
        ));
    }
    if let Some(tool) = &reply.tool {
        blocks.push(format!(
            r#"{{"type":"tool_use","id":"toolu_sim{}","name":{},"input":{}}}"#,
            reply.id,
            json_string(&tool.name),
            tool.arguments
        ));
    }
    blocks.join(",")
}

fn stop_reason(reply: &Reply) -> &'static str {
    match reply.finish {
        Finish::Stop => r#""end_turn""#,
        Finish::Length => r#""max_tokens""#,
        Finish::Tool => r#""tool_use""#,
    }
}

/// Writes `,"usage":…` or nothing.
struct Maybe<'a>(Option<UsageText<'a>>);

impl Display for Maybe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(usage) => write!(f, r#","usage":{usage}"#),
            None => Ok(()),
        }
    }
}

/// Usage in Anthropic's three separate input figures; with the service tier, which `message_delta` leaves out together
/// with the split of the cache writes.
struct UsageText<'a>(&'a Usage, Option<&'a str>);

impl Display for UsageText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let UsageText(usage, tier) = self;
        write!(
            f,
            r#"{{"input_tokens":{},"cache_creation_input_tokens":{},"cache_read_input_tokens":{}"#,
            usage.uncached(),
            usage.cache_write,
            usage.cached_read
        )?;
        if let Some(tier) = tier {
            write!(
                f,
                r#","cache_creation":{{"ephemeral_5m_input_tokens":{},"ephemeral_1h_input_tokens":{}}},"service_tier":"{tier}""#,
                usage.cache_write - usage.cache_write_1h,
                usage.cache_write_1h
            )?;
        }
        write!(f, r#","output_tokens":{}"#, usage.output)?;
        if usage.reasoning > 0 {
            write!(
                f,
                r#","output_tokens_details":{{"thinking_tokens":{}}}"#,
                usage.reasoning
            )?;
        }
        f.write_str("}")
    }
}

/// The event stream.
#[derive(Debug)]
pub(super) struct Stream;

impl Writer for Stream {
    fn write(&mut self, reply: &Reply, event: Event, out: &mut Queue) {
        match event {
            Event::Open => {
                // Only a provisional output figure: the real one comes at the end.
                let provisional = Usage {
                    output: reply.usage.output.min(1),
                    reasoning: 0,
                    ..reply.usage
                };
                let message = message(reply, "", "null", Some((&provisional, "standard")));
                out.frame(format_args!(
                    "event: message_start\ndata: {{\"type\":\"message_start\",\"message\":{message}}}\n\n"
                ));
            }
            Event::PartOpen(index, part) => {
                let block = match (part, &reply.tool) {
                    (Part::Reasoning, _) => {
                        r#"{"type":"thinking","thinking":"","signature":""}"#.to_owned()
                    }
                    (Part::Tool, Some(tool)) => format!(
                        r#"{{"type":"tool_use","id":"toolu_sim{}","name":{},"input":{{}}}}"#,
                        reply.id,
                        json_string(&tool.name)
                    ),
                    _ => r#"{"type":"text","text":""}"#.to_owned(),
                };
                out.frame(format_args!(
                    "event: content_block_start\ndata: {{\"type\":\"content_block_start\",\"index\":{index},\"content_block\":{block}}}\n\n"
                ));
                if index == 0 {
                    out.frame(format_args!("event: ping\ndata: {{\"type\":\"ping\"}}\n\n"));
                }
            }
            Event::Delta(index, part, from, to) => match (part, &reply.tool) {
                (Part::Reasoning, _) => {
                    delta(
                        out,
                        index,
                        format_args!(r#""thinking_delta","thinking":"{}""#, Tokens(from, to)),
                    );
                }
                (Part::Tool, Some(tool)) => {
                    let piece = json_string(&tool.arguments[from as usize..to as usize]);
                    delta(
                        out,
                        index,
                        format_args!(r#""input_json_delta","partial_json":{piece}"#),
                    );
                }
                _ => delta(
                    out,
                    index,
                    format_args!(r#""text_delta","text":"{}""#, Tokens(from, to)),
                ),
            },
            Event::PartClose(index, part) => {
                if part == Part::Reasoning {
                    delta(
                        out,
                        index,
                        format_args!(r#""signature_delta","signature":"{SIGNATURE}""#),
                    );
                }
                out.frame(format_args!(
                    "event: content_block_stop\ndata: {{\"type\":\"content_block_stop\",\"index\":{index}}}\n\n"
                ));
            }
            Event::Close => {
                let usage = Maybe(reply.tells_usage.then_some(UsageText(&reply.usage, None)));
                out.usage_frame(format_args!(
                    "event: message_delta\ndata: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":{},\"stop_sequence\":null,\"stop_details\":null}}{usage}}}\n\n",
                    stop_reason(reply)
                ));
                out.frame(format_args!(
                    "event: message_stop\ndata: {{\"type\":\"message_stop\"}}\n\n"
                ));
            }
        }
    }

    fn error(&self, reply: &Reply, code: Option<&str>) -> Bytes {
        let body = errors::anthropic_body(
            "overloaded_error",
            "Overloaded",
            code,
            &format!("req_sim{}", reply.id),
        );
        format!("event: error\ndata: {body}\n\n").into()
    }
}

fn delta(out: &mut Queue, index: u64, fields: fmt::Arguments<'_>) {
    out.frame(format_args!(
        "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":{index},\"delta\":{{\"type\":{fields}}}}}\n\n"
    ));
}
