//! What the sessions ask for: three kinds of jobs in a fixed mix, the same for every session and run.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

/// Time to the first token, of every job.
pub(crate) const FIRST_TOKEN: Duration = Duration::from_millis(200);

/// Output tokens per second, of every job.
pub(crate) const TOKENS_PER_SECOND: u64 = 400;

/// Tokens in one frame of a stream.
pub(crate) const CHUNK_TOKENS: u64 = 20;

/// In whose format a provider is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    /// Anthropic Messages.
    Anthropic,
    /// OpenAI Chat Completions.
    OpenAi,
}

impl Wire {
    /// The provider's name in tollgate.
    pub(crate) const fn provider(self) -> &'static str {
        match self {
            Wire::Anthropic => "anthropic",
            Wire::OpenAi => "openai",
        }
    }

    /// The path at the provider.
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Wire::Anthropic => "/v1/messages",
            Wire::OpenAi => "/v1/chat/completions",
        }
    }

    /// What a stream says at its end.
    pub(crate) const fn last_words(self) -> &'static [u8] {
        match self {
            Wire::Anthropic => b"message_stop",
            Wire::OpenAi => b"[DONE]",
        }
    }
}

/// A kind of job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Job {
    /// Tokens of the prompt.
    pub(crate) input: u64,
    /// Most output that it allows.
    pub(crate) max_output: u64,
    /// Output that it gets.
    pub(crate) output: u64,
    /// Whether the answer comes as a stream.
    pub(crate) stream: bool,
}

const SHORT: Job = Job {
    input: 200,
    max_output: 100,
    output: 20,
    stream: false,
};

const LONG: Job = Job {
    input: 2000,
    max_output: 600,
    output: 300,
    stream: false,
};

const STREAM: Job = Job {
    input: 500,
    max_output: 600,
    output: 200,
    stream: true,
};

/// The mix.
const MIX: [Job; 4] = [SHORT, STREAM, SHORT, LONG];

impl Job {
    /// The job with this number of a worker's.
    pub(crate) fn nth(number: usize) -> Self {
        MIX[number % MIX.len()]
    }

    /// How long the provider works on it.
    pub(crate) fn service(self) -> Duration {
        FIRST_TOKEN + Duration::from_secs_f64(self.output as f64 / TOKENS_PER_SECOND as f64)
    }

    /// The mean of the mix.
    pub(crate) fn mean_service() -> Duration {
        MIX.iter().map(|job| job.service()).sum::<Duration>() / MIX.len() as u32
    }

    /// The request's body. `unique` keeps any two prompts apart.
    pub(crate) fn body(self, wire: Wire, unique: u64) -> Bytes {
        let mut prompt = format!("Task {unique:08}: ");
        while (prompt.len() as u64) < self.input * 4 {
            prompt.push_str("count the steps of the gate ");
        }
        prompt.truncate(self.input as usize * 4);
        let messages = json!([{ "role": "user", "content": prompt }]);
        let body = match wire {
            Wire::Anthropic => json!({
                "model": "claude-haiku-5-5",
                "max_tokens": self.max_output,
                "messages": messages,
                "stream": self.stream,
            }),
            Wire::OpenAi => json!({
                "model": "gpt-6-luna",
                "max_completion_tokens": self.max_output,
                "messages": messages,
                "stream": self.stream,
            }),
        };
        Bytes::from(body.to_string())
    }
}
