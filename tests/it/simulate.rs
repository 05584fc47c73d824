//! The simulated provider over a real socket: every wire form, every fault, and that its counts are true.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod limits;
mod strict;

use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tollgate::simulate::{Behaviour, SimulateSettings, serve};

type Headers<'a> = &'a [(&'a str, &'a str)];

/// A simulated provider and a client for it.
struct Rig {
    address: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
}

impl Rig {
    async fn start() -> Self {
        Self::with(SimulateSettings::default()).await
    }

    async fn with(settings: SimulateSettings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(serve(listener, settings, async {
            let _ = stopped.await;
        }));
        Self {
            address,
            client: Client::builder(TokioExecutor::new()).build_http(),
            stop: Some(stop),
            server,
        }
    }

    fn request(
        &self,
        path: &str,
        body: impl Into<Bytes>,
        headers: Headers<'_>,
    ) -> Request<Full<Bytes>> {
        let body = body.into();
        let method = if body.is_empty() { "GET" } else { "POST" };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Full::new(body)).unwrap()
    }

    async fn send(
        &self,
        path: &str,
        body: impl Into<Bytes>,
        headers: Headers<'_>,
    ) -> Response<Incoming> {
        self.client
            .request(self.request(path, body, headers))
            .await
            .unwrap()
    }

    async fn text(
        &self,
        path: &str,
        body: impl Into<Bytes>,
        headers: Headers<'_>,
    ) -> (HeaderMap, StatusCode, String) {
        let (head, body) = self.send(path, body, headers).await.into_parts();
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        (head.headers, head.status, text)
    }

    async fn json(&self, path: &str, body: Value, headers: Headers<'_>) -> Value {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        serde_json::from_str(&self.text(path, body, headers).await.2).unwrap()
    }

    async fn stats(&self) -> Value {
        self.json("/_simulate/stats", Value::Null, &[]).await
    }

    /// What the counts say of the last request that ended.
    async fn last(&self) -> Value {
        self.json("/_simulate/requests?last=1", Value::Null, &[])
            .await[0]
            .take()
    }

    /// Waits until no request is in flight any more; fails after two seconds.
    async fn settled(&self) -> Value {
        let begun = Instant::now();
        loop {
            let stats = self.stats().await;
            if stats["in_flight"] == 0 {
                return stats;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(2),
                "still in flight: {stats}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The answer to a raw request: all bytes that come, and how the connection ended.
    async fn raw(
        &self,
        path: &str,
        body: &Value,
        headers: Headers<'_>,
    ) -> (Vec<u8>, Result<(), ErrorKind>) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let body = body.to_string();
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        stream
            .write_all(format!("{request}\r\n{body}").as_bytes())
            .await
            .unwrap();
        let mut answer = Vec::new();
        let end = stream.read_to_end(&mut answer).await;
        (answer, end.map(drop).map_err(|problem| problem.kind()))
    }
}

/// The chunks of a chunked HTTP/1.1 answer, and whether it came to its end.
fn chunks(answer: &[u8]) -> (Vec<String>, bool) {
    let text = std::str::from_utf8(answer).unwrap();
    let (head, mut rest) = text.split_once("\r\n\r\n").unwrap();
    assert!(
        head.to_ascii_lowercase()
            .contains("transfer-encoding: chunked"),
        "{head}"
    );
    let mut chunks = Vec::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return (chunks, true);
        }
        chunks.push(after[..size].to_owned());
        rest = &after[size + 2..];
    }
    (chunks, false)
}

/// The JSON of every `data:` line.
fn events(text: &str) -> Vec<Value> {
    text.lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter(|data| *data != "[DONE]")
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

fn messages(stream: bool) -> Value {
    json!({"model": "claude-x", "max_tokens": 100, "stream": stream, "messages": [{"role": "user", "content": "hello"}]})
}

fn chat(stream: bool) -> Value {
    json!({"model": "gpt-x", "stream": stream, "messages": [{"role": "user", "content": "hello"}]})
}

/// Input in all, cache reads, output in all, reasoning: read from an answer by the rules of its dialect.
fn usage_of(path: &str, answer: &Value) -> [u64; 4] {
    let number = |pointer: &str| answer.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    if path.ends_with("/messages") {
        let cached = number("/usage/cache_read_input_tokens");
        let input =
            number("/usage/input_tokens") + cached + number("/usage/cache_creation_input_tokens");
        [
            input,
            cached,
            number("/usage/output_tokens"),
            number("/usage/output_tokens_details/thinking_tokens"),
        ]
    } else if path.contains("/responses") {
        [
            number("/usage/input_tokens"),
            number("/usage/input_tokens_details/cached_tokens"),
            number("/usage/output_tokens"),
            number("/usage/output_tokens_details/reasoning_tokens"),
        ]
    } else if path.contains("/models/") {
        let thoughts = number("/usageMetadata/thoughtsTokenCount");
        [
            number("/usageMetadata/promptTokenCount"),
            number("/usageMetadata/cachedContentTokenCount"),
            number("/usageMetadata/candidatesTokenCount") + thoughts,
            thoughts,
        ]
    } else if path.starts_with("/api/chat")
        || path.starts_with("/api/generate")
        || path.starts_with("/api/embed")
    {
        [number("/prompt_eval_count"), 0, number("/eval_count"), 0]
    } else {
        [
            number("/usage/prompt_tokens"),
            number("/usage/prompt_tokens_details/cached_tokens"),
            number("/usage/completion_tokens"),
            number("/usage/completion_tokens_details/reasoning_tokens"),
        ]
    }
}

fn counted(entry: &Value) -> [u64; 4] {
    ["input", "cached", "output", "reasoning"].map(|name| entry["usage"][name].as_u64().unwrap())
}

/// Figures that no default gives.
const FIGURES: Headers<'static> = &[
    ("x-simulate-input-tokens", "40"),
    ("x-simulate-cached-tokens", "11"),
    ("x-simulate-cache-write-tokens", "6"),
    ("x-simulate-output-tokens", "9"),
    ("x-simulate-reasoning-tokens", "4"),
];

