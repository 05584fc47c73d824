//! The linter of configurations: one test for each kind of finding, and none where there is nothing to find.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use tollgate::cli::Preset;
use tollgate::config::lint::Severity;
use tollgate::config::{Findings, Inputs, Loaded, REFERENCE, load};
use tollgate::llm::catalogue::Catalogue;

/// The day for which the catalogue's prices were written down: 2026-11-21.
const AT: u64 = 1_795_219_200_000;

/// Loads a file's text, with a provider's key in the environment.
fn loaded(text: &str) -> Loaded {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(dir.path().join("tollgate.toml"), text).expect("a file");
    let environment = [("HOME", "/home/me"), ("ANTHROPIC_API_KEY", "sk-1")];
    let inputs = Inputs {
        environment: BTreeMap::from(environment.map(|(k, v)| (k.to_owned(), v.to_owned()))),
        working_dir: dir.path().to_owned(),
        ..Inputs::default()
    };
    load(&inputs).unwrap_or_else(|error| panic!("{error}"))
}

fn findings(text: &str) -> Findings {
    let loaded = loaded(text);
    static BUILT_IN: LazyLock<Catalogue> = LazyLock::new(Catalogue::builtin);
    let catalogue = BUILT_IN
        .clone()
        .extended(&loaded.settings.models)
        .expect("good models");
    loaded.lint(&catalogue, AT)
}

/// The kinds and keys of what there is to find.
fn found(text: &str) -> Vec<(&'static str, String)> {
    let findings = findings(text);
    findings
        .iter()
        .map(|finding| (finding.rule, finding.key.clone()))
        .collect()
}

#[track_caller]
fn finds(text: &str, rule: &'static str, key: &str) {
    assert_eq!(found(text), [(rule, key.to_owned())], "{text}");
}

#[track_caller]
fn clean(text: &str) {
    assert_eq!(found(text), [], "{text}");
}

/// A budget without the built-in ones beside it.
fn alone(budgets: &str) -> String {
    let mut text = String::new();
    for name in [
        "session-tokens-hour",
        "session-tokens-day",
        "session-usd-hour",
        "session-usd-day",
        "global-tokens-hour",
        "global-tokens-day",
        "global-usd-month",
    ] {
        text += &format!("[budgets.{name}]\nenabled = false\n");
    }
    text + budgets
}

fn budget(name: &str, scope: &str, window: &str, limit: &str) -> String {
    format!("[budgets.{name}]\nscope = '{scope}'\nwindow = '{window}'\nlimit = '{limit}'\n")
}

#[test]
fn the_default_and_every_preset_have_nothing_to_find() {
    clean("");
    clean(REFERENCE);
    for preset in Preset::ALL {
        clean(preset.text());
    }
}

#[test]
fn presets_are_what_their_names_say() {
    use tollgate::config::settings::{AuthMode, ThrottleMode};
    let built_in = loaded("").settings;
    let guide = loaded(Preset::Guide.text()).settings;
    assert_eq!(guide.budgets, built_in.budgets);
    assert_eq!(guide.throttle.thresholds, built_in.throttle.thresholds);
    assert_eq!(guide.throttle.mode, ThrottleMode::On);
    let agents = loaded(Preset::Agents.text()).settings;
    assert!(agents.throttle.queue.keep_alive.is_some());
    assert!(agents.budgets[0].limit.amount() > built_in.budgets[0].limit.amount());
    let team = loaded(Preset::Team.text()).settings;
    assert_eq!(team.auth.mode, AuthMode::Keys);
    assert!(team.teams.values().all(|team| team.tier.is_some()));
    let observe = loaded(Preset::Observe.text()).settings;
    assert_eq!(observe.throttle.mode, ThrottleMode::Shadow);
}

