//! Routing's configuration: what is read, what stops the start with its place in the file, and what `tollgate check` finds
//! and shows.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use tollgate::cli::Preset;
use tollgate::config::rungs::Rung;
use tollgate::config::{Inputs, Loaded, load};
use tollgate::llm::catalogue::{Catalogue, Mode as ModelMode, Status};
use tollgate::llm::wire::Dialect;
use tollgate::policy::routing::{Ladder, Mode, Target, To, Wanted, plan};
use tollgate::policy::throttle::Level;
use tollgate::units::Priority;

/// The day for which the catalogue's prices were written down: 2026-11-21.
const AT: u64 = 1_795_219_200_000;

/// 2026-12-01, when an announced change of a price is in force.
const DECEMBER: u64 = 1_796_083_200_000;

static BUILT_IN: LazyLock<Catalogue> = LazyLock::new(Catalogue::builtin);

/// Loads a file's text and holds its routes against the catalogue; what is wrong with either as it is told.
fn try_load(text: &str, at: u64) -> Result<Loaded, String> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(dir.path().join("tollgate.toml"), text).expect("a file");
    let inputs = Inputs {
        environment: BTreeMap::from([("HOME".to_owned(), "/home/me".to_owned())]),
        working_dir: dir.path().to_owned(),
        ..Inputs::default()
    };
    let loaded = load(&inputs).map_err(|error| error.to_string())?;
    let catalogue = catalogue(&loaded);
    let checked = loaded.check_routing(&catalogue, at);
    checked.map_err(|error| error.to_string())?;
    Ok(loaded)
}

fn catalogue(loaded: &Loaded) -> Catalogue {
    let catalogue = BUILT_IN.clone().extended(&loaded.settings.models);
    catalogue.expect("good models")
}

fn loaded(text: &str) -> Loaded {
    try_load(text, AT).unwrap_or_else(|told| panic!("{told}"))
}

/// What is told of a file, which is wrong in one thing, at a line and a column.
#[track_caller]
fn wrong(text: &str, line: usize, column: usize, told: &str) {
    let error = match try_load(text, AT) {
        Ok(_) => panic!("nothing is wrong with\n{text}"),
        Err(error) => error,
    };
    assert_eq!(error.matches("error: ").count(), 1, "{error}");
    assert!(error.contains(told), "{error}");
    let place = format!(" --> tollgate.toml:{line}:{column}\n");
    assert!(error.contains(&place), "{error}");
}

/// The kinds and keys of what the linter finds.
fn found_at(text: &str, at: u64) -> Vec<(&'static str, String)> {
    let loaded = try_load(text, at).unwrap_or_else(|told| panic!("{told}"));
    let findings = loaded.lint(&catalogue(&loaded), at);
    let kinds = findings
        .iter()
        .map(|finding| (finding.rule, finding.key.clone()));
    kinds.collect()
}

fn found(text: &str) -> Vec<(&'static str, String)> {
    found_at(text, AT)
}

fn ladder(provider: &str, rungs: &str) -> String {
    format!("[[routing.ladders]]\nname = 'mine'\nprovider = '{provider}'\nrungs = [{rungs}]\n")
}

fn rule(text: &str) -> String {
    format!("[[routing.rules]]\n{text}\n")
}

fn named<'a>(loaded: &'a Loaded, name: &str) -> &'a Ladder {
    let mut ladders = loaded.settings.routing.ladders.iter();
    let found = ladders.find(|ladder| ladder.name == name);
    found.unwrap_or_else(|| panic!("no ladder {name}"))
}

fn texts(ladder: &Ladder) -> Vec<String> {
    ladder.rungs.iter().map(Target::to_string).collect()
}

