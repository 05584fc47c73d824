//! Mode `keys`: budgets of keys and teams, tiers, priorities that not everyone may have.

use tempfile::TempDir;
use tollgate::config::settings::{AuthMode, Secret, Settings, TeamSettings};
use tollgate::keys::{KeyError, KeyFile, KeyFileError, NewKey};
use tollgate::policy::rules::Policy;
use tollgate::units::Priority;

use super::*;

#[derive(Debug, thiserror::Error)]
#[error(transparent)]
enum Failed {
    File(#[from] KeyFileError),
    Key(#[from] KeyError),
}

/// A keys file with keys of teams.
struct Keys {
    _home: TempDir,
    file: KeyFile,
}

impl Keys {
    fn new() -> Self {
        let home = TempDir::new().unwrap();
        let file = KeyFile::at(home.path().join("keys.json"));
        Self { _home: home, file }
    }

    fn make(&self, name: &str, team: Option<&str>, tier: Option<&str>) -> String {
        let new = NewKey {
            name: name.to_owned(),
            team: team.map(str::to_owned),
            tier: tier.map(str::to_owned),
            ..NewKey::default()
        };
        let made = self
            .file
            .change(|keys| Ok::<_, Failed>(keys.create(new, NOON)?.1));
        made.unwrap().reveal().to_owned()
    }

    async fn before_echo(
        &self,
        rules: &Rules,
        change: impl FnOnce(&mut Settings),
    ) -> (Tollgate, Answering) {
        let upstream = Upstream::start().await.answering(echo);
        let path = self.file.path().to_owned();
        let tollgate = Tollgate::changed(upstream.address, &rules.pairs(), |settings| {
            settings.auth.mode = AuthMode::Keys;
            settings.auth.keys_file = path;
            for provider in &mut settings.providers {
                provider.api_key = Some(Secret::new("sk-own-0001"));
            }
            let teams = ["research", "web"].map(|name| (name.to_owned(), TeamSettings::default()));
            settings.teams = teams.into();
            change(settings);
        })
        .await;
        (tollgate, upstream)
    }
}

fn with<'a>(key: &'a str, session: &'a str, priority: &'a str) -> Ask<'a> {
    Ask {
        headers: vec![("x-api-key", key)],
        ..ask(session, priority)
    }
}

#[tokio::test]
async fn a_teams_budget_is_shared_by_its_keys_and_no_others() {
    let keys = Keys::new();
    let [one, two] = ["r1", "r2"].map(|name| keys.make(name, Some("research"), None));
    let web = keys.make("w1", Some("web"), None);
    let alone = keys.make("alone", None, None);
    for scope in ["team", "team:research"] {
        let rules = Rules::none().budget("b", scope, "day", "10 requests");
        let (tollgate, provider) = keys.before_echo(&rules, |_| ()).await;
        for number in 0..10 {
            let session = number.to_string();
            with([&one, &two][number % 2], &session, "critical")
                .passes(&tollgate)
                .await;
        }
        for key in [&one, &two] {
            let told = with(key, "new", "high").is_refused(&tollgate).await;
            assert_eq!(
                (&told["budget"], &told["scope"]),
                (&json!("b"), &json!("team research"))
            );
        }
        provider.take();
        with(&web, "0", "low").passes(&tollgate).await;
        with(&alone, "0", "low").passes(&tollgate).await;
        assert_eq!(provider.take().len(), 2);
        assert_eq!(amounts(&tollgate, "b", Some("research")).await, (10, 0));
        let asked = tollgate.get("/api/v1/throttle?team=research").await;
        assert!(asked.text().contains("research"));
    }
}

