//! Every wait has its limit: for the provider to connect, answer, go on and end; for the client to speak and to listen.
//!
//! The limits are set to tens of milliseconds; what is tested is that they end something, not when.

use std::time::Duration;

use tollgate::llm::usage::Provenance;
use tollgate::store::record::Outcome;

use crate::rig::*;

const STREAM: &str = r#"{"model":"claude-sonnet-5-5","stream":true,"max_tokens":64,"messages":[{"role":"user","content":"a question"}]}"#;

const START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"claude-sonnet-5-5\",\"content\":[],\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\n";

fn ask() -> Vec<u8> {
    request("POST /anthropic/v1/messages", &[], STREAM)
}

#[tokio::test]
async fn a_provider_that_does_not_answer_is_given_up() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::with(upstream.address, &[("upstream.header_timeout", "80ms")]).await;
    for (path, field) in [
        ("/anthropic/v1/messages", "/error/message"),
        ("/openai/v1/chat/completions", "/error/message"),
        ("/gemini/v1beta/models/g:generateContent", "/error/message"),
        ("/ollama/api/chat", "/error"),
    ] {
        let mut client = tollgate.connect().await;
        client
            .send(request(&format!("POST {path}"), &[], STREAM))
            .await;
        let (mut provider, _, _) = upstream.request().await;
        let (head, body) = client.message().await;
        assert_eq!(head.status(), 504, "{path}");
        let json = body.json();
        let message = json.pointer(field).and_then(|text| text.as_str());
        assert!(
            message.is_some_and(|text| text.contains("80ms")),
            "{body:?}"
        );
        assert!(provider.rest().await.is_empty(), "the request is cancelled");
        let record = tollgate.record(&head).await;
        assert_eq!(record.outcome, Outcome::TimedOut, "{path}");
        assert_eq!(record.status, 504);
        // It may have worked, and billed, for the whole time.
        assert_eq!(record.provenance, Provenance::Estimated, "{path}");
    }
    tollgate.settled().await;
}

#[tokio::test]
async fn an_answer_that_stands_still_is_cut() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::with(upstream.address, &[("upstream.idle_timeout", "80ms")]).await;
    let mut client = tollgate.connect().await;
    client.send(ask()).await;
    let (mut provider, _, _) = upstream.request().await;
    provider.send(stream_head("text/event-stream")).await;
    provider.send_chunk(START).await;
    let head = client.head().await;
    assert_eq!(client.body_bytes(START.len()).await, START.as_bytes());
    assert!(!client.body().await.whole, "a clean end would hide it");
    assert!(provider.rest().await.is_empty());
    let record = tollgate.record_of_cut(&head).await;
    assert_eq!(record.outcome, Outcome::TimedOut);
    assert_eq!(record.provenance, Provenance::Partial);
    assert_eq!(record.usage.input, 25);
}

#[tokio::test]
async fn an_answer_may_go_on_for_longer_than_its_longest_pause() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::with(upstream.address, &[("upstream.idle_timeout", "400ms")]).await;
    let mut client = tollgate.connect().await;
    client.send(ask()).await;
    let (mut provider, _, _) = upstream.request().await;
    provider.send(stream_head("text/event-stream")).await;
    for _ in 0..8 {
        provider.send_chunk(": ping\n\n").await;
        // Time has to pass here: it is what the limit is about.
        tokio::time::sleep(Duration::from_millis(70)).await;
    }
    provider.send(LAST_CHUNK).await;
    client.head().await;
    assert!(client.body().await.whole);
}

