//! Everything that runs for a client: connections, HTTP/2 streams, spliced WebSockets. The end of the process waits for
//! it, or cuts it off and still sees it booked.

use std::future::Future;

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

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        self.spawn(task);
    }
}
