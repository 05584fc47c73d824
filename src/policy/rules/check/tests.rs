//! Each rule: what it allows to the last token, what it forbids, and what it says.

use super::*;
use crate::policy::rules::{Holder, Policy};

const BODY: BodyFacts<'_> = BodyFacts {
    prompt_tokens: Some(100),
    output: Some(OUTPUT),
    tools: &[],
    hidden_tools: false,
    other_models: &[],
};

const OUTPUT: OutputFacts = OutputFacts {
    cap: Some(50),
    choices: 1,
    model_most: None,
    field: "max_tokens",
};

fn facts<'a>(body: Option<BodyFacts<'a>>) -> PolicyFacts<'a> {
    PolicyFacts {
        depth: None,
        model: Some(ModelFacts {
            name: Some("claude-haiku-4-5"),
            body,
        }),
        unseen: false,
    }
}

fn patterns(texts: &[&str]) -> Option<Vec<Pattern>> {
    Some(texts.iter().copied().map(Pattern::new).collect())
}

/// The rule that a policy of the tier `free` is violated by, and the message.
fn found(policy: &Policy, facts: &PolicyFacts<'_>) -> Option<(String, String)> {
    let applied = Applied {
        holder: Holder::Tier,
        name: "free",
        policy,
    };
    let violation = check(&[applied], facts).err()?;
    let rule = violation
        .rule
        .strip_prefix("tiers.free.")
        .expect("the tier's");
    Some((rule.to_owned(), violation.message))
}

fn rule(policy: &Policy, facts: &PolicyFacts<'_>) -> Option<String> {
    found(policy, facts).map(|(rule, _)| rule)
}

#[test]
fn a_policy_without_rules_forbids_nothing() {
    for body in [None, Some(BODY)] {
        assert_eq!(rule(&Policy::default(), &facts(body)), None);
    }
}

#[test]
fn the_deepest_recursion_passes_and_what_is_not_stated_is_the_top() {
    let policy = Policy {
        max_depth: Some(2),
        ..Policy::default()
    };
    for (depth, violated) in [
        (None, false),
        (Some(2), false),
        (Some(3), true),
        (Some(u32::MAX), true),
    ] {
        // Also where no model is asked.
        let facts = PolicyFacts {
            depth,
            ..PolicyFacts::default()
        };
        assert_eq!(rule(&policy, &facts).is_some(), violated, "{depth:?}");
    }
}

#[test]
fn a_prompt_may_be_as_large_as_the_rule_says() {
    let policy = Policy {
        max_prompt_tokens: Some(100),
        ..Policy::default()
    };
    let of = |prompt_tokens| {
        found(
            &policy,
            &facts(Some(BodyFacts {
                prompt_tokens,
                ..BODY
            })),
        )
    };
    assert_eq!(of(Some(100)), None);
    let (rule, message) = of(Some(101)).expect("a violation");
    assert_eq!(rule, "max_prompt");
    assert!(
        message.contains("101") && message.contains("100"),
        "{message}"
    );
    assert!(
        of(None).is_some(),
        "a prompt that is elsewhere cannot be measured"
    );
    assert!(found(&policy, &facts(None)).is_some());
}

#[test]
fn output_counts_for_all_answers_together_and_must_be_bounded() {
    let policy = Policy {
        max_output_tokens: Some(1_000),
        ..Policy::default()
    };
    for (cap, choices, model_most, violated) in [
        (Some(1_000), 1, None, false),
        (Some(1_001), 1, None, true),
        (Some(500), 2, None, false),
        (Some(500), 3, None, true),
        (Some(0), u32::MAX, None, false),
        (Some(u64::MAX), u32::MAX, None, true),
        (Some(1), 0, None, false),
        // A cap that is stated counts, whatever the model can do.
        (Some(2_000), 1, Some(10), true),
        (None, 1, Some(1_000), false),
        (None, 2, Some(1_000), true),
        (None, 1, Some(64_000), true),
        (None, 1, None, true),
    ] {
        let output = Some(OutputFacts {
            cap,
            choices,
            model_most,
            ..OUTPUT
        });
        let found = found(&policy, &facts(Some(BodyFacts { output, ..BODY })));
        assert_eq!(
            found.is_some(),
            violated,
            "{cap:?} × {choices}, {model_most:?}"
        );
        if let Some((rule, message)) = found {
            assert_eq!(rule, "max_output");
            assert!(
                message.contains("1000") && message.contains("max_tokens"),
                "{message}"
            );
        }
    }
    let embedding = BodyFacts {
        output: None,
        ..BODY
    };
    assert_eq!(rule(&policy, &facts(Some(embedding))), None);
    assert!(rule(&policy, &facts(None)).is_some());
}