const CONTENTS: &str = r#"{"contents":[{"role":"user","parts":[{"text":"hello"}]}]}"#;

#[tokio::test]
async fn a_whole_answer_in_every_form_tells_the_usage_that_is_counted() {
    let rig = Rig::start().await;
    let gemini: Value = serde_json::from_str(CONTENTS).unwrap();
    for (path, body, expected) in [
        ("/v1/messages", messages(false), [40, 11, 9, 4]),
        (
            "/anthropic/v1/messages?beta=true",
            messages(false),
            [40, 11, 9, 4],
        ),
        ("/v1/chat/completions", chat(false), [40, 11, 9, 4]),
        ("/api/v1/chat/completions", chat(false), [40, 11, 9, 4]),
        (
            "/openai/deployments/d/chat/completions?api-version=1",
            chat(false),
            [40, 11, 9, 4],
        ),
        (
            "/v1/completions",
            json!({"model": "m", "prompt": "x"}),
            [40, 11, 9, 4],
        ),
        (
            "/v1/responses",
            json!({"model": "m", "input": "x"}),
            [40, 11, 9, 4],
        ),
        (
            "/v1beta/models/gemini-x:generateContent",
            gemini,
            [40, 11, 9, 4],
        ),
        (
            "/api/chat",
            json!({"model": "m", "stream": false, "messages": []}),
            [40, 0, 9, 0],
        ),
        (
            "/api/generate",
            json!({"model": "m", "stream": false, "prompt": "x"}),
            [40, 0, 9, 0],
        ),
        (
            "/v1/embeddings",
            json!({"model": "m", "input": "x", "dimensions": 2}),
            [40, 0, 0, 0],
        ),
        (
            "/api/embed",
            json!({"model": "m", "input": "x", "dimensions": 2}),
            [40, 0, 0, 0],
        ),
    ] {
        let answer = rig.json(path, body, FIGURES).await;
        let entry = rig.last().await;
        let plain = path.split('?').next().unwrap();
        assert_eq!(usage_of(plain, &answer), expected, "{path} {answer}");
        assert_eq!(counted(&entry), expected, "{path} {entry}");
        assert_eq!(
            (&entry["outcome"], &entry["usage_sent"]),
            (&json!("complete"), &json!(true)),
            "{path}"
        );
    }
    let stats = rig.stats().await;
    assert_eq!(stats["complete"], 12);
    assert_eq!(
        (&stats["reported"]["input"], &stats["reported"]["output"]),
        (&json!(480), &json!(90))
    );
}

#[tokio::test]
async fn a_stream_in_every_form_tells_the_usage_that_is_counted() {
    let rig = Rig::start().await;
    let asked = json!({"model": "m", "stream": true, "stream_options": {"include_usage": true}, "messages": [], "prompt": "x"});
    let gemini: Value = serde_json::from_str(CONTENTS).unwrap();
    for (path, body) in [
        ("/v1/messages", messages(true)),
        ("/v1/chat/completions", asked.clone()),
        ("/api/v1/chat/completions", chat(true)),
        ("/v1/completions", asked),
        (
            "/v1/responses",
            json!({"model": "m", "input": "x", "stream": true}),
        ),
        (
            "/v1/models/gemini-x:streamGenerateContent?alt=sse",
            gemini.clone(),
        ),
        ("/v1/models/gemini-x:streamGenerateContent", gemini),
        ("/api/chat", json!({"model": "m", "messages": []})),
        ("/api/generate", json!({"model": "m", "prompt": "x"})),
    ] {
        let (headers, _, text) = rig.text(path, body.to_string(), FIGURES).await;
        let pieces: Vec<Value> = match headers["content-type"].to_str().unwrap() {
            "application/x-ndjson" => text
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect(),
            "application/json; charset=UTF-8" => serde_json::from_str(&text).unwrap(),
            _ => events(&text),
        };
        // The last usage wins, wherever it sits; Anthropic's input may come first.
        let last = pieces
            .iter()
            .filter_map(|piece| {
                [piece, &piece["response"]].into_iter().find(|object| {
                    object["usage"].is_object()
                        || object["usageMetadata"].is_object()
                        || object["done"] == true
                })
            })
            .next_back()
            .unwrap_or_else(|| panic!("no usage in {path}: {text}"));
        let entry = rig.last().await;
        let plain = path.split('?').next().unwrap();
        assert_eq!(usage_of(plain, last), counted(&entry), "{path}");
        assert_eq!(
            (&entry["outcome"], &entry["stream"]),
            (&json!("complete"), &json!(true)),
            "{path}"
        );
        assert_eq!(
            (&entry["usage"]["output"], &entry["usage_sent"]),
            (&json!(9), &json!(true)),
            "{path}"
        );
    }
}

