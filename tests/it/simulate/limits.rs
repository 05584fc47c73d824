//! The simulated provider's limits over a real socket: what is let through, what a refusal says, what is counted, and
//! what can be changed while it runs.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate::simulate::SimulateSettings;

use super::Rig;

fn message() -> Value {
    json!({ "model": "claude-opus-5-5", "max_tokens": 400, "messages": [{ "role": "user", "content": "hello there" }] })
}

fn chat() -> Value {
    json!({ "model": "gpt-6-luna", "max_tokens": 400, "messages": [{ "role": "user", "content": "hello there" }] })
}

async fn limited(limits: &[&str]) -> Rig {
    let mut settings = SimulateSettings::default();
    for limit in limits {
        settings.limits.set(limit).unwrap();
    }
    Rig::with(settings).await
}

impl Rig {
    async fn put(&self, page: &str, text: &'static str) -> (u16, Value) {
        let mut request = self.request(page, text, &[]);
        *request.method_mut() = http::Method::PUT;
        let (head, body) = self.client.request(request).await.unwrap().into_parts();
        let body = http_body_util::BodyExt::collect(body).await.unwrap();
        (
            head.status.as_u16(),
            serde_json::from_slice(&body.to_bytes()).unwrap(),
        )
    }

    async fn pool(&self) -> Value {
        self.json("/_simulate/limits", Value::Null, &[]).await["pools"][0].take()
    }
}

