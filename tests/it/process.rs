//! The real binary: what stops it from starting, how it stops, what it does on a full disk and behind a proxy, and that
//! no secret leaves it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

use crate::binary::*;
use crate::rig::*;
use crate::tls::{self, TlsUpstream};

const MESSAGE: &str = r#"{"id":"msg_1","model":"claude-sonnet-5-5","content":[],"usage":{"input_tokens":21,"output_tokens":9}}"#;

const START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"claude-sonnet-5-5\",\"content\":[],\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\n";

fn ask() -> Vec<u8> {
    request(
        "POST /anthropic/v1/messages",
        &[],
        r#"{"model":"claude-sonnet-5-5","max_tokens":50,"stream":true,"messages":[{"role":"user","content":"a question"}]}"#,
    )
}

/// Every file below a directory with its bytes.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if let Ok(bytes) = std::fs::read(&path) {
            found.insert(path, bytes);
        }
    }
    found
}

/// An error as a person sees it: never a panic, and with what was asked for.
fn assert_clear(log: &str, parts: &[&str]) {
    assert!(!log.contains("panicked"), "{log}");
    for part in parts {
        assert!(log.contains(part), "{part:?} is not in: {log}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_said_with_what_to_do() {
    let home = TempDir::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = tollgate(home.path());
    command.args(["serve", "--listen", &address]);
    let (code, out, log) = run(command).await;
    assert_eq!(code, Some(1), "{log}");
    assert_eq!(out, "");
    assert_clear(&log, &[&address, "--listen"]);
}

#[tokio::test]
async fn an_address_beyond_this_machine_needs_a_deliberate_yes() {
    let home = TempDir::new().unwrap();
    let mut command = tollgate(home.path());
    command.args(["serve", "--listen", "0.0.0.0:0"]);
    let (code, _, log) = run(command).await;
    assert_eq!(code, Some(2), "{log}");
    assert_clear(&log, &["allow_remote"]);
}

#[tokio::test]
async fn a_ledger_that_another_process_holds_is_left_to_it() {
    let home = TempDir::new().unwrap();
    let upstream = Upstream::start().await.answering(|_| json_answer(MESSAGE));
    let mut command = tollgate(home.path());
    command.args(before(upstream.address));
    let first = Proxy::start(command).await;
    let mut command = tollgate(home.path());
    command.args(before(upstream.address));
    let (code, out, log) = run(command).await;
    assert_eq!(code, Some(1), "{log}");
    assert_eq!(out, "");
    assert_clear(&log, &["locked", &first.process.pid(), "ledger"]);
    let (head, _) = first.ask(ask()).await;
    assert_eq!(head.status(), 200, "the first goes on");
    let id = head.value("x-tollgate-request-id").unwrap();
    assert!(first.record(id).await.is_some());
}

/// What happens to a store while no proxy runs.
#[derive(Debug, Clone, Copy)]
enum Wreck {
    Garbage,
    Half,
    Gone,
}

#[tokio::test]
async fn a_store_that_was_overwritten_is_refused_and_nothing_of_it_is_erased() {
    refuses_a_wreck(Wreck::Garbage).await;
}

#[tokio::test]
async fn a_store_that_was_cut_in_half_is_refused_and_nothing_of_it_is_erased() {
    refuses_a_wreck(Wreck::Half).await;
}

#[tokio::test]
async fn a_store_that_is_gone_is_refused_and_nothing_beside_it_is_erased() {
    refuses_a_wreck(Wreck::Gone).await;
}

async fn refuses_a_wreck(wreck: Wreck) {
    let upstream = Upstream::start().await.answering(|_| json_answer(MESSAGE));
    let home = TempDir::new().unwrap();
    let ledger = home.path().join("ledger");
    let command = || {
        let mut command = tollgate(home.path());
        command
            .args(before(upstream.address))
            .arg("--ledger-dir")
            .arg(&ledger);
        command
    };
    let mut proxy = Proxy::start(command()).await;
    for _ in 0..20 {
        assert_eq!(proxy.ask(ask()).await.0.status(), 200);
    }
    proxy.process.terminate();
    assert_eq!(proxy.process.ended().await.code(), Some(0));

    let data = |bytes: &[u8]| bytes.iter().filter(|byte| **byte != 0).count();
    let (largest, bytes) = files(&ledger)
        .into_iter()
        .max_by_key(|(_, bytes)| data(bytes))
        .unwrap();
    match wreck {
        Wreck::Garbage => {
            let noise: Vec<u8> = (0..bytes.len()).map(|at| (at * 31 + 7) as u8).collect();
            std::fs::write(&largest, noise).unwrap();
        }
        Wreck::Half => std::fs::write(&largest, &bytes[..bytes.len() / 2]).unwrap(),
        Wreck::Gone => std::fs::remove_dir_all(largest.parent().unwrap()).unwrap(),
    }
    let before = files(&ledger);
    let (mut process, line) = Binary::spawn(command());
    let started = within("a decision", line).await;
    assert!(started.is_err(), "it started: {}", process.log());
    assert_eq!(process.ended().await.code(), Some(1));
    eventually("the message", async || {
        process.log().contains("hint").then_some(())
    })
    .await;
    assert_clear(&process.log(), &["ledger", "damaged"]);
    for (path, bytes) in before {
        // It names the process that holds the ledger.
        if path.ends_with("lock") {
            continue;
        }
        let now = std::fs::read(&path).unwrap_or_default();
        assert!(
            now == bytes,
            "{}: {} bytes of data became {}\n{}",
            path.display(),
            data(&bytes),
            data(&now),
            process.log()
        );
    }
}

#[tokio::test]
async fn a_directory_of_somebody_else_is_refused_and_untouched() {
    let home = TempDir::new().unwrap();
    let foreign = home.path().join("photos");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("holiday.jpg"), "not a ledger").unwrap();
    let mut command = tollgate(home.path());
    command.args(["serve", "--listen", "127.0.0.1:0", "--ledger-dir"]);
    command.arg(&foreign);
    let (code, _, log) = run(command).await;
    assert_eq!(code, Some(1), "{log}");
    assert_clear(&log, &["photos", "holiday.jpg", "ledger.dir"]);
    assert_eq!(files(&foreign).len(), 1);
}

#[tokio::test]
async fn a_place_where_nothing_can_be_written_is_said() {
    let home = TempDir::new().unwrap();
    let file = home.path().join("file");
    std::fs::write(&file, "").unwrap();
    // Nobody makes directories in /proc, not even root, under whom permissions mean nothing.
    for place in [
        file.as_path(),
        &file.join("below"),
        Path::new("/proc/tollgate"),
    ] {
        let mut command = tollgate(home.path());
        command.args(["serve", "--listen", "127.0.0.1:0", "--ledger-dir"]);
        command.arg(place);
        let (code, out, log) = run(command).await;
        assert_eq!(code, Some(1), "{log}");
        assert_eq!(out, "");
        assert_clear(&log, &[place.to_str().unwrap(), "ledger.dir"]);
    }
}

#[tokio::test]
async fn a_read_only_ledger_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = TempDir::new().unwrap();
    let ledger = home.path().join("ledger");
    std::fs::create_dir(&ledger).unwrap();
    std::fs::set_permissions(&ledger, std::fs::Permissions::from_mode(0o555)).unwrap();
    if std::fs::write(ledger.join("probe"), "").is_ok() {
        // Root writes everywhere: there is nothing to test.
        return;
    }
    let mut command = tollgate(home.path());
    command.args(["serve", "--listen", "127.0.0.1:0", "--ledger-dir"]);
    command.arg(&ledger);
    let (code, _, log) = run(command).await;
    assert_eq!(code, Some(1), "{log}");
    assert_clear(&log, &["permission"]);
}

