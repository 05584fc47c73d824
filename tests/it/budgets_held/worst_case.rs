//! What a request can cost at most: a hard budget reserves that, however the request is written and whatever it asks for.

use std::sync::atomic::{AtomicU64, Ordering};

use tollgate::units::Cost;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_hard_budget_holds_for_prompts_of_which_every_byte_is_a_token() {
    // Letters that tokenisers do not know: as many tokens as bytes, which is the most that there can be.
    let prompt = "\u{1F9FF}\u{10FFFD}\u{0F3A}".repeat(200);
    let tokens = prompt.len() as u64;
    let (tollgate, provider) = Rules::none()
        .hard("cap", "global", "hour", "20,000 tokens")
        .before_echo()
        .await;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..60 {
        let mut wire = tollgate.connect().await;
        let dense = Ask {
            prompt: &prompt,
            input: tokens,
            output: 100,
            cap: Some(100),
            ..ask("s", "critical")
        };
        let bytes = dense.bytes();
        clients.spawn(async move {
            wire.send(bytes).await;
            wire.message().await.0.status()
        });
    }
    clients.join_all().await;
    let (settled, reserved) = amounts(&tollgate, "cap", None).await;
    let served = provider.take().len();
    assert_eq!(reserved, 0);
    assert!(served > 0);
    assert!(
        settled <= 20_000,
        "{served} requests of {tokens} bytes booked {settled}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hard_budget_holds_for_input_that_the_request_only_points_at() {
    // The conversation so far, an image or a file by address: the prompt is far larger than what is sent.
    let bodies = [
        (
            "/openai/v1/responses",
            json!({"model": "gpt-5", "previous_response_id": "resp_1", "input": "go on", "max_output_tokens": 100, "says": [9_000, 0, 0, 100]}),
        ),
        (
            "/openai/v1/responses",
            json!({"model": "gpt-5", "conversation": "conv_1", "input": "go on", "max_output_tokens": 100, "says": [9_000, 0, 0, 100]}),
        ),
        (
            "/anthropic/v1/messages",
            json!({"model": MODEL, "max_tokens": 100, "says": [9_000, 0, 0, 100],
            "messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "file", "file_id": "file_1"}}]}]}),
        ),
        (
            "/anthropic/v1/messages",
            json!({"model": MODEL, "max_tokens": 100, "says": [1_600, 0, 0, 100],
            "messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}]}]}),
        ),
    ];
    let mut over = Vec::new();
    for (path, body) in bodies {
        let (tollgate, _provider) = Rules::none()
            .hard("cap", "global", "hour", "20,000 tokens")
            .before_echo()
            .await;
        let mut clients = tokio::task::JoinSet::new();
        for _ in 0..30 {
            let mut wire = tollgate.connect().await;
            let bytes = request(
                &format!("POST {path}"),
                &[("x-tollgate-priority", "critical")],
                body.to_string(),
            );
            clients.spawn(async move {
                wire.send(bytes).await;
                wire.message().await.0.status()
            });
        }
        clients.join_all().await;
        let (settled, _) = amounts(&tollgate, "cap", None).await;
        if settled > 20_000 {
            over.push(format!("{settled} of 20,000 tokens: {body}"));
        }
    }
    assert!(over.is_empty(), "{over:#?}");
}

/// Sends these all at once.
async fn all_at_once(tollgate: &Tollgate, requests: Vec<Vec<u8>>) -> Vec<u16> {
    let mut clients = tokio::task::JoinSet::new();
    for bytes in requests {
        let mut wire = tollgate.connect().await;
        clients.spawn(async move {
            wire.send(bytes).await;
            wire.message().await.0.status()
        });
    }
    clients.join_all().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hard_budget_holds_for_images_whose_price_is_known() {
    // 4,160 output tokens of gpt-image-1 at $40 for a million: $0.1664 for each image.
    let upstream = Upstream::start().await.answering(|_| {
        json_answer(r#"{"created":1,"data":[{"b64_json":"iVBORw0KGgo="}],"usage":{"input_tokens":10,"input_tokens_details":{"text_tokens":10,"image_tokens":0},"output_tokens":4160,"output_tokens_details":{"image_tokens":4160,"text_tokens":0},"total_tokens":4170}}"#)
    });
    for limit in ["1 usd", "20,000 tokens"] {
        let tollgate = Rules::none()
            .hard("cap", "global", "hour", limit)
            .start(upstream.address)
            .await;
        let body =
            r#"{"model":"gpt-image-1","prompt":"a toll gate","size":"1024x1024","quality":"high"}"#;
        let image = request(
            "POST /openai/v1/images/generations",
            &[("x-tollgate-priority", "critical")],
            body,
        );
        all_at_once(&tollgate, vec![image; 40]).await;
        tollgate.settled().await;
        let standing = standing(&tollgate, "cap", None).await.unwrap();
        assert!(standing["fill"].as_f64().unwrap() <= 1.0, "{standing}");
        let records = tollgate.records().await;
        assert!(
            records.iter().all(
                |record| record.outcome.as_str() == "refused" || record.cost > Some(Cost::ZERO)
            )
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hard_budget_holds_for_work_that_goes_on_in_the_background() {
    let numbers = AtomicU64::new(0);
    let upstream = Upstream::start().await.answering(move |arrived| {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let (id, status, usage) = match arrived.head.asks().strip_prefix("GET /v1/responses/") {
            Some(id) => (id.to_owned(), "completed", json!({"input_tokens": 10, "output_tokens": 1_000, "total_tokens": 1_010})),
            None => (format!("resp_{number}"), "queued", Value::Null),
        };
        json_answer(json!({"id": id, "object": "response", "status": status, "background": true, "model": "gpt-5", "output": [], "usage": usage}).to_string())
    });
    let tollgate = Rules::none()
        .hard("cap", "global", "hour", "10,000 tokens")
        .start(upstream.address)
        .await;
    let body = r#"{"model":"gpt-5","input":"hi","background":true,"max_output_tokens":1000}"#;
    let start = request(
        "POST /openai/v1/responses",
        &[("x-tollgate-priority", "critical")],
        body,
    );
    // What it costs is told only when it is fetched, so under a hard budget it is refused, and the provider sees nothing.
    for _ in 0..40 {
        let (head, body) = tollgate.ask(&start).await;
        assert_eq!(head.status(), 400, "{}", body.text());
    }
    assert!(upstream.take().is_empty());
    tollgate.settled().await;
    let (settled, reserved) = amounts(&tollgate, "cap", None).await;
    assert_eq!((settled, reserved), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hard_budget_holds_for_bodies_that_cannot_be_read() {
    let upstream = Upstream::start().await.answering(|_| {
        json_answer(r#"{"id":"m","model":"claude-sonnet-5-5","content":[],"usage":{"input_tokens":10,"output_tokens":2000}}"#)
    });
    let utf16: Vec<u8> = r#"{"model":"claude-sonnet-5-5","max_tokens":2000,"messages":[]}"#
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    for (what, headers, body) in [
        ("UTF-16", vec![], utf16),
        (
            "unknown encoding",
            vec![("content-encoding", "x-own")],
            b"\x01\x02\x03".to_vec(),
        ),
        (
            "broken",
            vec![],
            br#"{"model":"claude-sonnet-5-5","max_tokens":1"#.to_vec(),
        ),
        (
            "with a comment",
            vec![],
            br#"{"model":"claude-sonnet-5-5",/* more */"max_tokens":2000,"messages":[]}"#.to_vec(),
        ),
        (
            "with a byte order mark",
            vec![],
            b"\xEF\xBB\xBF{\"model\":\"claude-sonnet-5-5\",\"max_tokens\":2000,\"messages\":[]}"
                .to_vec(),
        ),
        ("empty", vec![], Vec::new()),
    ] {
        let tollgate = Rules::none()
            .hard("cap", "global", "hour", "10,000 tokens")
            .start(upstream.address)
            .await;
        let mut all = vec![("x-tollgate-priority", "critical")];
        all.extend(headers);
        let one = request("POST /anthropic/v1/messages", &all, body);
        all_at_once(&tollgate, vec![one; 30]).await;
        tollgate.settled().await;
        let (settled, reserved) = amounts(&tollgate, "cap", None).await;
        assert!(
            settled <= 10_000 && reserved == 0,
            "{what}: {settled} booked"
        );
    }
}

#[tokio::test]
async fn each_formats_output_cap_is_what_a_hard_budget_reserves() {
    let gemini = "/gemini/v1beta/models/gemini-3-flash:generateContent";
    let chat = "/openai/v1/chat/completions";
    let contents = json!([{"parts": [{"text": "hi"}]}]);
    for (path, body, fits) in [
        (
            "/anthropic/v1/messages",
            json!({"model": MODEL, "max_tokens": 5_000, "messages": []}),
            true,
        ),
        (
            "/anthropic/v1/messages",
            json!({"model": MODEL, "max_tokens": 11_000, "messages": []}),
            false,
        ),
        (
            "/anthropic/v1/messages",
            json!({"model": MODEL, "messages": []}),
            false,
        ),
        (
            chat,
            json!({"model": "gpt-5", "max_tokens": 5_000, "messages": []}),
            true,
        ),
        (
            chat,
            json!({"model": "gpt-5", "max_completion_tokens": 5_000, "messages": []}),
            true,
        ),
        (
            chat,
            json!({"model": "gpt-5", "max_tokens": 10, "max_completion_tokens": 11_000, "messages": []}),
            false,
        ),
        (
            chat,
            json!({"model": "gpt-5", "max_tokens": 11_000, "max_completion_tokens": 10, "messages": []}),
            false,
        ),
        (chat, json!({"model": "gpt-5", "messages": []}), false),
        (
            chat,
            json!({"model": "nobody-knows-me-1", "messages": []}),
            false,
        ),
        // Each of several choices may be as long as the cap.
        (
            chat,
            json!({"model": "gpt-5", "max_tokens": 600, "n": 20, "messages": []}),
            false,
        ),
        (
            chat,
            json!({"model": "gpt-5", "max_tokens": 600, "n": 2, "messages": []}),
            true,
        ),
        (
            "/openai/v1/completions",
            json!({"model": "gpt-3.5-turbo-instruct", "max_tokens": 600, "n": 1, "best_of": 20, "prompt": "hi"}),
            false,
        ),
        (
            "/openai/v1/completions",
            json!({"model": "gpt-3.5-turbo-instruct", "max_tokens": 600, "prompt": vec!["a"; 20]}),
            false,
        ),
        (
            "/openai/v1/responses",
            json!({"model": "gpt-5", "max_output_tokens": 5_000, "input": "hi"}),
            true,
        ),
        (
            "/openai/v1/responses",
            json!({"model": "gpt-5", "input": "hi"}),
            false,
        ),
        (
            gemini,
            json!({"contents": contents, "generationConfig": {"maxOutputTokens": 5_000}}),
            true,
        ),
        (
            gemini,
            json!({"contents": contents, "generation_config": {"max_output_tokens": 5_000}}),
            true,
        ),
        (
            gemini,
            json!({"contents": contents, "generationConfig": {"maxOutputTokens": 11_000}}),
            false,
        ),
        (
            gemini,
            json!({"contents": contents, "generationConfig": {"maxOutputTokens": 600, "candidateCount": 20}}),
            false,
        ),
        (gemini, json!({"contents": contents}), false),
        (
            "/ollama/api/chat",
            json!({"model": "qwen3", "options": {"num_predict": 5_000}, "messages": []}),
            true,
        ),
        (
            "/ollama/api/chat",
            json!({"model": "qwen3", "options": {"num_predict": 11_000}, "messages": []}),
            false,
        ),
        (
            "/ollama/api/chat",
            json!({"model": "qwen3", "options": {"num_predict": -1}, "messages": []}),
            false,
        ),
        (
            "/ollama/api/chat",
            json!({"model": "qwen3", "messages": []}),
            false,
        ),
    ] {
        let (tollgate, provider) = Rules::none()
            .hard("cap", "global", "hour", "10,000 tokens")
            .before_echo()
            .await;
        let (head, answer) = tollgate
            .ask(request(&format!("POST {path}"), &[], body.to_string()))
            .await;
        let status = if fits { 200 } else { 400 };
        assert_eq!(head.status(), status, "{path} {body}: {}", answer.text());
        assert_eq!(provider.take().len(), usize::from(fits));
    }
}
