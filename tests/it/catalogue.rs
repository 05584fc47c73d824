//! What the catalogue knows, which names it understands, and how a user changes it.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use serde::Deserialize;

use tollgate::llm::catalogue::{Catalogue, Mode, ModelEntry, Rate};
use tollgate::llm::pricing::{Terms, price};
use tollgate::llm::usage::Usage;
use tollgate::units::Cost;

use crate::pricing::{CATALOGUE, at_noon, tokens, usd};

fn resolved(provider: &str, name: &str) -> Option<(&'static str, &'static str)> {
    let model = CATALOGUE.resolve(provider, name)?;
    Some((&model.provider, &model.id))
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

/// Reads models as a config file would hold them.
pub(crate) fn entries(text: &str) -> Vec<ModelEntry> {
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
