//! Mode `keys`: who may ask, what the provider gets to see in place of the client's key, and that the key itself is
//! nowhere to be found.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::TempDir;
use tollgate::config::settings::{AuthMode, Secret, Settings, TeamSettings};
use tollgate::keys::{KeyError, KeyFile, KeyFileError, NewKey};
use tollgate::policy::rules::Policy;
use tollgate::units::Priority;

use crate::binary;
use crate::rig::*;

const MESSAGE: &str = r#"{"id":"msg_1","model":"claude-sonnet-5-5","content":[],"usage":{"input_tokens":21,"output_tokens":9}}"#;

/// tollgate's own key for every provider of these tests.
const OWN: &str = "sk-own-0001";

#[derive(Debug, thiserror::Error)]
#[error(transparent)]
enum Failed {
    File(#[from] KeyFileError),
    Key(#[from] KeyError),
}

/// A keys file, and a proxy that asks for keys from it.
struct Bench {
    dir: TempDir,
    file: KeyFile,
}

impl Bench {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let file = KeyFile::at(dir.path().join("keys.json"));
        Self { dir, file }
    }

    fn create(&self, new: NewKey) -> String {
        let made = self
            .file
            .change(|keys| Ok::<_, Failed>(keys.create(new, NOON)?.1));
        made.unwrap().reveal().to_owned()
    }

    fn key(&self, name: &str) -> String {
        self.create(named(name))
    }

    async fn tollgate(&self, upstream: SocketAddr, change: impl FnOnce(&mut Settings)) -> Tollgate {
        let path = self.file.path().to_owned();
        Tollgate::changed(upstream, &[], |settings| {
            in_mode_keys(settings, path);
            change(settings);
        })
        .await
    }
}

fn in_mode_keys(settings: &mut Settings, keys_file: PathBuf) {
    settings.auth.mode = AuthMode::Keys;
    settings.auth.keys_file = keys_file;
    for provider in &mut settings.providers {
        provider.api_key = (provider.name != "vllm").then(|| Secret::new(OWN));
    }
}

fn named(name: &str) -> NewKey {
    NewKey {
        name: name.to_owned(),
        ..NewKey::default()
    }
}

fn ask_with(key: &str) -> Vec<u8> {
    let body = r#"{"model":"claude-sonnet-5-5"}"#;
    request(
        "POST /anthropic/v1/messages",
        &[("x-api-key", key), ("anthropic-version", "2023-06-01")],
        body,
    )
}

async fn status(tollgate: &Tollgate, key: &str) -> u16 {
    tollgate.ask(ask_with(key)).await.0.status()
}

#[tokio::test]
async fn each_provider_gets_tollgates_key_and_nothing_of_the_clients() {
    let upstream = Upstream::start().await.answering(|_| json_answer(MESSAGE));
    let bench = Bench::new();
    let key = bench.key("ci");
    let tollgate = bench.tollgate(upstream.address, |_| ()).await;
    let bearer = format!("Bearer {key}");
    let own = format!("Bearer {OWN}");
    let in_query = format!("/gemini/v1beta/models/g:generateContent?alt=sse&key={key}");
    for (path, shown, sent) in [
        (
            "/anthropic/v1/messages",
            ("x-api-key", &key),
            ("x-api-key", OWN),
        ),
        (
            "/anthropic/v1/messages",
            ("authorization", &bearer),
            ("x-api-key", OWN),
        ),
        (
            "/openai/v1/chat/completions",
            ("authorization", &bearer),
            ("authorization", &own),
        ),
        (
            "/openai/v1/chat/completions",
            ("api-key", &key),
            ("authorization", &own),
        ),
        (
            "/gemini/v1beta/models/g:generateContent",
            ("x-goog-api-key", &key),
            ("x-goog-api-key", OWN),
        ),
        (
            in_query.as_str(),
            ("x-other", &"1".to_owned()),
            ("x-goog-api-key", OWN),
        ),
        (
            "/ollama/api/chat",
            ("authorization", &bearer),
            ("authorization", &own),
        ),
        ("/vllm/v1/models", ("authorization", &bearer), ("", "")),
    ] {
        let headers = [(shown.0, shown.1.as_str()), ("cookie", "session=1")];
        let (head, body) = tollgate
            .ask(request(&format!("POST {path}"), &headers, "{}"))
            .await;
        assert_eq!(head.status(), 200, "{path}: {}", body.text());
        let arrived = upstream.take().remove(0).head;
        let credentials: Vec<(&str, &str)> = arrived
            .fields
            .iter()
            .filter(|(name, _)| {
                [
                    "authorization",
                    "x-api-key",
                    "api-key",
                    "x-goog-api-key",
                    "cookie",
                ]
                .contains(&name.as_str())
            })
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let expected = Some(sent).filter(|(name, _)| !name.is_empty());
        assert_eq!(
            credentials,
            expected.into_iter().collect::<Vec<_>>(),
            "{path}"
        );
        assert!(!format!("{arrived:?}").contains("tg_"), "{arrived:#?}");
        let record = tollgate.record(&head).await;
        assert_eq!(record.key.as_deref(), Some("ci"), "{path}");
        assert_eq!(
            record.session, "ci",
            "the key's session, as nothing else is told"
        );
    }
    let query = tollgate.ask(request(&format!("POST {in_query}&a=b"), &[], "{}"));
    assert_eq!(query.await.0.status(), 200);
    let asked = upstream.take().remove(0).head;
    assert_eq!(
        asked.asks(),
        "POST /v1beta/models/g:generateContent?alt=sse&a=b"
    );
}

#[tokio::test]
async fn a_login_beside_a_tollgate_key_does_no_harm() {
    let upstream = Upstream::start().await.answering(|_| json_answer(MESSAGE));
    let bench = Bench::new();
    let key = bench.key("ci");
    let tollgate = bench.tollgate(upstream.address, |_| ()).await;
    let headers = [("authorization", "Bearer login"), ("x-api-key", &*key)];
    let (head, _) = tollgate
        .ask(request("POST /anthropic/v1/messages", &headers, "{}"))
        .await;
    assert_eq!(head.status(), 200);
    assert_eq!(upstream.take()[0].head.value("authorization"), None);
}

#[tokio::test]
async fn without_a_key_that_holds_nothing_reaches_the_provider_or_the_ledger() {
    let upstream = Upstream::start().await;
    let bench = Bench::new();
    let key = bench.key("ci");
    let tollgate = bench.tollgate(upstream.address, |_| ()).await;
    let last = if key.ends_with('0') { "1" } else { "0" };
    let wrong = format!("{}{last}", &key[..key.len() - 1]);
    let unknown = format!("tg_000000000000{}", &key[15..]);
    let body = r#"{"model":"claude-sonnet-5-5"}"#;
    let mut refused = 0;
    for (headers, said) in [
        (&[][..], "asks for a tollgate key"),
        (&[("x-api-key", "sk-ant-api03-x")], "not a tollgate key"),
        (&[("x-api-key", wrong.as_str())], "not known"),
        (&[("x-api-key", unknown.as_str())], "not known"),
        (
            &[("authorization", "Basic eA==")],
            "asks for a tollgate key",
        ),
    ] {
        for (path, message) in [
            ("/anthropic/v1/messages", "/error/message"),
            ("/openai/v1/chat/completions", "/error/message"),
            ("/gemini/v1beta/models/g:generateContent", "/error/message"),
            ("/ollama/api/chat", "/error"),
            ("/openai/v1/files", "/error/message"),
        ] {
            let asked = request(&format!("POST {path}"), headers, body);
            let (head, answer) = tollgate.ask(asked).await;
            assert_eq!(head.status(), 401, "{path} {headers:?}");
            assert_eq!(head.value("x-should-retry"), Some("false"));
            let json = answer.json();
            let text = json
                .pointer(message)
                .and_then(|text| text.as_str())
                .unwrap();
            assert!(text.contains(said), "{path}: {text}");
            for (_, value) in headers {
                assert!(!format!("{head:?}{text}").contains(value));
            }
            refused += 1;
        }
    }
    assert!(upstream.is_untouched().await);
    assert_eq!(
        tollgate.records().await.len(),
        0,
        "strangers fill no ledger"
    );
    assert_eq!(
        tollgate.metric("tollgate_refusals_total", &["bad_key"]),
        f64::from(refused)
    );
}

/// A client that writes its whole body before it reads must see the refusal and no broken pipe.
#[tokio::test]
async fn a_stranger_with_a_large_body_is_told_why() {
    let upstream = Upstream::start().await;
    let bench = Bench::new();
    let tollgate = bench.tollgate(upstream.address, |_| ()).await;
    let asked = request(
        "POST /anthropic/v1/messages",
        &[("x-api-key", "sk-ant")],
        vec![b'x'; 3 << 20],
    );
    let (head, _) = tollgate.ask(asked).await;
    assert_eq!(head.status(), 401);
}

#[tokio::test]
async fn a_key_that_is_made_or_revoked_while_the_proxy_runs_is_known_soon() {
    let upstream = Upstream::start().await.answering(|_| json_answer(MESSAGE));
    let bench = Bench::new();
    // Not even the file is there at the start.
    let tollgate = bench.tollgate(upstream.address, |_| ()).await;
    let (ci, cd) = (bench.key("ci"), bench.key("cd"));
    for key in [&ci, &cd] {
        eventually("the key", async || {
            (status(&tollgate, key).await == 200).then_some(())
        })
        .await;
    }
    let revoked = bench
        .file
        .change(|keys| Ok::<_, Failed>(keys.revoke("ci", NOON).map(drop)?));
    revoked.unwrap();
    eventually("the revocation", async || {
        (status(&tollgate, &ci).await == 401).then_some(())
    })
    .await;
    let (_, body) = tollgate.ask(ask_with(&ci)).await;
    assert!(body.text().contains("revoked"), "{}", body.text());
    assert_eq!(status(&tollgate, &cd).await, 200);
    // A file that somebody breaks does not lock everybody out, nor let the revoked one in.
    std::fs::write(bench.file.path(), "{").unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1_200)).await;
    assert_eq!(status(&tollgate, &cd).await, 200);
    assert_eq!(status(&tollgate, &ci).await, 401);
}

