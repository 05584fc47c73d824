//! What a restart finds: after a clean end, with a clock that was set back meanwhile, in the next month.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::oneshot;
use tollgate::clock::Clock;
use tollgate::llm::catalogue::Catalogue;
use tollgate::proxy::Gate;
use tollgate::server;
use tollgate::store::Ledger;

use super::crash::{command, compare, records_at_rest, settings, wide};
use super::*;
use crate::binary;

/// A tollgate in this process whose ledger outlives it; its clock shows what it is told to show, made steady as the
/// program's own.
struct Run {
    address: SocketAddr,
    gate: Arc<Gate>,
    stop: oneshot::Sender<()>,
    server: tokio::task::JoinHandle<usize>,
}

impl Run {
    async fn start(home: &Path, upstream: SocketAddr, rules: &Rules, now_ms: u64) -> Self {
        let settings = settings(home, upstream, rules);
        let clock = Clock::from_fn(move || now_ms).steady();
        let (ledger, opened) = Ledger::open(&settings.ledger, clock.source()).unwrap();
        clock.not_before(opened.newest_unix_ms);
        let gate = Gate::new(settings, Catalogue::builtin(), ledger, clock, now_ms).unwrap();
        gate.recall().unwrap();
        let gate = Arc::new(gate);
        let listener = server::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            stopped.await.ok();
        };
        let server = tokio::spawn(server::run(
            listener,
            None,
            Arc::clone(&gate),
            stopped,
            std::future::pending(),
        ));
        Self {
            address,
            gate,
            stop,
            server,
        }
    }

    async fn ask(&self, request: impl AsRef<[u8]>) -> (Head, Body) {
        let mut wire = Wire::connect(self.address).await;
        wire.send(request).await;
        wire.message().await
    }

    async fn end(self) {
        self.stop.send(()).unwrap();
        within("the end", self.server).await.unwrap();
        let gate = self.gate;
        tokio::task::spawn_blocking(move || gate.ledger.shutdown(Duration::from_secs(10)))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_clean_restart_changes_no_fill() {
    let upstream = Upstream::start().await.answering(echo);
    let home = TempDir::new().unwrap();
    let rules = wide();
    let run = Run::start(home.path(), upstream.address, &rules, NOON).await;
    for number in 0..40 {
        let session = format!("s{}", number % 3);
        let one = Ask {
            input: number,
            cached: 50,
            written: 2,
            output: number * 3,
            ..ask(&session, "normal")
        };
        assert_eq!(run.ask(one.bytes()).await.0.status(), 200);
    }
    let shown = async |run: &Run| {
        let mut throttle = run
            .ask(request("GET /api/v1/throttle", &[], ""))
            .await
            .1
            .json();
        let mut budgets = throttle["budgets"].as_array().unwrap().clone();
        for budget in &mut budgets {
            // The steady clock goes on between the two looks.
            budget.as_object_mut().unwrap().remove("eases_in_ms");
        }
        budgets.sort_by_key(Value::to_string);
        throttle["budgets"] = Value::Null;
        budgets
    };
    let before = shown(&run).await;
    run.end().await;
    let run = Run::start(home.path(), upstream.address, &rules, NOON + 5 * SECOND).await;
    assert_eq!(shown(&run).await, before);
    run.end().await;
    compare(
        &json!({"budgets": before}),
        &records_at_rest(home.path()).await,
    );
}

#[tokio::test]
async fn a_clock_set_back_between_two_runs_frees_nothing() {
    for window in ["minute", "hour", "day", "month"] {
        let upstream = Upstream::start().await.answering(echo);
        let home = TempDir::new().unwrap();
        let rules = Rules::none().hard("b", "session", window, "10 requests");
        // The second of a month: a day back is another one.
        let spent_at = u64::try_from(
            "2026-12-01T06:00:00Z"
                .parse::<jiff::Timestamp>()
                .unwrap()
                .as_millisecond(),
        )
        .unwrap();
        let run = Run::start(home.path(), upstream.address, &rules, spent_at).await;
        for _ in 0..10 {
            assert_eq!(run.ask(ask("s", "critical").bytes()).await.0.status(), 200);
        }
        run.end().await;
        // Twice, so that the second finds nothing left over in the journal.
        for back in [DAY, DAY, 30 * DAY] {
            let run = Run::start(home.path(), upstream.address, &rules, spent_at - back).await;
            let (head, body) = run.ask(ask("s", "critical").bytes()).await;
            assert_ne!(head.status(), 200, "{window}: set back by {back} ms");
            assert_eq!(told(&body)["settled"], 10, "{window}");
            run.end().await;
        }
    }
}

#[tokio::test]
async fn the_real_binary_finds_what_was_spent_by_a_clock_that_was_a_day_ahead() {
    for window in ["hour", "day", "month"] {
        let upstream = Upstream::start().await.answering(echo);
        let home = TempDir::new().unwrap();
        let rules = Rules::none().hard("b", "session", window, "10 requests");
        let now = Clock::system().unix_ms();
        let run = Run::start(home.path(), upstream.address, &rules, now + DAY).await;
        for _ in 0..10 {
            assert_eq!(run.ask(ask("s", "critical").bytes()).await.0.status(), 200);
        }
        run.end().await;
        for ends in ["killed", "in peace"] {
            let mut proxy =
                binary::Proxy::start(command(home.path(), upstream.address, &rules)).await;
            let (head, body) = proxy.ask(ask("s", "critical").bytes()).await;
            assert_ne!(head.status(), 200, "{window} {ends}");
            assert_eq!(told(&body)["settled"], 10, "{window} {ends}");
            match ends {
                "killed" => proxy.process.kill().await,
                _ => {
                    proxy.process.terminate();
                    proxy.process.ended().await;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_session_that_was_put_away_comes_back_right_after_a_restart_too() {
    let upstream = Upstream::start().await.answering(echo);
    let home = TempDir::new().unwrap();
    let rules = Rules::none()
        .budget("b", "session", "day", "10,000 tokens")
        .set("throttle.max_live", "20");
    let run = Run::start(home.path(), upstream.address, &rules, NOON).await;
    for number in 0..200 {
        let session = format!("s{number}");
        let one = Ask {
            output: 1_000 + number,
            ..ask(&session, "normal")
        };
        assert_eq!(run.ask(one.bytes()).await.0.status(), 200);
    }
    run.end().await;
    let run = Run::start(home.path(), upstream.address, &rules, NOON + MINUTE).await;
    for number in [0, 7, 100, 199] {
        let session = format!("s{number}");
        let one = Ask {
            output: 8_600,
            ..ask(&session, "critical")
        };
        assert_eq!(run.ask(one.bytes()).await.0.status(), 200);
        let (head, body) = run.ask(ask(&session, "high").bytes()).await;
        assert_ne!(head.status(), 200, "{session}");
        assert_eq!(told(&body)["settled"], 9_600 + number, "{session}");
    }
    run.end().await;
}

#[tokio::test]
async fn a_restart_in_the_next_month_begins_that_month_and_keeps_the_hour() {
    let upstream = Upstream::start().await.answering(echo);
    let home = TempDir::new().unwrap();
    let rules = Rules::none()
        .budget("month", "session", "month", "100 requests")
        .budget("hour", "session", "hour", "100 requests")
        .set("throttle.time_zone", "Europe/Vienna");
    let border: jiff::Timestamp = "2026-11-30T23:00:00Z".parse().unwrap();
    let border = u64::try_from(border.as_millisecond()).unwrap();
    for (now, before) in [
        (border - 10 * MINUTE, [0, 0]),
        (border - 5 * MINUTE, [10, 10]),
        (border + MINUTE, [0, 20]),
        (border + 51 * MINUTE, [10, 20]),
    ] {
        let run = Run::start(home.path(), upstream.address, &rules, now).await;
        let throttle = run
            .ask(request("GET /api/v1/throttle", &[], ""))
            .await
            .1
            .json();
        let settled = ["month", "hour"].map(|budget| {
            let budgets = throttle["budgets"].as_array().unwrap();
            let found = budgets.iter().find(|known| known["budget"] == budget);
            found.map_or(0, |found| found["settled"].as_u64().unwrap())
        });
        assert_eq!(settled, before, "{now}: {throttle}");
        for _ in 0..10 {
            assert_eq!(run.ask(ask("s", "normal").bytes()).await.0.status(), 200);
        }
        run.end().await;
    }
}
