//! Refusals at the chat completions and responses endpoints: OpenAI's models, and those of its likes.

use serde_json::Value;

use super::{Refused, anywhere, given, list, other_than, rough_tokens};

/// What tells the models apart.
#[derive(Clone, Copy)]
struct Facts {
    window: u64,
    input: u64,
    output: u64,
    /// Effort levels; none for models that do not reason.
    effort: &'static [&'static str],
    /// Reasoning models take no sampling, penalties, stop or old cap.
    reasons: bool,
    /// Functions at chat completions: always, only without effort, never.
    chat_tools: ChatTools,
    images: bool,
    json_schema: bool,
    stop: bool,
    penalties: bool,
    many: bool,
    verbosity: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ChatTools {
    Always,
    WithoutEffort,
    Never,
}

const GPT_6: Facts = Facts {
    window: 1_050_000,
    input: 922_000,
    output: 128_000,
    effort: &["none", "low", "medium", "high", "xhigh", "max"],
    reasons: true,
    chat_tools: ChatTools::WithoutEffort,
    images: true,
    json_schema: true,
    stop: false,
    penalties: false,
    many: false,
    verbosity: true,
};

const CLASSIC: Facts = Facts {
    window: 128_000,
    input: 128_000,
    output: 16_384,
    effort: &[],
    reasons: false,
    chat_tools: ChatTools::Always,
    images: true,
    json_schema: true,
    stop: true,
    penalties: true,
    many: true,
    verbosity: false,
};

fn facts(model: &str) -> Option<Facts> {
    let open = |window, output, images| Facts {
        window,
        input: window,
        output,
        images,
        ..CLASSIC
    };
    Some(match model {
        "gpt-6-astra" | "gpt-6.1-sol" => Facts {
            effort: &["low", "medium", "high", "xhigh", "max"],
            chat_tools: ChatTools::Never,
            ..GPT_6
        },
        "gpt-6-luna" | "gpt-6.1-terra" | "gpt-6-sol" => GPT_6,
        "gpt-5" | "gpt-5-mini" | "gpt-5-nano" => Facts {
            window: 400_000,
            input: 272_000,
            effort: &["minimal", "low", "medium", "high"],
            chat_tools: ChatTools::Always,
            many: true,
            ..GPT_6
        },
        "gpt-4.1" | "gpt-4.1-mini" | "gpt-4.1-nano" => Facts {
            window: 1_047_576,
            input: 1_047_576,
            output: 32_768,
            ..CLASSIC
        },
        "gpt-4o" | "gpt-4o-mini" => CLASSIC,
        "mistral-large-4" => Facts {
            effort: &["none", "high"],
            ..open(1_048_576, 1_048_576, true)
        },
        "mistral-medium-3-5" | "mistral-small-latest" => Facts {
            effort: &["none", "high"],
            ..open(262_144, 262_144, true)
        },
        "ministral-8b-latest" => open(262_144, 262_144, true),
        "ministral-3b-latest" => open(131_072, 131_072, true),
        "deepseek-v4-pro" => Facts {
            json_schema: false,
            ..open(1_000_000, 393_216, false)
        },
        "deepseek-flash" => Facts {
            json_schema: false,
            ..open(1_000_000, 393_216, true)
        },
        "grok-4.7" | "grok-4.3" => Facts {
            effort: if model == "grok-4.7" {
                &["low", "medium", "high"]
            } else {
                &["none", "low", "medium", "high"]
            },
            stop: false,
            penalties: false,
            ..open(500_000, 500_000, true)
        },
        "grok-build-0.1" => Facts {
            stop: false,
            penalties: false,
            ..open(256_000, 256_000, true)
        },
        "llama-3.3-70b-versatile" => Facts {
            json_schema: false,
            many: false,
            ..open(131_072, 32_768, false)
        },
        "llama-3.1-8b-instant" => Facts {
            json_schema: false,
            many: false,
            ..open(131_072, 131_072, false)
        },
        "openai/gpt-oss-120b" | "openai/gpt-oss-20b" => Facts {
            effort: &["low", "medium", "high"],
            many: false,
            ..open(131_072, 65_536, false)
        },
        "command-a-03-2025" => open(256_000, 8_000, false),
        "command-r7b-12-2024" => open(128_000, 4_096, false),
        _ => return None,
    })
}

fn refused(param: &str, code: &'static str, message: String) -> Refused {
    Refused {
        code: Some(code),
        param: Some(param.to_owned()),
        message,
    }
}