#[test]
fn the_free_tier_is_for_small_models() {
    let settings = loaded("").settings;
    let free = settings.tiers["free"].models.as_deref().expect("a list");
    let allowed = |model: &str| free.iter().any(|pattern| pattern.matches(model));
    for small in [
        "claude-haiku-5-5",
        "gpt-5-mini",
        "gpt-6-luna",
        "gemini-3.8-flash",
        "mistral-small-latest",
    ] {
        assert!(allowed(small), "{small}");
    }
    for large in [
        "claude-opus-5-5",
        "gpt-6.1-sol",
        "gemini-3.1-pro-preview",
        "gemini-4-argon",
        "mistral-large-4",
    ] {
        assert!(!allowed(large), "{large}");
    }
}

#[test]
fn a_budget_over_a_longer_window_that_is_never_reached_is_found() {
    let with = |day: &str| {
        alone(
            &(budget("m", "session", "minute", "10,000 tokens")
                + &budget("d", "session", "day", day)),
        )
    };
    let text = with("20,000,000 tokens");
    finds(&text, "budget-never-binds", "budgets.d.limit");
    let told = findings(&text).render(false);
    assert!(
        told.contains(
            "warning: budget `d` can never hold a request back: `m` allows 10,000 tokens in any minute, so at most \
             14,400,000 tokens in any 24 hours (but for critical requests), and SOFT begins at 80% of 20,000,000 tokens"
        ),
        "{told}"
    );
    assert!(
        told.contains("= help: lower its limit, raise that of `m`"),
        "{told}"
    );
    // 14,400,000 tokens are 80 % of 18,000,000: low priority would wait.
    clean(&with("18,000,000 tokens"));
    clean(&with("14,000,000 tokens"));
}

#[test]
fn hours_and_days_bound_months() {
    let with = |window: &str, limit: &str, month: &str| {
        alone(&(budget("a", "global", window, limit) + &budget("month", "global", "month", month)))
    };
    for (window, limit, never, may) in [
        ("day", "10 usd", "$401", "$380"),
        ("hour", "1 usd", "$932", "$920"),
        ("minute", "1 request", "55802 requests", "55000 requests"),
    ] {
        finds(
            &with(window, limit, never),
            "budget-never-binds",
            "budgets.month.limit",
        );
        clean(&with(window, limit, may));
    }
}

#[test]
fn a_budget_above_one_that_counts_the_same_is_found() {
    let two = |one: (&str, &str), other: (&str, &str)| {
        alone(&(budget("one", one.0, "hour", one.1) + &budget("other", other.0, "hour", other.1)))
    };
    for (one, other) in [
        // Each thing's above everything's.
        (("global", "100 tokens"), ("session", "101 tokens")),
        (("global", "5 usd"), ("provider:openai", "5 usd")),
        // One thing's above each one's: it does not get more by that.
        (
            ("model", "10 requests"),
            ("model:claude-opus-5-5", "20 requests"),
        ),
        // Twice the same.
        (("session", "100 tokens"), ("session", "100 tokens")),
    ] {
        finds(
            &two(one, other),
            "budget-never-binds",
            "budgets.other.limit",
        );
    }
    for (one, other) in [
        (("global", "100 tokens"), ("session", "99 tokens")),
        (("global", "100 tokens"), ("session", "200 requests")),
        (("session", "100 tokens"), ("provider", "200 tokens")),
        (("session:a", "100 tokens"), ("session", "200 tokens")),
        (("session:a", "100 tokens"), ("session:b", "200 tokens")),
    ] {
        clean(&two(one, other));
    }
    // A hard budget holds back what an ordinary one lets pass, and one that counts cache reads fills earlier.
    let text = two(("global", "100 tokens"), ("session", "200 tokens"));
    clean(&(text.clone() + "hard = true\n"));
    clean(&(text + "count_cache_reads = true\n"));
}

#[test]
fn a_finding_points_to_what_the_user_wrote() {
    let findings = findings("\n[budgets.session-tokens-hour]\nlimit = '1,000 tokens'\n");
    let json = findings.to_json();
    assert_eq!(json[0]["key"], "budgets.session-tokens-day.limit");
    assert_eq!(json[0]["severity"], "warning");
    assert_eq!(json[0]["from"], "tollgate.toml");
    assert_eq!(
        (json[0]["line"].as_u64(), json[0]["column"].as_u64()),
        (Some(3), Some(9))
    );
    assert!(
        json[0]["help"]
            .as_str()
            .is_some_and(|help| help.contains("enabled = false"))
    );
    assert!(findings.render(false).contains(" --> tollgate.toml:3:9"));
}

