//! Random requests of every wire format, with what models differ in: thinking, effort, sampling, tools, caps, media,
//! structure, and a conversation that holds other models' thoughts.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};
use tollgate::llm::wire::Endpoint;

/// Who may serve a wire format: the providers' models, and local ones.
type Models = &'static [(&'static str, &'static str)];

const CLAUDE: Models = &[
    ("anthropic", "claude-fable-5-2"),
    ("anthropic", "claude-opus-5-5"),
    ("anthropic", "claude-sonnet-5-5"),
    ("anthropic", "claude-haiku-5-5"),
    ("anthropic", "claude-opus-5"),
    ("anthropic", "claude-opus-4-8"),
    ("anthropic", "claude-sonnet-4-6"),
    ("anthropic", "claude-haiku-4-5"),
    ("ollama", "qwen3:8b"),
    ("ollama", "llama3.2:3b"),
    ("ollama", "gemma3:12b"),
];

const GPT: Models = &[
    ("openai", "gpt-6-astra"),
    ("openai", "gpt-6.1-sol"),
    ("openai", "gpt-6.1-terra"),
    ("openai", "gpt-6-luna"),
    ("openai", "gpt-5"),
    ("openai", "gpt-5-mini"),
    ("openai", "gpt-5-nano"),
    ("openai", "gpt-4.1"),
    ("openai", "gpt-4o-mini"),
    ("ollama", "qwen3:8b"),
    ("ollama", "gpt-oss:20b"),
    ("ollama", "llama3.2:3b"),
];

const MISTRAL: Models = &[
    ("mistral", "mistral-medium-3-5"),
    ("mistral", "mistral-large-4"),
    ("mistral", "mistral-small-latest"),
    ("mistral", "ministral-8b-latest"),
    ("mistral", "ministral-3b-latest"),
    ("ollama", "gemma3:12b"),
];

const LIKES: [Models; 4] = [
    &[
        ("deepseek", "deepseek-v4-pro"),
        ("deepseek", "deepseek-flash"),
        ("ollama", "llama3.2:3b"),
    ],
    &[
        ("xai", "grok-4.7"),
        ("xai", "grok-4.3"),
        ("xai", "grok-build-0.1"),
    ],
    &[
        ("groq", "llama-3.3-70b-versatile"),
        ("groq", "openai/gpt-oss-120b"),
        ("groq", "openai/gpt-oss-20b"),
        ("groq", "llama-3.1-8b-instant"),
    ],
    &[
        ("cohere", "command-a-03-2025"),
        ("cohere", "command-r7b-12-2024"),
    ],
];

const GEMINI: Models = &[
    ("google", "gemini-3.1-pro-preview"),
    ("google", "gemini-4-argon"),
    ("google", "gemini-3.8-flash"),
    ("google", "gemini-3.5-flash-lite"),
    ("google", "gemini-3.1-flash-lite"),
    ("google", "gemini-2.5-pro"),
    ("google", "gemini-2.5-flash"),
    ("google", "gemini-2.5-flash-lite"),
];

const LOCAL: Models = &[
    ("ollama", "qwen3:8b"),
    ("ollama", "gpt-oss:20b"),
    ("ollama", "llama3.2:3b"),
    ("ollama", "gemma3:12b"),
    ("ollama", "qwen3-coder:30b"),
];

/// All models that any case knows.
pub(super) fn models() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lists = [CLAUDE, GPT, MISTRAL, GEMINI, LOCAL]
        .into_iter()
        .chain(LIKES);
    lists.flatten().copied()
}

/// A request.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) endpoint: Endpoint,
    pub(super) asked: (&'static str, &'static str),
    models: Models,
    members: Vec<(&'static str, Value)>,
    pretty: bool,
}

impl Case {
    /// The path when this model is asked.
    pub(super) fn path(&self, model: &str) -> String {
        match self.endpoint {
            Endpoint::Messages => "/v1/messages".to_owned(),
            Endpoint::ChatCompletions => "/v1/chat/completions".to_owned(),
            Endpoint::Responses => "/v1/responses".to_owned(),
            Endpoint::OllamaChat => "/api/chat".to_owned(),
            _ => format!("/v1beta/models/{model}:generateContent"),
        }
    }

