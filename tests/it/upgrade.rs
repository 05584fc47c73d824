//! Other protocols on the same port: WebSocket upgrades, HTTP/2 from clients and to providers.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tollgate::store::record::Outcome;

use crate::rig::*;

const MESSAGE: &str = r#"{"id":"msg_1","model":"claude-sonnet-5-5","content":[],"usage":{"input_tokens":21,"output_tokens":9}}"#;

const UPGRADE: [(&str, &str); 4] = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("sec-websocket-version", "13"),
];

#[tokio::test]
async fn a_websocket_for_responses_gets_a_426_so_that_codex_falls_back() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    for path in ["/v1/responses", "/openai/v1/responses", "/openai/responses"] {
        let (head, _) = tollgate
            .ask(request(&format!("GET {path}"), &UPGRADE, ""))
            .await;
        assert_eq!(head.status(), 426, "{path}");
    }
    assert!(upstream.is_untouched().await);
}

#[tokio::test]
async fn another_websocket_goes_through_byte_for_byte() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let mut headers = UPGRADE.to_vec();
    headers.push((
        "sec-websocket-protocol",
        "realtime, openai-insecure-api-key.sk-x",
    ));
    headers.push(("x-tollgate-session", "voice"));
    let mut client = tollgate.connect().await;
    client
        .send(request(
            "GET /openai/v1/realtime?model=gpt-realtime",
            &headers,
            "",
        ))
        .await;
    let (mut provider, asked, _) = upstream.request().await;
    assert_eq!(asked.asks(), "GET /v1/realtime?model=gpt-realtime");
    for (name, value) in &headers[1..5] {
        assert_eq!(asked.value(name), Some(*value), "{name}");
    }
    let connection = asked.value("connection").unwrap().to_ascii_lowercase();
    assert_eq!(connection, "upgrade");
    assert_eq!(asked.value("x-tollgate-session"), None);
    // The first bytes of the new protocol may come with the head.
    provider
        .send("HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\x01first")
        .await;
    let head = client.head().await;
    assert_eq!(head.status(), 101);
    assert_eq!(
        head.value("sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    assert_eq!(client.bytes(6).await, b"\x01first");
    let noise: Vec<u8> = (0..=255).cycle().take(200_000).collect();
    let (sent, _) = tokio::join!(provider.bytes(noise.len()), client.send(&noise));
    assert_eq!(sent, noise);
    let (received, _) = tokio::join!(client.bytes(noise.len()), provider.send(&noise));
    assert_eq!(received, noise);
    // Each half may end by itself.
    client.finish().await;
    assert!(provider.rest().await.is_empty());
    provider.send("bye").await;
    drop(provider);
    assert_eq!(client.rest().await, b"bye");
    tollgate.settled().await;
    let record = tollgate.only_record().await;
    assert_eq!(record.status, 101);
    assert_eq!(record.session, "voice");
}

#[tokio::test]
async fn a_client_that_leaves_its_websocket_ends_it_at_the_provider() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let mut client = tollgate.connect().await;
    client
        .send(request("GET /openai/v1/realtime", &UPGRADE, ""))
        .await;
    let (mut provider, _, _) = upstream.request().await;
    provider
        .send(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n",
        )
        .await;
    client.head().await;
    client.reset();
    provider.rest().await;
    drop(provider);
    tollgate.settled().await;
}

#[tokio::test]
async fn a_provider_that_refuses_an_upgrade_is_heard() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let seen = exchange(
        &tollgate,
        &upstream,
        request("GET /openai/v1/realtime", &UPGRADE, ""),
        answer("401 Unauthorized", &[("x-request-id", "r")], "no"),
    )
    .await;
    assert_eq!(seen.head.status(), 401);
    assert_eq!(seen.head.value("x-request-id"), Some("r"));
    assert_eq!(seen.body.text(), "no");
}

/// Java's HTTP client offers HTTP/2 with its first request on each clear-text connection. A server that does not want
/// it answers as if nothing had been offered (RFC 9110 section 7.8).
#[tokio::test]
async fn an_offer_of_http2_inside_a_request_is_no_websocket() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let seen = exchange(
        &tollgate,
        &upstream,
        request(
            "POST /anthropic/v1/messages",
            &[
                ("connection", "Upgrade, HTTP2-Settings"),
                ("upgrade", "h2c"),
                ("http2-settings", "AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA"),
            ],
            r#"{"model":"claude-sonnet-5-5"}"#,
        ),
        json_answer(MESSAGE),
    )
    .await;
    assert_eq!(seen.sent.text(), r#"{"model":"claude-sonnet-5-5"}"#);
    assert_eq!(seen.asked.value("upgrade"), None);
    assert_eq!(seen.asked.value("http2-settings"), None);
    assert_eq!(seen.body.text(), MESSAGE);
    let record = tollgate.record(&seen.head).await;
    assert_eq!((record.usage.input, record.usage.output), (21, 9));
    assert_eq!(record.requested_model.as_deref(), Some("claude-sonnet-5-5"));
}

/// RFC 9110 section 7.8: without `Connection: upgrade` the field is to be ignored.
#[tokio::test]
async fn an_upgrade_header_without_its_connection_option_means_nothing() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    for path in ["/anthropic/v1/messages", "/openai/v1/responses"] {
        let seen = exchange(
            &tollgate,
            &upstream,
            request(
                &format!("POST {path}"),
                &[("upgrade", "websocket"), ("connection", "keep-alive")],
                r#"{"model":"m"}"#,
            ),
            json_answer(MESSAGE),
        )
        .await;
        assert_eq!(seen.head.status(), 200, "{path}");
        assert_eq!(seen.asked.value("upgrade"), None, "{path}");
        assert_eq!(seen.asked.value("connection"), None, "{path}");
    }
}

