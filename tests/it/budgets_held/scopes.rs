//! Whose spending a budget counts: every kind of scope, named ones, several at once, cache reads, free models.

use super::*;

/// Refused or not.
async fn passes(tollgate: &Tollgate, ask: &Ask<'_>) -> bool {
    let (head, body) = ask.send(tollgate).await;
    assert!(head.status() < 500, "{}", body.text());
    head.status() == 200
}

#[tokio::test]
async fn each_kind_of_scope_counts_its_own_and_nothing_else() {
    let openai = Ask {
        path: "/openai/v1/chat/completions",
        model: "gpt-5",
        ..ask("s", "high")
    };
    let with_key = |key| Ask {
        headers: vec![("x-api-key", key)],
        ..ask("s", "high")
    };
    let (one, two) = (with_key("sk-ant-one-000001"), with_key("sk-ant-two-000002"));
    let haiku = Ask {
        model: "claude-haiku-4-5",
        ..ask("s", "high")
    };
    for (scope, same, other) in [
        ("session", ask("s", "high"), Some(ask("t", "high"))),
        (
            "session",
            Ask {
                model: "claude-haiku-4-5",
                ..ask("s", "high")
            },
            Some(ask("t", "high")),
        ),
        (
            "provider",
            Ask {
                session: "t",
                ..ask("s", "high")
            },
            Some(openai.clone()),
        ),
        (
            "model",
            Ask {
                session: "t",
                ..ask("s", "high")
            },
            Some(haiku.clone()),
        ),
        // The other names that the catalogue has for the same model.
        (
            "model",
            Ask {
                model: "claude-5-5-sonnet",
                ..ask("s", "high")
            },
            Some(haiku),
        ),
        (
            "model",
            Ask {
                model: "claude-sonnet-5.5",
                ..ask("s", "high")
            },
            None,
        ),
        (
            "global",
            Ask {
                session: "t",
                ..openai
            },
            None,
        ),
    ] {
        let (tollgate, _provider) = Rules::none()
            .budget("b", scope, "day", "5 requests")
            .before_echo()
            .await;
        for _ in 0..5 {
            ask("s", "critical").passes(&tollgate).await;
        }
        assert!(!passes(&tollgate, &same).await, "{scope}: {same:?}");
        if let Some(other) = other {
            assert!(passes(&tollgate, &other).await, "{scope}: {other:?}");
        }
    }
    let (tollgate, _provider) = Rules::none()
        .budget("b", "key", "day", "5 requests")
        .before_echo()
        .await;
    for _ in 0..5 {
        Ask {
            priority: "critical",
            ..one.clone()
        }
        .passes(&tollgate)
        .await;
    }
    assert!(
        !passes(
            &tollgate,
            &Ask {
                session: "t",
                ..one
            }
        )
        .await
    );
    assert!(passes(&tollgate, &two).await);
    assert!(
        passes(&tollgate, &ask("s", "high")).await,
        "without a key no budget of a key"
    );
}

#[tokio::test]
async fn a_named_budget_counts_the_one_that_it_names() {
    for (scope, named, other) in [
        ("session:docs", ask("docs", "high"), ask("other", "high")),
        (
            "provider:anthropic",
            ask("s", "high"),
            Ask {
                path: "/openai/v1/chat/completions",
                model: "gpt-5",
                ..ask("s", "high")
            },
        ),
        (
            "model:claude-sonnet-5-5",
            ask("s", "high"),
            Ask {
                model: "claude-haiku-4-5",
                ..ask("s", "high")
            },
        ),
    ] {
        let (tollgate, _provider) = Rules::none()
            .budget("b", scope, "day", "5 requests")
            .before_echo()
            .await;
        for _ in 0..6 {
            other.passes(&tollgate).await;
        }
        for _ in 0..5 {
            Ask {
                priority: "critical",
                ..named.clone()
            }
            .passes(&tollgate)
            .await;
        }
        assert!(!passes(&tollgate, &named).await, "{scope}");
        other.passes(&tollgate).await;
    }
}

#[tokio::test]
async fn a_named_budget_knows_its_model_by_any_of_the_catalogues_names() {
    let rules = Rules::none().budget("b", "model:claude-5-5-sonnet", "day", "5 requests");
    let (tollgate, _provider) = rules.before_echo().await;
    for _ in 0..5 {
        ask("s", "critical").passes(&tollgate).await;
    }
    assert!(
        !passes(&tollgate, &ask("s", "high")).await,
        "the budget binds nobody"
    );
}

