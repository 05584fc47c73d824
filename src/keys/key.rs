//! One key: who holds it, what it may do, how long it holds. Decides whether a shown text is this key.
//!
//! A key holds until it expires or is revoked. A rotation gives it a second secret; the older one holds until a stated
//! moment, so that clients can change over one by one.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use subtle::{Choice, ConstantTimeEq};

use super::text::{from_hex, hex};
use crate::units::Priority;

/// Longest name in bytes.
const LONGEST_NAME: usize = 64;

/// How many secrets a key has at most: the current one, and the one before it.
pub(super) const SECRETS: usize = 2;

/// A client's key, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Names its holder in the ledger, in budgets and policies; unique, also among the revoked.
    pub name: String,
    /// Finds it: a part of what the client shows.
    pub id: String,
    /// The team whose budgets it draws on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// Its tier; else its team's applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// The priority of requests that name none.
    #[serde(default, with = "priority", skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// The most urgent priority that its requests may have.
    #[serde(default, with = "priority", skip_serializing_if = "Option::is_none")]
    pub max_priority: Option<Priority>,
    /// Whether it opens tollgate's own addresses to clients beyond this machine.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub admin: bool,
    /// When it was made.
    pub created_unix_ms: u64,
    /// From when on it does not hold any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_unix_ms: Option<u64>,
    /// Since when it is revoked, which is for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_unix_ms: Option<u64>,
    /// One secret or two, the current one first.
    pub secrets: Vec<StoredSecret>,
}

/// What is stored of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredSecret {
    /// SHA-256 of the whole key, in hex digits.
    #[serde(with = "hash")]
    pub sha256: [u8; 32],
    /// From when on it does not hold any more, where it was replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_unix_ms: Option<u64>,
}

/// Why a shown text opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejected {
    /// It is not a tollgate key at all, such as a provider's.
    NotAKey,
    /// No key has this text.
    Unknown,
    /// It was replaced by a rotation, and its overlap is over.
    Replaced,
    /// The key has expired.
    Expired,
    /// The key was revoked.
    Revoked,
}

impl Rejected {
    /// One sentence for the client, without a final period.
    pub const fn why(self) -> &'static str {
        match self {
            Rejected::NotAKey => {
                "this is not a tollgate key (they begin with tg_); this proxy holds the providers' keys itself, so show \
                 it one that `tollgate keys create` made, in the place of the provider's"
            }
            Rejected::Unknown => {
                "this tollgate key is not known here; ask whoever runs this proxy for another one"
            }
            Rejected::Replaced => {
                "this tollgate key was rotated, and the time to change over has passed; use the new one"
            }
            Rejected::Expired => {
                "this tollgate key has expired; ask whoever runs this proxy for another one"
            }
            Rejected::Revoked => {
                "this tollgate key was revoked; ask whoever runs this proxy for another one"
            }
        }
    }
}

/// Whether a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It does.
    Active,
    /// It does, and so does the secret before its current one.
    Rotating {
        /// From when on only the current one does.
        until_unix_ms: u64,
    },
    /// Its time is over.
    Expired,
    /// It was revoked.
    Revoked,
}

impl State {
    /// The name used in lists.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Active => "active",
            State::Rotating { .. } => "rotating",
            State::Expired => "expired",
            State::Revoked => "revoked",
        }
    }
}

/// The text cannot be a key's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key's name is 1 to 64 lower-case letters, digits, - and _")]
pub struct NameError;

