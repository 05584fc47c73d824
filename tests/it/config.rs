//! The configuration: layers, and what every kind of mistake is told as.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tollgate::config::settings::{LogFormat, LogLevel};
use tollgate::config::{ConfigError, Inputs, Loaded, Origin, Override, REFERENCE, load};
use tollgate::llm::wire::Dialect;
use tollgate::policy::priority::Pattern;
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
    // Settings that are switched off and example blocks count; examples are read as if they were switched on.
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
    let written = |path: &str| {
        let mut segments = path.split('.');
        let first = table.get(segments.next().expect("a segment"));
        segments.try_fold(first?, |value, segment| value.get(segment))
    };
    let loaded = Rig::new().load();
    let keys: BTreeSet<&str> = loaded.known_keys.iter().map(String::as_str).collect();
    for key in &keys {
        // The keys of all providers are shown at one of them.
        let shown = match key
            .strip_prefix("providers.")
            .and_then(|rest| rest.split_once('.'))
        {
            Some((_, key)) => format!("providers.openai.{key}"),
            None => (*key).to_owned(),
        };
        assert!(
            written(&shown).is_some(),
            "{key} is not in config/tollgate.toml"
        );
    }
    // And with everything switched on there is nothing that is not known.
    Rig::file(&on).load();
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
    ] {
        let told = Rig::file(file).error();
        assert!(told.contains(told_as), "{file}: {told}");
        assert!(told.contains(" --> tollgate.toml:"), "{file}: {told}");
        assert_eq!(told.matches("error: ").count(), 1, "{file}: {told}");
    }
}

#[test]
fn listening_for_other_machines_needs_a_deliberate_yes() {
    let told = Rig::file("server.listen = '0.0.0.0:8402'\n").error();
    assert!(told.contains(
        "`server.listen` is reachable from other machines, and `server.allow_remote` is false"
    ));
    assert!(
        told.contains("set server.allow_remote = true if the network is trusted"),
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
        "[providers.openai]\napi_key = 'sk-hidden-1'\nbase_url = 'https://me:hidden-2@h/?key=hidden-3'\n\
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