#[tokio::test]
async fn time_ends_a_key_and_the_overlap_of_a_rotation() {
    let upstream = Upstream::start().await.answering(|_| json_answer(MESSAGE));
    let bench = Bench::new();
    let first = bench.create(NewKey {
        expires_unix_ms: Some(NOON + 10_000),
        ..named("ci")
    });
    let rotated = bench
        .file
        .change(|keys| Ok::<_, Failed>(keys.rotate("ci", 5_000, NOON)?.1));
    let second = rotated.unwrap().reveal().to_owned();
    let tollgate = bench.tollgate(upstream.address, |_| ()).await;
    for (at, by_first, by_second) in [
        (0, 200, 200),
        (4_999, 200, 200),
        (5_000, 401, 200),
        (9_999, 401, 200),
        (10_000, 401, 401),
    ] {
        tollgate.set_clock(NOON + at);
        assert_eq!(status(&tollgate, &first).await, by_first, "{at}");
        assert_eq!(status(&tollgate, &second).await, by_second, "{at}");
    }
}

#[tokio::test]
async fn team_tier_and_priority_come_with_the_key() {
    let upstream = Upstream::start().await.answering(|_| json_answer(MESSAGE));
    let bench = Bench::new();
    let of_team = bench.create(NewKey {
        team: Some("research".to_owned()),
        ..named("a")
    });
    let own = bench.create(NewKey {
        team: Some("research".to_owned()),
        tier: Some("free".to_owned()),
        priority: Some(Priority::High),
        max_priority: Some(Priority::High),
        ..named("b")
    });
    let plain = bench.key("c");
    let of_lost_team = bench.create(NewKey {
        team: Some("gone".to_owned()),
        ..named("d")
    });
    let tollgate = bench
        .tollgate(upstream.address, |settings| {
            let tier = |priority, max_priority| Policy {
                priority,
                max_priority,
                ..Policy::default()
            };
            settings.tiers = [
                ("free".to_owned(), tier(None, Some(Priority::Normal))),
                ("pro".to_owned(), tier(Some(Priority::Low), None)),
            ]
            .into();
            let research = TeamSettings {
                tier: Some("pro".to_owned()),
                policy: tier(None, Some(Priority::High)),
            };
            settings.teams = [("research".to_owned(), research)].into();
            settings.keys = [("c".to_owned(), tier(Some(Priority::High), None))].into();
        })
        .await;
    for (key, asked, priority, team) in [
        (&of_team, None, Priority::Low, Some("research")),
        (&of_team, Some("critical"), Priority::High, Some("research")),
        (&own, None, Priority::Normal, Some("research")),
        (&own, Some("low"), Priority::Low, Some("research")),
        (&plain, None, Priority::High, None),
        (&plain, Some("critical"), Priority::Critical, None),
    ] {
        let mut headers = vec![("x-api-key", key.as_str())];
        headers.extend(asked.map(|asked| ("x-tollgate-priority", asked)));
        let asked = request("POST /anthropic/v1/messages", &headers, "{}");
        let (head, _) = tollgate.ask(asked).await;
        let record = tollgate.record(&head).await;
        assert_eq!(record.priority, priority, "{headers:?}");
        assert_eq!(record.team.as_deref(), team);
    }
    let (head, body) = tollgate.ask(ask_with(&of_lost_team)).await;
    assert_eq!(head.status(), 401, "its rules are not known");
    assert!(body.text().contains("team"), "{}", body.text());
}

