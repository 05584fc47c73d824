//! Whose models are asked, in which wire format, and at what price.

use bytes::Bytes;
use clap::ValueEnum;
use http::Request;
use http::request::Builder;
use http_body_util::Full;
use serde_json::json;
use tollgate::llm::catalogue::Catalogue;
use tollgate::llm::pricing::{self, Terms};
use tollgate::llm::usage::Usage;
use tollgate::units::Cost;

use crate::load::{Job, Work};

/// Largest answer that a request allows.
const MAX_OUTPUT: u64 = 4096;

/// A vendor with a premium and a cheap model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Vendor {
    /// By Anthropic Messages.
    Anthropic,
    /// By OpenAI Chat Completions.
    Openai,
}

impl Vendor {
    /// Every one.
    pub(crate) const ALL: [Vendor; 2] = [Vendor::Anthropic, Vendor::Openai];

    /// The provider's name in tollgate and in the catalogue.
    pub(crate) const fn provider(self) -> &'static str {
        match self {
            Vendor::Anthropic => "anthropic",
            Vendor::Openai => "openai",
        }
    }

    /// The model that is asked for: the rung that the shipped ladders call `premium`.
    pub(crate) const fn premium(self) -> &'static str {
        match self {
            Vendor::Anthropic => "claude-sonnet-5-5",
            Vendor::Openai => "gpt-6.1-sol",
        }
    }

    /// The rung that they call `cheap`.
    pub(crate) const fn cheap(self) -> &'static str {
        match self {
            Vendor::Anthropic => "claude-haiku-5-5",
            Vendor::Openai => "gpt-6-luna",
        }
    }

    /// What so many tokens cost now; `None` if the catalogue does not say.
    pub(crate) fn price(
        self,
        catalogue: &Catalogue,
        model: &str,
        input: u64,
        output: u64,
    ) -> Option<Cost> {
        let terms = Terms {
            provider: self.provider(),
            model,
            at_unix_ms: u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0),
            ..Terms::default()
        };
        let usage = Usage {
            input,
            output,
            ..Usage::default()
        };
        pricing::price(catalogue, &terms, &usage).cost.ok()
    }

    /// What one request of some work costs now.
    pub(crate) fn price_of(self, catalogue: &Catalogue, model: &str, work: Work) -> Option<Cost> {
        let (input, output) = work.tokens();
        self.price(catalogue, model, input, output)
    }

    /// The request of a job. The context that an agent sends along is its system prompt, so that the newest words of the
    /// user are what the user wrote; the provider is told how many tokens all of it is.
    pub(crate) fn request(self, base: &str, job: &Job) -> http::Result<Request<Full<Bytes>>> {
        let (input, output) = job.work.tokens();
        let context = context(input.saturating_mul(4) as usize - job.prompt.len());
        let user = json!({ "role": "user", "content": job.prompt });
        let (path, body) = match self {
            Vendor::Anthropic => (
                "/v1/messages",
                json!({
                    "model": self.premium(),
                    "max_tokens": MAX_OUTPUT,
                    "system": context,
                    "messages": [user],
                }),
            ),
            Vendor::Openai => (
                "/v1/chat/completions",
                json!({
                    "model": self.premium(),
                    "max_completion_tokens": MAX_OUTPUT,
                    "messages": [{ "role": "system", "content": context }, user],
                }),
            ),
        };
        self.credential(Request::post(format!("{base}/{}{path}", self.provider())))
            .header("content-type", "application/json")
            .header("x-simulate-input-tokens", input)
            .header("x-simulate-output-tokens", output)
            .header("x-tollgate-session", job.session)
            // Not the task: that is tollgate's to find out. The ledger keeps this label beside what it found.
            .header("x-tollgate-phase", job.work.name())
            .body(Full::new(Bytes::from(body.to_string())))
    }

    fn credential(self, request: Builder) -> Builder {
        match self {
            Vendor::Anthropic => request
                .header("x-api-key", "sk-ant-savings")
                .header("anthropic-version", "2023-06-01"),
            Vendor::Openai => request.header("authorization", "Bearer sk-savings"),
        }
    }
}

/// So many bytes of what an agent knows of a project.
fn context(bytes: usize) -> String {
    let lines = (1..).map(|line| {
        format!("{line:05}  let total = items.iter().map(|item| item.amount).sum();\n")
    });
    let mut text = String::from("You are a careful assistant. The project so far:\n");
    for line in lines {
        if text.len() >= bytes {
            break;
        }
        text.push_str(&line);
    }
    text.truncate(bytes);
    text
}