#[tokio::test]
async fn flavours_tell_their_usage_in_their_own_place() {
    let rig = Rig::start().await;
    for (flavour, pointer, expected) in [
        ("groq", "/x_groq/usage", [40, 11, 9, 4]),
        ("mistral", "/usage", [40, 0, 9, 0]),
        ("together", "/usage", [40, 0, 9, 0]),
        ("vllm", "/usage", [40, 11, 9, 0]),
        ("openrouter", "/usage", [40, 11, 9, 4]),
    ] {
        let mut headers = FIGURES.to_vec();
        headers.push(("x-simulate-flavour", flavour));
        let (_, _, text) = rig
            .text("/v1/chat/completions", chat(true).to_string(), &headers)
            .await;
        let usage = events(&text)
            .iter()
            .filter_map(|event| {
                event
                    .pointer(pointer)
                    .filter(|usage| usage.is_object())
                    .cloned()
            })
            .next_back();
        assert_eq!(
            usage_of("", &json!({"usage": usage})),
            expected,
            "{flavour} {text}"
        );
        assert_eq!(counted(&rig.last().await), expected, "{flavour}");
    }
    let mut headers = FIGURES.to_vec();
    headers.push(("x-simulate-flavour", "xai"));
    let xai = rig
        .json("/v1/chat/completions", chat(false), &headers)
        .await;
    assert_eq!(
        (
            &xai["usage"]["completion_tokens"],
            &xai["usage"]["total_tokens"]
        ),
        (&json!(5), &json!(49))
    );
    headers.pop();
    headers.push(("x-simulate-flavour", "llamacpp"));
    let (_, _, text) = rig
        .text("/v1/chat/completions", chat(true).to_string(), &headers)
        .await;
    assert_eq!(events(&text).last().unwrap()["timings"]["cache_n"], 11);
    headers.pop();
    headers.push(("x-simulate-flavour", "deepseek"));
    let deepseek = rig
        .json("/v1/chat/completions", chat(false), &headers)
        .await;
    assert_eq!(deepseek["usage"]["prompt_cache_miss_tokens"], 29);
}

