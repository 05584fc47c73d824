//! What requests cost: against amounts worked out apart from the program, and rules that hold for any numbers.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use proptest::prelude::*;
use serde::Deserialize;
use std::sync::LazyLock;

use tollgate::llm::catalogue::{Catalogue, Period, Service, Unpriced};
use tollgate::llm::pricing::{Terms, price, price_reading};
use tollgate::llm::reading::{Reading, SideUsage};
use tollgate::llm::usage::Usage;
use tollgate::units::Cost;

use crate::catalogue::entries;

pub(crate) static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(Catalogue::builtin);

/// 2026-11-21 at noon UTC.
const NOON: u64 = 1_795_262_400_000;

pub(crate) fn usd(text: &str) -> Cost {
    text.parse().unwrap()
}

pub(crate) fn at_noon<'a>(provider: &'a str, model: &'a str) -> Terms<'a> {
    Terms {
        provider,
        model,
        at_unix_ms: NOON,
        ..Terms::default()
    }
}

pub(crate) fn tokens(input: u64, output: u64) -> Usage {
    Usage {
        input,
        output,
        ..Usage::default()
    }
}

/// A request priced by hand.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    name: String,
    provider: String,
    model: String,
    at_unix_ms: u64,
    service_tier: Option<String>,
    speed: Option<String>,
    region: Option<String>,
    usage: SampleUsage,
    /// Exact; null is unknown.
    usd: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct SampleUsage {
    input: u64,
    cached_read: u64,
    cache_write: u64,
    cache_write_1h: u64,
    cache_write_12h: u64,
    output: u64,
    reasoning: u64,
    audio_in: u64,
    audio_cached: u64,
    audio_out: u64,
    image_in: u64,
    image_cached: u64,
    image_out: u64,
    video_in: u64,
    video_out: u64,
    web_searches: u64,
}

impl From<&SampleUsage> for Usage {
    fn from(sample: &SampleUsage) -> Self {
        Usage {
            input: sample.input,
            cached_read: sample.cached_read,
            cache_write: sample.cache_write,
            cache_write_1h: sample.cache_write_1h,
            cache_write_12h: sample.cache_write_12h,
            output: sample.output,
            reasoning: sample.reasoning,
            audio_in: sample.audio_in,
            audio_cached: sample.audio_cached,
            audio_out: sample.audio_out,
            image_in: sample.image_in,
            image_cached: sample.image_cached,
            image_out: sample.image_out,
            video_in: sample.video_in,
            video_out: sample.video_out,
            web_searches: sample.web_searches,
        }
    }
}

#[test]
fn sample_requests_cost_what_was_worked_out_by_hand() {
    let samples: Vec<Sample> =
        serde_json::from_str(include_str!("../fixtures/pricing.json")).unwrap();
    assert!(samples.len() >= 40);
    for sample in &samples {
        let terms = Terms {
            provider: &sample.provider,
            model: &sample.model,
            service_tier: sample.service_tier.as_deref(),
            speed: sample.speed.as_deref(),
            region: sample.region.as_deref(),
            at_unix_ms: sample.at_unix_ms,
        };
        let cost = price(&CATALOGUE, &terms, &Usage::from(&sample.usage)).cost;
        assert_eq!(
            cost.ok(),
            sample.usd.as_deref().map(usd),
            "{} ({} {}): {cost:?}",
            sample.name,
            sample.provider,
            sample.model
        );
    }
}

#[test]
fn a_quote_says_which_prices_were_used() {
    let terms = Terms {
        service_tier: Some("batch"),
        ..at_noon("anthropic", "claude-haiku-5.5")
    };
    let quote = price(&CATALOGUE, &terms, &tokens(100_001, 1));
    assert_eq!(&*quote.model.unwrap().id, "claude-haiku-5-5");
    assert_eq!(quote.service, Service::Batch);
    assert_eq!(quote.above_input_tokens, Some(100_000));
    assert_eq!(quote.period, Period::Current);
    let terms = Terms {
        service_tier: Some("ultrafast"),
        ..at_noon("deepseek", "deepseek-v4-pro")
    };
    let quote = price(&CATALOGUE, &terms, &tokens(1, 1));
    assert_eq!(
        quote.service,
        Service::Standard,
        "the model has no such tier"
    );
    assert_eq!(quote.period, Period::OffPeak, "a Saturday");
}

