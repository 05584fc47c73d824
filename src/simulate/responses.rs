//! OpenAI Responses: reads requests, writes answers whole and as events.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::ask::{Ask, OpenAiAsk, ToolChoice};
use super::frames::{Event, Part, Queue, Writer};
use super::reply::{Finish, Reply, json_string};
use super::text::{TextSize, Tokens};

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    stream: Option<bool>,
    input: Option<TextSize>,
    instructions: Option<TextSize>,
    max_output_tokens: Option<u64>,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    tool_choice: Option<ToolChoice>,
    reasoning: Option<Reasoning<'a>>,
    background: Option<bool>,
    store: Option<bool>,
    #[serde(borrow)]
    previous_response_id: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Reasoning<'a> {
    #[serde(borrow)]
    effort: Option<Cow<'a, str>>,
}

/// Reads a request.
///
/// # Errors
/// Not JSON, or no model.
pub(super) fn ask(body: &[u8]) -> Result<Ask<'_>, String> {
    let request: Request<'_> =
        serde_json::from_slice(body).map_err(|problem| problem.to_string())?;
    let tools = request
        .tools
        .map(|tools| TextSize::of_json(tools.get()))
        .unwrap_or_default();
    Ok(Ask {
        model: request
            .model
            .ok_or("Missing required parameter: 'model'.")?,
        stream: request.stream.unwrap_or(false),
        text: request
            .input
            .unwrap_or_default()
            .plus(request.instructions.unwrap_or_default())
            .plus(tools),
        max_output: request.max_output_tokens,
        wants_reasoning: request
            .reasoning
            .and_then(|reasoning| reasoning.effort)
            .is_some_and(|effort| effort != "none"),
        tools: request.tools,
        forced_tool: request.tool_choice.and_then(ToolChoice::forced),
        openai: OpenAiAsk {
            background: request.background.unwrap_or(false),
            no_store: request.store == Some(false),
            previous: request.previous_response_id,
            ..OpenAiAsk::default()
        },
        ..Ask::default()
    })
}

/// How far an answer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// Waits in the background.
    Queued,
    /// Is being made.
    InProgress,
    /// Has come to its end, whatever that is.
    Done,
    /// Was cancelled.
    Cancelled,
}

/// The response object in that state.
pub(super) fn object(reply: &Reply, background: bool, status: Status) -> String {
    let done = status == Status::Done;
    let incomplete = done && reply.finish == Finish::Length;
    Object {
        status: match status {
            Status::Queued => "queued",
            Status::InProgress => "in_progress",
            Status::Done if incomplete => "incomplete",
            Status::Done => "completed",
            Status::Cancelled => "cancelled",
        },
        error: None,
        incomplete_details: if incomplete {
            r#"{"reason":"max_output_tokens"}"#
        } else {
            "null"
        },
        output: if done {
            items(reply).join(",")
        } else {
            String::new()
        },
        usage: if done && reply.tells_usage {
            usage(reply)
        } else {
            "null".to_owned()
        },
    }
    .text(reply, background)
}

/// The fields of a response object that its state decides.
struct Object<'a> {
    status: &'a str,
    error: Option<&'a str>,
    incomplete_details: &'a str,
    output: String,
    usage: String,
}

impl Object<'_> {
    fn text(&self, reply: &Reply, background: bool) -> String {
        let Reply {
            id, created, model, ..
        } = reply;
        let Object {
            status,
            incomplete_details,
            output,
            usage,
            ..
        } = self;
        let error = match self.error {
            Some(code) => format!(
                r#"{{"code":{},"message":"An error occurred."}}"#,
                json_string(code)
            ),
            None => "null".to_owned(),
        };
        format!(
            r#"{{"id":"resp_sim{id}","object":"response","created_at":{created},"status":"{status}","background":{background},"error":{error},"incomplete_details":{incomplete_details},"instructions":null,"max_output_tokens":null,"model":{model},"output":[{output}],"parallel_tool_calls":true,"previous_response_id":null,"prompt_cache_key":null,"reasoning":{{"effort":"medium","summary":null}},"safety_identifier":null,"service_tier":"default","store":true,"temperature":1.0,"text":{{"format":{{"type":"text"}}}},"tool_choice":"auto","tools":[],"top_p":1.0,"truncation":"disabled","usage":{usage},"user":null,"metadata":{{}}}}"#
        )
    }
}

