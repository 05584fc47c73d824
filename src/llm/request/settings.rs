//! Which top-level members of a body ask something of the model, and which are the same to every model.
//!
//! What is in neither list may matter to a model in a way that tollgate does not know.

use crate::llm::wire::Endpoint;

/// A member that asks something of the model and is needed for nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Setting {
    Temperature,
    Sampling,
    Penalties,
    Stop,
    Logprobs,
    ToolChoice,
    Verbosity,
    ContextManagement,
    Include,
    Store,
}

impl Setting {
    pub(super) const COUNT: usize = Setting::Store as usize + 1;
}

/// What a member is that no [`super::fields::Field`] stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Other {
    /// It asks this of the model.
    Setting(Setting),
    /// No model cares: names, labels, what is kept, how the answer is sent.
    Neutral,
    /// Not known.
    Strange,
}

/// Says what a member is.
pub(super) fn other(endpoint: Endpoint, key: &[u8]) -> Other {
    use Endpoint as E;
    use Other::{Neutral, Setting as Asks, Strange};
    let anthropic = matches!(endpoint, E::Messages | E::CountTokens);
    let chat = matches!(endpoint, E::ChatCompletions | E::Completions);
    let openai = chat || endpoint == E::Responses;
    match (endpoint, key) {
        (E::GenerateContent, b"toolConfig" | b"tool_config") => Asks(Setting::ToolChoice),
        (E::GenerateContent, b"safetySettings" | b"safety_settings" | b"labels") => Neutral,
        (E::GenerateContent, _) => Strange,
        (E::OllamaChat | E::OllamaGenerate, b"keep_alive") => Neutral,
        (E::OllamaChat | E::OllamaGenerate, _) => Strange,
        (_, b"temperature") if anthropic || openai => Asks(Setting::Temperature),
        (_, b"top_p" | b"top_k") if anthropic || openai => Asks(Setting::Sampling),
        (_, b"min_p" | b"top_a" | b"typical_p" | b"repetition_penalty") if chat => {
            Asks(Setting::Sampling)
        }
        (_, b"frequency_penalty" | b"presence_penalty" | b"logit_bias") if chat => {
            Asks(Setting::Penalties)
        }
        (_, b"stop_sequences") if anthropic => Asks(Setting::Stop),
        (_, b"stop") if chat => Asks(Setting::Stop),
        (_, b"logprobs" | b"top_logprobs") if openai => Asks(Setting::Logprobs),
        (_, b"tool_choice") if anthropic || openai => Asks(Setting::ToolChoice),
        (_, b"function_call") if chat => Asks(Setting::ToolChoice),
        (_, b"verbosity") if chat => Asks(Setting::Verbosity),
        (_, b"context_management") if anthropic => Asks(Setting::ContextManagement),
        (E::Responses, b"include") => Asks(Setting::Include),
        (_, b"cache_control") if anthropic => Neutral,
        (_, b"seed" | b"usage") if chat => Neutral,
        (E::Responses, b"store") => Asks(Setting::Store),
        (_, b"parallel_tool_calls" | b"store") if openai => Neutral,
        (E::Responses, b"truncation" | b"max_tool_calls") => Neutral,
        _ => Strange,
    }
}