#[tokio::test]
async fn a_cost_is_stated_exactly_as_it_is_counted() {
    let rig = Rig::start().await;
    let (_, _, text) = rig
        .text("/api/v1/chat/completions", chat(false).to_string(), FIGURES)
        .await;
    // 23 × 3 + 11 × 0.3 + 6 × 3.75 + 9 × 15 micro-dollars.
    assert!(text.contains(r#""cost":0.0002298,"#), "{text}");
    assert_eq!(rig.last().await["cost"], "0.0002298");
}

#[tokio::test]
async fn an_openai_stream_tells_usage_only_if_it_was_asked_to() {
    let rig = Rig::start().await;
    let (_, _, silent) = rig
        .text("/v1/chat/completions", chat(true).to_string(), &[])
        .await;
    assert!(!silent.contains("usage"), "{silent}");
    assert_eq!(rig.last().await["usage_sent"], false);
    let mut body = chat(true);
    body["stream_options"] = json!({"include_usage": true});
    let (_, _, asked) = rig
        .text("/v1/chat/completions", body.to_string(), &[])
        .await;
    let chunks = events(&asked);
    let (last, others) = chunks.split_last().unwrap();
    assert!(
        others.iter().all(
            |chunk| chunk.get("usage") == Some(&Value::Null) && chunk["choices"][0].is_object()
        )
    );
    assert_eq!(
        (&last["choices"], &last["usage"]["completion_tokens"]),
        (&json!([]), &json!(16))
    );
    assert!(asked.ends_with("data: [DONE]\n\n"));
    let (_, _, none) = rig
        .text(
            "/v1/chat/completions",
            body.to_string(),
            &[("x-simulate-no-usage", "1")],
        )
        .await;
    assert!(!none.contains("usage"), "{none}");
}

#[tokio::test]
async fn an_anthropic_stream_has_its_events_in_order() {
    let rig = Rig::start().await;
    let mut body = messages(true);
    body["thinking"] = json!({"type": "adaptive"});
    body["tools"] =
        json!([{"name": "w", "input_schema": {"properties": {"city": {"type": "string"}}}}]);
    body["tool_choice"] = json!({"type": "any"});
    let (_, _, text) = rig
        .text(
            "/v1/messages",
            body.to_string(),
            &[("x-simulate-chunk-tokens", "8")],
        )
        .await;
    for (name, event) in text
        .lines()
        .filter_map(|line| line.strip_prefix("event: "))
        .zip(events(&text))
    {
        assert_eq!(event["type"], name);
    }
    let order: Vec<_> = events(&text)
        .iter()
        .map(|event| {
            format!("{} {}", event["type"], event["delta"]["type"])
                .replace('"', "")
                .replace(" null", "")
        })
        .collect();
    assert_eq!(
        order,
        [
            "message_start",
            "content_block_start",
            "ping",
            "content_block_delta thinking_delta",
            "content_block_delta signature_delta",
            "content_block_stop",
            "content_block_start",
            "content_block_delta input_json_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
    );
    assert_eq!(events(&text)[9]["delta"]["stop_reason"], "tool_use");
}

#[tokio::test]
async fn a_responses_stream_numbers_its_events_and_says_why_it_ended() {
    let rig = Rig::start().await;
    let body = json!({"model": "m", "input": "x", "stream": true, "max_output_tokens": 3});
    let (_, _, text) = rig.text("/v1/responses", body.to_string(), &[]).await;
    let events = events(&text);
    for (place, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], place);
    }
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.incomplete");
    assert_eq!(
        last["response"]["incomplete_details"]["reason"],
        "max_output_tokens"
    );
    assert_eq!(last["response"]["usage"]["output_tokens"], 3);
}

#[tokio::test]
async fn background_work_is_queued_then_done_and_paid_for_once() {
    let rig = Rig::start().await;
    let body = json!({"model": "m", "input": "x", "background": true});
    let receipt = rig
        .json("/v1/responses", body, &[("x-simulate-latency-ms", "60")])
        .await;
    assert_eq!(
        (&receipt["status"], &receipt["usage"]),
        (&json!("queued"), &Value::Null)
    );
    let path = format!("/v1/responses/{}", receipt["id"].as_str().unwrap());
    let begun = Instant::now();
    while rig.json(&path, Value::Null, &[]).await["status"] != "completed" {
        assert!(begun.elapsed() < Duration::from_secs(2));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let again = rig.json(&path, Value::Null, &[]).await;
    assert_eq!(again["usage"]["output_tokens"], 16);
    assert_eq!(
        rig.stats().await["used"]["output"],
        16,
        "asked for twice, paid for once"
    );
    let rest = rig
        .text(&format!("{path}?stream=true&starting_after=4"), "", &[])
        .await
        .2;
    assert_eq!(events(&rest)[0]["sequence_number"], 5);
}

#[tokio::test]
async fn every_frame_of_a_stream_is_a_chunk_of_its_own() {
    let rig = Rig::start().await;
    let (answer, end) = rig.raw("/v1/messages", &messages(true), &[]).await;
    let (chunks, complete) = chunks(&answer);
    assert!(complete && end.is_ok());
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk.matches("event: ").count() == 1 && chunk.ends_with("\n\n"))
    );
    assert_eq!(rig.last().await["frames_sent"], chunks.len());
}

#[tokio::test]
async fn errors_have_the_form_and_headers_of_their_dialect() {
    let rig = Rig::start().await;
    let headers = [
        ("x-simulate-status", "429"),
        ("x-simulate-retry-after", "2.5"),
    ];
    let gemini = "/v1beta/models/g:generateContent";
    for (path, body, kind, retry_after) in [
        (
            "/v1/messages",
            messages(false).to_string(),
            "/error/type=rate_limit_error",
            Some("3"),
        ),
        (
            "/v1/chat/completions",
            chat(true).to_string(),
            "/error/code=rate_limit_exceeded",
            Some("3"),
        ),
        (
            gemini,
            CONTENTS.to_owned(),
            "/error/status=RESOURCE_EXHAUSTED",
            None,
        ),
        (
            "/openai/deployments/d/chat/completions",
            chat(false).to_string(),
            "/error/code=429",
            Some("3"),
        ),
    ] {
        let (answered, status, text) = rig.text(path, body, &headers).await;
        let error: Value = serde_json::from_str(&text).unwrap();
        let (pointer, expected) = kind.split_once('=').unwrap();
        assert_eq!(status, 429, "{path}");
        assert_eq!(error.pointer(pointer).unwrap(), expected, "{path} {text}");
        assert_eq!(
            answered
                .get("retry-after")
                .map(|wait| wait.to_str().unwrap()),
            retry_after,
            "{path}"
        );
    }
    let (answered, status, text) = rig
        .text(
            "/v1/messages",
            messages(true).to_string(),
            &[("x-simulate-status", "529")],
        )
        .await;
    assert_eq!(status, 529);
    assert!(text.contains("overloaded_error"));
    assert_eq!(answered["x-should-retry"], "true");
    let stats = rig.stats().await;
    assert_eq!(
        (&stats["error"], &stats["used"]["input"]),
        (&json!(5), &json!(0)),
        "errors cost nothing"
    );
}

