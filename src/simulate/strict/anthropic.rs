//! Claude's refusals at the Messages API.

use serde_json::Value;

use super::{Refused, given, list, other_than, rough_tokens};

/// What tells the models apart.
struct Claude {
    window: u64,
    output: u64,
    /// Values of `thinking.type`.
    thinking: &'static [&'static str],
    /// Whether it thinks when nothing is said.
    thinks: bool,
    effort: &'static [&'static str],
    /// Generation 4.7 and later: no sampling.
    sampling: bool,
    prefill: bool,
    forced_tools: bool,
    /// Drops thoughts that it cannot read in place of refusing them.
    drops_thoughts: bool,
    fast: bool,
    system_messages: bool,
}

const ALL_EFFORT: &[&str] = &["low", "medium", "high", "xhigh", "max"];

fn claude(model: &str) -> Option<Claude> {
    let is = |start: &str| model == start || model.starts_with(&format!("{start}-20"));
    let five = Claude {
        window: 1_000_000,
        output: 128_000,
        thinking: &["adaptive"],
        thinks: true,
        effort: ALL_EFFORT,
        sampling: false,
        prefill: false,
        forced_tools: false,
        drops_thoughts: true,
        fast: false,
        system_messages: true,
    };
    let four = Claude {
        thinking: &["adaptive", "disabled"],
        thinks: false,
        forced_tools: true,
        drops_thoughts: false,
        system_messages: false,
        ..five
    };
    Some(if is("claude-fable-5-1") || is("claude-fable-5-2") {
        five
    } else if is("claude-opus-5-5") {
        Claude { fast: true, ..five }
    } else if is("claude-sonnet-5-5") {
        Claude {
            thinking: &["adaptive", "between_tools"],
            ..five
        }
    } else if is("claude-haiku-5-5") {
        Claude {
            thinking: &["adaptive", "disabled"],
            forced_tools: true,
            ..five
        }
    } else if is("claude-opus-5") || is("claude-sonnet-5") {
        Claude {
            thinking: &["adaptive", "disabled"],
            forced_tools: true,
            drops_thoughts: false,
            fast: model == "claude-opus-5",
            ..five
        }
    } else if is("claude-opus-4-8") {
        Claude { fast: true, ..four }
    } else if is("claude-opus-4-7") {
        four
    } else if is("claude-opus-4-6") || is("claude-sonnet-4-6") {
        Claude {
            thinking: &["adaptive", "enabled", "disabled"],
            effort: &["low", "medium", "high", "max"],
            sampling: true,
            ..four
        }
    } else if is("claude-haiku-4-5") || is("claude-sonnet-4-5") {
        Claude {
            window: 200_000,
            output: 64_000,
            thinking: &["enabled", "disabled"],
            effort: &[],
            sampling: true,
            prefill: true,
            ..four
        }
    } else {
        return None;
    })
}

const MEMBERS: [&str; 22] = [
    "model",
    "max_tokens",
    "messages",
    "system",
    "tools",
    "tool_choice",
    "stream",
    "thinking",
    "output_config",
    "service_tier",
    "speed",
    "inference_geo",
    "metadata",
    "container",
    "cache_control",
    "context_management",
    "stop_sequences",
    "temperature",
    "top_p",
    "top_k",
    "mcp_servers",
    "fallbacks",
];