#[tokio::test]
async fn anthropics_limits_refuse_in_its_own_words_and_count() {
    let rig = limited(&["requests_per_minute=1", "output_tokens_per_minute=8000"]).await;
    let (headers, status, _) = rig.text("/v1/messages", message().to_string(), &[]).await;
    assert_eq!(status, 200);
    assert_eq!(headers["anthropic-ratelimit-requests-limit"], "1");
    assert_eq!(headers["anthropic-ratelimit-requests-remaining"], "0");
    // 400 of 8000 are reserved: 7600, in thousands.
    assert_eq!(
        headers["anthropic-ratelimit-output-tokens-remaining"],
        "8000"
    );
    assert!(!headers.contains_key("anthropic-ratelimit-input-tokens-limit"));

    let (headers, status, body) = rig.text("/v1/messages", message().to_string(), &[]).await;
    assert_eq!(status, 429);
    let wait: u64 = headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((58..=60).contains(&wait), "{wait}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["error"]["type"], "rate_limit_error");
    let message = body["error"]["message"].as_str().unwrap();
    assert!(message.contains("rate limit of 1 requests per minute"));

    let pool = rig.pool().await;
    assert_eq!(pool["class"], "claude-opus-5-5");
    assert_eq!(
        (&pool["accepted"], &pool["refused"]["requests_per_minute"]),
        (&json!(1), &json!(1))
    );
    // Reserved 400, written 16.
    assert_eq!(pool["charged_output_tokens"], 16);
    assert_eq!(
        pool["levels"]["output_tokens_per_minute"]["remaining"],
        7984
    );
    let timeline = rig.json("/_simulate/timeline", Value::Null, &[]).await;
    let sum = |name: &str| {
        let slots = timeline[name].as_array().unwrap();
        slots.iter().filter_map(Value::as_u64).sum::<u64>()
    };
    let sums = ["arrived", "accepted", "refused", "failed", "completed"].map(sum);
    assert_eq!(sums, [2, 1, 1, 0, 1]);
}

#[tokio::test]
async fn each_provider_tells_its_waits_in_its_own_place() {
    let rig = limited(&["tokens_per_minute=600"]).await;
    let path = "/v1/chat/completions";
    let (headers, status, _) = rig.text(path, chat().to_string(), &[]).await;
    assert_eq!(status, 200);
    // 3 tokens of prompt and 400 of maximum stay charged.
    assert_eq!(headers["x-ratelimit-remaining-tokens"], "197");
    assert_eq!(headers["x-ratelimit-limit-tokens"], "600");
    assert!(!headers.contains_key("x-ratelimit-limit-requests"));
    let (headers, status, body) = rig.text(path, chat().to_string(), &[]).await;
    assert_eq!(status, 429);
    let wait: u64 = headers["retry-after-ms"].to_str().unwrap().parse().unwrap();
    assert!((20_000..=20_600).contains(&wait), "{wait}");
    assert!(
        headers["x-ratelimit-reset-tokens"]
            .to_str()
            .unwrap()
            .starts_with("40.")
    );
    assert!(body.contains("tokens per min (TPM): Limit 600. Please try again in 20."));

    let gemini = json!({ "contents": [{ "parts": [{ "text": "hello there" }] }] });
    let path = "/v1beta/models/gemini-4-argon:generateContent";
    rig.put(
        "/_simulate/limits",
        "[class.\"*\"]\nrequests_per_minute = 1",
    )
    .await;
    assert_eq!(rig.text(path, gemini.to_string(), &[]).await.1, 200);
    let (headers, status, body) = rig.text(path, gemini.to_string(), &[]).await;
    assert_eq!(status, 429);
    assert!(!headers.contains_key("retry-after"));
    let body: Value = serde_json::from_str(&body).unwrap();
    let retry = &body["error"]["details"][1];
    assert!(
        retry["retryDelay"].as_str().unwrap().starts_with("59."),
        "{body}"
    );
}

#[tokio::test]
async fn requests_at_the_same_time_are_limited_and_a_silent_provider_says_nothing() {
    let rig = limited(&["concurrency=1", "headers=none"]).await;
    let path = "/v1/chat/completions";
    let slow = [("x-simulate-latency-ms", "400")];
    let (first, second) = tokio::join!(rig.text(path, chat().to_string(), &slow), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        rig.text(path, chat().to_string(), &slow).await
    });
    assert_eq!((first.1.as_u16(), second.1.as_u16()), (200, 429));
    for headers in [&first.0, &second.0] {
        let told: Vec<_> = headers
            .keys()
            .map(http::HeaderName::as_str)
            .filter(|name| name.contains("ratelimit") || name.contains("retry"))
            .collect();
        assert!(told.is_empty(), "{told:?}");
    }
    assert!(!second.2.contains("try again"), "{}", second.2);
    // The place is free as soon as the answer is there.
    assert_eq!(rig.text(path, chat().to_string(), &[]).await.1, 200);
    let pool = rig.pool().await;
    assert_eq!(pool["peak_in_flight"], 1);
    assert!(pool["busy_ms"].as_f64().unwrap() >= 400.0);
}

#[tokio::test]
async fn a_client_that_leaves_gives_its_place_back() {
    let rig = limited(&["concurrency=1"]).await;
    let hanging = [("x-simulate-hang", "1")];
    let left = tokio::time::timeout(
        Duration::from_millis(100),
        rig.text("/v1/messages", message().to_string(), &hanging),
    );
    assert!(left.await.is_err(), "it never answers");
    rig.settled().await;
    assert_eq!(
        rig.text("/v1/messages", message().to_string(), &[]).await.1,
        200
    );
}

#[tokio::test]
async fn counting_tokens_and_failures_by_script_use_nothing_up() {
    let rig = limited(&["requests_per_minute=1"]).await;
    let counted = rig
        .text("/v1/messages/count_tokens", message().to_string(), &[])
        .await;
    assert_eq!(counted.1, 200);
    let overloaded = [("x-simulate-status", "529")];
    let failed = rig
        .text("/v1/messages", message().to_string(), &overloaded)
        .await;
    assert_eq!(failed.1, 529);
    assert_eq!(
        rig.text("/v1/messages", message().to_string(), &[]).await.1,
        200
    );
}