#[tokio::test]
async fn rate_limit_headers_are_on_every_answer() {
    let rig = Rig::start().await;
    let (anthropic, ..) = rig
        .text("/v1/messages", messages(false).to_string(), &[])
        .await;
    assert!(
        anthropic["anthropic-ratelimit-input-tokens-reset"]
            .to_str()
            .unwrap()
            .ends_with('Z')
    );
    let (openai, ..) = rig
        .text("/v1/chat/completions", chat(true).to_string(), &[])
        .await;
    assert_eq!(openai["x-ratelimit-reset-requests"], "1s");
}

#[tokio::test]
async fn a_cut_resets_the_connection_after_exactly_these_frames() {
    let rig = Rig::start().await;
    for (path, body) in [
        ("/v1/messages", messages(true)),
        ("/v1/chat/completions", chat(true)),
    ] {
        let (answer, end) = rig.raw(path, &body, &[("x-simulate-cut-after", "5")]).await;
        assert_eq!(end, Err(ErrorKind::ConnectionReset));
        let (chunks, complete) = chunks(&answer);
        assert_eq!((chunks.len(), complete), (5, false), "{path}");
        let entry = rig.last().await;
        assert_eq!(
            (&entry["outcome"], &entry["frames_sent"]),
            (&json!("cut"), &json!(5))
        );
        assert_eq!(entry["usage_sent"], false);
    }
}

#[tokio::test]
async fn a_cut_by_close_ends_the_connection_before_the_body_is_complete() {
    let rig = Rig::start().await;
    let headers = [
        ("x-simulate-cut-after", "3"),
        ("x-simulate-cut-by", "close"),
    ];
    let (answer, end) = rig.raw("/v1/messages", &messages(true), &headers).await;
    assert_eq!(end, Ok(()));
    assert_eq!((chunks(&answer).0.len(), chunks(&answer).1), (3, false));
}

#[tokio::test]
async fn a_whole_answer_can_be_cut_in_its_middle() {
    let rig = Rig::start().await;
    let response = rig
        .send(
            "/v1/messages",
            messages(false).to_string(),
            &[("x-simulate-cut-after", "1")],
        )
        .await;
    assert_eq!(response.status(), 200);
    assert!(response.into_body().collect().await.is_err());
    let entry = rig.last().await;
    assert_eq!(
        (&entry["outcome"], &entry["usage_sent"]),
        (&json!("cut"), &json!(false))
    );
}

#[tokio::test]
async fn an_early_end_is_clean_and_lacks_the_last_events() {
    let rig = Rig::start().await;
    let (answer, end) = rig
        .raw(
            "/v1/messages",
            &messages(true),
            &[("x-simulate-end-after", "6")],
        )
        .await;
    let (chunks, complete) = chunks(&answer);
    assert_eq!((chunks.len(), complete, end), (6, true, Ok(())));
    assert!(!chunks.concat().contains("message_stop"));
    assert_eq!(rig.last().await["outcome"], "ended_early");
}

#[tokio::test]
async fn an_error_event_comes_in_the_words_of_the_dialect() {
    let rig = Rig::start().await;
    let gemini: Value = serde_json::from_str(CONTENTS).unwrap();
    let responses = json!({"model": "m", "input": "x", "stream": true});
    for (path, body, code, says) in [
        (
            "/v1/messages",
            messages(true),
            None,
            "event: error\ndata: {\"type\":\"error\"",
        ),
        (
            "/v1/chat/completions",
            chat(true),
            Some("slow_down"),
            "\"code\":\"slow_down\"",
        ),
        (
            "/api/v1/chat/completions",
            chat(true),
            None,
            "\"finish_reason\":\"error\"",
        ),
        ("/v1/responses", responses.clone(), None, "event: error"),
        (
            "/v1/responses",
            responses,
            Some("rate_limit_exceeded"),
            "event: response.failed",
        ),
        (
            "/v1beta/models/g:streamGenerateContent?alt=sse",
            gemini.clone(),
            None,
            "{\n  \"error\"",
        ),
        (
            "/v1beta/models/g:streamGenerateContent",
            gemini,
            None,
            "{\n  \"error\"",
        ),
        (
            "/api/chat",
            json!({"model": "m", "messages": []}),
            None,
            "{\"error\":",
        ),
    ] {
        let mut headers = vec![("x-simulate-error-after", "3")];
        headers.extend(code.map(|code| ("x-simulate-error-code", code)));
        let (answer, end) = rig.raw(path, &body, &headers).await;
        let (chunks, complete) = chunks(&answer);
        assert_eq!((chunks.len(), complete, end), (4, true, Ok(())), "{path}");
        assert!(chunks[3].contains(says), "{path}: {}", chunks[3]);
        assert_eq!(rig.last().await["outcome"], "error_event");
    }
}