#[tokio::test]
async fn mistakes_in_the_config_are_told_with_file_line_key_and_the_nearest_name() {
    let home = TempDir::new().unwrap();
    let file = home.path().join("mine.toml");
    for (text, parts) in [
        (
            "[server]\nlistn = \"127.0.0.1:0\"\n",
            &["mine.toml", ":2", "listn", "listen"][..],
        ),
        (
            "[ledgr]\ndir = \"x\"\n",
            &["mine.toml", ":1", "ledgr", "ledger"],
        ),
        (
            "\n\n[server]\nmax_body = true\n",
            &["mine.toml", ":4", "max_body"],
        ),
        (
            "[upstream]\nidle_timeout = \"soon\"\n",
            &["mine.toml", ":2", "idle_timeout"],
        ),
        ("[server\n", &["mine.toml", ":1"]),
        (
            "[providers.mine]\nbase_url = \"ftp://x\"\ndialect = \"openai\"\n",
            &["mine.toml", ":2", "base_url"],
        ),
    ] {
        std::fs::write(&file, text).unwrap();
        for command_name in ["serve", "check"] {
            let mut command = tollgate(home.path());
            command.arg(command_name).arg("--config").arg(&file);
            let (code, _, log) = run(command).await;
            assert!(matches!(code, Some(1 | 2)), "{log}");
            assert_clear(&log, parts);
        }
    }
    let mut command = tollgate(home.path());
    command
        .env("TOLLGATE_SERVER_LISTEN", "nowhere")
        .arg("serve");
    let (code, _, log) = run(command).await;
    assert_eq!(code, Some(2), "{log}");
    assert_clear(&log, &["TOLLGATE_SERVER_LISTEN"]);
    let mut command = tollgate(home.path());
    command.args(["serve", "--config", "/nowhere/x.toml"]);
    let (_, _, log) = run(command).await;
    assert_clear(&log, &["/nowhere/x.toml"]);
}