pub(super) fn check(model: &str, body: &Value) -> Result<(), Refused> {
    let Some(claude) = claude(model) else {
        return Ok(());
    };
    let refuse = |message: String| Err(Refused::new(message));
    if let Some(name) = body.as_object().and_then(|members| {
        members
            .keys()
            .find(|name| !MEMBERS.contains(&name.as_str()))
    }) {
        return refuse(format!("{name}: Extra inputs are not permitted"));
    }
    let Some(cap) = body["max_tokens"].as_u64() else {
        return refuse("max_tokens: Field required".to_owned());
    };
    if cap > claude.output {
        return refuse(format!(
            "max_tokens: {cap} > {}, which is the maximum allowed number of output tokens for {model}",
            claude.output
        ));
    }
    let prompt = ["messages", "system", "tools"]
        .iter()
        .map(|name| rough_tokens(&body[name]))
        .sum::<u64>();
    if prompt > claude.window {
        return refuse(format!(
            "prompt is too long: {prompt} tokens > {} maximum",
            claude.window
        ));
    }
    if prompt + cap > claude.window {
        return refuse(format!(
            "input length and `max_tokens` exceed context limit: {prompt} + {cap} > {}, decrease input length or `max_tokens` and try again",
            claude.window
        ));
    }
    let thinking = thinking(&claude, cap, body)?;
    settings(&claude, model, thinking, body)?;
    tools(&claude, model, thinking, body)?;
    messages(&claude, model, thinking, body)
}

/// How the model will think.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Thinks {
    Not,
    Adaptive,
    Budget,
}

fn thinking(claude: &Claude, cap: u64, body: &Value) -> Result<Thinks, Refused> {
    let effort = body["output_config"]["effort"].as_str();
    let Some(thinking) = given(body, "thinking") else {
        return Ok(if claude.thinks {
            Thinks::Adaptive
        } else {
            Thinks::Not
        });
    };
    let kind = thinking["type"].as_str().unwrap_or_default();
    if !claude.thinking.contains(&kind) {
        return Err(Refused::new(format!(
            "\"thinking.type.{kind}\" is not supported for this model. Use \"thinking.type.{}\" and \"output_config.effort\" to control thinking behavior.",
            claude.thinking[0]
        )));
    }
    match kind {
        "enabled" => {
            let budget = thinking["budget_tokens"].as_u64().unwrap_or_default();
            if budget < 1_024 {
                return Err(Refused::new(
                    "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024",
                ));
            }
            if budget >= cap {
                return Err(Refused::new(
                    "`max_tokens` must be greater than `thinking.budget_tokens`.",
                ));
            }
            Ok(Thinks::Budget)
        }
        "adaptive" => Ok(Thinks::Adaptive),
        _ if claude.thinks && matches!(effort, Some("xhigh" | "max")) => {
            Err(Refused::new(format!(
                "\"thinking.type.{kind}\" is not supported at effort {}",
                effort.unwrap_or_default()
            )))
        }
        _ => Ok(Thinks::Not),
    }
}

fn settings(claude: &Claude, model: &str, thinking: Thinks, body: &Value) -> Result<(), Refused> {
    if let Some(effort) = given(&body["output_config"], "effort") {
        let effort = effort.as_str().unwrap_or_default();
        if claude.effort.is_empty() {
            return Err(Refused::new(
                "This model does not support the effort parameter.",
            ));
        }
        if !claude.effort.contains(&effort) {
            return Err(Refused::new(format!(
                "output_config.effort: {effort} is not supported by {model}"
            )));
        }
    }
    let drawn = other_than(body, "temperature", 1.0)
        || other_than(body, "top_p", 1.0)
        || given(body, "top_k").is_some();
    if drawn && !claude.sampling {
        return Err(Refused::new(format!(
            "`temperature`, `top_p` and `top_k` are not supported for {model}"
        )));
    }
    if given(body, "temperature").is_some() && given(body, "top_p").is_some() {
        return Err(Refused::new(
            "`temperature` and `top_p` cannot both be specified for this model. Please use only one.",
        ));
    }
    if drawn && thinking == Thinks::Budget {
        return Err(Refused::new(
            "`temperature` may only be set to 1 when thinking is enabled.",
        ));
    }
    if body["speed"] == "fast" && !claude.fast {
        return Err(Refused::new(format!(
            "{model} does not support `speed: fast`"
        )));
    }
    let clears = list(&body["context_management"]["edits"])
        .iter()
        .any(|edit| {
            edit["type"]
                .as_str()
                .is_some_and(|kind| kind.starts_with("clear_thinking_"))
        });
    if clears && thinking == Thinks::Not {
        return Err(Refused::new(
            "context_management: `clear_thinking_20251015` strategy requires `thinking` to be enabled or adaptive",
        ));
    }
    Ok(())
}