#[tokio::test]
async fn a_dropped_request_gets_no_byte() {
    let rig = Rig::start().await;
    let (answer, _) = rig
        .raw(
            "/v1/messages",
            &messages(false),
            &[("x-simulate-drop", "1")],
        )
        .await;
    assert_eq!(answer, b"");
    assert_eq!(rig.settled().await["dropped"], 1);
}

#[tokio::test]
async fn silence_lasts_until_the_client_leaves_and_is_noticed_at_once() {
    let rig = Rig::start().await;
    let before_head = rig.request(
        "/v1/messages",
        messages(true).to_string(),
        &[("x-simulate-hang", "1")],
    );
    assert!(
        tokio::time::timeout(Duration::from_millis(100), rig.client.request(before_head))
            .await
            .is_err()
    );
    assert_eq!(rig.settled().await["client_gone"], 1);

    let response = rig
        .send(
            "/v1/messages",
            messages(true).to_string(),
            &[("x-simulate-hang-after", "4")],
        )
        .await;
    let mut body = response.into_body();
    let mut text = Vec::new();
    while let Ok(frame) = tokio::time::timeout(Duration::from_millis(100), body.frame()).await {
        text.extend_from_slice(&frame.unwrap().unwrap().into_data().unwrap());
    }
    assert_eq!(
        String::from_utf8(text).unwrap().matches("event: ").count(),
        4
    );
    assert_eq!(rig.stats().await["in_flight"], 1);
    drop(body);
    assert_eq!(rig.settled().await["client_gone"], 2);
    assert_eq!(rig.last().await["frames_sent"], 4);
}

#[tokio::test]
async fn a_client_that_leaves_a_slow_stream_or_a_slow_head_is_counted() {
    let rig = Rig::start().await;
    let slow = rig.request(
        "/v1/messages",
        messages(false).to_string(),
        &[("x-simulate-latency-ms", "60000")],
    );
    assert!(
        tokio::time::timeout(Duration::from_millis(50), rig.client.request(slow))
            .await
            .is_err()
    );
    assert_eq!(rig.settled().await["client_gone"], 1);
    let response = rig
        .send(
            "/v1/chat/completions",
            chat(true).to_string(),
            &[("x-simulate-token-ms", "30000")],
        )
        .await;
    drop(response);
    assert_eq!(rig.settled().await["client_gone"], 2);
}

#[tokio::test]
async fn latency_and_pace_take_their_time() {
    let rig = Rig::start().await;
    let begun = Instant::now();
    let headers = [
        ("x-simulate-latency-ms", "60"),
        ("x-simulate-token-ms", "20"),
        ("x-simulate-output-tokens", "4"),
    ];
    let response = rig
        .send("/v1/messages", messages(true).to_string(), &headers)
        .await;
    assert!(begun.elapsed() >= Duration::from_millis(60));
    response.into_body().collect().await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(60 + 4 * 20));
}

#[tokio::test]
async fn compressed_answers_unpack_to_the_same_text() {
    let rig = Rig::start().await;
    for encoding in ["gzip", "deflate", "br", "zstd"] {
        let headers = [("x-simulate-encoding", encoding)];
        for stream in [false, true] {
            let response = rig
                .send("/v1/messages", messages(stream).to_string(), &headers)
                .await;
            assert_eq!(response.headers()["content-encoding"], encoding);
            let packed = response.into_body().collect().await.unwrap().to_bytes();
            let mut text = String::new();
            match encoding {
                "gzip" => flate2::read::GzDecoder::new(&*packed).read_to_string(&mut text),
                "deflate" => flate2::read::ZlibDecoder::new(&*packed).read_to_string(&mut text),
                "br" => {
                    brotli_decompressor::Decompressor::new(&*packed, 4096).read_to_string(&mut text)
                }
                _ => zstd::stream::read::Decoder::new(&*packed)
                    .unwrap()
                    .read_to_string(&mut text),
            }
            .unwrap();
            assert!(text.contains("end_turn"), "{encoding} {text}");
            assert!(
                !stream || text.ends_with("{\"type\":\"message_stop\"}\n\n"),
                "{encoding}"
            );
        }
    }
}

#[tokio::test]
async fn compressed_requests_are_read() {
    let rig = Rig::start().await;
    let packed = zstd::stream::encode_all(messages(false).to_string().as_bytes(), 1).unwrap();
    let (_, status, _) = rig
        .text("/v1/messages", packed, &[("content-encoding", "zstd")])
        .await;
    assert_eq!(status, 200);
    let (_, status, text) = rig
        .text("/v1/messages", "plain", &[("content-encoding", "gzip")])
        .await;
    assert_eq!(status, 400);
    assert!(text.contains("content-encoding"), "{text}");
}