#[test]
fn the_reason_for_an_unknown_cost_is_told() {
    let reason = |provider, model, usage: Usage| {
        price(&CATALOGUE, &at_noon(provider, model), &usage)
            .cost
            .unwrap_err()
    };
    let some = tokens(1, 1);
    assert_eq!(reason("openai", "gpt-99", some), Unpriced::UnknownModel);
    assert_eq!(reason("openai", "whisper-1", some), Unpriced::NoTokenPrice);
    assert_eq!(
        reason("openrouter", "openrouter/auto", some),
        Unpriced::Variable
    );
    assert_eq!(
        reason("google", "gemma-4-31b-it", some),
        Unpriced::ZeroUnverified
    );
    assert_eq!(reason("cohere", "rerank-v3.5", some), Unpriced::OtherUnits);
    let text = reason("vertex", "gemini-3.5-transcribe", some).to_string();
    assert_eq!(text, "the model has no price for input tokens");
    let searched = Usage {
        web_searches: 1,
        ..some
    };
    assert_eq!(
        reason("openai", "gpt-oss-20b", searched),
        Unpriced::SearchFee
    );
}

#[test]
fn a_stated_cost_is_booked_and_the_tables_is_kept_beside_it() {
    let reading = Reading {
        usage: Some(tokens(1000, 500)),
        stated_cost: Some(usd("0.123")),
        ..Reading::default()
    };
    let priced = price_reading(
        &CATALOGUE,
        &at_noon("anthropic", "claude-sonnet-5-5"),
        &reading,
    );
    assert_eq!(priced.cost(), Some(usd("0.123")));
    assert_eq!(priced.table, Ok(usd("0.007")));
    let unlisted = price_reading(&CATALOGUE, &at_noon("openrouter", "acme/new"), &reading);
    assert_eq!(unlisted.cost(), Some(usd("0.123")));
    assert_eq!(unlisted.table, Err(Unpriced::UnknownModel));
}

#[test]
fn side_work_has_its_own_model_prompt_size_and_tier() {
    let reading = Reading {
        usage: Some(tokens(90_000, 0)),
        speed: Some("fast".into()),
        region: Some("us".into()),
        side: vec![
            SideUsage {
                usage: tokens(90_000, 0),
                ..SideUsage::default()
            },
            SideUsage {
                model: Some("claude-opus-5-5".into()),
                usage: tokens(1000, 0),
                ..SideUsage::default()
            },
            SideUsage {
                service_tier: Some("batch".into()),
                usage: tokens(100_001, 0),
                ..SideUsage::default()
            },
        ],
        ..Reading::default()
    };
    let priced = price_reading(
        &CATALOGUE,
        &at_noon("anthropic", "claude-haiku-5-5"),
        &reading,
    );
    assert_eq!(priced.answer.cost, Ok(usd("0.0099")));
    // (0.009 + 0.009 for the same model, 0.004 for Opus, which is not fast here, 0.02500025 in batch above 100k) × 1.1
    assert_eq!(priced.table, Ok(usd("0.051700275")));
    let reading = Reading {
        side: vec![SideUsage {
            model: Some("unheard-of".into()),
            ..SideUsage::default()
        }],
        ..reading
    };
    let priced = price_reading(
        &CATALOGUE,
        &at_noon("anthropic", "claude-haiku-5-5"),
        &reading,
    );
    assert_eq!(
        priced.table,
        Err(Unpriced::UnknownModel),
        "a sum with an unknown part is unknown"
    );
}

#[test]
fn an_answer_without_usage_is_unknown_unless_its_lines_have_it() {
    let terms = at_noon("anthropic", "claude-sonnet-5-5");
    let nothing = price_reading(&CATALOGUE, &terms, &Reading::default());
    assert_eq!(nothing.table, Err(Unpriced::NoUsage));
    assert_eq!(nothing.cost(), None);
    let line = SideUsage {
        model: Some("claude-sonnet-5-5".into()),
        service_tier: Some("batch".into()),
        usage: tokens(1000, 100),
    };
    let batch = Reading {
        side: vec![line.clone(), line],
        ..Reading::default()
    };
    let priced = price_reading(&CATALOGUE, &terms, &batch);
    assert_eq!(priced.table, Ok(usd("0.003")));
    let nameless = price_reading(&CATALOGUE, &at_noon("anthropic", ""), &batch);
    assert_eq!(
        nameless.table,
        Ok(usd("0.003")),
        "such requests name no model"
    );
}

#[test]
fn the_answers_own_words_go_before_the_requests() {
    let reading = Reading {
        usage: Some(tokens(1000, 0)),
        model: Some("gpt-5-mini-2025-08-07".into()),
        service_tier: Some("default".into()),
        ..Reading::default()
    };
    let terms = Terms {
        service_tier: Some("priority"),
        ..at_noon("openai", "gpt-5")
    };
    let priced = price_reading(&CATALOGUE, &terms, &reading);
    assert_eq!(&*priced.answer.model.unwrap().id, "gpt-5-mini");
    assert_eq!(priced.answer.service, Service::Standard);
    let snapshot = Reading {
        model: Some("gpt-5-unheard-of".into()),
        ..reading.clone()
    };
    let priced = price_reading(&CATALOGUE, &terms, &snapshot);
    assert_eq!(&*priced.answer.model.unwrap().id, "gpt-5");
    // Bedrock's answers name the model without the geography that was paid for.
    let answer = Reading {
        model: Some("global.anthropic.claude-opus-5-5".into()),
        ..reading
    };
    let terms = at_noon("bedrock", "anthropic.claude-opus-5-5");
    assert_eq!(
        price_reading(&CATALOGUE, &terms, &answer).table,
        Ok(usd("0.0044"))
    );
}