/// The answer to a count of input tokens.
pub(super) fn count(reply: &Reply) -> String {
    format!(
        r#"{{"object":"response.input_tokens","input_tokens":{}}}"#,
        reply.usage.input
    )
}

fn usage(reply: &Reply) -> String {
    let usage = &reply.usage;
    format!(
        r#"{{"input_tokens":{},"input_tokens_details":{{"cached_tokens":{},"cache_write_tokens":{},"cache_write_tokens_details":{{"ttl_30m_tokens":{},"ttl_12h_tokens":0}}}},"output_tokens":{},"output_tokens_details":{{"reasoning_tokens":{}}},"total_tokens":{}}}"#,
        usage.input,
        usage.cached_read,
        usage.cache_write,
        usage.cache_write,
        usage.output,
        usage.reasoning,
        usage.input + usage.output
    )
}

fn parts(reply: &Reply) -> impl Iterator<Item = Part> {
    [
        (reply.reasoning > 0).then_some(Part::Reasoning),
        (reply.text > 0).then_some(Part::Text),
        reply.tool.is_some().then_some(Part::Tool),
    ]
    .into_iter()
    .flatten()
}

fn items(reply: &Reply) -> Vec<String> {
    parts(reply).map(|part| item(reply, part, true)).collect()
}

/// An output item, empty or complete.
fn item(reply: &Reply, part: Part, complete: bool) -> String {
    let id = item_id(reply, part);
    let status = match (complete, reply.finish) {
        (false, _) => "in_progress",
        (true, Finish::Length) => "incomplete",
        (true, _) => "completed",
    };
    match (part, &reply.tool) {
        (Part::Reasoning, _) => format!(r#"{{"id":"{id}","type":"reasoning","summary":[]}}"#),
        (Part::Tool, Some(tool)) => format!(
            r#"{{"id":"{id}","type":"function_call","status":"{status}","call_id":"call_sim{}","name":{},"arguments":{}}}"#,
            reply.id,
            json_string(&tool.name),
            if complete {
                json_string(&tool.arguments)
            } else {
                r#""""#.to_owned()
            }
        ),
        _ => {
            let content = if complete {
                text_part(reply.text)
            } else {
                String::new()
            };
            format!(
                r#"{{"id":"{id}","type":"message","status":"{status}","role":"assistant","content":[{content}]}}"#
            )
        }
    }
}

fn text_part(tokens: u64) -> String {
    format!(
        r#"{{"type":"output_text","annotations":[],"logprobs":[],"text":"{}"}}"#,
        Tokens(0, tokens)
    )
}

fn item_id(reply: &Reply, part: Part) -> String {
    let prefix = match part {
        Part::Reasoning => "rs",
        Part::Text => "msg",
        Part::Tool => "fc",
    };
    format!("{prefix}_sim{}", reply.id)
}

/// The event stream.
#[derive(Debug)]
pub(super) struct Stream {
    background: bool,
    sequence: u64,
}

impl Stream {
    /// A stream from the first event on.
    pub(super) fn new(background: bool) -> Self {
        Self {
            background,
            sequence: 0,
        }
    }

    fn event(&mut self, out: &mut Queue, name: &str, fields: fmt::Arguments<'_>) {
        let sequence = self.sequence;
        self.sequence += 1;
        out.frame(format_args!(
            "event: {name}\ndata: {{\"type\":\"{name}\",\"sequence_number\":{sequence},{fields}}}\n\n"
        ));
    }
}

impl Writer for Stream {
    fn write(&mut self, reply: &Reply, event: Event, out: &mut Queue) {
        match event {
            Event::Open => {
                let begun = object(reply, self.background, Status::InProgress);
                if self.background {
                    let queued = object(reply, true, Status::Queued);
                    self.event(
                        out,
                        "response.created",
                        format_args!(r#""response":{queued}"#),
                    );
                    self.event(
                        out,
                        "response.queued",
                        format_args!(r#""response":{queued}"#),
                    );
                } else {
                    self.event(
                        out,
                        "response.created",
                        format_args!(r#""response":{begun}"#),
                    );
                }
                self.event(
                    out,
                    "response.in_progress",
                    format_args!(r#""response":{begun}"#),
                );
            }
            Event::PartOpen(index, part) => {
                let begun = item(reply, part, false);
                self.event(
                    out,
                    "response.output_item.added",
                    format_args!(r#""output_index":{index},"item":{begun}"#),
                );
                if part == Part::Text {
                    let id = item_id(reply, part);
                    self.event(
                        out,
                        "response.content_part.added",
                        format_args!(
                            r#""item_id":"{id}","output_index":{index},"content_index":0,"part":{}"#,
                            text_part(0)
                        ),
                    );
                }
            }
            Event::Delta(index, part, from, to) => {
                let id = item_id(reply, part);
                match (part, &reply.tool) {
                    // OpenAI does not show its models' reasoning.
                    (Part::Reasoning, _) => {}
                    (Part::Tool, Some(tool)) => {
                        let piece = json_string(&tool.arguments[from as usize..to as usize]);
                        self.event(
                            out,
                            "response.function_call_arguments.delta",
                            format_args!(r#""item_id":"{id}","output_index":{index},"delta":{piece}"#),
                        );
                    }
                    _ => self.event(
                        out,
                        "response.output_text.delta",
                        format_args!(
                            r#""item_id":"{id}","output_index":{index},"content_index":0,"delta":"{}","logprobs":[]"#,
                            Tokens(from, to)
                        ),
                    ),
                }
            }
            Event::PartClose(index, part) => {
                let id = item_id(reply, part);
                match (part, &reply.tool) {
                    (Part::Reasoning, _) => {}
                    (Part::Tool, Some(tool)) => self.event(
                        out,
                        "response.function_call_arguments.done",
                        format_args!(
                            r#""item_id":"{id}","output_index":{index},"arguments":{},"name":{}"#,
                            json_string(&tool.arguments),
                            json_string(&tool.name)
                        ),
                    ),
                    _ => {
                        self.event(
                            out,
                            "response.output_text.done",
                            format_args!(
                                r#""item_id":"{id}","output_index":{index},"content_index":0,"text":"{}","logprobs":[]"#,
                                Tokens(0, reply.text)
                            ),
                        );
                        self.event(
                            out,
                            "response.content_part.done",
                            format_args!(
                                r#""item_id":"{id}","output_index":{index},"content_index":0,"part":{}"#,
                                text_part(reply.text)
                            ),
                        );
                    }
                }
                let whole = item(reply, part, true);
                self.event(
                    out,
                    "response.output_item.done",
                    format_args!(r#""output_index":{index},"item":{whole}"#),
                );
            }
            Event::Close => {
                let name = match reply.finish {
                    Finish::Length => "response.incomplete",
                    Finish::Stop | Finish::Tool => "response.completed",
                };
                let sequence = self.sequence;
                let response = object(reply, self.background, Status::Done);
                out.usage_frame(format_args!(
                    "event: {name}\ndata: {{\"type\":\"{name}\",\"sequence_number\":{sequence},\"response\":{response}}}\n\n"
                ));
            }
        }
    }

    /// A flat `error` event; with a code a `response.failed`, which is how OpenAI tells of its own refusals.
    fn error(&self, reply: &Reply, code: Option<&str>) -> Bytes {
        let sequence = self.sequence;
        match code {
            None => format!(
                "event: error\ndata: {{\"type\":\"error\",\"sequence_number\":{sequence},\"code\":\"server_error\",\"message\":\"An error occurred.\",\"param\":null}}\n\n"
            ),
            Some(code) => {
                let failed = Object {
                    status: "failed",
                    error: Some(code),
                    incomplete_details: "null",
                    output: String::new(),
                    usage: "null".to_owned(),
                }
                .text(reply, self.background);
                format!(
                    "event: response.failed\ndata: {{\"type\":\"response.failed\",\"sequence_number\":{sequence},\"response\":{failed}}}\n\n"
                )
            }
        }
        .into()
    }
}