#[test]
fn the_default_looks_on_and_the_presets_that_delegate_change_models() {
    let built_in = loaded("").settings.routing;
    assert_eq!(built_in.mode, Mode::Shadow);
    assert_eq!(built_in.keep, Duration::from_secs(300));
    assert!(built_in.only_at_user_turn);
    for preset in Preset::ALL {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("tollgate.toml"), preset.text()).expect("a file");
        let environment = [("HOME", "/home/me"), ("ANTHROPIC_API_KEY", "sk-1")];
        let inputs = Inputs {
            environment: BTreeMap::from(environment.map(|(k, v)| (k.to_owned(), v.to_owned()))),
            working_dir: dir.path().to_owned(),
            ..Inputs::default()
        };
        let settings = load(&inputs).expect("a preset").settings;
        let expected = match preset {
            Preset::Guide | Preset::Team => Mode::On,
            Preset::Agents | Preset::Observe => Mode::Shadow,
        };
        assert_eq!(settings.routing.mode, expected, "{preset:?}");
    }
    let changed =
        "[routing]\nmode = 'off'\nkeep = '1h'\nonly_at_user_turn = false\nguide_rules = false\n";
    let changed = loaded(changed).settings.routing;
    assert_eq!(changed.mode, Mode::Off);
    assert_eq!(changed.keep, Duration::from_secs(3_600));
    assert!(!changed.only_at_user_turn);
    assert!(changed.rules.is_empty());
}

#[test]
fn the_guides_table_is_what_the_default_rules_say() {
    let routing = loaded("").settings.routing;
    let serves = |task: Option<&str>, simple: bool, level: Level| {
        let wanted = Wanted {
            provider: "anthropic",
            catalogue: "anthropic",
            model: "claude-opus-5-5",
            written: "claude-opus-5-5",
            task,
            simple,
            priority: Priority::Normal,
            session: "s",
            key: None,
            team: None,
            level,
            pinned: false,
        };
        let plan = plan(&routing, &wanted, |one, other| one == other);
        plan.first.model.to_owned()
    };
    for task in ["ui", "documentation", "research"] {
        assert_eq!(
            serves(Some(task), false, Level::None),
            "claude-haiku-5-5",
            "{task}"
        );
    }
    for task in ["coding", "testing", "debugging", "analysis", "automation"] {
        assert_eq!(
            serves(Some(task), false, Level::Soft),
            "claude-opus-5-5",
            "{task}"
        );
        assert_eq!(
            serves(Some(task), true, Level::None),
            "claude-haiku-5-5",
            "simple {task}"
        );
    }
    assert_eq!(serves(None, false, Level::Warning), "claude-opus-5-5");
    assert_eq!(serves(None, false, Level::Soft), "claude-sonnet-5-5");
}

#[test]
fn the_built_in_ladders_hold_known_models_each_cheaper_than_the_one_above() {
    let all = "[providers.cohere]\nbase_url = 'https://api.cohere.com'\n\
               [providers.bedrock]\nbase_url = 'https://bedrock.example.com'\ndialect = 'anthropic'\n";
    let loaded = loaded(all);
    let settings = &loaded.settings;
    assert_eq!(settings.routing.ladders.len(), 13);
    for ladder in &settings.routing.ladders {
        let mut above = None;
        for target in &ladder.rungs {
            let rung = Rung::of(settings, ladder, target).expect("a provider");
            assert!(rung.is_known(&BUILT_IN), "{target}");
            // As the provider's API takes it, not by an alias.
            let model = BUILT_IN
                .resolve(&rung.provider.catalogue, rung.model)
                .expect("known");
            assert_eq!(*model.id, *rung.model);
            let price = rung.price(&BUILT_IN, AT).expect("a price").blended();
            assert!(above.is_none_or(|above| price <= above), "{target}");
            above = Some(price);
        }
        assert!(ladder.premium < ladder.cheap, "{}", ladder.name);
    }
}

#[test]
fn what_stands_beside_a_rung_is_not_cheaper_than_the_rungs_below_it() {
    let loaded = loaded("");
    let settings = &loaded.settings;
    let mut seen = 0;
    for ladder in &settings.routing.ladders {
        let provider = ladder.provider.as_deref().expect("a provider");
        let models = BUILT_IN.models().iter().filter(|model| {
            let gone = matches!(
                model.status,
                Some(Status::Retired | Status::PastDeprecationDate)
            );
            *model.provider == *provider && model.mode == ModelMode::Chat && !gone
        });
        for model in models {
            let on_it = |ladder: &Ladder| ladder.rungs.iter().any(|rung| rung.model == *model.id);
            let place = ladder
                .beside
                .iter()
                .find(|(pattern, _)| pattern.matches(&model.id));
            let Some((_, rung)) = place.filter(|_| !settings.routing.ladders.iter().any(on_it))
            else {
                continue;
            };
            seen += 1;
            let price = |model: &str| {
                let target = Target {
                    provider: None,
                    model: model.to_owned(),
                };
                let rung = Rung::of(settings, ladder, &target).expect("a provider");
                rung.price(&BUILT_IN, AT).expect("a price").blended()
            };
            let below = ladder.rungs.get(rung + 1).map(|below| price(&below.model));
            assert!(
                below.is_none_or(|below| below < price(&model.id)),
                "{}",
                model.id
            );
        }
    }
    assert!(seen >= 20, "{seen} models stand beside a rung");
}

