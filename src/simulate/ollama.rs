//! Ollama's own API: reads requests, writes answers whole and as lines of JSON.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::ask::Ask;
use super::frames::{Event, Part, Queue, Writer};
use super::reply::{Finish, Forget, Reply, json_string};
use super::text::{TextSize, Tokens};

/// Ollama counts prompt and output, nothing else.
pub(super) const FORGETS: Forget = Forget {
    cached: true,
    cache_write: true,
    cache_life: true,
    reasoning: true,
};

/// Which of the two ways to generate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `/api/chat`: messages.
    Chat,
    /// `/api/generate`: a prompt.
    Generate,
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    stream: Option<bool>,
    messages: Option<TextSize>,
    prompt: Option<TextSize>,
    system: Option<TextSize>,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    #[serde(borrow)]
    think: Option<&'a RawValue>,
    options: Option<Options>,
}

#[derive(Deserialize)]
struct Options {
    num_predict: Option<i64>,
}

/// Reads a request. Streaming is the default.
///
/// # Errors
/// Not JSON, or no model.
pub(super) fn ask(body: &[u8]) -> Result<Ask<'_>, String> {
    let request: Request<'_> =
        serde_json::from_slice(body).map_err(|problem| problem.to_string())?;
    let text = [request.messages, request.prompt, request.system]
        .into_iter()
        .flatten()
        .chain(request.tools.map(|tools| TextSize::of_json(tools.get())))
        .fold(TextSize::default(), TextSize::plus);
    Ok(Ask {
        model: request
            .model
            .filter(|model| !model.is_empty())
            .ok_or("model is required")?,
        stream: request.stream.unwrap_or(true),
        text,
        // Negative means without end.
        max_output: request
            .options
            .and_then(|options| options.num_predict)
            .and_then(|most| u64::try_from(most).ok()),
        wants_reasoning: request
            .think
            .is_some_and(|think| !matches!(think.get(), "false" | "null")),
        tools: request.tools,
        ..Ask::default()
    })
}

/// The whole answer: a single last line.
pub(super) fn whole(reply: &Reply, form: Form) -> String {
    let writer = Stream::new(reply, form);
    let thinking = (reply.reasoning > 0).then(|| Tokens(0, reply.reasoning).to_string());
    let text = Tokens(0, reply.text).to_string();
    let said = writer.said(&text, thinking.as_deref(), tool_calls(reply).as_deref());
    format!("{}{said},{}}}", writer.head, last_fields(reply))
}

fn tool_calls(reply: &Reply) -> Option<String> {
    let tool = reply.tool.as_ref()?;
    Some(format!(
        r#"[{{"function":{{"index":0,"name":{},"arguments":{}}}}}]"#,
        json_string(&tool.name),
        tool.arguments
    ))
}

/// What only the last line has. Times are made up, ten milliseconds to a token; counts of nothing are left out, as Go
/// leaves them out.
fn last_fields(reply: &Reply) -> String {
    let reason = match reply.finish {
        Finish::Stop | Finish::Tool => "stop",
        Finish::Length => "length",
    };
    let (input, output) = (reply.usage.input, reply.usage.output);
    let mut counts = String::new();
    if reply.tells_usage {
        counts = format!(r#","prompt_eval_count":{input},"prompt_eval_duration":1000000"#);
        if output > 0 {
            counts.push_str(&format!(
                r#","eval_count":{output},"eval_duration":{output}0000000"#
            ));
        }
    }
    format!(
        r#""done":true,"done_reason":"{reason}","total_duration":{},"load_duration":1000000{counts}"#,
        2_000_000 + output * 10_000_000
    )
}

/// Lines of JSON.
#[derive(Debug)]
pub(super) struct Stream {
    form: Form,
    /// Beginning of every line, up to what is said.
    head: String,
}

impl Stream {
    /// A stream in that form.
    pub(super) fn new(reply: &Reply, form: Form) -> Self {
        let created = i64::try_from(reply.created)
            .ok()
            .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
            .unwrap_or_default();
        Self {
            form,
            head: format!(r#"{{"model":{},"created_at":"{created}","#, reply.model),
        }
    }

    fn said(&self, text: &str, thinking: Option<&str>, tool_calls: Option<&str>) -> String {
        let thinking = thinking
            .map(|thinking| format!(r#","thinking":"{thinking}""#))
            .unwrap_or_default();
        match self.form {
            Form::Generate => format!(r#""response":"{text}"{thinking}"#),
            Form::Chat => {
                let calls = tool_calls
                    .map(|calls| format!(r#","tool_calls":{calls}"#))
                    .unwrap_or_default();
                format!(r#""message":{{"role":"assistant","content":"{text}"{thinking}{calls}}}"#)
            }
        }
    }

    fn line(&self, out: &mut Queue, text: &str, thinking: Option<&str>, tool_calls: Option<&str>) {
        let said = self.said(text, thinking, tool_calls);
        out.frame(format_args!("{}{said},\"done\":false}}\n", self.head));
    }
}

impl Writer for Stream {
    fn write(&mut self, reply: &Reply, event: Event, out: &mut Queue) {
        match event {
            Event::Delta(_, Part::Reasoning, from, to) => {
                self.line(out, "", Some(&Tokens(from, to).to_string()), None);
            }
            Event::Delta(_, Part::Text, from, to) => {
                self.line(out, &Tokens(from, to).to_string(), None, None)
            }
            Event::PartClose(_, Part::Tool) => {
                self.line(out, "", None, tool_calls(reply).as_deref())
            }
            Event::Close => {
                let said = self.said("", None, None);
                out.usage_frame(format_args!(
                    "{}{said},{}}}\n",
                    self.head,
                    last_fields(reply)
                ));
            }
            _ => {}
        }
    }

    fn error(&self, _: &Reply, code: Option<&str>) -> Bytes {
        let message = code.unwrap_or("an error was encountered while running the model");
        format!("{{\"error\":{}}}\n", json_string(message)).into()
    }
}