#[tokio::test]
async fn each_key_has_its_own_budget_by_name() {
    let keys = Keys::new();
    let [one, two] = ["one", "two"].map(|name| keys.make(name, None, None));
    let rules = Rules::none()
        .budget("each", "key", "day", "100 requests")
        .budget("named", "key:one", "hour", "4 requests");
    let (tollgate, _provider) = keys.before_echo(&rules, |_| ()).await;
    for _ in 0..4 {
        with(&one, "s", "critical").passes(&tollgate).await;
    }
    let told = with(&one, "t", "high").is_refused(&tollgate).await;
    assert_eq!(
        (&told["budget"], &told["scope"]),
        (&json!("named"), &json!("key one"))
    );
    with(&two, "s", "low").passes(&tollgate).await;
    assert_eq!(amounts(&tollgate, "each", Some("one")).await, (4, 0));
    assert_eq!(amounts(&tollgate, "each", Some("two")).await, (1, 0));
}

#[tokio::test]
async fn who_may_not_say_critical_is_treated_by_what_it_may_say() {
    let keys = Keys::new();
    let capped = keys.make("capped", None, Some("free"));
    let free = keys.make("any", None, None);
    let rules = Rules::none().budget("b", "global", "day", "20 requests");
    let change = |settings: &mut Settings| {
        let policy = Policy {
            max_priority: Some(Priority::Normal),
            ..Policy::default()
        };
        settings.tiers = [("free".to_owned(), policy)].into();
    };
    let (tollgate, _provider) = keys.before_echo(&rules, change).await;
    for _ in 0..18 {
        with(&free, "s", "critical").passes(&tollgate).await;
    }
    // HARD: normal is refused, however it calls itself.
    let (head, _) = with(&capped, "s", "critical").send(&tollgate).await;
    assert_ne!(head.status(), 200);
    let record = tollgate.record(&head).await;
    assert_eq!(record.priority, Priority::Normal);
    assert!(record.flags.priority_capped, "{record:?}");
    with(&free, "s", "critical").passes(&tollgate).await;
}

#[tokio::test]
async fn a_priority_that_was_capped_is_told_with_what_was_asked_for() {
    let keys = Keys::new();
    let capped = keys.make("capped", None, Some("free"));
    let change = |settings: &mut Settings| {
        let policy = Policy {
            max_priority: Some(Priority::Normal),
            ..Policy::default()
        };
        settings.tiers = [("free".to_owned(), policy)].into();
    };
    let (tollgate, _provider) = keys.before_echo(&Rules::none(), change).await;
    let head = with(&capped, "s", "critical").passes(&tollgate).await;
    assert_eq!(head.value("x-tollgate-priority"), Some("normal"));
    let event = &events(&tollgate, "priority_capped", 1).await[0];
    assert_eq!(
        (&event["key"], &event["asked_priority"], &event["priority"]),
        (&json!("capped"), &json!("critical"), &json!("normal"))
    );
}

#[tokio::test]
async fn a_tier_forbids_by_name_and_is_told_apart_from_a_budget() {
    let keys = Keys::new();
    let key = keys.make("k", Some("research"), None);
    let rules = Rules::none().budget("b", "team", "day", "100 requests");
    let change = |settings: &mut Settings| {
        settings.tiers = [(
            "tiny".to_owned(),
            Policy {
                max_output_tokens: Some(10),
                ..Policy::default()
            },
        )]
        .into();
        settings.teams.get_mut("research").unwrap().tier = Some("tiny".to_owned());
    };
    let (tollgate, provider) = keys.before_echo(&rules, change).await;
    let (head, body) = Ask {
        cap: Some(11),
        ..with(&key, "s", "critical")
    }
    .send(&tollgate)
    .await;
    assert_eq!(head.status(), 403);
    assert!(
        body.text().contains("POLICY_VIOLATION") && body.text().contains("max_output"),
        "{}",
        body.text()
    );
    assert!(provider.take().is_empty());
    Ask {
        cap: Some(10),
        ..with(&key, "s", "low")
    }
    .passes(&tollgate)
    .await;
    assert_eq!(
        amounts(&tollgate, "b", Some("research")).await,
        (1, 0),
        "what is forbidden is not charged"
    );
    let event = &events(&tollgate, "policy_violation", 1).await[0];
    assert_eq!(
        (&event["key"], &event["team"]),
        (&json!("k"), &json!("research"))
    );
    assert!(
        event["budget"].as_str().unwrap().contains("max_output"),
        "{event}"
    );
}
