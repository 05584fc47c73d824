//! No other model's turn makes an error of a request that would have succeeded: every request that the strict simulated
//! provider takes for the asked model is either not given to another one, or taken for that one too, as adapted.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![expect(clippy::print_stdout, reason = "run by hand, it tells its counts")]

mod bytes;
mod generate;

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::Value;
use tollgate::llm::abilities::{Abilities, AbilityEntry, AbilityTable};
use tollgate::llm::adapt::{Adapted, Incoming, RULES, adapt};
use tollgate::llm::catalogue::Catalogue;
use tollgate::llm::estimate::input_tokens;
use tollgate::llm::fitness::{Demands, Reason, Rung, Unfit, fits};
use tollgate::llm::request::peek;
use tollgate::simulate::strict;

use generate::{Case, model_in};

/// The table with a window for local models, as a user would state it.
fn table() -> AbilityTable {
    AbilityTable::builtin().with(&[AbilityEntry {
        providers: vec!["ollama".to_owned()],
        models: vec!["*".to_owned()],
        abilities: Abilities {
            context_window: Some(40_000),
            ..Abilities::default()
        },
        ..AbilityEntry::default()
    }])
}

/// What is known of every model, looked up once.
struct Known(BTreeMap<(&'static str, &'static str), Abilities>);

impl Known {
    fn all() -> Self {
        let (catalogue, table) = (Catalogue::builtin(), table());
        let models = generate::models();
        Self(
            models
                .map(|(provider, model)| ((provider, model), table.of(&catalogue, provider, model)))
                .collect(),
        )
    }

    fn rung(&self, (provider, model): (&'static str, &'static str)) -> Rung<'_> {
        Rung {
            provider,
            model,
            abilities: &self.0[&(provider, model)],
        }
    }
}

/// What becomes of a request that is given to another model.
fn moved(case: &Case, body: &[u8], from: Rung<'_>, to: Rung<'_>) -> Result<Adapted, Unfit> {
    let seen = peek(case.endpoint, body).unwrap();
    let demands = Demands {
        endpoint: case.endpoint,
        peek: &seen,
        betas: "",
        prompt_tokens: input_tokens(&seen.prompt),
    };
    let incoming = Incoming {
        path: &case.path(from.model),
        body,
        content_encoding: None,
    };
    let adapted = adapt(&incoming, &demands, &from, &to);
    // Judging without changing says the same; only a message that would be left empty is found later.
    match (&adapted, fits(&demands, &from, &to)) {
        (Ok(_), judged) => assert_eq!(judged, Ok(())),
        (Err(why), Err(judged)) => assert_eq!(*why, judged),
        (Err(why), Ok(())) => assert_eq!(why.reason, Reason::BoundThoughts),
    }
    adapted
}

/// Whether the strict provider takes it.
fn taken(case: &Case, provider: &str, path: &str, body: &Value) -> Result<(), strict::Refused> {
    strict::check(case.endpoint, model_in(path), provider == "ollama", body)
}

#[derive(Default)]
struct Counts {
    accepted: u32,
    passed_over: BTreeMap<&'static str, u32>,
    adapted: u32,
    rules: BTreeMap<&'static str, u32>,
    /// One example of each refusal.
    refused: BTreeMap<String, String>,
}

#[test]
fn a_prompt_is_not_given_to_a_model_whose_window_it_exceeds() {
    let known = Known::all();
    let (from, small, large) = (
        known.rung(("openai", "gpt-5")),
        known.rung(("openai", "gpt-4o-mini")),
        known.rung(("openai", "gpt-4.1")),
    );
    let given = |bytes, to| {
        let case = generate::of_length(bytes);
        let written = case.written(from.model);
        moved(&case, written.as_bytes(), from, to).map_err(|unfit| unfit.reason)
    };
    // A third of the bytes and a quarter more, 1,024 and 4,096 tokens for the answer, in 128,000.
    assert!(given(290_000, small).is_ok());
    assert_eq!(given(300_000, small), Err(Reason::Window));
    assert!(given(300_000, large).is_ok());
    let case = generate::of_length(520_000);
    let body: Value = serde_json::from_str(&case.written("gpt-4o-mini")).unwrap();
    let refused = taken(&case, "openai", "/v1/chat/completions", &body).unwrap_err();
    assert_eq!(refused.code, Some("context_length_exceeded"));
}

#[test]
fn no_other_model_makes_an_error_of_a_request_that_the_asked_one_takes() {
    let cases = std::env::var("TOLLGATE_FITNESS_CASES").map_or(2_000, |n| n.parse().unwrap());
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let counts = RefCell::new(Counts::default());
    let known = Known::all();
    let result = runner.run(&generate::cases(), |case| {
        let (provider, asked) = case.asked;
        let written = case.written(asked);
        let original: Value = serde_json::from_str(&written).unwrap();
        if taken(&case, provider, &case.path(asked), &original).is_err() {
            return Ok(());
        }
        let mut counts = counts.borrow_mut();
        counts.accepted += 1;
        for (to_provider, to) in case.others() {
            let (from, into) = (known.rung(case.asked), known.rung((to_provider, to)));
            let adapted = match moved(&case, written.as_bytes(), from, into) {
                Err(unfit) => {
                    *counts.passed_over.entry(unfit.reason.why()).or_default() += 1;
                    continue;
                }
                Ok(adapted) => adapted,
            };
            counts.adapted += 1;
            for change in &adapted.changes {
                *counts.rules.entry(change.rule).or_default() += 1;
            }
            let path = adapted.path.clone().unwrap_or_else(|| case.path(asked));
            let body: Value = serde_json::from_slice(&adapted.body).unwrap();
            if let Err(refused) = taken(&case, to_provider, &path, &body) {
                let shown = format!(
                    "{asked} takes it, {to} refuses it: {}\nchanges {:?}\n{written}\nbecame\n{}\n",
                    refused.message,
                    adapted.changes,
                    String::from_utf8_lossy(&adapted.body)
                );
                let like = format!("{to}: {}", refused.message);
                counts.refused.entry(like).or_insert(shown);
                continue;
            }
            bytes::only_what_is_listed_changed(&written, &original, &adapted, &body, to);
        }
        Ok(())
    });
    let counts = counts.into_inner();
    let told = format!(
        "{cases} requests, {} accepted, {} adapted, {} passed over\n{:#?}\n{:#?}",
        counts.accepted,
        counts.adapted,
        counts.passed_over.values().sum::<u32>(),
        counts.rules,
        counts.passed_over
    );
    if std::env::var_os("TOLLGATE_FITNESS_CASES").is_some() {
        println!("{told}");
    }
    if let Err(failure) = result {
        panic!("{failure}");
    }
    let examples: Vec<&str> = counts.refused.values().map(String::as_str).collect();
    assert!(examples.is_empty(), "{}", examples.join("\n"));
    // The property says nothing if nothing comes that far.
    assert!(counts.accepted > cases / 8, "{told}");
    assert!(counts.adapted > counts.accepted, "{told}");
    for rule in RULES {
        assert!(
            counts.rules.contains_key(rule.name),
            "{} was never needed: {told}",
            rule.name
        );
    }
}
