//! Bad input: what clients say of themselves, output caps that cannot be, limits that make no sense, and a client that
//! calls itself by a hundred thousand names.

use std::collections::BTreeMap;

use tempfile::TempDir;
use tollgate::config::{self, Inputs, Override};

use super::*;
use crate::binary;

#[tokio::test]
async fn names_that_cannot_be_are_refused_in_the_clients_format_and_cost_nothing() {
    let rules = Rules::none().budget("b", "session", "hour", "5 requests");
    let (tollgate, provider) = rules.before_echo().await;
    let long = "x".repeat(100_000 / 4);
    let body = ask("s", "normal").body().to_string();
    for path in [
        "/anthropic/v1/messages",
        "/openai/v1/chat/completions",
        "/gemini/v1beta/models/gemini-3-flash:generateContent",
        "/ollama/api/chat",
    ] {
        for headers in [
            vec![("x-tollgate-priority", "urgent")],
            vec![("x-tollgate-priority", "")],
            vec![("x-tollgate-priority", long.as_str())],
            vec![("x-tollgate-priority", "höchste")],
            vec![("x-tollgate-priority", "low, high")],
            vec![
                ("x-tollgate-priority", "low"),
                ("x-tollgate-priority", "critical"),
            ],
            vec![("x-tollgate-session", long.as_str())],
            vec![("x-tollgate-session", "")],
            vec![("x-tollgate-session", "sitzung-ä")],
            vec![("x-tollgate-session", "two words")],
            vec![("x-tollgate-session", "a"), ("x-tollgate-session", "b")],
            vec![("x-tollgate-task", long.as_str())],
            vec![("x-tollgate-task", "a\tb")],
            vec![("x-tollgate-task", "prüfung")],
            vec![("x-tollgate-task", "ui"), ("x-tollgate-task", "coding")],
            vec![("x-tollgate-depth", "-1")],
            vec![("x-tollgate-depth", "1.5")],
            vec![("x-tollgate-depth", "99999999999999999999999")],
        ] {
            let shown: Vec<_> = headers
                .iter()
                .map(|(name, value)| (name, value.get(..20).unwrap_or(value)))
                .collect();
            let (head, answer) = tollgate
                .ask(request(&format!("POST {path}"), &headers, &body))
                .await;
            assert_eq!(head.status(), 400, "{path} {shown:?}: {}", answer.text());
            assert!(!answer.bytes.is_empty(), "{path} {shown:?}: no word of why");
            let json = answer.json();
            let text = json
                .pointer("/error/message")
                .or(json.get("error"))
                .and_then(Value::as_str);
            let text = text.unwrap_or_else(|| panic!("{json}"));
            assert!(text.contains(headers[0].0), "{shown:?}: {text}");
            assert!(text.len() < 1_000, "what was sent is not sent back whole");
        }
        for tag in ["/@a:urgent", "/@:low", "/@a%20b:low", "/@%C3%A9"] {
            let (head, _) = tollgate
                .ask(request(&format!("POST {tag}{path}"), &[], &body))
                .await;
            assert_eq!(head.status(), 400, "{tag}");
        }
    }
    assert!(provider.take().is_empty());
    let throttle = tollgate.get("/api/v1/throttle").await.json();
    assert_eq!(throttle["budgets"], json!([]), "nobody is charged");
}

#[tokio::test]
async fn no_output_cap_however_absurd_gets_around_a_hard_budget() {
    let caps = [
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "340282366920938463463374607431768211456",
        "1e3",
        "1e30",
        "1e400",
        "-1",
        "-9223372036854775808",
        "1.5",
        "0.1",
        "\"1\"",
        "\"many\"",
        "null",
        "true",
        "[1]",
        "{\"a\":1}",
    ];
    for (path, model, field) in [
        ("/anthropic/v1/messages", MODEL, "max_tokens"),
        (
            "/openai/v1/chat/completions",
            "gpt-5",
            "max_completion_tokens",
        ),
        ("/openai/v1/chat/completions", "gpt-5", "max_tokens"),
        ("/openai/v1/responses", "gpt-5", "max_output_tokens"),
    ] {
        let (tollgate, provider) = Rules::none()
            .hard("cap", "global", "hour", "10,000 tokens")
            .before_echo()
            .await;
        for cap in caps {
            // A provider that takes the field for what it is, or for none at all, may write as much as the model can.
            let body = format!(
                r#"{{"model":"{model}","{field}":{cap},"messages":[],"input":"hi","says":[0,0,0,1]}}"#
            );
            let (head, answer) = tollgate
                .ask(request(
                    &format!("POST {path}"),
                    &[("x-tollgate-priority", "critical")],
                    &body,
                ))
                .await;
            if ["1e3", "1.5", "0.1", "\"1\""].contains(&cap) {
                // Small numbers, in other ways of writing them.
                assert!([200, 400].contains(&head.status()), "{path} {field} {cap}");
                continue;
            }
            assert_eq!(
                head.status(),
                400,
                "{path} {field} {cap}: {}",
                answer.text()
            );
            provider.take();
        }
        let (settled, reserved) = amounts(&tollgate, "cap", None).await;
        assert!(settled <= 10_000 && reserved == 0, "{settled} {reserved}");
    }
}

