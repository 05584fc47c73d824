//! Budgets where they are easily got around: scopes that are put away and come back, prices that nobody knows, work that is
//! billed later, modes that refuse nothing. What a budget did not see was spent without it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;

use crate::rig::*;

/// A tollgate with no budgets but these settings.
async fn with_only(upstream: SocketAddr, extra: &[(&str, &str)]) -> Tollgate {
    let mut settings = crate::throttle_path::ONLY.to_vec();
    settings.extend_from_slice(extra);
    Tollgate::with(upstream, &settings).await
}

fn message(session: &str, model: &str) -> Vec<u8> {
    let body = format!(
        r#"{{"model":"{model}","max_tokens":100,"messages":[{{"role":"user","content":"hi"}}]}}"#
    );
    let headers = [("x-tollgate-session", session)];
    request("POST /anthropic/v1/messages", &headers, body)
}

fn used(model: &str, input: u64, output: u64) -> Vec<u8> {
    json_answer(format!(
        r#"{{"id":"msg_1","model":"{model}","stop_reason":"end_turn","content":[],"usage":{{"input_tokens":{input},"output_tokens":{output}}}}}"#
    ))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sessions_that_are_put_away_all_the_time_forget_nothing() {
    const SESSIONS: usize = 6;
    const ROUNDS: usize = 25;
    let upstream = Upstream::start().await;
    let answering = upstream.answering(|_| used("claude-sonnet-5-5", 10, 1));
    let tollgate = with_only(
        answering.address,
        &[
            ("throttle.max_live", "1"),
            ("budgets.hour.scope", "session"),
            ("budgets.hour.window", "hour"),
            ("budgets.hour.limit", "10000 requests"),
        ],
    )
    .await;
    let mut clients = tokio::task::JoinSet::new();
    // Two clients for each session, so that it is fetched by one while the other uses it.
    for client in 0..2 * SESSIONS {
        let mut wire = tollgate.connect().await;
        clients.spawn(async move {
            for _ in 0..ROUNDS {
                wire.send(message(
                    &format!("s{}", client % SESSIONS),
                    "claude-sonnet-5-5",
                ))
                .await;
                assert_eq!(wire.message().await.0.status(), 200);
            }
        });
    }
    clients.join_all().await;
    tollgate.get("/metrics").await;
    assert!(tollgate.metric("tollgate_budget_scopes_put_away", &[]) > 0.0);
    for session in 0..SESSIONS {
        // One more brings the session back, and is counted with the others.
        tollgate
            .ask(message(&format!("s{session}"), "claude-sonnet-5-5"))
            .await;
        let standing = tollgate
            .get(&format!("/api/v1/throttle?session=s{session}"))
            .await
            .json();
        let settled = standing["budgets"][0]["settled"].as_u64();
        assert_eq!(
            settled,
            Some(2 * ROUNDS as u64 + 1),
            "s{session}: {standing}"
        );
    }
}

/// Answers with a cost of its own, as OpenRouter does.
fn stated(cost: &str) -> Vec<u8> {
    json_answer(format!(
        r#"{{"id":"c","object":"chat.completion","model":"maker/unheard-of","choices":[],"usage":{{"prompt_tokens":10,"completion_tokens":1,"cost":{cost}}}}}"#
    ))
}

fn chat(path: &str, body: &str) -> Vec<u8> {
    let headers = [("x-tollgate-session", "s")];
    request(&format!("POST {path}"), &headers, body)
}

const UNHEARD_OF: &str =
    r#"{"model":"maker/unheard-of","messages":[{"role":"user","content":"hi"}]}"#;

const IN_MONEY: [(&str, &str); 3] = [
    ("budgets.money.scope", "session"),
    ("budgets.money.window", "hour"),
    ("budgets.money.limit", "1 usd"),
];

#[tokio::test]
async fn an_unknown_price_is_not_a_price_of_nothing() {
    let upstream = Upstream::start().await;
    let answering = upstream.answering(|_| stated("0.6"));
    let tollgate = with_only(answering.address, &IN_MONEY).await;
    let ask = chat("/openrouter/api/v1/chat/completions", UNHEARD_OF);
    for _ in 0..2 {
        assert_eq!(tollgate.ask(&ask).await.0.status(), 200);
    }
    let (head, body) = tollgate.ask(&ask).await;
    assert_eq!(head.status(), 402, "$1.20 of $1 are spent: {}", body.text());
}

#[tokio::test]
async fn a_hard_budget_in_money_lets_no_unknown_price_pass() {
    let upstream = Upstream::start().await;
    let answering = upstream.answering(|_| stated("0.6"));
    let hard = |mode: &'static str| {
        let mut settings = IN_MONEY.to_vec();
        settings.extend([("budgets.money.hard", "true"), ("throttle.mode", mode)]);
        settings
    };
    let tollgate = with_only(answering.address, &hard("on")).await;
    let ask = chat("/openrouter/api/v1/chat/completions", UNHEARD_OF);
    let (head, body) = tollgate.ask(&ask).await;
    assert_eq!(head.status(), 400);
    assert_eq!(head.value("x-should-retry"), Some("false"));
    let message = body.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains("money") && message.contains("[[models]]"),
        "{message}"
    );
    let record = tollgate.record(&head).await;
    assert_eq!(record.decided_by.as_deref(), Some("money"));
    assert!(answering.take().is_empty());

    let tollgate = with_only(answering.address, &hard("shadow")).await;
    let (head, _) = tollgate.ask(&ask).await;
    assert_eq!(head.status(), 200, "shadow refuses nothing");
    assert!(tollgate.record(&head).await.flags.shadow);
}