#[test]
fn every_model_that_may_serve_must_be_allowed() {
    let policy = Policy {
        models: patterns(&["*haiku*", "gpt-5-mini"]),
        ..Policy::default()
    };
    let of = |name, others: &[&'static str]| {
        let other_models: Vec<Cow<'_, str>> = others.iter().copied().map(Cow::Borrowed).collect();
        let model = ModelFacts {
            name,
            body: Some(BodyFacts {
                other_models: &other_models,
                ..BODY
            }),
        };
        let facts = PolicyFacts {
            model: Some(model),
            ..PolicyFacts::default()
        };
        found(&policy, &facts).map(|(_, message)| message)
    };
    assert_eq!(of(Some("Claude-Haiku-4-5"), &["gpt-5-mini"]), None);
    let message = of(Some("claude-opus-4-8"), &[]).expect("a violation");
    assert!(
        message.contains("\"claude-opus-4-8\"") && message.contains("*haiku*, gpt-5-mini"),
        "{message}"
    );
    assert!(of(Some("claude-haiku"), &["claude-opus"]).is_some());
    assert!(
        of(Some("claude-haiku"), &[""]).is_some(),
        "one that cannot be read"
    );
    assert!(of(None, &[]).is_some());
    // The path names it: the body need not be read.
    assert_eq!(rule(&policy, &facts(None)), None);
    let nothing = Policy {
        models: patterns(&[]),
        ..Policy::default()
    };
    assert!(rule(&nothing, &facts(Some(BODY))).is_some());
}

#[test]
fn every_declared_tool_must_be_allowed() {
    let policy = Policy {
        tools: patterns(&["Read", "web_*", "code_execution"]),
        ..Policy::default()
    };
    for (tools, violated) in [
        (&[][..], false),
        (&["Read", "web_search", "web_search_20250305"], false),
        (&["code_execution_20250825"], false),
        (&["code_execution_2025_08_25"], false),
        (&["code_execution_2025082"], true),
        (&["code_execution_beta"], true),
        (&["Read", "Bash"], true),
        (&["Reader"], true),
        (&[""], true),
    ] {
        let tools: Vec<Cow<'_, str>> = tools.iter().copied().map(Cow::Borrowed).collect();
        let body = BodyFacts {
            tools: &tools,
            ..BODY
        };
        assert_eq!(
            rule(&policy, &facts(Some(body))).is_some(),
            violated,
            "{tools:?}"
        );
    }
    let hidden = BodyFacts {
        hidden_tools: true,
        ..BODY
    };
    assert!(rule(&policy, &facts(Some(hidden))).is_some());
    assert!(rule(&policy, &facts(None)).is_some());
}

#[test]
fn names_that_anybody_may_have_written_are_not_repeated() {
    let policy = Policy {
        tools: patterns(&[]),
        ..Policy::default()
    };
    let long = "x".repeat(65);
    for name in ["a b", "a\nb", "é", "\u{202e}", &long] {
        let tools = [Cow::Borrowed(name)];
        let body = BodyFacts {
            tools: &tools,
            ..BODY
        };
        let (_, message) = found(&policy, &facts(Some(body))).expect("a violation");
        assert!(!message.contains(name), "{message}");
        assert!(message.is_ascii(), "{message}");
    }
}

#[test]
fn the_strictest_of_all_policies_decides_and_is_named() {
    let wide = Policy {
        max_output_tokens: Some(1_000),
        ..Policy::default()
    };
    let narrow = Policy {
        max_output_tokens: Some(10),
        ..Policy::default()
    };
    let applied = |holder, name, policy| Applied {
        holder,
        name,
        policy,
    };
    let facts = facts(Some(BODY));
    for (policies, rule) in [
        (
            [
                applied(Holder::Tier, "pro", &wide),
                applied(Holder::Team, "research", &narrow),
            ],
            "teams.research.max_output",
        ),
        (
            [
                applied(Holder::Tier, "free", &narrow),
                applied(Holder::Key, "ci", &wide),
            ],
            "tiers.free.max_output",
        ),
        (
            [
                applied(Holder::Team, "a", &wide),
                applied(Holder::Key, "ci", &narrow),
            ],
            "keys.ci.max_output",
        ),
    ] {
        let violation = check(&policies, &facts).expect_err("50 are more than 10");
        assert_eq!(violation.rule, rule);
    }
}

#[test]
fn what_cannot_be_seen_violates_a_rule_about_models_or_tools_and_no_other() {
    let unseen = PolicyFacts {
        unseen: true,
        ..PolicyFacts::default()
    };
    let of = |policy: Policy| rule(&policy, &unseen);
    let any = || patterns(&["*"]);
    assert_eq!(of(Policy::default()), None);
    let policy = Policy {
        max_output_tokens: Some(1),
        max_prompt_tokens: Some(1),
        ..Policy::default()
    };
    assert_eq!(of(policy), None);
    let policy = Policy {
        tools: any(),
        ..Policy::default()
    };
    assert_eq!(of(policy).as_deref(), Some("tools"));
    let policy = Policy {
        models: any(),
        ..Policy::default()
    };
    assert_eq!(of(policy).as_deref(), Some("models"));
    assert_eq!(
        rule(
            &Policy {
                models: any(),
                ..Policy::default()
            },
            &PolicyFacts::default()
        ),
        None
    );
}
