//! The configuration: layers, and what every kind of mistake is told as.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tollgate::config::settings::{
    AuthMode, LogFormat, LogLevel, Secret, TeamSettings, ThrottleMode, TlsFiles, UnknownPrice,
};
use tollgate::config::{ConfigError, Inputs, Loaded, Origin, Override, REFERENCE, load};
use tollgate::llm::wire::Dialect;
use tollgate::policy::budget::{Budget, Limit, ScopeKind, Window};
use tollgate::policy::priority::Pattern;
use tollgate::policy::rules::Policy;
use tollgate::policy::throttle::{Share, Thresholds};
use tollgate::units::Priority;

/// A configuration in a directory of its own, which is the working directory and the home.
struct Rig {
    dir: tempfile::TempDir,
    inputs: Inputs,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let home = dir.path().display().to_string();
        let inputs = Inputs {
            environment: BTreeMap::from([("HOME".to_owned(), home)]),
            working_dir: dir.path().to_owned(),
            ..Inputs::default()
        };
        Self { dir, inputs }
    }

    fn file(text: &str) -> Self {
        Self::new().write("tollgate.toml", text)
    }

    fn write(self, name: &str, text: &str) -> Self {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, text).expect("a file");
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.inputs
            .environment
            .insert(name.to_owned(), value.to_owned());
        self
    }

    fn flag(mut self, key: &str, value: &str) -> Self {
        self.inputs.overrides.push(Override {
            flag: format!("--set {key}"),
            key: key.to_owned(),
            value: value.to_owned(),
        });
        self
    }

    fn config(mut self, path: impl Into<PathBuf>) -> Self {
        self.inputs.config = Some(path.into());
        self
    }

    /// Names the file with its directory, on which its relative paths then stand.
    fn config_in_place(self) -> Self {
        let path = self.path().join("tollgate.toml");
        self.config(path)
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn load(&self) -> Loaded {
        match load(&self.inputs) {
            Ok(loaded) => loaded,
            Err(error) => panic!("{error}"),
        }
    }

    fn error(&self) -> String {
        load(&self.inputs)
            .expect_err("this configuration is wrong")
            .to_string()
    }
}

fn origin(loaded: &Loaded, key: &str) -> String {
    let value = loaded.values.iter().find(|value| value.key == key);
    value.expect("a known key").origin.to_string()
}

/// One mistake in a file, and the whole text that tells it.
#[track_caller]
fn mistake(file: &str, told: &str) {
    assert_eq!(Rig::file(file).error(), told.trim_start_matches('\n'));
}

#[test]
fn without_any_file_the_defaults_hold() {
    let rig = Rig::new();
    let settings = rig.load().settings;
    assert_eq!(settings.server.listen.to_string(), "127.0.0.1:8402");
    assert!(!settings.server.allow_remote);
    assert_eq!(settings.server.max_body_bytes, 64 << 20);
    assert_eq!(settings.server.max_header_bytes, 64 << 10);
    assert_eq!(settings.server.header_timeout, Duration::from_secs(100));
    assert_eq!(settings.server.body_timeout, Duration::from_secs(60));
    assert_eq!(settings.server.write_timeout, Duration::from_secs(300));
    assert_eq!(settings.server.drain_timeout, Duration::from_secs(25));
    assert_eq!(settings.upstream.connect_timeout, Duration::from_secs(10));
    assert_eq!(settings.upstream.header_timeout, Duration::from_secs(900));
    assert_eq!(settings.upstream.idle_timeout, Duration::from_secs(600));
    assert_eq!(settings.upstream.total_timeout, None);
    assert_eq!(settings.upstream.pool_idle_timeout, Duration::from_secs(15));
    assert_eq!(settings.upstream.pool_max_idle, 32);
    assert_eq!(settings.upstream.extra_ca_file, None);
    assert!(settings.upstream.proxy_from_env);
    assert_eq!(
        settings.ledger.dir,
        rig.path().join(".local/state/tollgate")
    );
    assert_eq!(settings.ledger.sync_interval, Duration::from_millis(100));
    assert_eq!(
        settings.ledger.keep_records,
        Duration::from_secs(90 * 86_400)
    );
    assert_eq!(settings.ledger.keep_sums, Duration::from_secs(400 * 86_400));
    assert_eq!(settings.ledger.max_bytes, 1 << 30);
    assert!(!settings.ledger.pass_on_failure);
    let throttle = &settings.throttle;
    assert_eq!(throttle.mode, ThrottleMode::On);
    assert_eq!(throttle.thresholds, Thresholds::default());
    assert_eq!(throttle.time_zone.iana_name(), Some("UTC"));
    assert_eq!(throttle.max_live, 100_000);
    assert_eq!(throttle.unknown_price, UnknownPrice::Allow);
    assert_eq!(throttle.queue.max_waiting, 1000);
    assert_eq!(throttle.queue.max_wait, Duration::from_secs(300));
    assert_eq!(throttle.queue.keep_alive, None);
    assert_eq!(settings.auth.mode, AuthMode::Passthrough);
    assert_eq!(
        settings.auth.keys_file,
        rig.path().join(".local/state/tollgate/keys.json")
    );
    assert_eq!(settings.auth.tier, None);
    assert!(settings.teams.is_empty() && settings.keys.is_empty());
    assert_eq!(
        settings.tiers.keys().collect::<Vec<_>>(),
        ["enterprise", "free", "pro"]
    );
    assert_eq!(settings.server.tls, None);
    assert_eq!(settings.log.level, LogLevel::Info);
    assert_eq!(settings.log.format, LogFormat::Text);
    let providers: Vec<_> = settings
        .providers
        .iter()
        .map(|p| {
            (
                p.name.as_str(),
                p.base_url.to_string(),
                p.dialect,
                p.catalogue.as_str(),
            )
        })
        .collect();
    let expected = [
        (
            "anthropic",
            "https://api.anthropic.com/",
            Dialect::Anthropic,
            "anthropic",
        ),
        (
            "openai",
            "https://api.openai.com/",
            Dialect::OpenAi,
            "openai",
        ),
        (
            "openrouter",
            "https://openrouter.ai/api",
            Dialect::OpenAi,
            "openrouter",
        ),
        (
            "gemini",
            "https://generativelanguage.googleapis.com/",
            Dialect::Gemini,
            "google",
        ),
        (
            "ollama",
            "http://127.0.0.1:11434/",
            Dialect::Ollama,
            "ollama",
        ),
        ("groq", "https://api.groq.com/", Dialect::OpenAi, "groq"),
        (
            "mistral",
            "https://api.mistral.ai/",
            Dialect::OpenAi,
            "mistral",
        ),
        (
            "deepseek",
            "https://api.deepseek.com/",
            Dialect::OpenAi,
            "deepseek",
        ),
        ("xai", "https://api.x.ai/", Dialect::OpenAi, "xai"),
        (
            "together",
            "https://api.together.xyz/",
            Dialect::OpenAi,
            "together",
        ),
        (
            "llamacpp",
            "http://127.0.0.1:8080/",
            Dialect::OpenAi,
            "ollama",
        ),
        ("vllm", "http://127.0.0.1:8000/", Dialect::OpenAi, "ollama"),
    ];
    assert_eq!(
        providers,
        expected.map(|(name, url, d, c)| (name, url.to_owned(), d, c))
    );
    assert!(settings.providers.iter().all(|provider| !provider.http2));
}

