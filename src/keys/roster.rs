//! All keys, and what can be done to them: make one, revoke it, give it a new secret. Plain values; the file is
//! [`super::KeyFile`]'s.

use serde::{Deserialize, Serialize};

use super::key::{Key, NameError, SECRETS, State, StoredSecret, check_name};
use super::text::{KeyText, NoRandomness, is_id, new_id};
use crate::units::Priority;

/// Every key, in the order in which they were made; names and ids are unique.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Keys(Vec<Key>);

/// What a new key is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of Key")]
pub struct NewKey {
    pub name: String,
    pub team: Option<String>,
    pub tier: Option<String>,
    pub priority: Option<Priority>,
    pub max_priority: Option<Priority>,
    pub admin: bool,
    pub expires_unix_ms: Option<u64>,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No key can have this name.
    #[error("`{name}` cannot be a key's name")]
    Name {
        /// The name.
        name: String,
        /// The rule.
        #[source]
        source: NameError,
    },
    /// A key has this name.
    #[error("there is a key `{0}` already")]
    Taken(String),
    /// A revoked key has this name, under which the ledger keeps what it used.
    #[error("a revoked key had the name `{0}`, and the ledger goes by names")]
    TakenByRevoked(String),
    /// It would end before it begins.
    #[error("it would have expired already")]
    Past,
    /// Requests would get a priority by default that they may not have.
    #[error("the default priority {priority} is above the most urgent one allowed, {max_priority}")]
    Priorities {
        /// The default.
        priority: Priority,
        /// The cap.
        max_priority: Priority,
    },
    /// There is no such key.
    #[error("there is no key `{0}`")]
    Unknown(String),
    /// It is revoked, which is for good.
    #[error("key `{0}` is revoked already")]
    Revoked(String),
    /// It has expired.
    #[error("key `{0}` has expired")]
    Expired(String),
    /// The system gives no random numbers.
    #[error("a secret cannot be made")]
    Randomness(#[from] NoRandomness),
}

impl Keys {
    /// Every key, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.0.iter()
    }

    /// The key of that name.
    pub fn named(&self, name: &str) -> Option<&Key> {
        self.iter().find(|key| key.name == name)
    }

    /// Makes a key. The text is the only time that its secret is told.
    ///
    /// # Errors
    /// The name is taken or no name, or what is asked for contradicts itself.
    pub fn create(&mut self, new: NewKey, now_unix_ms: u64) -> Result<(&Key, KeyText), KeyError> {
        if let Err(source) = check_name(&new.name) {
            return Err(KeyError::Name {
                name: new.name,
                source,
            });
        }
        match self.named(&new.name).map(|key| key.revoked_unix_ms) {
            Some(Some(_)) => return Err(KeyError::TakenByRevoked(new.name)),
            Some(None) => return Err(KeyError::Taken(new.name)),
            None => {}
        }
        if new.expires_unix_ms.is_some_and(|end| end <= now_unix_ms) {
            return Err(KeyError::Past);
        }
        if let (Some(priority), Some(max_priority)) = (new.priority, new.max_priority)
            && priority > max_priority
        {
            return Err(KeyError::Priorities {
                priority,
                max_priority,
            });
        }
        let id = self.free_id()?;
        let text = KeyText::new(&id)?;
        let current = StoredSecret {
            sha256: text.sha256(),
            until_unix_ms: None,
        };
        let key = self.0.push_mut(Key {
            name: new.name,
            id,
            team: new.team,
            tier: new.tier,
            priority: new.priority,
            max_priority: new.max_priority,
            admin: new.admin,
            created_unix_ms: now_unix_ms,
            expires_unix_ms: new.expires_unix_ms,
            revoked_unix_ms: None,
            secrets: vec![current],
        });
        Ok((key, text))
    }