#[test]
fn rules_of_the_users_go_before_the_guides_and_take_the_place_of_their_namesakes() {
    let text = rule("task = 'ui'\npriority = 'LOW'\nlevel = 'hard'\nto = 'down 2'")
        + &rule("name = 'guide-research'\nto = 'asked'\ntask = 'research'");
    let rules = loaded(&text).settings.routing.rules;
    assert_eq!(rules[0].name, "1");
    assert_eq!(rules[0].to, To::Down(2));
    assert_eq!(
        (rules[0].priority, rules[0].level),
        (Some(Priority::Low), Some(Level::Hard))
    );
    let research: Vec<_> = rules
        .iter()
        .filter(|rule| rule.name == "guide-research")
        .collect();
    assert_eq!(research.len(), 1);
    assert_eq!(
        (research[0].to.clone(), research[0].block),
        (To::Asked, Some(2))
    );
    assert_eq!(rules[2].name, "guide-simple");
}

#[test]
fn ladders_of_the_users_take_the_place_of_their_namesakes_or_switch_them_off() {
    let text = "[[routing.ladders]]\nname = 'anthropic'\nprovider = 'anthropic'\n\
                rungs = ['claude-opus-5-5', 'claude-haiku-5-5', 'ollama/qwen3:8b']\nbeside = { claude-opus-5-5 = ['claude-opus-*'] }\n\
                [[routing.ladders]]\nname = 'google'\nenabled = false\n";
    let loaded = loaded(text);
    let own = named(&loaded, "anthropic");
    assert_eq!(
        texts(own),
        ["claude-opus-5-5", "claude-haiku-5-5", "ollama/qwen3:8b"]
    );
    assert_eq!(own.rungs[2].provider.as_deref(), Some("ollama"));
    assert_eq!(
        (own.premium, own.cheap),
        (0, 1),
        "what runs at home is not what cheap means"
    );
    assert_eq!(own.beside[0].1, 0);
    let names: Vec<&str> = loaded
        .settings
        .routing
        .ladders
        .iter()
        .map(|ladder| ladder.name.as_str())
        .collect();
    assert!(
        !names.contains(&"google") && names.contains(&"google-2.5"),
        "{names:?}"
    );
    assert_eq!(names.iter().filter(|name| **name == "anthropic").count(), 1);
    assert!(
        !names.contains(&"bedrock"),
        "no provider of that name is configured"
    );
}

#[test]
fn a_slash_names_a_provider_only_where_one_is_meant() {
    let text = ladder(
        "openrouter",
        "'anthropic/claude-opus-5.5', 'openrouter/openai/gpt-6-luna', 'ollama/qwen3:8b'",
    );
    let loaded = loaded(&text);
    let providers = named(&loaded, "mine")
        .rungs
        .iter()
        .map(|rung| rung.provider.as_deref());
    let providers: Vec<_> = providers.collect();
    assert_eq!(providers, [None, Some("openrouter"), Some("ollama")]);
    assert_eq!(named(&loaded, "mine").rungs[1].model, "openai/gpt-6-luna");
    let groq = named(&loaded, "groq")
        .rungs
        .iter()
        .all(|rung| rung.provider.is_none());
    assert!(groq, "openai/gpt-oss-120b is a model of Groq's");
}