#[tokio::test]
async fn shadow_mode_does_not_refuse_unknown_prices_either() {
    let upstream = Upstream::start().await;
    let answering = upstream.answering(|_| stated("0.6"));
    let settings = [
        ("throttle.mode", "shadow"),
        ("throttle.unknown_price", "refuse"),
    ];
    let tollgate = with_only(answering.address, &settings).await;
    let ask = chat("/openrouter/api/v1/chat/completions", UNHEARD_OF);
    let (head, _) = tollgate.ask(&ask).await;
    assert_eq!(head.status(), 200);
    assert!(tollgate.record(&head).await.flags.shadow);
}

#[tokio::test]
async fn images_take_of_budgets_what_they_cost() {
    let upstream = Upstream::start().await;
    // 20,000 tokens at $40 a million are $0.80.
    let answering = upstream.answering(|_| {
        json_answer(
            r#"{"created":1,"data":[],"usage":{"input_tokens":10,"output_tokens":20000,"total_tokens":20010,"input_tokens_details":{"text_tokens":10,"image_tokens":0}}}"#,
        )
    });
    let tollgate = with_only(answering.address, &IN_MONEY).await;
    let ask = chat(
        "/openai/v1/images/generations",
        r#"{"model":"gpt-image-1","prompt":"a cat"}"#,
    );
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(tollgate.ask(&ask).await.0.status());
    }
    assert_eq!(statuses[0], 200);
    assert_eq!(statuses[2], 402, "{statuses:?}");
}

