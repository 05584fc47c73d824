//! Every recorded answer gives exactly the usage that its index states, however it is cut and compressed.

#![expect(
    clippy::unwrap_used,
    reason = "a sample that cannot be read fails the test"
)]

use std::io::Write;
use std::path::{Path, PathBuf};

use http::HeaderMap;
use serde_json::Value;
use tollgate::llm::meter::{Coding, Framing, Meter, Progress};
use tollgate::llm::reading::Reading;
use tollgate::llm::usage::Usage;
use tollgate::llm::wire::Endpoint;

/// One entry of the index with its body.
struct Sample {
    name: String,
    body: Vec<u8>,
    endpoint: Endpoint,
    framing: Framing,
    expected: Value,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/wire")
}

/// The samples that the meter reads; Bedrock's own framing is not among them.
fn samples() -> Vec<Sample> {
    let index: Value =
        serde_json::from_slice(&std::fs::read(folder().join("index.json")).unwrap()).unwrap();
    let samples: Vec<Sample> = index["samples"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| !entry["wire"].as_str().unwrap().starts_with("bedrock"))
        .map(|entry| {
            let name = entry["file"].as_str().unwrap().to_owned();
            let mut headers = HeaderMap::new();
            let content_type = entry["headers"]["content-type"].as_str().unwrap();
            headers.insert("content-type", content_type.parse().unwrap());
            Sample {
                body: std::fs::read(folder().join(&name)).unwrap(),
                endpoint: endpoint(
                    entry["wire"].as_str().unwrap(),
                    entry["path"].as_str().unwrap(),
                ),
                framing: Framing::of(&headers),
                expected: entry["expected"].clone(),
                name,
            }
        })
        .collect();
    assert!(
        samples.len() > 50,
        "the index lists {} samples",
        samples.len()
    );
    samples
}

fn endpoint(wire: &str, path: &str) -> Endpoint {
    match wire {
        "anthropic-messages" => Endpoint::Messages,
        "anthropic-count-tokens" => Endpoint::CountTokens,
        "anthropic-batch-results" => Endpoint::BatchResults,
        "openai-chat" => Endpoint::ChatCompletions,
        "openai-responses" => Endpoint::Responses,
        "openai-completions" => Endpoint::Completions,
        "openai-embeddings" => Endpoint::Embeddings,
        "openai-images" => Endpoint::Images,
        "openai-audio" => Endpoint::Audio,
        "gemini" => Endpoint::GenerateContent,
        "gemini-count-tokens" => Endpoint::GeminiCountTokens,
        "ollama" if path == "/api/generate" => Endpoint::OllamaGenerate,
        "ollama" => Endpoint::OllamaChat,
        other => panic!("unknown wire format {other}"),
    }
}

/// Reads a body given in pieces, to its end.
fn read<'a>(
    sample: &Sample,
    coding: Coding,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Reading {
    let mut meter = Meter::new(sample.endpoint, sample.framing, coding);
    for piece in pieces {
        meter.feed(piece);
    }
    meter.finish();
    meter.reading().clone()
}

#[test]
fn every_sample_gives_the_usage_of_the_index() {
    for sample in samples() {
        let name = &sample.name;
        let reading = read(&sample, Coding::Identity, [&sample.body[..]]);
        let expected = &sample.expected;

        let total = reading.total();
        let top = if name.contains("batch-results") {
            total
        } else {
            reading.usage
        };
        assert_eq!(
            expected["usage"].is_null(),
            top.is_none(),
            "{name}: {reading:?}"
        );
        if let Some(usage) = top {
            assert_usage(name, &expected["usage"], &usage);
            let side = &expected["usage"]["with_side_iterations"];
            if side.is_object() {
                assert_usage(name, side, &total.unwrap());
            } else {
                assert_eq!(total, Some(usage), "{name}: no side work");
            }
        }
        let cost = expected["usage"]
            .get("cost")
            .map(|cost| cost.to_string().parse().unwrap());
        assert_eq!(reading.stated_cost, cost, "{name}");

        let complete = expected["usage_complete"].as_bool().unwrap_or(true);
        assert_eq!(reading.complete, complete, "{name}: {reading:?}");
        let model = expected.get("model").and_then(Value::as_str);
        assert_eq!(reading.model.as_deref(), model, "{name}");

        let outcome = expected["outcome"].as_str().unwrap();
        assert_eq!(reading.pending, outcome == "pending", "{name}");
        assert_eq!(reading.error.is_some(), outcome.contains("error"), "{name}");
        if let Some(error) = &reading.error {
            for (key, found) in [("type", &error.kind), ("code", &error.code)] {
                let text = match &expected["error"][key] {
                    Value::Null => continue,
                    Value::String(text) => text.clone(),
                    number => number.to_string(),
                };
                assert_eq!(found.as_deref(), Some(&*text), "{name}: error {key}");
            }
        }
        assert!(!reading.unreadable, "{name}: {reading:?}");
    }
}

