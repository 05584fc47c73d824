//! The real binary as a child process: started with a home of its own, watched, and never left behind.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::wire::{Body, Head, Wire, eventually, request, within};

/// The binary without this process's settings; its home, and thus its ledger, is in a folder.
pub(crate) fn tollgate(home: &Path) -> Command {
    with_program(env!("CARGO_BIN_EXE_tollgate"), home)
}

/// The binary under a shell that lets it see a full disk as an error instead of a signal.
pub(crate) fn tollgate_with_full_disks(home: &Path) -> Command {
    let mut command = with_program("/bin/sh", home);
    command
        .arg("-c")
        .arg(r#"trap '' XFSZ; exec "$0" "$@""#)
        .arg(env!("CARGO_BIN_EXE_tollgate"));
    command
}

fn with_program(program: &str, home: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Arguments of a proxy whose providers are all this one.
pub(crate) fn before(upstream: SocketAddr) -> Vec<String> {
    let mut arguments = vec!["serve".into(), "--listen".into(), "127.0.0.1:0".into()];
    for name in ["anthropic", "openai", "gemini", "ollama", "openrouter"] {
        arguments.push("--set".into());
        arguments.push(format!("providers.{name}.base_url=http://{upstream}"));
    }
    arguments
}

/// A child process; killed when dropped.
#[derive(Debug)]
pub(crate) struct Binary {
    child: Child,
    stderr: Arc<Mutex<Vec<u8>>>,
    stdout: Arc<Mutex<Vec<u8>>>,
}

/// A proxy that has said where it listens.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) process: Binary,
    pub(crate) address: SocketAddr,
}

impl Binary {
    /// Starts a command.
    pub(crate) fn spawn(mut command: Command) -> (Self, oneshot::Receiver<String>) {
        let mut child = command.spawn().expect("the binary starts");
        let (first_line, line) = oneshot::channel();
        let stdout = Arc::new(Mutex::new(Vec::new()));
        let stderr = Arc::new(Mutex::new(Vec::new()));
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        let kept = Arc::clone(&stdout);
        std::thread::spawn(move || {
            let mut line = String::new();
            if out.read_line(&mut line).is_ok_and(|count| count > 0) {
                keep(&kept, line.as_bytes());
                first_line.send(line).ok();
            }
            let mut buffer = [0; 8_192];
            while let Ok(count @ 1..) = out.read(&mut buffer) {
                keep(&kept, &buffer[..count]);
            }
        });
        let mut errors = child.stderr.take().expect("piped");
        let kept = Arc::clone(&stderr);
        std::thread::spawn(move || {
            let mut buffer = [0; 8_192];
            while let Ok(count @ 1..) = errors.read(&mut buffer) {
                keep(&kept, &buffer[..count]);
            }
        });
        let binary = Self {
            child,
            stderr,
            stdout,
        };
        (binary, line)
    }

    /// What it has written to standard error so far.
    pub(crate) fn log(&self) -> String {
        let stderr = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&stderr).into_owned()
    }

    /// What it has written to standard output so far.
    pub(crate) fn output(&self) -> String {
        let stdout = self.stdout.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&stdout).into_owned()
    }

    pub(crate) fn pid(&self) -> String {
        self.child.id().to_string()
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually("the process's end", async || {
            child.try_wait().expect("our own child")
        })
        .await
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        let sent = Command::new("kill").args(["-TERM", &self.pid()]).status();
        assert!(sent.expect("there is a kill command").success());
    }

    /// Ends it at once, as a crash would.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().expect("our own child");
        self.ended().await;
    }
}

fn keep(kept: &Mutex<Vec<u8>>, bytes: &[u8]) {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    kept.extend_from_slice(bytes);
}

impl Drop for Binary {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Proxy {
    /// Starts a proxy and waits until it listens.
    pub(crate) async fn start(command: Command) -> Self {
        let (process, line) = Binary::spawn(command);
        let Ok(line) = within("the address", line).await else {
            // The log's last words may still be on their way.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            panic!("the proxy did not start: {}", process.log());
        };
        let address = line.trim().strip_prefix("listening on ");
        let address = address.and_then(|url| Some(url.split_once("://")?.1));
        let address = address.unwrap_or_else(|| panic!("{line:?}"));
        let address = address.parse().expect("an address");
        Self { process, address }
    }

    /// A request on a connection of its own.
    pub(crate) async fn ask(&self, request: impl AsRef<[u8]>) -> (Head, Body) {
        let mut wire = Wire::connect(self.address).await;
        wire.send(request).await;
        wire.message().await
    }

    /// One of the proxy's own addresses.
    pub(crate) async fn get(&self, path: &str) -> Body {
        self.ask(request(&format!("GET {path}"), &[], "")).await.1
    }

    /// One record as JSON, or `None` if the ledger has none of that id.
    pub(crate) async fn record(&self, id: &str) -> Option<serde_json::Value> {
        let path = format!("GET /api/v1/requests/{id}");
        let (head, body) = self.ask(request(&path, &[], "")).await;
        match head.status() {
            200 => Some(body.json()),
            404 => None,
            status => panic!("{status} {}", body.text()),
        }
    }
}

/// Runs a command that should end by itself: exit code, standard output, standard error.
pub(crate) async fn run(command: Command) -> (Option<i32>, String, String) {
    let (mut process, _) = Binary::spawn(command);
    let status = process.ended().await;
    // The readers have everything once the pipes are closed, which the end of the process does.
    let (mut out, mut log) = (process.output(), process.log());
    for _ in 0..20 {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        (out, log) = (process.output(), process.log());
    }
    (status.code(), out, log)
}
