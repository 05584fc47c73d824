//! The strict provider over a real socket: each wire format refuses in its provider's words, and takes what is right.

use http::StatusCode;
use serde_json::{Value, json};
use tollgate::simulate::SimulateSettings;

use super::Rig;
use http_body_util::BodyExt;

async fn asked(rig: &Rig, path: &str, body: &Value) -> (StatusCode, Value) {
    let response = rig.send(path, body.to_string(), &[]).await;
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap())
}

#[tokio::test]
async fn a_strict_provider_refuses_what_the_real_model_refuses_and_a_lax_one_does_not() {
    let strict = Rig::with(SimulateSettings {
        strict: true,
        ..SimulateSettings::default()
    })
    .await;
    let lax = Rig::start().await;
    let user = json!([{ "role": "user", "content": "hi" }]);
    let parts = json!([{ "role": "user", "parts": [{ "text": "hi" }] }]);
    for (path, wrong, right, told) in [
        (
            "/v1/messages",
            json!({ "model": "claude-opus-5-5", "max_tokens": 5, "temperature": 0, "messages": user }),
            json!({ "model": "claude-haiku-4-5", "max_tokens": 5, "temperature": 0, "messages": user }),
            "/error/type=invalid_request_error",
        ),
        (
            "/v1/chat/completions",
            json!({ "model": "gpt-5-nano", "max_tokens": 5, "messages": user }),
            json!({ "model": "gpt-5-nano", "max_completion_tokens": 5, "messages": user }),
            "/error/param=max_tokens",
        ),
        (
            "/v1/responses",
            json!({ "model": "gpt-6.1-sol", "reasoning": { "effort": "none" }, "input": "hi" }),
            json!({ "model": "gpt-6-luna", "reasoning": { "effort": "none" }, "input": "hi" }),
            "/error/code=unsupported_value",
        ),
        (
            "/v1beta/models/gemini-3.8-flash:generateContent",
            json!({ "contents": parts, "generationConfig": { "thinkingConfig": { "thinkingBudget": 0 } } }),
            json!({ "contents": parts, "generationConfig": { "thinkingConfig": { "thinkingLevel": "low" } } }),
            "/error/status=INVALID_ARGUMENT",
        ),
        (
            "/api/chat",
            json!({ "model": "llama3.2:3b", "think": true, "stream": false, "messages": user }),
            json!({ "model": "qwen3:8b", "think": true, "stream": false, "messages": user }),
            "/error=registry.ollama.ai/library/llama3.2:3b does not support thinking",
        ),
    ] {
        let (status, answer) = asked(&strict, path, &wrong).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path} {answer}");
        let (pointer, value) = told.split_once('=').unwrap();
        assert_eq!(
            answer.pointer(pointer),
            Some(&json!(value)),
            "{path} {answer}"
        );
        assert_eq!(
            asked(&strict, path, &right).await.0,
            StatusCode::OK,
            "{path}"
        );
        assert_eq!(asked(&lax, path, &wrong).await.0, StatusCode::OK, "{path}");
    }
}