#[tokio::test]
async fn sigterm_lets_a_stream_finish_and_its_booking_survives() {
    let home = TempDir::new().unwrap();
    let upstream = Upstream::start().await;
    let arguments = before(upstream.address);
    let mut command = tollgate(home.path());
    command.args(&arguments);
    let mut proxy = Proxy::start(command).await;
    let mut client = Wire::connect(proxy.address).await;
    client.send(ask()).await;
    let (mut provider, _, _) = upstream.request().await;
    provider.send(stream_head("text/event-stream")).await;
    provider.send_chunk(START).await;
    let head = client.head().await;
    client.body_bytes(START.len()).await;
    proxy.process.terminate();
    eventually("nothing new is accepted", async || {
        TcpStream::connect(proxy.address).await.err()
    })
    .await;
    let end = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":15}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    provider.send_chunk(end).await;
    provider.send(LAST_CHUNK).await;
    let body = client.body().await;
    assert!(body.whole);
    assert_eq!(body.text(), end);
    assert_eq!(proxy.process.ended().await.code(), Some(0));

    let mut command = tollgate(home.path());
    command.args(&arguments);
    let again = Proxy::start(command).await;
    let id = head.value("x-tollgate-request-id").unwrap();
    let record = again.record(id).await.unwrap();
    assert_eq!(record["outcome"], "complete", "{record}");
    assert_eq!(record["usage"]["output"], 15);
}

#[tokio::test]
async fn sigterm_cuts_a_stream_that_is_longer_than_the_drain_and_books_it() {
    let home = TempDir::new().unwrap();
    let upstream = Upstream::start().await;
    let arguments = before(upstream.address);
    let mut command = tollgate(home.path());
    command
        .args(&arguments)
        .args(["--set", "server.drain_timeout=200ms"]);
    let mut proxy = Proxy::start(command).await;
    let mut client = Wire::connect(proxy.address).await;
    client.send(ask()).await;
    let (mut provider, _, _) = upstream.request().await;
    provider.send(stream_head("text/event-stream")).await;
    provider.send_chunk(START).await;
    let head = client.head().await;
    client.body_bytes(START.len()).await;
    proxy.process.terminate();
    assert!(!client.body().await.whole, "a cut, not an end");
    provider.rest().await;
    assert_eq!(proxy.process.ended().await.code(), Some(0));

    let mut command = tollgate(home.path());
    command.args(&arguments);
    let again = Proxy::start(command).await;
    let id = head.value("x-tollgate-request-id").unwrap();
    let record = again.record(id).await.unwrap();
    assert_eq!(record["outcome"], "interrupted", "{record}");
    assert_eq!(record["provenance"], "partial", "{record}");
    assert_eq!(record["usage"]["input"], 25, "{record}");
    let mut again = again;
    again.process.terminate();
    assert_eq!(again.process.ended().await.code(), Some(0));
}

/// Sets the largest file that a process may write; the disk is full beyond it.
fn limit_files(process: &Binary, bytes: &str) {
    let limited = Command::new("prlimit")
        .args([
            "--pid",
            &process.pid(),
            &format!("--fsize={bytes}:unlimited"),
        ])
        .status();
    assert!(limited.unwrap().success());
}

