//! What is not changed on purpose arrives byte for byte, in both directions (promise 1): bodies, heads, targets, methods,
//! statuses, codings.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::Write as _;

use tollgate::store::record::Outcome;

use crate::rig::*;

const MESSAGE: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude-sonnet-5-5","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn","usage":{"input_tokens":21,"output_tokens":9}}"#;

const CHAT: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","model":"gpt-5","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":5,"total_tokens":17}}"#;

/// Bodies on which a proxy that parses and writes again would leave its mark.
fn odd_bodies() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"model":"claude-sonnet-5-5","big":123456789012345678901234567890,"more":1e400,"exact":0.10000000000000000000001,"minus":-0.0}"#,
        r#"{"model":"claude-sonnet-5-5","text":"\u00e9\/\ud83d\ude00\u0000 é","lone":"\ud800"}"#,
        "{\"model\":\"claude-sonnet-5-5\"}  \r\n\t ",
        "\u{feff}{\"model\":\"claude-sonnet-5-5\"}",
        r#"{"unknown":1,"model":"claude-sonnet-5-5","unknown":2,"a":{"b":1,"b":2}}"#,
        r#"{ "model" : "claude-sonnet-5-5" , "messages" : [ { "role":"user" , "content":"x" } ] , "zzz" : null }"#,
        r#"{"model":"claude-sonnet-5-5","stream":false,"stream_options":{"x":[1,2,3,]}}"#,
        "{}",
        "[]",
        "null",
        "not json at all",
        "",
    ];
    let mut bodies: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    bodies.push(b"{\"model\":\"claude-sonnet-5-5\",\"bytes\":\"\xff\xfe\x00\"}".to_vec());
    bodies.push(vec![b'['; 5_000]);
    bodies.push((0..=255).collect());
    bodies
}

#[tokio::test]
async fn odd_bodies_arrive_as_they_were_sent_on_known_and_unknown_paths() {
    let upstream = Upstream::start().await.answering(|_| json_answer(MESSAGE));
    let tollgate = Tollgate::before(upstream.address).await;
    for path in [
        "/anthropic/v1/messages",
        "/v1/messages",
        "/openai/v1/chat/completions",
        "/openai/v1/responses",
        "/openai/v1/embeddings",
        "/gemini/v1beta/models/gemini-3-flash:generateContent",
        "/ollama/api/chat",
        "/openai/v1/files",
        "/anthropic/v1/something/new",
    ] {
        for body in odd_bodies() {
            let shown = String::from_utf8_lossy(&body).into_owned();
            let (head, answer) = tollgate
                .ask(request(
                    &format!("POST {path}"),
                    &[("content-type", "application/json")],
                    &body,
                ))
                .await;
            assert_eq!(head.status(), 200, "{path} {shown}: {}", answer.text());
            assert_eq!(answer.text(), MESSAGE);
            let arrived = upstream.take();
            assert_eq!(arrived.len(), 1);
            assert!(arrived[0].body.whole);
            assert_eq!(
                String::from_utf8_lossy(&arrived[0].body.bytes),
                shown,
                "{path}"
            );
            assert!(arrived[0].body.bytes == body, "{path} {shown}");
            if !body.is_empty() {
                assert_eq!(
                    arrived[0].head.values("content-length"),
                    [body.len().to_string()],
                    "{path} {shown}"
                );
            }
        }
    }
}

/// RFC 9110 section 8.6: without it some servers answer 411 to a POST.
#[tokio::test]
async fn an_empty_post_keeps_its_length_of_zero() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    for path in [
        "/anthropic/v1/messages",
        "/openai/v1/responses/resp_1/cancel",
    ] {
        let request = request(&format!("POST {path}"), &[], "");
        let seen = exchange(&tollgate, &upstream, request, json_answer("{}")).await;
        assert_eq!(seen.asked.values("content-length"), ["0"], "{path}");
    }
}

