//! How refusals read in each wire format, and what happens to requests whose price nobody knows.

use super::*;

const FORMATS: [(&str, &str); 5] = [
    ("/anthropic/v1/messages", MODEL),
    ("/openai/v1/chat/completions", "gpt-5"),
    ("/openai/v1/responses", "gpt-5"),
    (
        "/gemini/v1beta/models/gemini-3-flash:generateContent",
        "gemini-3-flash",
    ),
    ("/ollama/api/chat", "qwen3"),
];

/// The text of an error in the path's own format, once its shape has been checked.
fn native_text(path: &str, head: &Head, body: &Body) -> String {
    let json = body.json();
    let (status, error) = (head.status(), &json["error"]);
    assert!(
        head.value("content-type")
            .unwrap()
            .starts_with("application/json")
    );
    let text = if path.starts_with("/anthropic") {
        assert_eq!(json["type"], "error", "{json}");
        assert!(error["type"].is_string(), "{json}");
        &error["message"]
    } else if path.starts_with("/openai") {
        assert!(
            error["type"].is_string() && error["code"].is_string(),
            "{json}"
        );
        &error["message"]
    } else if path.starts_with("/gemini") {
        assert_eq!(error["code"], status, "{json}");
        assert!(error["status"].is_string(), "{json}");
        &error["message"]
    } else {
        error
    };
    text.as_str()
        .unwrap_or_else(|| panic!("no text in {json}"))
        .to_owned()
}

async fn fill(tollgate: &Tollgate, path: &str, model: &str, times: u64) {
    for _ in 0..times {
        Ask {
            path,
            model,
            ..ask("docs", "critical")
        }
        .passes(tollgate)
        .await;
    }
}