#[test]
fn the_model_at_home_goes_under_every_ladder_whose_requests_it_understands() {
    let loaded = loaded("routing.local = 'ollama/qwen3:8b'\n");
    for ladder in &loaded.settings.routing.ladders {
        let has = texts(ladder)
            .last()
            .is_some_and(|last| last == "ollama/qwen3:8b");
        assert_eq!(
            has,
            ladder.provider.as_deref() != Some("google"),
            "{}",
            ladder.name
        );
        assert!(ladder.cheap < ladder.rungs.len() - usize::from(has));
    }
    let told = |text: &str| try_load(text, AT).expect_err("a mistake");
    assert!(told("routing.local = 'qwen3:8b'\n").contains("`routing.local` names no provider"));
    let off = "routing.local = 'ollama/qwen3:8b'\nproviders.ollama.enabled = false\n";
    assert!(told(off).contains("provider `ollama` is switched off"));
}

#[test]
fn ollama_understands_the_formats_of_openai_and_anthropic() {
    let settings = loaded("").settings;
    let speaks = |name: &str, dialect| {
        let provider = settings.providers.iter().find(|known| known.name == name);
        provider.expect("a provider").speaks(dialect)
    };
    for dialect in [Dialect::Ollama, Dialect::OpenAi, Dialect::Anthropic] {
        assert!(speaks("ollama", dialect), "{dialect:?}");
    }
    assert!(!speaks("ollama", Dialect::Gemini));
    assert!(speaks("groq", Dialect::OpenAi) && !speaks("groq", Dialect::Ollama));
    assert!(!speaks("anthropic", Dialect::OpenAi));
}

#[test]
fn a_key_a_team_or_a_tier_can_pin_its_models() {
    let text = "[keys.ci]\npin_model = true\n[teams.research]\ntier = 'pro'\npin_model = true\n[tiers.pro]\npin_model = false\n";
    let settings = loaded(text).settings;
    assert!(settings.keys["ci"].pin_model);
    assert!(settings.teams["research"].policy.pin_model);
    assert!(!settings.tiers["pro"].pin_model && !settings.tiers["free"].pin_model);
}

#[test]
fn a_model_that_is_twice_on_a_ladder_is_told_with_its_place() {
    wrong(
        &ladder(
            "anthropic",
            "'claude-opus-5-5', 'claude-haiku-5-5', 'Claude-Opus-5-5'",
        ),
        4,
        49,
        "`Claude-Opus-5-5` is twice on ladder `mine`",
    );
    wrong(
        &ladder(
            "anthropic",
            "'claude-opus-5-5', 'anthropic/claude-opus-5-5'",
        ),
        4,
        29,
        "`anthropic/claude-opus-5-5` is twice on ladder `mine`",
    );
    // Under another name.
    wrong(
        &ladder("anthropic", "'claude-opus-5-5', 'claude-5.5-opus'"),
        4,
        29,
        "it is the same as `claude-opus-5-5`",
    );
}

#[test]
fn a_model_on_two_ladders_of_its_provider_is_told_with_its_place() {
    let two = |provider: &str, rungs: &str| {
        ladder(
            "anthropic",
            "'claude-opus-5-5', 'claude-haiku-5-5', 'ollama/qwen3:8b'",
        ) + &format!(
            "[[routing.ladders]]\nname = 'other'\nprovider = '{provider}'\nrungs = [{rungs}]\n"
        )
    };
    wrong(
        &two("anthropic", "'claude-sonnet-5-5', 'claude-5.5-haiku'"),
        8,
        31,
        "`claude-5.5-haiku` is on ladder `mine` too",
    );
    // What runs at home may be under both, and another provider's namesake is another model.
    loaded(&two("anthropic", "'claude-sonnet-5-5', 'ollama/qwen3:8b'"));
    loaded(&two("openai", "'gpt-6.1-sol', 'ollama/qwen3:8b'"));
}

#[test]
fn an_unknown_model_is_told_with_its_place_and_the_nearest_known_one() {
    let unknown = ladder("anthropic", "'claude-opus-5-5', 'claude-hiaku-5-5'");
    wrong(
        &unknown,
        4,
        29,
        "the catalogue knows no model `claude-hiaku-5-5` of `anthropic`",
    );
    wrong(&unknown, 4, 29, "did you mean `claude-haiku-5-5`?");
    let known = "[[models]]\nprovider = 'anthropic'\nid = 'claude-hiaku-5-5'\nprice = { input = '1', output = '2' }\n";
    loaded(&(unknown + known));
    wrong(
        &rule("provider = 'openai'\nto = 'gpt-6-lunar-x'"),
        3,
        6,
        "the catalogue knows no model `gpt-6-lunar-x` of `openai`",
    );
    wrong(
        &rule("to = 'olama/qwen3:8b'"),
        2,
        6,
        "did you mean a model of provider `ollama`?",
    );
    // What runs at home can have any name.
    loaded(&rule("to = 'ollama/anything-at-all'"));
    loaded(&rule("provider = 'vllm'\nto = 'anything-at-all'"));
    loaded(&rule("to = 'claude-haiku-5-5'"));
}

