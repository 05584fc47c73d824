//! Times the reading of requests: one decision per line, best of several rounds, in nanoseconds.
//!
//! Run with `cargo bench --bench request`.

#![allow(clippy::print_stdout, reason = "a bench prints its table")]

use std::hint::black_box;
use std::time::Instant;

use http::{HeaderMap, HeaderValue};
use tollgate::llm::endpoint::{endpoint_of, mount_of};
use tollgate::llm::request::peek;
use tollgate::llm::splice::ask_for_usage;
use tollgate::llm::wire::Endpoint;
use tollgate::policy::priority::Pattern;
use tollgate::policy::rates::{MAX_SUBJECTS, Rates};
use tollgate::policy::rules::{Applied, BodyFacts, Holder, ModelFacts, Policy, PolicyFacts, check};
use tollgate::policy::session::{BodySession, client_key, identify};
use tollgate::policy::task::{TaskDetector, TaskRules};

const ROUNDS: u32 = 15;

/// Prints the best mean of several rounds, each about as long as a thousandth of a second or longer.
fn time<T>(name: &str, bytes: usize, calls: u32, mut work: impl FnMut() -> T) {
    let best = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..calls {
                black_box(work());
            }
            start.elapsed().as_nanos() as f64 / f64::from(calls)
        })
        .fold(f64::INFINITY, f64::min);
    let rate = bytes as f64 * 1_000.0 / best;
    println!("{name:<44} {best:>10.0} ns  {rate:>8.0} MB/s");
}

/// A chat request of about 1 KiB.
fn chat_body() -> String {
    serde_json::json!({
        "model": "gpt-5.5",
        "stream": true,
        "temperature": 0.2,
        "messages": [
            {"role": "system", "content": "You are a careful assistant.\n".repeat(15)},
            {"role": "user", "content": "Please refactor the login function in this file. ".repeat(9)},
        ],
    })
    .to_string()
}

/// A request like Claude Code's: long system prompt, 24 tools, reminders, a few turns with tool results; 76 KB.
fn agent_body() -> String {
    let tools: Vec<_> = (0..24)
        .map(|n| {
            serde_json::json!({
                "name": format!("Tool{n}"),
                "description": "Reads a file from the local filesystem.\nUsage:\n- The path must be \"absolute\".\n".repeat(15),
                "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}},
            })
        })
        .collect();
    serde_json::json!({
        "model": "claude-opus-4-8",
        "max_tokens": 64_000,
        "stream": true,
        "metadata": {"user_id": format!("{{\"device_id\":\"{}\",\"account_uuid\":\"\",\"session_id\":\"8f6b\"}}", "d".repeat(64))},
        "system": [{"type": "text", "text": "You are an agent. Follow the \"rules\" below.\n\n# Rules\n".repeat(250)}],
        "tools": tools,
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": format!("<system-reminder>\n{}</system-reminder>", "Context: a line of notes.\n".repeat(400))},
                {"type": "text", "text": "Fix the login button styling"},
            ]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "Read", "input": {"path": "/a"}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "    let x = \"y\";\n".repeat(1_000)}]},
        ],
    })
    .to_string()
}

/// A transcription's form with an upload of 8 MiB between its two fields.
fn form_body() -> Vec<u8> {
    let part = |name: &str, content: &[u8]| {
        let head = format!(
            "--0123456789abcdef\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n"
        );
        [head.as_bytes(), content, b"\r\n"].concat()
    };
    // Every byte value, the boundary's first ones too.
    let upload: Vec<u8> = (0..8_u32 << 20)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    [
        part("response_format", b"json"),
        part("file", &upload),
        part("model", b"whisper-1"),
        b"--0123456789abcdef--\r\n".to_vec(),
    ]
    .concat()
}