fn unsupported(param: &str) -> Refused {
    let message = format!("Unsupported parameter: '{param}' is not supported with this model.");
    refused(param, "unsupported_parameter", message)
}

pub(super) fn check(model: &str, body: &Value, chat: bool) -> Result<(), Refused> {
    let Some(facts) = facts(model) else {
        return Ok(());
    };
    members(body, chat)?;
    let caps = if chat {
        ["max_tokens", "max_completion_tokens"].as_slice()
    } else {
        &["max_output_tokens"]
    };
    for name in caps {
        let Some(cap) = given(body, name) else {
            continue;
        };
        if *name == "max_tokens" && facts.reasons {
            return Err(refused(
                name,
                "unsupported_parameter",
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.".to_owned(),
            ));
        }
        if cap
            .as_u64()
            .is_none_or(|cap| cap == 0 || cap > facts.output)
        {
            return Err(refused(
                name,
                "invalid_value",
                format!(
                    "{name} is too large: {cap}. This model supports at most {} completion tokens, whereas you provided {cap}.",
                    facts.output
                ),
            ));
        }
    }
    let prompt = rough_tokens(body);
    if prompt > facts.input.min(facts.window) {
        return Err(refused(
            "messages",
            "context_length_exceeded",
            format!(
                "This model's maximum context length is {} tokens. However, your messages resulted in {prompt} tokens.",
                facts.window
            ),
        ));
    }
    let effort = effort(&facts, body, chat)?;
    settings(&facts, body, effort.as_deref())?;
    tools(&facts, model, body, chat, effort.as_deref())?;
    let image = |value: &Value| matches!(value["type"].as_str(), Some("image_url" | "input_image"));
    if !facts.images && anywhere(body, &image) {
        return Err(refused(
            "messages",
            "invalid_value",
            "Invalid content type. image_url is only supported by certain models.".to_owned(),
        ));
    }
    let audio = |value: &Value| value["type"] == "input_audio";
    if anywhere(body, &audio) {
        return Err(refused(
            "messages",
            "invalid_value",
            "Invalid content type. input_audio is not supported.".to_owned(),
        ));
    }
    if chat {
        Ok(())
    } else {
        items(model, &facts, list(&body["input"]))
    }
}

fn members(body: &Value, chat: bool) -> Result<(), Refused> {
    let known: &[&str] = if chat {
        &[
            "model",
            "messages",
            "max_tokens",
            "max_completion_tokens",
            "n",
            "stream",
            "stream_options",
            "tools",
            "tool_choice",
            "parallel_tool_calls",
            "reasoning_effort",
            "service_tier",
            "user",
            "safety_identifier",
            "prompt_cache_key",
            "store",
            "metadata",
            "temperature",
            "top_p",
            "frequency_penalty",
            "presence_penalty",
            "logit_bias",
            "logprobs",
            "top_logprobs",
            "seed",
            "stop",
            "response_format",
            "verbosity",
        ]
    } else {
        &[
            "model",
            "input",
            "instructions",
            "max_output_tokens",
            "max_tool_calls",
            "stream",
            "stream_options",
            "background",
            "previous_response_id",
            "conversation",
            "prompt",
            "store",
            "tools",
            "tool_choice",
            "parallel_tool_calls",
            "reasoning",
            "truncation",
            "service_tier",
            "prompt_cache_key",
            "safety_identifier",
            "user",
            "metadata",
            "temperature",
            "top_p",
            "top_logprobs",
            "text",
            "include",
        ]
    };
    let strange = body
        .as_object()
        .and_then(|members| members.keys().find(|name| !known.contains(&name.as_str())));
    match strange {
        Some(name) => Err(refused(
            name,
            "unknown_parameter",
            format!("Unknown parameter: '{name}'."),
        )),
        None => Ok(()),
    }
}

/// The effort that will be used; none for a model that does not reason.
fn effort(facts: &Facts, body: &Value, chat: bool) -> Result<Option<String>, Refused> {
    let (asked, param) = if chat {
        (given(body, "reasoning_effort"), "reasoning_effort")
    } else {
        (given(&body["reasoning"], "effort"), "reasoning.effort")
    };
    if facts.effort.is_empty() && (asked.is_some() || given(body, "reasoning").is_some()) {
        return Err(unsupported(param));
    }
    let Some(asked) = asked.and_then(Value::as_str) else {
        return Ok((!facts.effort.is_empty()).then(|| "medium".to_owned()));
    };
    if !facts.effort.contains(&asked) || (chat && asked == "max") {
        return Err(refused(
            param,
            "unsupported_value",
            format!(
                "Unsupported value: '{param}' does not support '{asked}' with this model. Supported values are: {:?}.",
                facts.effort
            ),
        ));
    }
    Ok(Some(asked.to_owned()))
}