#[tokio::test]
async fn a_chunked_body_arrives_whole_and_with_one_framing() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    for path in ["/anthropic/v1/messages", "/openai/v1/files"] {
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        .into_bytes();
        for part in [r#"{"model":"#, r#""claude-sonnet-5-5""#, "}"] {
            request.extend(chunk(part));
        }
        request.extend_from_slice(LAST_CHUNK);
        let seen = exchange(&tollgate, &upstream, request, json_answer(MESSAGE)).await;
        assert_eq!(seen.sent.text(), r#"{"model":"claude-sonnet-5-5"}"#);
        assert!(seen.sent.whole);
        let framings = seen.asked.values("content-length").len()
            + seen.asked.values("transfer-encoding").len();
        assert_eq!(framings, 1, "{:?}", seen.asked);
        assert_eq!(seen.body.text(), MESSAGE);
    }
}

#[tokio::test]
async fn request_headers_arrive_repeated_ones_and_underscores_too_and_nothing_is_added() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let kept = [
        ("anthropic-version", "2023-06-01"),
        (
            "anthropic-beta",
            "claude-code-20250219,interleaved-thinking-2025-05-14",
        ),
        ("anthropic-beta", "context-1m-2025-08-07"),
        ("x-api-key", "sk-ant-test-0000"),
        ("authorization", "Bearer sk-test-0000"),
        ("user-agent", "claude-cli/2.1.330 (external, cli)"),
        ("session_id", "with-underscore"),
        ("conversation_id", "0b8a"),
        ("cookie", "a=1"),
        ("cookie", "b=2; c=\"3\""),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("x-stainless-retry-count", "0"),
        ("openai-beta", "responses=v1"),
        ("x-empty", ""),
        ("x-latin", "caf\u{e9}"),
        ("x-tollgatekeeper", "not ours"),
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
        ("sec-fetch-mode", "cors"),
        ("content-type", "application/json; charset=utf-8"),
    ];
    let mut lines = String::new();
    for (name, value) in kept {
        lines.push_str(&format!("{name}: {value}\r\n"));
    }
    let body = r#"{"model":"claude-sonnet-5-5"}"#;
    let text = format!(
        "POST /anthropic/v1/messages?beta=true HTTP/1.1\r\nhost: 127.0.0.1\r\n{lines}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    // As Latin-1, so that the é is one byte.
    let bytes: Vec<u8> = text.chars().map(|letter| letter as u8).collect();
    let seen = exchange(&tollgate, &upstream, bytes, json_answer(MESSAGE)).await;
    for (name, _) in kept {
        let expected: Vec<&str> = kept
            .iter()
            .filter(|(known, _)| *known == name)
            .map(|(_, value)| *value)
            .collect();
        assert_eq!(seen.asked.values(name), expected, "{name}");
    }
    let mut expected: Vec<&str> = kept.iter().map(|(name, _)| *name).collect();
    expected.extend(["host", "content-length"]);
    expected.sort_unstable();
    expected.dedup();
    assert_eq!(seen.asked.names(), expected, "nothing is added");
    assert_eq!(
        seen.asked.values("host"),
        [upstream.address.to_string()],
        "the provider's name"
    );
    assert_eq!(seen.asked.asks(), "POST /v1/messages?beta=true");
}

#[tokio::test]
async fn our_own_and_hop_by_hop_headers_stay_here() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let headers = [
        ("x-tollgate-session", "docs"),
        ("x-tollgate-priority", "low"),
        ("x-tollgate-task", "coding"),
        ("x-tollgate-route", "pinned"),
        ("x-tollgate-depth", "2"),
        ("x-tollgate-phase", "build"),
        ("X-TOLLGATE-Made-Up", "1"),
        ("connection", "keep-alive, x-mine, X-Yours"),
        ("x-mine", "1"),
        ("x-yours", "2"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authorization", "Basic c2VjcmV0"),
        ("te", "trailers, deflate"),
        ("x-kept", "3"),
    ];
    for path in ["/anthropic/v1/messages", "/openai/v1/files"] {
        let body = r#"{"model":"claude-sonnet-5-5"}"#;
        let request = request(&format!("POST {path}"), &headers, body);
        let seen = exchange(&tollgate, &upstream, request, json_answer(MESSAGE)).await;
        for (name, _) in headers {
            if ["x-kept", "te"].contains(&name) {
                continue;
            }
            let name = name.to_ascii_lowercase();
            assert_eq!(seen.asked.value(&name), None, "{path} {name}");
        }
        assert!(matches!(seen.asked.value("te"), None | Some("trailers")));
        assert_eq!(seen.asked.value("x-kept"), Some("3"));
    }
}

