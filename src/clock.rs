//! The calendar's clock: Unix milliseconds. The system's in the program, a manual one in tests.
//!
//! Intervals are measured with `std::time::Instant` where they are taken; this clock is for dates and windows, because
//! monotonic time stops while a laptop sleeps.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// A source of Unix milliseconds, cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Clock {
    /// The system's clock. Before 1970 it stands at zero.
    pub fn system() -> Self {
        Self::from_fn(|| {
            let since = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
    }

    /// Any other source, for tests.
    pub fn from_fn(unix_ms: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(unix_ms))
    }

    /// Now, in Unix milliseconds.
    pub fn unix_ms(&self) -> u64 {
        (self.0)()
    }

    /// The source as a plain function, for parts that take one.
    pub fn source(&self) -> Arc<dyn Fn() -> u64 + Send + Sync> {
        Arc::clone(&self.0)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
