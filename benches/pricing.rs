//! Measures the price catalogue: time to load it, memory it keeps, and time to resolve a name and price a request.
//!
//! `cargo bench --bench pricing` prints one line for each. Memory is the growth of the process's resident anonymous
//! pages, so it is known on Linux only.

#![allow(clippy::print_stdout, reason = "its whole purpose is to print")]

use std::hint::black_box;
use std::time::Instant;

use tollgate::llm::catalogue::Catalogue;
use tollgate::llm::pricing::{Terms, price};
use tollgate::llm::usage::Usage;

const REPEATS: u32 = 1_000_000;

fn main() {
    let before = anonymous_kib();
    let start = Instant::now();
    let catalogue = Catalogue::builtin();
    let first = start.elapsed();
    let kept = anonymous_kib()
        .zip(before)
        .map(|(after, before)| after.saturating_sub(before));
    println!("load, first    {:8.2} ms", first.as_secs_f64() * 1e3);
    let best = (0..10)
        .map(|_| {
            let start = Instant::now();
            black_box(Catalogue::builtin());
            start.elapsed()
        })
        .min()
        .unwrap_or(first);
    println!("load, best     {:8.2} ms", best.as_secs_f64() * 1e3);
    if let Some(kib) = kept {
        println!("resident       {kib:8} KiB");
    }
    let usage = Usage {
        input: 1_200,
        cached_read: 1_000,
        output: 300,
        ..Usage::default()
    };
    for (name, provider, model) in [
        ("exact name", "anthropic", "claude-opus-5-5"),
        ("dated name", "anthropic", "claude-opus-5-5-20261111"),
        ("no provider", "", "gpt-5"),
        ("off-peak", "deepseek", "deepseek-v4-pro"),
        ("unknown", "openai", "gpt-unheard-of"),
    ] {
        let terms = Terms {
            provider,
            model,
            at_unix_ms: 1_795_262_400_000,
            ..Terms::default()
        };
        let start = Instant::now();
        for _ in 0..REPEATS {
            let _ = black_box(price(&catalogue, black_box(&terms), black_box(&usage)).cost);
        }
        let each = start.elapsed() / REPEATS;
        println!("{name:14} {:8} ns", each.as_nanos());
    }
}

fn anonymous_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}