#[test]
fn money_that_nobody_takes_is_found() {
    let ollama = alone(&budget("home", "provider:ollama", "day", "5 usd"));
    finds(&ollama, "budget-of-nothing", "budgets.home.limit");
    clean(&alone(&budget(
        "home",
        "provider:ollama",
        "day",
        "5 requests",
    )));
    clean(&alone(&budget("home", "provider:openai", "day", "5 usd")));
    // Models without a known price are then charged, or refused because of this budget.
    clean(&format!("throttle.unknown_price = 'ceiling'\n{ollama}"));
    clean(&format!("throttle.unknown_price = 'refuse'\n{ollama}"));
    clean(&format!(
        "{ollama}[[models]]\nprovider = 'ollama'\nid = 'big:cloud'\nprice = {{ input = '1', output = '2' }}\n"
    ));
}

#[test]
fn budgets_of_nobody_are_found() {
    const KEYS: &str = "auth.mode = 'keys'\nproviders.openai.api_key = 'sk-1'\n";
    const TEAM: &str = "[teams.research]\ntier = 'pro'\n";
    let with = |scope: &str| alone(&budget("b", scope, "day", "5 usd"));
    for text in [
        with("provider:opnai"),
        with("team"),
        with("team:research"),
        with("key:batch"),
        with("model:claude-opus-5.5"),
        format!("{KEYS}{}", with("team")),
        format!("{KEYS}{}{TEAM}", with("team:resaerch")),
        format!(
            "{}[providers.openai]\nenabled = false\n",
            with("provider:openai")
        ),
    ] {
        finds(&text, "budget-of-nobody", "budgets.b.scope");
    }
    for text in [
        with("provider:openai"),
        with("key"),
        with("key:key-0123456789ab"),
        with("model:claude-opus-5-5"),
        with("model:my-own-model"),
        format!("{KEYS}{}", with("key:batch")),
        format!("{KEYS}{}{TEAM}", with("team")),
        format!("{KEYS}{}{TEAM}", with("team:research")),
    ] {
        clean(&text);
    }
    let told = findings(&with("provider:opnai")).render(false);
    assert!(told.contains("= help: did you mean `openai`?"), "{told}");
    let told = findings(&with("model:claude-opus-5.5")).render(false);
    assert!(
        told.contains("= help: write \"model:claude-opus-5-5\""),
        "{told}"
    );
}

fn rule(conditions: &str) -> String {
    format!("[[classify.priority]]\n{conditions}\npriority = 'low'\n")
}

#[test]
fn priority_rules_behind_wider_ones_are_found() {
    for (earlier, later) in [
        ("", "session = 'a'"),
        ("session = '*'", "task = 'ui'"),
        ("session = 'ci-*'", "session = 'CI-*'"),
        ("session = 'ci-*'", "session = 'ci-main'"),
        ("session = 'ci-*'", "session = 'ci-*-x*'\nmodel = 'm'"),
        (
            "model = '*opus*'",
            "model = 'claude-opus-*'\nprovider = 'anthropic'",
        ),
    ] {
        let text = rule(earlier) + &rule(later);
        finds(&text, "rule-never-matches", "classify.priority.2");
    }
    for (earlier, later) in [
        ("session = 'a'", ""),
        ("session = 'ci-main'", "session = 'ci-*'"),
        ("session = 'ci-*'", "session = '*-x'"),
        ("agent = '*'", "session = 'a'"),
        ("session = 'a'\nmodel = 'm'", "session = 'a'"),
        ("session = 'ci-*'", "model = 'ci-x'"),
    ] {
        clean(&(rule(earlier) + &rule(later)));
    }
    let told = findings(&(rule("") + &rule("task = 'ui'"))).render(false);
    assert!(
        told.contains("rule 2 of [[classify.priority]] can never match"),
        "{told}"
    );
    assert!(told.contains(" --> tollgate.toml:4:1"), "{told}");
}

