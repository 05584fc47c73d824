//! Bad input of any kind gets a clear answer in the client's wire format and costs nobody else anything (promise 8).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use tollgate::llm::usage::Provenance;
use tollgate::store::record::Outcome;

use crate::rig::*;

const MESSAGE: &str = r#"{"id":"msg_1","model":"claude-sonnet-5-5","content":[],"usage":{"input_tokens":21,"output_tokens":9}}"#;

/// One path of each wire format.
const METERED: [&str; 5] = [
    "/anthropic/v1/messages",
    "/openai/v1/chat/completions",
    "/openai/v1/responses",
    "/gemini/v1beta/models/gemini-3-flash:generateContent",
    "/ollama/api/chat",
];

/// The message of an error in the wire format of the path, or a panic if it is in another one.
fn native_message(path: &str, status: u16, body: &Body) -> String {
    let json = body.json();
    let message = if path.starts_with("/anthropic") {
        assert_eq!(json["type"], "error", "{json}");
        assert!(json["error"]["type"].is_string(), "{json}");
        &json["error"]["message"]
    } else if path.starts_with("/openai") {
        assert!(json["error"]["type"].is_string(), "{json}");
        assert!(json["error"].get("code").is_some(), "{json}");
        &json["error"]["message"]
    } else if path.starts_with("/gemini") {
        assert_eq!(json["error"]["code"], status, "{json}");
        assert!(json["error"]["status"].is_string(), "{json}");
        &json["error"]["message"]
    } else {
        &json["error"]
    };
    message.as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_body_over_the_limit_gets_a_413_that_its_client_can_read() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::with(upstream.address, &[("server.max_body", "100 KiB")]).await;
    let body = vec![b' '; 3 << 20];
    for path in METERED {
        for chunked in [false, true] {
            let what = format!("{path} chunked {chunked}");
            let mut client = tollgate.connect().await;
            let framing = match chunked {
                true => "transfer-encoding: chunked".to_owned(),
                false => format!("content-length: {}", body.len()),
            };
            client
                .send(format!(
                    "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{framing}\r\n\r\n"
                ))
                .await;
            // A simple client sends everything before it reads anything. All of it, or as much as is taken; what
            // counts is that it then finds an answer and not a reset.
            for part in body.chunks(64 << 10) {
                let bytes = match chunked {
                    true => chunk(part),
                    false => part.to_vec(),
                };
                if !client.try_send(bytes).await {
                    break;
                }
            }
            if chunked {
                client.try_send(LAST_CHUNK).await;
            }
            let (head, answer) = client.message().await;
            assert_eq!(head.status(), 413, "{what}");
            let message = native_message(path, 413, &answer);
            assert!(message.contains("max_body"), "{what}: {message}");
            let record = tollgate.record(&head).await;
            assert_eq!(record.outcome, Outcome::Refused, "{what}");
            assert_eq!(record.usage, Default::default());
        }
    }
    assert!(upstream.is_untouched().await);
    assert!(tollgate.metric("tollgate_refusals_total", &["body_too_large"]) >= 10.0);
}

#[tokio::test]
async fn a_body_at_the_limit_is_served() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::with(upstream.address, &[("server.max_body", "1000B")]).await;
    let seen = exchange(
        &tollgate,
        &upstream,
        request("POST /anthropic/v1/messages", &[], vec![b' '; 1_000]),
        json_answer(MESSAGE),
    )
    .await;
    assert_eq!(seen.head.status(), 200);
    let (head, _) = tollgate
        .ask(request(
            "POST /anthropic/v1/messages",
            &[],
            vec![b' '; 1_001],
        ))
        .await;
    assert_eq!(head.status(), 413);
}

#[tokio::test]
async fn a_field_that_is_decided_on_may_stand_once_only() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    for path in [METERED[0], METERED[1], METERED[2], METERED[4]] {
        for body in [
            r#"{"model":"cheap","model":"dear"}"#,
            r#"{"model":"same","messages":[],"model":"same"}"#,
            r#"{"model":"cheap","mod\u0065l":"dear"}"#,
            r#"{"model":"cheap","model":null}"#,
        ] {
            let (head, answer) = tollgate
                .ask(request(&format!("POST {path}"), &[], body))
                .await;
            assert_eq!(head.status(), 400, "{path} {body}");
            let message = native_message(path, 400, &answer);
            assert!(message.contains("model"), "{message}");
            let record = tollgate.record(&head).await;
            assert_eq!(record.outcome, Outcome::Refused);
            assert_eq!(record.provenance, Provenance::None);
        }
    }
    assert!(upstream.is_untouched().await);
    // Deeper down the same name means something else.
    let body = r#"{"model":"claude-sonnet-5-5","a":{"model":1,"model":2},"tools":[{"model":1,"model":2}]}"#;
    let seen = exchange(
        &tollgate,
        &upstream,
        request("POST /anthropic/v1/messages", &[], body),
        json_answer(MESSAGE),
    )
    .await;
    assert_eq!(seen.sent.text(), body);
}

