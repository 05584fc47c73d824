//! What a simulated provider is started with.

use std::time::Duration;

use super::behaviour::Behaviour;
use super::limits::Limits;
use super::script::Script;

/// Ready values; the command line and tests fill them.
#[derive(Debug)]
pub struct SimulateSettings {
    /// How answers behave unless the script or the request says otherwise.
    pub defaults: Behaviour,
    /// Rules that change that, by request and time.
    pub script: Script,
    /// What callers may use, and what happens beyond it.
    pub limits: Limits,
    /// Whether models refuse what the real ones would.
    pub strict: bool,
    /// How many finished requests `GET /_simulate/requests` can tell about; older ones are forgotten.
    pub keep_requests: usize,
    /// How long running answers may go on after the shutdown was asked for.
    pub drain: Duration,
}

impl Default for SimulateSettings {
    fn default() -> Self {
        Self {
            defaults: Behaviour::default(),
            script: Script::default(),
            limits: Limits::default(),
            strict: false,
            keep_requests: 10_000,
            drain: Duration::from_secs(1),
        }
    }
}
