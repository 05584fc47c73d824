use proptest::prelude::*;

use super::*;

fn target(text: &str) -> Target {
    Target::read(text, |name| ["a", "home"].contains(&name)).expect("a model")
}

fn ladder(name: &str, rungs: &[&str]) -> Ladder {
    Ladder {
        name: name.to_owned(),
        provider: Some("maker".to_owned()),
        rungs: rungs.iter().map(|text| target(text)).collect(),
        beside: Vec::new(),
        cheap: rungs.len() - 1,
        premium: 0,
        unchecked_prices: false,
        block: None,
    }
}

fn rule(name: &str, to: &str) -> RouteRule {
    RouteRule {
        name: name.to_owned(),
        task: None,
        simple: None,
        model: None,
        provider: None,
        priority: None,
        session: None,
        key: None,
        team: None,
        level: None,
        to: To::read(to, |name| ["a", "home"].contains(&name)).expect("a direction"),
        block: None,
    }
}

fn routing(rules: Vec<RouteRule>) -> Routing {
    Routing {
        mode: Mode::On,
        rules,
        ladders: vec![ladder("l", &["best", "good", "fair", "poor", "home/own"])],
        ..Routing::default()
    }
}

fn wanted(model: &str) -> Wanted<'_> {
    Wanted {
        provider: "a",
        catalogue: "maker",
        model,
        written: model,
        task: None,
        simple: false,
        priority: Priority::Normal,
        session: "s",
        key: None,
        team: None,
        level: Level::None,
        pinned: false,
    }
}

fn same(one: &str, other: &str) -> bool {
    one == other
}