    /// The models that might stand in.
    pub(super) fn others(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let asked = self.asked;
        self.models
            .iter()
            .copied()
            .filter(move |other| *other != asked)
    }

    /// The body when this model is asked, its members in the case's order.
    pub(super) fn written(&self, model: &str) -> String {
        let (open, between, colon, close) = if self.pretty {
            ("{\n  ", ",\n  ", ": ", "\n}\n")
        } else {
            ("{", ",", ":", "}")
        };
        let members: Vec<String> = self
            .members
            .iter()
            .map(|(name, value)| {
                let value = if *name == "model" {
                    json!(model)
                } else {
                    signed(value, model)
                };
                let value = if self.pretty {
                    format!("{value:#}")
                } else {
                    value.to_string()
                };
                format!("\"{name}\"{colon}{value}")
            })
            .collect();
        format!("{open}{}{close}", members.join(between))
    }
}

/// A chat request with so much text for `gpt-5`, and who may serve it.
pub(super) fn of_length(bytes: usize) -> Case {
    Case {
        endpoint: Endpoint::ChatCompletions,
        asked: ("openai", "gpt-5"),
        models: GPT,
        members: vec![
            (
                "messages",
                json!([{ "role": "user", "content": "word ".repeat(bytes / 5) }]),
            ),
            ("model", Value::Null),
        ],
        pretty: false,
    }
}

/// The model that a path names.
pub(super) fn model_in(path: &str) -> Option<&str> {
    let (_, last) = path.split_once("/models/")?;
    Some(last.split(':').next().unwrap_or(last))
}

