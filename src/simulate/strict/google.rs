//! Gemini's refusals at generateContent.

use serde_json::Value;

use super::{Refused, anywhere, list, rough_tokens};

const WINDOW: u64 = 1_048_576;

pub(super) fn check(model: &str, body: &Value) -> Result<(), Refused> {
    let model = model.strip_prefix("models/").unwrap_or(model);
    let old = model.starts_with("gemini-2.5-");
    if !old && !model.starts_with("gemini-3") && !model.starts_with("gemini-4") {
        return Ok(());
    }
    let member = |camel: &str, snake: &str| {
        body.get(camel)
            .or_else(|| body.get(snake))
            .cloned()
            .unwrap_or_default()
    };
    let known = [
        "contents",
        "systemInstruction",
        "system_instruction",
        "tools",
        "toolConfig",
        "tool_config",
        "generationConfig",
        "generation_config",
        "safetySettings",
        "safety_settings",
        "cachedContent",
        "labels",
        "serviceTier",
    ];
    if let Some(name) = body
        .as_object()
        .and_then(|members| members.keys().find(|name| !known.contains(&name.as_str())))
    {
        return Err(Refused::new(format!(
            "Invalid JSON payload received. Unknown name \"{name}\": Cannot find field."
        )));
    }
    let prompt = rough_tokens(body);
    if prompt > WINDOW {
        return Err(Refused::new(format!(
            "The input token count ({prompt}) exceeds the maximum number of tokens allowed ({WINDOW})."
        )));
    }
    let config = member("generationConfig", "generation_config");
    generation(model, old, &config)?;
    thinking(model, old, &config)?;
    let json = config_member(&config, "responseMimeType", "response_mime_type")
        .is_some_and(|kind| kind == "application/json");
    let functions = list(&body["tools"]).iter().any(|tool| {
        tool.get("functionDeclarations").is_some() || tool.get("function_declarations").is_some()
    });
    if old && json && functions {
        return Err(Refused::new(
            "Function calling with a response mime type: 'application/json' is unsupported",
        ));
    }
    contents(model, old, list(&body["contents"]))
}

fn config_member<'a>(config: &'a Value, camel: &str, snake: &str) -> Option<&'a Value> {
    config
        .get(camel)
        .or_else(|| config.get(snake))
        .filter(|value| !value.is_null())
}

fn generation(model: &str, old: bool, config: &Value) -> Result<(), Refused> {
    let most = if model == "gemini-4-argon" {
        1_048_576
    } else {
        65_536
    };
    if let Some(cap) = config_member(config, "maxOutputTokens", "max_output_tokens")
        && cap.as_u64().is_none_or(|cap| cap == 0 || cap > most)
    {
        return Err(Refused::new(format!(
            "Unable to submit request because it has a maxOutputTokens value of {cap} but the supported range is from 1 (inclusive) to {} (exclusive).",
            most + 1
        )));
    }
    let no_sampling = [
        "gemini-4-argon",
        "gemini-3.8-flash",
        "gemini-3.5-flash-lite",
    ];
    for (camel, snake) in [
        ("temperature", "temperature"),
        ("topP", "top_p"),
        ("topK", "top_k"),
    ] {
        if no_sampling.contains(&model) && config_member(config, camel, snake).is_some() {
            return Err(Refused::new(format!(
                "{camel} is not supported for models/{model}"
            )));
        }
    }
    for (camel, snake) in [
        ("presencePenalty", "presence_penalty"),
        ("frequencyPenalty", "frequency_penalty"),
    ] {
        if config_member(config, camel, snake).is_some() {
            return Err(Refused::new(format!(
                "Penalty is not enabled for models/{model}"
            )));
        }
    }
    let many = config_member(config, "candidateCount", "candidate_count").and_then(Value::as_u64);
    if many.is_some_and(|many| many > if old { 8 } else { 1 }) {
        return Err(Refused::new(
            "Multiple candidates is not enabled for this model",
        ));
    }
    Ok(())
}

fn thinking(model: &str, old: bool, config: &Value) -> Result<(), Refused> {
    let Some(thinking) = config_member(config, "thinkingConfig", "thinking_config") else {
        return Ok(());
    };
    let budget = config_member(thinking, "thinkingBudget", "thinking_budget");
    let level = config_member(thinking, "thinkingLevel", "thinking_level");
    if budget.is_some() && level.is_some() {
        return Err(Refused::new(
            "You can only set one of: thinking_budget, thinking_level.",
        ));
    }
    if old {
        if level.is_some() {
            return Err(Refused::new(
                "Thinking level is not supported for this model.",
            ));
        }
        let (zero, least, most) = match model {
            "gemini-2.5-pro" => (false, 128, 32_768),
            "gemini-2.5-flash-lite" => (true, 512, 24_576),
            _ => (true, 1, 24_576),
        };
        if let Some(budget) = budget.and_then(Value::as_i64)
            && budget != -1
            && !(budget == 0 && zero)
            && !(least..=most).contains(&budget)
        {
            return Err(Refused::new(format!(
                "The thinking budget {budget} is invalid. Please choose a value between {least} and {most}."
            )));
        }
        return Ok(());
    }
    if budget.is_some() {
        return Err(Refused::new(
            "Thinking budget is not supported for this model. Use thinking_level.",
        ));
    }
    let minimal = matches!(
        model,
        "gemini-3.5-flash-lite" | "gemini-3.1-flash-lite" | "gemini-3.6-flash"
    );
    if let Some(level) = level {
        let level = level.as_str().unwrap_or_default().to_ascii_lowercase();
        let taken =
            matches!(level.as_str(), "low" | "medium" | "high") || (minimal && level == "minimal");
        if !taken {
            return Err(Refused::new(format!(
                "Thinking level {} is not supported for this model.",
                level.to_uppercase()
            )));
        }
    }
    Ok(())
}

fn contents(model: &str, old: bool, contents: &[Value]) -> Result<(), Refused> {
    if contents.is_empty() {
        return Err(Refused::new("contents is not specified"));
    }
    let answers = |content: &Value| {
        list(&content["parts"])
            .iter()
            .any(|part| part.get("functionResponse").is_some())
    };
    let turn = contents
        .iter()
        .rposition(|content| content["role"] != "model" && !answers(content))
        .unwrap_or(0);
    if contents.last().is_some_and(|last| last["role"] == "model") {
        return Err(Refused::new(
            "Please ensure that the conversation ends with a user turn.",
        ));
    }
    for (at, content) in contents.iter().enumerate() {
        if list(&content["parts"]).is_empty() {
            return Err(Refused::new(format!(
                "Unable to submit request because it must include at least one parts field in contents[{at}]."
            )));
        }
        for (place, part) in list(&content["parts"]).iter().enumerate() {
            let signature = part.get("thoughtSignature").and_then(Value::as_str);
            if signature.is_some_and(|by| by.strip_prefix("sig:") != Some(model)) {
                return Err(Refused::new("Thought signature is not valid."));
            }
            if !old && at > turn && part.get("functionCall").is_some() && signature.is_none() {
                return Err(Refused::new(format!(
                    "Function call is missing a thought_signature in functionCall parts. Position: contents[{at}].parts[{place}]"
                )));
            }
        }
    }
    let code = |value: &Value| value.get("executableCode").is_some();
    if contents.iter().any(|content| anywhere(content, &code)) {
        return Err(Refused::new("Code execution is not enabled"));
    }
    Ok(())
}