#[tokio::test]
async fn answer_headers_keep_names_and_values_rate_limits_above_all() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let kept = [
        ("content-type", "application/json"),
        ("date", "Sat, 21 Nov 2026 12:00:00 GMT"),
        ("server", "cloudflare"),
        ("request-id", "req_011CSHoEeqs5C35K2UUqR7Fy"),
        (
            "anthropic-organization-id",
            "00000000-0000-4000-8000-000000000001",
        ),
        ("anthropic-ratelimit-input-tokens-remaining", "499000"),
        ("anthropic-ratelimit-tokens-reset", "2026-11-21T12:00:00Z"),
        ("x-ratelimit-limit-requests", "500"),
        ("x-ratelimit-reset-tokens", "6m0s"),
        ("retry-after", "17"),
        ("retry-after-ms", "16999"),
        ("x-should-retry", "true"),
        ("set-cookie", "__cf_bm=a; path=/; HttpOnly"),
        ("set-cookie", "_cfuvid=b; path=/"),
        ("x_under_score", "1"),
        ("via", "1.1 provider"),
        ("alt-svc", "h3=\":443\"; ma=86400"),
        ("strict-transport-security", "max-age=31536000"),
    ];
    let mut sent = kept.to_vec();
    sent.extend([
        ("connection", "keep-alive, x-private"),
        ("keep-alive", "timeout=5"),
        ("x-private", "1"),
        ("proxy-authenticate", "Basic"),
    ]);
    for (status, body) in [("200 OK", MESSAGE), ("429 Too Many Requests", "{}")] {
        let request = request(
            "POST /anthropic/v1/messages",
            &[],
            r#"{"model":"claude-sonnet-5-5"}"#,
        );
        let seen = exchange(&tollgate, &upstream, request, answer(status, &sent, body)).await;
        for (name, _) in kept {
            let expected: Vec<&str> = kept
                .iter()
                .filter(|(known, _)| *known == name)
                .map(|(_, value)| *value)
                .collect();
            assert_eq!(seen.head.values(name), expected, "{status} {name}");
        }
        for gone in [
            "connection",
            "keep-alive",
            "x-private",
            "proxy-authenticate",
        ] {
            assert_eq!(seen.head.value(gone), None, "{status} {gone}");
        }
        let mut names = seen.head.names();
        names.retain(|name| !name.starts_with("x-tollgate-"));
        let mut expected: Vec<&str> = kept.iter().map(|(name, _)| *name).collect();
        expected.push("content-length");
        expected.sort_unstable();
        expected.dedup();
        assert_eq!(names, expected, "nothing else is added");
        assert_eq!(seen.body.text(), body);
    }
}

#[tokio::test]
async fn methods_targets_and_escapes_go_on_as_they_are() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    for (line, expected) in [
        ("GET /openai/v1/models", "GET /v1/models"),
        ("GET /openai/v1/models/", "GET /v1/models/"),
        (
            "GET /openai/v1/files/a%2Fb%20c%C3%A9?x=%41&y=a+b&&z&=",
            "GET /v1/files/a%2Fb%20c%C3%A9?x=%41&y=a+b&&z&=",
        ),
        ("GET /openai/v1/files?", "GET /v1/files?"),
        ("GET /openai/v1//files///x", "GET /v1//files///x"),
        ("DELETE /anthropic/v1/files/f_1", "DELETE /v1/files/f_1"),
        ("PUT /openai/v1/x", "PUT /v1/x"),
        ("PATCH /openai/v1/x", "PATCH /v1/x"),
        ("OPTIONS /openai/v1/x", "OPTIONS /v1/x"),
        ("PROPFIND /openai/v1/x", "PROPFIND /v1/x"),
        ("GET /v1/models", "GET /v1/models"),
        (
            "GET /v1beta/models?pageSize=2",
            "GET /v1beta/models?pageSize=2",
        ),
        ("GET /@docs:low/anthropic/v1/models", "GET /v1/models"),
        ("GET /@docs/v1/models", "GET /v1/models"),
        ("GET /ollama/api/tags", "GET /api/tags"),
        // Clients whose base URL and path both hold the version.
        ("POST /anthropic/v1/v1/messages", "POST /v1/messages"),
        (
            "POST /openai/v1/v1/chat/completions",
            "POST /v1/chat/completions",
        ),
        ("POST /v1/v1/messages", "POST /v1/messages"),
        // Clients whose base URL has none.
        ("POST /anthropic/messages", "POST /v1/messages"),
        ("POST /openai/chat/completions", "POST /v1/chat/completions"),
        ("POST /openai/responses", "POST /v1/responses"),
        ("POST /openai/embeddings", "POST /v1/embeddings"),
    ] {
        let seen = exchange(
            &tollgate,
            &upstream,
            request(line, &[], ""),
            answer("200 OK", &[], "x"),
        )
        .await;
        assert_eq!(seen.asked.asks(), expected, "{line}");
        assert_eq!(seen.head.status(), 200, "{line}");
        assert_eq!(seen.body.text(), "x", "{line}");
    }
}