#[tokio::test]
async fn a_request_that_makes_no_sense_is_refused_in_its_dialect() {
    let rig = Rig::start().await;
    for (path, body, headers, status, says) in [
        ("/v1/messages", "{", &[][..], 400, "invalid_request_error"),
        (
            "/v1/messages",
            r#"{"model":"m","messages":[]}"#,
            &[],
            400,
            "max_tokens: Field required",
        ),
        (
            "/v1/chat/completions",
            r#"{"messages":[]}"#,
            &[],
            400,
            "model",
        ),
        (
            "/v1/chat/completions",
            r#"{"model":"m","messages":[]}"#,
            &[("x-simulate-statsu", "500")],
            400,
            "x-simulate-statsu",
        ),
        (
            "/v1beta/models/g:generateContent",
            "[]",
            &[],
            400,
            "INVALID_ARGUMENT",
        ),
        ("/api/chat", "{}", &[], 400, "model is required"),
        ("/v1/nowhere", "{}", &[], 404, "Unknown request URL"),
        ("/v1/models", "{}", &[], 405, "not allowed"),
        (
            "/v1/responses",
            "",
            &[("upgrade", "websocket"), ("connection", "upgrade")],
            426,
            "POST",
        ),
        ("/v1/responses/resp_unknown", "", &[], 404, "resp_unknown"),
    ] {
        let (_, answered, text) = rig.text(path, body, headers).await;
        assert_eq!(answered, status, "{path} {text}");
        assert!(text.contains(says), "{path} {text}");
        serde_json::from_str::<Value>(&text).unwrap();
    }
}

#[tokio::test]
async fn a_script_decides_and_a_header_decides_over_it() {
    let script = r#"
        [[rule]]
        match = { path = "/messages", model = "claude-*", times = 2 }
        answer = { status = 529 }
    "#;
    let settings = SimulateSettings {
        defaults: Behaviour {
            output_tokens: Some(3),
            ..Behaviour::default()
        },
        script: script.parse().unwrap(),
        ..SimulateSettings::default()
    };
    let rig = Rig::with(settings).await;
    let mut statuses = Vec::new();
    for headers in [&[][..], &[("x-simulate-status", "500")], &[]] {
        statuses.push(
            rig.text("/v1/messages", messages(false).to_string(), headers)
                .await
                .1
                .as_u16(),
        );
    }
    assert_eq!(statuses, [529, 500, 200]);
    assert_eq!(rig.last().await["usage"]["output"], 3);
    rig.text("/_simulate/reset", "{}", &[]).await;
    assert_eq!(
        rig.text("/v1/messages", messages(false).to_string(), &[])
            .await
            .1,
        529,
        "counted afresh"
    );
}

#[tokio::test]
async fn the_mirrors_give_back_the_request_byte_for_byte() {
    let rig = Rig::start().await;
    let odd = b"{\"n\": 1e999, \"s\": \"\\ud83d\\ude00\", \"n\": 2 } \r\n\0\xff".to_vec();
    let echo = rig
        .json("/x/_simulate/echo?a=b", Value::Null, &[("X-Odd", "1")])
        .await;
    assert_eq!(
        (&echo["path"], &echo["body_base64"]),
        (&json!("/x/_simulate/echo?a=b"), &json!(""))
    );
    assert!(
        echo["headers"]
            .as_array()
            .unwrap()
            .contains(&json!(["x-odd", "1"]))
    );
    let response = rig
        .send(
            "/_simulate/reflect",
            odd.clone(),
            &[("content-type", "application/odd")],
        )
        .await;
    assert_eq!(response.headers()["content-type"], "application/odd");
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        odd
    );
}

#[tokio::test]
async fn every_answer_has_an_id_of_its_own_by_which_it_is_found() {
    let rig = Rig::start().await;
    let (first, ..) = rig
        .text("/v1/messages", messages(true).to_string(), &[])
        .await;
    let (second, ..) = rig
        .text("/v1/chat/completions", chat(false).to_string(), &[])
        .await;
    let (first, second) = (
        first["request-id"].to_str().unwrap(),
        second["x-request-id"].to_str().unwrap(),
    );
    assert_ne!(first, second);
    let found = rig
        .json(&format!("/_simulate/requests?id={first}"), Value::Null, &[])
        .await;
    assert_eq!(found.as_array().unwrap().len(), 1);
    assert_eq!(
        (&found[0]["path"], &found[0]["model"]),
        (&json!("/v1/messages"), &json!("claude-x"))
    );
}

