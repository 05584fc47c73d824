//! OpenAI's old Completions: reads requests, writes answers whole and as chunks.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;

use super::ask::{Ask, OpenAiAsk};
use super::chat::StreamOptions;
use super::chat_stream::stream_error;
use super::chat_usage::UsageText;
use super::frames::{Event, Part, Queue, Writer};
use super::reply::{Finish, Reply};
use super::text::{TextSize, Tokens};

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<u64>,
    n: Option<u64>,
    prompt: Option<TextSize>,
}

/// Reads a request. The prompt may be missing, as at OpenAI.
///
/// # Errors
/// Not JSON, or no model.
pub(super) fn ask(body: &[u8]) -> Result<Ask<'_>, String> {
    let request: Request<'_> =
        serde_json::from_slice(body).map_err(|problem| problem.to_string())?;
    Ok(Ask {
        model: request.model.ok_or("you must provide a model parameter")?,
        stream: request.stream.unwrap_or(false),
        text: request.prompt.unwrap_or_default(),
        max_output: request.max_tokens,
        choices: request.n.unwrap_or(1),
        openai: StreamOptions::ask(request.stream_options),
        ..Ask::default()
    })
}

const fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Length => "\"length\"",
        Finish::Stop | Finish::Tool => "\"stop\"",
    }
}

fn head(reply: &Reply) -> String {
    format!(
        r#"{{"id":"cmpl-sim{}","object":"text_completion","created":{},"model":{},"choices":["#,
        reply.id, reply.created, reply.model
    )
}

fn choice(text: &Tokens, index: u64, finish: &str) -> String {
    format!(r#"{{"text":"{text}","index":{index},"logprobs":null,"finish_reason":{finish}}}"#)
}

/// The whole answer.
pub(super) fn whole(reply: &Reply) -> String {
    let choices: Vec<_> = (0..reply.choices)
        .map(|index| choice(&Tokens(0, reply.text), index, finish_reason(reply.finish)))
        .collect();
    let usage = match reply.tells_usage {
        true => format!(r#","usage":{}"#, UsageText(reply)),
        false => String::new(),
    };
    format!("{}{}]{usage}}}", head(reply), choices.join(","))
}

/// The stream of chunks.
#[derive(Debug)]
pub(super) struct Stream {
    head: String,
    include_usage: bool,
}

impl Stream {
    /// A stream that honours the request's options.
    pub(super) fn new(reply: &Reply, ask: &OpenAiAsk<'_>) -> Self {
        Self {
            head: head(reply),
            include_usage: ask.include_usage && reply.tells_usage,
        }
    }

    fn chunk(&self, reply: &Reply, out: &mut Queue, text: &Tokens, finish: &str) {
        let (head, usage) = (
            &self.head,
            if self.include_usage {
                r#","usage":null"#
            } else {
                ""
            },
        );
        for index in 0..reply.choices {
            out.frame(format_args!(
                "data: {head}{}]{usage}}}\n\n",
                choice(text, index, finish)
            ));
        }
    }
}

impl Writer for Stream {
    fn write(&mut self, reply: &Reply, event: Event, out: &mut Queue) {
        match event {
            Event::Delta(_, Part::Text, from, to) => {
                self.chunk(reply, out, &Tokens(from, to), "null")
            }
            Event::Close => {
                self.chunk(reply, out, &Tokens(0, 0), finish_reason(reply.finish));
                if self.include_usage {
                    out.usage_frame(format_args!(
                        "data: {}],\"usage\":{}}}\n\n",
                        self.head,
                        UsageText(reply)
                    ));
                }
                out.frame(format_args!("data: [DONE]\n\n"));
            }
            _ => {}
        }
    }

    fn error(&self, _: &Reply, code: Option<&str>) -> Bytes {
        stream_error(code)
    }
}
