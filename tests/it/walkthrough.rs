//! The worked examples of `docs`, followed to the letter: their commands are run in a shell, against the real binary, and
//! must print what the page shows. What differs from run to run (times, durations, ids of keys) is not compared.
//!
//! With `BLESS=1` in the environment a page gets what was printed instead.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;

use crate::binary::Binary;
use crate::rig::*;

/// Follows every command's output.
const END: &str = "-- end of command --";

/// The addresses that the page uses.
const ADDRESSES: [&str; 2] = ["127.0.0.1:8402", "127.0.0.1:8403"];

fn page(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs")
        .join(name)
}

/// A part of the page.
#[derive(Debug)]
enum Part {
    /// What a person reads.
    Prose(String),
    /// ```` ```sh ````: a program that goes on, or commands that print nothing.
    Script(String),
    /// ```` ```console ````: commands, each with what it prints.
    Session(Vec<(String, String)>),
    /// ```` ```text ````: what the proxy logs.
    Log(String),
}

fn parts(page: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rest = page;
    while let Some((prose, fenced)) = rest.split_once("```") {
        let (block, after) = fenced.split_once("\n```\n").expect("a fence is closed");
        let (language, text) = block.split_once('\n').expect("a fence is not empty");
        parts.push(Part::Prose(prose.to_owned()));
        parts.push(match language {
            "sh" => Part::Script(text.to_owned()),
            "console" => Part::Session(commands(text)),
            "text" => Part::Log(text.to_owned()),
            "toml" => Part::Prose(format!("```{block}\n```\n")),
            other => panic!("who runs ```{other}?"),
        });
        rest = after;
    }
    parts.push(Part::Prose(rest.to_owned()));
    parts
}

fn commands(text: &str) -> Vec<(String, String)> {
    let mut commands: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            commands.push((command.to_owned(), String::new()));
        } else {
            let (command, output) = commands.last_mut().expect("a session begins with $");
            match line.strip_prefix("> ") {
                Some(more) => write!(command, "\n{more}").unwrap(),
                None => writeln!(output, "{line}").unwrap(),
            }
        }
    }
    commands
}

/// A person's shell.
struct Shell {
    child: Child,
    input: ChildStdin,
    output: mpsc::Receiver<String>,
}

impl Shell {
    fn start(folder: &Path) -> Self {
        let mut child = in_folder("bash", folder);
        child.stdin(Stdio::piped());
        let mut child = child.spawn().expect("there is a bash");
        let (line, output) = mpsc::channel();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        std::thread::spawn(move || {
            lines
                .map_while(Result::ok)
                .try_for_each(|text| line.send(text))
        });
        let mut input = child.stdin.take().unwrap();
        writeln!(input, "exec 2>&1").unwrap();
        Self {
            child,
            input,
            output,
        }
    }

