//! Follows the files that may change while the process runs: clients' keys, the certificate. Looked at beside the
//! requests, so that none of them waits for a disk.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use super::tls::Tls;
use crate::config::settings::AuthMode;
use crate::keys::Refreshed;
use crate::proxy::Gate;

/// How often the files are looked at: a revocation takes effect within about so long.
const PAUSE: Duration = Duration::from_secs(1);

/// Looks at the files for as long as it is asked to.
pub(super) async fn files(gate: &Arc<Gate>, tls: Option<Tls>) -> Infallible {
    if tls.is_none() && gate.settings.auth.mode == AuthMode::Passthrough {
        return std::future::pending().await;
    }
    loop {
        tokio::time::sleep(PAUSE).await;
        let (gate, tls) = (Arc::clone(gate), tls.clone());
        // A look that panics is no reason to stop looking.
        let _ = tokio::task::spawn_blocking(move || look(&gate, tls.as_ref())).await;
    }
}

fn look(gate: &Gate, tls: Option<&Tls>) {
    match gate.keys.refresh() {
        Ok(Refreshed::Unchanged) => {}
        Ok(Refreshed::Read(keys)) => tracing::info!(keys, "the keys file was read anew"),
        Err(error) => tracing::error!(
            error = &error as &dyn Error,
            "the keys file cannot be used; the last good keys stay in force, so nothing that was changed since applies"
        ),
    }
    match tls.map_or(Ok(false), Tls::refresh) {
        Ok(false) => {}
        Ok(true) => tracing::info!("the certificate was read anew"),
        Err(error) => tracing::error!(
            error = &error as &dyn Error,
            "the changed certificate cannot be used; the last good one stays"
        ),
    }
}