#[tokio::test]
async fn a_websocket_shows_the_providers_key_too() {
    let upstream = Upstream::start().await;
    let bench = Bench::new();
    let key = bench.key("voice");
    let tollgate = bench.tollgate(upstream.address, |_| ()).await;
    let protocols = format!("realtime, openai-insecure-api-key.{key}, openai-beta.realtime-v1");
    let headers = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", protocols.as_str()),
    ];
    let mut client = tollgate.connect().await;
    client
        .send(request("GET /openai/v1/realtime?model=m", &headers, ""))
        .await;
    let (mut provider, asked, _) = upstream.request().await;
    assert_eq!(
        asked.value("authorization"),
        Some(&*format!("Bearer {OWN}"))
    );
    assert_eq!(
        asked.value("sec-websocket-protocol"),
        Some("realtime, openai-beta.realtime-v1")
    );
    assert!(!format!("{asked:?}").contains("tg_"), "{asked:?}");
    provider
        .send(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n",
        )
        .await;
    assert_eq!(client.head().await.status(), 101);
    client.send("up").await;
    assert_eq!(provider.bytes(2).await, b"up");
    drop((client, provider));
    tollgate.settled().await;
    assert_eq!(tollgate.only_record().await.key.as_deref(), Some("voice"));

    let refused = request("GET /openai/v1/realtime", &headers[..4], "");
    assert_eq!(tollgate.ask(refused).await.0.status(), 401);
}