fn names(choices: &[Choice<'_>]) -> Vec<String> {
    let name = |choice: &Choice<'_>| format!("{}/{} {}", choice.provider, choice.model, choice.why);
    choices.iter().map(name).collect()
}

/// The order in which models are tried, where those named do not fit.
fn order(routing: &Routing, wanted: &Wanted<'_>, unfit: &[&str]) -> Vec<String> {
    let plan = plan(routing, wanted, same);
    names(&plan.order(|choice| !unfit.contains(&choice.model), None))
}

#[test]
fn what_budgets_do_not_admit_goes_down_its_ladder() {
    assert_eq!(
        order(&routing(Vec::new()), &wanted("good"), &[]),
        [
            "a/good asked",
            "a/fair ladder:l",
            "a/poor ladder:l",
            "home/own ladder:l"
        ]
    );
    let nowhere = order(&routing(Vec::new()), &wanted("unheard-of"), &[]);
    assert_eq!(nowhere, ["a/unheard-of asked"]);
}

#[test]
fn a_rung_that_does_not_fit_gives_way_to_the_next_better_one() {
    let routing = routing(vec![rule("cheap", "down 3")]);
    assert_eq!(
        order(&routing, &wanted("best"), &[]),
        [
            "a/poor rule:cheap",
            "home/own ladder:l",
            "a/fair rule:cheap",
            "a/good rule:cheap",
            "a/best asked"
        ]
    );
    assert_eq!(
        order(&routing, &wanted("best"), &["poor", "fair"]),
        ["a/good rule:cheap", "home/own ladder:l", "a/best asked"]
    );
    let all = ["good", "fair", "poor", "own"];
    assert_eq!(order(&routing, &wanted("best"), &all), ["a/best asked"]);
}

#[test]
fn each_direction_names_its_rung_and_none_leads_up() {
    let first = |to: &str, model: &str| {
        let mut routing = routing(vec![rule("r", to)]);
        (routing.ladders[0].premium, routing.ladders[0].cheap) = (1, 3);
        order(&routing, &wanted(model), &[])[0].clone()
    };
    for (to, model, got) in [
        ("asked", "best", "a/best rule:r"),
        ("premium", "best", "a/good rule:r"),
        ("premium", "fair", "a/fair asked"),
        ("cheap", "best", "a/poor rule:r"),
        ("cheap", "poor", "a/poor asked"),
        ("bottom", "good", "home/own rule:r"),
        ("down", "good", "a/fair rule:r"),
        ("down 99", "good", "home/own rule:r"),
        ("fair", "good", "a/fair rule:r"),
        ("good", "good", "a/good rule:r"),
        // A model is taken as it is written, up too.
        ("best", "fair", "a/best rule:r"),
        ("home/other", "good", "home/other rule:r"),
    ] {
        assert_eq!(first(to, model), got, "{model} to {to}");
    }
}

#[test]
fn after_a_model_that_is_on_no_ladder_comes_what_was_asked_for() {
    let routing = routing(vec![rule("dev", "home/other")]);
    let tried = order(&routing, &wanted("fair"), &[]);
    assert_eq!(
        tried,
        [
            "home/other rule:dev",
            "a/fair asked",
            "a/poor ladder:l",
            "home/own ladder:l"
        ]
    );
    let tried = order(&routing, &wanted("fair"), &["other"]);
    assert_eq!(tried[0], "a/fair asked");
    // One that is on it is a rung like others.
    let on_it = super::tests::routing(vec![rule("dev", "home/own")]);
    let tried = order(&on_it, &wanted("fair"), &["own"]);
    assert_eq!(tried, ["a/poor rule:dev", "a/fair asked"]);
}

#[test]
fn a_model_beside_a_rung_goes_down_from_there_and_never_becomes_it() {
    let mut routing = routing(vec![rule("r", "down")]);
    routing.ladders[0].beside = vec![(Pattern::new("go*-old"), 1), (Pattern::new("*"), 3)];
    assert_eq!(
        order(&routing, &wanted("good-old"), &[])[0],
        "a/fair rule:r"
    );
    assert_eq!(order(&routing, &wanted("x"), &[])[0], "home/own rule:r");
    // A rung of a later ladder goes before a place beside one of an earlier.
    routing.ladders.push(ladder("m", &["x", "y"]));
    assert_eq!(order(&routing, &wanted("x"), &[])[0], "a/y rule:r");
    let other_provider = Wanted {
        catalogue: "other",
        ..wanted("good")
    };
    assert_eq!(order(&routing, &other_provider, &[]), ["a/good asked"]);
}

#[test]
fn who_is_pinned_gets_what_was_asked_for_and_so_does_everybody_when_routing_is_off() {
    let mut routing = routing(vec![rule("r", "bottom")]);
    let pinned = Wanted {
        pinned: true,
        ..wanted("best")
    };
    assert_eq!(order(&routing, &pinned, &[]), ["a/best pinned"]);
    routing.mode = Mode::Off;
    assert_eq!(order(&routing, &wanted("best"), &[]), ["a/best asked"]);
}

#[test]
fn every_condition_of_a_rule_must_hold() {
    let full = RouteRule {
        task: Some(Pattern::new("ui")),
        simple: Some(true),
        model: Some(Pattern::new("*opus*")),
        provider: Some(Pattern::new("a")),
        priority: Some(Priority::Low),
        session: Some(Pattern::new("dev-*")),
        key: Some(Pattern::new("batch")),
        team: Some(Pattern::new("research")),
        level: Some(Level::Soft),
        ..rule("r", "cheap")
    };
    let meets = Wanted {
        task: Some("ui"),
        simple: true,
        priority: Priority::Low,
        session: "dev-1",
        key: Some("batch"),
        team: Some("research"),
        level: Level::Hard,
        ..wanted("claude-opus-5-5")
    };
    assert!(full.matches(&meets));
    let written = Wanted {
        model: "one-name",
        written: "Opus-latest",
        ..meets
    };
    assert!(
        full.matches(&written),
        "either spelling of the model will do"
    );
    for other in [
        Wanted {
            task: Some("coding"),
            ..meets
        },
        Wanted {
            task: None,
            ..meets
        },
        Wanted {
            simple: false,
            ..meets
        },
        Wanted {
            model: "haiku",
            written: "haiku",
            ..meets
        },
        Wanted {
            provider: "b",
            ..meets
        },
        Wanted {
            priority: Priority::Normal,
            ..meets
        },
        Wanted {
            session: "prod",
            ..meets
        },
        Wanted { key: None, ..meets },
        Wanted {
            team: None,
            ..meets
        },
        Wanted {
            level: Level::Warning,
            ..meets
        },
    ] {
        assert!(!full.matches(&other), "{other:?}");
    }
}

#[test]
fn directions_and_models_read_back_and_nonsense_is_refused() {
    let is_provider = |name: &str| name == "ollama";
    for text in [
        "asked",
        "cheap",
        "premium",
        "bottom",
        "down",
        "down 3",
        "gpt-6-luna",
        "ollama/qwen3:8b",
    ] {
        let to = To::read(text, is_provider).expect(text);
        assert_eq!(to.to_string(), text);
    }
    let slash = To::read("anthropic/claude-opus-5.5", is_provider);
    let model = Target {
        provider: None,
        model: "anthropic/claude-opus-5.5".to_owned(),
    };
    assert_eq!(
        slash,
        Some(To::Model(model)),
        "no provider of that name is known"
    );
    for text in [
        "",
        " ",
        "down 0",
        "down -1",
        "down x",
        "down 1 2",
        "cheap now",
        "ollama/",
    ] {
        assert_eq!(To::read(text, is_provider), None, "{text:?}");
    }
}

#[test]
fn what_a_conversation_keeps_goes_first_and_the_rest_stay_in_their_order() {
    let routing = routing(vec![rule("r", "down 2")]);
    let plan = plan(&routing, &wanted("best"), same);
    let tried = |stays| names(&plan.order(|choice| choice.model != "good", Some(stays)));
    let usual = [
        "a/fair rule:r",
        "a/poor ladder:l",
        "home/own ladder:l",
        "a/best asked",
    ];
    let last_first = [
        "a/best asked",
        "a/fair rule:r",
        "a/poor ladder:l",
        "home/own ladder:l",
    ];
    assert_eq!(tried(("a", "best")), last_first);
    assert_eq!(
        tried(("a", "good")),
        usual,
        "what does not fit cannot be kept"
    );
    assert_eq!(
        tried(("home", "best")),
        usual,
        "another provider's is another model"
    );
}

/// A ladder of so many models, of which the last may be another provider's.
fn any_routing() -> impl Strategy<Value = Routing> {
    let to = prop_oneof![
        Just("asked".to_owned()),
        Just("cheap".to_owned()),
        Just("premium".to_owned()),
        Just("bottom".to_owned()),
        (1..9_u32).prop_map(|rungs| format!("down {rungs}")),
        (0..8_usize).prop_map(|model| format!("m{model}")),
        Just("home/own".to_owned()),
    ];
    let rule_of = (
        to,
        prop::option::of(any::<bool>()),
        prop::option::of(0..5_usize),
    );
    let rules = prop::collection::vec(rule_of, 0..4);
    (
        1..7_usize,
        any::<bool>(),
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
        rules,
    )
        .prop_map(|(rungs, local, one, other, rules)| {
            let mut texts: Vec<String> = (0..rungs).map(|rung| format!("m{rung}")).collect();
            texts.extend(local.then(|| "home/own".to_owned()));
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let (one, other) = (one.index(texts.len()), other.index(texts.len()));
            let ladder = Ladder {
                premium: one.min(other),
                cheap: one.max(other),
                beside: vec![(Pattern::new("m7"), one)],
                ..ladder("l", &texts)
            };
            let rules = rules
                .into_iter()
                .enumerate()
                .map(|(index, (to, simple, level))| RouteRule {
                    simple,
                    level: level.map(|level| Level::ALL[level]),
                    ..rule(&index.to_string(), &to)
                });
            Routing {
                mode: Mode::On,
                rules: rules.collect(),
                ladders: vec![ladder],
                ..Routing::default()
            }
        })
}

fn any_wanted() -> impl Strategy<Value = (String, bool, usize)> {
    (
        (0..8_usize).prop_map(|model| format!("m{model}")),
        any::<bool>(),
        0..5_usize,
    )
}

proptest! {
    #[test]
    fn a_plan_has_each_model_once_and_what_was_asked_for_always(
        routing in any_routing(), (model, simple, level) in any_wanted(),
    ) {
        let wanted = Wanted { simple, level: Level::ALL[level], ..wanted(&model) };
        let plan = plan(&routing, &wanted, same);
        let choices: Vec<_> = plan.choices().collect();
        prop_assert!(choices.len() <= routing.ladders[0].rungs.len() + 2);
        prop_assert_eq!(choices.iter().filter(|choice| choice.asked).count(), 1);
        for (index, choice) in choices.iter().enumerate() {
            prop_assert_eq!(choice.asked, choice.provider == "a" && choice.model == model);
            let again = |other: &&&Choice<'_>| (other.provider, other.model) == (choice.provider, choice.model);
            prop_assert_eq!(choices[index + 1..].iter().find(again), None);
        }
    }

    #[test]
    fn a_ladder_never_leads_up(routing in any_routing(), (model, simple, level) in any_wanted()) {
        let wanted = Wanted { simple, level: Level::ALL[level], ..wanted(&model) };
        let Some((ladder, at)) = routing.ladder(&wanted, same) else { return Ok(()) };
        let plan = plan(&routing, &wanted, same);
        let named = match routing.rule(&wanted).map(|rule| &rule.to) {
            Some(To::Model(target)) => Some(target.model.as_str()),
            _ => None,
        };
        for choice in plan.choices().filter(|choice| !choice.asked && Some(choice.model) != named) {
            let rung = ladder.rungs.iter().position(|rung| rung.model == choice.model);
            prop_assert!(rung > Some(at), "{choice:?}");
        }
    }

    #[test]
    fn the_order_holds_what_fits_once_each_and_always_what_was_asked_for(
        routing in any_routing(),
        (model, simple, level) in any_wanted(),
        unfit in prop::collection::hash_set(0..8_usize, 0..8),
        stays in 0..9_usize,
    ) {
        let wanted = Wanted { simple, level: Level::ALL[level], ..wanted(&model) };
        let plan = plan(&routing, &wanted, same);
        let fits = |choice: &Choice<'_>| !unfit.iter().any(|other| choice.model == format!("m{other}"));
        let order = plan.order(fits, None);
        let expected = plan.choices().filter(|choice| choice.asked || fits(choice)).count();
        prop_assert_eq!(order.len(), expected);
        prop_assert!(order.iter().any(|choice| choice.asked));
        prop_assert_eq!(&plan.order(fits, None), &order, "the same question has the same answer");
        // What the rules decide goes first wherever it fits.
        if plan.first.asked || fits(&plan.first) {
            prop_assert_eq!(order[0], plan.first);
        }
        let kept = format!("m{stays}");
        let keeping = plan.order(fits, Some(("a", &kept)));
        let is_kept = |choice: &&Choice<'_>| choice.provider == "a" && choice.model == kept;
        if let Some(kept) = order.iter().find(is_kept) {
            prop_assert_eq!(&keeping[0], kept);
        }
        let others = |order: &[Choice<'_>]| names(&order.iter().filter(|choice| !is_kept(choice)).copied().collect::<Vec<_>>());
        prop_assert_eq!(others(&keeping), others(&order));
    }

    #[test]
    fn rules_after_the_one_that_matches_change_nothing(
        routing in any_routing(), (model, simple, level) in any_wanted(), more in any_routing(),
    ) {
        let wanted = Wanted { simple, level: Level::ALL[level], ..wanted(&model) };
        prop_assume!(routing.rule(&wanted).is_some());
        let mut longer = routing.clone();
        longer.rules.extend(more.rules);
        prop_assert_eq!(plan(&longer, &wanted, same), plan(&routing, &wanted, same));
    }
}