fn main() {
    let chat = chat_body();
    let agent = agent_body();
    let form = form_body();
    time(
        &format!("peek, chat body of {} bytes", chat.len()),
        chat.len(),
        2_000,
        || peek(Endpoint::ChatCompletions, black_box(chat.as_bytes())).is_ok(),
    );
    time(
        &format!("peek, agent body of {} bytes", agent.len()),
        agent.len(),
        200,
        || peek(Endpoint::Messages, black_box(agent.as_bytes())).is_ok(),
    );
    time("  of that, checking UTF-8", agent.len(), 2_000, || {
        std::str::from_utf8(black_box(agent.as_bytes())).is_ok()
    });
    time(
        "  serde_json skipping it all, to compare",
        agent.len(),
        200,
        || serde_json::from_str::<serde::de::IgnoredAny>(black_box(&agent)).is_ok(),
    );
    time(
        "  serde_json::Value of it, to compare",
        agent.len(),
        200,
        || serde_json::from_str::<serde_json::Value>(black_box(&agent)).is_ok(),
    );
    time(
        &format!("peek, form of {} bytes", form.len()),
        form.len(),
        3,
        || peek(Endpoint::Audio, black_box(&form)).is_ok(),
    );
    let read = peek(Endpoint::ChatCompletions, chat.as_bytes()).expect("a chat body");
    time("ask for usage, chat body", chat.len(), 5_000, || {
        ask_for_usage(black_box(chat.as_bytes()), &read)
    });

    let mut headers = HeaderMap::new();
    for (name, value) in [
        (
            "authorization",
            "Bearer test-0123456789012345678901234567890123456789012345678901234567890123456789",
        ),
        (
            "x-claude-code-session-id",
            "0b5f7c1e-3f63-4c66-9d3a-5b8a3b0f8f6b",
        ),
        ("x-claude-code-agent-id", "a62a16bd16a5d109a"),
        ("user-agent", "claude-cli/2.1.197 (external, sdk-cli)"),
        ("anthropic-version", "2023-06-01"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let path = "/anthropic/v1/messages?beta=true";
    time("mount and endpoint", path.len(), 20_000, || {
        let mount = mount_of(black_box(path), &headers, |name| name == "anthropic");
        mount.map(|mount| mount.map(|mount| endpoint_of(&http::Method::POST, mount.rest).endpoint))
    });
    time("client key", 0, 20_000, || {
        client_key(black_box(&headers), None)
    });
    let key = client_key(&headers, None).map(|key| key.fingerprint.to_string());
    time("session, agent header", 0, 20_000, || {
        identify(
            black_box(&headers),
            None,
            &BodySession::default(),
            key.as_deref(),
        )
    });

    let detector = TaskDetector::new(&TaskRules::default()).expect("the guide's rules");
    let prompt = "Please implement a user authentication function with tests, and add a button to the login form's page.";
    time(
        &format!("task, {} bytes", prompt.len()),
        prompt.len(),
        10_000,
        || detector.detect(black_box(prompt)).simple,
    );
    let report =
        "Please look at the following report and tell me which class of error explains it. "
            .repeat(400);
    let report = &report[..32 * 1024];
    let code =
        "fn main() {\n    let button = Form::new(\"css\");\n    button.click()?;\n}\n".repeat(600);
    let code = format!(
        "Fix the login form:\n```\n{}\n```\nThanks!",
        &code[..32 * 1024]
    );
    let trace = "Why?\n".to_owned() + &"    at UserList (UserList.jsx:12:20)\n".repeat(1_000);
    for (name, text) in [
        ("prose", report),
        ("code", &code),
        ("a stack trace", &trace[..32 * 1024]),
    ] {
        time(
            &format!("task, 32 KiB of {name}"),
            text.len(),
            2_000,
            || detector.detect(black_box(text)).simple,
        );
        // What finding the user's text in the body costs besides: the whole peek of such a prompt and nothing else.
        let body =
            serde_json::json!({"model": "m", "messages": [{"role": "user", "content": text}]});
        let body = body.to_string();
        time(
            &format!("  peek at a body of it, {} bytes", body.len()),
            body.len(),
            2_000,
            || peek(Endpoint::ChatCompletions, black_box(body.as_bytes())).is_ok(),
        );
    }
    let huge = report.repeat(320);
    time("task, 10 MiB of prose", huge.len(), 2_000, || {
        detector.detect(black_box(&huge)).simple
    });

    let policy = Policy {
        requests_per_minute: Some(u64::MAX),
        requests_per_hour: Some(u64::MAX),
        models: Some(vec![Pattern::new("*haiku*"), Pattern::new("claude-opus-*")]),
        tools: Some(
            ["Bash", "Read", "web_*", "Tool*"]
                .map(Pattern::new)
                .to_vec(),
        ),
        ..Policy::default()
    };
    let applied =
        [(Holder::Tier, "pro"), (Holder::Team, "research")].map(|(holder, name)| Applied {
            holder,
            name,
            policy: &policy,
        });
    let read = peek(Endpoint::Messages, agent.as_bytes()).expect("an agent's body");
    let facts = PolicyFacts {
        depth: Some(1),
        model: Some(ModelFacts {
            name: Some("claude-opus-4-8"),
            body: Some(BodyFacts {
                prompt_tokens: Some(20_000),
                output: None,
                tools: &read.declared,
                hidden_tools: false,
                other_models: &[],
            }),
        }),
        unseen: false,
    };
    time("policy rules, tier and team, 24 tools", 0, 2_000, || {
        check(black_box(&applied), black_box(&facts)).is_ok()
    });
    let mut rates = Rates::default();
    let keys: Vec<String> = (0..MAX_SUBJECTS - 1).map(|n| format!("{n:016x}")).collect();
    let mut now = 1_800_000_000_000;
    for key in &keys {
        rates.pass(&applied, Some(key), now).expect("no limit");
    }
    let mut keys = keys.iter().cycle();
    time(
        "policy rates, tier and team, 100,000 subjects",
        0,
        5_000,
        || {
            now += 1;
            rates
                .pass(&applied, keys.next().map(String::as_str), now)
                .is_ok()
        },
    );
}