#[tokio::test]
async fn passthrough_leaves_every_key_where_it_is() {
    let upstream = Upstream::start().await.answering(|_| json_answer(MESSAGE));
    let tollgate = Tollgate::changed(upstream.address, &[], |settings| {
        settings.auth.tier = Some("free".to_owned());
        let free = Policy {
            max_priority: Some(Priority::Normal),
            ..Policy::default()
        };
        settings.tiers = [("free".to_owned(), free)].into();
        for provider in &mut settings.providers {
            provider.api_key = Some(Secret::new(OWN));
        }
    })
    .await;
    let headers = [
        ("authorization", "Bearer sk-client"),
        ("x-api-key", "sk-other"),
        ("cookie", "a=1"),
        ("x-tollgate-priority", "critical"),
    ];
    let path = "/gemini/v1beta/models/g:generateContent?key=sk-query";
    let (head, _) = tollgate
        .ask(request(&format!("POST {path}"), &headers, "{}"))
        .await;
    let arrived = upstream.take().remove(0).head;
    assert_eq!(
        arrived.asks(),
        "POST /v1beta/models/g:generateContent?key=sk-query"
    );
    for (name, value) in &headers[..3] {
        assert_eq!(arrived.values(name), [*value]);
    }
    assert!(!format!("{arrived:?}").contains(OWN));
    let record = tollgate.record(&head).await;
    assert!(record.key.unwrap().starts_with("key-"));
    assert_eq!(record.team, None);
    assert_eq!(record.priority, Priority::Normal, "capped by auth.tier");
}