/// An HTTP/2 connection with prior knowledge.
async fn http2(tollgate: &Tollgate) -> hyper::client::conn::http2::SendRequest<Full<Bytes>> {
    let io = TcpStream::connect(tollgate.address).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io))
            .await
            .unwrap();
    tokio::spawn(connection);
    sender
}

fn http2_request(tollgate: &Tollgate, body: &str) -> http::Request<Full<Bytes>> {
    http::Request::post(format!(
        "http://{}/anthropic/v1/messages?beta=true",
        tollgate.address
    ))
    .header("x-api-key", "sk-ant-test")
    .header("anthropic-version", "2023-06-01")
    .body(Full::new(Bytes::from(body.to_owned())))
    .unwrap()
}

#[tokio::test]
async fn a_client_with_http2_prior_knowledge_is_served_over_http1() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let mut sender = http2(&tollgate).await;
    let body = r#"{"model":"claude-sonnet-5-5","stream":true}"#;
    let answer = tokio::spawn(sender.send_request(http2_request(&tollgate, body)));
    let (mut provider, asked, sent) = upstream.request().await;
    assert_eq!(asked.line, "POST /v1/messages?beta=true HTTP/1.1");
    assert_eq!(asked.values("host"), [upstream.address.to_string()]);
    assert_eq!(asked.value("anthropic-version"), Some("2023-06-01"));
    assert_eq!(sent.text(), body);
    provider.send(stream_head("text/event-stream")).await;
    let answer = within("the head", answer).await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    let id = answer.headers()["x-tollgate-request-id"].to_str().unwrap();
    let id = id.parse().unwrap();
    let mut stream = answer.into_body();
    for event in [
        "data: {\"type\":\"ping\"}\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    ] {
        provider.send_chunk(event).await;
        let frame = within("an event", stream.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), event);
    }
    provider.send(LAST_CHUNK).await;
    let rest = within("the end", stream.collect()).await.unwrap();
    assert!(rest.to_bytes().is_empty());
    let record = tollgate.gate.ledger.find(id).await.unwrap().unwrap();
    assert_eq!(record.outcome, Outcome::Complete);
}

#[tokio::test]
async fn a_cut_stays_a_cut_over_http2() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let mut sender = http2(&tollgate).await;
    let answer = tokio::spawn(sender.send_request(http2_request(&tollgate, "{}")));
    let (mut provider, _, _) = upstream.request().await;
    provider.send(stream_head("text/event-stream")).await;
    provider.send_chunk("data: {}\n\n").await;
    let mut stream = within("the head", answer)
        .await
        .unwrap()
        .unwrap()
        .into_body();
    within("an event", stream.frame()).await.unwrap().unwrap();
    drop(provider);
    let end = within("the end", stream.frame()).await;
    assert!(end.is_some_and(|frame| frame.is_err()), "a reset stream");
}

#[tokio::test]
async fn one_http2_stream_that_is_dropped_is_cancelled_and_the_others_go_on() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let mut sender = http2(&tollgate).await;
    let leaving = tokio::spawn(sender.send_request(http2_request(&tollgate, "{}")));
    let (mut first, _, _) = upstream.request().await;
    let staying = tokio::spawn(sender.send_request(http2_request(&tollgate, "{}")));
    let (mut second, _, _) = upstream.request().await;
    leaving.abort();
    assert!(first.rest().await.is_empty());
    second.send(json_answer(MESSAGE)).await;
    let answer = within("the answer", staying).await.unwrap().unwrap();
    let body = within("its body", answer.into_body().collect()).await;
    assert_eq!(body.unwrap().to_bytes(), MESSAGE);
    tollgate.settled().await;
    let records = eventually("both records", async || {
        let records = tollgate.records().await;
        (records.len() == 2).then_some(records)
    })
    .await;
    let gone = records
        .iter()
        .filter(|record| record.outcome == Outcome::ClientGone);
    assert_eq!(gone.count(), 1);
}

#[tokio::test]
async fn a_provider_may_be_asked_over_http2() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        loop {
            let (io, _) = listener.accept().await.unwrap();
            let service = service_fn(async |request: http::Request<Incoming>| {
                assert_eq!(request.version(), http::Version::HTTP_2);
                let path = request.uri().path().to_owned();
                let host = request.uri().authority().unwrap().to_string();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let answer = http::Response::builder()
                    .header("x-path", path)
                    .header("x-host", host)
                    .header("x-body", String::from_utf8(body.to_vec()).unwrap())
                    .header("content-type", "application/json")
                    .body(Full::new(Bytes::from_static(MESSAGE.as_bytes())));
                Ok::<_, std::convert::Infallible>(answer.unwrap())
            });
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(io), service);
            tokio::spawn(connection);
        }
    });
    let tollgate = Tollgate::with(address, &[("providers.anthropic.http2", "true")]).await;
    for _ in 0..3 {
        let (head, body) = tollgate
            .ask(request(
                "POST /anthropic/v1/messages",
                &[("connection", "x-private"), ("x-private", "1")],
                r#"{"model":"claude-sonnet-5-5"}"#,
            ))
            .await;
        assert_eq!(head.status(), 200, "{}", body.text());
        assert_eq!(head.value("x-path"), Some("/v1/messages"));
        assert_eq!(head.value("x-host"), Some(address.to_string().as_str()));
        assert_eq!(
            head.value("x-body"),
            Some(r#"{"model":"claude-sonnet-5-5"}"#)
        );
        assert_eq!(body.text(), MESSAGE);
        let record = tollgate.record(&head).await;
        assert_eq!((record.usage.input, record.usage.output), (21, 9));
    }
    server.abort();
}