/// Checks a key's name.
pub(super) fn check_name(name: &str) -> Result<(), NameError> {
    let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    if (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(letters) {
        Ok(())
    } else {
        Err(NameError)
    }
}

impl Key {
    /// Whether it holds at a time.
    pub fn state(&self, now_unix_ms: u64) -> State {
        if self.revoked_unix_ms.is_some() {
            return State::Revoked;
        }
        if self.expires_unix_ms.is_some_and(|end| end <= now_unix_ms) {
            return State::Expired;
        }
        let older = self.secrets.get(1).and_then(|secret| secret.until_unix_ms);
        match older.filter(|until| *until > now_unix_ms) {
            Some(until_unix_ms) => State::Rotating { until_unix_ms },
            None => State::Active,
        }
    }

    /// Judges a text by its hash. Takes the same time whatever the hash is and however many secrets there are.
    pub(super) fn judge(&self, sha256: &[u8; 32], now_unix_ms: u64) -> Result<(), Rejected> {
        let (current, older) = compare(&self.secrets, sha256);
        if !bool::from(current | older) {
            return Err(Rejected::Unknown);
        }
        // Only who has shown the right text is told more.
        match self.state(now_unix_ms) {
            State::Revoked => Err(Rejected::Revoked),
            State::Expired => Err(Rejected::Expired),
            State::Rotating { .. } => Ok(()),
            State::Active if bool::from(current) => Ok(()),
            State::Active => Err(Rejected::Replaced),
        }
    }
}

/// Compares a hash with both secrets of a key, the current and the older one, in constant time. Without secrets it
/// does the same work and finds nothing: so an unknown id takes as long as a known one.
pub(super) fn compare(secrets: &[StoredSecret], sha256: &[u8; 32]) -> (Choice, Choice) {
    const NONE: [u8; 32] = [0; 32];
    let equal = |place: usize| {
        let stored = secrets.get(place);
        let there = Choice::from(u8::from(stored.is_some()));
        stored.map_or(&NONE, |secret| &secret.sha256).ct_eq(sha256) & there
    };
    (equal(0), equal(1))
}

mod priority {
    //! A priority by its name.
    use super::{Deserialize as _, Deserializer, Priority, Serializer};

    #[expect(clippy::ref_option, reason = "the encoder hands out references")]
    pub(super) fn serialize<S: Serializer>(
        priority: &Option<Priority>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match priority {
            Some(priority) => serializer.serialize_str(priority.as_str()),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Priority>, D::Error> {
        let name = Option::<String>::deserialize(deserializer)?;
        name.map(|name| name.parse().map_err(serde::de::Error::custom))
            .transpose()
    }
}

mod hash {
    //! A SHA-256 as hex digits.
    use super::{Deserialize as _, Deserializer, Serializer, from_hex, hex};

    pub(super) fn serialize<S: Serializer>(
        hash: &[u8; 32],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex(hash))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(deserializer)?;
        from_hex(&text).ok_or_else(|| serde::de::Error::custom("a SHA-256 is 64 hex digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_176_000_000;

    fn secret(byte: u8, until_unix_ms: Option<u64>) -> StoredSecret {
        StoredSecret {
            sha256: [byte; 32],
            until_unix_ms,
        }
    }

    fn key(secrets: Vec<StoredSecret>) -> Key {
        Key {
            name: "ci".to_owned(),
            id: "0123456789ab".to_owned(),
            team: None,
            tier: None,
            priority: None,
            max_priority: None,
            admin: false,
            created_unix_ms: NOW,
            expires_unix_ms: None,
            revoked_unix_ms: None,
            secrets,
        }
    }

    #[test]
    fn a_key_holds_until_the_very_moment_of_its_end() {
        let mut key = key(vec![secret(1, None)]);
        key.expires_unix_ms = Some(NOW + 10);
        assert_eq!(key.judge(&[1; 32], NOW + 9), Ok(()));
        assert_eq!(key.judge(&[1; 32], NOW + 10), Err(Rejected::Expired));
        assert_eq!(key.judge(&[2; 32], NOW + 10), Err(Rejected::Unknown));
        key.revoked_unix_ms = Some(NOW);
        assert_eq!(key.judge(&[1; 32], NOW), Err(Rejected::Revoked));
        assert_eq!(key.judge(&[2; 32], NOW), Err(Rejected::Unknown));
    }

    #[test]
    fn the_older_secret_holds_until_its_overlap_is_over() {
        let key = key(vec![secret(2, None), secret(1, Some(NOW + 10))]);
        for (hash, at, expected) in [
            (2, NOW, Ok(())),
            (1, NOW, Ok(())),
            (1, NOW + 9, Ok(())),
            (1, NOW + 10, Err(Rejected::Replaced)),
            (2, NOW + 10, Ok(())),
            (0, NOW, Err(Rejected::Unknown)),
        ] {
            assert_eq!(key.judge(&[hash; 32], at), expected, "{hash} {at}");
        }
        assert_eq!(
            key.state(NOW),
            State::Rotating {
                until_unix_ms: NOW + 10
            }
        );
        assert_eq!(key.state(NOW + 10), State::Active);
    }

    #[test]
    fn a_missing_secret_is_not_the_hash_of_zeros() {
        let (current, older) = compare(&[], &[0; 32]);
        assert!(!bool::from(current | older));
        let (current, older) = compare(&[secret(1, None)], &[0; 32]);
        assert!(!bool::from(current | older));
    }

    #[test]
    fn names_are_short_and_plain() {
        for good in ["ci", "a", "team-a_7", &"x".repeat(64)] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in ["", "CI", "a b", "a/b", "é", "a:b", &"x".repeat(65)] {
            assert_eq!(check_name(bad), Err(NameError), "{bad}");
        }
    }
}
