//! How each OpenAI-compatible provider writes down what an answer used.

use std::fmt::{self, Display};

use super::behaviour::Flavour;
use super::reply::{Forget, Reply};
use crate::llm::usage::Usage;
use crate::units::Cost;

/// What a flavour's usage cannot tell.
pub(super) const fn forgets(flavour: Flavour) -> Forget {
    let only_cache_writes = Forget {
        cached: false,
        cache_write: true,
        cache_life: true,
        reasoning: false,
    };
    match flavour {
        Flavour::OpenAi | Flavour::Azure | Flavour::OpenRouter => Forget {
            cache_write: false,
            ..only_cache_writes
        },
        Flavour::Groq | Flavour::DeepSeek | Flavour::Xai => only_cache_writes,
        Flavour::LlamaCpp | Flavour::Vllm => Forget {
            reasoning: true,
            ..only_cache_writes
        },
        Flavour::Mistral | Flavour::Together => Forget {
            cached: true,
            reasoning: true,
            ..only_cache_writes
        },
    }
}

/// The cost that OpenRouter would state: $3 and $15 per million tokens, a tenth of the input price for cache reads, a
/// quarter more for cache writes.
pub(super) fn stated_cost(usage: &Usage) -> Cost {
    const ATTOS_PER_MICRO: i128 = 1_000_000_000_000;
    let attos = [
        (usage.uncached(), 3 * ATTOS_PER_MICRO),
        (usage.cached_read, 3 * ATTOS_PER_MICRO / 10),
        (usage.cache_write, 3 * ATTOS_PER_MICRO * 5 / 4),
        (usage.output, 15 * ATTOS_PER_MICRO),
    ];
    Cost::from_attos(
        attos
            .iter()
            .map(|(tokens, price)| i128::from(*tokens) * price)
            .sum(),
    )
}

/// A `usage` object.
pub(super) struct UsageText<'a>(pub(super) &'a Reply);

impl Display for UsageText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reply = self.0;
        let usage = &reply.usage;
        let (input, total) = (usage.input, usage.input + usage.output);
        let completion = match reply.flavour {
            // xAI counts reasoning beside the completion, not in it.
            Flavour::Xai => usage.output - usage.reasoning,
            _ => usage.output,
        };
        write!(
            f,
            r#"{{"prompt_tokens":{input},"completion_tokens":{completion},"total_tokens":{total}"#
        )?;
        match reply.flavour {
            Flavour::OpenAi | Flavour::Azure => write!(
                f,
                r#","prompt_tokens_details":{{"cached_tokens":{},"cache_write_tokens":{},"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":{},"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}"#,
                usage.cached_read, usage.cache_write, usage.reasoning
            )?,
            Flavour::OpenRouter => write!(
                f,
                r#","cost":{},"is_byok":false,"prompt_tokens_details":{{"cached_tokens":{},"cache_write_tokens":{},"audio_tokens":0}},"cost_details":{{"upstream_inference_cost":null}},"completion_tokens_details":{{"reasoning_tokens":{}}}"#,
                stated_cost(usage),
                usage.cached_read,
                usage.cache_write,
                usage.reasoning
            )?,
            Flavour::Groq => {
                write!(
                    f,
                    r#","queue_time":0.01,"prompt_time":0.001,"completion_time":0.01,"total_time":0.011"#
                )?;
                if usage.cached_read > 0 {
                    write!(
                        f,
                        r#","prompt_tokens_details":{{"cached_tokens":{}}}"#,
                        usage.cached_read
                    )?;
                }
                if usage.reasoning > 0 {
                    write!(
                        f,
                        r#","completion_tokens_details":{{"reasoning_tokens":{}}}"#,
                        usage.reasoning
                    )?;
                }
            }
            Flavour::DeepSeek => write!(
                f,
                r#","prompt_tokens_details":{{"cached_tokens":{}}},"completion_tokens_details":{{"reasoning_tokens":{}}},"prompt_cache_hit_tokens":{},"prompt_cache_miss_tokens":{}"#,
                usage.cached_read,
                usage.reasoning,
                usage.cached_read,
                usage.input - usage.cached_read
            )?,
            Flavour::Xai => write!(
                f,
                r#","prompt_tokens_details":{{"text_tokens":{input},"audio_tokens":0,"image_tokens":0,"cached_tokens":{}}},"completion_tokens_details":{{"reasoning_tokens":{},"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}},"num_sources_used":0"#,
                usage.cached_read, usage.reasoning
            )?,
            Flavour::Vllm if usage.cached_read > 0 => {
                write!(
                    f,
                    r#","prompt_tokens_details":{{"cached_tokens":{}}}"#,
                    usage.cached_read
                )?;
            }
            Flavour::Vllm => f.write_str(r#","prompt_tokens_details":null"#)?,
            Flavour::LlamaCpp | Flavour::Mistral | Flavour::Together => {}
        }
        f.write_str("}")
    }
}

/// llama.cpp's `timings`: its only word on the cache. The times are made up, ten milliseconds to a token.
pub(super) struct Timings<'a>(pub(super) &'a Usage);

impl Display for Timings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usage = self.0;
        let (fresh, output) = (usage.uncached(), usage.output);
        write!(
            f,
            r#"{{"cache_n":{},"prompt_n":{fresh},"prompt_ms":{fresh}.0,"prompt_per_token_ms":1.0,"prompt_per_second":1000.0,"predicted_n":{output},"predicted_ms":{output}0.0,"predicted_per_token_ms":10.0,"predicted_per_second":100.0}}"#,
            usage.cached_read
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stated_cost_is_exact_to_the_last_place() {
        let usage = Usage {
            input: 194,
            cached_read: 80,
            cache_write: 100,
            output: 2,
            ..Usage::default()
        };
        // 14 × 3 + 80 × 0.3 + 100 × 3.75 + 2 × 15 = 471 micro-dollars.
        assert_eq!(stated_cost(&usage).to_string(), "0.000471");
        let odd = Usage {
            input: 1,
            cached_read: 1,
            ..Usage::default()
        };
        assert_eq!(stated_cost(&odd).to_string(), "0.0000003");
    }
}