#[tokio::test]
async fn a_base_url_with_a_path_goes_before_the_rest() {
    let upstream = Upstream::start().await;
    let base = format!("http://{}/api/deep", upstream.address);
    let tollgate = Tollgate::with(
        upstream.address,
        &[("providers.openrouter.base_url", &base)],
    )
    .await;
    let seen = exchange(
        &tollgate,
        &upstream,
        request("POST /openrouter/v1/chat/completions?a=b", &[], "{}"),
        json_answer(CHAT),
    )
    .await;
    assert_eq!(seen.asked.asks(), "POST /api/deep/v1/chat/completions?a=b");
}

#[tokio::test]
async fn head_requests_and_bodiless_answers_stay_bodiless() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let mut client = tollgate.connect().await;
    client
        .send(request("HEAD /openai/v1/files/f_1", &[], ""))
        .await;
    let (mut provider, asked, _) = upstream.request().await;
    assert_eq!(asked.asks(), "HEAD /v1/files/f_1");
    provider
        .send("HTTP/1.1 200 OK\r\ncontent-length: 12345\r\netag: \"e\"\r\n\r\n")
        .await;
    let head = client.head().await;
    assert_eq!(head.value("content-length"), Some("12345"));
    assert_eq!(head.value("etag"), Some("\"e\""));
    client.no_body();

    // The same connection goes on: nothing was written that would be taken for the next answer.
    for status in ["204 No Content", "304 Not Modified"] {
        client.send(request("GET /openai/v1/files", &[], "")).await;
        let (_, _) = provider.message().await;
        provider
            .send(format!("HTTP/1.1 {status}\r\netag: \"e\"\r\n\r\n"))
            .await;
        let (head, body) = client.message().await;
        assert_eq!(head.line, format!("HTTP/1.1 {status}"));
        assert_eq!(head.value("etag"), Some("\"e\""));
        assert!(body.bytes.is_empty());
    }
    client.send(request("GET /openai/v1/files", &[], "")).await;
    provider.message().await;
    provider.send(answer("200 OK", &[], "last")).await;
    assert_eq!(client.message().await.1.text(), "last");
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_gets_it() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    for path in ["/anthropic/v1/messages", "/openai/v1/files"] {
        let mut client = tollgate.connect().await;
        client
            .send(format!(
                "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"
            ))
            .await;
        assert_eq!(client.head().await.status(), 100, "{path}");
        client.send("{}").await;
        let (mut provider, _, sent) = upstream.request().await;
        assert_eq!(sent.text(), "{}");
        provider.send(json_answer(MESSAGE)).await;
        let (head, body) = client.message().await;
        assert_eq!((head.status(), body.text().as_str()), (200, MESSAGE));
    }
}

