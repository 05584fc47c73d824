//! Bodies go through chunk by chunk, in both directions, and a cut stays a cut (promise 1). Nothing here measures time:
//! that a chunk was not held back shows by the other end still holding the next one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use tollgate::llm::usage::Provenance;
use tollgate::store::record::Outcome;

use crate::rig::*;

const SSE: &str = "text/event-stream; charset=utf-8";

/// A stream as a client asks for it and as its provider sends it, event by event.
struct Stream {
    path: &'static str,
    request: &'static str,
    content_type: &'static str,
    events: &'static [&'static str],
    input: u64,
    output: u64,
}

const STREAMS: &[Stream] = &[
    Stream {
        path: "/anthropic/v1/messages",
        request: r#"{"model":"claude-sonnet-5-5","max_tokens":64,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#,
        content_type: SSE,
        events: &[
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-sonnet-5-5\",\"content\":[],\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\n",
            "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hello\"}}\n\n",
            "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
            "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":15}}\n\n",
            "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        ],
        input: 25,
        output: 15,
    },
    Stream {
        path: "/openai/v1/chat/completions",
        request: r#"{"model":"gpt-5","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}]}"#,
        content_type: SSE,
        events: &[
            "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"gpt-5\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hel\"},\"finish_reason\":null}],\"usage\":null}\n\n",
            "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"gpt-5\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n",
            "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"gpt-5\",\"choices\":[],\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":10,\"total_tokens\":29}}\n\n",
            "data: [DONE]\n\n",
        ],
        input: 19,
        output: 10,
    },
    Stream {
        path: "/openai/v1/responses",
        request: r#"{"model":"gpt-5","stream":true,"input":"hi"}"#,
        content_type: SSE,
        events: &[
            "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\",\"status\":\"in_progress\",\"model\":\"gpt-5\",\"usage\":null}}\n\n",
            "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Hello\"}\n\n",
            "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_1\",\"status\":\"completed\",\"model\":\"gpt-5\",\"output\":[],\"usage\":{\"input_tokens\":37,\"output_tokens\":11,\"total_tokens\":48}}}\n\n",
        ],
        input: 37,
        output: 11,
    },
    Stream {
        path: "/gemini/v1beta/models/gemini-3-flash:streamGenerateContent?alt=sse",
        request: r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#,
        content_type: "text/event-stream",
        events: &[
            "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Hel\"}]}}],\"usageMetadata\":{\"promptTokenCount\":8,\"candidatesTokenCount\":1,\"totalTokenCount\":9},\"modelVersion\":\"gemini-3-flash\"}\r\n\r\n",
            "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"lo\"}]},\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":8,\"candidatesTokenCount\":6,\"totalTokenCount\":14},\"modelVersion\":\"gemini-3-flash\"}\r\n\r\n",
        ],
        input: 8,
        output: 6,
    },
    Stream {
        path: "/ollama/api/chat",
        request: r#"{"model":"smollm2","messages":[{"role":"user","content":"hi"}]}"#,
        content_type: "application/x-ndjson",
        events: &[
            "{\"model\":\"smollm2\",\"message\":{\"role\":\"assistant\",\"content\":\"Hel\"},\"done\":false}\n",
            "{\"model\":\"smollm2\",\"message\":{\"role\":\"assistant\",\"content\":\"lo\"},\"done\":false}\n",
            "{\"model\":\"smollm2\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\",\"prompt_eval_count\":31,\"eval_count\":4}\n",
        ],
        input: 31,
        output: 4,
    },
];

fn ask(stream: &Stream) -> Vec<u8> {
    request(
        &format!("POST {}", stream.path),
        &[("content-type", "application/json")],
        stream.request,
    )
}

#[tokio::test]
async fn each_event_reaches_the_client_while_the_provider_holds_the_next() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    for stream in STREAMS {
        let mut client = tollgate.connect().await;
        client.send(ask(stream)).await;
        let (mut provider, _, _) = upstream.request().await;
        provider.send(stream_head(stream.content_type)).await;
        // The head alone, before any byte of the body.
        let head = client.head().await;
        assert_eq!(head.value("content-type"), Some(stream.content_type));
        for event in stream.events {
            provider.send_chunk(event).await;
            let got = client.body_bytes(event.len()).await;
            assert_eq!(String::from_utf8_lossy(&got), *event, "{}", stream.path);
        }
        provider.send(LAST_CHUNK).await;
        assert_eq!(client.piece().await, Piece::End);
        let record = tollgate.record(&head).await;
        assert_eq!(record.outcome, Outcome::Complete, "{}", stream.path);
        assert!(record.stream, "{}", stream.path);
        assert_eq!(record.provenance, Provenance::Reported);
        assert_eq!(
            (record.usage.input, record.usage.output),
            (stream.input, stream.output),
            "{}",
            stream.path
        );
    }
}

