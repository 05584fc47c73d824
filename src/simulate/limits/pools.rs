//! All pools of a provider: found by credential and class, each behind one lock, and the permit that a request holds
//! from its admission to the end of its answer.
//!
//! Credentials are told apart by a short hash and kept nowhere.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::request::Parts;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::need::{Exceeded, Need};
use super::pool::Pool;
use super::{ClassLimits, Limits};
use crate::simulate::standing::Standing;

/// How many pools there are at most, so that nobody can fill the memory with names; what comes after shares one.
const MAX_POOLS: usize = 1_000;

/// The headers that carry credentials.
const CREDENTIALS: [&str; 4] = ["authorization", "x-api-key", "x-goog-api-key", "api-key"];

/// All pools of one provider.
#[derive(Debug)]
pub(in crate::simulate) struct Pools {
    began: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    limits: Limits,
    pools: HashMap<(String, String), Arc<Mutex<Pool>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Levels and counts: a panic elsewhere leaves them usable.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pools {
    /// Full ones with these limits.
    pub(in crate::simulate) fn new(limits: Limits) -> Self {
        Self {
            began: Instant::now(),
            inner: Mutex::new(Inner {
                limits,
                pools: HashMap::new(),
            }),
        }
    }

    /// Puts other limits in place. Whatever is in flight no longer counts.
    pub(in crate::simulate) fn replace(&self, limits: Limits) {
        let mut inner = lock(&self.inner);
        inner.limits = limits;
        inner.pools.clear();
    }

    /// Fills all buckets and forgets all counts.
    pub(in crate::simulate) fn reset(&self) {
        let now = self.began.elapsed();
        for pool in lock(&self.inner).pools.values() {
            lock(pool).reset(now);
        }
    }

    /// The pool of this credential and model; `None` where nothing is limited.
    pub(in crate::simulate) fn of(&self, head: &Parts, model: &str) -> Option<Place> {
        let mut inner = lock(&self.inner);
        let Inner { limits, pools } = &mut *inner;
        let (class, rules) = limits.class_of(model)?;
        let mut key = (fingerprint(head), class.to_owned());
        if pools.len() >= MAX_POOLS && !pools.contains_key(&key) {
            key = ("(other)".to_owned(), "(other)".to_owned());
        }
        let pool = pools.entry(key).or_insert_with(|| {
            let pool = Pool::new(rules.clone(), limits.minute, self.began.elapsed());
            Arc::new(Mutex::new(pool))
        });
        Some(Place {
            began: self.began,
            rules: rules.clone(),
            pool: Arc::clone(pool),
        })
    }

    /// Counts and levels of every pool, as `GET /_simulate/limits` shows them.
    pub(in crate::simulate) fn to_json(&self) -> Value {
        let now = self.began.elapsed();
        let inner = lock(&self.inner);
        let mut pools: Vec<_> = inner.pools.iter().collect();
        pools.sort_by_key(|(key, _)| *key);
        let pools: Vec<Value> = pools
            .into_iter()
            .map(|((credential, class), pool)| {
                let mut told = lock(pool).tell(now);
                told["credential"] = json!(credential);
                told["class"] = json!(class);
                told
            })
            .collect();
        json!({ "minute_ms": inner.limits.minute.as_millis() as u64, "pools": pools })
    }
}

/// A pool that was found for a request.
#[derive(Debug)]
pub(in crate::simulate) struct Place {
    began: Instant,
    /// Its limits.
    pub(in crate::simulate) rules: ClassLimits,
    pool: Arc<Mutex<Pool>>,
}

impl Place {
    /// Lets the request through, or says by which limit it is not; and what the answer's headers say.
    pub(in crate::simulate) fn admit(self, need: Need) -> (Result<Permit, Exceeded>, Standing) {
        let now = self.began.elapsed();
        let mut pool = lock(&self.pool);
        let admitted = pool.admit(need, now);
        let standing = pool.standing(now);
        drop(pool);
        let permit = admitted.map(|()| Permit {
            began: self.began,
            pool: self.pool,
            need,
            written: 0,
        });
        (permit, standing)
    }
}

/// A request's place in its pool. Dropped, it settles what was written.
#[derive(Debug)]
pub(in crate::simulate) struct Permit {
    began: Instant,
    pool: Arc<Mutex<Pool>>,
    need: Need,
    written: u64,
}

impl Permit {
    /// Ends it after so many output tokens.
    pub(in crate::simulate) fn settle(mut self, written: u64) {
        self.written = written;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let now: Duration = self.began.elapsed();
        lock(&self.pool).settle(self.need, self.written, now);
    }
}

/// A short hash of what identifies the caller; `none` without any.
fn fingerprint(head: &Parts) -> String {
    let in_headers = CREDENTIALS
        .iter()
        .find_map(|name| head.headers.get(*name))
        .map(|value| value.as_bytes());
    let query = head.uri.query().unwrap_or("");
    let in_query = || query.split('&').find_map(|pair| pair.strip_prefix("key="));
    let Some(credential) = in_headers.or_else(|| in_query().map(str::as_bytes)) else {
        return "none".to_owned();
    };
    let digest = Sha256::digest(credential);
    digest[..4]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn head(key: &str) -> Parts {
        let request = http::Request::post("/v1/messages").header("x-api-key", key);
        request.body(()).unwrap().into_parts().0
    }

    fn pools(limits: &str) -> Pools {
        Pools::new(limits.parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn each_credential_and_class_has_its_own_limits() {
        let pools = pools("[class.\"*\"]\nconcurrency = 1\n[class.\"a-*\"]\nconcurrency = 1");
        let admit = |key: &str, model: &str| {
            pools
                .of(&head(key), model)
                .unwrap()
                .admit(Need::default())
                .0
        };
        let _first = admit("k", "a-1").unwrap();
        assert!(admit("k", "a-2").is_err(), "one class, one pool");
        let _other_key = admit("l", "a-2").unwrap();
        let _other_model = admit("k", "b").unwrap();
        let told = pools.to_json().to_string();
        assert_eq!(pools.to_json()["pools"].as_array().unwrap().len(), 3);
        assert!(!told.contains("\"k\"") && !told.contains("\"l\""), "{told}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_comes_back_when_its_permit_is_settled_or_dropped() {
        let pools = pools("[class.\"*\"]\nconcurrency = 1\noutput_tokens_per_minute = 600");
        let need = Need {
            max_output: Some(600),
            ..Need::default()
        };
        let admit = || pools.of(&head("k"), "m").unwrap().admit(need);
        let (permit, standing) = admit();
        assert_eq!(standing.output.unwrap().remaining, 0);
        permit.unwrap().settle(100);
        assert!(admit().0.is_err(), "only 500 are left");
        tokio::time::advance(Duration::from_secs(10)).await;
        drop(admit().0.unwrap());
        assert_eq!(pools.to_json()["pools"][0]["in_flight"], 0);
        assert!(admit().0.is_ok(), "what was not written was given back");
    }

    #[tokio::test(start_paused = true)]
    async fn names_do_not_fill_the_memory() {
        let pools = pools("[class.\"*\"]\nrequests_per_minute = 1");
        for number in 0..MAX_POOLS + 20 {
            let _ = pools.of(&head("k"), &format!("model-{number}")).unwrap();
        }
        assert_eq!(lock(&pools.inner).pools.len(), MAX_POOLS + 1);
    }
}