#[test]
fn priority_rules_for_nothing_are_found() {
    let rule_1 = "classify.priority.1";
    finds(&rule("provider = 'opnai'"), "rule-never-matches", rule_1);
    finds(&rule("key = 'batch'"), "rule-never-matches", rule_1);
    finds(
        &rule("task = 'documentaton'"),
        "task-of-headers-only",
        rule_1,
    );
    let findings = findings(&rule("task = 'documentaton'"));
    assert_eq!((findings.warnings(), findings.notes()), (0, 1));
    let told = findings.render(false);
    assert!(told.starts_with("note: "), "{told}");
    assert!(told.contains("did you mean `documentation`?"), "{told}");
    for conditions in [
        "provider = 'open*'",
        "key = 'key-0123456789AB'",
        "key = 'key-*'",
        "task = 'doc*'",
    ] {
        clean(&rule(conditions));
    }
    let keys = "auth.mode = 'keys'\nproviders.openai.api_key = 'sk-1'\n";
    clean(&format!("{keys}{}", rule("key = 'batch'")));
}

#[test]
fn a_keep_alive_that_comes_too_late_is_found() {
    let queue =
        |after: &str| format!("throttle.queue = {{ max_wait = '30s', keep_alive = '{after}' }}\n");
    finds(
        &queue("30s"),
        "keep-alive-never-sent",
        "throttle.queue.keep_alive",
    );
    clean(&queue("29s"));
}

#[test]
fn provider_keys_and_the_mode_that_sends_them_belong_together() {
    finds("auth.mode = 'keys'\n", "no-provider-key", "auth.mode");
    finds(
        "providers.openai.api_key = 'sk-1'\n",
        "provider-key-never-sent",
        "providers.openai.api_key",
    );
    clean("auth.mode = 'keys'\nproviders.openai.api_key = 'sk-1'\n");
}

#[test]
fn a_fallback_on_the_network_needs_a_key_of_its_own() {
    let openai = |fallback: &str| format!("providers.openai.fallbacks = ['{fallback}']\n");
    finds(
        &openai("openrouter"),
        "fallback-without-key",
        "providers.openai.fallbacks",
    );
    clean(&format!(
        "{}providers.openrouter.api_key = 'sk-1'\n",
        openai("openrouter")
    ));
    // What runs at home needs none, and Ollama speaks OpenAI's format too.
    clean(&openai("vllm"));
    clean(&openai("ollama"));
}

/// A configuration in mode `keys` with nothing to find.
fn keys(rest: &str) -> String {
    format!("auth.mode = 'keys'\nproviders.openai.api_key = 'sk-1'\n{rest}")
}

#[test]
fn teams_without_tier_or_members_are_found() {
    let bare = "teams.research.max_depth = 1\n";
    finds(&keys(bare), "team-without-tier", "teams.research");
    clean(&keys(&format!("auth.tier = 'free'\n{bare}")));
    clean(&keys("teams.research.tier = 'pro'\n"));
    finds(
        "teams.research.tier = 'pro'\n",
        "team-of-nobody",
        "teams.research",
    );
}

#[test]
fn rules_of_a_tier_that_contradict_each_other_are_found() {
    for (rules, key) in [
        (
            "requests_per_minute = 60\nrequests_per_hour = 50",
            "requests_per_minute",
        ),
        (
            "requests_per_minute = 10\nrequests_per_hour = 610",
            "requests_per_hour",
        ),
        ("priority = 'high'\nmax_priority = 'normal'", "priority"),
    ] {
        let text = format!("auth.tier = 'own'\n[tiers.own]\n{rules}\n");
        finds(&text, "limits-contradict", &format!("tiers.own.{key}"));
    }
    for rules in [
        "requests_per_minute = 60\nrequests_per_hour = 60",
        "requests_per_minute = 10\nrequests_per_hour = 600",
        "priority = 'normal'\nmax_priority = 'normal'",
        "priority = 'critical'",
    ] {
        clean(&format!("auth.tier = 'own'\n[tiers.own]\n{rules}\n"));
    }
    finds(
        "keys.key-0123456789ab = { priority = 'high', max_priority = 'low' }\n",
        "limits-contradict",
        "keys.key-0123456789ab.priority",
    );
}