#[tokio::test]
async fn an_event_in_pieces_is_passed_on_in_pieces() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    for stream in STREAMS {
        let mut client = tollgate.connect().await;
        client.send(ask(stream)).await;
        let (mut provider, _, _) = upstream.request().await;
        provider.send(stream_head(stream.content_type)).await;
        client.head().await;
        // Half an event, cut inside a word, must not wait for its other half.
        let (first, rest) = stream.events[0].split_at(17);
        provider.send_chunk(first).await;
        assert_eq!(client.body_bytes(17).await, first.as_bytes());
        provider.send_chunk(rest).await;
        assert_eq!(client.body_bytes(rest.len()).await, rest.as_bytes());
    }
}

#[tokio::test]
async fn answers_with_a_length_or_none_at_all_flow_too() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let stream = &STREAMS[0];
    let whole: String = stream.events.concat();
    for framing in [
        format!("content-length: {}\r\n", whole.len()),
        String::new(),
    ] {
        for version in ["1.1", "1.0"] {
            let mut client = tollgate.connect().await;
            client.send(ask(stream)).await;
            let (mut provider, _, _) = upstream.request().await;
            provider
                .send(format!(
                    "HTTP/{version} 200 OK\r\ncontent-type: {SSE}\r\n{framing}\r\n"
                ))
                .await;
            let head = client.head().await;
            for event in stream.events {
                provider.send(event).await;
                assert_eq!(client.body_bytes(event.len()).await, event.as_bytes());
            }
            drop(provider);
            assert!(client.body().await.whole);
            let record = tollgate.record(&head).await;
            assert_eq!(record.outcome, Outcome::Complete);
            assert_eq!((record.usage.input, record.usage.output), (25, 15));
        }
    }
}

#[tokio::test]
async fn compressed_streams_flow_and_are_metered() {
    use std::io::Write as _;
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let stream = &STREAMS[0];
    let mut client = tollgate.connect().await;
    client.send(ask(stream)).await;
    let (mut provider, _, _) = upstream.request().await;
    provider
        .send(format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {SSE}\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n"
        ))
        .await;
    let head = client.head().await;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    for event in stream.events {
        encoder.write_all(event.as_bytes()).unwrap();
        encoder.flush().unwrap();
        let packed = std::mem::take(encoder.get_mut());
        provider.send_chunk(&packed).await;
        assert_eq!(client.body_bytes(packed.len()).await, packed);
    }
    let end = encoder.finish().unwrap();
    provider.send_chunk(&end).await;
    provider.send(LAST_CHUNK).await;
    assert_eq!(client.body().await.bytes, end);
    let record = tollgate.record(&head).await;
    assert_eq!((record.usage.input, record.usage.output), (25, 15));
    assert_eq!(record.provenance, Provenance::Reported);
}

