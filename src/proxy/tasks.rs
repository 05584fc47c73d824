//! Everything that runs for a client: connections, HTTP/2 streams, spliced WebSockets. The end of the process waits for
//! it, or cuts it off and still sees it booked.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The running tasks. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    cut: CancellationToken,
}

impl Tasks {
    /// Runs something for a client. Once everything has been told to end, it is dropped instead of going on.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let cut = self.cut.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                biased;
                () = task => {}
                () = cut.cancelled() => {}
            }
        });
    }

    /// How much is running.
    pub fn count(&self) -> usize {
        self.tracker.len()
    }

    /// Waits until everything has ended by itself.
    pub async fn finish(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Tells everything to end now, and waits for it.
    pub async fn cut(&self) {
        self.cut.cancel();
        self.finish().await;
    }

    /// Whether everything has been told to end.
    pub fn is_cut(&self) -> bool {
        self.cut.is_cancelled()
    }
}

/// Runs the streams of HTTP/2 connections, each within the time limit for a client that takes nothing.
///
/// On HTTP/1 such a client blocks its connection, which is noticed there. An HTTP/2 client can keep its connection alive
/// and still give a stream no window; hyper then asks the stream's body for nothing, so no limit in the body can fire.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    pub(crate) tasks: Tasks,
    /// Longest time that a client may leave a frame untaken.
    pub(crate) write_limit: Duration,
}

tokio::task_local! {
    /// Since when the stream of this task has had a frame that its client has not taken; `None` while it waits for the
    /// provider.
    static UNTAKEN: Arc<Mutex<Option<Instant>>>;
}

/// Notes whether the answer of the running HTTP/2 stream has given a frame or waits for the provider.
pub(super) fn note_frame(given: bool) {
    // On HTTP/1 there is nothing to note.
    let _ = UNTAKEN.try_with(|untaken| {
        *untaken.lock().unwrap_or_else(PoisonError::into_inner) = given.then(Instant::now);
    });
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let untaken = Arc::<Mutex<Option<Instant>>>::default();
        let (seen, limit) = (Arc::clone(&untaken), self.write_limit);
        self.tasks.spawn(UNTAKEN.scope(untaken, async move {
            tokio::select! {
                () = stream => {}
                () = left_untaken(&seen, limit) => {}
            }
        }));
    }
}

/// Done when a frame has been left untaken for too long.
async fn left_untaken(untaken: &Mutex<Option<Instant>>, limit: Duration) {
    let mut look = Instant::now() + limit;
    loop {
        tokio::time::sleep_until(look).await;
        let since = *untaken.lock().unwrap_or_else(PoisonError::into_inner);
        look = since.unwrap_or_else(Instant::now) + limit;
        if look <= Instant::now() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::rt::Executor as _;

    #[tokio::test(start_paused = true)]
    async fn a_stream_whose_client_takes_nothing_ends_and_one_that_waits_for_its_provider_goes_on()
    {
        let streams = Streams {
            tasks: Tasks::default(),
            write_limit: Duration::from_secs(5),
        };
        for given in [true, false] {
            streams.execute(async move {
                note_frame(given);
                std::future::pending().await
            });
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(streams.tasks.count(), 1);
    }
}