#[tokio::test]
async fn a_refused_client_may_go_on_with_its_connection() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let mut client = tollgate.connect().await;
    for _ in 0..3 {
        client
            .send(request(
                "POST /anthropic/v1/messages",
                &[],
                r#"{"model":"a","model":"b"}"#,
            ))
            .await;
        assert_eq!(client.message().await.0.status(), 400);
    }
    client
        .send(request(
            "POST /anthropic/v1/messages",
            &[],
            r#"{"model":"a"}"#,
        ))
        .await;
    let (mut provider, _, _) = upstream.request().await;
    provider.send(json_answer(MESSAGE)).await;
    assert_eq!(client.message().await.0.status(), 200);
    tollgate.settled().await;
}

#[tokio::test]
async fn a_body_that_is_not_json_passes_and_is_counted() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let bodies = ["model=gpt-5", "{\"model\":", "{\"model\":\"m\"} {}", "\0"];
    for path in METERED {
        let before = tollgate.metric("tollgate_unparsed_requests_total", &[]);
        for body in bodies {
            let seen = exchange(
                &tollgate,
                &upstream,
                request(&format!("POST {path}"), &[], body),
                answer(
                    "400 Bad Request",
                    &[("content-type", "application/json")],
                    r#"{"error":{"message":"provider says no"}}"#,
                ),
            )
            .await;
            assert_eq!(seen.sent.text(), body);
            assert_eq!(seen.head.status(), 400);
            assert!(seen.body.text().contains("provider says no"));
            assert_eq!(
                tollgate.record(&seen.head).await.outcome,
                Outcome::ProviderError
            );
        }
        let after = tollgate.metric("tollgate_unparsed_requests_total", &[]);
        assert_eq!(after - before, bodies.len() as f64, "{path}");
    }
}

#[tokio::test]
async fn an_unknown_provider_prefix_gets_a_404_that_lists_the_known_ones() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    for path in [
        "/antropic/v1/messages",
        "/nothing",
        "/OpenAI/v1/models",
        "/@docs:low/nothing/v1/x",
        "/v2/chat/completions",
        "/openaix/v1/models",
    ] {
        for method in ["GET", "POST"] {
            let (head, body) = tollgate
                .ask(request(&format!("{method} {path}"), &[], ""))
                .await;
            assert_eq!(head.status(), 404, "{path}");
            for known in ["anthropic", "openai", "gemini", "ollama", "vllm"] {
                assert!(body.text().contains(known), "{path}: {}", body.text());
            }
        }
    }
    assert!(upstream.is_untouched().await);
}

#[tokio::test]
async fn an_unknown_prefix_answers_before_an_upload_has_been_read() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let mut client = tollgate.connect().await;
    client
        .send("POST /nothing/v1/files HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 1000000000\r\n\r\nxx")
        .await;
    assert_eq!(client.head().await.status(), 404);
}

#[tokio::test]
async fn what_is_not_http_gets_a_400_and_what_is_too_large_a_431() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    for bytes in [
        "this is not http\r\n\r\n",
        "GET /openai/v1/models\r\n\r\n",
        "GET /openai/v1/models HTTP/1.1\r\nbad header\r\n\r\n",
        "GET /openai/v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\nx: a\0b\r\n\r\n",
        "GET /openai/v1/mod els HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
        "POST /openai/v1/files HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: x\r\n\r\n",
        "POST /openai/v1/files HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: -1\r\n\r\n",
        "POST /openai/v1/files HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        "POST /openai/v1/files HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: gzip\r\n\r\n",
    ] {
        let mut client = tollgate.connect().await;
        client.send(bytes).await;
        let head = client.head().await;
        assert_eq!(head.status(), 400, "{bytes:?}");
        client.body().await;
        client.rest().await;
    }
    let long = "x".repeat(70 << 10);
    let many: String = (0..400).map(|n| format!("x-{n}: 1\r\n")).collect();
    for headers in [format!("x-long: {long}\r\n"), many] {
        let mut client = tollgate.connect().await;
        client
            .try_send(format!(
                "GET /openai/v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\n{headers}\r\n"
            ))
            .await;
        assert_eq!(client.head().await.status(), 431);
    }
    let mut client = tollgate.connect().await;
    client
        .try_send(format!(
            "GET /openai/{long} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
        ))
        .await;
    assert!([414, 431].contains(&client.head().await.status()));
    assert!(upstream.is_untouched().await);
}