#[tokio::test]
async fn what_waiting_cures_is_a_429_with_a_pause_in_each_format() {
    for (path, model) in FORMATS {
        let (tollgate, provider) = Rules::none()
            .budget("burst", "session", "minute", "10 requests")
            .before_echo()
            .await;
        fill(&tollgate, path, model, 9).await;
        provider.take();
        let (head, body) = Ask {
            path,
            model,
            ..ask("docs", "normal")
        }
        .send(&tollgate)
        .await;
        assert_eq!(head.status(), 429, "{path}");
        let pause: u64 = head.value("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&pause), "{path}: {pause}");
        assert_ne!(head.value("x-should-retry"), Some("false"), "{path}");
        let text = native_text(path, &head, &body);
        for part in ["burst", "docs", "90", "10", &format!("{pause}s")] {
            assert!(text.contains(part), "{path}: no {part:?} in {text}");
        }
        if path.starts_with("/anthropic") {
            assert_eq!(body.json()["error"]["type"], "rate_limit_error");
        }
        assert!(provider.take().is_empty(), "{path}");
        let record = tollgate.record(&head).await;
        assert_eq!((record.outcome.as_str(), record.attempts), ("refused", 0));
        assert_eq!(record.decided_by.as_deref(), Some("burst"));
        assert_eq!(head.value("x-tollgate-level"), Some("HARD"));
    }
}

#[tokio::test]
async fn what_waiting_cannot_cure_is_final_and_tells_everything_in_each_format() {
    for (path, model) in FORMATS {
        let (tollgate, provider) = Rules::none()
            .budget("daily", "session", "day", "10 requests")
            .before_echo()
            .await;
        fill(&tollgate, path, model, 9).await;
        provider.take();
        let (head, body) = Ask {
            path,
            model,
            ..ask("docs", "normal")
        }
        .send(&tollgate)
        .await;
        assert!(
            (400..500).contains(&head.status()),
            "{path}: {}",
            head.status()
        );
        assert_eq!(head.value("x-should-retry"), Some("false"), "{path}");
        if head.status() == 429 {
            // Only for clients that are known to heed the header above.
            assert!(
                path.starts_with("/anthropic") || path.starts_with("/openai"),
                "{path}"
            );
        }
        let told = told(&body);
        assert_eq!(told["ending"], "final");
        let text = native_text(path, &head, &body);
        // The budget, whose, how full, the limit, when, and what to do. 12:00 and a day, rounded up to a sixtieth of it.
        for part in [
            "daily",
            "docs",
            "90 %",
            "10 requests",
            "12:",
            "UTC",
            "raise",
            "high",
            "critical",
        ] {
            assert!(text.contains(part), "{path}: no {part:?} in {text}");
        }
        let error = &body.json()["error"];
        match path.split('/').nth(1).unwrap() {
            "anthropic" => assert_eq!(error["type"], "billing_error"),
            "openai" => assert_eq!(error["code"], "insufficient_quota"),
            _ => {}
        }
        for (field, value) in [
            ("budget", json!("daily")),
            ("level", json!("HARD")),
            ("limit", json!(10)),
            ("settled", json!(9)),
            ("reserved", json!(0)),
            ("asked", json!(1)),
            ("unit", json!("requests")),
            ("window", json!("day")),
            ("priority", json!("normal")),
            ("scope", json!("session docs")),
        ] {
            // Google's place for such things holds texts only.
            let text = |value: &Value| value.to_string().replace('"', "");
            assert_eq!(text(&told[field]), text(&value), "{path} {field}: {told}");
        }
        assert!(passes_at(&told) >= NOON + DAY);
        assert!(provider.take().is_empty(), "{path}");
    }
}

#[tokio::test]
async fn what_can_never_fit_is_a_400_in_each_format() {
    let words = "word ".repeat(20_000);
    for (path, model) in FORMATS {
        for hard in ["false", "true"] {
            let rules = Rules::none()
                .budget("small", "session", "minute", "5,000 tokens")
                .set("budgets.small.hard", hard);
            let (tollgate, provider) = rules.before_echo().await;
            let large = Ask {
                path,
                model,
                prompt: &words,
                ..ask("docs", "high")
            };
            // Gemini's requests hold their prompt elsewhere.
            let bytes = match path.starts_with("/gemini") {
                true => {
                    let body = json!({"contents": [{"role": "user", "parts": [{"text": words}]}]});
                    request(
                        &format!("POST {path}"),
                        &[
                            ("x-tollgate-session", "docs"),
                            ("x-tollgate-priority", "high"),
                        ],
                        body.to_string(),
                    )
                }
                false => large.bytes(),
            };
            let (head, body) = tollgate.ask(bytes).await;
            assert_eq!(head.status(), 400, "{path}: {}", body.text());
            assert_eq!(head.value("retry-after"), None, "{path}");
            assert_ne!(head.value("x-should-retry"), Some("true"), "{path}");
            let text = native_text(path, &head, &body);
            for part in ["small", "5,000", "never"] {
                assert!(text.contains(part), "{path}: no {part:?} in {text}");
            }
            assert!(provider.take().is_empty(), "{path}");
        }
    }
}

#[tokio::test]
async fn claude_code_gets_its_own_recipe_for_a_spent_budget() {
    let (tollgate, _provider) = Rules::none()
        .budget("daily", "session", "day", "10 requests")
        .before_echo()
        .await;
    fill(&tollgate, FORMATS[0].0, MODEL, 10).await;
    let agent = vec![("user-agent", "claude-cli/2.1.330 (external, sdk-cli)")];
    let (head, body) = Ask {
        headers: agent,
        ..ask("docs", "normal")
    }
    .send(&tollgate)
    .await;
    assert_eq!(head.status(), 429);
    assert_eq!(head.value("x-should-retry"), Some("false"));
    assert_eq!(
        head.value("anthropic-ratelimit-unified-status"),
        Some("rejected")
    );
    let reset: u64 = head
        .value("anthropic-ratelimit-unified-reset")
        .unwrap()
        .parse()
        .unwrap();
    let promised = passes_at(&told(&body));
    assert!(
        reset * SECOND >= promised && reset * SECOND < promised + 2 * SECOND,
        "{reset} {promised}"
    );
    assert_eq!(
        head.value("anthropic-ratelimit-unified-overage-status"),
        None
    );
    assert_eq!(
        head.value("anthropic-ratelimit-unified-representative-claim"),
        None
    );
    assert_eq!(body.json()["error"]["type"], "billing_error");
}

#[tokio::test]
async fn a_stream_that_is_refused_gets_an_error_status_and_not_a_stream() {
    for (path, model) in FORMATS {
        let (tollgate, _provider) = Rules::none()
            .budget("daily", "session", "day", "10 requests")
            .before_echo()
            .await;
        fill(&tollgate, path, model, 10).await;
        let (head, body) = Ask {
            path,
            model,
            stream: true,
            ..ask("docs", "normal")
        }
        .send(&tollgate)
        .await;
        assert!((400..500).contains(&head.status()), "{path}");
        native_text(path, &head, &body);
    }
}

#[tokio::test]
async fn a_refusal_tells_whom_it_refused_in_its_headers_as_any_answer_does() {
    let (tollgate, _provider) = Rules::none()
        .budget("daily", "session", "day", "10 requests")
        .before_echo()
        .await;
    fill(&tollgate, FORMATS[0].0, MODEL, 10).await;
    let (head, _) = ask("docs", "normal").send(&tollgate).await;
    assert!(head.value("x-tollgate-request-id").is_some());
    for (name, value) in [
        ("x-tollgate-level", "CRITICAL"),
        ("x-tollgate-session", "docs"),
        ("x-tollgate-priority", "normal"),
    ] {
        assert_eq!(head.value(name), Some(value), "{name}: {head:#?}");
    }
}

fn unknown<'a>(path: &'a str, priority: &'a str) -> Ask<'a> {
    Ask {
        path,
        model: "nobody-knows-me-1",
        cap: Some(100),
        input: 1_000,
        output: 200,
        ..ask("s", priority)
    }
}

#[tokio::test]
async fn an_unknown_price_is_allowed_and_flagged_everywhere_by_default() {
    let rules = Rules::none()
        .budget("money", "session", "hour", "1 usd")
        .budget("tokens", "session", "hour", "100,000 tokens");
    let (tollgate, _provider) = rules.before_echo().await;
    for path in ["/anthropic/v1/messages", "/openai/v1/chat/completions"] {
        let head = unknown(path, "normal").passes(&tollgate).await;
        let record = tollgate.record(&head).await;
        assert!(record.flags.price_unknown, "{record:?}");
        assert_eq!(record.cost, None, "unknown is not zero");
        assert_eq!(record.cost_source.as_str(), "unknown");
    }
    assert_eq!(
        tollgate.metric("tollgate_cost_unknown_requests_total", &[]),
        2.0
    );
    assert_eq!(
        amounts(&tollgate, "tokens", Some("s")).await,
        (2_400, 0),
        "its tokens count"
    );
    let total = tollgate.get("/api/v1/usage?by=session").await.json()["total"].clone();
    assert_eq!(total["unknown_cost_requests"], 2, "{total}");
}

#[tokio::test]
async fn an_unknown_price_can_be_refused_for_good_in_each_format() {
    for (path, _) in FORMATS
        .into_iter()
        .filter(|(path, _)| !path.starts_with("/ollama") && !path.starts_with("/gemini"))
    {
        let rules = Rules::none()
            .budget("money", "session", "hour", "1 usd")
            .set("throttle.unknown_price", "refuse");
        let (tollgate, provider) = rules.before_echo().await;
        let (head, body) = unknown(path, "critical").send(&tollgate).await;
        assert!(
            (400..500).contains(&head.status()) && head.status() != 429,
            "{path}: {}",
            head.status()
        );
        assert_eq!(head.value("x-should-retry"), Some("false"), "{path}");
        let text = native_text(path, &head, &body);
        assert!(
            text.contains("nobody-knows-me-1") && text.contains("price"),
            "{text}"
        );
        assert!(provider.take().is_empty());
        let record = tollgate.record(&head).await;
        assert_eq!(record.outcome.as_str(), "refused");
        let seen = events(&tollgate, "unknown_price", 1).await;
        assert_eq!(seen[0]["model"], "nobody-knows-me-1");
        ask("s", "normal").passes(&tollgate).await;
    }
}

#[tokio::test]
async fn an_unknown_price_can_be_charged_at_a_ceiling() {
    let rules = Rules::none()
        .hard("money", "session", "hour", "0.1 usd")
        .set("throttle.unknown_price", "ceiling")
        .set("throttle.ceiling_input", "20")
        .set("throttle.ceiling_output", "100.5");
    let (tollgate, _provider) = rules.before_echo().await;
    let head = unknown("/anthropic/v1/messages", "normal")
        .passes(&tollgate)
        .await;
    let record = tollgate.record(&head).await;
    // 1,000 input tokens at 20 and 200 output tokens at 100.5 dollars for a million.
    assert_eq!(record.cost, "0.0401".parse().ok());
    assert_eq!(record.cost_source.as_str(), "assumed");
    assert!(
        record.reserved_cost >= "0.01005".parse().ok(),
        "the cap at the ceiling: {record:?}"
    );
    let money = standing(&tollgate, "money", Some("s")).await.unwrap();
    assert_eq!(money["settled"], "0.0401");
    unknown("/anthropic/v1/messages", "normal")
        .passes(&tollgate)
        .await;
    let told = unknown("/anthropic/v1/messages", "critical")
        .is_refused(&tollgate)
        .await;
    assert_eq!(told["budget"], "money");
    let total = tollgate.get("/api/v1/usage?by=session").await.json()["total"].clone();
    assert_eq!(total["assumed_cost"], "0.0802", "{total}");
}

#[tokio::test]
async fn an_assumed_price_is_flagged_in_the_record() {
    let rules = Rules::none()
        .budget("money", "session", "hour", "1 usd")
        .set("throttle.unknown_price", "ceiling");
    let (tollgate, _provider) = rules.before_echo().await;
    let head = unknown("/anthropic/v1/messages", "normal")
        .passes(&tollgate)
        .await;
    assert!(tollgate.record(&head).await.flags.price_assumed);
}

#[tokio::test]
async fn an_unknown_price_leaves_an_event_whether_allowed_or_assumed() {
    for policy in ["allow", "ceiling"] {
        let rules = Rules::none()
            .budget("money", "session", "hour", "1 usd")
            .set("throttle.unknown_price", policy);
        let (tollgate, _provider) = rules.before_echo().await;
        unknown("/anthropic/v1/messages", "normal")
            .passes(&tollgate)
            .await;
        let seen = &events(&tollgate, "unknown_price", 1).await[0];
        assert_eq!(
            (&seen["model"], &seen["session"]),
            (&json!("nobody-knows-me-1"), &json!("s")),
            "{policy}"
        );
    }
}

#[tokio::test]
async fn what_costs_nothing_is_not_refused_for_a_price_that_nobody_knows() {
    let rules = Rules::none()
        .budget("money", "session", "hour", "1 usd")
        .set("throttle.unknown_price", "refuse");
    let (tollgate, _provider) = rules.before_echo().await;
    for (line, body) in [
        ("GET /openai/v1/models", ""),
        (
            "POST /anthropic/v1/messages/count_tokens",
            r#"{"model":"nobody-knows-me-1","messages":[]}"#,
        ),
        (
            "POST /ollama/api/chat",
            r#"{"model":"nobody-knows-me-1","messages":[],"stream":false}"#,
        ),
    ] {
        let (head, answer) = tollgate.ask(request(line, &[], body)).await;
        assert_eq!(head.status(), 200, "{line}: {}", answer.text());
    }
}