#[test]
fn a_rung_that_is_dearer_than_the_one_above_is_told_with_its_place() {
    let turned = ladder("anthropic", "'claude-haiku-5-5', 'claude-opus-5-5'");
    wrong(
        &turned,
        4,
        30,
        "`claude-opus-5-5` is dearer than `claude-haiku-5-5`, the rung above it: 4.00 and 20.00 USD for a million input and \
         output tokens, above 0.10 and 0.50",
    );
    loaded(&(turned.clone() + "unchecked_prices = true\n"));
    loaded(&ladder(
        "anthropic",
        "'claude-sonnet-5', 'claude-sonnet-5-5'",
    ));
    let cheap_opus = "[[models]]\nprovider = 'anthropic'\nid = 'claude-opus-5-5'\nprice = { input = '0.1', output = '0.5' }\n";
    loaded(&(turned + cheap_opus));
    wrong(
        &ladder(
            "openrouter",
            "'anthropic/claude-opus-5.5', 'openrouter/auto'",
        ),
        4,
        39,
        "the price of `openrouter/auto` is not known",
    );
}

#[test]
fn an_announced_price_counts_from_its_day_on() {
    let text = ladder("gemini", "'gemini-3.1-pro-preview', 'gemini-4-argon'");
    assert!(try_load(&text, AT).is_ok());
    let told = try_load(&text, DECEMBER).expect_err("a mistake");
    assert!(
        told.contains("`gemini-4-argon` is dearer than `gemini-3.1-pro-preview`"),
        "{told}"
    );
    // Of the built-in ladders it is told, and the start goes on.
    assert_eq!(found_at("", AT), []);
    assert_eq!(
        found_at("", DECEMBER),
        [("ladder-out-of-order", "routing.ladders.google".to_owned())]
    );
    assert_eq!(found_at("routing.mode = 'off'\n", DECEMBER), []);
}

#[test]
fn a_task_that_does_not_exist_is_told_with_its_place() {
    wrong(
        &rule("to = 'cheap'\ntask = 'documentaton'"),
        3,
        8,
        "there is no task `documentaton`",
    );
    wrong(
        &rule("to = 'cheap'\ntask = 'documentaton'"),
        3,
        8,
        "did you mean `documentation`?",
    );
    loaded(&rule("to = 'cheap'\ntask = 'Documentation'"));
    let own = "[[classify.task]]\nname = 'translation'\nwords = ['translate']\n";
    loaded(&(rule("to = 'cheap'\ntask = 'translation'") + own));
    // One that only clients name is written as a pattern, and told.
    assert_eq!(
        found(&rule("to = 'cheap'\ntask = 'translation*'")),
        [("task-of-headers-only", "routing.rules.1.task".to_owned())]
    );
}

#[test]
fn providers_that_are_not_there_or_speak_another_format_are_told_with_their_place() {
    wrong(
        &rule("provider = 'opnai'\nto = 'cheap'"),
        2,
        12,
        "did you mean `openai`?",
    );
    wrong(
        &ladder("antropic", "'claude-opus-5-5'"),
        3,
        12,
        "there is no provider `antropic`, or it is switched off",
    );
    wrong(
        &ladder("anthropic", "'claude-opus-5-5', 'openai/gpt-6-luna'"),
        4,
        29,
        "`openai/gpt-6-luna` cannot serve these requests: `openai` speaks another wire format (openai)",
    );
    wrong(
        &ladder("gemini", "'gemini-2.5-pro', 'ollama/qwen3:8b'"),
        4,
        28,
        "speaks another wire format (ollama)",
    );
    wrong(
        &rule("provider = 'gem*'\nto = 'openai/gpt-6-luna'"),
        3,
        6,
        "another wire format",
    );
    wrong(
        &(rule("to = 'ollama/qwen3:8b'") + "[providers.ollama]\nenabled = false\n"),
        2,
        6,
        "`ollama/qwen3:8b` cannot serve: provider `ollama` is switched off",
    );
    wrong(
        "[[routing.ladders]]\nname = 'x'\nrungs = ['m']\n",
        3,
        10,
        "`m` is a model of no provider",
    );
}