#[tokio::test]
async fn heads_up_to_the_limit_are_served() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let long = "x".repeat(50 << 10);
    let seen = exchange(
        &tollgate,
        &upstream,
        request("GET /openai/v1/models", &[("x-long", &long)], ""),
        json_answer("{}"),
    )
    .await;
    assert_eq!(seen.asked.value("x-long"), Some(long.as_str()));
    assert_eq!(seen.head.status(), 200);
}

#[tokio::test]
async fn a_target_that_is_no_path_is_refused() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    for line in ["OPTIONS *", "CONNECT api.openai.com:443"] {
        let mut client = tollgate.connect().await;
        client
            .send(format!("{line} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"))
            .await;
        let status = client.head().await.status();
        // 403: it is also a host that is not ours.
        assert!([400, 403, 404, 405].contains(&status), "{line}: {status}");
    }
    assert!(upstream.is_untouched().await);
}

/// Two lengths for one body is how requests are smuggled: what goes on must have one.
#[tokio::test]
async fn a_request_with_two_framings_is_refused_or_goes_on_with_one() {
    let upstream = Upstream::start().await.answering(|_| json_answer("{}"));
    let tollgate = Tollgate::before(upstream.address).await;
    for path in ["/openai/v1/files", "/anthropic/v1/messages"] {
        let mut client = tollgate.connect().await;
        client
            .send(format!(
                "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n\
                 2\r\n{{}}\r\n0\r\n\r\n"
            ))
            .await;
        let head = client.head().await;
        for arrived in upstream.take() {
            assert_eq!(arrived.body.text(), "{}");
            let framings = arrived.head.values("content-length").len()
                + arrived.head.values("transfer-encoding").len();
            assert_eq!(framings, 1, "{path}");
        }
        assert!([200, 400].contains(&head.status()));
    }
}

#[tokio::test]
async fn a_body_with_broken_chunks_is_refused_and_not_sent() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let mut client = tollgate.connect().await;
    client
        .send("POST /anthropic/v1/messages HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n")
        .await;
    let (head, body) = client.message().await;
    assert_eq!(head.status(), 400);
    native_message("/anthropic", 400, &body);
    assert!(upstream.is_untouched().await);
}

#[tokio::test]
async fn a_provider_that_is_not_there_gives_a_502_that_says_so() {
    // A port that was free a moment ago and that nobody listens on.
    let address = Upstream::start().await.address;
    let tollgate = Tollgate::before(address).await;
    for path in METERED {
        let (head, body) = tollgate
            .ask(request(&format!("POST {path}"), &[], r#"{"model":"m"}"#))
            .await;
        assert_eq!(head.status(), 502, "{path}");
        let message = native_message(path, 502, &body);
        assert!(message.contains(&address.to_string()), "{message}");
        let record = tollgate.record(&head).await;
        assert_eq!(record.outcome, Outcome::Unreachable);
        assert_eq!(record.provenance, Provenance::None);
        assert_eq!(record.usage, Default::default(), "nothing was billed");
        assert_eq!(record.status, 502);
    }
    tollgate.settled().await;
}

#[tokio::test]
async fn a_provider_that_hangs_up_or_talks_nonsense_gives_a_502() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let huge = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(2 << 20));
    for (bytes, reset) in [
        ("", false),
        ("", true),
        ("HTTP/1.1 200 OK\r\ncontent-le", false),
        ("SSH-2.0-OpenSSH_9.2\r\n", false),
        ("HTTP/1.1 999999 ?\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\nbad header\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", false),
        (huge.as_str(), false),
    ] {
        let what = &bytes[..bytes.len().min(40)];
        let mut client = tollgate.connect().await;
        client
            .send(request(
                "POST /anthropic/v1/messages",
                &[],
                r#"{"model":"claude-sonnet-5-5","messages":[{"role":"user","content":"hello"}]}"#,
            ))
            .await;
        let (mut provider, _, _) = upstream.request().await;
        provider.try_send(bytes).await;
        match reset {
            true => provider.reset(),
            false => drop(provider),
        }
        let (head, body) = client.message().await;
        assert_eq!(head.status(), 502, "{what:?}");
        native_message("/anthropic", 502, &body);
        let record = tollgate.record(&head).await;
        assert!(
            matches!(
                record.outcome,
                Outcome::UpstreamCut | Outcome::Unreachable | Outcome::ProviderError
            ),
            "{what:?}: {:?}",
            record.outcome
        );
        assert_eq!(record.attempts, 1, "{what:?}: it was sent once");
    }
    tollgate.settled().await;
}