#[tokio::test]
async fn limits_and_script_can_be_replaced_and_reset_while_it_runs() {
    let rig = Rig::start().await;
    let ask = || rig.text("/v1/messages", message().to_string(), &[]);
    assert_eq!(ask().await.1, 200);
    let (status, _) = rig
        .put(
            "/_simulate/limits",
            "[class.\"claude-*\"]\nrequests_per_minute = 1",
        )
        .await;
    assert_eq!(status, 200);
    assert_eq!((ask().await.1.as_u16(), ask().await.1.as_u16()), (200, 429));
    rig.text("/_simulate/reset", "{}", &[]).await;
    assert_eq!(rig.pool().await["accepted"], 0);
    assert_eq!(ask().await.1, 200);

    rig.put("/_simulate/script", "[[rule]]\nanswer = { status = 503 }")
        .await;
    assert_eq!(ask().await.1, 503);
    let (status, problem) = rig.put("/_simulate/limits", "minute = \"never\"").await;
    assert_eq!(status, 400);
    assert!(
        problem["error"].as_str().unwrap().contains("line 1"),
        "{problem}"
    );
    assert_eq!(ask().await.1, 503, "what was there stays");
}

#[tokio::test]
async fn in_an_outage_connections_are_refused_and_open_ones_end() {
    let rig = Rig::start().await;
    let (status, _) = rig
        .put(
            "/_simulate/script",
            "[[outage]]\nfrom = \"50ms\"\nuntil = \"400ms\"",
        )
        .await;
    assert_eq!(status, 200);
    let hanging = rig.request(
        "/v1/messages",
        message().to_string(),
        &[("x-simulate-hang", "1")],
    );
    assert!(
        rig.client.request(hanging).await.is_err(),
        "the outage ends it"
    );
    let refused = tokio::net::TcpStream::connect(rig.address)
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(
        rig.text("/v1/messages", message().to_string(), &[]).await.1,
        200
    );
}

#[tokio::test]
async fn whole_answers_and_streams_take_the_time_that_writing_takes() {
    let rig = Rig::start().await;
    let speed = [
        ("x-simulate-output-tokens", "100"),
        ("x-simulate-tokens-per-second", "500"),
        ("x-simulate-latency-ms", "50"),
    ];
    let mut streamed = message();
    streamed["stream"] = json!(true);
    for body in [message(), streamed] {
        let began = Instant::now();
        rig.text("/v1/messages", body.to_string(), &speed).await;
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(250), "{took:?}");
        assert!(took < Duration::from_millis(450), "{took:?}");
    }
}

#[tokio::test]
async fn an_answer_can_say_whatever_nonsense_is_wanted() {
    let rig = Rig::start().await;
    let asked = [
        ("x-simulate-status", "429"),
        ("x-simulate-header", "retry-after: -1"),
        (
            "x-simulate-header",
            "anthropic-ratelimit-tokens-reset: soon",
        ),
        ("x-simulate-header", "x-should-retry:"),
    ];
    let (headers, status, _) = rig
        .text("/v1/messages", message().to_string(), &asked)
        .await;
    assert_eq!(status, 429);
    assert_eq!(headers["retry-after"], "-1");
    assert_eq!(headers["anthropic-ratelimit-tokens-reset"], "soon");
    assert!(!headers.contains_key("x-should-retry"));
    let script =
        "[[rule]]\nanswer = { headers = { retry-after = \"Thu, 01 Jan 1970 00:00:00 GMT\" } }";
    rig.put("/_simulate/script", script).await;
    let (headers, _, _) = rig.text("/v1/messages", message().to_string(), &[]).await;
    assert_eq!(headers["retry-after"], "Thu, 01 Jan 1970 00:00:00 GMT");
}

#[test]
fn the_command_refuses_limits_that_are_none_and_says_which() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["simulate", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(run(&["--limit", "requests=5"]).contains("`requests=5`"));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("limits.toml");
    std::fs::write(&file, "[class.\"*\"]\nrequests_per_minute = 0\n").unwrap();
    let said = run(&["--limits", file.to_str().unwrap()]);
    assert!(
        said.contains("limits.toml") && said.contains("line 2"),
        "{said}"
    );
}
