//! Refusals of a local server, by the model's template: no tools, no thinking, no images where it has none.

use serde_json::Value;

use super::{Refused, anywhere, given, list};

pub(super) fn check(model: &str, body: &Value) -> Result<(), Refused> {
    let starts = |names: &[&str]| names.iter().any(|name| model.starts_with(name));
    let refuse = |what: &str| {
        Err(Refused::new(format!(
            "registry.ollama.ai/library/{model} does not support {what}"
        )))
    };
    let tools = starts(&[
        "qwen3:",
        "qwen3-coder",
        "gpt-oss",
        "llama3.1",
        "llama3.2:",
        "llama3.3",
        "qwen2.5:",
        "mistral:",
    ]);
    if !list(&body["tools"]).is_empty() && !tools {
        return refuse("tools");
    }
    if list(&body["tools"])
        .iter()
        .any(|tool| !matches!(tool["type"].as_str(), None | Some("function" | "custom")))
    {
        return Err(Refused::new("unsupported tool type"));
    }
    let thinks = starts(&["qwen3:", "gpt-oss", "deepseek-r1"]);
    let asked = given(body, "think").is_some_and(|think| *think != Value::Bool(false))
        || body["thinking"]["type"] == "enabled"
        || given(body, "reasoning_effort").is_some_and(|effort| effort != "none")
        || given(&body["reasoning"], "effort").is_some_and(|effort| effort != "none");
    if asked && !thinks {
        return refuse("thinking");
    }
    let efforts = [&body["reasoning_effort"], &body["reasoning"]["effort"]];
    for effort in efforts.into_iter().filter_map(Value::as_str) {
        if !matches!(effort, "high" | "medium" | "low" | "none") {
            return Err(Refused::new(format!(
                "invalid reasoning value: '{effort}' (must be \"high\", \"medium\", \"low\", or \"none\")"
            )));
        }
    }
    let image = |value: &Value| {
        matches!(
            value["type"].as_str(),
            Some("image" | "image_url" | "input_image")
        ) || !list(&value["images"]).is_empty()
    };
    let sees = starts(&["gemma3:4b", "gemma3:12b", "gemma3:27b"]);
    if anywhere(body, &image) && !sees {
        return Err(Refused::new(
            "this model is missing data required for image input",
        ));
    }
    let linked = |value: &Value| {
        value["image_url"]["url"]
            .as_str()
            .is_some_and(|url| url.starts_with("http"))
            || value["source"]["type"] == "url"
    };
    if anywhere(body, &linked) {
        return Err(Refused::new("invalid image input"));
    }
    Ok(())
}