#[tokio::test]
async fn informational_answers_do_not_end_the_wait() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let mut bytes = b"HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n".to_vec();
    bytes.extend(json_answer(MESSAGE));
    let mut client = tollgate.connect().await;
    client
        .send(request("POST /anthropic/v1/messages", &[], "{}"))
        .await;
    let (mut provider, _, _) = upstream.request().await;
    provider.send(bytes).await;
    let mut head = client.head().await;
    while head.status() < 200 {
        head = client.head().await;
    }
    assert_eq!(head.status(), 200);
    assert_eq!(client.body().await.text(), MESSAGE);
}

#[tokio::test]
async fn a_stale_connection_is_tried_once_more_on_a_fresh_one() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let mut client = tollgate.connect().await;
    let ask = request(
        "POST /anthropic/v1/messages",
        &[],
        r#"{"model":"claude-sonnet-5-5"}"#,
    );
    client.send(&ask).await;
    let (mut first, _, _) = upstream.request().await;
    first.send(json_answer(MESSAGE)).await;
    client.message().await;
    // The provider closes just as the next request is on its way: it has read it, and answers nothing.
    client.send(&ask).await;
    first.head().await;
    drop(first);
    let (mut second, _, sent) = upstream.request().await;
    assert_eq!(sent.text(), r#"{"model":"claude-sonnet-5-5"}"#);
    second.send(json_answer(MESSAGE)).await;
    let (head, body) = client.message().await;
    assert_eq!((head.status(), body.text().as_str()), (200, MESSAGE));
    assert_eq!(head.value("x-tollgate-attempts"), Some("2"));
    let record = tollgate.record(&head).await;
    assert_eq!((record.attempts, record.outcome), (2, Outcome::Complete));
    assert_eq!(record.usage.input, 21, "booked once");
}

#[tokio::test]
async fn a_fresh_connection_that_breaks_is_not_tried_again() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let mut client = tollgate.connect().await;
    client
        .send(request("POST /anthropic/v1/messages", &[], "{}"))
        .await;
    let (provider, _, _) = upstream.request().await;
    drop(provider);
    assert_eq!(client.message().await.0.status(), 502);
    assert!(upstream.is_untouched().await, "it may have been billed");
}

#[tokio::test]
async fn our_own_headers_that_say_nothing_possible_are_refused() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    for (name, value) in [
        ("x-tollgate-priority", "urgent"),
        ("x-tollgate-depth", "deep"),
    ] {
        let (head, body) = tollgate
            .ask(request(
                "POST /anthropic/v1/messages",
                &[(name, value)],
                r#"{"model":"m"}"#,
            ))
            .await;
        assert_eq!(head.status(), 400, "{name}");
        let message = native_message("/anthropic", 400, &body);
        assert!(message.contains(name), "{message}");
    }
    let (head, body) = tollgate
        .ask(request(
            "POST /@docs:urgent/anthropic/v1/messages",
            &[],
            "{}",
        ))
        .await;
    assert_eq!(head.status(), 400);
    assert!(body.text().contains("priority"), "{}", body.text());
    assert!(upstream.is_untouched().await);
}

#[tokio::test]
async fn our_own_addresses_answer_bad_questions_clearly() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    for (line, status) in [
        ("GET /api/v1/usage?by=colour", 400),
        ("GET /api/v1/usage?since=yesterday-ish", 400),
        ("GET /api/v1/savings?by=colour", 400),
        ("GET /api/v1/savings?rules=x", 400),
        ("GET /api/v1/requests/nonsense", 400),
        ("GET /api/v1/requests/00000000000000000000000000", 404),
        ("GET /api/v1/nothing", 404),
        ("DELETE /api/v1/usage", 405),
        ("POST /metrics", 405),
        ("GET /healthz", 200),
        ("GET /readyz", 200),
        ("GET /api/v1/usage", 200),
        ("GET /api/v1/savings", 200),
        ("GET /metrics", 200),
        ("HEAD /healthz", 200),
    ] {
        let mut client = tollgate.connect().await;
        client.send(request(line, &[], "")).await;
        assert_eq!(client.head().await.status(), status, "{line}");
    }
    assert!(upstream.is_untouched().await);
}
