//! What a reader needs to know of the machine and the build to compare figures.

use std::fs;
use std::path::Path;
use std::process::Command;

/// The lines above the table.
pub(crate) fn describe(ledger: &Path) -> Vec<(&'static str, String)> {
    let read = |path: &str| {
        fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown processor", |(_, model)| model.trim());
    vec![
        ("date", jiff::Zoned::now().date().to_string()),
        (
            "machine",
            format!(
                "{model}, {processors} cores, {}",
                memory(&read("/proc/meminfo"))
            ),
        ),
        (
            "kernel",
            format!("Linux {}", read("/proc/sys/kernel/osrelease")),
        ),
        ("rustc", said("rustc", &["--version"])),
        ("commit", commit()),
        (
            "ledger on",
            filesystem(&read("/proc/self/mountinfo"), ledger),
        ),
        ("load average before", read("/proc/loadavg")),
    ]
}

fn memory(meminfo: &str) -> String {
    meminfo
        .lines()
        .find_map(|line| {
            line.strip_prefix("MemTotal:")?
                .trim()
                .strip_suffix(" kB")?
                .parse::<u64>()
                .ok()
        })
        .map_or_else(
            || "unknown memory".to_owned(),
            |kib| format!("{:.0} GiB", kib as f64 / 1024.0 / 1024.0),
        )
}

fn commit() -> String {
    let root = env!("CARGO_MANIFEST_DIR");
    let commit = said("git", &["-C", root, "rev-parse", "--short=12", "HEAD"]);
    let changed = said(
        "git",
        &["-C", root, "status", "--porcelain", "--untracked-files=no"],
    );
    if changed.is_empty() {
        commit
    } else {
        format!("{commit} with changes")
    }
}

fn said(program: &str, arguments: &[&str]) -> String {
    Command::new(program)
        .args(arguments)
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_else(|_| "unknown".to_owned())
}

/// The type of the file system that a directory is on: that of the longest mount point above it.
fn filesystem(mountinfo: &str, directory: &Path) -> String {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (mount, kind) = line.split_once(" - ")?;
            Some((mount.split(' ').nth(4)?, kind.split(' ').next()?))
        })
        .filter(|(point, _)| directory.starts_with(point))
        .max_by_key(|(point, _)| point.len())
        .map_or_else(
            || "unknown file system".to_owned(),
            |(_, kind)| kind.to_owned(),
        )
}