#[tokio::test]
async fn lists_and_counts_are_free_and_have_the_form_that_is_asked_for() {
    let rig = Rig::start().await;
    let list = rig
        .json(
            "/v1/models",
            Value::Null,
            &[("anthropic-version", "2023-06-01")],
        )
        .await;
    assert_eq!(list["has_more"], false);
    assert_eq!(
        rig.json("/v1/models", Value::Null, &[]).await["object"],
        "list"
    );
    assert!(rig.json("/v1beta/models", Value::Null, &[]).await["models"][0]["name"].is_string());
    assert!(rig.json("/api/tags", Value::Null, &[]).await["models"].is_array());
    let count = rig
        .json(
            "/v1/messages/count_tokens",
            json!({"model": "m", "messages": [{"content": "12345"}]}),
            &[],
        )
        .await;
    assert_eq!(count, json!({"input_tokens": 2}));
    let (_, status, text) = rig.text("/", "", &[]).await;
    assert_eq!(
        (status, text.as_str()),
        (StatusCode::OK, "Ollama is running")
    );
    let mut head = rig.request("/", "", &[]);
    *head.method_mut() = http::Method::HEAD;
    assert_eq!(rig.client.request(head).await.unwrap().status(), 200);
    let stats = rig.settled().await;
    assert_eq!(
        (&stats["used"]["input"], &stats["client_gone"]),
        (&json!(0), &json!(0))
    );
}

#[tokio::test]
async fn batch_results_are_lines_and_count_all_that_succeeded() {
    let rig = Rig::start().await;
    let (_, _, text) = rig
        .text("/v1/messages/batches/b1/results", "", FIGURES)
        .await;
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let output: u64 = lines
        .iter()
        .filter_map(|line| {
            line.pointer("/result/message/usage/output_tokens")?
                .as_u64()
        })
        .sum();
    assert_eq!((lines.len(), output), (3, 18));
    assert_eq!(counted(&rig.last().await), [80, 22, 18, 8]);
}

#[tokio::test]
async fn http_2_by_prior_knowledge_works_and_a_cut_hits_only_its_stream() {
    let rig = Rig::start().await;
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http();
    let whole = client
        .request(rig.request("/v1/messages", messages(true).to_string(), &[]))
        .await
        .unwrap();
    assert_eq!(whole.version(), Version::HTTP_2);
    let slow = client
        .request(rig.request(
            "/v1/messages",
            messages(true).to_string(),
            &[("x-simulate-token-ms", "5")],
        ))
        .await
        .unwrap();
    let cut = client
        .request(rig.request(
            "/v1/messages",
            messages(true).to_string(),
            &[("x-simulate-cut-after", "2")],
        ))
        .await
        .unwrap();
    assert!(cut.into_body().collect().await.is_err());
    for answer in [whole, slow] {
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(text.ends_with(b"{\"type\":\"message_stop\"}\n\n"));
    }
    assert_eq!(rig.settled().await["complete"], 2);
}

#[tokio::test]
async fn a_shutdown_lets_answers_end_up_to_its_deadline_and_no_longer() {
    let settings = SimulateSettings {
        drain: Duration::from_millis(300),
        ..SimulateSettings::default()
    };
    let mut rig = Rig::with(settings).await;
    let ending = rig
        .send(
            "/v1/messages",
            messages(true).to_string(),
            &[("x-simulate-token-ms", "5")],
        )
        .await;
    let silent = rig
        .send(
            "/v1/messages",
            messages(true).to_string(),
            &[("x-simulate-hang-after", "2")],
        )
        .await;
    rig.stop.take().unwrap().send(()).unwrap();
    let begun = Instant::now();
    let text = ending.into_body().collect().await.unwrap().to_bytes();
    assert!(text.ends_with(b"{\"type\":\"message_stop\"}\n\n"));
    assert!(silent.into_body().collect().await.is_err());
    rig.server.await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2));
}

mod command {
    //! What `tollgate simulate` says when it cannot start.

    use clap::Parser;
    use tollgate::cli::Cli;
    use tollgate::commands::run;

    fn problem(arguments: &[&str]) -> String {
        let arguments = ["tollgate", "simulate"].iter().chain(arguments);
        let cli = Cli::try_parse_from(arguments).unwrap();
        run(cli).unwrap_err().render(false)
    }

    #[test]
    fn a_port_in_use_is_named_with_a_way_out() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let problem = problem(&["--listen", &address]);
        assert!(
            problem.contains(&address)
                && problem.contains("hint: ")
                && problem.contains("--listen"),
            "{problem}"
        );
    }

    #[test]
    fn a_bad_script_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("faults.toml");
        std::fs::write(&path, "[[rule]]\nanswer = { statsu = 500 }\n").unwrap();
        let path = path.to_str().unwrap();
        let problem = problem(&["--script", path]);
        assert!(
            problem.contains(path) && problem.contains("line 2") && problem.contains("statsu"),
            "{problem}"
        );
        assert!(
            super::command::problem(&["--script", "/nonexistent.toml"])
                .contains("/nonexistent.toml")
        );
    }

    #[test]
    fn senseless_arguments_are_refused() {
        for arguments in [
            ["--output-tokens", "1000001"],
            ["--latency", "soon"],
            ["--flavour", "vanilla"],
            ["--chunk-tokens", "0"],
        ] {
            let arguments = std::iter::once("simulate").chain(arguments);
            assert!(Cli::try_parse_from(arguments).is_err());
        }
    }
}