#[tokio::test]
async fn on_a_full_disk_requests_are_refused_until_there_is_room_again() {
    let home = TempDir::new().unwrap();
    let upstream = Upstream::start().await.answering(|_| json_answer(MESSAGE));
    let mut command = tollgate_with_full_disks(home.path());
    command.args(before(upstream.address));
    let proxy = Proxy::start(command).await;
    let (first, _) = proxy.ask(ask()).await;
    assert_eq!(first.status(), 200);
    assert_eq!(upstream.take().len(), 1);
    limit_files(&proxy.process, "0");
    for (path, pointer) in [
        ("/anthropic/v1/messages", "/error/message"),
        ("/openai/v1/chat/completions", "/error/message"),
        ("/gemini/v1beta/models/g:generateContent", "/error/message"),
        ("/ollama/api/chat", "/error"),
    ] {
        let (head, body) = proxy
            .ask(request(&format!("POST {path}"), &[], r#"{"model":"m"}"#))
            .await;
        assert_eq!(head.status(), 503, "{path}: {}", body.text());
        let json = body.json();
        let message = json.pointer(pointer).and_then(|text| text.as_str());
        assert!(
            message.is_some_and(|text| text.contains("ledger")),
            "{json}"
        );
    }
    assert!(upstream.take().is_empty(), "nothing is sent unrecorded");
    let (ready, _) = proxy.ask(request("GET /readyz", &[], "")).await;
    assert_eq!(ready.status(), 503);
    let (alive, _) = proxy.ask(request("GET /healthz", &[], "")).await;
    assert_eq!(alive.status(), 200);
    let metrics = proxy.get("/metrics").await.text();
    assert_eq!(sum_of_metric(&metrics, "tollgate_ledger_healthy", &[]), 0.0);

    limit_files(&proxy.process, "unlimited");
    let (head, _) = eventually("service", async || {
        let answer = proxy.ask(ask()).await;
        (answer.0.status() == 200).then_some(answer)
    })
    .await;
    for answer in [first, head] {
        let id = answer.value("x-tollgate-request-id").unwrap();
        let record = eventually("the record", async || proxy.record(id).await).await;
        assert_eq!(record["usage"]["input"], 21);
    }
    eventually("readiness", async || {
        let (ready, _) = proxy.ask(request("GET /readyz", &[], "")).await;
        (ready.status() == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_request_that_runs_when_the_disk_fills_up_is_booked_when_there_is_room() {
    let home = TempDir::new().unwrap();
    let upstream = Upstream::start().await;
    let mut command = tollgate_with_full_disks(home.path());
    command.args(before(upstream.address));
    let proxy = Proxy::start(command).await;
    let mut client = Wire::connect(proxy.address).await;
    client.send(ask()).await;
    let (mut provider, _, _) = upstream.request().await;
    limit_files(&proxy.process, "0");
    provider.send(json_answer(MESSAGE)).await;
    let (head, body) = client.message().await;
    assert_eq!((head.status(), body.text().as_str()), (200, MESSAGE));
    limit_files(&proxy.process, "unlimited");
    let id = head.value("x-tollgate-request-id").unwrap();
    let record = eventually("the record", async || {
        proxy
            .record(id)
            .await
            .filter(|record| record["outcome"] == "complete")
    })
    .await;
    assert_eq!(record["usage"]["input"], 21);
    assert_eq!(record["provenance"], "reported");
}

#[tokio::test]
async fn with_on_failure_pass_a_full_disk_stops_nobody_and_is_counted() {
    let home = TempDir::new().unwrap();
    let upstream = Upstream::start().await.answering(|_| json_answer(MESSAGE));
    let mut command = tollgate_with_full_disks(home.path());
    command
        .args(before(upstream.address))
        .args(["--set", "ledger.on_failure=pass"]);
    let proxy = Proxy::start(command).await;
    limit_files(&proxy.process, "0");
    for _ in 0..3 {
        let (head, body) = proxy.ask(ask()).await;
        assert_eq!((head.status(), body.text().as_str()), (200, MESSAGE));
    }
    let metrics = proxy.get("/metrics").await.text();
    assert_eq!(
        sum_of_metric(&metrics, "tollgate_unrecorded_requests_total", &[]),
        3.0
    );
    let (ready, _) = proxy.ask(request("GET /readyz", &[], "")).await;
    assert_eq!(ready.status(), 200);
    limit_files(&proxy.process, "unlimited");
    eventually("a recorded request", async || {
        let (head, _) = proxy.ask(ask()).await;
        let id = head.value("x-tollgate-request-id")?;
        proxy.record(id).await
    })
    .await;
}

/// A proxy that only knows CONNECT, sends every tunnel to one address, and remembers what it was asked for.
async fn connect_proxy(
    target: std::net::SocketAddr,
) -> (std::net::SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            let seen = Arc::clone(&seen);
            tokio::spawn(async move {
                let mut wire = Wire::new(io);
                let head = wire.head().await;
                seen.lock().unwrap().push(head.line);
                wire.send("HTTP/1.1 200 Connection established\r\n\r\n")
                    .await;
                let mut client = wire.into_io();
                let mut provider = TcpStream::connect(target).await.unwrap();
                tokio::io::copy_bidirectional(&mut client, &mut provider)
                    .await
                    .ok();
            });
        }
    });
    (address, asked)
}

#[tokio::test]
async fn https_proxy_is_used_and_no_proxy_goes_around_it() {
    let upstream = TlsUpstream::start(&["provider.test", "127.0.0.1"]).await;
    let (tunnel, asked) = connect_proxy(upstream.address).await;
    let home = TempDir::new().unwrap();
    let mut command = tollgate(home.path());
    command
        .args(before(upstream.address))
        .args([
            "--set",
            "providers.anthropic.base_url=https://provider.test:8443",
        ])
        .args([
            "--set",
            &format!("providers.openai.base_url=https://{}", upstream.address),
        ])
        .args([
            "--set",
            &format!("upstream.extra_ca_file={}", upstream.ca_file),
        ])
        .env("HTTPS_PROXY", format!("http://{tunnel}"))
        .env("NO_PROXY", "127.0.0.1,other.test");
    let proxy = Proxy::start(command).await;
    // The name exists only behind the tunnel.
    let (head, body) = proxy.ask(ask()).await;
    assert_eq!((head.status(), body.text().as_str()), (200, tls::MESSAGE));
    assert_eq!(
        *asked.lock().unwrap(),
        ["CONNECT provider.test:8443 HTTP/1.1"]
    );
    let (head, _) = proxy
        .ask(request(
            "POST /openai/v1/chat/completions",
            &[],
            r#"{"model":"m"}"#,
        ))
        .await;
    assert_eq!(head.status(), 200);
    assert_eq!(asked.lock().unwrap().len(), 1, "NO_PROXY goes around it");
}

#[tokio::test]
async fn a_proxy_that_refuses_the_tunnel_is_a_502() {
    let refusing = Upstream::start().await;
    let home = TempDir::new().unwrap();
    let mut command = tollgate(home.path());
    command
        .args(before(refusing.address))
        .args([
            "--set",
            "providers.anthropic.base_url=https://provider.test",
            "--set",
            "send.max_retries=0",
        ])
        .env("HTTPS_PROXY", format!("http://{}", refusing.address));
    let proxy = Proxy::start(command).await;
    let mut client = Wire::connect(proxy.address).await;
    client.send(ask()).await;
    let mut wire = refusing.accept().await;
    assert_eq!(wire.head().await.asks(), "CONNECT provider.test:443");
    wire.send("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
        .await;
    let (head, body) = client.message().await;
    assert_eq!(head.status(), 502);
    assert_eq!(body.json()["type"], "error");
}

#[tokio::test]
async fn keys_prompts_and_answers_appear_nowhere() {
    const SECRETS: [&str; 12] = [
        "KEYalphaX9",
        "KEYbetaX9",
        "KEYgammaX9",
        "KEYdeltaX9",
        "PROMPTepsilonX9",
        "PROMPTzetaX9",
        "ANSWERetaX9",
        "ANSWERthetaX9",
        "ERRORiotaX9",
        "COOKIEkappaX9",
        "NONJSONlambdaX9",
        "QUERYmuX9",
    ];
    let home = TempDir::new().unwrap();
    let upstream = Upstream::start().await.answering(|arrived| {
        if arrived.head.asks().contains("cut") {
            return b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\nconnection: close\r\n\r\nANSWERetaX9"
                .to_vec();
        }
        if arrived.head.asks().contains("nonsense") {
            return b"ERRORiotaX9 this is not HTTP\r\nconnection: close\r\n\r\n".to_vec();
        }
        if arrived.body.text().contains("stream") {
            let mut answer = stream_head("text/event-stream").into_bytes();
            answer.extend(chunk(START));
            answer.extend(chunk("event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"ANSWERthetaX9\"}}\n\n"));
            answer.extend(chunk("event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"ERRORiotaX9\"}}\n\n"));
            answer.extend_from_slice(LAST_CHUNK);
            return answer;
        }
        if arrived.body.text().contains("broken") {
            return answer(
                "401 Unauthorized",
                &[("content-type", "application/json")],
                r#"{"error":{"message":"bad key KEYbetaX9 ERRORiotaX9","type":"x","code":"invalid_api_key"}}"#,
            );
        }
        json_answer(MESSAGE.replace("[]", r#"[{"type":"text","text":"ANSWERetaX9"}]"#))
    });
    let mut command = tollgate(home.path());
    command
        .args(before(upstream.address))
        .args(["-vv", "--set", "server.max_body=20 KiB"]);
    let mut proxy = Proxy::start(command).await;
    let keys = [
        ("x-api-key", "KEYalphaX9"),
        ("authorization", "Bearer KEYbetaX9"),
        ("x-goog-api-key", "KEYgammaX9"),
        ("cookie", "session=COOKIEkappaX9"),
    ];
    let prompt = r#""messages":[{"role":"user","content":"PROMPTepsilonX9 please debug"}],"system":"PROMPTzetaX9","contents":[{"parts":[{"text":"PROMPTepsilonX9"}]}]"#;
    for (path, body) in [
        (
            "/anthropic/v1/messages",
            format!(r#"{{"model":"claude-sonnet-5-5",{prompt}}}"#),
        ),
        (
            "/anthropic/v1/messages",
            format!(r#"{{"model":"claude-sonnet-5-5","stream":true,{prompt}}}"#),
        ),
        (
            "/openai/v1/chat/completions",
            format!(r#"{{"model":"broken",{prompt}}}"#),
        ),
        (
            "/openai/v1/chat/completions",
            format!(r#"{{"model":"a","model":"b",{prompt}}}"#),
        ),
        (
            "/gemini/v1beta/models/g:generateContent?key=KEYdeltaX9",
            format!("{{{prompt}}}"),
        ),
        (
            "/openai/v1/chat/completions",
            "NONJSONlambdaX9 {{{".to_owned(),
        ),
        ("/openai/v1/cut?x=QUERYmuX9", String::new()),
        ("/openai/v1/nonsense?x=QUERYmuX9", String::new()),
        ("/nowhere/v1/x?key=KEYdeltaX9", String::new()),
        (
            "/anthropic/v1/messages",
            format!("PROMPTzetaX9{}", " ".repeat(30_000)),
        ),
    ] {
        proxy
            .ask(request(&format!("POST {path}"), &keys, body))
            .await;
    }
    // Bad heads too: a parser's error may quote what it could not read.
    let mut client = Wire::connect(proxy.address).await;
    client
        .send(
            "GET /openai/v1/models?k=KEYdeltaX9 HTTP/1.1\r\nauthorization Bearer KEYbetaX9\r\n\r\n",
        )
        .await;
    client.rest().await;
    let mut seen = String::new();
    for path in [
        "/metrics",
        "/api/v1/usage?by=session,model,key,agent,task,outcome,phase,provider",
        "/readyz",
        "/",
    ] {
        seen.push_str(&proxy.get(path).await.text());
    }
    proxy.process.terminate();
    assert_eq!(proxy.process.ended().await.code(), Some(0));
    let log = proxy.process.log();
    assert!(
        log.contains("TRACE") || log.contains("DEBUG") || log.contains("INFO"),
        "{log}"
    );
    seen.push_str(&log);
    seen.push_str(&proxy.process.output());
    for secret in SECRETS {
        assert!(!seen.contains(secret), "{secret} in {seen}");
        for (path, bytes) in files(home.path()) {
            assert!(
                memchr::memmem::find(&bytes, secret.as_bytes()).is_none(),
                "{secret} in {}",
                path.display()
            );
        }
    }
}