#[tokio::test]
async fn work_that_is_billed_later_does_not_pass_a_hard_budget() {
    let upstream = Upstream::start().await;
    let answering = upstream.answering(|_| json_answer("{}"));
    let settings = |hard| {
        [
            ("budgets.tokens.scope", "global"),
            ("budgets.tokens.window", "hour"),
            ("budgets.tokens.limit", "10000000 tokens"),
            ("budgets.tokens.hard", hard),
        ]
    };
    let background = chat(
        "/openai/v1/responses",
        r#"{"model":"gpt-5","input":"hi","background":true,"max_output_tokens":10}"#,
    );
    let batch = chat("/anthropic/v1/messages/batches", r#"{"requests":[]}"#);
    let plain = chat(
        "/openai/v1/responses",
        r#"{"model":"gpt-5","input":"hi","background":false,"max_output_tokens":10}"#,
    );
    let tollgate = with_only(answering.address, &settings("true")).await;
    for (ask, word) in [(&background, "background"), (&batch, "batch")] {
        let (head, body) = tollgate.ask(ask).await;
        assert_eq!(head.status(), 400, "{}", body.text());
        assert!(body.text().contains(word), "{}", body.text());
    }
    assert_eq!(tollgate.ask(&plain).await.0.status(), 200);
    let tollgate = with_only(answering.address, &settings("false")).await;
    for ask in [&background, &batch, &plain] {
        assert_eq!(tollgate.ask(ask).await.0.status(), 200);
    }
}

/// What a request reserves of a hard budget while it runs.
async fn reserved_in(unit: &str, ask: &[u8]) -> serde_json::Value {
    let upstream = Upstream::start().await;
    let limit = format!("1000000000 {unit}");
    let settings = [
        ("budgets.hard.scope", "global"),
        ("budgets.hard.window", "month"),
        ("budgets.hard.limit", &*limit),
        ("budgets.hard.hard", "true"),
    ];
    let tollgate = with_only(upstream.address, &settings).await;
    let mut client = tollgate.connect().await;
    client.send(ask).await;
    let (_provider, ..) = upstream.request().await;
    let standing = tollgate.get("/api/v1/throttle?global").await.json();
    standing["budgets"][0]["reserved"].clone()
}

#[tokio::test]
async fn the_worst_case_knows_every_prompt_of_a_request_and_what_the_provider_holds() {
    let texts = |count: usize| {
        let text = format!("\"{}\"", "x".repeat(8_000));
        vec![text; count].join(",")
    };
    let many = chat(
        "/openai/v1/embeddings",
        &format!(
            r#"{{"model":"text-embedding-3-small","input":[{}]}}"#,
            texts(20)
        ),
    );
    let reserved = reserved_in("tokens", &many).await.as_u64().unwrap();
    assert!(
        reserved >= 160_000,
        "20 prompts of up to 8,000 tokens: {reserved}"
    );
    let unread = chat("/anthropic/v1/messages", "{\"model\":");
    let reserved = reserved_in("tokens", &unread).await.as_u64().unwrap();
    assert!(reserved >= 2_000_000, "no body, no bound: {reserved}");
    let file = chat(
        "/anthropic/v1/messages",
        r#"{"model":"claude-haiku-4-5","max_tokens":1,"messages":[{"role":"user","content":[{"type":"document","source":{"type":"file","file_id":"file_1"}}]}]}"#,
    );
    let reserved = reserved_in("tokens", &file).await.as_u64().unwrap();
    assert!(
        reserved >= 200_000,
        "the file may fill the window: {reserved}"
    );
}

#[tokio::test]
async fn the_worst_case_knows_the_dearest_way_to_be_served() {
    let dollars = async |path: &str, body: &str| -> f64 {
        let reserved = reserved_in("usd", &chat(path, body)).await;
        reserved.as_str().unwrap().parse().unwrap()
    };
    let claude = |extra: &str| {
        format!(r#"{{"model":"claude-fable-5-2","max_tokens":100000,"messages":[]{extra}}}"#)
    };
    let messages = "/anthropic/v1/messages";
    let plain = dollars(messages, &claude("")).await;
    let fast = dollars(messages, &claude(r#","speed":"fast""#)).await;
    assert!(fast > plain * 1.9, "{plain} {fast}");
    let gpt = |extra: &str| {
        format!(r#"{{"model":"gpt-5","max_completion_tokens":100000,"messages":[]{extra}}}"#)
    };
    let completions = "/openai/v1/chat/completions";
    let default = dollars(completions, &gpt(r#","service_tier":"default""#)).await;
    let priority = dollars(completions, &gpt(r#","service_tier":"priority""#)).await;
    let unsaid = dollars(completions, &gpt("")).await;
    assert!(priority > default * 1.5, "{default} {priority}");
    assert!(
        unsaid > default * 1.5,
        "the account may say priority: {unsaid}"
    );
    let routed = dollars(
        "/openrouter/api/v1/chat/completions",
        r#"{"model":"openai/gpt-5-nano","models":["openai/gpt-5"],"max_tokens":100000,"messages":[]}"#,
    )
    .await;
    assert!(routed >= 1.0, "gpt-5 costs $10 a million: {routed}");
    let image = dollars(
        "/gemini/v1beta/models/gemini-3-pro-image:generateContent",
        r#"{"contents":[{"parts":[{"text":"a cat"}]}],"generationConfig":{"maxOutputTokens":10000}}"#,
    )
    .await;
    assert!(image >= 1.2, "$120 a million for images: {image}");
}

#[tokio::test]
async fn what_is_read_back_counts_for_the_model_that_was_asked_for() {
    const DAY: u64 = 86_400_000;
    let upstream = Upstream::start().await;
    let answering = upstream.answering(|_| used("gpt-4o-2024-08-06", 10, 1));
    let settings = [
        ("budgets.month.scope", "model"),
        ("budgets.month.window", "month"),
        ("budgets.month.limit", "1000 requests"),
    ];
    let tollgate = with_only(answering.address, &settings).await;
    tollgate.ask(message("s", "our-deployment")).await;
    // By now it is in the hourly sums alone.
    tollgate.set_clock(NOON + 3 * DAY);
    let recalled = tollgate.gate.recall().unwrap();
    assert_eq!((recalled.sums, recalled.requests), (1, 0));
    let standing = tollgate.get("/api/v1/throttle?model=our-deployment").await;
    let standing = standing.json();
    // Once as it happened, once as it was read back.
    assert_eq!(standing["budgets"][0]["settled"], 2, "{standing}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn clients_that_leave_the_line_at_any_moment_leave_nothing_reserved() {
    let upstream = Upstream::start().await;
    let answering = upstream.answering(|_| used("claude-sonnet-5-5", 1, 1));
    let tollgate = with_only(
        answering.address,
        &[
            ("budgets.minute.scope", "global"),
            ("budgets.minute.window", "minute"),
            ("budgets.minute.limit", "100 requests"),
            ("throttle.queue.keep_alive", "1ms"),
        ],
    )
    .await;
    let ask = |number: usize, priority: &str| {
        let session = format!("s{}", number % 9);
        let headers = [
            ("x-tollgate-session", &*session),
            ("x-tollgate-priority", priority),
        ];
        let body = r#"{"model":"claude-sonnet-5-5","max_tokens":1,"stream":true,"messages":[]}"#;
        request("POST /anthropic/v1/messages", &headers, body)
    };
    for number in 0..80 {
        assert_eq!(tollgate.ask(ask(number, "normal")).await.0.status(), 200);
    }
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..300_usize {
        let mut wire = tollgate.connect().await;
        let asked = ask(number, "low");
        clients.spawn(async move {
            wire.send(asked).await;
            let pause = (number as u64).wrapping_mul(2_654_435_761) % 150;
            tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
            wire.reset();
        });
        if number == 150 {
            // Room comes in the midst of it.
            tollgate.set_clock(NOON + 62_000);
        }
    }
    clients.join_all().await;
    tollgate.settled().await;
    eventually("an empty line", async || {
        (tollgate.metric("tollgate_waiting_requests", &[]) == 0.0).then_some(())
    })
    .await;
    let standing = tollgate.get("/api/v1/throttle?global").await.json();
    let budget = &standing["budgets"][0];
    assert_eq!(budget["reserved"], 0, "{standing}");
    let charged = tollgate.records().await;
    let charged = charged
        .iter()
        .filter(|record| record.finished_unix_ms > NOON);
    let charged: u64 = charged.map(|record| record.charges().requests).sum();
    assert_eq!(budget["settled"].as_u64(), Some(charged), "{standing}");
}
