//! The scenarios: what the provider allows, what tollgate is told of it, and who asks.

use std::ops::Range;
use std::time::Duration;

use crate::client::Priority;
use crate::crowd::{Demand, Session};
use crate::job::Wire;

/// Sessions in every scenario.
const SESSIONS: usize = 20;

/// What is scarce, per second (or at the same time): that much is 100 % goodput.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scarce {
    /// Requests per second.
    Requests(f64),
    /// Output tokens per second, as charged in the end.
    OutputTokens(f64),
    /// Input and output tokens per second, as charged in the end.
    Tokens(f64),
    /// Requests at the same time.
    Places(f64),
}

/// One scenario. Times are in seconds since its beginning.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    /// Its name.
    pub(crate) name: &'static str,
    /// What happens in it.
    pub(crate) about: &'static str,
    /// How the provider is asked.
    pub(crate) wire: Wire,
    /// The provider's limits for every model, in the simulator's words.
    pub(crate) limits: &'static str,
    /// What tollgate is told of them.
    pub(crate) configured: &'static [(&'static str, u64)],
    /// What is scarce.
    pub(crate) scarce: Scarce,
    /// Who asks.
    pub(crate) sessions: Vec<Session>,
    /// When goodput and fairness are measured.
    pub(crate) window: Range<f64>,
    /// When the provider answers everything with 529.
    pub(crate) outage: Option<Range<f64>>,
    /// When no job begins any more.
    pub(crate) end: f64,
    /// Whether all sessions should get the same.
    pub(crate) equal: bool,
}

fn alike(workers: usize) -> Vec<Session> {
    let session = Session {
        priority: Priority::Normal,
        demand: Demand::Workers(workers),
        begins: Duration::ZERO,
    };
    vec![session; SESSIONS]
}

/// All scenarios. `share` scales their windows.
pub(crate) fn scenarios(share: f64) -> Vec<Scenario> {
    let window = |from: f64, seconds: f64| from..from + seconds * share;
    let steady = Scenario {
        name: "steady over-demand",
        about: "1,200 requests a minute, 20 sessions with 4 workers each, who always have another job",
        wire: Wire::Anthropic,
        limits: "requests_per_minute = 1200",
        configured: &[("requests_per_minute", 1200)],
        scarce: Scarce::Requests(20.0),
        sessions: alike(4),
        window: window(4.0, 24.0),
        outage: None,
        end: window(4.0, 24.0).end,
        equal: true,
    };
    let bursts = alike(0).into_iter().map(|session| Session {
        demand: Demand::Every(Duration::from_secs(8), 10),
        ..session
    });
    let mut greedy = alike(3);
    greedy[0].demand = Demand::Workers(30);
    let priorities = (0..SESSIONS).map(|number| match number {
        0..16 => Session {
            priority: Priority::Low,
            demand: Demand::Workers(5),
            begins: Duration::ZERO,
        },
        // They come one after the other, not together.
        _ => Session {
            priority: Priority::High,
            demand: Demand::Every(Duration::from_millis(800), 1),
            begins: Duration::from_millis(2000 + 200 * (number as u64 - 16)),
        },
    });
    let outage = 12.0..12.0 + 20.0 * share;
    vec![
        steady.clone(),
        Scenario {
            name: "bursts",
            about: "1,200 requests a minute, every 8 s each of 20 sessions starts 10 jobs at once",
            sessions: bursts.collect(),
            window: 4.0..4.0 + (24.0 * share).max(12.0),
            end: 4.0 + (24.0 * share).max(12.0),
            ..steady.clone()
        },
        Scenario {
            name: "refused requests are charged",
            about: "as steady over-demand, but a refused request takes what an accepted one would, into debt \
                    up to a minute's worth",
            limits: "requests_per_minute = 1200\ncharge_refused = true",
            ..steady.clone()
        },
        Scenario {
            name: "one greedy session",
            about: "1,200 requests a minute, one session with 30 workers beside 19 with 3",
            sessions: greedy,
            ..steady.clone()
        },
        Scenario {
            name: "high priority beside low",
            about: "1,200 requests a minute, 16 sessions of low priority with 5 workers each; 4 of high priority start \
                    a job every 0.8 s",
            sessions: priorities.collect(),
            equal: false,
            ..steady.clone()
        },
        Scenario {
            name: "outage of 20 s",
            about: "as steady over-demand; the provider answers everything with 529 for 20 s",
            window: 4.0..12.0,
            end: outage.end + 30.0,
            outage: Some(outage),
            ..steady.clone()
        },
        Scenario {
            name: "tiny limit",
            about: "5 requests a minute, 30 times as fast: 150 a minute, never two at once; 20 sessions with one worker \
                    each",
            // A bucket of 1.25: sped up 30 times, a bucket of one would refuse for a millisecond's jitter on the way.
            limits: "requests_per_minute = 150\nrequest_burst = \"500ms\"",
            configured: &[("requests_per_minute", 150)],
            scarce: Scarce::Requests(2.5),
            sessions: alike(1),
            window: window(4.0, 48.0),
            end: window(4.0, 48.0).end,
            ..steady.clone()
        },
        Scenario {
            name: "token-bound, Anthropic",
            about: "81,000 output tokens a minute, reserved by max_tokens and corrected at the end, 10 s of them at \
                    once; 600,000 input tokens",
            limits: "output_tokens_per_minute = 81000\ninput_tokens_per_minute = 600000\ntoken_burst = \"10s\"",
            configured: &[
                ("output_tokens_per_minute", 81_000),
                ("input_tokens_per_minute", 600_000),
            ],
            scarce: Scarce::OutputTokens(1350.0),
            window: window(12.0, 24.0),
            end: window(12.0, 24.0).end,
            ..steady.clone()
        },
        Scenario {
            name: "token-bound, OpenAI",
            about: "645,000 tokens a minute, prompt and maximum charged at admission, 10 s of them at once",
            wire: Wire::OpenAi,
            limits: "tokens_per_minute = 645000\ntoken_burst = \"10s\"",
            configured: &[("tokens_per_minute", 645_000)],
            scarce: Scarce::Tokens(10_750.0),
            window: window(12.0, 24.0),
            end: window(12.0, 24.0).end,
            ..steady.clone()
        },
        Scenario {
            name: "concurrency-bound",
            about: "8 requests at the same time, no headers",
            wire: Wire::OpenAi,
            limits: "concurrency = 8\nheaders = \"none\"",
            configured: &[("concurrency", 8)],
            scarce: Scarce::Places(8.0),
            ..steady.clone()
        },
        Scenario {
            name: "learned from headers",
            about: "as steady over-demand, but tollgate is told nothing",
            configured: &[],
            window: window(4.0, 40.0),
            end: window(4.0, 40.0).end,
            ..steady.clone()
        },
        Scenario {
            name: "learned from 429s alone",
            about: "as steady over-demand, but tollgate is told nothing, and the provider sends no headers",
            limits: "requests_per_minute = 1200\nheaders = \"none\"",
            configured: &[],
            window: window(4.0, 40.0),
            end: window(4.0, 40.0).end,
            ..steady
        },
    ]
}