#[tokio::test]
async fn absurd_output_caps_reach_the_provider_untouched_where_no_budget_is_hard() {
    let rules = Rules::none()
        .budget("tokens", "session", "hour", "10,000,000 tokens")
        .budget("money", "session", "hour", "1000 usd");
    let (tollgate, provider) = rules.before_echo().await;
    for cap in [
        "9223372036854775808",
        "18446744073709551616",
        "-1",
        "1.5",
        "\"text\"",
        "1e400",
        "0",
    ] {
        let body = format!(r#"{{"model":"{MODEL}","max_tokens":{cap},"messages":[]}}"#);
        let ask = request(
            "POST /anthropic/v1/messages",
            &[("x-tollgate-session", "s")],
            &body,
        );
        // What the provider makes of it is the provider's business.
        let (head, answer) = tollgate.ask(ask).await;
        assert_eq!(head.status(), 200, "{cap}: {}", answer.text());
        let arrived = provider.take();
        assert_eq!(arrived.len(), 1, "{cap}");
        assert_eq!(arrived[0].body.text(), body);
        let record = tollgate.record(&head).await;
        assert!(
            record.reserved_tokens < 1_000_000,
            "{cap}: {}",
            record.reserved_tokens
        );
        assert!(
            record.reserved_cost.unwrap() >= tollgate::units::Cost::ZERO,
            "{cap}"
        );
    }
    assert_eq!(amounts(&tollgate, "tokens", Some("s")).await, (0, 0));
}

/// Loads a configuration with one budget of this limit.
fn load(limit: &str) -> Result<(), String> {
    let home = TempDir::new().unwrap();
    let over = |key: &str, value: &str| Override {
        flag: format!("--set {key}"),
        key: key.to_owned(),
        value: value.to_owned(),
    };
    let inputs = Inputs {
        config: None,
        overrides: vec![
            over("budgets.b.scope", "session"),
            over("budgets.b.window", "hour"),
            over("budgets.b.limit", limit),
        ],
        environment: BTreeMap::from([("HOME".to_owned(), home.path().display().to_string())])
            .into_iter()
            .collect(),
        working_dir: home.path().to_path_buf(),
    };
    config::load(&inputs)
        .map(|_| ())
        .map_err(|error| format!("{error}"))
}

#[test]
fn limits_that_make_no_sense_are_refused_with_the_keys_name() {
    for limit in [
        "",
        " ",
        "0 tokens",
        "0",
        "-5 tokens",
        "-1 usd",
        "$-1",
        "0 usd",
        "0.000 usd",
        "0 requests",
        "1.5 tokens",
        "0.5 requests",
        "18446744073709551615 tokens",
        "18446744073709551616 tokens",
        "99999999999999999999999999999999999999999999 tokens",
        "1e5 tokens",
        "1e400 usd",
        "NaN usd",
        "inf usd",
        "99999999999999999999999999999999999999 usd",
        "5 apples",
        "5 eur",
        "five usd",
        "5",
        "usd",
        "$",
        "$5 tokens",
        "1,00 tokens",
        "0x10 tokens",
        "٥ tokens",
        "5 usd 5 usd",
    ] {
        let Err(problem) = load(limit) else {
            panic!("{limit:?} is taken for a limit");
        };
        assert!(problem.contains("budgets.b.limit"), "{limit:?}: {problem}");
    }
}

#[tokio::test]
async fn limits_at_the_end_of_their_range_work_without_overflow() {
    for limit in [
        "1,000,000,000,000,000 tokens",
        "1,000,000,000,000,000 requests",
        "1000000000 usd",
        "1 tokens",
        "0.000000000000000001 usd",
    ] {
        assert_eq!(load(limit), Ok(()), "{limit}");
        for hard in ["false", "true"] {
            let rules = Rules::none()
                .budget("b", "session", "day", limit)
                .set("budgets.b.hard", hard);
            let (tollgate, _provider) = rules.before_echo().await;
            let large = limit.starts_with("1,000") || limit.starts_with("1000");
            for output in [0, 5, u64::MAX / 4, u64::MAX / 2] {
                let (head, body) = Ask {
                    output,
                    ..ask("s", "critical")
                }
                .send(&tollgate)
                .await;
                if large && output < u64::MAX / 4 {
                    assert_eq!(head.status(), 200, "{limit} {hard}: {}", body.text());
                }
                assert!(head.status() < 500, "{limit} {hard}: {}", body.text());
            }
            let standing = standing(&tollgate, "b", Some("s")).await;
            if let Some(standing) = standing {
                assert!(standing["fill"].as_f64().unwrap() >= 0.0, "{standing}");
            }
        }
    }
}

/// How many names a client gives itself; a hundred thousand by `TOLLGATE_HELD_SESSIONS=100000`.
fn how_many_sessions() -> usize {
    let text = std::env::var("TOLLGATE_HELD_SESSIONS").ok();
    text.map_or(4_000, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_session_names_leaves_memory_bounded_and_forgets_nobody() {
    const LIVE: usize = 200;
    let count = how_many_sessions();
    let upstream = Upstream::start().await.answering(echo);
    let home = TempDir::new().unwrap();
    let mut command = binary::tollgate(home.path());
    command.args(binary::before(upstream.address)).arg("-qq");
    for (key, value) in Rules::none()
        .budget("b", "session", "day", "10,000 tokens")
        .set("throttle.max_live", &LIVE.to_string())
        .pairs()
    {
        command.args(["--set", &format!("{key}={value}")]);
    }
    let proxy = binary::Proxy::start(command).await;
    let metric = async |name: &str| sum_of_metric(&proxy.get("/metrics").await.text(), name, &[]);
    let address = proxy.address;
    // Each session spends an amount of its own, known by its number.
    let spends = |number: usize| 1_000 + (number as u64 % 997);
    let rounds = async |from: usize, to: usize| {
        let mut clients = tokio::task::JoinSet::new();
        for lane in 0..8 {
            clients.spawn(async move {
                let mut wire = Wire::connect(address).await;
                for number in (from..to).filter(|number| number % 8 == lane) {
                    let session = format!("session-{number}");
                    wire.send(
                        Ask {
                            output: spends(number),
                            ..ask(&session, "normal")
                        }
                        .bytes(),
                    )
                    .await;
                    let (head, body) = wire.message().await;
                    assert_eq!(head.status(), 200, "{session}: {}", body.text());
                }
            });
        }
        clients.join_all().await;
    };
    rounds(0, count / 4).await;
    let early = metric("tollgate_process_resident_memory_bytes").await;
    rounds(count / 4, count).await;
    upstream.take();
    let late = metric("tollgate_process_resident_memory_bytes").await;
    let live = metric("tollgate_budget_scopes_live").await;
    assert!(live <= LIVE as f64 + 16.0, "{live} are in memory");
    // Metrics, the ledger's cache and malloc take their share; what counts is that it is not one of each name.
    let grown = (late - early) / (count - count / 4) as f64;
    print_figures(count, early, late, grown);
    assert!(
        late - early < 24e6 + 600.0 * count as f64,
        "{early} then {late}: {grown} bytes for each name"
    );
    // The first, the last and some between come back with what they have spent.
    let mut wire = Wire::connect(address).await;
    for number in [0, 1, count / 3, count / 2, count - 1] {
        let session = format!("session-{number}");
        wire.send(
            Ask {
                output: 9_000,
                ..ask(&session, "critical")
            }
            .bytes(),
        )
        .await;
        assert_eq!(wire.message().await.0.status(), 200);
        let throttle = proxy
            .get(&format!("/api/v1/throttle?session={session}"))
            .await
            .json();
        assert_eq!(
            throttle["budgets"][0]["settled"],
            spends(number) + 9_000,
            "{session}: {throttle}"
        );
        wire.send(ask(&session, "high").bytes()).await;
        assert_ne!(wire.message().await.0.status(), 200, "{session} is spent");
    }
}

/// Figures for whoever runs the test with a large number.
#[expect(clippy::print_stdout, reason = "figures of a test run")]
fn print_figures(count: usize, early: f64, late: f64, grown: f64) {
    println!("{count} names: {early} then {late} bytes resident, {grown:.0} bytes for each");
}
