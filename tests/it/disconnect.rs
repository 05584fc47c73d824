//! A client that leaves: the provider's work is cancelled at once, the request is booked, nothing stays in flight.

use tollgate::llm::usage::Provenance;
use tollgate::store::record::Outcome;

use crate::rig::*;

const STREAM: &str = r#"{"model":"claude-sonnet-5-5","stream":true,"max_tokens":64,"messages":[{"role":"user","content":"a question of some length"}]}"#;

const START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"claude-sonnet-5-5\",\"content\":[],\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\n";

const DELTA: &str = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Some words that have been written already, about twenty tokens of them or so.\"}}\n\n";

/// Leaves by a FIN or by a reset, as clients do.
fn leave(client: Wire, by_reset: bool) {
    match by_reset {
        true => client.reset(),
        false => drop(client),
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_the_head_cancels_its_request() {
    let upstream = Upstream::start().await;
    for by_reset in [false, true] {
        for path in ["/anthropic/v1/messages", "/openai/v1/files"] {
            let tollgate = Tollgate::before(upstream.address).await;
            let mut client = tollgate.connect().await;
            client
                .send(request(&format!("POST {path}"), &[], STREAM))
                .await;
            let (mut provider, _, _) = upstream.request().await;
            assert_eq!(tollgate.metric("tollgate_requests_in_flight", &[]), 1.0);
            leave(client, by_reset);
            // The end of the connection is what cancels the work at the provider.
            assert!(provider.rest().await.is_empty());
            tollgate.settled().await;
            let record = tollgate.only_record().await;
            assert_eq!(record.outcome, Outcome::ClientGone, "{path}");
            assert_eq!(record.status, 0, "{path}: nothing was answered");
            if path.ends_with("messages") {
                assert_eq!(record.provenance, Provenance::Estimated);
                assert!(record.usage.input > 0);
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_in_mid_stream_cancels_its_request() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    for by_reset in [false, true] {
        let mut client = tollgate.connect().await;
        client
            .send(request("POST /anthropic/v1/messages", &[], STREAM))
            .await;
        let (mut provider, _, _) = upstream.request().await;
        provider.send(stream_head("text/event-stream")).await;
        provider.send_chunk(START).await;
        provider.send_chunk(DELTA).await;
        let head = client.head().await;
        client.body_bytes(START.len() + DELTA.len()).await;
        leave(client, by_reset);
        assert!(provider.rest().await.is_empty());
        let record = tollgate.record_of_cut(&head).await;
        assert_eq!(record.outcome, Outcome::ClientGone);
        assert_eq!(record.status, 200);
        assert_eq!(record.provenance, Provenance::Partial);
        assert_eq!(record.usage.input, 25, "what the provider said stands");
        assert!(
            (5..200).contains(&record.usage.output),
            "what was seen is estimated: {}",
            record.usage.output
        );
        tollgate.settled().await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_while_its_answer_stalls_is_noticed() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let mut client = tollgate.connect().await;
    client
        .send(request("POST /anthropic/v1/messages", &[], STREAM))
        .await;
    let (mut provider, _, _) = upstream.request().await;
    provider.send(stream_head("text/event-stream")).await;
    let head = client.head().await;
    // No byte of the body yet: the model thinks.
    drop(client);
    assert!(provider.rest().await.is_empty());
    let record = tollgate.record_of_cut(&head).await;
    assert_eq!(record.outcome, Outcome::ClientGone);
    assert_eq!(record.provenance, Provenance::Estimated);
}

#[tokio::test]
async fn a_client_that_leaves_inside_a_metered_body_costs_nothing() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let mut client = tollgate.connect().await;
    client
        .send("POST /anthropic/v1/messages HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 100\r\n\r\n{\"model\":")
        .await;
    eventually("the request", async || {
        (tollgate.metric("tollgate_requests_in_flight", &[]) == 1.0
            || tollgate.metric("tollgate_client_connections", &[]) == 1.0)
            .then_some(())
    })
    .await;
    drop(client);
    eventually("the connection's end", async || {
        (tollgate.metric("tollgate_client_connections", &[]) == 0.0).then_some(())
    })
    .await;
    tollgate.settled().await;
    assert!(upstream.is_untouched().await, "nothing was sent");
    for record in tollgate.records().await {
        assert_eq!(record.usage, Default::default());
        assert_eq!(record.provenance, Provenance::None);
    }
}

#[tokio::test]
async fn a_client_that_leaves_inside_an_upload_cuts_it() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    for framing in ["content-length: 100", "transfer-encoding: chunked"] {
        let mut client = tollgate.connect().await;
        let part = match framing.starts_with('t') {
            true => chunk("half"),
            false => b"half".to_vec(),
        };
        client
            .send(format!(
                "POST /openai/v1/files HTTP/1.1\r\nhost: 127.0.0.1\r\n{framing}\r\n\r\n"
            ))
            .await;
        client.send(part).await;
        let mut provider = upstream.accept().await;
        provider.head().await;
        provider.body_bytes(4).await;
        drop(client);
        assert_eq!(
            provider.piece().await,
            Piece::Cut,
            "{framing}: half a file must not look whole"
        );
        tollgate.settled().await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_inside_its_body_is_booked_as_gone_and_not_as_refused() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let mut client = tollgate.connect().await;
    client
        .send(
            "POST /openai/v1/files HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 100\r\n\r\nhalf",
        )
        .await;
    let mut provider = upstream.accept().await;
    provider.head().await;
    provider.body_bytes(4).await;
    drop(client);
    let record = tollgate.only_record().await;
    assert_eq!(record.outcome, Outcome::ClientGone, "{:?}", record.error);
}

#[tokio::test]
async fn a_client_that_has_everything_and_leaves_without_the_last_chunk_got_its_answer() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let stop = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":15}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    let mut client = tollgate.connect().await;
    client
        .send(request("POST /anthropic/v1/messages", &[], STREAM))
        .await;
    let (mut provider, _, _) = upstream.request().await;
    provider.send(stream_head("text/event-stream")).await;
    provider.send_chunk(START).await;
    provider.send_chunk(stop).await;
    let head = client.head().await;
    client.body_bytes(START.len() + stop.len()).await;
    // SDKs leave at the last event and do not wait for the end of the body.
    drop(client);
    let record = tollgate.record_of_cut(&head).await;
    assert_eq!(record.outcome, Outcome::Complete);
    assert_eq!(record.provenance, Provenance::Reported);
    assert_eq!((record.usage.input, record.usage.output), (25, 15));
}

#[tokio::test]
async fn one_client_that_leaves_disturbs_no_other() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let (mut staying, mut leaving) = (tollgate.connect().await, tollgate.connect().await);
    staying
        .send(request("POST /anthropic/v1/messages", &[], STREAM))
        .await;
    let (mut first, _, _) = upstream.request().await;
    leaving
        .send(request("POST /anthropic/v1/messages", &[], STREAM))
        .await;
    let (mut second, _, _) = upstream.request().await;
    for provider in [&mut first, &mut second] {
        provider.send(stream_head("text/event-stream")).await;
        provider.send_chunk(START).await;
    }
    leaving.head().await;
    drop(leaving);
    second.rest().await;
    first.send_chunk(DELTA).await;
    first.send(LAST_CHUNK).await;
    staying.head().await;
    let body = staying.body().await;
    assert!(body.whole);
    assert_eq!(body.text(), format!("{START}{DELTA}"));
}
