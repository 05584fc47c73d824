//! The demo's climb: one session fills its budget step by step, and at each level a request of each priority is tried.
//! What becomes of them is printed as it happens: the contract's table, from the real thing.

use std::error::Error;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::traffic::Http;
use crate::policy::budget::{Budget, Limit, ScopeKey, ScopeKind, Window};
use crate::policy::throttle::Level;
use crate::proxy::Gate;
use crate::units::Priority;

/// The session that climbs.
const SESSION: &str = "release-notes";

/// What each session of the demo may use in a minute.
const LIMIT: u64 = 100_000;

/// The fill to which the session climbs for each level, in tokens.
const CLIMB: [(Level, u64); 4] = [
    (Level::None, 0),
    (Level::Warning, 70_000),
    (Level::Soft, 80_000),
    (Level::Hard, 90_000),
];

/// The largest step of the climb, in tokens, and the pause after each.
const STEP: u64 = 10_000;
const PAUSE: Duration = Duration::from_millis(250);

/// What a request that only tries the level uses, and one that is too large for what is left at HARD.
const SMALL: u64 = 100;
const LARGE: u64 = 15_000;

/// Output of each of its requests.
const OUTPUT: u64 = 20;

/// An answer that takes longer than this is waiting in line; the simulated provider answers at once.
const ANSWERED_BY: Duration = Duration::from_secs(2);

type Failed = Box<dyn Error + Send + Sync>;

/// The demo's budget for each session. A window of a minute, so that a person sees it fill and let go.
pub(super) fn budget() -> Budget {
    Budget {
        name: "session-tokens-minute".to_owned(),
        scope: ScopeKind::Session,
        only: None,
        window: Window::Minute,
        limit: Limit::Tokens(LIMIT),
        hard: false,
        counts_cache_reads: false,
    }
}

/// What has become of a request.
#[derive(Debug)]
enum Fate {
    Passed,
    Refused(String),
    Waits,
}

impl Fate {
    const fn as_str(&self) -> &'static str {
        match self {
            Fate::Passed => "passes",
            Fate::Refused(_) => "refused",
            Fate::Waits => "waits",
        }
    }
}

/// The session, and what it has waiting in line.
#[derive(Debug)]
pub(super) struct Climb<'a> {
    pub(super) proxy: SocketAddr,
    pub(super) client: Http,
    pub(super) gate: &'a Gate,
    /// Requests that wait; ended when this is dropped.
    pub(super) waiting: JoinSet<()>,
}

impl Climb<'_> {
    /// Climbs once through all levels.
    ///
    /// # Errors
    /// The proxy does not answer, or nobody reads what is printed.
    pub(super) async fn once(&mut self) -> Result<(), Failed> {
        if self.used() > SMALL {
            say(&format!(
                "{SESSION} has to wait: what it used before is not a minute old yet\n"
            ))?;
            while self.used() > SMALL {
                sleep(PAUSE).await;
            }
        }
        say(&format!(
            "Session {SESSION} uses up its 100,000 tokens per minute. What becomes of a request of each priority:\n\n \
             level         fill  low      normal   high     critical\n"
        ))?;
        let mut refusal = None;
        for (level, fill) in CLIMB {
            self.climb_to(fill).await?;
            refusal = self.row(level.as_str(), SMALL).await?.or(refusal);
        }
        // The critical one of these takes the session to CRITICAL.
        self.row("does not fit", LARGE).await?;
        self.row(Level::Critical.as_str(), SMALL).await?;
        if let Some(refusal) = refusal {
            say(&format!("\n A refusal says why:\n {refusal}\n\n"))?;
        }
        Ok(())
    }

    /// Tells what becomes of requests of this size. Returns what the last refused one was told.
    async fn row(&mut self, name: &str, tokens: u64) -> Result<Option<String>, Failed> {
        let mut line = format!(" {name:<12}  {:>3} %", self.used() * 100 / LIMIT);
        let mut refusal = None;
        for priority in Priority::ALL {
            let fate = self.try_one(priority, tokens).await?;
            write!(line, "  {:<7}", fate.as_str())?;
            if let Fate::Refused(text) = fate {
                refusal = Some(text);
            }
        }
        say(&format!("{}\n", line.trim_end()))?;
        Ok(refusal)
    }

    /// Sends one request; if it has to wait, what becomes of it is told later.
    async fn try_one(&mut self, priority: Priority, tokens: u64) -> Result<Fate, Failed> {
        let mut answer = Box::pin(ask(self.client.clone(), self.proxy, priority, tokens));
        let started = Instant::now();
        if let Ok(answer) = timeout(ANSWERED_BY, &mut answer).await {
            return answer;
        }
        self.waiting.spawn(async move {
            let fate = answer.await;
            let waited = started.elapsed().as_secs();
            // The demo may have ended meanwhile.
            let _ = match fate {
                Ok(Fate::Passed) => say(&format!(
                    "{SESSION}: the {priority} one that waited passes after {waited} s; what is older than a minute \
                     counts no more\n"
                )),
                _ => say(&format!(
                    "{SESSION}: the {priority} one that waited is refused after {waited} s\n"
                )),
            };
        });
        Ok(Fate::Waits)
    }

    /// Uses tokens until so many are used. Critical, so that nothing stops it.
    async fn climb_to(&self, fill: u64) -> Result<(), Failed> {
        loop {
            let missing = fill.saturating_sub(self.used());
            if missing == 0 {
                return Ok(());
            }
            let step = missing.clamp(SMALL, STEP);
            ask(self.client.clone(), self.proxy, Priority::Critical, step).await?;
            sleep(PAUSE).await;
        }
    }

    /// Tokens that the session has used in its window.
    fn used(&self) -> u64 {
        let session = ScopeKey {
            kind: ScopeKind::Session,
            name: SESSION.to_owned(),
        };
        let now = self.gate.throttle_now(Some(session));
        let fill = now.budgets.first().map_or(0.0, |budget| budget.fill);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a fill is a small positive number"
        )]
        let used = (fill * LIMIT as f64).round() as u64;
        used
    }
}

/// Sends one request that uses so many tokens, and waits for its answer.
async fn ask(
    client: Http,
    proxy: SocketAddr,
    priority: Priority,
    tokens: u64,
) -> Result<Fate, Failed> {
    let input = tokens - OUTPUT;
    // About three bytes for each token, as estimates take it.
    let words = "tell ".repeat((input * 3 / 5) as usize);
    let body = serde_json::json!({
        "model": "claude-sonnet-5-5",
        "max_tokens": OUTPUT,
        "messages": [{"role": "user", "content": words}],
    });
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://{proxy}/anthropic/v1/messages"))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::AUTHORIZATION, "Bearer demo")
        .header("x-tollgate-session", SESSION)
        .header("x-tollgate-priority", priority.as_str())
        .header("x-simulate-input-tokens", input)
        .header("x-simulate-output-tokens", OUTPUT)
        .body(Full::from(Bytes::from(body.to_string())))?;
    let answer = client.request(request).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    if status.is_success() {
        return Ok(Fate::Passed);
    }
    let error: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = error["error"]["message"].as_str().unwrap_or_default();
    Ok(Fate::Refused(text.to_owned()))
}

fn say(text: &str) -> Result<(), Failed> {
    super::print(text).map_err(|failure| failure.render(false).into())
}
