//! The demo's made-up clients: a few sessions of different kinds that ask at their own pace, in every wire format.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::task::JoinSet;

/// One made-up session.
#[derive(Debug, Clone, Copy)]
struct Actor {
    session: &'static str,
    priority: &'static str,
    path: &'static str,
    body: &'static str,
    /// Pause between two requests.
    pause: Duration,
    /// Every so many requests goes wrong in its own way.
    mishap: (u64, Mishap),
}

/// What goes wrong now and then.
#[derive(Debug, Clone, Copy)]
enum Mishap {
    /// The provider is overloaded.
    Overloaded,
    /// The client leaves in mid-stream.
    Leaves,
}

const ACTORS: [Actor; 6] = [
    Actor {
        session: "checkout-bug",
        priority: "high",
        path: "/anthropic/v1/messages",
        body: r#"{"model":"claude-opus-5-5","max_tokens":900,"stream":true,"messages":[{"role":"user","content":"Debug the failing payment test and fix the error in the retry logic of the checkout service, then explain what was wrong."}]}"#,
        pause: Duration::from_millis(900),
        mishap: (9, Mishap::Overloaded),
    },
    Actor {
        session: "login-ui",
        priority: "normal",
        path: "/openai/v1/responses",
        body: r#"{"model":"gpt-6.1-terra","max_output_tokens":600,"stream":true,"input":"Fix the login button styling"}"#,
        pause: Duration::from_millis(700),
        mishap: (7, Mishap::Leaves),
    },
    Actor {
        session: "auth-feature",
        priority: "normal",
        path: "/openai/v1/chat/completions",
        body: r#"{"model":"gpt-6.1-sol","max_completion_tokens":700,"stream":true,"messages":[{"role":"user","content":"Implement user authentication function"}]}"#,
        pause: Duration::from_millis(1_100),
        mishap: (11, Mishap::Overloaded),
    },
    Actor {
        session: "handbook",
        priority: "low",
        path: "/anthropic/v1/messages",
        body: r#"{"model":"claude-haiku-5-5","max_tokens":500,"messages":[{"role":"user","content":"Write a README for this project"}]}"#,
        pause: Duration::from_millis(1_300),
        mishap: (13, Mishap::Overloaded),
    },
    Actor {
        session: "market-study",
        priority: "low",
        path: "/gemini/v1beta/models/gemini-3.8-flash:streamGenerateContent?alt=sse",
        body: r#"{"contents":[{"role":"user","parts":[{"text":"Research and compare three vector databases"}]}],"generationConfig":{"maxOutputTokens":800}}"#,
        pause: Duration::from_millis(1_700),
        mishap: (8, Mishap::Leaves),
    },
    Actor {
        session: "local-notes",
        priority: "normal",
        path: "/ollama/api/chat",
        body: r#"{"model":"qwen3:8b","messages":[{"role":"user","content":"Rename this variable"}]}"#,
        pause: Duration::from_millis(1_900),
        mishap: (10, Mishap::Leaves),
    },
];

/// A client of the proxy.
pub(super) type Http = Client<HttpConnector, Full<Bytes>>;

/// A client that keeps its connections.
pub(super) fn client() -> Http {
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .build_http()
}

/// Lets every session ask again and again, until the future is dropped.
pub(super) async fn run(proxy: SocketAddr, client: Http) {
    let mut actors = JoinSet::new();
    for actor in ACTORS {
        actors.spawn(act(actor, proxy, client.clone()));
    }
    // Actors never end by themselves; dropped, the set ends them.
    while actors.join_next().await.is_some() {}
}

async fn act(actor: Actor, proxy: SocketAddr, client: Http) -> Infallible {
    for count in 1_u64.. {
        let mishap = count
            .is_multiple_of(actor.mishap.0)
            .then_some(actor.mishap.1);
        // A refusal or a cut is part of the picture: the ledger has it, nothing else needs to be done about it.
        let _ = ask(&actor, proxy, &client, count, mishap).await;
        tokio::time::sleep(actor.pause).await;
    }
    unreachable!("counting up does not end")
}

async fn ask(
    actor: &Actor,
    proxy: SocketAddr,
    client: &Http,
    count: u64,
    mishap: Option<Mishap>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let input = 400 + (count * 731) % 9_000;
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://{proxy}{}", actor.path))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::AUTHORIZATION, "Bearer demo")
        .header("x-tollgate-session", actor.session)
        .header("x-tollgate-priority", actor.priority)
        .header("x-simulate-latency-ms", 150 + (count * 97) % 400)
        .header("x-simulate-token-ms", 4)
        .header("x-simulate-chunk-tokens", 4)
        .header("x-simulate-input-tokens", input)
        .header("x-simulate-cached-tokens", input / 3)
        .header("x-simulate-output-tokens", 60 + (count * 53) % 400);
    if let Some(Mishap::Overloaded) = mishap {
        request = request.header("x-simulate-status", 529);
    }
    let mut answer = client
        .request(request.body(Full::from(actor.body))?)
        .await?;
    let mut frames = 0;
    while let Some(frame) = answer.body_mut().frame().await {
        frame?;
        frames += 1;
        if frames == 5 && matches!(mishap, Some(Mishap::Leaves)) {
            break;
        }
    }
    Ok(())
}