    /// What a command prints.
    fn run(&mut self, command: &str) -> String {
        writeln!(self.input, "{command}\necho '{END}'").unwrap();
        let mut printed = String::new();
        loop {
            let line = self.output.recv_timeout(Duration::from_secs(30));
            let line = line.unwrap_or_else(|_| panic!("{command} does not end; so far: {printed}"));
            match line.strip_suffix(END) {
                Some(begun) => return printed + begun,
                None => writeln!(printed, "{line}").unwrap(),
            }
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn in_folder(program: &str, folder: &Path) -> Command {
    let binary = Path::new(env!("CARGO_BIN_EXE_tollgate"));
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(program);
    command
        .env_clear()
        .env(
            "PATH",
            format!("{}:{path}", binary.parent().unwrap().display()),
        )
        .env("HOME", folder)
        .env("TZ", "UTC")
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A program of the page that goes on.
async fn start(line: &str, folder: &Path) -> Binary {
    let mut command = in_folder("bash", folder);
    command.arg("-c").arg(format!("exec {line}"));
    let (process, first_line) = Binary::spawn(command);
    let first_line = within("the address", first_line).await;
    assert!(first_line.is_ok(), "{line}: {}", process.log());
    process
}

/// What a text says apart from when it was said: clocks, dates, durations and ids of keys are left out.
fn lasting(text: &str) -> String {
    let all_numbers =
        |word: &str, between| word.contains(between) && word.split(between).all(is_number);
    let is_id = |word: &str| word.len() == 12 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_duration = |word: &str| {
        let number = word.trim_end_matches(|unit: char| unit.is_ascii_lowercase());
        number != word && is_number(number)
    };
    let mut words: Vec<&str> = Vec::new();
    let mut rest = text.split_whitespace().peekable();
    while let Some(word) = rest.next() {
        let bare = word.trim_end_matches([',', '.', ';']);
        let in_minutes = is_number(bare) && rest.peek().is_some_and(|next| next.starts_with("min"));
        let is_time =
            all_numbers(bare, ':') || all_numbers(bare, '-') || is_duration(bare) || in_minutes;
        if is_id(word) {
            words.push("(id)");
        } else if !is_time {
            words.push(word);
        } else if words.last() != Some(&"(time)") {
            // A duration of two words is a time as one of one word is.
            words.push("(time)");
        }
    }
    words.join(" ")
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[tokio::test]
async fn the_page_about_levels_shows_what_the_program_does() {
    follow("walkthrough-levels.md").await;
}

#[tokio::test]
async fn the_page_about_keys_shows_what_the_program_does() {
    follow("keys.md").await;
}

async fn follow(name: &str) {
    let page = page(name);
    let text = std::fs::read_to_string(&page).unwrap();
    let free: Vec<String> = ADDRESSES
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .iter()
        .map(|listener| listener.local_addr().unwrap().to_string())
        .collect();
    let here = |text: &str| {
        let pairs = ADDRESSES.iter().zip(&free);
        pairs.fold(text.to_owned(), |text, (on_page, free)| {
            text.replace(on_page, free)
        })
    };
    let home = TempDir::new().unwrap();
    let mut shell = Shell::start(home.path());
    let mut running: Vec<(String, Binary)> = Vec::new();
    let (mut printed, mut wrong) = (String::new(), String::new());
    for part in parts(&text) {
        match part {
            Part::Prose(prose) => printed.push_str(&prose),
            Part::Script(script) => {
                if script.starts_with("tollgate") {
                    if let Some(place) = running.iter().position(|(line, _)| *line == script) {
                        // A second time: after a crash.
                        running.remove(place).1.kill().await;
                    }
                    let process = start(&here(&script), home.path()).await;
                    running.push((script.clone(), process));
                } else {
                    let said = shell.run(&here(&script));
                    assert_eq!(said, "", "a script prints nothing: {script}");
                }
                write!(printed, "```sh\n{script}\n```\n").unwrap();
            }
            Part::Session(commands) => {
                printed.push_str("```console\n");
                for (command, expected) in commands {
                    let mut said = shell.run(&here(&command));
                    for (on_page, free) in ADDRESSES.iter().zip(&free) {
                        said = said.replace(free, on_page);
                    }
                    if lasting(&said) != lasting(&expected) {
                        write!(wrong, "$ {command}\nprints\n{said}and not\n{expected}\n").unwrap();
                    }
                    writeln!(printed, "$ {}\n{said}", command.replace('\n', "\n> ")).unwrap();
                    printed.pop();
                }
                printed.push_str("```\n");
            }
            Part::Log(log) => {
                let (_, proxy) = running.last().expect("the proxy runs");
                for line in log.lines() {
                    let times = log.lines().filter(|other| *other == line).count();
                    eventually("a line of the log", async || {
                        (proxy.log().matches(line).count() == times).then_some(())
                    })
                    .await;
                }
                write!(printed, "```text\n{log}\n```\n").unwrap();
            }
        }
    }
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&page, printed).unwrap();
    }
    assert_eq!(wrong, "", "what the page shows is not what happens");
}