#[tokio::test]
async fn error_statuses_pass_unchanged_and_bill_nothing() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let body =
        r#"{"type":"error","error":{"type":"x_error","message":"é  1e400"},"request_id":"req_1"} "#;
    for status in [
        "400 Bad Request",
        "401 Unauthorized",
        "402 Payment Required",
        "403 Forbidden",
        "404 Not Found",
        "413 Payload Too Large",
        "422 Unprocessable Entity",
        "429 Too Many Requests",
        "500 Internal Server Error",
        "503 Service Unavailable",
        "529 Overloaded",
    ] {
        let seen = exchange(
            &tollgate,
            &upstream,
            request(
                "POST /anthropic/v1/messages",
                &[],
                r#"{"model":"claude-sonnet-5-5","stream":true}"#,
            ),
            answer(
                status,
                &[("content-type", "application/json"), ("retry-after", "3")],
                body,
            ),
        )
        .await;
        let code: u16 = status[..3].parse().unwrap();
        assert_eq!(seen.head.status(), code);
        assert_eq!(seen.body.text(), body);
        assert_eq!(seen.head.value("retry-after"), Some("3"));
        let record = tollgate.record(&seen.head).await;
        assert_eq!(record.outcome, Outcome::ProviderError, "{status}");
        assert_eq!(record.status, code);
        assert_eq!(record.usage, Default::default(), "{status}");
        assert_eq!(record.provenance.as_str(), "none", "{status}");
        assert_eq!(record.response_bytes, body.len() as u64);
    }
}

#[tokio::test]
async fn redirects_are_the_clients_to_follow() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let seen = exchange(
        &tollgate,
        &upstream,
        request("GET /openai/v1/files/f/content", &[], ""),
        answer(
            "302 Found",
            &[("location", "https://elsewhere.example/x?sig=%2B")],
            "",
        ),
    )
    .await;
    assert_eq!(seen.head.line, "HTTP/1.1 302 Found");
    assert_eq!(
        seen.head.value("location"),
        Some("https://elsewhere.example/x?sig=%2B")
    );
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn deflate(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

/// A Brotli stream of one uncompressed meta-block (RFC 7932 section 9.2).
fn brotli(body: &[u8]) -> Vec<u8> {
    let header = (((body.len() as u32 - 1) << 3) | (1 << 19)) << 1;
    let mut stream = header.to_le_bytes()[..3].to_vec();
    stream.extend_from_slice(body);
    stream.push(0b11);
    stream
}

#[tokio::test]
async fn compressed_answers_pass_as_they_are_and_are_metered() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    for (coding, packed) in [
        ("gzip", gzip(MESSAGE.as_bytes())),
        ("deflate", deflate(MESSAGE.as_bytes())),
        ("br", brotli(MESSAGE.as_bytes())),
        ("zstd", zstd::encode_all(MESSAGE.as_bytes(), 3).unwrap()),
    ] {
        let seen = exchange(
            &tollgate,
            &upstream,
            request(
                "POST /anthropic/v1/messages",
                &[("accept-encoding", "gzip, deflate, br, zstd")],
                r#"{"model":"claude-sonnet-5-5"}"#,
            ),
            answer(
                "200 OK",
                &[
                    ("content-type", "application/json"),
                    ("content-encoding", coding),
                ],
                &packed,
            ),
        )
        .await;
        assert_eq!(seen.body.bytes, packed, "{coding}");
        assert_eq!(seen.head.value("content-encoding"), Some(coding));
        let record = tollgate.record(&seen.head).await;
        assert_eq!(
            (record.usage.input, record.usage.output),
            (21, 9),
            "{coding}"
        );
        assert_eq!(record.provenance.as_str(), "reported", "{coding}");
    }
    // A coding that cannot be read is no reason to break the answer, only to estimate.
    let seen = exchange(
        &tollgate,
        &upstream,
        request(
            "POST /anthropic/v1/messages",
            &[],
            r#"{"model":"claude-sonnet-5-5","messages":[{"role":"user","content":"hello there"}]}"#,
        ),
        answer("200 OK", &[("content-encoding", "gzip")], "this is no gzip"),
    )
    .await;
    assert_eq!(seen.body.text(), "this is no gzip");
    let record = tollgate.record(&seen.head).await;
    assert_eq!(record.provenance.as_str(), "estimated");
    assert!(tollgate.metric("tollgate_unreadable_answers_total", &[]) >= 1.0);
}

