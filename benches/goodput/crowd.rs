//! All sessions at work: who asks how often, and what became of every job.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::client::{Caller, End, Priority};
use crate::job::Job;

/// How long a worker whose job has failed waits before its next one.
pub(crate) const AFTER_FAILURE: Duration = Duration::from_millis(500);

/// How often a session asks.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Demand {
    /// So many workers, each with one job after the other.
    Workers(usize),
    /// So many jobs at once, again and again after this time, whatever became of those before.
    Every(Duration, usize),
}

/// One session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Session {
    /// How urgent all its jobs are.
    pub(crate) priority: Priority,
    /// How often it asks.
    pub(crate) demand: Demand,
    /// When it begins.
    pub(crate) begins: Duration,
}

/// What became of one job.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// Whose it was.
    pub(crate) session: usize,
    /// How urgent.
    pub(crate) priority: Priority,
    /// What.
    pub(crate) job: Job,
    /// When it ended, since the run began.
    pub(crate) ended: Duration,
    /// How long it took, attempts and pauses together.
    pub(crate) took: Duration,
    /// How it ended.
    pub(crate) end: End,
}

struct Work {
    caller: Caller,
    began: Instant,
    count: AtomicU64,
    outcomes: mpsc::UnboundedSender<Outcome>,
}

impl Work {
    /// Does one job and tells whether it succeeded.
    async fn job(&self, session: usize, priority: Priority, job: Job) -> anyhow::Result<bool> {
        let unique = self.count.fetch_add(1, Ordering::Relaxed);
        let asked = Instant::now();
        let end = self.caller.work(job, session, priority, unique).await?;
        let done = end == End::Done;
        // Nobody listens any more only if the run has failed.
        let _ = self.outcomes.send(Outcome {
            session,
            priority,
            job,
            ended: self.began.elapsed(),
            took: asked.elapsed(),
            end,
        });
        Ok(done)
    }

    async fn session(
        self: Arc<Self>,
        number: usize,
        session: Session,
        end: Instant,
    ) -> anyhow::Result<()> {
        sleep_until(self.began + session.begins).await;
        let mut tasks = JoinSet::new();
        match session.demand {
            Demand::Workers(workers) => {
                for worker in 0..workers {
                    let work = Arc::clone(&self);
                    tasks.spawn(async move {
                        // No two workers begin with the same job.
                        for count in number + worker.. {
                            if Instant::now() >= end {
                                break;
                            }
                            if !work.job(number, session.priority, Job::nth(count)).await? {
                                sleep(AFTER_FAILURE).await;
                            }
                        }
                        anyhow::Ok(())
                    });
                }
            }
            Demand::Every(gap, jobs) => {
                let mut count = number;
                let mut next = Instant::now();
                while next < end {
                    for _ in 0..jobs {
                        let work = Arc::clone(&self);
                        let job = Job::nth(count);
                        count += 1;
                        tasks.spawn(async move {
                            work.job(number, session.priority, job).await.map(drop)
                        });
                    }
                    next += gap;
                    sleep_until(next).await;
                }
            }
        }
        while let Some(task) = tasks.join_next().await {
            task??;
        }
        Ok(())
    }
}

/// Lets all sessions work from `began` until `end`, and waits for what is under way then.
pub(crate) async fn work(
    caller: Caller,
    sessions: &[Session],
    began: Instant,
    end: Instant,
) -> anyhow::Result<Vec<Outcome>> {
    let (outcomes, mut told) = mpsc::unbounded_channel();
    let work = Arc::new(Work {
        caller,
        began,
        count: AtomicU64::new(1),
        outcomes,
    });
    let mut tasks = JoinSet::new();
    for (number, session) in sessions.iter().enumerate() {
        tasks.spawn(Arc::clone(&work).session(number, *session, end));
    }
    drop(work);
    let mut all = Vec::new();
    while let Some(outcome) = told.recv().await {
        all.push(outcome);
    }
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    Ok(all)
}
