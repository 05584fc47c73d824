//! What the meter makes of answers that the recorded samples do not show: breaks, sizes, damage, rarer fields.

use proptest::prelude::*;
use tollgate::llm::meter::{Coding, Framing, Meter, Progress};
use tollgate::llm::reading::Reading;
use tollgate::llm::usage::Usage;
use tollgate::llm::wire::Endpoint;

/// Reads a body that breaks off at its end.
fn broken_off(endpoint: Endpoint, framing: Framing, body: &str) -> Reading {
    let mut meter = Meter::new(endpoint, framing, Coding::Identity);
    meter.feed(body.as_bytes());
    meter.reading().clone()
}

/// Reads a body to its clean end.
fn read(endpoint: Endpoint, framing: Framing, body: &str) -> Reading {
    let mut meter = Meter::new(endpoint, framing, Coding::Identity);
    meter.feed(body.as_bytes());
    meter.finish();
    meter.reading().clone()
}

fn events(data: &[&str]) -> String {
    data.iter()
        .map(|data| format!("data: {data}\n\n"))
        .collect()
}

/// A chat chunk with this usage beside a finished choice.
fn chat(usage: &str) -> String {
    format!(
        r#"{{"model":"m","choices":[{{"message":{{"content":"x"}},"finish_reason":"stop"}}],"usage":{usage}}}"#
    )
}

#[test]
fn an_answer_that_breaks_off_has_what_came_so_far_and_is_not_complete() {
    let start = r#"{"type":"message_start","message":{"model":"m","usage":{"input_tokens":7,"output_tokens":1}}}"#;
    let text = r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"h\u00e9\n"}}"#;
    let reading = broken_off(Endpoint::Messages, Framing::Sse, &events(&[start, text]));
    let usage = reading.usage.expect("the start has figures");
    assert_eq!((usage.input, usage.output), (7, 1));
    assert_eq!(reading.output_bytes, 4);
    assert!(!reading.complete && !reading.unreadable);

    let reading = read(Endpoint::Messages, Framing::Sse, &events(&[start, text]));
    assert!(
        !reading.complete,
        "a clean end in mid-message is no end of the message"
    );

    let half = broken_off(
        Endpoint::ChatCompletions,
        Framing::Json,
        r#"{"model":"m","choices":["#,
    );
    assert_eq!(half, Reading::default());
    let half = read(
        Endpoint::ChatCompletions,
        Framing::Json,
        r#"{"model":"m","choices":["#,
    );
    assert!(half.unreadable && !half.complete);
}

#[test]
fn later_figures_replace_earlier_ones_and_null_replaces_nothing() {
    let body = events(&[
        r#"{"type":"message_start","message":{"model":"m","usage":{"input_tokens":7,"cache_creation_input_tokens":10,
            "cache_creation":{"ephemeral_5m_input_tokens":4,"ephemeral_1h_input_tokens":6},"output_tokens":1,
            "service_tier":"priority","speed":"fast","inference_geo":"us"}}}"#
            .replace('\n', " ")
            .as_str(),
        r#"{"type":"message_delta","delta":{"stop_reason":null},"usage":{"input_tokens":null,"output_tokens":5}}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":9,"speed":null}}"#,
    ]);
    let reading = read(Endpoint::Messages, Framing::Sse, &body);
    let usage = reading.usage.expect("stated");
    assert_eq!(
        (
            usage.input,
            usage.cache_write,
            usage.cache_write_1h,
            usage.output
        ),
        (17, 10, 6, 9)
    );
    assert_eq!(reading.service_tier.as_deref(), Some("priority"));
    assert_eq!(reading.speed.as_deref(), Some("fast"));
    assert_eq!(reading.region.as_deref(), Some("us"));
    assert!(reading.complete, "a stop reason and a clean end");
}