#[tokio::test]
async fn compressed_requests_pass_as_they_are_and_are_read() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let body = format!(
        r#"{{"model":"claude-sonnet-5-5","metadata":{{"session_id":"packed"}},"messages":[{{"role":"user","content":"{}"}}]}}"#,
        "please fix this bug ".repeat(500)
    );
    for (coding, packed) in [
        ("gzip", gzip(body.as_bytes())),
        ("zstd", zstd::encode_all(body.as_bytes(), 3).unwrap()),
        ("deflate", deflate(body.as_bytes())),
    ] {
        let seen = exchange(
            &tollgate,
            &upstream,
            request(
                "POST /anthropic/v1/messages",
                &[("content-encoding", coding)],
                &packed,
            ),
            json_answer(MESSAGE),
        )
        .await;
        assert_eq!(seen.sent.bytes, packed, "{coding}");
        assert_eq!(seen.asked.value("content-encoding"), Some(coding));
        let record = tollgate.record(&seen.head).await;
        assert_eq!(
            record.requested_model.as_deref(),
            Some("claude-sonnet-5-5"),
            "{coding}"
        );
        assert_eq!(record.session, "packed", "{coding}");
        assert_eq!(record.request_bytes, packed.len() as u64, "{coding}");
    }
    assert_eq!(
        tollgate.metric("tollgate_unparsed_requests_total", &[]),
        0.0
    );
}

#[tokio::test]
async fn a_request_that_unpacks_to_far_more_than_it_weighs_is_passed_on_unread() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let bomb = gzip(&vec![b' '; 70 << 20]);
    assert!(bomb.len() < 1 << 20);
    let seen = exchange(
        &tollgate,
        &upstream,
        request(
            "POST /anthropic/v1/messages",
            &[("content-encoding", "gzip")],
            &bomb,
        ),
        json_answer(MESSAGE),
    )
    .await;
    assert_eq!(seen.sent.bytes, bomb);
    assert_eq!(seen.head.status(), 200);
    assert_eq!(
        tollgate.metric("tollgate_unparsed_requests_total", &[]),
        1.0
    );
}

#[tokio::test]
async fn trailers_reach_a_client_that_asked_for_them() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let mut client = tollgate.connect().await;
    client
        .send(request(
            "GET /openai/v1/x",
            &[("te", "trailers"), ("connection", "te")],
            "",
        ))
        .await;
    let (mut provider, _, _) = upstream.request().await;
    provider
        .send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n")
        .await;
    let (_, body) = client.message().await;
    assert_eq!((body.text().as_str(), body.whole), ("ok", true));
    assert_eq!(client.trailers, b"x-sum: 7\n");
}

#[tokio::test]
async fn a_session_of_requests_on_one_connection_keeps_its_order() {
    let upstream = Upstream::start()
        .await
        .answering(|arrived| answer("200 OK", &[], arrived.head.asks()));
    let tollgate = Tollgate::before(upstream.address).await;
    let mut client = tollgate.connect().await;
    // All at once: a client may send the next request before it has the answer.
    let requests: Vec<u8> = (0..5)
        .flat_map(|number| request(&format!("GET /openai/v1/{number}"), &[], ""))
        .collect();
    client.send(requests).await;
    for number in 0..5 {
        let (head, body) = client.message().await;
        assert_eq!(body.text(), format!("GET /v1/{number}"));
        assert_eq!(tollgate.record(&head).await.outcome, Outcome::Complete);
    }
}

#[tokio::test]
async fn requests_one_after_another_share_a_connection_to_the_provider() {
    let upstream = Upstream::start().await.answering(|_| json_answer(MESSAGE));
    let tollgate = Tollgate::before(upstream.address).await;
    for path in ["/anthropic/v1/messages", "/openai/v1/chat/completions"] {
        for _ in 0..5 {
            tollgate
                .ask(request(&format!("POST {path}"), &[], r#"{"model":"m"}"#))
                .await;
        }
        let connections: std::collections::BTreeSet<usize> = upstream
            .take()
            .iter()
            .map(|arrived| arrived.connection)
            .collect();
        assert_eq!(connections.len(), 1, "{path}: {connections:?}");
    }
}