#[tokio::test]
async fn an_upload_reaches_the_provider_while_the_client_holds_the_rest() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    for framing in ["content-length: 10", "transfer-encoding: chunked"] {
        let mut client = tollgate.connect().await;
        client
            .send(format!(
                "POST /openai/v1/files HTTP/1.1\r\nhost: 127.0.0.1\r\n{framing}\r\n\r\n"
            ))
            .await;
        let mut provider = upstream.accept().await;
        let chunked = framing.starts_with('t');
        let part = |text: &str| match chunked {
            true => chunk(text),
            false => text.as_bytes().to_vec(),
        };
        client.send(part("first")).await;
        provider.head().await;
        assert_eq!(provider.body_bytes(5).await, b"first");
        client.send(part("later")).await;
        assert_eq!(provider.body_bytes(5).await, b"later");
        if chunked {
            client.send(LAST_CHUNK).await;
        }
        assert_eq!(provider.piece().await, Piece::End);
        provider.send(json_answer(r#"{"id":"file_1"}"#)).await;
        let (head, body) = client.message().await;
        assert_eq!(body.text(), r#"{"id":"file_1"}"#);
        assert_eq!(tollgate.record(&head).await.endpoint, "other");
    }
}

#[tokio::test]
async fn an_answer_may_begin_before_the_upload_has_ended() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let mut client = tollgate.connect().await;
    client
        .send(
            "POST /openai/v1/files HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 10\r\n\r\nfirst",
        )
        .await;
    let mut provider = upstream.accept().await;
    provider.head().await;
    provider.body_bytes(5).await;
    provider.send(stream_head("text/plain")).await;
    provider.send_chunk("early").await;
    client.head().await;
    assert_eq!(client.body_bytes(5).await, b"early");
    client.send("later").await;
    assert_eq!(provider.body_bytes(5).await, b"later");
    provider.send(LAST_CHUNK).await;
    assert_eq!(client.piece().await, Piece::End);
}

#[tokio::test]
async fn an_upload_larger_than_the_limit_of_metered_paths_goes_through() {
    const BLOCK: usize = 1 << 20;
    const BLOCKS: usize = 66;
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let mut client = tollgate.connect().await;
    client
        .send(format!(
            "POST /openai/v1/files HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {}\r\n\r\n",
            BLOCK * BLOCKS
        ))
        .await;
    let mut provider = upstream.accept().await;
    let upload = tokio::spawn(async move {
        for number in 0..BLOCKS {
            client.send(vec![number as u8; BLOCK]).await;
        }
        client
    });
    provider.head().await;
    for number in 0..BLOCKS {
        let mut left = BLOCK;
        // Blocks are not aligned with what comes in one read.
        while left > 0 {
            let take = left.min(64 << 10);
            let got = provider.bytes(take).await;
            assert!(got.iter().all(|byte| *byte == number as u8), "{number}");
            left -= take;
        }
    }
    provider.no_body();
    provider.send(json_answer("{}")).await;
    let mut client = upload.await.unwrap();
    let (head, _) = client.message().await;
    assert_eq!(head.status(), 200);
}

#[tokio::test]
async fn the_bytes_of_an_upload_are_counted() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let seen = exchange(
        &tollgate,
        &upstream,
        request("POST /openai/v1/files", &[], "0123456789"),
        json_answer("{}"),
    )
    .await;
    assert_eq!(tollgate.record(&seen.head).await.request_bytes, 10);
    assert_eq!(
        tollgate.metric("tollgate_request_body_bytes_total", &[]),
        10.0
    );
}

/// A chat stream as OpenAI sends it to those who ask for usage: each chunk has the key.
const CHAT_EVENTS: &[&str] = &[
    "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"gpt-5\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}],\"usage\":null}\n\n",
    ": a comment\n\n",
    "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"gpt-5\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\\\"choices\\\":[],\\\"usage\\\":{ é\"},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n",
];
const USAGE_EVENT: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"gpt-5\",\"choices\":[],\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":10,\"total_tokens\":29}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