#[test]
fn the_reference_names_every_key_and_no_other() {
    // Settings that are switched off and example blocks count; examples are read as if they were switched on. A key of a
    // named table counts if one table of its section shows it.
    let on: String = REFERENCE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(off) if off.starts_with(|c: char| c.is_ascii_alphabetic() || c == '[') => off,
            _ => line,
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    let table: toml::Table = on
        .parse()
        .expect("the reference is TOML with everything switched on");
    let named = ["providers", "budgets", "tiers", "teams", "keys"];
    let written = |path: &str| {
        let mut segments = path.split('.');
        let section = segments.next().expect("a segment");
        let first = table.get(section)?;
        if !named.contains(&section) {
            return segments.try_fold(first, |value, segment| value.get(segment));
        }
        let key = segments.next_back()?;
        first.as_table()?.values().find_map(|named| named.get(key))
    };
    let loaded = Rig::new()
        .flag("teams.research.tier", "pro")
        .flag("keys.batch.priority", "low")
        .load();
    let keys: BTreeSet<&str> = loaded.known_keys.iter().map(String::as_str).collect();
    for key in &keys {
        assert!(
            written(key).is_some(),
            "{key} is not in config/tollgate.toml"
        );
    }
    assert!(keys.contains("teams.research.max_depth") && keys.contains("keys.batch.models"));
    // And with everything switched on there is nothing that is not known.
    Rig::file(&on)
        .write("anthropic.key", "sk-1\n")
        .variable("OPENAI_API_KEY", "sk-2")
        .config_in_place()
        .load();
}

#[test]
fn a_file_in_the_working_directory_goes_before_the_users_own() {
    let rig = Rig::new().write(".config/tollgate/tollgate.toml", "log.level = 'warn'\n");
    let loaded = rig.load();
    assert_eq!(loaded.settings.log.level, LogLevel::Warn);
    assert_eq!(
        loaded.file,
        Some(rig.path().join(".config/tollgate/tollgate.toml"))
    );
    let rig = rig.write("tollgate.toml", "log.format = 'json'\n");
    let loaded = rig.load();
    assert_eq!(
        loaded.settings.log.level,
        LogLevel::Info,
        "only one file is read"
    );
    assert_eq!(loaded.settings.log.format, LogFormat::Json);
    assert_eq!(loaded.file, Some("tollgate.toml".into()));
    let xdg = rig.path().join("xdg").display().to_string();
    let rig = Rig::new()
        .write(".config/tollgate/tollgate.toml", "log.level = 'warn'\n")
        .variable("XDG_CONFIG_HOME", &xdg);
    assert_eq!(rig.load().file, None);
}

