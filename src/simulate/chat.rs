//! OpenAI's Chat Completions in the manner of OpenAI and of those who copied it: reads requests, writes answers whole.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::ask::{Ask, OpenAiAsk, ToolChoice};
use super::behaviour::Flavour;
use super::chat_usage::{Timings, UsageText};
use super::reply::{Finish, Reply, json_string};
use super::text::{TextSize, Tokens};

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    n: Option<u64>,
    messages: Option<TextSize>,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    tool_choice: Option<ToolChoice>,
    reasoning_effort: Option<Cow<'a, str>>,
}

/// `stream_options`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct StreamOptions {
    /// Ask for the extra chunk with the usage.
    pub(super) include_usage: Option<bool>,
    /// Ask for padding against guessing by length; on unless switched off.
    pub(super) include_obfuscation: Option<bool>,
}

impl StreamOptions {
    /// The part of them that a reply depends on.
    pub(super) fn ask<'a>(options: Option<StreamOptions>) -> OpenAiAsk<'a> {
        let options = options.unwrap_or_default();
        OpenAiAsk {
            include_usage: options.include_usage.unwrap_or(false),
            no_obfuscation: options.include_obfuscation == Some(false),
            ..OpenAiAsk::default()
        }
    }
}

/// Reads a request.
///
/// # Errors
/// Not JSON, or the messages are missing, or the model is, and the path names no `deployment` as on Azure.
pub(super) fn ask<'a>(body: &'a [u8], deployment: Option<&'a str>) -> Result<Ask<'a>, String> {
    let request: Request<'_> =
        serde_json::from_slice(body).map_err(|problem| problem.to_string())?;
    let tools = request
        .tools
        .map(|tools| TextSize::of_json(tools.get()))
        .unwrap_or_default();
    let messages = request
        .messages
        .ok_or("Missing required parameter: 'messages'.")?;
    Ok(Ask {
        model: request
            .model
            .or(deployment.map(Cow::Borrowed))
            .ok_or("you must provide a model parameter")?,
        stream: request.stream.unwrap_or(false),
        text: messages.plus(tools),
        max_output: request.max_completion_tokens.or(request.max_tokens),
        wants_reasoning: request
            .reasoning_effort
            .is_some_and(|effort| effort != "none"),
        tools: request.tools,
        forced_tool: request.tool_choice.and_then(ToolChoice::forced),
        choices: request.n.unwrap_or(1),
        openai: StreamOptions::ask(request.stream_options),
    })
}

/// The field in which a provider shows the model's reasoning, if it does.
pub(super) const fn reasoning_field(flavour: Flavour) -> Option<&'static str> {
    match flavour {
        Flavour::DeepSeek | Flavour::Xai | Flavour::LlamaCpp | Flavour::Vllm => {
            Some("reasoning_content")
        }
        Flavour::OpenRouter | Flavour::Groq => Some("reasoning"),
        Flavour::OpenAi | Flavour::Azure | Flavour::Mistral | Flavour::Together => None,
    }
}

/// Why it ends, in OpenAI's word.
pub(super) const fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::Tool => "tool_calls",
    }
}

/// The beginning of an answer or chunk, up to its choices.
pub(super) fn head(reply: &Reply, object: &str) -> String {
    let Reply {
        id,
        created,
        model,
        flavour,
        ..
    } = reply;
    match flavour {
        Flavour::OpenRouter => format!(
            r#"{{"id":"gen-{created}-sim{id}","provider":"Simulated","model":{model},"object":"{object}","created":{created},"#
        ),
        Flavour::OpenAi | Flavour::Azure => format!(
            r#"{{"id":"chatcmpl-sim{id}","object":"{object}","created":{created},"model":{model},"service_tier":"default","system_fingerprint":"fp_sim","#
        ),
        _ => format!(
            r#"{{"id":"chatcmpl-sim{id}","object":"{object}","created":{created},"model":{model},"#
        ),
    }
}

/// The whole answer.
pub(super) fn whole(reply: &Reply) -> String {
    let mut text = head(reply, "chat.completion");
    text.push_str(r#""choices":["#);
    for index in 0..reply.choices {
        if index > 0 {
            text.push(',');
        }
        text.push_str(&choice(reply, index));
    }
    text.push(']');
    if reply.tells_usage {
        text.push_str(&format!(r#","usage":{}"#, UsageText(reply)));
        match reply.flavour {
            Flavour::LlamaCpp => text.push_str(&format!(r#","timings":{}"#, Timings(&reply.usage))),
            Flavour::Groq => text.push_str(&format!(r#","x_groq":{{"id":"req_sim{}"}}"#, reply.id)),
            _ => {}
        }
    }
    text.push('}');
    text
}

fn choice(reply: &Reply, index: u64) -> String {
    let reasoning = reasoning_field(reply.flavour)
        .filter(|_| reply.reasoning > 0)
        .map(|field| format!(r#""{field}":"{}","#, Tokens(0, reply.reasoning)))
        .unwrap_or_default();
    let said = match &reply.tool {
        Some(tool) => format!(
            r#""content":null,"tool_calls":[{{"id":"{}","type":"function","function":{{"name":{},"arguments":{}}}}}]"#,
            call_id(reply, index),
            json_string(&tool.name),
            json_string(&tool.arguments)
        ),
        None => format!(r#""content":"{}""#, Tokens(0, reply.text)),
    };
    format!(
        r#"{{"index":{index},"message":{{"role":"assistant",{reasoning}{said},"refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"{}"}}"#,
        finish_reason(reply.finish)
    )
}

/// Id of a choice's tool call.
pub(super) fn call_id(reply: &Reply, choice: u64) -> String {
    format!("call_sim{}c{choice}", reply.id)
}