/// Everything that is logged on this thread, down to the last detail.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        log.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Whether a file below a folder holds a text.
fn holds(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return holds(&path, text);
        }
        memchr::memmem::find(&std::fs::read(&path).unwrap(), text.as_bytes()).is_some()
    })
}

#[tokio::test]
async fn no_key_is_found_in_log_ledger_metrics_or_keys_file() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let upstream = Upstream::start().await.answering(|arrived| {
        if arrived.head.asks().contains("fail") {
            answer("500 Internal Server Error", &[("connection", "close")], "")
        } else {
            json_answer(MESSAGE)
        }
    });
    let bench = Bench::new();
    let key = bench.key("ci");
    let tollgate = bench.tollgate(upstream.address, |_| ()).await;
    let secret = &key[16..];
    let bad = format!("{}{}", &key[..16], secret.chars().rev().collect::<String>());
    for key in [&key, &bad] {
        let headers = [("x-api-key", key.as_str())];
        for path in ["messages", "fail", "messages?beta=true"] {
            let line = format!("POST /anthropic/v1/{path}");
            tollgate.ask(request(&line, &headers, "{}")).await;
        }
        let line = format!("POST /gemini/v1beta/models/g:generateContent?key={key}");
        tollgate.ask(request(&line, &[], "{}")).await;
        let line = format!("GET /nowhere/at/all?key={key}");
        tollgate.ask(request(&line, &headers, "")).await;
    }
    assert_eq!(tollgate.records().await.len(), 4);
    let metrics = tollgate.gate.metrics.encode();
    let logged = log.0.lock().unwrap_or_else(PoisonError::into_inner);
    let logged = String::from_utf8_lossy(&logged).into_owned();
    assert!(!logged.is_empty(), "the test listens to the log");
    for secret in [secret, &bad[16..], OWN] {
        assert!(!logged.contains(secret), "{logged}");
        assert!(!metrics.contains(secret));
        assert!(!holds(&tollgate.gate.settings.ledger.dir, secret));
        assert!(!holds(bench.dir.path(), secret));
    }
    assert!(
        holds(bench.dir.path(), "\"ci\""),
        "the test finds what is there"
    );
    assert!(!format!("{:?}", tollgate.gate.settings).contains(OWN));
}

#[tokio::test]
async fn other_machines_need_an_admin_key_for_the_admin_addresses() {
    let Some(ip) = address_beyond_loopback() else {
        return;
    };
    let upstream = Upstream::start().await;
    let bench = Bench::new();
    let ci = bench.key("ci");
    let ops = bench.create(NewKey {
        admin: true,
        ..named("ops")
    });
    let tollgate = bench
        .tollgate(upstream.address, |settings| {
            settings.server.listen.set_ip(ip);
            settings.server.allow_remote = true;
        })
        .await;
    let bearer = format!("Bearer {ops}");
    for path in [
        "/",
        "/metrics",
        "/api/v1/usage",
        "/api/v1/savings",
        "/api/v1/requests/x",
        "/api/v1/nothing",
    ] {
        let get = |headers: &[(&str, &str)]| request(&format!("GET {path}"), headers, "");
        let (head, body) = tollgate.ask(get(&[])).await;
        assert_eq!(head.status(), 401, "{path}");
        assert_eq!(head.value("www-authenticate"), Some("Bearer"));
        assert!(!body.text().contains("tollgate_requests"), "{path}");
        assert_eq!(
            tollgate.ask(get(&[("x-api-key", &ci)])).await.0.status(),
            403
        );
        let allowed = tollgate.ask(get(&[("authorization", &bearer)])).await.0;
        assert!(![401, 403].contains(&allowed.status()), "{path}");
    }
    for path in ["/healthz", "/readyz"] {
        let probe = request(&format!("GET {path}"), &[], "");
        assert_eq!(tollgate.ask(probe).await.0.status(), 200);
    }

    let open = Tollgate::changed(upstream.address, &[], |settings| {
        settings.server.listen.set_ip(ip);
        settings.server.allow_remote = true;
    })
    .await;
    let metrics = request("GET /metrics", &[("authorization", &bearer)], "");
    assert_eq!(open.ask(metrics).await.0.status(), 403);
}