#[test]
fn a_named_file_goes_before_all_and_must_exist() {
    let rig = Rig::file("log.level = 'warn'\n").write("a.toml", "log.level = 'debug'\n");
    let rig = rig.write("b.toml", "log.level = 'error'\n");
    let (a, b) = (rig.path().join("a.toml"), rig.path().join("b.toml"));
    let rig = rig.variable("TOLLGATE_CONFIG", &a.display().to_string());
    assert_eq!(rig.load().settings.log.level, LogLevel::Debug);
    let rig = rig.config(b);
    assert_eq!(rig.load().settings.log.level, LogLevel::Error);

    let missing = rig.path().join("c.toml");
    let told = format!(
        "cannot read the config file {} (--config)",
        missing.display()
    );
    assert_eq!(rig.config(&missing).error(), told);
    let rig = Rig::new().variable("TOLLGATE_CONFIG", &missing.display().to_string());
    let error = load(&rig.inputs).expect_err("the file is missing");
    assert_eq!(
        error.to_string(),
        format!(
            "cannot read the config file {} ($TOLLGATE_CONFIG)",
            missing.display()
        )
    );
    assert!(
        matches!(error, ConfigError::Unreadable { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    );
}

#[test]
fn flags_go_before_variables_and_variables_before_the_file() {
    let rig = Rig::file(
        "[server]\nlisten = '127.0.0.1:1'\nmax_body = '1 KiB'\nmax_header = '9 KiB'\n\n[upstream]\npool_max_idle = 7\n",
    )
    .variable("TOLLGATE_SERVER_LISTEN", "127.0.0.1:2")
    .variable("TOLLGATE_SERVER_MAX_BODY", "2 KiB")
    .variable("TOLLGATE_UPSTREAM_PROXY_FROM_ENV", "false")
    .variable("TOLLGATE_UPSTREAM_IDLE_TIMEOUT", "")
    .flag("server.listen", "127.0.0.1:3")
    .flag("server.listen", "127.0.0.1:4");
    let loaded = rig.load();
    assert_eq!(
        loaded.settings.server.listen.port(),
        4,
        "the last flag wins"
    );
    assert_eq!(loaded.settings.server.max_body_bytes, 2048);
    assert_eq!(loaded.settings.server.max_header_bytes, 9 << 10);
    assert_eq!(loaded.settings.upstream.pool_max_idle, 7);
    assert!(!loaded.settings.upstream.proxy_from_env);
    assert_eq!(
        loaded.settings.upstream.idle_timeout,
        Duration::from_secs(600),
        "empty is not set"
    );
    for (key, from) in [
        ("server.listen", "--set server.listen"),
        ("server.max_body", "$TOLLGATE_SERVER_MAX_BODY"),
        ("server.max_header", "tollgate.toml:4"),
        ("upstream.idle_timeout", "default"),
    ] {
        assert_eq!(origin(&loaded, key), from);
    }
    let file = Origin::File {
        name: "tollgate.toml".into(),
        line: 7,
    };
    assert!(
        loaded
            .values
            .iter()
            .any(|value| value.key == "upstream.pool_max_idle" && value.origin == file)
    );
}

#[test]
fn a_file_changes_single_keys_of_a_provider_adds_others_and_switches_some_off() {
    let rig = Rig::file(
        "[providers.my-vllm]\nbase_url = 'http://10.0.0.1:8000/sub/'\nhttp2 = true\n\n\
         [providers.openai]\nbase_url = 'https://eu.api.openai.com'\n\n[providers.together]\nenabled = false\n",
    )
    .variable("TOLLGATE_PROVIDERS_MY_VLLM_CATALOGUE", "openai")
    .variable("TOLLGATE_PROVIDERS_OPENAI_ASK_STREAM_USAGE", "false")
    .variable("TOLLGATE_PROVIDERS_EXTRA_BASE_URL", "http://localhost:9")
    .flag("providers.more.base_url", "http://localhost:10")
    .flag("providers.more.dialect", "anthropic");
    let providers = rig.load().settings.providers;
    let find = |name: &str| providers.iter().find(|provider| provider.name == name);
    let openai = find("openai").expect("built in");
    assert_eq!(openai.base_url, "https://eu.api.openai.com");
    assert!(!openai.ask_stream_usage);
    let mine = find("my-vllm").expect("added");
    assert_eq!(mine.base_url.to_string(), "http://10.0.0.1:8000/sub");
    assert_eq!(
        (mine.dialect, mine.catalogue.as_str()),
        (Dialect::OpenAi, "openai")
    );
    assert!(mine.http2 && mine.ask_stream_usage);
    assert!(find("together").is_none());
    assert_eq!(
        find("extra").map(|provider| provider.catalogue.as_str()),
        Some("extra")
    );
    assert_eq!(
        find("more").map(|provider| provider.dialect),
        Some(Dialect::Anthropic)
    );
    let names: Vec<_> = providers
        .iter()
        .map(|provider| provider.name.as_str())
        .collect();
    assert_eq!(names[..2], ["anthropic", "openai"]);
    assert_eq!(names[11..], ["my-vllm", "more", "extra"]);
}

#[test]
fn variables_in_texts_are_replaced_and_paths_made_whole() {
    let rig = Rig::new()
        .write(
            "conf/x.toml",
            "[upstream]\nextra_ca_file = 'ca.pem'\n[ledger]\ndir = '~/${NAME}'\n\
             [providers.x]\nbase_url = 'http://${HOST_NAME:-localhost}:1'\n",
        )
        .variable("NAME", "led\"ger");
    let path = rig.path().join("conf/x.toml");
    let rig = rig.config(path);
    let settings = rig.load().settings;
    assert_eq!(
        settings.upstream.extra_ca_file,
        Some(rig.path().join("conf/ca.pem"))
    );
    assert_eq!(settings.ledger.dir, rig.path().join("led\"ger"));
    assert_eq!(
        settings.providers.last().expect("x").base_url,
        "http://localhost:1"
    );
    let rig = Rig::new().variable("XDG_STATE_HOME", "/state");
    assert_eq!(rig.load().settings.ledger.dir, Path::new("/state/tollgate"));
    let rig = Rig::new().flag("ledger.dir", "here");
    assert_eq!(rig.load().settings.ledger.dir, Path::new("here"));
}

#[test]
fn rules_and_blocks_are_read() {
    let rig = Rig::file(
        "[[classify.priority]]\nsession = 'ci-*'\npriority = 'low'\n[[classify.priority]]\npriority = 'HIGH'\n\
         [[classify.task]]\nname = 'ops'\nwords = ['deploy']\n[[models]]\nprovider = 'openai'\nid = 'm'\nprice = { input = '1' }\n",
    );
    let settings = rig.load().settings;
    let rules = &settings.classify.priority_rules;
    assert_eq!(rules.len(), 2);
    assert_eq!(rules[0].session, Some(Pattern::new("ci-*")));
    assert_eq!(
        (rules[0].priority, rules[1].priority),
        (Priority::Low, Priority::High)
    );
    assert_eq!(settings.classify.tasks.tasks[0].name, "ops");
    assert_eq!(settings.models[0].id, "m");
    assert!(settings.models[0].price.is_some());
}

#[test]
fn own_tasks_stand_before_the_built_in_ones_and_in_place_of_those_of_their_name() {
    let names = |file: &str| -> Vec<String> {
        let tasks = Rig::file(file).load().settings.classify.tasks;
        tasks.tasks.into_iter().map(|task| task.name).collect()
    };
    let built_in = [
        "ui",
        "coding",
        "testing",
        "debugging",
        "documentation",
        "research",
        "analysis",
        "automation",
    ];
    assert_eq!(names(""), built_in);
    let own = "[[classify.task]]\nname = 'ops'\nwords = ['deploy']\n[[classify.task]]\nname = 'ui'\nwords = ['x']\n";
    assert_eq!(names(own), [&["ops"], &built_in[..]].concat());
    let file = format!(
        "[classify]\nbuiltin_tasks = false\nsimple_below_words = 0\nsimple_words = ['tidy']\n{own}"
    );
    assert_eq!(names(&file), ["ops", "ui"]);
    let tasks = Rig::file(&file).load().settings.classify.tasks;
    assert_eq!(
        (tasks.simple_below_words, &tasks.simple.words[..]),
        (0, &["tidy".to_owned()][..])
    );
}

#[test]
fn an_unknown_key_is_told_with_its_place_and_the_nearest_known_one() {
    mistake(
        "[server]\nlissten = '127.0.0.1:1'\n",
        r#"
error: unknown key `server.lissten`
 --> tollgate.toml:2:1
  |
2 | lissten = '127.0.0.1:1'
  | ^^^^^^^
  |
  = help: did you mean `listen`?"#,
    );
    mistake(
        "\n[sever]\nlisten = 1\n",
        r#"
error: unknown key `sever`
 --> tollgate.toml:2:2
  |
2 | [sever]
  |  ^^^^^
  |
  = help: did you mean `server`?"#,
    );
    let told = Rig::file("listen = '127.0.0.1:1'\n").error();
    assert!(
        told.contains("= help: did you mean `server.listen`?"),
        "{told}"
    );
    let told = Rig::file("[log]\ncolour = true\n").error();
    assert!(
        told.contains("= help: known in `log`: format, level"),
        "{told}"
    );
    let told = Rig::file("providers.openai.base_ulr = 'x'\n").error();
    assert!(
        told.contains("unknown key `providers.openai.base_ulr`"),
        "{told}"
    );
    assert!(told.contains("did you mean `base_url`?"), "{told}");
}

#[test]
fn a_wrong_type_is_told_with_what_belongs_there() {
    mistake(
        "[server]\nheader_timeout = 30\n",
        r#"
error: `server.header_timeout` has the wrong type
 --> tollgate.toml:2:18
  |
2 | header_timeout = 30
  |                  ^^ expected a duration with its unit, such as "100ms", "30s", "10m" or "90d", found a number"#,
    );
    mistake(
        "server.allow_remote = 'yes'\n",
        r#"
error: `server.allow_remote` has the wrong type
 --> tollgate.toml:1:23
  |
1 | server.allow_remote = 'yes'
  |                       ^^^^^ expected true or false, found a text"#,
    );
    for (file, expected) in [
        (
            "server = 5\n",
            "expected a section that begins with [server], found a number",
        ),
        (
            "providers = []\n",
            "expected a section that begins with [providers], found an array",
        ),
        (
            "providers.openai = 'x'\n",
            "expected a section that begins with [providers.openai], found a text",
        ),
        (
            "upstream.pool_max_idle = '5'\n",
            "expected a whole number, found a text",
        ),
        (
            "upstream.pool_max_idle = 1.5\n",
            "expected a whole number, found a fraction",
        ),
        (
            "upstream.pool_max_idle = 99999999999999999999\n",
            "found a number that is too large",
        ),
        ("server.max_body = 1979-05-27\n", "found a date"),
        ("server.listen = { ip = 1 }\n", "found a table"),
        ("models = 5\n", "expected blocks that begin with [[models]]"),
        (
            "models = ['a']\n",
            "expected blocks that begin with [[models]]",
        ),
    ] {
        let told = Rig::file(file).error();
        assert!(told.contains("has the wrong type"), "{file}: {told}");
        assert!(told.contains(expected), "{file}: {told}");
    }
}

#[test]
fn a_wrong_value_is_told_with_an_example() {
    mistake(
        "[server]\nmax_body = \"64 MeB\"\n",
        r#"
error: `server.max_body` cannot be understood
 --> tollgate.toml:2:12
  |
2 | max_body = "64 MeB"
  |            ^^^^^^^^ expected a size such as "64 KiB", "64 MiB" or "1 GiB""#,
    );
    for (file, told_as) in [
        (
            "server.listen = 'here:80'\n",
            "expected an IP address and a port, such as \"127.0.0.1:8402\"",
        ),
        (
            "server.listen = '127.0.0.1'\n",
            "expected an IP address and a port",
        ),
        (
            "server.body_timeout = 'soon'\n",
            "expected a duration with its unit",
        ),
        (
            "server.body_timeout = '30'\n",
            "expected a duration with its unit",
        ),
        (
            "server.body_timeout = '0s'\n",
            "`server.body_timeout` must be longer than zero",
        ),
        (
            "server.body_timeout = '101y'\n",
            "`server.body_timeout` is longer than 100 years",
        ),
        (
            "server.body_timeout = '99999999999999999999y'\n",
            "expected a duration with its unit",
        ),
        (
            "upstream.total_timeout = '0s'\n",
            "must be longer than zero; \"never\" means no limit",
        ),
        (
            "upstream.total_timeout = '1s'\n",
            "is shorter than `upstream.connect_timeout`",
        ),
        ("upstream.extra_ca_file = ''\n", "expected a path"),
        ("upstream.pool_max_idle = -1\n", "must not be negative"),
        (
            "server.max_body = 0\n",
            "`server.max_body` must be larger than zero",
        ),
        ("server.max_body = -5\n", "expected a size"),
        ("server.max_body = '99999999999 TiB'\n", "is too large"),
        (
            "server.max_header = '1 KiB'\n",
            "`server.max_header` is below 8 KiB",
        ),
        ("ledger.on_failure = 'ignore'\n", "expected refuse or pass"),
        (
            "log.level = 'loud'\n",
            "expected off, error, warn, info, debug or trace",
        ),
        ("log.format = 'xml'\n", "expected text or json"),
        (
            "providers.openai.dialect = 'openapi'\n",
            "expected anthropic, openai, gemini or ollama",
        ),
        (
            "providers.openai.base_url = 'api.openai.com'\n",
            "must begin with http:// or https://",
        ),
        (
            "providers.openai.base_url = 'ftp://api.openai.com'\n",
            "must begin with http:// or https://",
        ),
        (
            "providers.openai.base_url = 'https://'\n",
            "expected a URL such as",
        ),
        (
            "providers.openai.base_url = 'https://h/?a=1'\n",
            "must not have a query or a fragment",
        ),
        (
            "providers.openai.base_url = 'https://h/#a'\n",
            "must not have a query or a fragment",
        ),
        (
            "providers.openai.base_url = 'https://me:pw@h/'\n",
            "must not hold a user name or password",
        ),
        (
            "providers.v1.base_url = 'http://h'\n",
            "`v1` cannot be a provider's name",
        ),
        (
            "providers.Mine.base_url = 'http://h'\n",
            "`Mine` cannot be a provider's name",
        ),
        (
            "providers.\"a.b\".base_url = 'http://h'\n",
            "`a.b` cannot be a provider's name",
        ),
        (
            "providers.a-b.base_url = 'http://h'\nproviders.a_b.base_url = 'http://h'\n",
            "differs from another one only",
        ),
        ("[providers.mine]\n", "`providers.mine.base_url` is missing"),
        (
            "[[classify.priority]]\npriority = 'lowest'\n",
            "not a priority: low, normal, high or critical expected",
        ),
        (
            "[[classify.priority]]\nsession = 'a'\n",
            "`classify.priority.priority` is missing",
        ),
        (
            "[[classify.priority]]\nsesion = 'a'\npriority = 'low'\n",
            "did you mean `session`?",
        ),
        (
            "[[classify.task]]\nname = 'ops'\nword = ['x']\n",
            "did you mean `words`?",
        ),
        (
            "[[classify.task]]\nname = 'ops'\n",
            "`classify.task.1` cannot be used: task \"ops\" has no words",
        ),
        (
            "[[classify.task]]\nname = 'a'\nwords = ['x']\n[[classify.task]]\nname = 'a'\nwords = ['y']\n",
            "`classify.task.2` cannot be used: task \"a\" is there twice",
        ),
        (
            "[[classify.task]]\nname = 'a'\nphrases = ['x * ']\n",
            "\"x * \" can never match",
        ),
        (
            "classify.simple_words = ['two-words']\n",
            "\"two-words\" is not a single word",
        ),
        (
            "classify.builtin_task = false\n",
            "did you mean `builtin_tasks`?",
        ),
    ] {
        let told = Rig::file(file).error();
        assert!(told.contains(told_as), "{file}: {told}");
        assert!(told.contains(" --> tollgate.toml:"), "{file}: {told}");
        assert_eq!(told.matches("error: ").count(), 1, "{file}: {told}");
    }
}

#[test]
fn listening_for_other_machines_needs_keys_and_tls_or_a_deliberate_yes() {
    let told = Rig::file("server.listen = '0.0.0.0:8402'\n").error();
    assert!(told.contains(
        "`server.listen` is reachable from other machines, which needs auth.mode = \"keys\" and TLS"
    ));
    assert!(
        told.contains("server.allow_remote = true lets everybody in if the network is trusted"),
        "{told}"
    );
    for listen in ["[::]:1", "192.168.1.2:80"] {
        let rig = Rig::new().variable("TOLLGATE_SERVER_LISTEN", listen);
        assert!(
            rig.error().contains("is reachable from other machines"),
            "{listen}"
        );
        let settings = rig.flag("server.allow_remote", "true").load().settings;
        assert_eq!(settings.server.listen.to_string(), listen);
    }
    for listen in ["[::1]:1", "127.0.0.9:1", "localhost:1"] {
        assert_eq!(
            Rig::new()
                .flag("server.listen", listen)
                .load()
                .settings
                .server
                .listen
                .port(),
            1
        );
    }
    let remote = || Rig::new().flag("server.listen", "0.0.0.0:1");
    let tls = |rig: Rig| {
        rig.flag("server.tls_cert_file", "a.pem")
            .flag("server.tls_key_file", "b.pem")
    };
    let told = remote().flag("auth.mode", "keys").error();
    assert!(told.contains("other machines, which needs TLS"), "{told}");
    assert!(told.contains("pass in clear text"), "{told}");
    let told = tls(remote()).error();
    assert!(
        told.contains("other machines, which needs auth.mode = \"keys\"\n"),
        "{told}"
    );
    let server = tls(remote())
        .flag("auth.mode", "keys")
        .load()
        .settings
        .server;
    assert!(server.allow_remote, "other machines are wanted");
    let files = TlsFiles {
        cert_file: "a.pem".into(),
        key_file: "b.pem".into(),
    };
    assert_eq!(server.tls, Some(files));
    assert!(!tls(Rig::new()).load().settings.server.allow_remote);
}

#[test]
fn https_takes_certificate_and_key() {
    mistake(
        "[server]\ntls_cert_file = 'a.pem'\n",
        r#"
error: `server.tls_cert_file` is set and `server.tls_key_file` is not
 --> tollgate.toml:2:17
  |
2 | tls_cert_file = 'a.pem'
  |                 ^^^^^^^
  |
  = help: HTTPS takes both: the certificate chain and its private key, as PEM files"#,
    );
    let told = Rig::new()
        .variable("TOLLGATE_SERVER_TLS_KEY_FILE", "b")
        .error();
    assert!(
        told.contains("`server.tls_key_file` is set and `server.tls_cert_file` is not"),
        "{told}"
    );
}

#[test]
fn variables_and_flags_are_named_in_their_mistakes() {
    let told = |rig: Rig| rig.error();
    assert_eq!(
        told(Rig::new().variable("TOLLGATE_SERVER_LISTEN", "foo")),
        "error: `server.listen` cannot be understood\n |\n = note: environment variable TOLLGATE_SERVER_LISTEN is `foo`; \
         expected an IP address and a port, such as \"127.0.0.1:8402\" or \"[::1]:8402\""
    );
    assert_eq!(
        told(Rig::new().variable("TOLLGATE_SEVER_LISTEN", "x")),
        "error: environment variable `TOLLGATE_SEVER_LISTEN` names no setting\n |\n = note: environment variable \
         TOLLGATE_SEVER_LISTEN is `x`\n = help: did you mean `TOLLGATE_SERVER_LISTEN`?"
    );
    assert_eq!(
        told(Rig::new().flag("server.lisen", "x")),
        "error: unknown key `server.lisen`\n |\n = note: flag --set server.lisen is `x`\n = help: did you mean `listen`?"
    );
    assert!(
        told(Rig::new().flag("upstream.pool_max_idle", "many")).contains("expected a whole number")
    );
    assert!(told(Rig::new().flag("models", "x")).contains("`models` cannot be set by a flag"));
    assert!(told(Rig::new().variable("TOLLGATE_SERVER_COLOUR", "x")).contains("names no setting"));
    assert!(
        told(Rig::new().variable("TOLLGATE_PROVIDERS_NEW_DIALECT", "openai"))
            .contains("names no setting")
    );
    assert!(
        told(Rig::new().flag("providers.Big.base_url", "http://h"))
            .contains("cannot be a provider's name")
    );
}

#[test]
fn variables_that_kubernetes_makes_for_a_service_called_tollgate_are_left_alone() {
    let rig = Rig::new()
        .variable("TOLLGATE_PORT", "tcp://10.0.0.1:8402")
        .variable("TOLLGATE_SERVICE_HOST", "10.0.0.1")
        .variable("TOLLGATE_SERVICE_PORT", "8402")
        .variable("TOLLGATE_PORT_8402_TCP_ADDR", "10.0.0.1");
    assert_eq!(rig.load().settings.server.listen.port(), 8402);
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_file() {
    let rig = Rig::file("[server]\nlissten = 1\nmax_body = 'x'\n\n[log]\nlevel = 'y'\n\n[sever]\n")
        .variable("TOLLGATE_LEDGER_MAX_SIZE", "lots")
        .flag("ledger.keep_sums", "long");
    let ConfigError::Wrong(problems) = load(&rig.inputs).expect_err("six mistakes") else {
        panic!("the file can be read")
    };
    assert_eq!(problems.count(), 6);
    let json = problems.to_json();
    let keys: Vec<_> = json
        .as_array()
        .expect("an array")
        .iter()
        .map(|p| p["key"].as_str())
        .collect();
    let expected = [
        "server.lissten",
        "server.max_body",
        "log.level",
        "sever",
        "ledger.max_size",
        "ledger.keep_sums",
    ];
    assert_eq!(keys, expected.map(Some));
    assert_eq!(
        (json[1]["line"].as_u64(), json[1]["column"].as_u64()),
        (Some(3), Some(12))
    );
    assert_eq!(json[1]["from"].as_str(), Some("tollgate.toml"));
    assert_eq!(json[4]["from"].as_str(), Some("TOLLGATE_LEDGER_MAX_SIZE"));
    assert!(json[4]["line"].is_null());
}

#[test]
fn broken_toml_is_told_with_its_place() {
    let told = Rig::file("[server]\nlisten = 127.0.0.1:8402\n").error();
    assert!(
        told.contains("error: this is not valid TOML\n --> tollgate.toml:2:"),
        "{told}"
    );
    let told = Rig::file("[server]\nlisten = 'a'\nlisten = 'b'\n[server]\n").error();
    assert!(
        told.contains("tollgate.toml:3:1") && told.contains("duplicate key"),
        "{told}"
    );
    assert!(told.contains("tollgate.toml:4:"), "both: {told}");
    let told = Rig::file("[providers.x]\n[providers.x]\n").error();
    assert!(
        told.contains("tollgate.toml:2:") && told.contains("duplicate key"),
        "{told}"
    );
    let told = Rig::file("[[models]]\nname = \"no end\n").error();
    assert!(told.contains("tollgate.toml:2:"), "{told}");
}

#[test]
fn a_variable_that_is_not_set_is_told_at_its_place() {
    let told = Rig::file("[ledger]\ndir = '/x/${NO_SUCH}'\n").error();
    assert_eq!(
        told,
        "error: environment variable `NO_SUCH` is not set\n --> tollgate.toml:2:7\n  |\n2 | dir = '/x/${NO_SUCH}'\n  \
         |       ^^^^^^^^^^^^^^^\n  |\n  = help: ${NAME:-text} has a default; $${ is a plain ${"
    );
    assert!(
        Rig::file("log.level = '${A'\n")
            .error()
            .contains("`${` is not followed by a name and `}`")
    );
    let mut rig = Rig::new();
    rig.inputs.environment.clear();
    assert!(
        rig.error()
            .contains("`ledger.dir` is in the home directory, and HOME is not set")
    );
}

#[test]
fn no_message_shows_a_secret() {
    let rig = Rig::file(
        "[providers.openai]\nold_api_key = 'sk-hidden-1'\nbase_url = 'https://me:hidden-2@h/?key=hidden-3'\n\
         http2 = '${SECRET}'\n[log]\nlevel = '${SECRET}'\n",
    )
    .variable("SECRET", "hidden-4")
    .variable("TOLLGATE_SERVER_API_KEY", "hidden-5")
    .flag("server.token", "hidden-6");
    let error = load(&rig.inputs).expect_err("mistakes");
    let ConfigError::Wrong(problems) = &error else {
        panic!("the file can be read")
    };
    assert_eq!(problems.count(), 6);
    for text in [
        error.to_string(),
        problems.render(true),
        problems.to_json().to_string(),
        format!("{problems}"),
    ] {
        assert!(!text.contains("hidden"), "{text}");
    }
}

#[test]
fn reading_a_configuration_takes_no_time_that_a_person_would_notice() {
    // The budget is 3 ms in release; this only catches a change of the order.
    let rig = Rig::file(REFERENCE);
    let start = std::time::Instant::now();
    for _ in 0..5 {
        rig.load();
    }
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed() / 5
    );
}

fn usd(text: &str) -> Limit {
    Limit::Usd(text.parse().expect("money"))
}

#[test]
fn the_default_budgets_are_the_guides() {
    let settings = Rig::new().load().settings;
    let budgets: Vec<_> = settings
        .budgets
        .iter()
        .map(|budget| {
            assert!(!budget.hard && !budget.counts_cache_reads && budget.only.is_none());
            let name = budget.name.as_str();
            (name, budget.scope, budget.window, budget.limit)
        })
        .collect();
    use ScopeKind::{Global, Session};
    use Window::{Day, Hour, Month};
    assert_eq!(
        budgets,
        [
            ("session-tokens-hour", Session, Hour, Limit::Tokens(100_000)),
            ("session-tokens-day", Session, Day, Limit::Tokens(1_000_000)),
            ("session-usd-hour", Session, Hour, usd("5")),
            ("session-usd-day", Session, Day, usd("50")),
            ("global-tokens-hour", Global, Hour, Limit::Tokens(500_000)),
            ("global-tokens-day", Global, Day, Limit::Tokens(5_000_000)),
            ("global-usd-month", Global, Month, usd("1000")),
        ]
    );
}

#[test]
fn a_file_changes_single_keys_of_a_budget_adds_others_and_switches_some_off() {
    let settings = Rig::file(
        "[budgets.session-usd-day]\nlimit = '$20'\nhard = true\n\n[budgets.global-usd-month]\nenabled = false\n\n\
         [budgets.research]\nscope = 'team:research'\nwindow = 'Month'\nlimit = '1_000 requests'\ncount_cache_reads = true\n",
    )
    .variable("TOLLGATE_BUDGETS_SESSION_TOKENS_HOUR_LIMIT", "1,000 tokens")
    .variable("TOLLGATE_BUDGETS_NIGHT_LIMIT", "5 usd")
    .variable("TOLLGATE_BUDGETS_NIGHT_SCOPE", "session:night")
    .flag("budgets.night.window", "day")
    .flag("budgets.session-tokens-day.enabled", "false")
    .load()
    .settings;
    let find = |name: &str| settings.budgets.iter().find(|budget| budget.name == name);
    let day = find("session-usd-day").expect("built in");
    assert_eq!((day.limit, day.hard), (usd("20"), true));
    assert_eq!((day.scope, day.window), (ScopeKind::Session, Window::Day));
    assert!(find("global-usd-month").is_none() && find("session-tokens-day").is_none());
    let hour = find("session-tokens-hour").expect("built in");
    assert_eq!(hour.limit, Limit::Tokens(1000));
    assert_eq!(
        find("research"),
        Some(&Budget {
            name: "research".into(),
            scope: ScopeKind::Team,
            only: Some("research".into()),
            window: Window::Month,
            limit: Limit::Requests(1000),
            hard: false,
            counts_cache_reads: true,
        })
    );
    assert_eq!(
        find("night").and_then(|budget| budget.only.as_deref()),
        Some("night")
    );
    let names: Vec<_> = settings.budgets.iter().map(|b| b.name.as_str()).collect();
    assert_eq!(names[0], "session-tokens-hour");
    assert_eq!(names[5..], ["research", "night"]);
}

#[test]
fn tiers_teams_and_keys_are_read() {
    let settings = Rig::file(
        "[auth]\nmode = 'keys'\nkeys_file = 'k.json'\ntier = 'free'\n\n[tiers.free]\nmax_output = 2_000\nmodels = []\n\n\
         [tiers.own]\nrequests_per_minute = 1\n\n[teams.research]\ntier = 'own'\npriority = 'LOW'\ntools = ['Read', 'web_*']\n\n\
         [teams.ops]\n\n[keys.key-0123456789ab]\nmax_depth = 0\nmax_priority = 'critical'\n",
    )
    .variable("TOLLGATE_TIERS_PRO_MODELS", "*haiku*, gpt-*-mini")
    .variable("TOLLGATE_TIERS_FREE_MAX_PRIORITY", "high")
    .flag("keys.batch.requests_per_hour", "1,000")
    .load()
    .settings;
    assert_eq!(settings.auth.mode, AuthMode::Keys);
    assert_eq!(settings.auth.keys_file, Path::new("k.json"));
    assert_eq!(settings.auth.tier.as_deref(), Some("free"));
    let free = &settings.tiers["free"];
    assert_eq!(free.max_output_tokens, Some(2000));
    assert_eq!(free.models, Some(vec![]));
    assert_eq!(free.max_priority, Some(Priority::High));
    assert_eq!(free.requests_per_minute, Some(10), "the built-in one stays");
    let models = ["*haiku*", "gpt-*-mini"].map(Pattern::new);
    assert_eq!(settings.tiers["pro"].models, Some(models.to_vec()));
    assert_eq!(settings.tiers.len(), 4, "no tier is made of a longer key");
    assert_eq!(
        settings.teams["research"],
        TeamSettings {
            tier: Some("own".into()),
            policy: Policy {
                priority: Some(Priority::Low),
                tools: Some(["Read", "web_*"].map(Pattern::new).to_vec()),
                ..Policy::default()
            },
        }
    );
    assert_eq!(settings.teams["ops"], TeamSettings::default());
    assert_eq!(settings.keys["batch"].requests_per_hour, Some(1000));
    let key = &settings.keys["key-0123456789ab"];
    assert_eq!(
        (key.max_depth, key.max_priority),
        (Some(0), Some(Priority::Critical))
    );
}

#[test]
fn every_key_of_a_policy_makes_a_team_by_a_variable_alone() {
    let loaded = Rig::new().flag("teams.seen.tier", "pro").load();
    let keys: Vec<&str> = loaded
        .known_keys
        .iter()
        .filter_map(|key| key.strip_prefix("teams.seen."))
        .collect();
    assert_eq!(keys.len(), 11, "{keys:?}");
    for key in keys {
        let value = match key {
            "tier" => "pro",
            "priority" | "max_priority" => "low",
            "pin_model" => "true",
            _ => "1",
        };
        let variable = format!("TOLLGATE_TEAMS_MY_TEAM_{}", key.to_ascii_uppercase());
        let settings = Rig::new().variable(&variable, value).load().settings;
        assert_eq!(
            settings.teams.keys().collect::<Vec<_>>(),
            ["my_team"],
            "{variable}"
        );
    }
}

#[test]
fn thresholds_zone_line_and_ceiling_are_read() {
    let settings = Rig::file(
        "[throttle]\nmode = 'shadow'\nwarning = 0.5\nsoft = '66.6%'\nhard = '66.6%'\ncritical = '100%'\nhysteresis = '0%'\n\
         time_zone = 'Europe/Vienna'\nmax_live = 5\nunknown_price = 'ceiling'\nceiling_input = 2.5\nceiling_output = 10\n\
         queue.max_waiting = 0\nqueue.max_wait = '1h'\nqueue.keep_alive = '15s'\n",
    )
    .load()
    .settings;
    let throttle = &settings.throttle;
    assert_eq!(throttle.mode, ThrottleMode::Shadow);
    assert_eq!(
        throttle.thresholds,
        Thresholds {
            warning: Share(500_000),
            soft: Share(666_000),
            hard: Share(666_000),
            critical: Share::WHOLE,
            hysteresis: Share(0),
        }
    );
    assert_eq!(throttle.time_zone.iana_name(), Some("Europe/Vienna"));
    let [input, output] = ["2.5", "10"].map(|price| price.parse().expect("money"));
    assert_eq!(
        throttle.unknown_price,
        UnknownPrice::Ceiling { input, output }
    );
    assert_eq!((throttle.max_live, throttle.queue.max_waiting), (5, 0));
    assert_eq!(throttle.queue.keep_alive, Some(Duration::from_secs(15)));
    let zone = Rig::new()
        .flag("throttle.time_zone", "UTC")
        .load()
        .settings
        .throttle
        .time_zone;
    assert_eq!(zone, jiff::tz::TimeZone::UTC);
}

#[test]
fn a_bad_limit_is_told_with_its_place_and_how_to_mend_it() {
    mistake(
        "[budgets.session-usd-hour]\nlimit = \"5 euros\"\n",
        r#"
error: `budgets.session-usd-hour.limit` has a unit that is not known
 --> tollgate.toml:2:9
  |
2 | limit = "5 euros"
  |         ^^^^^^^^^
  |
  = help: the units are tokens, usd (or $ in front) and requests"#,
    );
    mistake(
        "[budgets.session-usd-hour]\nlimit = 5\n",
        r#"
error: `budgets.session-usd-hour.limit` has the wrong type
 --> tollgate.toml:2:9
  |
2 | limit = 5
  |         ^ expected a limit with its unit, such as "100000 tokens", "5 usd" or "60 requests", found a number"#,
    );
    for (limit, told_as) in [
        ("'0 tokens'", "must be larger than zero"),
        ("'-5 usd'", "must be larger than zero"),
        ("'-$5'", "must be larger than zero"),
        ("'1.5 tokens'", "must be a whole number of tokens"),
        (
            "'18446744073709551616 tokens'",
            "is above 1,000,000,000,000,000 tokens",
        ),
        (
            "'340282366920938463463374607431768211456 requests'",
            "is above 1,000,000,000,000,000 requests",
        ),
        (
            "'340282366920938463463374607431768211456 usd'",
            "is above 1,000,000,000 USD",
        ),
        (
            "'1_000_000_000_000_001 tokens'",
            "help: for no limit switch the budget off: enabled = false",
        ),
        ("'$1000000000.01'", "is above 1,000,000,000 USD"),
        ("'nan usd'", "cannot be understood"),
        ("nan", "found a fraction"),
        ("'1,5 usd'", "a comma is not a decimal point here"),
        ("'5'", "has no unit"),
        ("''", "cannot be understood"),
        ("99999999999999999999", "found a number that is too large"),
    ] {
        let file = format!("budgets.session-usd-hour.limit = {limit}\n");
        let told = Rig::file(&file).error();
        assert!(told.contains(told_as), "{file}: {told}");
        assert!(told.contains(" --> tollgate.toml:1:34"), "{file}: {told}");
        assert_eq!(told.matches("error: ").count(), 1, "{file}: {told}");
    }
}

#[test]
fn bad_budgets_tiers_teams_and_keys_are_told_at_their_place() {
    let scope = |scope: &str| format!("budgets.session-usd-hour.scope = '{scope}'\n");
    for (file, told_as) in [
        (
            scope("galaxy"),
            "expected global, session, key, team, provider or model",
        ),
        (
            scope("global:x"),
            "global is everything together and has no name",
        ),
        (
            scope("team:"),
            "a name that no key, team or provider can have",
        ),
        (
            scope("provider:OpenAI"),
            "a name that no key, team or provider can have",
        ),
        (
            scope("key:sk-ant-Ab"),
            "a name that no key, team or provider can have",
        ),
        (
            scope("session:"),
            "a name that is empty, too long or has other characters",
        ),
        (
            scope("session:é"),
            "a name that is empty, too long or has other characters",
        ),
        (
            scope("session:a b"),
            "a name that is empty, too long or has other characters",
        ),
        (
            scope(&format!("model:{}", "m".repeat(129))),
            "1 to 128 visible ASCII characters",
        ),
        (scope("model:*opus*"), "write \"model\" for each model"),
        (
            "budgets.session-usd-hour.window = 'week'\n".into(),
            "expected minute, hour, day or month",
        ),
        (
            "budgets.session_usd_hour.limit = '5 usd'\n".into(),
            "budget `session_usd_hour` differs from another one only in - and _",
        ),
        (
            "budgets.Mine.limit = '5 usd'\n".into(),
            "`Mine` cannot be a budget's name",
        ),
        (
            "budgets.session-usd-hour.max = 1\n".into(),
            "unknown key `budgets.session-usd-hour.max`",
        ),
        (
            "budgets.mine = '5 usd'\n".into(),
            "expected a section that begins with [budgets.mine], found a text",
        ),
        (
            "[[budgets]]\nlimit = '5 usd'\n".into(),
            "expected a section that begins with [budgets], found an array of something else",
        ),
        (
            "[team.research]\ntier = 'pro'\n".into(),
            "did you mean `teams`?",
        ),
        (
            "teams.\"a b\".tier = 'pro'\n".into(),
            "`a b` cannot be a team's name",
        ),
        (
            "teams.research.tier = 'por'\n".into(),
            "did you mean `pro`?",
        ),
        (
            "auth.tier = 'gold'\n".into(),
            "known: enterprise, free, pro; a section [tiers.NAME] adds one",
        ),
        (
            "auth.mode = 'open'\n".into(),
            "expected passthrough or keys",
        ),
        (
            "tiers.free.tier = 'pro'\n".into(),
            "unknown key `tiers.free.tier`",
        ),
        (
            "tiers.free.max_output = 0\n".into(),
            "must be larger than zero",
        ),
        (
            "tiers.free.max_output = -1\n".into(),
            "must be larger than zero",
        ),
        (
            "tiers.free.max_output = 1.5\n".into(),
            "expected a whole number, found a fraction",
        ),
        (
            "tiers.free.max_output = '5'\n".into(),
            "expected a whole number, found a text",
        ),
        (
            "tiers.free.max_prompt = 9223372036854775807\n".into(),
            "is above 1,000,000,000,000,000",
        ),
        ("tiers.free.max_depth = -1\n".into(), "must not be negative"),
        (
            "tiers.free.models = '*haiku*'\n".into(),
            "expected a list of patterns such as",
        ),
        (
            "tiers.free.models = ['a', 5]\n".into(),
            "found an array of something else",
        ),
        (
            "tiers.free.tools = ['']\n".into(),
            "has a pattern that is empty, too long or has other characters",
        ),
        (
            "tiers.free.tools = ['naïve']\n".into(),
            "has a pattern that is empty, too long or has other characters",
        ),
        (
            "tiers.free.max_priority = 'urgent'\n".into(),
            "expected low, normal, high or critical",
        ),
        ("throttle.warning = '-1%'\n".into(), "must not be negative"),
        (
            "throttle.warning = '0%'\n".into(),
            "`throttle.warning` must be larger than zero",
        ),
        (
            "throttle.warning = 70\n".into(),
            "expected a share such as \"70%\" or 0.7, found a number",
        ),
        ("throttle.critical = '100.1%'\n".into(), "is above 100%"),
        (
            "throttle.critical = 1e300\n".into(),
            "is not a plain decimal number",
        ),
        (
            "throttle.critical = nan\n".into(),
            "is not a plain decimal number",
        ),
        (
            "throttle.warning = '85%'\n".into(),
            "`throttle.warning` (85%) is above `throttle.soft` (80%)",
        ),
        (
            "throttle.critical = '50%'\n".into(),
            "`throttle.hard` (90%) is above `throttle.critical` (50%)",
        ),
        (
            "throttle.hysteresis = '6%'\n".into(),
            "(6%) is larger than the step from `throttle.hard` to `throttle.critical` (5%)",
        ),
        (
            "throttle.time_zone = 'Mars/Olympus'\n".into(),
            "expected a time zone such as \"UTC\"",
        ),
        (
            "throttle.time_zone = '+01:00'\n".into(),
            "expected a time zone such as \"UTC\"",
        ),
        (
            "throttle.max_live = 0\n".into(),
            "`throttle.max_live` must be larger than zero",
        ),
        (
            "throttle.mode = true\n".into(),
            "expected on, shadow or off, found true or false",
        ),
        (
            "throttle.unknown_price = 'free'\n".into(),
            "expected allow, refuse or ceiling",
        ),
        (
            "throttle.ceiling_input = '0'\n".into(),
            "must be larger than zero",
        ),
        (
            "throttle.ceiling_input = '1000000.5'\n".into(),
            "is above a dollar for a token",
        ),
        (
            "throttle.queue.max_wait = '0s'\n".into(),
            "must be longer than zero",
        ),
        (
            "throttle.queue.keep_alive = '0s'\n".into(),
            "\"never\" means no limit",
        ),
    ] {
        let told = Rig::file(&file).error();
        assert!(told.contains(told_as), "{file}: {told}");
        assert!(told.contains(" --> tollgate.toml:"), "{file}: {told}");
        assert_eq!(told.matches("error: ").count(), 1, "{file}: {told}");
    }
    let told = Rig::file("[budgets.mine]\nlimit = '5 usd'\n").error();
    assert!(told.contains("`budgets.mine.scope` is missing"), "{told}");
    assert!(told.contains("`budgets.mine.window` is missing"), "{told}");
    assert!(!told.contains("did you mean"), "{told}");
    let told = Rig::file("[budgets.sesion-usd-day]\nlimit = '5 usd'\n").error();
    assert!(
        told.contains("did you mean [budgets.session-usd-day]?"),
        "{told}"
    );
    let told = Rig::new().flag("throttle.warning", "70").error();
    assert!(told.contains("a percentage has its sign"), "{told}");
}

#[test]
fn a_providers_key_comes_from_the_environment_the_file_or_a_file_of_its_own() {
    let openai = |rig: Rig| {
        let providers = rig.load().settings.providers;
        let openai = providers.into_iter().find(|p| p.name == "openai");
        openai.expect("built in").api_key
    };
    let secret = |text: &str| Some(Secret::new(text));
    assert_eq!(openai(Rig::new()), None);
    let rig = Rig::new().variable("TOLLGATE_PROVIDERS_OPENAI_API_KEY", "sk-1");
    assert_eq!(openai(rig), secret("sk-1"));
    let rig = Rig::file("providers.openai.api_key = '${KEY}'\n").variable("KEY", "sk-2");
    assert_eq!(openai(rig), secret("sk-2"));
    for text in ["sk-3", "sk-3\n", "sk-3\r\n"] {
        let rig = Rig::file("providers.openai.api_key_file = 'k'\n").write("k", text);
        let rig = rig.config_in_place();
        assert_eq!(openai(rig), secret("sk-3"), "{text:?}");
    }
    for (file, key, told_as) in [
        ("api_key = ''", None, "`providers.openai.api_key` is empty"),
        ("api_key = 'sk 4'", None, "has a space, a line break"),
        ("api_key = 5", None, "expected a text, found a number"),
        ("api_key_file = 'k'", None, "cannot be read: "),
        (
            "api_key_file = 'k'",
            Some(""),
            "the file of `providers.openai.api_key_file` is empty",
        ),
        (
            "api_key_file = 'k'",
            Some("\n\n"),
            "has a space, a line break",
        ),
        (
            "api_key_file = 'k'",
            Some("a\nb\n"),
            "has a space, a line break",
        ),
        (
            "api_key = 'a'\napi_key_file = 'k'",
            Some("a"),
            "are both set",
        ),
    ] {
        let rig = Rig::file(&format!("[providers.openai]\n{file}\n"));
        let rig = key.into_iter().fold(rig, |rig, key| rig.write("k", key));
        let told = rig.config_in_place().error();
        assert!(told.contains(told_as), "{file}: {told}");
        assert_eq!(told.matches("error: ").count(), 1, "{file}: {told}");
    }
    let told = Rig::new()
        .flag("providers.openai.api_key", "sk-hidden")
        .error();
    assert!(
        told.contains("`providers.openai.api_key` cannot be set by a flag")
            && told.contains("set TOLLGATE_PROVIDERS_OPENAI_API_KEY or use a file")
            && !told.contains("hidden"),
        "{told}"
    );
    let rig = Rig::file("providers.openai = { api_key_file = 'none', enabled = false }\n");
    assert!(
        rig.load()
            .settings
            .providers
            .iter()
            .all(|p| p.api_key.is_none())
    );
}

#[test]
fn fallbacks_are_other_providers_that_understand_the_same_requests() {
    for (file, told_as) in [
        ("['openrouterr']", "did you mean `openrouter`?"),
        ("['openai']", "a provider cannot stand in for itself"),
        ("['groq', 'groq']", "`groq` is named twice"),
        ("['anthropic']", "`anthropic` speaks anthropic, not openai"),
        ("'openrouter'", "expected names of providers"),
        ("['Open Router']", "expected names of providers"),
    ] {
        let told = Rig::file(&format!("providers.openai.fallbacks = {file}\n")).error();
        assert!(told.contains(told_as), "{file}: {told}");
        assert!(told.contains(" --> tollgate.toml:1:"), "{file}: {told}");
    }
    let off = "providers.openai.fallbacks = ['groq']\nproviders.groq.enabled = false\n";
    let told = Rig::file(off).error();
    assert!(
        told.contains("there is no provider `groq` that is enabled"),
        "{told}"
    );
    let settings = Rig::file("")
        .variable("TOLLGATE_PROVIDERS_OPENAI_FALLBACKS", "groq, ollama")
        .load()
        .settings;
    let openai = settings.providers.iter().find(|one| one.name == "openai");
    assert_eq!(openai.expect("it is there").fallbacks, ["groq", "ollama"]);
}

#[test]
fn a_providers_key_is_nowhere_in_what_is_told_of_a_configuration() {
    let rig = Rig::file("providers.openai.api_key = 'sk-hidden-1'\n")
        .variable("TOLLGATE_PROVIDERS_GROQ_API_KEY", "sk-hidden-2")
        .write("k", "sk-hidden-3");
    let path = rig.path().join("k").display().to_string();
    let rig = rig.flag("providers.xai.api_key_file", &path);
    let loaded = rig.load();
    assert_eq!(
        loaded
            .settings
            .providers
            .iter()
            .filter(|p| p.api_key.is_some())
            .count(),
        3
    );
    let findings = loaded.lint(&tollgate::llm::catalogue::Catalogue::builtin(), 0);
    assert_eq!(findings.warnings(), 3, "never sent in this mode");
    let shown: String = loaded.values.iter().map(|value| value.shown()).collect();
    for text in [
        format!("{loaded:?}"),
        shown,
        findings.render(false),
        findings.to_json().to_string(),
    ] {
        assert!(!text.contains("sk-hidden"), "{text}");
    }
}