#[test]
fn blocks_that_make_no_sense_are_told_with_their_place() {
    for (text, line, column, told) in [
        (rule("to = 'cheaper still'"), 2, 6, "cannot be understood"),
        (rule("to = 'down 0'"), 2, 6, "cannot be understood"),
        (
            rule("tsk = 'ui'\nto = 'cheap'"),
            2,
            1,
            "did you mean `task`?",
        ),
        (rule("to = 'cheap'\nlevel = 'full'"), 3, 9, "not a level"),
        (
            rule("name = 'a b'\nto = 'cheap'"),
            2,
            8,
            "cannot be a rule's name",
        ),
        (ladder("anthropic", ""), 4, 9, "ladder `mine` has no rungs"),
        (ladder("anthropic", "''"), 4, 10, "`` names no model"),
        (
            ladder("anthropic", "'claude-opus-5-5'") + "cheap = 'claude-opus-5'\n",
            5,
            9,
            "did you mean `claude-opus-5-5`?",
        ),
        (
            ladder("anthropic", "'claude-opus-5-5', 'claude-haiku-5-5'")
                + "premium = 'claude-haiku-5-5'\ncheap = 'claude-opus-5-5'\n",
            6,
            9,
            "`cheap` is above `premium`",
        ),
        (
            ladder("anthropic", "'claude-opus-5-5'") + "beside = { haiku = ['*'] }\n",
            5,
            10,
            "`haiku` is no rung of ladder `mine`",
        ),
    ] {
        wrong(&text, line, column, told);
    }
    let twice = rule("name = 'a'\nto = 'cheap'\ntask = 'ui'") + &rule("name = 'a'\nto = 'asked'");
    wrong(&twice, 6, 8, "there are two rules `a`");
    let twice = "[[routing.ladders]]\nname = 'google'\nenabled = false\n".repeat(2);
    wrong(&twice, 5, 8, "there are two ladders `google`");
}

#[test]
fn rules_that_can_never_match_are_found() {
    const NEVER: &str = "rule-never-matches";
    let two = |one: &str, other: &str| found(&(rule(one) + &rule(other)));
    for (one, other) in [
        ("to = 'asked'", "task = 'ui'\nto = 'cheap'"),
        ("task = '*'\nto = 'asked'", "task = 'ui'\nto = 'cheap'"),
        ("session = '*'\nto = 'asked'", "to = 'cheap'"),
        (
            "level = 'soft'\nto = 'down'",
            "level = 'hard'\nto = 'bottom'",
        ),
        (
            "simple = true\nto = 'cheap'",
            "simple = true\npriority = 'low'\nto = 'bottom'",
        ),
    ] {
        assert_eq!(
            two(one, other),
            [(NEVER, "routing.rules.2".to_owned())],
            "{one}"
        );
    }
    for (one, other) in [
        ("task = '*'\nto = 'asked'", "to = 'cheap'"),
        (
            "level = 'hard'\nto = 'bottom'",
            "level = 'soft'\nto = 'down'",
        ),
        ("level = 'soft'\nto = 'bottom'", "to = 'down'"),
        ("simple = true\nto = 'cheap'", "to = 'asked'"),
        (
            "priority = 'low'\nto = 'cheap'",
            "priority = 'high'\nto = 'asked'",
        ),
    ] {
        assert_eq!(two(one, other), [], "{one}");
    }
    for (text, key) in [
        ("team = 'research'\nto = 'cheap'", "team"),
        ("key = 'batch'\nto = 'cheap'", "key"),
    ] {
        assert_eq!(
            found(&rule(text)),
            [(NEVER, format!("routing.rules.1.{key}"))]
        );
    }
    let keys = "auth.mode = 'keys'\nproviders.openai.api_key = 'sk-1'\n";
    let team = format!("{keys}{}", rule("team = 'reserch'\nto = 'cheap'"));
    assert_eq!(found(&team), [(NEVER, "routing.rules.1.team".to_owned())]);
    assert_eq!(
        found(&rule("model = 'claude-9*'\nto = 'cheap'")),
        [("model-not-known", "routing.rules.1.model".to_owned())]
    );
    assert_eq!(
        found(&rule("provider = 'llamacpp'\nto = 'cheap'")),
        [("rule-without-ladder", "routing.rules.1.to".to_owned())]
    );
}