/// The keys file that the binary uses by default in a home of its own.
fn default_file(home: &Path) -> PathBuf {
    let state = home.join(".local/state/tollgate/keys.json");
    if state.exists() {
        state
    } else {
        home.join("keys.json")
    }
}

#[tokio::test]
async fn the_commands_make_list_rotate_and_revoke_a_key_that_the_proxy_takes() {
    let home = TempDir::new().unwrap();
    let tollgate = async |arguments: &[&str]| {
        let mut command = binary::tollgate(home.path());
        command.arg("keys").args(arguments);
        binary::run(command).await
    };
    let (code, out, said) = tollgate(&["create", "ci", "--expires", "90d"]).await;
    assert_eq!(code, Some(0), "{said}");
    let first = out.trim_end_matches('\n').to_owned();
    assert!(
        out == format!("{first}\n")
            && first.starts_with("tg_")
            && !first.contains(char::is_whitespace),
        "the key alone, for KEY=$(…): {out:?}"
    );
    assert!(!said.contains(&first[16..]), "{said}");
    let file = default_file(home.path());

    let upstream = Upstream::start().await.answering(|_| json_answer(MESSAGE));
    let path = file.clone();
    let proxy = Tollgate::changed(upstream.address, &[], |settings| {
        in_mode_keys(settings, path);
    })
    .await;
    // The commands go by the system's calendar.
    let now = tollgate::clock::Clock::system().unix_ms();
    proxy.set_clock(now);
    assert_eq!(status(&proxy, &first).await, 200);

    let (_, out, _) = tollgate(&["rotate", "ci", "--overlap", "1h"]).await;
    let second = out.trim().to_owned();
    assert_ne!(second, first);
    eventually("the rotation", async || {
        (status(&proxy, &second).await == 200).then_some(())
    })
    .await;
    assert_eq!(status(&proxy, &first).await, 200, "its hour has begun");
    proxy.set_clock(now + 2 * 3_600_000);
    assert_eq!(status(&proxy, &first).await, 401);

    let (_, table, _) = tollgate(&["list"]).await;
    let (_, json, _) = tollgate(&["list", "--json"]).await;
    for list in [&table, &json] {
        assert!(list.contains("ci"), "{list}");
        assert!(!list.contains(&first[16..]) && !list.contains(&second[16..]));
    }
    let (code, out, said) = tollgate(&["revoke", "ci"]).await;
    assert_eq!((code, out.as_str()), (Some(0), ""), "{said}");
    eventually("the revocation", async || {
        (status(&proxy, &second).await == 401).then_some(())
    })
    .await;

    for (arguments, code, said) in [
        (&["revoke", "ci"][..], 1, "revoked already"),
        (&["rotate", "ci"], 1, "revoked already"),
        (&["revoke", "cj"], 1, "did you mean `ci`?"),
        (&["create", "ci"], 1, "choose another name"),
        (&["create", "C I"], 2, "lower-case letters"),
        (&["create", "b", "--team", "none"], 2, "no team `none`"),
        (&["create", "b", "--expires", "0s"], 2, "not in the future"),
        (&["create", "b", "--priority", "urgent"], 2, "urgent"),
    ] {
        let (exit, out, errors) = tollgate(arguments).await;
        assert_eq!(exit, Some(code), "{arguments:?}: {errors}");
        assert_eq!(out, "", "{arguments:?}");
        assert!(errors.contains(said), "{arguments:?}: {errors}");
    }
    std::fs::write(&file, "{\"tollgate_keys\": 1,").unwrap();
    let (exit, _, errors) = tollgate(&["create", "b"]).await;
    assert_eq!(exit, Some(1));
    assert!(errors.contains("is damaged"), "{errors}");
}