/// The same stream as OpenAI sends it to those who do not ask.
fn chat_without_usage() -> String {
    let events = CHAT_EVENTS.concat().replace(r#","usage":null"#, "");
    format!("{events}{DONE}")
}

#[tokio::test]
async fn the_usage_chunk_that_the_client_did_not_ask_for_is_hidden_at_every_cut() {
    let whole = format!("{}{USAGE_EVENT}{DONE}", CHAT_EVENTS.concat()).into_bytes();
    let shown = chat_without_usage();
    let length = whole.len();
    let upstream = Upstream::start().await.answering(move |arrived| {
        let text = arrived.head.value("x-cut").unwrap();
        let cut: usize = text.parse().unwrap();
        let mut answer = stream_head(SSE).into_bytes();
        // Each HTTP chunk is a piece of its own to the proxy, however the network joins them.
        match cut {
            0 => whole.iter().for_each(|byte| answer.extend(chunk([*byte]))),
            cut => {
                answer.extend(chunk(&whole[..cut]));
                answer.extend(chunk(&whole[cut..]));
            }
        }
        answer.extend_from_slice(LAST_CHUNK);
        answer
    });
    let tollgate = Tollgate::before(upstream.address).await;
    let mut client = tollgate.connect().await;
    let asked =
        r#"{"model":"gpt-5","stream":true,"messages":[{"role":"user","content":"é 1e400"}]}"#;
    for cut in 0..length {
        client
            .send(request(
                "POST /openai/v1/chat/completions",
                &[("x-cut", &cut.to_string())],
                asked,
            ))
            .await;
        let (head, body) = client.message().await;
        assert!(body.whole, "{cut}");
        assert_eq!(body.text(), shown, "cut at {cut}");
        let arrived = upstream.take().remove(0);
        if cut % 100 == 0 {
            let record = tollgate.record(&head).await;
            assert_eq!((record.usage.input, record.usage.output), (19, 10), "{cut}");
            assert_eq!(record.provenance, Provenance::Reported);
            assert_eq!(record.outcome, Outcome::Complete);
        }
        let value = arrived.body.json();
        assert_eq!(value["stream_options"]["include_usage"], true);
        // Apart from what was put in, the body is the client's, to the byte.
        let sent = arrived.body.text();
        let injected = [
            r#","stream_options":{"include_usage":true}"#,
            r#""stream_options":{"include_usage":true},"#,
        ];
        assert!(
            injected
                .iter()
                .any(|piece| sent.replacen(piece, "", 1) == asked),
            "{sent}"
        );
    }
}

#[tokio::test]
async fn hiding_usage_holds_back_no_other_event() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let mut client = tollgate.connect().await;
    client
        .send(request(
            "POST /openai/v1/chat/completions",
            &[("accept-encoding", "gzip, br")],
            r#"{"model":"gpt-5","stream":true}"#,
        ))
        .await;
    let (mut provider, _, _) = upstream.request().await;
    provider.send(stream_head(SSE)).await;
    let head = client.head().await;
    for event in CHAT_EVENTS {
        provider.send_chunk(event).await;
        let shown = event.replace(r#","usage":null"#, "");
        let got = client.body_bytes(shown.len()).await;
        assert_eq!(String::from_utf8_lossy(&got), shown);
    }
    provider.send_chunk(USAGE_EVENT).await;
    // A cut behind the hidden chunk: the figures are there, the end is not.
    drop(provider);
    let end = client.body().await;
    assert!(!end.whole && end.bytes.is_empty());
    let record = tollgate.record_of_cut(&head).await;
    assert_eq!((record.usage.input, record.usage.output), (19, 10));
}

#[tokio::test]
async fn a_stream_that_comes_packed_although_it_was_asked_for_plain_is_unpacked_to_hide_the_usage()
{
    use std::io::Write as _;
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let whole = format!("{}{USAGE_EVENT}{DONE}", CHAT_EVENTS.concat());
    encoder.write_all(whole.as_bytes()).unwrap();
    let packed = encoder.finish().unwrap();
    let seen = exchange(
        &tollgate,
        &upstream,
        request(
            "POST /openai/v1/chat/completions",
            &[("accept-encoding", "gzip")],
            r#"{"model":"gpt-5","stream":true}"#,
        ),
        answer(
            "200 OK",
            &[("content-type", SSE), ("content-encoding", "gzip")],
            &packed,
        ),
    )
    .await;
    assert!(seen.body.whole);
    assert_eq!(seen.head.value("content-encoding"), None);
    assert_eq!(seen.body.text(), chat_without_usage());
    let record = tollgate.record(&seen.head).await;
    assert_eq!((record.usage.input, record.usage.output), (19, 10));
}

#[tokio::test]
async fn a_provider_that_refuses_an_upload_early_is_heard() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let mut client = tollgate.connect().await;
    client
        .send("POST /openai/v1/files HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 100000000\r\n\r\nfirst")
        .await;
    let mut provider = upstream.accept().await;
    provider.head().await;
    provider.body_bytes(5).await;
    provider
        .send(answer(
            "413 Payload Too Large",
            &[("connection", "close")],
            "too large, says the provider",
        ))
        .await;
    let (head, body) = client.message().await;
    assert_eq!(head.status(), 413);
    assert_eq!(body.text(), "too large, says the provider");
    drop(client);
    tollgate.settled().await;
}

#[tokio::test]
async fn an_http_1_0_client_gets_an_answer_without_chunks() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let stream = &STREAMS[0];
    let mut client = tollgate.connect().await;
    client
        .send(format!(
            "POST {} HTTP/1.0\r\ncontent-length: {}\r\n\r\n{}",
            stream.path,
            stream.request.len(),
            stream.request
        ))
        .await;
    let (mut provider, asked, _) = upstream.request().await;
    assert!(asked.line.ends_with("HTTP/1.1"));
    provider.send(stream_head(stream.content_type)).await;
    for event in stream.events {
        provider.send_chunk(event).await;
    }
    provider.send(LAST_CHUNK).await;
    let head = client.head().await;
    assert_eq!(head.value("transfer-encoding"), None);
    assert_eq!(client.body().await.text(), stream.events.concat());
    assert_eq!(tollgate.record(&head).await.usage.output, 15);
}