#[tokio::test]
async fn an_answer_that_never_ends_is_cut_at_the_total_limit() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::with(
        upstream.address,
        &[
            ("upstream.total_timeout", "150ms"),
            ("upstream.connect_timeout", "150ms"),
        ],
    )
    .await;
    let mut client = tollgate.connect().await;
    client.send(ask()).await;
    let (mut provider, _, _) = upstream.request().await;
    provider.send(stream_head("text/event-stream")).await;
    let endless = tokio::spawn(async move {
        while provider.try_send(chunk(": ping\n\n")).await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let head = client.head().await;
    assert!(!client.body().await.whole);
    within("the provider's end", endless)
        .await
        .expect("no panic");
    assert_eq!(
        tollgate.record_of_cut(&head).await.outcome,
        Outcome::TimedOut
    );
}

#[tokio::test]
async fn a_provider_that_cannot_be_connected_to_in_time_is_unreachable() {
    // A listener whose queue is full: the kernel answers no further handshake.
    let socket =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().expect("an address");
    socket.bind(&any.into()).expect("a port");
    socket.listen(0).expect("a listener");
    let address = socket
        .local_addr()
        .ok()
        .and_then(|address| address.as_socket())
        .expect("a bound socket");
    let mut held = Vec::new();
    loop {
        let connect = tokio::net::TcpStream::connect(address);
        match tokio::time::timeout(Duration::from_millis(100), connect).await {
            Ok(connected) => held.push(connected),
            Err(_) => break,
        }
        assert!(held.len() < 64, "the queue never fills");
    }
    let tollgate = Tollgate::with(address, &[("upstream.connect_timeout", "100ms")]).await;
    let (head, body) = tollgate.ask(ask()).await;
    assert!([502, 504].contains(&head.status()), "{}", head.line);
    assert_eq!(body.json()["type"], "error");
    let record = tollgate.record(&head).await;
    assert!(matches!(
        record.outcome,
        Outcome::Unreachable | Outcome::TimedOut
    ));
    assert_eq!(record.provenance, Provenance::None, "nothing was sent");
    drop(held);
}

#[tokio::test]
async fn clients_that_do_not_finish_a_head_are_let_go_and_disturb_nobody() {
    let upstream = Upstream::start().await.answering(|_| json_answer("{}"));
    let tollgate = Tollgate::with(upstream.address, &[("server.header_timeout", "150ms")]).await;
    let mut slow = Vec::new();
    for bytes in [
        "",
        "G",
        "PRI",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "POST /anthropic/v1/messages HTTP/1.1\r\n",
        "POST /anthropic/v1/messages HTTP/1.1\r\nhost: 127.0.0.1\r\nx-half: ",
    ] {
        let mut client = tollgate.connect().await;
        client.send(bytes).await;
        slow.push((bytes, client));
    }
    let (head, _) = tollgate
        .ask(request("GET /openai/v1/models", &[], ""))
        .await;
    assert_eq!(head.status(), 200);
    for (bytes, mut client) in slow {
        within(&format!("the end of {bytes:?}"), client.rest()).await;
    }
    assert!(upstream.take().len() == 1);
    eventually("no connection", async || {
        (tollgate.metric("tollgate_client_connections", &[]) == 0.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::with(upstream.address, &[("server.header_timeout", "150ms")]).await;
    let mut client = tollgate.connect().await;
    client.send(ask()).await;
    let (mut provider, _, _) = upstream.request().await;
    // Longer than the limit, inside a request: it does not count.
    tokio::time::sleep(Duration::from_millis(400)).await;
    provider.send(json_answer("{}")).await;
    assert_eq!(client.message().await.0.status(), 200);
    assert!(client.rest().await.is_empty(), "then it is closed");
}

#[tokio::test]
async fn a_client_that_pauses_inside_its_body_gets_a_408_and_nothing_is_sent() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::with(upstream.address, &[("server.body_timeout", "80ms")]).await;
    let mut client = tollgate.connect().await;
    client
        .send("POST /anthropic/v1/messages HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 100\r\n\r\n{\"model\":")
        .await;
    let (head, body) = client.message().await;
    assert_eq!(head.status(), 408);
    assert_eq!(body.json()["type"], "error", "in the client's wire format");
    assert!(client.rest().await.is_empty(), "the rest cannot be found");
    assert!(upstream.is_untouched().await);
    let record = tollgate.record(&head).await;
    assert_eq!(record.usage, Default::default());
}

#[tokio::test]
async fn an_upload_that_stands_still_is_cut_at_the_provider() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::with(upstream.address, &[("server.body_timeout", "80ms")]).await;
    let mut client = tollgate.connect().await;
    client
        .send(
            "POST /openai/v1/files HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 100\r\n\r\nhalf",
        )
        .await;
    let mut provider = upstream.accept().await;
    provider.head().await;
    provider.body_bytes(4).await;
    assert_eq!(provider.piece().await, Piece::Cut);
    client.rest().await;
    tollgate.settled().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_let_go_and_its_request_cancelled() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::with(upstream.address, &[("server.write_timeout", "200ms")]).await;
    let mut client = tollgate.connect().await.with_small_buffers();
    client.send(ask()).await;
    let (mut provider, _, _) = upstream.request().await;
    provider.send(stream_head("text/event-stream")).await;
    let data = chunk(vec![b' '; 64 << 10]);
    // More than all buffers between hold; it ends when tollgate has given up the client.
    let mut sent = 0;
    while provider.try_send(&data).await {
        sent += data.len();
        assert!(sent < 1 << 30, "somebody keeps all of it");
    }
    tollgate.settled().await;
    let record = tollgate.only_record().await;
    assert!(
        matches!(record.outcome, Outcome::ClientGone | Outcome::TimedOut),
        "{:?}",
        record.outcome
    );
}

#[tokio::test]
async fn a_slow_reader_holds_its_provider_back_instead_of_filling_memory() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let mut client = tollgate.connect().await.with_small_buffers();
    client.send(ask()).await;
    let (mut provider, _, _) = upstream.request().await;
    provider.send(stream_head("text/event-stream")).await;
    let block = chunk(vec![b' '; 64 << 10]);
    let mut sent = 0;
    while tokio::time::timeout(Duration::from_millis(300), provider.try_send(&block))
        .await
        .is_ok()
    {
        sent += block.len();
        assert!(sent < 256 << 20, "nobody holds the provider back");
    }
    drop(client);
}