/// Puts the asked model's name into signatures.
fn signed(value: &Value, model: &str) -> Value {
    match value {
        Value::String(text) if text == "sig:" => format!("sig:{model}").into(),
        Value::Array(values) => values.iter().map(|value| signed(value, model)).collect(),
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| (name.clone(), signed(value, model)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

/// A member that is there now and then.
fn maybe(
    one_in: u32,
    name: &'static str,
    values: Vec<Value>,
) -> BoxedStrategy<Option<(&'static str, Value)>> {
    prop_oneof![
        one_in - 1 => Just(None),
        1 => select(values).prop_map(move |value| Some((name, value))),
    ]
    .boxed()
}

fn one_of(name: &'static str, values: Vec<Value>) -> BoxedStrategy<Option<(&'static str, Value)>> {
    select(values)
        .prop_map(move |value| Some((name, value)))
        .boxed()
}

fn image() -> Value {
    json!({ "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo=" } })
}

/// A text: short as a rule, now and then too long for small windows.
fn text(long: bool) -> Value {
    let words = "SECRET { \\ \" é ✓ }, ";
    if long {
        words.repeat(6_000).into()
    } else {
        words.into()
    }
}

fn messages() -> BoxedStrategy<Value> {
    let block = |long| json!({ "type": "text", "text": text(long) });
    let thinking = json!({ "type": "thinking", "thinking": "SECRET", "signature": "sig:" });
    let call = json!({ "type": "tool_use", "id": "t1", "name": "f", "input": { "a": "SECRET" } });
    let result = json!({ "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "t1", "content": "SECRET" }] });
    let user = |long| json!({ "role": "user", "content": text(long) });
    let answer = json!({ "role": "assistant", "content": [block(false)] });
    let thought = json!({ "role": "assistant", "content": [thinking.clone(), block(false)] });
    let called = json!({ "role": "assistant", "content": [call.clone()] });
    let thought_call = json!({ "role": "assistant", "content": [thinking.clone(), call] });
    let only_thought = json!({ "role": "assistant", "content": [thinking] });
    select(vec![
        json!([user(false)]),
        json!([user(false)]),
        json!([{ "role": "user", "content": [block(false), image()] }]),
        json!([{ "role": "user", "content": [{ "type": "image", "source": { "type": "url", "url": "https://example.org/a.png" } }] }]),
        json!([{ "role": "user", "content": [block(false), { "type": "document", "source": { "type": "base64", "media_type": "application/pdf", "data": "JVBERi0=" } }] }]),
        json!([user(true)]),
        json!([user(false), answer, user(false)]),
        json!([user(false), thought, user(false)]),
        json!([user(false), only_thought, user(false)]),
        json!([user(false), called.clone(), result]),
        json!([user(false), thought_call.clone(), result]),
        json!([user(false), thought_call.clone(), result, thought, user(false)]),
        json!([user(false), thought_call, result, answer, user(false)]),
        json!([user(false), called, result, answer, user(false)]),
        json!([user(false), { "role": "system", "content": "SECRET" }, user(false)]),
        json!([user(false), { "role": "assistant", "content": "SECRET" }]),
    ])
    .boxed()
}

fn anthropic() -> Vec<BoxedStrategy<Option<(&'static str, Value)>>> {
    let tool = json!({ "name": "f", "input_schema": { "type": "object" } });
    let effort = |level: &str| json!({ "effort": level });
    let schema = json!({ "type": "json_schema", "schema": { "type": "object" } });
    vec![
        messages()
            .prop_map(|messages| Some(("messages", messages)))
            .boxed(),
        one_of(
            "max_tokens",
            [50, 1_025, 4_096, 16_000, 64_000, 64_001, 128_000]
                .map(Value::from)
                .to_vec(),
        ),
        maybe(
            2,
            "thinking",
            vec![
                json!({ "type": "adaptive" }),
                json!({ "type": "adaptive", "display": "summarized" }),
                json!({ "type": "disabled" }),
                json!({ "type": "between_tools" }),
                json!({ "type": "enabled", "budget_tokens": 1_024 }),
                json!({ "budget_tokens": 70_000, "type": "enabled" }),
                json!({ "budget_tokens": 8_000, "type": "enabled" }),
            ],
        ),
        maybe(
            3,
            "output_config",
            vec![
                effort("low"),
                effort("high"),
                effort("xhigh"),
                effort("max"),
                effort("medium"),
                json!({ "effort": "max", "format": schema }),
                json!({ "format": schema }),
            ],
        ),
        maybe(5, "temperature", vec![json!(0), json!(1), json!(0.7)]),
        maybe(8, "top_p", vec![json!(0.5)]),
        maybe(10, "top_k", vec![json!(5)]),
        maybe(
            3,
            "tools",
            vec![
                json!([tool]),
                json!([tool, { "type": "web_search_20250305", "name": "web_search" }]),
                json!([{ "type": "computer_20251124", "name": "computer" }]),
            ],
        ),
        maybe(
            6,
            "tool_choice",
            vec![
                json!({ "type": "any" }),
                json!({ "type": "auto" }),
                json!({ "type": "tool", "name": "f" }),
            ],
        ),
        maybe(
            6,
            "context_management",
            vec![
                json!({ "edits": [{ "type": "clear_thinking_20251015", "keep": "all" }] }),
                json!({ "edits": [{ "type": "clear_tool_uses_20250919" }] }),
            ],
        ),
        maybe(8, "stop_sequences", vec![json!(["SECRET"]), json!([])]),
        maybe(8, "speed", vec![json!("fast"), json!("standard")]),
        maybe(
            8,
            "system",
            vec![
                json!("SECRET"),
                json!([{ "type": "text", "text": "SECRET", "cache_control": { "type": "ephemeral" } }]),
            ],
        ),
        maybe(8, "metadata", vec![json!({ "user_id": "u" })]),
        maybe(8, "stream", vec![json!(true)]),
        maybe(20, "service_tier", vec![json!("auto")]),
        maybe(20, "inference_geo", vec![json!("us")]),
    ]
}

fn chat() -> Vec<BoxedStrategy<Option<(&'static str, Value)>>> {
    let user = json!({ "role": "user", "content": text(false) });
    let call = json!({ "role": "assistant", "content": null, "tool_calls": [{ "id": "c", "type": "function", "function": { "name": "f", "arguments": "{}" } }] });
    let result = json!({ "role": "tool", "tool_call_id": "c", "content": "SECRET" });
    let tool = json!({ "type": "function", "function": { "name": "f", "parameters": { "type": "object" } } });
    let efforts = || {
        ["none", "minimal", "low", "medium", "high", "xhigh", "max"]
            .map(Value::from)
            .to_vec()
    };
    vec![
        one_of(
            "messages",
            vec![
                json!([user]),
                json!([user]),
                json!([{ "role": "system", "content": "SECRET" }, user]),
                json!([{ "role": "developer", "content": "SECRET" }, user]),
                json!([{ "role": "user", "content": [{ "type": "image_url", "image_url": { "url": "data:image/png;base64,iVBORw0KGgo=" } }] }]),
                json!([{ "role": "user", "content": [{ "type": "image_url", "image_url": { "url": "https://example.org/a.png" } }] }]),
                json!([{ "role": "user", "content": text(true) }]),
                json!([user, call, result]),
                json!([user, call, result, { "role": "assistant", "content": "SECRET" }, user]),
                json!([user, { "role": "assistant", "content": "SECRET" }]),
            ],
        ),
        maybe(
            3,
            "max_tokens",
            [1, 8_000, 16_384, 60_000, 128_000]
                .map(Value::from)
                .to_vec(),
        ),
        maybe(
            3,
            "max_completion_tokens",
            [1, 4_096, 60_000, 128_000].map(Value::from).to_vec(),
        ),
        maybe(2, "reasoning_effort", efforts()),
        maybe(4, "temperature", vec![json!(0), json!(1)]),
        maybe(10, "top_p", vec![json!(0.5)]),
        maybe(10, "logit_bias", vec![json!({ "1": 1 })]),
        maybe(8, "frequency_penalty", vec![json!(0.5)]),
        maybe(8, "presence_penalty", vec![json!(0)]),
        maybe(10, "stop", vec![json!("SECRET")]),
        maybe(10, "logprobs", vec![json!(true), json!(false)]),
        maybe(10, "n", vec![json!(2), json!(1)]),
        maybe(10, "seed", vec![json!(1)]),
        maybe(10, "verbosity", vec![json!("low")]),
        maybe(4, "tools", vec![json!([tool])]),
        maybe(
            8,
            "tool_choice",
            vec![
                json!("auto"),
                json!("required"),
                json!({ "type": "function", "function": { "name": "f" } }),
            ],
        ),
        maybe(
            8,
            "response_format",
            vec![
                json!({ "type": "text" }),
                json!({ "type": "json_object" }),
                json!({ "type": "json_schema", "json_schema": { "name": "a", "schema": {} } }),
            ],
        ),
        maybe(8, "stream", vec![json!(true)]),
        maybe(10, "stream_options", vec![json!({ "include_usage": true })]),
        maybe(10, "parallel_tool_calls", vec![json!(false)]),
        maybe(10, "user", vec![json!("u")]),
    ]
}

fn responses() -> Vec<BoxedStrategy<Option<(&'static str, Value)>>> {
    let user = json!({ "type": "message", "role": "user", "content": [{ "type": "input_text", "text": text(false) }] });
    let answer = json!({ "type": "message", "role": "assistant", "content": [{ "type": "output_text", "text": "SECRET" }] });
    let named = json!({ "type": "message", "role": "assistant", "id": "msg_1", "content": [{ "type": "output_text", "text": "SECRET" }] });
    let reasoning =
        json!({ "type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "sig:" });
    let call = json!({ "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}" });
    let output = json!({ "type": "function_call_output", "call_id": "c", "output": "SECRET" });
    vec![
        one_of(
            "input",
            vec![
                json!("SECRET"),
                json!([user]),
                json!([{ "role": "user", "content": "SECRET" }]),
                json!([{ "role": "user", "content": [{ "type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo=" }] }]),
                json!([user, reasoning, answer, user]),
                json!([user, reasoning, named, user]),
                json!([user, reasoning, call, output]),
                json!([user, reasoning, call, output, reasoning, answer, user]),
                json!([user, call, output]),
                json!([user, answer, user]),
            ],
        ),
        maybe(
            3,
            "max_output_tokens",
            [16, 4_096, 128_000].map(Value::from).to_vec(),
        ),
        maybe(
            2,
            "reasoning",
            vec![
                json!({ "effort": "none" }),
                json!({ "effort": "minimal" }),
                json!({ "effort": "low", "summary": "auto" }),
                json!({ "effort": "medium" }),
                json!({ "summary": "auto", "effort": "xhigh" }),
                json!({ "effort": "max" }),
                json!({ "summary": "auto" }),
            ],
        ),
        maybe(4, "include", vec![json!(["reasoning.encrypted_content"])]),
        maybe(
            6,
            "text",
            vec![
                json!({ "verbosity": "low" }),
                json!({ "format": { "type": "json_schema", "name": "a", "schema": {} }, "verbosity": "high" }),
                json!({ "format": { "type": "text" } }),
            ],
        ),
        maybe(
            4,
            "tools",
            vec![
                json!([{ "type": "function", "name": "f", "parameters": {} }]),
                json!([{ "type": "web_search" }]),
                json!([{ "type": "custom", "name": "f" }]),
            ],
        ),
        maybe(8, "tool_choice", vec![json!("auto"), json!("required")]),
        maybe(6, "temperature", vec![json!(0), json!(1)]),
        maybe(10, "top_p", vec![json!(0.5)]),
        maybe(4, "store", vec![json!(false)]),
        maybe(8, "instructions", vec![json!("SECRET")]),
        maybe(20, "previous_response_id", vec![json!("resp_1")]),
        maybe(20, "background", vec![json!(true)]),
        maybe(8, "prompt_cache_key", vec![json!("k")]),
        maybe(8, "stream", vec![json!(true)]),
        maybe(8, "truncation", vec![json!("auto")]),
    ]
}

fn gemini() -> Vec<BoxedStrategy<Option<(&'static str, Value)>>> {
    let user = json!({ "role": "user", "parts": [{ "text": text(false) }] });
    let signed = json!({ "role": "model", "parts": [{ "functionCall": { "name": "f", "args": {} }, "thoughtSignature": "sig:" }] });
    let unsigned =
        json!({ "role": "model", "parts": [{ "functionCall": { "name": "f", "args": {} } }] });
    let answer =
        json!({ "role": "model", "parts": [{ "thoughtSignature": "sig:", "text": "SECRET" }] });
    let result = json!({ "role": "user", "parts": [{ "functionResponse": { "name": "f", "response": {} } }] });
    let config = prop::collection::vec(
        prop_oneof![
            maybe(
                2,
                "thinkingConfig",
                vec![
                    json!({ "thinkingBudget": 0 }),
                    json!({ "thinkingBudget": -1 }),
                    json!({ "thinkingBudget": 200 }),
                    json!({ "thinkingBudget": 30_000, "includeThoughts": true }),
                    json!({ "thinkingLevel": "LOW" }),
                    json!({ "thinkingLevel": "minimal" }),
                    json!({ "includeThoughts": true, "thinkingLevel": "high" }),
                    json!({ "includeThoughts": true }),
                ]
            ),
            maybe(
                2,
                "maxOutputTokens",
                [10, 4_096, 65_536, 500_000].map(Value::from).to_vec()
            ),
            maybe(3, "temperature", vec![json!(0.5)]),
            maybe(3, "topK", vec![json!(5)]),
            maybe(6, "presencePenalty", vec![json!(0.5)]),
            maybe(6, "candidateCount", vec![json!(2)]),
            maybe(4, "stopSequences", vec![json!(["SECRET"])]),
            maybe(4, "responseMimeType", vec![json!("application/json")]),
            maybe(6, "seed", vec![json!(1)]),
        ],
        0..6,
    )
    .prop_map(|members| {
        let members = members
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.to_owned(), value));
        Some(("generationConfig", Value::Object(members.collect())))
    });
    vec![
        one_of(
            "contents",
            vec![
                json!([user]),
                json!([{ "parts": [{ "text": "SECRET" }] }]),
                json!([{ "role": "user", "parts": [{ "inlineData": { "mimeType": "image/png", "data": "iVBORw0KGgo=" } }] }]),
                json!([{ "role": "user", "parts": [{ "inlineData": { "mimeType": "audio/wav", "data": "UklGRg==" } }] }]),
                json!([user, signed, result]),
                json!([user, unsigned, result]),
                json!([user, signed, result, answer, user]),
                json!([user, answer, user]),
                json!([user, unsigned, result, { "role": "model", "parts": [{ "text": "SECRET" }] }, user]),
            ],
        ),
        config.boxed(),
        maybe(
            4,
            "tools",
            vec![
                json!([{ "functionDeclarations": [{ "name": "f" }] }]),
                json!([{ "googleSearch": {} }]),
            ],
        ),
        maybe(
            8,
            "toolConfig",
            vec![
                json!({ "functionCallingConfig": { "mode": "ANY" } }),
                json!({ "functionCallingConfig": { "mode": "AUTO" } }),
            ],
        ),
        maybe(
            8,
            "systemInstruction",
            vec![json!({ "parts": [{ "text": "SECRET" }] })],
        ),
        maybe(8, "safetySettings", vec![json!([])]),
        maybe(20, "cachedContent", vec![json!("cachedContents/a")]),
    ]
}

fn ollama() -> Vec<BoxedStrategy<Option<(&'static str, Value)>>> {
    let user = json!({ "role": "user", "content": text(false) });
    vec![
        one_of(
            "messages",
            vec![
                json!([user]),
                json!([{ "role": "user", "content": "SECRET", "images": ["iVBORw0KGgo="] }]),
                json!([user, { "role": "assistant", "content": "", "tool_calls": [{ "function": { "name": "f", "arguments": {} } }] }, { "role": "tool", "tool_name": "f", "content": "SECRET" }]),
            ],
        ),
        maybe(
            2,
            "think",
            vec![json!(true), json!(false), json!("low"), json!("high")],
        ),
        maybe(
            3,
            "tools",
            vec![json!([{ "type": "function", "function": { "name": "f" } }])],
        ),
        maybe(
            3,
            "format",
            vec![json!("json"), json!({ "type": "object" })],
        ),
        maybe(
            3,
            "options",
            vec![
                json!({ "num_predict": 100, "temperature": 0 }),
                json!({ "num_ctx": 4096 }),
            ],
        ),
        maybe(8, "keep_alive", vec![json!("5m")]),
        maybe(8, "stream", vec![json!(false)]),
    ]
}

fn case(
    endpoint: Endpoint,
    models: Models,
    members: Vec<BoxedStrategy<Option<(&'static str, Value)>>>,
) -> BoxedStrategy<Case> {
    (
        select(models),
        members,
        any::<bool>(),
        any::<Index>(),
        any::<bool>(),
    )
        .prop_map(move |(asked, members, pretty, turned, reversed)| {
            let mut members: Vec<(&'static str, Value)> = members.into_iter().flatten().collect();
            if endpoint != Endpoint::GenerateContent {
                members.push(("model", Value::Null));
            }
            let by = turned.index(members.len());
            members.rotate_left(by);
            if reversed {
                members.reverse();
            }
            Case {
                endpoint,
                asked,
                models,
                members,
                pretty,
            }
        })
        .boxed()
}

/// All kinds of requests.
pub(super) fn cases() -> impl Strategy<Value = Case> {
    prop_oneof![
        6 => case(Endpoint::Messages, CLAUDE, anthropic()),
        4 => case(Endpoint::ChatCompletions, GPT, chat()),
        1 => case(Endpoint::ChatCompletions, MISTRAL, chat()),
        2 => select(LIKES.to_vec()).prop_flat_map(|models| case(Endpoint::ChatCompletions, models, chat())),
        4 => case(Endpoint::Responses, GPT, responses()),
        4 => case(Endpoint::GenerateContent, GEMINI, gemini()),
        1 => case(Endpoint::OllamaChat, LOCAL, ollama()),
    ]
}