/// Compares every figure that the index can state; what it leaves out is zero.
fn assert_usage(name: &str, expected: &Value, usage: &Usage) {
    let figures = [
        ("input", usage.input),
        ("cached_read", usage.cached_read),
        ("cache_write", usage.cache_write),
        ("output", usage.output),
        ("reasoning", usage.reasoning),
        ("cache_write_1h", usage.cache_write_1h),
        ("web_search_requests", usage.web_searches),
    ];
    for (key, found) in figures {
        assert_eq!(expected[key].as_u64().unwrap_or(0), found, "{name}: {key}");
    }
    if let Some(five_minutes) = expected["cache_write_5m"].as_u64() {
        let rest = usage.cache_write - usage.cache_write_1h - usage.cache_write_12h;
        assert_eq!(five_minutes, rest, "{name}: cache_write_5m");
    }
    assert_eq!(
        usage.cache_write_12h, 0,
        "{name}: no sample has 12 hour writes"
    );
}

#[test]
fn a_body_cut_at_any_byte_gives_the_same_reading() {
    for sample in samples() {
        let whole = read(&sample, Coding::Identity, [&sample.body[..]]);
        for cut in 0..=sample.body.len() {
            let (head, tail) = sample.body.split_at(cut);
            let reading = read(&sample, Coding::Identity, [head, tail]);
            assert_eq!(reading, whole, "{} cut at {cut}", sample.name);
        }
        let reading = read(&sample, Coding::Identity, sample.body.chunks(1));
        assert_eq!(reading, whole, "{} byte by byte", sample.name);
    }
}

#[test]
fn a_compressed_body_gives_the_same_reading() {
    for sample in samples() {
        let whole = read(&sample, Coding::Identity, [&sample.body[..]]);
        for (coding, packed) in compressed(&sample.body) {
            let reading = read(&sample, coding, [&packed[..]]);
            assert_eq!(reading, whole, "{} {coding:?}", sample.name);
            let reading = read(&sample, coding, packed.chunks(1));
            assert_eq!(reading, whole, "{} {coding:?} byte by byte", sample.name);
            for cut in (0..packed.len()).step_by(29) {
                let (head, tail) = packed.split_at(cut);
                let reading = read(&sample, coding, [head, tail]);
                assert_eq!(reading, whole, "{} {coding:?} cut at {cut}", sample.name);
            }
        }
    }
}

/// The body in every coding that answers come in, deflate in both its readings.
fn compressed(body: &[u8]) -> Vec<(Coding, Vec<u8>)> {
    let level = flate2::Compression::default();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), level);
    gzip.write_all(body).unwrap();
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), level);
    zlib.write_all(body).unwrap();
    let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), level);
    deflate.write_all(body).unwrap();
    vec![
        (Coding::Gzip, gzip.finish().unwrap()),
        (Coding::Deflate, zlib.finish().unwrap()),
        (Coding::Deflate, deflate.finish().unwrap()),
        (Coding::Brotli, brotli_stored(body)),
        (Coding::Zstd, zstd::encode_all(body, 3).unwrap()),
    ]
}

/// A Brotli stream of uncompressed meta-blocks (RFC 7932 section 9.2); really compressed data is tested beside the
/// decoder.
fn brotli_stored(body: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    let mut first = true;
    for block in body.chunks(1 << 16) {
        // ISLAST 0, MNIBBLES 0 (four), MLEN - 1 in 16 bits, ISUNCOMPRESSED 1; before the first the bit 0: a 64 KiB window.
        let header = ((block.len() as u32 - 1) << 3) | (1 << 19);
        let header = if first { header << 1 } else { header };
        stream.extend_from_slice(&header.to_le_bytes()[..3]);
        stream.extend_from_slice(block);
        first = false;
    }
    // ISLAST 1, ISLASTEMPTY 1.
    stream.push(if first { 0b110 } else { 0b11 });
    stream
}

#[test]
fn streams_say_when_their_client_has_everything() {
    for sample in samples() {
        let mut meter = Meter::new(sample.endpoint, sample.framing, Coding::Identity);
        let mut terminal_at = None;
        for (at, byte) in sample.body.iter().enumerate() {
            if meter.feed(&[*byte]) == Progress::Terminal {
                terminal_at.get_or_insert(at + 1);
            }
        }
        let ends_itself = sample.framing != Framing::Json
            && !matches!(
                sample.endpoint,
                Endpoint::GenerateContent | Endpoint::BatchResults
            );
        let expected = ends_itself.then_some(sample.body.len());
        let name = &sample.name;
        // A document ends with its brace, the file with a line end.
        let end = terminal_at.map(|at| {
            at + sample.body[at..]
                .iter()
                .filter(|byte| byte.is_ascii_whitespace())
                .count()
        });
        assert_eq!(end, expected, "{name}");
    }
}

#[test]
fn a_damaged_body_gives_some_reading_and_the_same_for_every_cut() {
    for sample in samples() {
        for at in (0..sample.body.len()).step_by(41) {
            for damage in [b'"', b'{', b']', b'\n', b'9', 0xFF] {
                let mut body = sample.body.clone();
                body[at] = damage;
                let whole = read(&sample, Coding::Identity, [&body[..]]);
                let pieces = read(&sample, Coding::Identity, body.chunks(97));
                assert_eq!(pieces, whole, "{} with {damage:#x} at {at}", sample.name);
            }
        }
    }
}
