//! What requests cost, against amounts worked out apart from the program, and the promises of names and overrides.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use proptest::prelude::*;
use serde::Deserialize;
use std::sync::LazyLock;

use tollgate::llm::catalogue::{Catalogue, Mode, ModelEntry, Period, Rate, Service, Unpriced};
use tollgate::llm::pricing::{Terms, price, price_reading};
use tollgate::llm::reading::{Reading, SideUsage};
use tollgate::llm::usage::Usage;
use tollgate::units::Cost;

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(Catalogue::builtin);

/// 2026-11-21 at noon UTC.
const NOON: u64 = 1_795_262_400_000;

fn usd(text: &str) -> Cost {
    text.parse().unwrap()
}

fn at_noon<'a>(provider: &'a str, model: &'a str) -> Terms<'a> {
    Terms {
        provider,
        model,
        at_unix_ms: NOON,
        ..Terms::default()
    }
}

fn tokens(input: u64, output: u64) -> Usage {
    Usage {
        input,
        output,
        ..Usage::default()
    }
}

fn resolved(provider: &str, name: &str) -> Option<(&'static str, &'static str)> {
    let model = CATALOGUE.resolve(provider, name)?;
    Some((&model.provider, &model.id))
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
fn every_price_of_the_catalogue_is_kept_exactly() {
    fn check(value: &serde_json::Value, seen: &mut usize) {
        match value {
            serde_json::Value::String(text) => {
                assert_eq!(&text.parse::<Rate>().unwrap().to_string(), text);
                *seen += 1;
            }
            serde_json::Value::Object(fields) => fields.values().for_each(|v| check(v, seen)),
            serde_json::Value::Array(items) => items.iter().for_each(|v| check(v, seen)),
            _ => {}
        }
    }
    let file: serde_json::Value =
        serde_json::from_str(include_str!("../../config/models.json")).unwrap();
    let mut seen = 0;
    for model in file["models"].as_array().unwrap() {
        check(&model["price"], &mut seen);
        check(&model["service_tiers"], &mut seen);
        check(&model["upcoming"]["price"], &mut seen);
        check(&model["time_of_day"]["off_peak"], &mut seen);
    }
    assert!(seen > 10_000, "{seen} prices");
}

#[test]
fn the_catalogue_carries_its_date_and_what_routing_needs() {
    assert_eq!(CATALOGUE.as_of().to_string(), "2026-11-21");
    assert_eq!(
        CATALOGUE.models().len(),
        2537 + 1,
        "and OpenRouter's free variants"
    );
    let model = CATALOGUE.resolve("openai", "gpt-5").unwrap();
    assert_eq!(model.context_window, Some(400_000));
    assert_eq!(model.max_input_tokens, Some(272_000));
    assert_eq!(model.max_output_tokens, Some(128_000));
    assert_eq!(model.mode, Mode::Chat);
    assert_eq!(model.family.as_deref(), Some("gpt-5"));
    let end = model.deprecation_date.unwrap();
    assert_eq!(end.to_string(), "2026-12-11");
    let sonnet = CATALOGUE.resolve("anthropic", "claude-sonnet-4-5").unwrap();
    assert_eq!(sonnet.deprecation_date.unwrap().to_string(), "2026-11-30");
}

#[test]
fn every_listed_name_is_found_with_its_provider_and_with_a_prefix() {
    let file: serde_json::Value =
        serde_json::from_str(include_str!("../../config/models.json")).unwrap();
    let models = file["models"].as_array().unwrap();
    let listed: std::collections::HashSet<_> = models
        .iter()
        .map(|model| {
            (
                model["provider"].as_str().unwrap(),
                model["id"].as_str().unwrap(),
            )
        })
        .collect();
    for model in models {
        let (provider, id) = (
            model["provider"].as_str().unwrap(),
            model["id"].as_str().unwrap(),
        );
        let aliases = model["aliases"].as_array().into_iter().flatten();
        for name in aliases.map(|alias| alias.as_str().unwrap()).chain([id]) {
            assert_eq!(resolved(provider, name), Some((provider, id)), "{name}");
            let prefixed = format!("{provider}/{name}");
            // `openrouter/auto` and `auto` are two names at OpenRouter; the whole name wins.
            if !listed.contains(&(provider, &prefixed)) {
                let found = Some((provider, id));
                assert_eq!(resolved("", &prefixed), found, "{prefixed}");
                assert_eq!(resolved(provider, &prefixed), found, "{prefixed}");
            }
        }
    }
}

#[test]
fn names_lose_only_what_cannot_change_the_price() {
    for (provider, name, id) in [
        ("anthropic", "Claude-Opus-5-5", Some("claude-opus-5-5")),
        ("anthropic", "claude-opus-5.5", Some("claude-opus-5-5")),
        ("anthropic", "claude-opus-5-5[1m]", Some("claude-opus-5-5")),
        (
            "anthropic",
            "claude-opus-5-5-20261111[1M]",
            Some("claude-opus-5-5"),
        ),
        (
            "anthropic",
            "claude-opus-5-5-latest",
            Some("claude-opus-5-5"),
        ),
        (
            "anthropic",
            "claude-opus-5-5@20261111",
            Some("claude-opus-5-5"),
        ),
        ("openai", "gpt-4o-2024-05-13", Some("gpt-4o-2024-05-13")),
        ("openai", "gpt-5-2031-01-02", Some("gpt-5")),
        ("openai", "gpt-5-20313", None),
        ("openai", "gpt-5-turbo", None),
        ("openai", "gpt-5:free", None),
        ("openai", "", None),
        ("google", "gemini/gemini-2.5-pro", Some("gemini-2.5-pro")),
        ("gemini", "gemini-2.5-pro", Some("gemini-2.5-pro")),
        ("xai", "x-ai/grok-4.20", Some("grok-4.20")),
        ("groq", "openai/gpt-oss-120b", Some("openai/gpt-oss-120b")),
        ("groq", "openai/gpt-5", None),
        (
            "openrouter",
            "qwen/qwen3-coder-flash:floor",
            Some("qwen/qwen3-coder-flash"),
        ),
        ("openrouter", "acme/new:free", Some("*:free")),
        ("openrouter", "acme/new", None),
        ("ollama", "smollm2:135m", Some("*")),
        ("ollama", "gpt-oss:20b-cloud", None),
        ("vllm", "gpt-5", None),
    ] {
        assert_eq!(
            resolved(provider, name).map(|(_, id)| id),
            id,
            "{provider} {name}"
        );
    }
}

#[test]
fn a_bare_name_belongs_to_its_maker_and_never_to_ollama() {
    assert_eq!(
        resolved("", "claude-opus-5-5"),
        Some(("anthropic", "claude-opus-5-5"))
    );
    assert_eq!(
        resolved("", "Vertex_AI/claude-opus-5-5"),
        Some(("vertex", "claude-opus-5-5"))
    );
    assert_eq!(
        resolved("", "openrouter/free"),
        Some(("openrouter", "openrouter/free"))
    );
    assert_eq!(resolved("", "ollama/anything:7b"), Some(("ollama", "*")));
    assert_eq!(
        resolved("", "codegemma"),
        None,
        "known to Ollama alone, where it is free"
    );
    assert_eq!(resolved("", "anything:7b"), None);
    assert_eq!(resolved("", "anthropic/gpt-5"), None, "a prefix binds");
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

fn entries(text: &str) -> Vec<ModelEntry> {
    #[derive(Deserialize)]
    struct File {
        models: Vec<ModelEntry>,
    }
    toml::from_str::<File>(text).unwrap().models
}

#[test]
fn a_users_price_replaces_all_of_a_models_prices() {
    let ours = entries(
        r#"
        [[models]]
        provider = "openai"
        id = "gpt-5"
        aliases = ["house-model"]
        price = { input = "1", output = "8", tiers = [{ above_input_tokens = 1000, input = "2" }] }
        [models.service_tiers]
        flex = { input = "0.3" }
        "#,
    );
    let catalogue = Catalogue::builtin().extended(&ours).unwrap();
    let cost = |tier, usage| {
        let terms = Terms {
            service_tier: tier,
            ..at_noon("openai", "house-model")
        };
        price(&catalogue, &terms, &usage).cost
    };
    assert_eq!(cost(None, tokens(1000, 100)), Ok(usd("0.0018")));
    assert_eq!(cost(None, tokens(1001, 100)), Ok(usd("0.002802")));
    assert_eq!(cost(Some("flex"), tokens(1001, 100)), Ok(usd("0.0011003")));
    assert_eq!(
        cost(Some("batch"), tokens(1000, 0)),
        Ok(usd("0.001")),
        "the shipped batch price is gone"
    );
    let model = catalogue.resolve("openai", "gpt-5").unwrap();
    assert_eq!(
        model.context_window,
        Some(400_000),
        "what is not named stays"
    );
    let searched = Usage {
        web_searches: 1,
        ..tokens(0, 0)
    };
    assert_eq!(cost(None, searched), Ok(usd("0.01")), "the search fee too");
}

#[test]
fn a_user_can_add_models_and_providers() {
    let ours = entries(
        r#"
        [[models]]
        provider = "lab"
        id = "Big-1"
        context_window = 8192
        price = { input = "0.1", output = "0.2" }
        tool_fees_per_1k = { web_search = { low = "1", medium = "2", high = "3" } }
        [[models]]
        provider = "lab"
        id = "own-gpu"
        free = true
        [[models]]
        provider = "gemini"
        id = "gemma-4-31b-it"
        free = true
        [[models]]
        provider = "openai"
        id = "gpt-5-mini"
        context_window = 7
        "#,
    );
    let catalogue = Catalogue::builtin().extended(&ours).unwrap();
    let cost = |provider, model, usage| price(&catalogue, &at_noon(provider, model), &usage).cost;
    let searched = Usage {
        web_searches: 2,
        ..tokens(1000, 1000)
    };
    assert_eq!(cost("lab", "big-1", searched), Ok(usd("0.0043")));
    assert_eq!(cost("", "Big-1", tokens(1000, 0)), Ok(usd("0.0001")));
    assert_eq!(cost("lab", "own-gpu", tokens(1000, 1000)), Ok(Cost::ZERO));
    assert_eq!(
        cost("google", "gemma-4-31b-it", tokens(5, 5)),
        Ok(Cost::ZERO),
        "the user vouches for it"
    );
    assert_eq!(
        catalogue
            .resolve("openai", "gpt-5-mini")
            .unwrap()
            .context_window,
        Some(7)
    );
    assert_eq!(
        cost("openai", "gpt-5-mini", tokens(1_000_000, 0)),
        Ok(usd("0.25"))
    );
}

#[test]
fn a_bad_entry_is_refused_with_the_model_and_the_field() {
    for (text, told) in [
        (r#"id = """#, "`id` must be a name"),
        (r#"id = "new""#, "`price` is missing"),
        (
            r#"id = "gpt-5"
            aliases = [" x"]"#,
            "`aliases` must be names",
        ),
        (
            r#"id = "gpt-5"
            service_tiers = { batch = { input = "1" } }"#,
            "`service_tiers` needs `price`",
        ),
        (
            r#"id = "gpt-5"
            free = true
            price = { input = "1" }"#,
            "`free` contradicts `price`",
        ),
        (
            r#"id = "gpt-5"
            price = { input = "1" }
            upcoming = { from = "1969-12-31", price = { input = "1" } }"#,
            "`upcoming` `from` lies before 1970",
        ),
        (
            r#"id = "gpt-5"
            price = { input = "1" }
            time_of_day = { base_is = "peak", off_peak = { input = "1" }, off_peak_windows_utc = [{ iso_weekdays = [8], hours = [] , }] }"#,
            "",
        ),
    ] {
        let mut ours = entries(&format!("[[models]]\nprovider = \"openai\"\n{text}"));
        if told.is_empty() {
            let hours = ours[0].time_of_day.as_mut().unwrap();
            hours.off_peak_windows_utc[0]
                .hours
                .push("25:00-26:00".into());
        }
        let error = Catalogue::builtin()
            .extended(&ours)
            .unwrap_err()
            .to_string();
        assert!(error.contains("of provider `openai`"), "{error}");
        assert!(error.contains(told), "{error}");
        assert!(error.contains(&ours[0].id), "{error}");
    }
}

#[test]
fn a_misspelt_key_or_an_inexact_price_is_an_error_where_it_stands() {
    for (line, told) in [
        ("price = { input = 1.25 }", "decimal number in quotes"),
        (
            r#"price = { input = "1,5" }"#,
            "price `1,5`: not a decimal number",
        ),
        (
            r#"price = { inptu = "1" }"#,
            "unknown price `inptu`, expected one of input, output",
        ),
        (
            r#"price = { input = "1", tiers = [{ input = "1" }] }"#,
            "above_input_tokens",
        ),
        (
            r#"price = { tiers = [{ above_input_tokens = 2 }, { above_input_tokens = 2 }] }"#,
            "must ascend",
        ),
        (
            r#"service_tiers = { standard = { input = "1" } }"#,
            "unknown variant `standard`",
        ),
        (r#"contxt_window = 1"#, "unknown field `contxt_window`"),
        (r#"deprecation_date = "soon""#, "not a date"),
        (
            r#"tool_fees_per_1k = { web_search = 10 }"#,
            "decimal number in quotes",
        ),
        (r#"region_multipliers = { us = "-1" }"#, "negative"),
    ] {
        let text = format!("provider = \"a\"\nid = \"b\"\n{line}");
        let error = toml::from_str::<ModelEntry>(&text).unwrap_err().to_string();
        assert!(error.contains(told), "{line}: {error}");
    }
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