    /// Revokes a key for good. It stays in the list, so that its name is not given to somebody else.
    ///
    /// # Errors
    /// There is no such key, or it is revoked.
    pub fn revoke(&mut self, name: &str, now_unix_ms: u64) -> Result<&Key, KeyError> {
        let key = self.named_mut(name)?;
        key.revoked_unix_ms = Some(now_unix_ms);
        Ok(key)
    }

    /// Gives a key a new secret; its current one holds for `overlap_ms` more, one before that not any longer.
    ///
    /// # Errors
    /// There is no such key, it is revoked or has expired.
    pub fn rotate(
        &mut self,
        name: &str,
        overlap_ms: u64,
        now_unix_ms: u64,
    ) -> Result<(&Key, KeyText), KeyError> {
        let key = self.named_mut(name)?;
        if key.state(now_unix_ms) == State::Expired {
            return Err(KeyError::Expired(name.to_owned()));
        }
        let text = KeyText::new(&key.id)?;
        if let Some(current) = key.secrets.first_mut() {
            current.until_unix_ms = Some(now_unix_ms.saturating_add(overlap_ms));
        }
        let current = StoredSecret {
            sha256: text.sha256(),
            until_unix_ms: None,
        };
        key.secrets.insert(0, current);
        // Without an overlap the one before is kept for its answer: that it was replaced.
        key.secrets.truncate(SECRETS);
        Ok((key, text))
    }

    fn named_mut(&mut self, name: &str) -> Result<&mut Key, KeyError> {
        let key = self.0.iter_mut().find(|key| key.name == name);
        let key = key.ok_or_else(|| KeyError::Unknown(name.to_owned()))?;
        if key.revoked_unix_ms.is_some() {
            return Err(KeyError::Revoked(name.to_owned()));
        }
        Ok(key)
    }

    fn free_id(&self) -> Result<String, NoRandomness> {
        loop {
            let id = new_id()?;
            if self.iter().all(|key| key.id != id) {
                return Ok(id);
            }
        }
    }