#[test]
fn iterations_besides_the_message_are_side_work_and_are_not_repeated() {
    let usage = r#"{"input_tokens":5,"output_tokens":2,"iterations":[
        {"type":"compaction","input_tokens":100,"output_tokens":10},
        {"type":"advisor_message","model":"advisor","input_tokens":50,"output_tokens":5},
        {"type":"fallback_message","model":"fallback","input_tokens":5,"output_tokens":2}]}"#
        .replace('\n', " ");
    let body = events(&[
        r#"{"type":"message_start","message":{"model":"m","usage":{"input_tokens":5,"output_tokens":1}}}"#,
        &format!(r#"{{"type":"message_delta","delta":{{}},"usage":{usage}}}"#),
        &format!(r#"{{"type":"message_delta","delta":{{}},"usage":{usage}}}"#),
        r#"{"type":"message_stop"}"#,
    ]);
    let reading = read(Endpoint::Messages, Framing::Sse, &body);
    assert_eq!(
        reading.model.as_deref(),
        Some("fallback"),
        "the model that served"
    );
    let side: Vec<_> = reading
        .side
        .iter()
        .map(|side| (side.model.as_deref(), side.usage.input))
        .collect();
    assert_eq!(side, [(None, 100), (Some("advisor"), 50)]);
    assert_eq!(
        reading.total().map(|total| (total.input, total.output)),
        Some((155, 17))
    );
}

#[test]
fn each_succeeded_line_of_a_batch_is_side_work_at_the_batch_tier() {
    let line = r#"{"custom_id":"a","result":{"type":"succeeded","message":{"model":"m","usage":{"input_tokens":3,"output_tokens":4}}}}"#;
    for framing in [Framing::JsonLines, Framing::Opaque] {
        let reading = read(
            Endpoint::BatchResults,
            framing,
            &format!("{line}\n\n{line}"),
        );
        assert_eq!(reading.side.len(), 2);
        assert_eq!(reading.side[1].service_tier.as_deref(), Some("batch"));
        assert_eq!(reading.side[1].model.as_deref(), Some("m"));
        assert!(reading.usage.is_none() && reading.complete);
    }
}

#[test]
fn images_and_audio_are_told_from_text() {
    let images = r#"{"data":[],"usage":{"input_tokens":50,"input_tokens_details":{"text_tokens":10,"image_tokens":40},"output_tokens":4160}}"#;
    let usage = read(Endpoint::Images, Framing::Json, images)
        .usage
        .expect("stated");
    assert_eq!(
        (usage.image_in, usage.image_out),
        (40, 4160),
        "an image answer's output is images"
    );

    let speech = chat(
        r#"{"prompt_tokens":9,"completion_tokens":8,"prompt_tokens_details":{"audio_tokens":5},"completion_tokens_details":{"audio_tokens":6}}"#,
    );
    let usage = read(Endpoint::ChatCompletions, Framing::Json, &speech)
        .usage
        .expect("stated");
    assert_eq!((usage.audio_in, usage.audio_out), (5, 6));

    let transcript = r#"{"text":"hello","usage":{"type":"tokens","input_tokens":14,"input_token_details":{"audio_tokens":14},"output_tokens":3}}"#;
    let reading = read(Endpoint::Audio, Framing::Json, transcript);
    assert_eq!(
        reading
            .usage
            .map(|usage| (usage.input, usage.audio_in, usage.output)),
        Some((14, 14, 3))
    );
    assert_eq!(reading.output_bytes, 5);

    let done = r#"{"type":"transcript.text.done","text":"hello","usage":{"type":"tokens","input_tokens":14,"output_tokens":3}}"#;
    assert!(read(Endpoint::Audio, Framing::Sse, &events(&[done])).complete);
    let spoken = read(Endpoint::Audio, Framing::Opaque, "ID3");
    assert!(
        spoken.complete && !spoken.unreadable && spoken.usage.is_none(),
        "speech itself states nothing"
    );
}

#[test]
fn web_searches_of_a_response_are_counted_from_its_items() {
    let item =
        r#"{"type":"response.output_item.done","item":{"type":"web_search_call","id":"ws"}}"#;
    let body = |output: &str| {
        events(&[
            item,
            item,
            &format!(
                r#"{{"type":"response.completed","response":{{"id":"resp_1","status":"completed","output":[{output}],"usage":{{"input_tokens":1,"output_tokens":2}}}}}}"#
            ),
        ])
    };
    for output in [
        "",
        r#"{"type":"web_search_call"},{"type":"message"},{"type":"web_search_call"}"#,
    ] {
        let reading = read(Endpoint::Responses, Framing::Sse, &body(output));
        assert_eq!(
            reading.usage.map(|usage| usage.web_searches),
            Some(2),
            "{output}"
        );
        assert_eq!(reading.answer_id.as_deref(), Some("resp_1"));
    }
}

#[test]
fn background_work_stays_pending_until_its_figures_come() {
    let created = r#"{"type":"response.created","response":{"id":"resp_1","status":"queued","background":true,"model":"m"}}"#;
    let reading = broken_off(Endpoint::Responses, Framing::Sse, &events(&[created]));
    assert!(reading.pending && reading.background && !reading.complete);

    let foreground = created.replace("true", "false");
    let reading = broken_off(Endpoint::Responses, Framing::Sse, &events(&[&foreground]));
    assert!(
        !reading.pending,
        "a stream that breaks off ends foreground work"
    );

    let fetched = r#"{"id":"resp_1","object":"response","status":"completed","background":true,"service_tier":"flex",
        "output":[{"type":"message","content":[{"type":"output_text","text":"12345"}]}],
        "usage":{"input_tokens":5,"input_tokens_details":{"cached_tokens":0,"cache_write_tokens":4,"cache_write_tokens_details":{"ttl_12h_tokens":3}},"output_tokens":6}}"#;
    let reading = read(Endpoint::ResponseFetch, Framing::Json, fetched);
    assert!(!reading.pending && reading.background && reading.complete);
    assert_eq!(reading.usage.map(|usage| usage.cache_write_12h), Some(3));
    assert_eq!(reading.output_bytes, 5);
    assert_eq!(reading.service_tier.as_deref(), Some("flex"));
}

