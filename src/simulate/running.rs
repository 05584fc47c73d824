//! The script that runs, and the time since it began: since the start, or since it was put in place or rewound.

use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::behaviour::Behaviour;
use super::script::Script;

/// A script with its clock.
#[derive(Debug)]
pub(super) struct Running {
    inner: RwLock<Inner>,
    changed: Notify,
}

#[derive(Debug)]
struct Inner {
    script: Script,
    began: Instant,
}

impl Running {
    /// Begins now.
    pub(super) fn new(script: Script) -> Self {
        Self {
            inner: RwLock::new(Inner {
                script,
                began: Instant::now(),
            }),
            changed: Notify::new(),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lays every rule that applies to this request over `behaviour`, and counts the request.
    pub(super) fn apply(&self, behaviour: &mut Behaviour, path: &str, model: &str) {
        let inner = self.read();
        let elapsed = inner.began.elapsed();
        inner.script.apply(behaviour, path, model, elapsed);
    }

    /// Puts another script in place, which begins now.
    pub(super) fn replace(&self, script: Script) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        *inner = Inner {
            script,
            began: Instant::now(),
        };
        drop(inner);
        self.changed.notify_one();
    }

    /// Begins again: counts and clock.
    pub(super) fn rewind(&self) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.script.rewind();
        inner.began = Instant::now();
        drop(inner);
        self.changed.notify_one();
    }

    /// The outage that is or comes next: when it begins and when it ends.
    pub(super) fn outage(&self) -> Option<(Instant, Instant)> {
        let inner = self.read();
        let outage = inner.script.outage(inner.began.elapsed())?;
        Some((inner.began + outage.start, inner.began + outage.end))
    }

    /// Waits until the script or its clock has changed.
    ///
    /// # Cancel safety
    /// A change is told to the next one who waits, if nobody waits now.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn windows_count_from_the_start_and_again_after_a_rewind() {
        let script =
            "[[rule]]\nmatch = { from = \"2s\", until = \"4s\" }\nanswer = { status = 529 }";
        let running = Running::new(script.parse().unwrap());
        let fails = || {
            let mut behaviour = Behaviour::default();
            running.apply(&mut behaviour, "/x", "m");
            behaviour.status.is_some()
        };
        assert!(!fails());
        tokio::time::advance(Duration::from_secs(3)).await;
        assert!(fails());
        running.rewind();
        assert!(!fails());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(fails());
        running.replace(Script::default());
        assert!(!fails());
    }
}