#[test]
fn rules_of_a_team_beyond_its_tier_are_found() {
    const TIER: &str = "[tiers.own]\nrequests_per_minute = 10\nrequests_per_hour = 100\nmax_prompt = 1000\nmax_output = 100\n\
                        max_depth = 1\nmax_priority = 'normal'\n[teams.research]\ntier = 'own'\n";
    for (key, above, within) in [
        ("requests_per_minute", "11", "10"),
        ("requests_per_hour", "101", "100"),
        ("max_prompt", "1001", "1000"),
        ("max_output", "101", "100"),
        ("max_depth", "2", "0"),
        ("max_priority", "'high'", "'normal'"),
        ("priority", "'high'", "'low'"),
    ] {
        let path = format!("teams.research.{key}");
        finds(
            &keys(&format!("{TIER}{key} = {above}\n")),
            "beyond-its-tier",
            &path,
        );
        clean(&keys(&format!("{TIER}{key} = {within}\n")));
    }
    let default = "auth.tier = 'free'\nteams.research.max_output = 9_000\n";
    finds(
        &keys(default),
        "beyond-its-tier",
        "teams.research.max_output",
    );
    finds(
        "auth.tier = 'free'\nkeys.key-0123456789ab.max_output = 9_000\n",
        "beyond-its-tier",
        "keys.key-0123456789ab.max_output",
    );
}

#[test]
fn tiers_and_keys_of_nobody_are_found() {
    let own = "tiers.own.max_depth = 1\n";
    finds(own, "tier-of-nobody", "tiers.own");
    finds(&keys(own), "tier-of-keys-only", "tiers.own");
    assert_eq!(
        findings(&keys(own))
            .iter()
            .map(|finding| finding.severity)
            .collect::<Vec<_>>(),
        [Severity::Note],
        "a key may have it"
    );
    clean(&format!("auth.tier = 'own'\n{own}"));
    clean(&keys(&format!("teams.research.tier = 'own'\n{own}")));
    finds("keys.batch.max_depth = 1\n", "key-of-nobody", "keys.batch");
    clean(&keys("keys.batch.max_depth = 1\n"));
}

#[test]
fn models_that_nobody_knows_are_noted() {
    let free = |pattern: &str| format!("tiers.free.models = ['{pattern}']\n");
    finds(&free("*hiaku*"), "model-not-known", "tiers.free.models");
    finds(
        &free("claude-opus-9"),
        "model-not-known",
        "tiers.free.models",
    );
    assert_eq!(findings(&free("*hiaku*")).warnings(), 0);
    for known in [
        "*haiku*",
        "CLAUDE-OPUS-5-5",
        "claude-opus-5.5",
        "claude-haiku-4-5-20251001",
    ] {
        clean(&free(known));
    }
    clean(&format!(
        "{}[[models]]\nprovider = 'ollama'\nid = 'my-model'\nfree = true\n",
        free("my-*")
    ));
}

/// Runs the program in a directory that is its home; exit code and standard output.
fn tollgate(dir: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(args)
        .current_dir(dir)
        .env_clear()
        .env("HOME", dir)
        .env("ANTHROPIC_API_KEY", "sk-1")
        .output()
        .expect("the program runs");
    let stdout = String::from_utf8(output.stdout).expect("UTF-8");
    (output.status.code(), stdout)
}

