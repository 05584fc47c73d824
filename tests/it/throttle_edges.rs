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
