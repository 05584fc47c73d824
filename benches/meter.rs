//! What reading usage costs for each streamed event: `cargo bench --bench meter`.
//!
//! Prints nanoseconds per event, the best of several rounds, for events that come one in a chunk and many in one.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tollgate::llm::hide_usage::HideUsage;
use tollgate::llm::meter::{Coding, Framing, Meter};
use tollgate::llm::wire::Endpoint;

const CHAT: &str = "data: {\"id\":\"chatcmpl-CUvV7dNmJcX0b3yQm8h1kP2zT4wRs\",\"object\":\"chat.completion.chunk\",\"created\":1795000001,\"model\":\"gpt-5.6\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_1a2b3c4d5e\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\\n\"},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null,\"obfuscation\":\"x1y2\"}\n\n";
const ANTHROPIC: &str = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" a few words\\n\"}}\n\n";
const RESPONSES: &str = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":4,\"item_id\":\"msg_0123456789abcdef\",\"output_index\":0,\"content_index\":0,\"delta\":\" word\",\"logprobs\":[],\"obfuscation\":\"ab\"}\n\n";
const GEMINI: &str = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\" a few words\"}],\"role\":\"model\"},\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":30,\"candidatesTokenCount\":2,\"thoughtsTokenCount\":40,\"totalTokenCount\":72,\"promptTokensDetails\":[{\"modality\":\"TEXT\",\"tokenCount\":30}]},\"modelVersion\":\"gemini-3-flash\",\"responseId\":\"abc\"}\r\n\r\n";
const OLLAMA: &str = "{\"model\":\"qwen3:8b\",\"created_at\":\"2026-11-21T12:00:00.123456Z\",\"message\":{\"role\":\"assistant\",\"content\":\" word\"},\"done\":false}\n";

const EVENTS: usize = 20_000;
const ROUNDS: usize = 15;

/// The best time of several rounds, in nanoseconds per event.
fn best(mut round: impl FnMut() -> Duration) -> f64 {
    let best = (0..ROUNDS).map(|_| round()).min().unwrap_or_default();
    best.as_nanos() as f64 / EVENTS as f64
}

fn main() {
    println!(
        "{:<34}{:>8}{:>14}{:>14}",
        "event", "bytes", "one a chunk", "64 a chunk"
    );
    for (name, endpoint, framing, event) in [
        (
            "openai chat delta",
            Endpoint::ChatCompletions,
            Framing::Sse,
            CHAT,
        ),
        (
            "anthropic content_block_delta",
            Endpoint::Messages,
            Framing::Sse,
            ANTHROPIC,
        ),
        (
            "openai responses text delta",
            Endpoint::Responses,
            Framing::Sse,
            RESPONSES,
        ),
        (
            "gemini chunk with usage",
            Endpoint::GenerateContent,
            Framing::Sse,
            GEMINI,
        ),
        (
            "ollama chat line",
            Endpoint::OllamaChat,
            Framing::JsonLines,
            OLLAMA,
        ),
    ] {
        let feed = |chunk: &str, chunks: usize| {
            best(|| {
                let mut meter = Meter::new(endpoint, framing, Coding::Identity);
                let start = Instant::now();
                for _ in 0..chunks {
                    black_box(meter.feed(black_box(chunk.as_bytes())));
                }
                let time = start.elapsed();
                assert!(
                    meter.reading().output_bytes > 0 && !meter.reading().unreadable,
                    "{name}"
                );
                time
            })
        };
        let one = feed(event, EVENTS);
        let many = feed(&event.repeat(64), EVENTS / 64);
        println!("{name:<34}{:>8}{one:>11.0} ns{many:>11.0} ns", event.len());
    }

    let filter = |chunk: &'static [u8], chunks: usize| {
        best(|| {
            let mut hide = HideUsage::new();
            let start = Instant::now();
            for _ in 0..chunks {
                black_box(hide.push(black_box(Bytes::from_static(chunk))));
            }
            start.elapsed()
        })
    };
    let many: &'static [u8] = Vec::leak(CHAT.repeat(64).into_bytes());
    let (one, many) = (filter(CHAT.as_bytes(), EVENTS), filter(many, EVENTS / 64));
    println!(
        "{:<34}{:>8}{one:>11.0} ns{many:>11.0} ns",
        "usage hidden in openai chat",
        CHAT.len()
    );

    let embedding = format!(
        "{{\"data\":[{{\"embedding\":[{}1]}}],\"model\":\"e\",\"usage\":{{\"prompt_tokens\":8}}}}",
        "-0.0123456,".repeat(500_000)
    );
    let start = Instant::now();
    let mut meter = Meter::new(Endpoint::Embeddings, Framing::Json, Coding::Identity);
    for chunk in embedding.as_bytes().chunks(16 << 10) {
        meter.feed(black_box(chunk));
    }
    assert!(meter.reading().usage.is_some());
    let rate = embedding.len() as f64 / start.elapsed().as_secs_f64() / 1e6;
    println!("large embedding answer: {rate:.0} MB/s");
}