/// Models of every kind of rule whose tokens all have prices.
fn any_priced_model() -> impl Strategy<Value = (&'static str, &'static str)> {
    let priced: Vec<_> = CATALOGUE
        .models()
        .iter()
        .filter(|model| {
            price(
                &CATALOGUE,
                &at_noon(&model.provider, &model.id),
                &tokens(1, 1),
            )
            .cost
            .is_ok()
        })
        .map(|model| (&*model.provider, &*model.id))
        .collect();
    assert!(priced.len() > 2000);
    prop::sample::select(priced)
}

/// Knows a model whose tokens of every kind have the same price.
static FLAT: LazyLock<Catalogue> = LazyLock::new(|| {
    let flat =
        "[[models]]\nprovider = \"lab\"\nid = \"flat\"\nprice = { input = \"1\", output = \"1\" }";
    Catalogue::builtin().extended(&entries(flat)).unwrap()
});

proptest! {
    #[test]
    fn output_tokens_add_up((provider, model) in any_priced_model(), input in 0_u64..500_000, a in 0_u64..1_000_000, b in 0_u64..1_000_000) {
        let cost = |output| price(&CATALOGUE, &at_noon(provider, model), &tokens(input, output)).cost.unwrap().attos();
        prop_assert_eq!(cost(a + b) - cost(0), cost(a) - cost(0) + cost(b) - cost(0));
    }

    #[test]
    fn more_tokens_never_cost_less((provider, model) in any_priced_model(), input in 0_u64..500_000, more in 0_u64..500_000, output in 0_u64..500_000) {
        let cost = |usage| price(&CATALOGUE, &at_noon(provider, model), &usage).cost.unwrap();
        prop_assert!(cost(tokens(input + more, output)) >= cost(tokens(input, output)));
        prop_assert!(cost(tokens(input, output + more)) >= cost(tokens(input, output)));
    }

    #[test]
    fn without_tokens_only_fees_are_left((provider, model) in any_priced_model(), searches in 0_u64..10) {
        let usage = Usage { web_searches: searches, ..Usage::default() };
        let terms = Terms { region: Some("us"), service_tier: Some("batch"), ..at_noon(provider, model) };
        let quote = price(&CATALOGUE, &terms, &usage);
        let one = price(&CATALOGUE, &terms, &Usage { web_searches: 1, ..Usage::default() });
        match (searches, one.cost) {
            (0, _) => prop_assert_eq!(quote.cost, Ok(Cost::ZERO)),
            (_, Err(why)) => {
                prop_assert_eq!(why, Unpriced::SearchFee);
                prop_assert_eq!(quote.cost, Err(why));
            }
            (_, Ok(fee)) => {
                let times = quote.cost.unwrap().attos() / fee.attos();
                prop_assert!(times == 1 || times == i128::from(searches));
            }
        }
    }

    #[test]
    fn no_token_is_priced_twice_however_the_parts_overlap(
        parts in prop::array::uniform13(0_u64..2_000), input in 0_u64..3_000, output in 0_u64..3_000,
    ) {
        // Every kind of token has the same price, so the cost must be that of the totals.
        let [cached_read, cache_write, cache_write_1h, cache_write_12h, reasoning, audio_in, audio_cached, audio_out, image_in, image_cached, image_out, video_in, video_out] = parts;
        let usage = Usage {
            input, cached_read, cache_write, cache_write_1h, cache_write_12h, output, reasoning, audio_in, audio_cached,
            audio_out, image_in, image_cached, image_out, video_in, web_searches: 0, video_out,
        };
        let cost = price(&FLAT, &at_noon("lab", "flat"), &usage).cost.unwrap();
        prop_assert_eq!(cost.attos(), i128::from(input + output) * 1_000_000_000_000);
    }

    #[test]
    fn absurd_counts_do_not_panic((provider, model) in any_priced_model(), counts in prop::array::uniform4(any::<u64>())) {
        let [input, cached_read, output, web_searches] = counts;
        let usage = Usage { input, cached_read, output, web_searches, ..Usage::default() };
        let terms = Terms { region: Some("us"), ..at_noon(provider, model) };
        if let Ok(cost) = price(&CATALOGUE, &terms, &usage).cost {
            prop_assert!(cost >= Cost::ZERO);
        }
    }
}