#[tokio::test]
async fn all_budgets_that_match_apply_and_the_highest_level_wins() {
    let rules = Rules::none()
        .budget("mine", "session", "hour", "100,000 tokens")
        .budget("mine-usd", "session", "hour", "100 usd")
        .budget("all", "global", "day", "200,000 tokens")
        .budget("provider", "provider", "minute", "1000 requests")
        .budget("model", "model", "month", "10,000,000 tokens");
    let (tollgate, provider) = rules.before_echo().await;
    Ask {
        output: 75_000,
        ..ask("a", "normal")
    }
    .passes(&tollgate)
    .await;
    let head = ask("a", "normal").passes(&tollgate).await;
    assert_eq!(head.value("x-tollgate-level"), Some("WARNING"));
    // Others fill what is everybody's: 181,000 of 200,000.
    for session in ["b", "c"] {
        Ask {
            output: 53_000,
            ..ask(session, "normal")
        }
        .passes(&tollgate)
        .await;
    }
    provider.take();
    let told = ask("a", "normal").is_refused(&tollgate).await;
    assert_eq!(
        (&told["budget"], &told["level"], &told["scope"]),
        (&json!("all"), &json!("HARD"), &json!("global"))
    );
    let head = ask("a", "high").passes(&tollgate).await;
    assert_eq!(head.value("x-tollgate-level"), Some("HARD"));
    assert_eq!(provider.take().len(), 1);
    // What was refused was charged to none of them.
    for (budget, name, settled) in [
        ("mine", Some("a"), 75_000),
        ("all", None, 181_000),
        ("provider", Some("anthropic"), 5),
        ("model", Some(MODEL), 181_000),
    ] {
        assert_eq!(
            amounts(&tollgate, budget, name).await,
            (settled, 0),
            "{budget}"
        );
    }
    let usd = standing(&tollgate, "mine-usd", Some("a")).await.unwrap();
    assert_eq!(
        usd["settled"], "0.75",
        "75,000 output tokens at $10 for a million"
    );
}

#[tokio::test]
async fn cache_reads_count_only_where_a_budget_says_so_and_cache_writes_always() {
    let rules = Rules::none()
        .budget("fresh", "session", "hour", "1,000,000 tokens")
        .budget("all", "session", "hour", "1,000,000 tokens")
        .set("budgets.all.count_cache_reads", "true");
    let (tollgate, _provider) = rules.before_echo().await;
    let used = Ask {
        input: 10,
        cached: 3_000,
        written: 200,
        output: 5,
        ..ask("a", "normal")
    };
    used.passes(&tollgate).await;
    assert_eq!(amounts(&tollgate, "fresh", Some("a")).await, (215, 0));
    assert_eq!(amounts(&tollgate, "all", Some("a")).await, (3_215, 0));
    for path in ["/openai/v1/chat/completions", "/openai/v1/responses"] {
        let used = Ask {
            path,
            model: "gpt-5",
            session: path,
            input: 10,
            cached: 3_000,
            output: 5,
            ..ask("o", "normal")
        };
        used.passes(&tollgate).await;
        assert_eq!(
            amounts(&tollgate, "fresh", Some(path)).await,
            (15, 0),
            "{path}"
        );
        assert_eq!(
            amounts(&tollgate, "all", Some(path)).await,
            (3_015, 0),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_model_that_costs_nothing_counts_tokens_and_is_never_refused_for_money() {
    let rules = Rules::none()
        .hard("money", "session", "hour", "0.1 usd")
        .budget("tokens", "session", "hour", "20,000 tokens");
    let (tollgate, _provider) = rules.before_echo().await;
    Ask {
        output: 10_000,
        ..ask("s", "critical")
    }
    .passes(&tollgate)
    .await;
    let told = ask("s", "critical").is_refused(&tollgate).await;
    assert_eq!(told["budget"], "money");
    let local = Ask {
        path: "/ollama/api/chat",
        model: "qwen3",
        output: 1_000,
        ..ask("s", "low")
    };
    for _ in 0..6 {
        let head = local.passes(&tollgate).await;
        let record = tollgate.record(&head).await;
        assert_eq!(record.cost, Some(tollgate::units::Cost::ZERO));
    }
    assert_eq!(amounts(&tollgate, "tokens", Some("s")).await, (16_000, 0));
    let money = standing(&tollgate, "money", Some("s")).await.unwrap();
    assert_eq!(money["settled"], "0.10");
    Ask {
        output: 3_000,
        priority: "high",
        ..local.clone()
    }
    .passes(&tollgate)
    .await;
    let told = Ask {
        priority: "high",
        ..local
    }
    .is_refused(&tollgate)
    .await;
    assert_eq!(told["budget"], "tokens", "tokens it does count");
}

#[tokio::test]
async fn the_built_in_limits_are_those_of_the_guide() {
    let upstream = Upstream::start().await.answering(echo);
    let tollgate = Tollgate::before(upstream.address).await;
    Ask {
        output: 1,
        ..ask("s", "normal")
    }
    .passes(&tollgate)
    .await;
    let throttle = tollgate.get("/api/v1/throttle").await.json();
    let mut found: Vec<(String, String, String)> = throttle["budgets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|budget| {
            let text = |field: &str| budget[field].as_str().unwrap().to_owned();
            let limit = budget["limit"].to_string().replace('"', "");
            (
                text("kind"),
                text("window"),
                limit.trim_end_matches(".00").to_owned() + " " + &text("unit"),
            )
        })
        .collect();
    found.sort();
    let expected = [
        ("global", "day", "5000000 tokens"),
        ("global", "hour", "500000 tokens"),
        ("global", "month", "1000 usd"),
        ("session", "day", "1000000 tokens"),
        ("session", "day", "50 usd"),
        ("session", "hour", "100000 tokens"),
        ("session", "hour", "5 usd"),
    ]
    .map(|(kind, window, limit)| (kind.to_owned(), window.to_owned(), limit.to_owned()));
    assert_eq!(found, expected);
    assert_eq!(throttle["mode"], "on");
}