#[test]
fn check_fails_for_warnings_only_when_it_is_strict() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("tollgate.toml");
    std::fs::write(&file, "tiers.free.models = ['*hiaku*']\n").expect("a file");
    let (code, out) = tollgate(dir.path(), &["check", "--strict"]);
    assert_eq!(code, Some(0), "a note is no warning: {out}");
    assert!(out.ends_with("; 1 note\n"), "{out}");

    std::fs::write(&file, "teams.research.tier = 'pro'\n").expect("a file");
    let (code, out) = tollgate(dir.path(), &["check"]);
    assert_eq!(code, Some(0), "{out}");
    assert!(
        out.contains("warning: team `research` has no members"),
        "{out}"
    );
    assert!(out.ends_with("not the built-in ones; 1 warning\n"), "{out}");
    assert!(
        !out.contains('\u{1b}'),
        "no colours where there is no terminal"
    );
    assert_eq!(tollgate(dir.path(), &["check", "--strict"]).0, Some(1));
    let (code, out) = tollgate(dir.path(), &["check", "--strict", "--json"]);
    assert_eq!(code, Some(1));
    let report: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        (&report["ok"], &report["warnings"]),
        (&true.into(), &1.into())
    );
    assert_eq!(report["findings"][0]["rule"], "team-of-nobody");
    assert_eq!(report["findings"][0]["line"], 1);
    assert_eq!(report["budgets"][0]["limit"], "100000");
    assert_eq!(report["levels"][3]["normal"], "refuse");

    std::fs::write(&file, "models = [{ provider = 'openai', id = 'new' }]\n").expect("a file");
    assert_eq!(
        tollgate(dir.path(), &["check"]).0,
        Some(1),
        "a model without a price"
    );
    let (code, out) = tollgate(dir.path(), &["check", "--json"]);
    assert_eq!(code, Some(1));
    assert!(out.contains("`price` is missing"), "{out}");
}

#[test]
fn check_tells_what_budgets_and_levels_mean() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (_, out) = tollgate(
        dir.path(),
        &["check", "--set", "budgets.session-usd-day.hard=true"],
    );
    let row = |name: &str| {
        let line = out.lines().find(|line| line.trim_start().starts_with(name));
        line.unwrap_or_default()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(
        row("session-tokens-hour"),
        "session-tokens-hour each session 100,000 tokens in any hour no"
    );
    assert_eq!(
        row("session-usd-day"),
        "session-usd-day each session 50 USD in any 24 hours never exceeded"
    );
    assert_eq!(
        row("global-usd-month"),
        "global-usd-month everything together 1,000 USD in a calendar month no"
    );
    for line in [
        "WARNING from 70% of a limit: all pass, and it is told",
        "SOFT from 80% of a limit: low waits in line (1000 at once, 5m at most); normal, high and critical pass",
        "HARD from 90% of a limit: low and normal are refused; high and critical pass",
        "CRITICAL from 95% of a limit: low, normal and high are refused; critical passes",
    ] {
        assert!(
            out.contains(&format!("\n{line}\n")),
            "{line} is not in {out}"
        );
    }
}

#[test]
fn init_writes_every_preset_as_it_ships() {
    for preset in ["guide", "agents", "team", "observe"] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (code, _) = tollgate(dir.path(), &["init", "--preset", preset]);
        assert_eq!(code, Some(0), "{preset}");
        let written = std::fs::read_to_string(dir.path().join("tollgate.toml")).expect("a file");
        assert!(written.starts_with("# tollgate: "), "{written}");
        let (code, out) = tollgate(dir.path(), &["check", "--strict"]);
        assert_eq!(code, Some(0), "{preset}: {out}");
    }
}

#[test]
fn task_rules_that_never_or_always_match_are_found() {
    let task = |keys: &str| format!("[[classify.task]]\nname = 'ops'\n{keys}\n");
    let task_1 = "classify.task.1";
    finds(
        &task("user_agent = 'x/*'\nbonus = 2"),
        "task-never-detected",
        task_1,
    );
    finds(
        &task("questions = ['when']"),
        "task-of-questions-only",
        task_1,
    );
    finds(
        &task("words = ['x']\nbonus = 3"),
        "task-bonus-always",
        task_1,
    );
    clean(&task("words = ['x']\nbonus = 2"));
    clean(&task("user_agent = 'x/*'"));
    clean(&task("words = ['x']\nmax_words = 9\nbonus = 3"));
    let told = findings(&task("words = ['x']\nbonus = 3")).render(false);
    assert!(told.contains(" --> tollgate.toml:1:1"), "{told}");
}
