//! Pages that tell about the provider: lists of models in each form, and Ollama's greeting.

use serde_json::{Value, json};

use super::route::OllamaPage;
use crate::llm::wire::Dialect;

/// What is offered. Any other name is answered as well.
const MODELS: [(Dialect, &str); 8] = [
    (Dialect::Anthropic, "claude-opus-4-8"),
    (Dialect::Anthropic, "claude-sonnet-5-5"),
    (Dialect::OpenAi, "gpt-5.6"),
    (Dialect::OpenAi, "gpt-5.6-mini"),
    (Dialect::OpenAi, "text-embedding-3-small"),
    (Dialect::Gemini, "gemini-3-pro"),
    (Dialect::Gemini, "gemini-3-flash"),
    (Dialect::Ollama, "qwen3:8b"),
];

/// Moment at which every model was "made", in seconds since 1970.
const MADE: u64 = 1_750_000_000;

/// The list of a dialect's models, or the one of that name.
pub(super) fn list(dialect: Dialect, one: Option<&str>) -> Value {
    if let Some(name) = one {
        return model(dialect, name);
    }
    let models: Vec<Value> = MODELS
        .iter()
        .filter(|(of, _)| *of == dialect)
        .map(|(_, name)| model(dialect, name))
        .collect();
    let end = |place: Option<&Value>| place.and_then(|model| model.get("id")).cloned();
    match dialect {
        Dialect::Anthropic => json!({
            "first_id": end(models.first()),
            "last_id": end(models.last()),
            "has_more": false,
            "data": models,
        }),
        Dialect::Gemini => json!({ "models": models }),
        Dialect::OpenAi | Dialect::Ollama => json!({ "object": "list", "data": models }),
    }
}

fn model(dialect: Dialect, name: &str) -> Value {
    match dialect {
        Dialect::Anthropic => {
            json!({ "type": "model", "id": name, "display_name": name, "created_at": "2025-06-15T00:00:00Z" })
        }
        Dialect::Gemini => json!({
            "name": format!("models/{name}"),
            "version": "1",
            "displayName": name,
            "inputTokenLimit": 1_048_576,
            "outputTokenLimit": 65_536,
            "supportedGenerationMethods": ["generateContent", "countTokens"],
        }),
        Dialect::OpenAi | Dialect::Ollama => {
            json!({ "id": name, "object": "model", "created": MADE, "owned_by": "simulated" })
        }
    }
}

/// A page of Ollama's: content type and text.
pub(super) fn ollama(page: OllamaPage) -> (&'static str, String) {
    const JSON: &str = "application/json; charset=utf-8";
    let entry = json!({
        "name": "qwen3:8b",
        "model": "qwen3:8b",
        "modified_at": "2025-06-15T00:00:00Z",
        "size": 5_200_000_000_u64,
        "digest": "5".repeat(64),
        "details": details(),
    });
    let page = match page {
        OllamaPage::Root => return ("text/plain; charset=utf-8", "Ollama is running".to_owned()),
        OllamaPage::Version => json!({ "version": "0.12.0" }),
        OllamaPage::Tags => json!({ "models": [entry] }),
        OllamaPage::Running => json!({ "models": [] }),
        OllamaPage::Show => {
            json!({ "modelfile": "", "template": "", "details": details(), "model_info": {}, "capabilities": ["completion", "tools"] })
        }
    };
    (JSON, page.to_string())
}

fn details() -> Value {
    json!({
        "parent_model": "",
        "format": "gguf",
        "family": "qwen3",
        "families": ["qwen3"],
        "parameter_size": "8.2B",
        "quantization_level": "Q4_K_M",
    })
}