fn tools(claude: &Claude, model: &str, thinking: Thinks, body: &Value) -> Result<(), Refused> {
    if matches!(body["tool_choice"]["type"].as_str(), Some("any" | "tool")) {
        if !claude.forced_tools {
            return Err(Refused::new(format!(
                "tool_choice: forced tool use is not supported for {model}"
            )));
        }
        if thinking == Thinks::Budget {
            return Err(Refused::new(
                "Thinking may not be enabled when tool_choice forces tool use.",
            ));
        }
    }
    for tool in list(&body["tools"]) {
        let known = match tool["type"].as_str() {
            None | Some("custom") => true,
            Some(
                "web_search_20250305"
                | "bash_20250124"
                | "text_editor_20250728"
                | "memory_20250818",
            ) => true,
            Some("computer_20251124") => !claude.drops_thoughts,
            Some("web_search_20260209") => claude.window > 200_000,
            Some(_) => false,
        };
        if !known {
            return Err(Refused::new(format!(
                "tools: {} is not supported by {model}",
                tool["type"]
            )));
        }
    }
    Ok(())
}

fn messages(claude: &Claude, model: &str, thinking: Thinks, body: &Value) -> Result<(), Refused> {
    let messages = list(&body["messages"]);
    if messages.is_empty() {
        return Err(Refused::new("messages: at least one message is required"));
    }
    let result = |message: &Value| {
        list(&message["content"])
            .iter()
            .any(|block| block["type"] == "tool_result")
    };
    // The turn that is going on: what follows the user's newest own words.
    let turn = messages
        .iter()
        .rposition(|message| message["role"] == "user" && !result(message))
        .unwrap_or(0);
    for (at, message) in messages.iter().enumerate() {
        match message["role"].as_str() {
            Some("user" | "assistant") => {}
            Some("system") if claude.system_messages => {}
            role => {
                return Err(Refused::new(format!(
                    "messages.{at}.role: Unexpected role {role:?}"
                )));
            }
        }
        let blocks = list(&message["content"]);
        if message["content"].is_array() && blocks.is_empty() {
            return Err(Refused::new(format!(
                "messages.{at}: all messages must have non-empty content"
            )));
        }
        for (place, block) in blocks.iter().enumerate() {
            match block["type"].as_str().unwrap_or_default() {
                "text" | "image" | "document" | "tool_use" | "tool_result" => {}
                "thinking" | "redacted_thinking" => {
                    if thinking == Thinks::Not && !claude.drops_thoughts {
                        return Err(Refused::new(format!(
                            "messages.{at}.content.{place}: When thinking is disabled, an `assistant` message cannot contain `thinking`"
                        )));
                    }
                    let signature = block["signature"].as_str().unwrap_or_default();
                    let own = signature.strip_prefix("sig:").is_some_and(|by| by == model);
                    if !own && !claude.drops_thoughts {
                        return Err(Refused::new(format!(
                            "messages.{at}.content.{place}: Invalid `signature` in `thinking` block"
                        )));
                    }
                }
                kind => {
                    return Err(Refused::new(format!(
                        "messages.{at}.content.{place}: Input tag '{kind}' found using 'type' does not match any of the expected tags"
                    )));
                }
            }
        }
        let calls = blocks.iter().any(|block| block["type"] == "tool_use");
        let thought = blocks.first().is_some_and(|block| {
            block["type"] == "thinking" || block["type"] == "redacted_thinking"
        });
        if thinking == Thinks::Budget && at > turn && calls && !thought {
            return Err(Refused::new(format!(
                "messages.{at}.content.0.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`. When `thinking` is enabled, a final `assistant` message must start with a thinking block"
            )));
        }
    }
    let prefilled = messages
        .last()
        .is_some_and(|last| last["role"] == "assistant");
    if prefilled && (!claude.prefill || thinking == Thinks::Budget) {
        return Err(Refused::new(
            "This model does not support assistant message prefill. The conversation must end with a user message.",
        ));
    }
    Ok(())
}