#[test]
fn a_target_without_a_key_of_its_own_is_found() {
    let text = ladder(
        "openai",
        "'gpt-6.1-sol', 'groq/openai/gpt-oss-20b', 'ollama/qwen3:8b'",
    );
    assert_eq!(
        found(&text),
        [("route-without-key", "routing.ladders.1.rungs.2".to_owned())]
    );
    // With one it is right, in mode passthrough too, where it would otherwise never be sent.
    let key = "[providers.groq]\napi_key = 'sk-1'\n";
    assert_eq!(found(&(key.to_owned() + &text)), []);
    assert_eq!(
        found(key),
        [(
            "provider-key-never-sent",
            "providers.groq.api_key".to_owned()
        )]
    );
    assert_eq!(
        found(&rule("provider = 'openai'\nto = 'groq/openai/gpt-oss-20b'")),
        [("route-without-key", "routing.rules.1.to".to_owned())]
    );
    assert_eq!(
        found(&rule("provider = 'openai'\nto = 'openai/gpt-6-luna'")),
        []
    );
}

/// Runs the program where there is only this file.
fn run(text: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(dir.path().join("tollgate.toml"), text).expect("a file");
    run_in(dir.path(), args)
}

fn run_in(dir: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(args)
        .current_dir(dir)
        .env_clear()
        .env("HOME", dir)
        .output()
        .expect("the program runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn check_says_what_rules_match_and_what_rungs_cost() {
    let text = rule(
        "name = 'mine'\ntask = 'ui'\nsession = 'dev-*'\npriority = 'low'\nlevel = 'hard'\nto = 'down 2'",
    );
    let (code, told, _) = run(&text, &["check"]);
    assert_eq!(code, Some(0), "{told}");
    let line = |begins: &str| {
        let mut lines = told
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        lines
            .find(|line| line.starts_with(begins))
            .unwrap_or_else(|| panic!("{told}"))
    };
    assert_eq!(
        line("mine"),
        "mine of task ui, of session dev-*, of low priority, at level HARD or above 2 rungs below it"
    );
    assert_eq!(
        line("guide-simple"),
        "guide-simple that are simple the ladder's cheap rung"
    );
    assert_eq!(line("anthropic claude"), "anthropic claude-fable-5-2 8 40");
    assert_eq!(line("claude-haiku-5-5"), "claude-haiku-5-5 cheap 0.10 0.50");
    assert!(line("routing:").starts_with("routing: in shadow"));
    let (_, json, _) = run(&text, &["check", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let rules = &json["routing"]["rules"];
    assert_eq!(rules[0]["when"]["task"], "ui");
    assert_eq!(
        (&rules[0]["to"], &rules[0]["built_in"]),
        (&"down 2".into(), &false.into())
    );
    let rung = &json["routing"]["ladders"][0]["rungs"][3];
    assert_eq!(
        (&rung["model"], &rung["input"]),
        (&"claude-haiku-5-5".into(), &"0.10".into())
    );
    assert_eq!(json["blocks"]["routing.rules"], 1);
}

#[test]
fn check_and_the_start_refuse_a_ladder_that_leads_up() {
    let text = ladder("anthropic", "'claude-haiku-5-5', 'claude-opus-5-5'");
    for args in [&["check"][..], &["serve", "--listen", "127.0.0.1:0"]] {
        let (code, _, told) = run(&text, args);
        assert_ne!(code, Some(0), "{args:?}");
        assert!(told.contains("`claude-opus-5-5` is dearer"), "{told}");
        assert!(told.contains("tollgate.toml:4:30"), "{told}");
    }
    let (code, json, _) = run(&text, &["check", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((code, &json["ok"]), (Some(1), &false.into()));
    assert_eq!(json["problems"][0]["key"], "routing.ladders.1.rungs.2");
    assert_eq!(json["problems"][0]["line"], 4);
}
