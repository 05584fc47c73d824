//! Who asks, how urgently, for what: what the path reads from a request, shows in the answer and writes down.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use tollgate::units::Priority;

use crate::rig::*;

const MESSAGE: &str = r#"{"id":"msg_1","model":"claude-sonnet-5-5","content":[],"usage":{"input_tokens":21,"output_tokens":9}}"#;

const UUID: &str = "6fd2f2a4-7b0c-4d0f-9a51-2f6ad0a3c111";

async fn ask(
    tollgate: &Tollgate,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (Head, tollgate::store::record::Record) {
    let (head, answer) = tollgate
        .ask(request(&format!("POST {path}"), headers, body))
        .await;
    assert_eq!(head.status(), 200, "{}", answer.text());
    let record = tollgate.record(&head).await;
    (head, record)
}

#[tokio::test]
async fn the_session_is_the_first_that_is_there() {
    let upstream = Upstream::start().await.answering(|_| json_answer(MESSAGE));
    let tollgate = Tollgate::before(upstream.address).await;
    let user = format!(
        r#"{{"model":"m","metadata":{{"user_id":"{{\"device_id\":\"d\",\"account_uuid\":\"\",\"session_id\":\"{UUID}\"}}"}}}}"#
    );
    let codex = r#"{"model":"m","prompt_cache_key":"cache-key","user":"somebody"}"#;
    let all = [
        ("x-tollgate-session", "by-header"),
        ("x-claude-code-session-id", UUID),
        ("authorization", "Bearer sk-test-key-0001"),
    ];
    for (path, headers, body, session) in [
        (
            "/@tag/anthropic/v1/messages",
            &all[..],
            user.as_str(),
            "by-header",
        ),
        ("/@tag/anthropic/v1/messages", &all[1..], &user, "tag"),
        ("/@tag:high/v1/messages", &all[1..], &user, "tag"),
        ("/anthropic/v1/messages", &all[1..2], "{}", UUID),
        ("/anthropic/v1/messages", &[], &user, UUID),
        ("/openai/v1/responses", &[("session-id", UUID)], codex, UUID),
        ("/openai/v1/responses", &[("session_id", UUID)], codex, UUID),
        (
            "/openai/v1/chat/completions",
            &[("x-session-id", "ses_1")],
            codex,
            "ses_1",
        ),
        ("/openai/v1/responses", &[], codex, "cache-key"),
        (
            "/openai/v1/chat/completions",
            &[],
            r#"{"model":"m","user":"somebody"}"#,
            "somebody",
        ),
        (
            "/openai/v1/chat/completions",
            &[],
            r#"{"model":"m","metadata":{"session_id":"in-metadata"}}"#,
            "in-metadata",
        ),
        ("/anthropic/v1/messages", &[], "{}", "default"),
        ("/openai/v1/chat/completions", &[], "not json", "default"),
    ] {
        let (head, record) = ask(&tollgate, path, headers, body).await;
        assert_eq!(record.session, session, "{path} {headers:?} {body}");
        assert_eq!(head.value("x-tollgate-session"), Some(session));
    }
}

#[tokio::test]
async fn a_key_alone_makes_a_session_of_its_own_without_being_shown() {
    let upstream = Upstream::start().await.answering(|_| json_answer(MESSAGE));
    let tollgate = Tollgate::before(upstream.address).await;
    let mut sessions = Vec::new();
    for (path, headers) in [
        (
            "/anthropic/v1/messages",
            [("x-api-key", "sk-ant-secret-alpha-1111")],
        ),
        (
            "/anthropic/v1/messages",
            [("x-api-key", "sk-ant-secret-alpha-2222")],
        ),
        (
            "/openai/v1/chat/completions",
            [("authorization", "Bearer sk-secret-beta-3333")],
        ),
        (
            "/gemini/v1beta/models/g:generateContent",
            [("x-goog-api-key", "AIzaSecretGamma4444")],
        ),
    ] {
        let (head, record) = ask(&tollgate, path, &headers, "{}").await;
        let (_, again) = ask(&tollgate, path, &headers, "{}").await;
        assert_eq!(
            record.session, again.session,
            "the same key, the same session"
        );
        assert_ne!(record.session, "default");
        assert_eq!(record.key, again.key);
        let key = record.key.clone().unwrap();
        for part in ["secret", "Secret", "alpha", "beta", "Gamma", "1111", "3333"] {
            assert!(!key.contains(part), "{key}");
            assert!(!record.session.contains(part), "{}", record.session);
            assert!(!format!("{head:?}").contains(part));
        }
        sessions.push(record.session);
    }
    sessions.sort();
    sessions.dedup();
    assert_eq!(sessions.len(), 4);
    // Gemini's key may stand in the address.
    let (_, record) = ask(
        &tollgate,
        "/gemini/v1beta/models/g:generateContent?key=AIzaSecretGamma4444",
        &[],
        "{}",
    )
    .await;
    assert!(sessions.contains(&record.session));
}

#[tokio::test]
async fn agents_share_their_parents_session_under_names_of_their_own() {
    let upstream = Upstream::start().await.answering(|_| json_answer(MESSAGE));
    let tollgate = Tollgate::before(upstream.address).await;
    let main = [("x-claude-code-session-id", UUID)];
    let sub = [
        ("x-claude-code-session-id", UUID),
        ("x-claude-code-agent-id", "a62a16bd16a5d109a"),
    ];
    let (_, main) = ask(&tollgate, "/anthropic/v1/messages", &main, "{}").await;
    let (_, sub) = ask(&tollgate, "/anthropic/v1/messages", &sub, "{}").await;
    assert_eq!(main.session, sub.session);
    assert_eq!(main.agent, None);
    assert_eq!(sub.agent.as_deref(), Some("a62a16bd16a5d109a"));
}

#[tokio::test]
async fn the_priority_is_the_first_that_is_there() {
    let upstream = Upstream::start().await.answering(|_| json_answer(MESSAGE));
    let tollgate = Tollgate::before(upstream.address).await;
    for (path, headers, priority) in [
        (
            "/@s:low/anthropic/v1/messages",
            &[("x-tollgate-priority", "critical")][..],
            Priority::Critical,
        ),
        ("/@s:low/anthropic/v1/messages", &[], Priority::Low),
        ("/@s/anthropic/v1/messages", &[], Priority::Normal),
        (
            "/anthropic/v1/messages",
            &[("x-tollgate-priority", "HIGH")],
            Priority::High,
        ),
        ("/anthropic/v1/messages", &[], Priority::Normal),
        ("/@s:high/openai/v1/files", &[], Priority::High),
    ] {
        let (head, record) = ask(&tollgate, path, headers, "{}").await;
        assert_eq!(record.priority, priority, "{path} {headers:?}");
        assert_eq!(head.value("x-tollgate-priority"), Some(priority.as_str()));
    }
}

#[tokio::test]
async fn the_task_is_the_clients_or_read_from_the_newest_user_text() {
    let upstream = Upstream::start().await.answering(|_| json_answer(MESSAGE));
    let tollgate = Tollgate::before(upstream.address).await;
    let body = r#"{"model":"m","messages":[{"role":"user","content":"write documentation for this module please, with every function described"},{"role":"assistant","content":"ok"},{"role":"user","content":"now debug the crash in the parser: find out why this error and its stack trace appear"}]}"#;
    let (head, record) = ask(&tollgate, "/anthropic/v1/messages", &[], body).await;
    assert_eq!(record.task.as_deref(), Some("debugging"));
    assert_eq!(head.value("x-tollgate-task"), Some("debugging"));
    let (head, record) = ask(
        &tollgate,
        "/anthropic/v1/messages",
        &[("x-tollgate-task", "research")],
        body,
    )
    .await;
    assert_eq!(record.task.as_deref(), Some("research"));
    assert_eq!(head.value("x-tollgate-task"), Some("research"));
}

#[tokio::test]
async fn labels_of_the_client_are_kept() {
    let upstream = Upstream::start().await.answering(|_| json_answer(MESSAGE));
    let tollgate = Tollgate::before(upstream.address).await;
    let (head, record) = ask(
        &tollgate,
        "/anthropic/v1/messages",
        &[("x-tollgate-phase", "build-7"), ("x-tollgate-depth", "3")],
        r#"{"model":"claude-sonnet-5-5"}"#,
    )
    .await;
    assert_eq!(record.phase.as_deref(), Some("build-7"));
    assert_eq!(record.depth, Some(3));
    assert_eq!(record.requested_model.as_deref(), Some("claude-sonnet-5-5"));
    assert_eq!(record.model.as_deref(), Some("claude-sonnet-5-5"));
    assert_eq!(head.value("x-tollgate-model"), Some("claude-sonnet-5-5"));
    assert_eq!(head.value("x-tollgate-attempts"), Some("1"));
    assert_eq!(record.provider, "anthropic");
    assert_eq!(record.endpoint, "messages");
}

#[tokio::test]
async fn names_that_no_header_can_hold_do_no_harm() {
    let upstream = Upstream::start().await.answering(|_| json_answer(MESSAGE));
    let tollgate = Tollgate::before(upstream.address).await;
    let long = "x".repeat(100_000);
    for name in ["a\\nb", "a\\u0000b", "ünïcödé \u{1f600}", "", long.as_str()] {
        let body = format!(r#"{{"model":"{name}","user":"{name}","prompt_cache_key":"{name}"}}"#);
        let (head, record) = ask(&tollgate, "/openai/v1/chat/completions", &[], &body).await;
        assert!(record.session.len() <= 512, "{}", record.session.len());
        let model = record.requested_model.unwrap_or_default();
        assert!(model.len() <= 1_024, "names are bounded: {}", model.len());
        assert!(head.values("x-tollgate-session").len() <= 1);
    }
    assert_eq!(
        tollgate.gate.metrics.encode().matches("xxxxxxxxxx").count(),
        0
    );
}
