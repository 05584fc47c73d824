//! What real models refuse, for `--strict`: unknown values, settings that a model does not take, too long prompts, foreign
//! thoughts; with the words that the provider has for it.
//!
//! Written from what the providers publish, on parsed JSON, and on purpose without a look at `llm::abilities` or
//! `llm::adapt`: it is what their promise is tested against. Names of models that it does not know are not judged.
//!
//! A signature counts as the work of the model that it names: `sig:claude-opus-5-5`.

mod anthropic;
mod google;
mod local;
mod openai;

use serde_json::Value;

use crate::llm::wire::Endpoint;

/// Why a provider refuses a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The code, where the provider has one.
    pub code: Option<&'static str>,
    /// The part of the request, where the provider names it apart.
    pub param: Option<String>,
    /// The text.
    pub message: String,
}

impl Refused {
    fn new(message: impl Into<String>) -> Self {
        Self {
            code: None,
            param: None,
            message: message.into(),
        }
    }
}

/// Says whether the model takes the request. `model_in_path` is the model where the path names it; `own_server` tells
/// that the provider is a local server, where names mean what was pulled under them.
///
/// # Errors
/// The refusal; its status is 400.
pub fn check(
    endpoint: Endpoint,
    model_in_path: Option<&str>,
    own_server: bool,
    body: &Value,
) -> Result<(), Refused> {
    let model = model_in_path
        .or_else(|| body["model"].as_str())
        .unwrap_or_default();
    match endpoint {
        Endpoint::OllamaChat | Endpoint::OllamaGenerate => local::check(model, body),
        _ if own_server => local::check(model, body),
        Endpoint::Messages => anthropic::check(model, body),
        Endpoint::ChatCompletions => openai::check(model, body, true),
        Endpoint::Responses => openai::check(model, body, false),
        Endpoint::GenerateContent => google::check(model, body),
        _ => Ok(()),
    }
}

/// A rough count of a prompt's tokens: a quarter of the bytes of all its texts, media apart.
fn rough_tokens(value: &Value) -> u64 {
    fn bytes(value: &Value) -> u64 {
        match value {
            Value::String(text) if text.starts_with("data:") => 0,
            Value::String(text) => text.len() as u64,
            Value::Array(values) => values.iter().map(bytes).sum(),
            Value::Object(members) => members
                .iter()
                .filter(|(name, _)| !matches!(name.as_str(), "data" | "signature" | "type"))
                .map(|(_, value)| bytes(value))
                .sum(),
            _ => 0,
        }
    }
    bytes(value) / 4
}

/// A member that is there and not null.
fn given<'a>(body: &'a Value, name: &str) -> Option<&'a Value> {
    body.get(name).filter(|value| !value.is_null())
}

/// Whether a number is there that is not this one.
fn other_than(body: &Value, name: &str, usual: f64) -> bool {
    given(body, name).is_some_and(|value| value.as_f64() != Some(usual))
}

/// The elements of a list; none of anything else.
fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Whether any value inside satisfies this.
fn anywhere(value: &Value, is: &dyn Fn(&Value) -> bool) -> bool {
    is(value)
        || match value {
            Value::Array(values) => values.iter().any(|value| anywhere(value, is)),
            Value::Object(members) => members.values().any(|value| anywhere(value, is)),
            _ => false,
        }
}