    /// What cannot be about keys that were read from a file.
    pub(super) fn flaw(&self) -> Option<String> {
        for (place, key) in self.0.iter().enumerate() {
            let name = &key.name;
            let before = &self.0[..place];
            if check_name(name).is_err() {
                return Some(format!("{name:?} cannot be a key's name"));
            }
            if !is_id(&key.id) {
                return Some(format!("key `{name}` has an id that is none"));
            }
            if before.iter().any(|other| other.name == *name) {
                return Some(format!("two keys are named `{name}`"));
            }
            if before.iter().any(|other| other.id == key.id) {
                return Some(format!("key `{name}` has the id of another one"));
            }
            let replaced = key.secrets.iter().skip(1);
            let stated = replaced.filter(|secret| secret.until_unix_ms.is_some());
            let fits = (1..=SECRETS).contains(&key.secrets.len())
                && key.secrets[0].until_unix_ms.is_none()
                && stated.count() == key.secrets.len() - 1;
            if !fits {
                return Some(format!(
                    "key `{name}` must have a current secret, and at most one before it with the time of its end"
                ));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::key::Rejected;

    const NOW: u64 = 1_795_176_000_000;

    fn named(name: &str) -> NewKey {
        NewKey {
            name: name.to_owned(),
            ..NewKey::default()
        }
    }

    #[test]
    fn a_name_is_given_once_even_after_its_key_was_revoked() {
        let mut keys = Keys::default();
        keys.create(named("ci"), NOW).expect("a free name");
        let taken = keys.create(named("ci"), NOW).expect_err("taken");
        assert!(matches!(taken, KeyError::Taken(name) if name == "ci"));
        keys.revoke("ci", NOW).expect("it is there");
        let taken = keys.create(named("ci"), NOW).expect_err("taken");
        assert!(matches!(taken, KeyError::TakenByRevoked(_)));
        assert!(matches!(
            keys.create(named("CI"), NOW),
            Err(KeyError::Name { .. })
        ));
        assert_eq!(keys.iter().count(), 1);
    }

    #[test]
    fn what_contradicts_itself_is_not_made() {
        let mut keys = Keys::default();
        let past = NewKey {
            expires_unix_ms: Some(NOW),
            ..named("a")
        };
        assert!(matches!(keys.create(past, NOW), Err(KeyError::Past)));
        let priorities = NewKey {
            priority: Some(Priority::High),
            max_priority: Some(Priority::Normal),
            ..named("a")
        };
        let error = keys.create(priorities, NOW).expect_err("it contradicts");
        assert!(error.to_string().contains("high is above"), "{error}");
        assert_eq!(keys.iter().count(), 0);
    }

    #[test]
    fn a_rotation_keeps_the_secret_before_and_no_older_one() {
        let mut keys = Keys::default();
        let first = keys.create(named("ci"), NOW).expect("a free name").1;
        let second = keys.rotate("ci", 1_000, NOW).expect("it is there").1;
        let key = keys.named("ci").expect("it is there");
        assert_eq!(key.judge(&first.sha256(), NOW + 999), Ok(()));
        assert_eq!(key.judge(&second.sha256(), NOW), Ok(()));
        assert_eq!(
            key.judge(&first.sha256(), NOW + 1_000),
            Err(Rejected::Replaced)
        );
        let third = keys.rotate("ci", 0, NOW + 1).expect("it is there").1;
        let key = keys.named("ci").expect("it is there");
        assert_eq!(
            key.judge(&first.sha256(), NOW + 1),
            Err(Rejected::Unknown),
            "two before"
        );
        assert_eq!(
            key.judge(&second.sha256(), NOW + 1),
            Err(Rejected::Replaced),
            "no overlap"
        );
        assert_eq!(key.judge(&third.sha256(), NOW + 1), Ok(()));
        assert_eq!(keys.flaw(), None);
    }

    #[test]
    fn only_a_key_that_holds_can_be_revoked_or_rotated() {
        let mut keys = Keys::default();
        let short = NewKey {
            expires_unix_ms: Some(NOW + 1),
            ..named("short")
        };
        keys.create(short, NOW).expect("a free name");
        keys.create(named("ci"), NOW).expect("a free name");
        keys.revoke("ci", NOW).expect("it is there");
        assert!(matches!(keys.revoke("ci", NOW), Err(KeyError::Revoked(_))));
        assert!(matches!(
            keys.rotate("ci", 0, NOW),
            Err(KeyError::Revoked(_))
        ));
        assert!(matches!(keys.revoke("cj", NOW), Err(KeyError::Unknown(_))));
        assert!(matches!(
            keys.rotate("short", 0, NOW + 1),
            Err(KeyError::Expired(_))
        ));
    }

    #[test]
    fn keys_that_cannot_be_are_found_out() {
        let mut keys = Keys::default();
        keys.create(named("a"), NOW).expect("a free name");
        keys.create(named("b"), NOW).expect("a free name");
        let broken = |change: fn(&mut Vec<Key>)| {
            let mut keys = keys.clone();
            change(&mut keys.0);
            keys.flaw()
        };
        assert_eq!(broken(|_| ()), None);
        for (change, said) in [
            (
                (|keys| keys[1].name = "a".to_owned()) as fn(&mut Vec<Key>),
                "two keys are named `a`",
            ),
            (|keys| keys[1].id = keys[0].id.clone(), "id of another one"),
            (|keys| keys[0].name = "A\n".to_owned(), r#""A\n" cannot be"#),
            (|keys| keys[0].id.push('0'), "id that is none"),
            (|keys| keys[0].secrets.clear(), "current secret"),
            (
                |keys| {
                    let secret = keys[0].secrets[0].clone();
                    keys[0].secrets.push(secret);
                },
                "time of its end",
            ),
            (
                |keys| keys[0].secrets[0].until_unix_ms = Some(1),
                "current secret",
            ),
        ] {
            let flaw = broken(change).unwrap_or_default();
            assert!(flaw.contains(said), "{flaw}");
        }
    }
}
