//! Where log lines go and how they look: standard error, as text for people or JSON for machines.

use std::io::{IsTerminal as _, stderr};

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt;

use crate::config::settings::{LogFormat, LogLevel, LogSettings};

/// Starts logging for this process. A second start changes nothing.
pub fn start(settings: &LogSettings) {
    let level = match settings.level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // The libraries below tollgate have nothing to say that an operator needs, and at their lowest level some print the
    // bytes of requests; keys and prompts must never get here.
    let filter = tracing_subscriber::filter::Targets::new().with_target("tollgate", level);
    let lines = fmt::layer().with_writer(stderr).with_target(false);
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::util::SubscriberInitExt as _;
    let registry = tracing_subscriber::registry().with(filter);
    let started = match settings.format {
        LogFormat::Text => registry
            .with(lines.with_ansi(stderr().is_terminal()))
            .try_init(),
        LogFormat::Json => registry.with(lines.json()).try_init(),
    };
    // Only tests start logging twice.
    drop(started);
}