#[tokio::test]
async fn a_client_that_asked_for_usage_sees_every_byte_of_it() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let whole = format!("{}{USAGE_EVENT}{DONE}", CHAT_EVENTS.concat());
    let body = r#"{"stream":true,"stream_options":{ "include_usage" : true },"model":"gpt-5"}"#;
    for (path, kept) in [
        ("/openai/v1/chat/completions", body),
        // The provider reports by itself, so nothing is put in.
        (
            "/groq/openai/v1/chat/completions",
            r#"{"stream":true,"model":"gpt-5"}"#,
        ),
    ] {
        let mut answer = stream_head(SSE).into_bytes();
        answer.extend(chunk(&whole));
        answer.extend_from_slice(LAST_CHUNK);
        let seen = exchange(
            &tollgate,
            &upstream,
            request(&format!("POST {path}"), &[], kept),
            answer,
        )
        .await;
        assert_eq!(seen.sent.text(), kept, "{path}");
        assert_eq!(seen.body.text(), whole, "{path}");
    }
}

#[tokio::test]
async fn usage_is_asked_for_whatever_stream_options_the_client_has() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    for (sent, kept) in [
        (r#"{"model":"gpt-5","stream":true,"stream_options":{}}"#, ""),
        (
            r#"{"model":"gpt-5","stream":true,"stream_options":null}"#,
            "",
        ),
        (
            r#"{"model":"gpt-5","stream":true,"stream_options":{"include_usage":false}}"#,
            "",
        ),
        (
            r#"{"model":"gpt-5","stream":true,"stream_options":{"include_obfuscation":false}}"#,
            "include_obfuscation",
        ),
        (r#"{"model":"gpt-5","stream": true }"#, ""),
    ] {
        let mut answer = stream_head(SSE).into_bytes();
        for event in CHAT_EVENTS.iter().chain([&USAGE_EVENT, &DONE]) {
            answer.extend(chunk(event));
        }
        answer.extend_from_slice(LAST_CHUNK);
        let seen = exchange(
            &tollgate,
            &upstream,
            request("POST /openai/v1/chat/completions", &[], sent),
            answer,
        )
        .await;
        let arrived = seen.sent.json();
        assert_eq!(arrived["stream_options"]["include_usage"], true, "{sent}");
        if !kept.is_empty() {
            assert_eq!(arrived["stream_options"][kept], false, "{sent}");
        }
        let length = seen.asked.value("content-length").unwrap();
        assert_eq!(length, seen.sent.bytes.len().to_string());
        assert_eq!(seen.body.text(), chat_without_usage());
        assert_eq!(tollgate.record(&seen.head).await.usage.input, 19);
    }
    // No stream, no change.
    for sent in [
        r#"{"model":"gpt-5","stream":false}"#,
        r#"{"model":"gpt-5"}"#,
    ] {
        let seen = exchange(
            &tollgate,
            &upstream,
            request("POST /openai/v1/chat/completions", &[], sent),
            json_answer("{}"),
        )
        .await;
        assert_eq!(seen.sent.text(), sent);
    }
}

/// How a provider's answer breaks off.
#[derive(Debug, Clone, Copy)]
enum Break {
    Fin,
    Reset,
}

#[tokio::test]
async fn a_cut_stream_stays_a_cut_and_is_booked_as_far_as_it_got() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    for stream in STREAMS {
        for way in [Break::Fin, Break::Reset] {
            for (framing, chunked) in [
                ("transfer-encoding: chunked", true),
                ("content-length: 100000", false),
            ] {
                let what = format!("{} {way:?} {framing}", stream.path);
                let mut client = tollgate.connect().await;
                client.send(ask(stream)).await;
                let (mut provider, _, _) = upstream.request().await;
                provider
                    .send(format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: {}\r\n{framing}\r\n\r\n",
                        stream.content_type
                    ))
                    .await;
                let head = client.head().await;
                // Up to the first text, so that some output has been seen.
                let texts = stream.events.iter().position(|event| event.contains("Hel"));
                let event = stream.events[..=texts.unwrap()].concat();
                match chunked {
                    true => provider.send_chunk(&event).await,
                    false => provider.send(&event).await,
                }
                // Read first: a reset may overtake what lies in buffers.
                assert_eq!(client.body_bytes(event.len()).await, event.as_bytes());
                match way {
                    Break::Fin => drop(provider),
                    Break::Reset => provider.reset(),
                }
                let end = client.body().await;
                assert!(!end.whole, "{what}: a clean end hides a lost answer");
                assert!(end.bytes.is_empty(), "{what}");
                let record = tollgate.record_of_cut(&head).await;
                assert_eq!(record.outcome, Outcome::UpstreamCut, "{what}");
                assert!(
                    matches!(
                        record.provenance,
                        Provenance::Partial | Provenance::Estimated
                    ),
                    "{what}: {:?}",
                    record.provenance
                );
                assert!(record.usage.input > 0 && record.usage.output > 0, "{what}");
            }
        }
    }
    assert_eq!(tollgate.metric("tollgate_requests_in_flight", &[]), 0.0);
}