#[test]
fn gemini_thoughts_are_added_unless_the_total_has_them_among_the_candidates() {
    let output = |total: u64| {
        let body = format!(
            r#"{{"candidates":[{{"finishReason":"STOP"}}],"usageMetadata":{{"promptTokenCount":10,"candidatesTokenCount":50,"thoughtsTokenCount":40,"totalTokenCount":{total}}}}}"#
        );
        read(Endpoint::GenerateContent, Framing::Json, &body)
            .usage
            .map(|usage| (usage.output, usage.reasoning))
    };
    assert_eq!(output(100), Some((90, 40)));
    assert_eq!(output(60), Some((50, 40)));
}

#[test]
fn gemini_modalities_and_searches_are_counted_once() {
    let chunk = |queries: &str, finish: &str| {
        format!(
            r#"{{"candidates":[{{"index":0,"content":{{"parts":[{{"text":"ab"}}]}},{finish}"groundingMetadata":{{"webSearchQueries":[{queries}]}}}}],
            "usageMetadata":{{"promptTokenCount":100,"candidatesTokenCount":20,"toolUsePromptTokenCount":10,"totalTokenCount":130,"cachedContentTokenCount":30,
            "promptTokensDetails":[{{"modality":"AUDIO","tokenCount":40}},{{"modality":"IMAGE","tokenCount":20}},{{"modality":"VIDEO","tokenCount":5}},{{"modality":"TEXT","tokenCount":35}}],
            "cacheTokensDetails":[{{"modality":"AUDIO","tokenCount":8}},{{"modality":"IMAGE","tokenCount":6}}],
            "candidatesTokensDetails":[{{"modality":"IMAGE","tokenCount":15}}],
            "toolUsePromptTokensDetails":[{{"modality":"IMAGE","tokenCount":3}}]}}}}"#
        )
        .replace('\n', " ")
    };
    let body = events(&[
        &chunk(r#""a""#, ""),
        &chunk(r#""a","b""#, r#""finishReason":"STOP","#),
    ]);
    let reading = read(Endpoint::GenerateContent, Framing::Sse, &body);
    let expected = Usage {
        input: 110,
        cached_read: 30,
        output: 20,
        audio_in: 40,
        audio_cached: 8,
        image_in: 23,
        image_cached: 6,
        image_out: 15,
        video_in: 5,
        web_searches: 2,
        ..Usage::default()
    };
    assert_eq!(reading.usage, Some(expected));
    assert_eq!(reading.output_bytes, 4);
    assert!(reading.complete);
}

#[test]
fn gemini_errors_in_a_stream_are_seen_in_every_dress() {
    let good = r#"{"candidates":[{"content":{"parts":[{"text":"a"}]}}],"usageMetadata":{"promptTokenCount":3,"totalTokenCount":3}}"#;
    let error = "{\n  \"error\": {\n    \"code\": 503,\n    \"message\": \"no\",\n    \"status\": \"UNAVAILABLE\"\n  }\n}";
    for (framing, body) in [
        (
            Framing::Sse,
            format!(
                "data: {good}\r\n\r\ndata: {}\r\n\r\n",
                error.replace('\n', "")
            ),
        ),
        (Framing::Sse, format!("data: {good}\r\n\r\n{error}\r\n")),
        (Framing::Sse, format!("data: {good}\r\n\r\n[{error}]\r\n")),
        (Framing::Json, format!("[{good}\n,\r\n{error}]")),
    ] {
        let reading = read(Endpoint::GenerateContent, framing, &body);
        let named = reading.error.expect("an error");
        assert_eq!(
            (named.kind.as_deref(), named.code.as_deref()),
            (Some("UNAVAILABLE"), Some("503"))
        );
        assert_eq!(reading.usage.map(|usage| usage.input), Some(3));
        assert!(!reading.complete, "{body}");
    }
}

#[test]
fn code_assist_answers_are_unwrapped() {
    let body = events(&[
        r#"{"response":{"candidates":[{"finishReason":"STOP"}],"modelVersion":"g","usageMetadata":{"promptTokenCount":4,"candidatesTokenCount":1,"totalTokenCount":5}},"traceId":"t"}"#,
    ]);
    let reading = read(Endpoint::GenerateContent, Framing::Sse, &body);
    assert_eq!(reading.usage.map(|usage| usage.input), Some(4));
    assert!(reading.complete);
}

#[test]
fn counts_that_ollama_leaves_out_are_zero() {
    let reading = read(
        Endpoint::OllamaChat,
        Framing::JsonLines,
        "{\"model\":\"m\",\"done\":true}\n",
    );
    assert_eq!(reading.usage, Some(Usage::default()));
    assert!(reading.complete);
    let reading = read(
        Endpoint::OllamaChat,
        Framing::JsonLines,
        "{\"model\":\"m\",\"done\":false}\n",
    );
    assert_eq!(reading.usage, None);
    let reading = read(
        Endpoint::OllamaEmbed,
        Framing::Json,
        r#"{"model":"m","embeddings":[[1,2]],"prompt_eval_count":8}"#,
    );
    assert_eq!(reading.usage.map(|usage| usage.input), Some(8));
}

#[test]
fn output_is_measured_whatever_it_is() {
    let delta = |delta: &str| format!(r#"{{"choices":[{{"index":0,"delta":{delta}}}]}}"#);
    let body = events(&[
        &delta(r#"{"role":"assistant","content":"12"}"#),
        &delta(r#"{"reasoning":"123","reasoning_content":"123"}"#),
        &delta(r#"{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"{\"a\"}"}}]}"#),
        &delta(r#"{"content":null,"tool_calls":null}"#),
    ]);
    assert_eq!(
        broken_off(Endpoint::ChatCompletions, Framing::Sse, &body).output_bytes,
        2 + 3 + 1 + 5
    );

    let long = "y".repeat(200_000);
    let message = format!(
        r#"{{"type":"message","model":"m","content":[{{"type":"thinking","thinking":"12","signature":"{long}"}},{{"type":"text","text":"{long}"}},
        {{"type":"tool_use","input":{{"file":"{long}"}}}}],"usage":{{"input_tokens":1,"output_tokens":2}}}}"#
    );
    let bytes = read(Endpoint::Messages, Framing::Json, &message).output_bytes;
    assert!((400_002..400_100).contains(&bytes), "{bytes}");
}

#[test]
fn large_answers_are_read_to_their_usage() {
    let numbers = "-0.0123456,".repeat(200_000);
    let embedding = format!(
        r#"{{"data":[{{"embedding":[{numbers}1]}}],"model":"e","usage":{{"prompt_tokens":8,"total_tokens":8}}}}"#
    );
    let reading = read(Endpoint::Embeddings, Framing::Json, &embedding);
    assert_eq!(
        reading.usage.map(|usage| (usage.input, usage.output)),
        Some((8, 0))
    );
    assert!(reading.complete);

    let image = "iVBORw0KGgo".repeat(100_000);
    let event = format!(
        r#"{{"type":"image_generation.completed","b64_json":"{image}","usage":{{"input_tokens":5,"output_tokens":100}}}}"#
    );
    let reading = read(Endpoint::Images, Framing::Sse, &events(&[&event]));
    assert_eq!(reading.usage.map(|usage| usage.image_out), Some(100));

    let line = format!(
        "{{\"model\":\"m\",\"message\":{{\"content\":\"{image}\"}},\"done\":true,\"eval_count\":3}}\n"
    );
    let reading = read(Endpoint::OllamaChat, Framing::JsonLines, &line);
    assert_eq!(reading.usage.map(|usage| usage.output), Some(3));
    assert_eq!(reading.output_bytes, image.len() as u64);
}

#[test]
fn what_cannot_be_read_is_said_to_be_so() {
    for (framing, coding, body) in [
        (Framing::Json, Coding::Identity, "<html>"),
        (Framing::Json, Coding::Gzip, "{}"),
        (Framing::Json, Coding::Unknown, "{}"),
        (Framing::Opaque, Coding::Identity, "{}"),
        (
            Framing::Sse,
            Coding::Identity,
            "data: {\"usage\":{\"prompt_tokens\":1,\"prompt_tokens\":2}}\n\n",
        ),
        (
            Framing::Json,
            Coding::Identity,
            "{\"usage\":{\"prompt_tokens\":1},\"usage\":null}",
        ),
    ] {
        let mut meter = Meter::new(Endpoint::ChatCompletions, framing, coding);
        assert_eq!(meter.feed(body.as_bytes()), Progress::Running);
        meter.finish();
        let reading = meter.reading();
        assert!(
            reading.unreadable && !reading.complete,
            "{framing:?} {coding:?} {body}: {reading:?}"
        );
        assert_eq!(reading.usage, None);
    }
}

#[test]
fn final_figures_make_up_for_a_broken_event_before_them() {
    let body = events(&[
        "{\"choices\":[",
        r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#,
        "[DONE]",
    ]);
    let reading = read(Endpoint::ChatCompletions, Framing::Sse, &body);
    assert!(reading.complete && !reading.unreadable, "{reading:?}");
}

#[test]
fn endpoints_that_are_not_metered_are_left_alone() {
    let reading = read(
        Endpoint::Other,
        Framing::Json,
        r#"{"usage":{"input_tokens":5}}"#,
    );
    assert_eq!(
        reading,
        Reading {
            complete: true,
            ..Reading::default()
        }
    );
    let reading = read(
        Endpoint::CountTokens,
        Framing::Json,
        r#"{"error":{"type":"not_found_error"}}"#,
    );
    assert_eq!(
        reading.error.and_then(|error| error.kind).as_deref(),
        Some("not_found_error")
    );
}

#[test]
fn an_error_is_named_and_its_message_is_nowhere() {
    for body in [
        r#"{"error":{"message":"SECRET prompt","type":"SECRET prompt","code":"SECRET prompt"}}"#,
        r#"{"error":"SECRET prompt"}"#,
        r#"{"object":"error","message":"SECRET prompt","type":"BadRequestError","code":400}"#,
        r#"{"type":"error","error":{"type":"x","message":"SECRET","details":{"error_code":"SECRET prompt"}}}"#,
    ] {
        let endpoint = if body.contains("\"details\"") {
            Endpoint::Messages
        } else {
            Endpoint::ChatCompletions
        };
        let reading = read(endpoint, Framing::Json, body);
        assert!(reading.error.is_some(), "{body}");
        assert!(!format!("{reading:?}").contains("SECRET"), "{reading:?}");
    }
}

#[test]
fn content_types_tell_how_a_body_is_framed() {
    for (value, framing) in [
        ("application/json", Framing::Json),
        ("Application/JSON; charset=UTF-8", Framing::Json),
        ("application/problem+json", Framing::Json),
        ("text/event-stream;charset=utf-8", Framing::Sse),
        ("application/x-ndjson", Framing::JsonLines),
        ("application/x-jsonl", Framing::JsonLines),
        ("application/jsonl", Framing::JsonLines),
        ("application/jsonlines", Framing::JsonLines),
        ("audio/mpeg", Framing::Opaque),
        ("", Framing::Opaque),
    ] {
        let mut headers = http::HeaderMap::new();
        headers.insert("content-type", http::HeaderValue::from_static(value));
        assert_eq!(Framing::of(&headers), framing, "{value}");
    }
    assert_eq!(Framing::of(&http::HeaderMap::new()), Framing::Opaque);
}

#[test]
fn a_meter_can_move_between_threads_and_is_small() {
    fn movable<T: Send>() {}
    movable::<Meter>();
    assert!(
        size_of::<Meter>() < 2048,
        "{} bytes for each open stream",
        size_of::<Meter>()
    );
}

const ENDPOINTS: [Endpoint; 17] = [
    Endpoint::Messages,
    Endpoint::CountTokens,
    Endpoint::BatchResults,
    Endpoint::ChatCompletions,
    Endpoint::Responses,
    Endpoint::ResponseFetch,
    Endpoint::Completions,
    Endpoint::Embeddings,
    Endpoint::Images,
    Endpoint::Audio,
    Endpoint::GenerateContent,
    Endpoint::GeminiCountTokens,
    Endpoint::EmbedContent,
    Endpoint::OllamaChat,
    Endpoint::OllamaGenerate,
    Endpoint::OllamaEmbed,
    Endpoint::Other,
];

const FRAMINGS: [Framing; 4] = [
    Framing::Json,
    Framing::Sse,
    Framing::JsonLines,
    Framing::Opaque,
];

const CODINGS: [Coding; 5] = [
    Coding::Identity,
    Coding::Gzip,
    Coding::Deflate,
    Coding::Brotli,
    Coding::Zstd,
];

/// Pieces of answers, whole and damaged, in any order.
fn rubble() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "data: ", "data:", "\n\n", "\r\n", "\r", "\n", "event: error\n", ": comment\n", "[DONE]", "[", "]", ",", "{", "}",
            "{\"type\":\"message_start\",\"message\":{\"model\":\"m\",\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}",
            "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"x\"},\"usage\":{\"output_tokens\":7}}",
            "{\"type\":\"message_stop\"}",
            "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}",
            "{\"choices\":[{\"delta\":{\"content\":\"\\u00e9\"},\"finish_reason\":\"stop\"}],\"usage\":null}",
            "{\"choices\":[],\"usage\":{\"prompt_tokens\":18446744073709551615,\"completion_tokens\":3,\"cost\":1e-3}}",
            "{\"type\":\"response.completed\",\"response\":{\"status\":\"completed\",\"usage\":{\"input_tokens\":1,\"output_tokens\":2}}}",
            "{\"object\":\"response\",\"status\":\"queued\"}",
            "{\"candidates\":[{\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":18446744073709551615,\"thoughtsTokenCount\":2,\"totalTokenCount\":1}}",
            "{\"model\":\"m\",\"done\":true,\"eval_count\":4}",
            "{\"result\":{\"type\":\"succeeded\",\"message\":{\"usage\":{\"input_tokens\":1}}}}",
            "{\"text\":\"\\u000018446744073709551615\",\"choices\":7,\"usage\":[1,2,3],\"message\":[]}",
            "\"usage\":", "\\", "\"",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..8),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_upset_the_meter_and_no_cut_changes_its_reading(
        body in rubble(),
        cuts in prop::collection::vec(0..400_usize, 0..6),
        endpoint in prop::sample::select(&ENDPOINTS[..]),
        framing in prop::sample::select(&FRAMINGS[..]),
        coding in prop::sample::select(&CODINGS[..]),
    ) {
        // Most bodies are plain; random bytes hardly ever get past a decoder.
        let coding = if cuts.len() < 5 { Coding::Identity } else { coding };
        let mut whole = Meter::new(endpoint, framing, coding);
        whole.feed(&body);
        let mut pieces = Meter::new(endpoint, framing, coding);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(body.len())).collect();
        cuts.sort_unstable();
        cuts.push(body.len());
        let mut at = 0;
        for cut in cuts {
            pieces.feed(&body[at..cut]);
            at = cut;
        }
        if coding == Coding::Identity {
            prop_assert_eq!(whole.feed(b""), pieces.feed(b""));
            prop_assert_eq!(whole.reading(), pieces.reading());
            whole.finish();
            pieces.finish();
            prop_assert_eq!(whole.reading(), pieces.reading());
        }
    }
}