fn settings(facts: &Facts, body: &Value, effort: Option<&str>) -> Result<(), Refused> {
    if facts.reasons {
        if effort != Some("none") {
            for name in ["temperature", "top_p"] {
                if other_than(body, name, 1.0) {
                    return Err(refused(
                        name,
                        "unsupported_value",
                        format!(
                            "Unsupported value: '{name}' does not support {} with this model. Only the default (1) value is supported.",
                            body[name]
                        ),
                    ));
                }
            }
            for name in ["logprobs", "top_logprobs"] {
                if given(body, name).is_some_and(|value| *value != Value::Bool(false)) {
                    return Err(unsupported(name));
                }
            }
        }
        if given(body, "logit_bias").is_some() {
            return Err(unsupported("logit_bias"));
        }
    }
    if !facts.penalties {
        for name in ["frequency_penalty", "presence_penalty"] {
            if other_than(body, name, 0.0) {
                return Err(unsupported(name));
            }
        }
    }
    if !facts.stop && given(body, "stop").is_some() {
        return Err(unsupported("stop"));
    }
    if !facts.many && given(body, "n").is_some_and(|many| many.as_u64() > Some(1)) {
        return Err(refused(
            "n",
            "unsupported_value",
            "'n' : number must be at most 1".to_owned(),
        ));
    }
    if !facts.verbosity
        && (given(body, "verbosity").is_some() || given(&body["text"], "verbosity").is_some())
    {
        return Err(unsupported("verbosity"));
    }
    if !facts.json_schema && body["response_format"]["type"] == "json_schema" {
        return Err(refused(
            "response_format",
            "invalid_value",
            "This response_format type is unavailable now".to_owned(),
        ));
    }
    if facts.effort.is_empty()
        && list(&body["include"])
            .iter()
            .any(|what| what == "reasoning.encrypted_content")
    {
        return Err(refused(
            "include",
            "invalid_value",
            "Encrypted content is not supported with this model.".to_owned(),
        ));
    }
    Ok(())
}

fn tools(
    facts: &Facts,
    model: &str,
    body: &Value,
    chat: bool,
    effort: Option<&str>,
) -> Result<(), Refused> {
    let tools = list(&body["tools"]);
    if chat && !tools.is_empty() {
        let refuse = match facts.chat_tools {
            ChatTools::Always => false,
            ChatTools::WithoutEffort => effort != Some("none"),
            ChatTools::Never => true,
        };
        if refuse {
            return Err(refused(
                "reasoning_effort",
                "invalid_value",
                format!(
                    "Function tools with reasoning_effort are not supported for {model} in /v1/chat/completions. To use function tools, use /v1/responses or set reasoning_effort to 'none'."
                ),
            ));
        }
    }
    let known = |tool: &Value| match tool["type"].as_str() {
        Some("function" | "custom") => true,
        Some("web_search") => !chat && facts.reasons,
        _ => false,
    };
    match tools.iter().find(|tool| !known(tool)) {
        Some(tool) => Err(refused(
            "tools",
            "invalid_value",
            format!(
                "Hosted tool {} is not supported with {model}.",
                tool["type"]
            ),
        )),
        None => Ok(()),
    }
}

/// The items of a responses request: reasoning is only good for the model whose it is, and must not be missing where an
/// item that follows refers to it.
fn items(model: &str, facts: &Facts, items: &[Value]) -> Result<(), Refused> {
    for (at, item) in items.iter().enumerate() {
        if item["type"] == "reasoning" {
            let own = item["encrypted_content"]
                .as_str()
                .and_then(|text| text.strip_prefix("sig:"));
            if facts.effort.is_empty() || own != Some(model) {
                return Err(refused(
                    "input",
                    "invalid_encrypted_content",
                    "The encrypted content for item could not be verified.".to_owned(),
                ));
            }
        } else if given(item, "id").is_some() && item["role"] != "user" {
            let thought = at > 0 && items[at - 1]["type"] == "reasoning";
            if facts.reasons && !thought {
                return Err(refused(
                    "input",
                    "invalid_value",
                    format!(
                        "Item {} was provided without its required 'reasoning' item.",
                        item["id"]
                    ),
                ));
            }
        }
    }
    Ok(())
}