#[tokio::test]
async fn a_plain_answer_that_breaks_off_stays_short() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let mut client = tollgate.connect().await;
    client
        .send(request(
            "POST /anthropic/v1/messages",
            &[],
            r#"{"model":"claude-sonnet-5-5","messages":[{"role":"user","content":"hello"}]}"#,
        ))
        .await;
    let (mut provider, _, _) = upstream.request().await;
    provider
        .send("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{\"id\":\"msg_1\",")
        .await;
    let head = client.head().await;
    assert_eq!(head.value("content-length"), Some("500"));
    assert_eq!(client.body_bytes(14).await, b"{\"id\":\"msg_1\",");
    drop(provider);
    let end = client.body().await;
    assert!(!end.whole && end.bytes.is_empty());
    let record = tollgate.record_of_cut(&head).await;
    assert_eq!(record.outcome, Outcome::UpstreamCut);
    assert_eq!(record.provenance, Provenance::Estimated);
    assert!(record.usage.input > 0);
}

#[tokio::test]
async fn a_cut_after_the_streams_own_end_is_still_a_cut_for_the_client_but_the_figures_are_the_providers()
 {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    for stream in STREAMS {
        let mut client = tollgate.connect().await;
        client.send(ask(stream)).await;
        let (mut provider, _, _) = upstream.request().await;
        provider.send(stream_head(stream.content_type)).await;
        let head = client.head().await;
        let whole: String = stream.events.concat();
        provider.send_chunk(&whole).await;
        assert_eq!(client.body_bytes(whole.len()).await, whole.as_bytes());
        drop(provider);
        assert!(!client.body().await.whole);
        let record = tollgate.record_of_cut(&head).await;
        assert_eq!(
            (record.usage.input, record.usage.output),
            (stream.input, stream.output),
            "{}",
            stream.path
        );
    }
}

#[tokio::test]
async fn an_answer_whose_chunks_are_broken_is_a_cut() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let stream = &STREAMS[0];
    let mut client = tollgate.connect().await;
    client.send(ask(stream)).await;
    let (mut provider, _, _) = upstream.request().await;
    provider.send(stream_head(stream.content_type)).await;
    let head = client.head().await;
    provider.send_chunk(stream.events[0]).await;
    client.body_bytes(stream.events[0].len()).await;
    provider.send("this is no size\r\n").await;
    assert!(!client.body().await.whole);
    let record = tollgate.record_of_cut(&head).await;
    assert_eq!(record.outcome, Outcome::UpstreamCut);
}

#[tokio::test]
async fn an_error_event_in_a_stream_passes_and_is_booked_as_a_stream_error() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let stream = &STREAMS[0];
    let error = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    let mut answer = stream_head(SSE).into_bytes();
    answer.extend(chunk(stream.events[0]));
    answer.extend(chunk(error));
    answer.extend_from_slice(LAST_CHUNK);
    let seen = exchange(&tollgate, &upstream, ask(stream), answer).await;
    assert_eq!(seen.body.text(), format!("{}{error}", stream.events[0]));
    let record = tollgate.record(&seen.head).await;
    assert_eq!(record.outcome, Outcome::StreamError);
    assert_eq!(record.error.as_deref(), Some("overloaded_error"));
}
