//! The keys that the running proxy knows. Asking costs one hash and no file access; the file is looked at beside the
//! requests (see [`Keyring::refresh`]), so that a revocation takes effect without a restart.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::file::{KeyFile, KeyFileError};
use super::key::{Key, Rejected, compare};
use super::roster::Keys;
use super::stamp::Stamp;
use super::text::{id_in, sha256};

/// The known keys.
#[derive(Debug, Default)]
pub struct Keyring {
    by_id: RwLock<HashMap<String, Arc<Key>>>,
    /// Where they come from; `None` if no keys are asked for.
    source: Option<Source>,
}

#[derive(Debug)]
struct Source {
    file: KeyFile,
    /// What was seen last, be it good or not; `None` for a missing file.
    seen: Mutex<Option<Stamp>>,
}

/// What looking at the file has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refreshed {
    /// It is as it was at the last look.
    Unchanged,
    /// It was read anew, and holds so many keys.
    Read(usize),
}

impl Keyring {
    /// Reads the file; a missing one holds no keys yet.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn open(file: KeyFile) -> Result<Self, KeyFileError> {
        let (keys, stamp) = match file.read()? {
            Some((keys, stamp)) => (keys, Some(stamp)),
            None => (Keys::default(), None),
        };
        Ok(Self {
            by_id: RwLock::new(by_id(&keys)),
            source: Some(Source {
                file,
                seen: Mutex::new(stamp),
            }),
        })
    }

    /// How many keys are known, the revoked and expired ones too.
    pub fn count(&self) -> usize {
        self.by_id
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Every known key, in no order.
    pub fn all(&self) -> Vec<Arc<Key>> {
        let by_id = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
        by_id.values().map(Arc::clone).collect()
    }

    /// Finds the key that a client shows. The secret is compared in constant time, and an unknown id costs as much as a
    /// known one, so that trying teaches nothing.
    ///
    /// # Errors
    /// Why it opens nothing.
    pub fn verify(&self, shown: &[u8], now_unix_ms: u64) -> Result<Arc<Key>, Rejected> {
        let id = id_in(shown).ok_or(Rejected::NotAKey)?;
        let hash = sha256(shown);
        let known = {
            let by_id = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
            by_id.get(id).map(Arc::clone)
        };
        match known {
            Some(key) => key.judge(&hash, now_unix_ms).map(|()| key),
            None => {
                std::hint::black_box(compare(&[], &hash));
                Err(Rejected::Unknown)
            }
        }
    }

    /// Looks whether the file has changed, and reads it if it has. Reads from the disk: not for a thread that serves.
    ///
    /// # Errors
    /// The file cannot be used, or is gone: the last good keys stay in force. Each state of the file is told once.
    pub fn refresh(&self) -> Result<Refreshed, KeyFileError> {
        let Some(Source { file, seen }) = &self.source else {
            return Ok(Refreshed::Unchanged);
        };
        let now = Stamp::of(file.path());
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == now {
            return Ok(Refreshed::Unchanged);
        }
        *seen = now;
        let Some((keys, stamp)) = file.read()? else {
            return Err(KeyFileError::Gone(file.path().to_owned()));
        };
        // It may have been replaced once more since the look.
        *seen = Some(stamp);
        let keys = by_id(&keys);
        let count = keys.len();
        *self.by_id.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(Refreshed::Read(count))
    }
}

fn by_id(keys: &Keys) -> HashMap<String, Arc<Key>> {
    keys.iter()
        .map(|key| (key.id.clone(), Arc::new(key.clone())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{KeyError, KeyText, NewKey};

    const NOW: u64 = 1_795_176_000_000;

    #[derive(Debug, thiserror::Error)]
    enum Failed {
        #[error(transparent)]
        File(#[from] KeyFileError),
        #[error(transparent)]
        Key(#[from] KeyError),
    }

    fn create(file: &KeyFile, name: &str) -> KeyText {
        let new = NewKey {
            name: name.to_owned(),
            ..NewKey::default()
        };
        file.change(|keys| Ok::<_, Failed>(keys.create(new, NOW)?.1))
            .expect("made")
    }

    fn with_key() -> (tempfile::TempDir, KeyFile, KeyText, Keyring) {
        let dir = tempfile::tempdir().expect("a directory");
        let file = KeyFile::at(dir.path().join("keys.json"));
        let text = create(&file, "ci");
        let keyring = Keyring::open(file.clone()).expect("a good file");
        (dir, file, text, keyring)
    }

    #[test]
    fn a_key_is_known_by_its_whole_text() {
        let (_dir, _, text, keyring) = with_key();
        let shown = text.reveal();
        let key = keyring.verify(shown.as_bytes(), NOW).expect("it is known");
        assert_eq!(key.name, "ci");
        for place in [shown.len() - 1, shown.len() - 48, 3] {
            let mut other = shown.as_bytes().to_vec();
            other[place] = if other[place] == b'0' { b'1' } else { b'0' };
            assert_eq!(keyring.verify(&other, NOW), Err(Rejected::Unknown));
        }
        assert_eq!(keyring.verify(b"sk-ant-api03", NOW), Err(Rejected::NotAKey));
        assert_eq!(
            Keyring::default().verify(shown.as_bytes(), NOW),
            Err(Rejected::Unknown)
        );
    }

    #[test]
    fn a_revocation_and_a_new_key_are_seen_at_the_next_look() {
        let (_dir, file, text, keyring) = with_key();
        assert_eq!(keyring.refresh().expect("good"), Refreshed::Unchanged);
        file.change(|keys| Ok::<_, Failed>(keys.revoke("ci", NOW).map(drop)?))
            .expect("revoked");
        let other = create(&file, "cd");
        assert!(keyring.verify(text.reveal().as_bytes(), NOW).is_ok());
        assert_eq!(keyring.refresh().expect("good"), Refreshed::Read(2));
        assert_eq!(
            keyring.verify(text.reveal().as_bytes(), NOW),
            Err(Rejected::Revoked)
        );
        assert!(keyring.verify(other.reveal().as_bytes(), NOW).is_ok());
    }

    #[test]
    fn a_broken_or_missing_file_is_told_once_and_the_last_good_keys_stay() {
        let (_dir, file, text, keyring) = with_key();
        let good = std::fs::read(file.path()).expect("readable");
        let holds = || keyring.verify(text.reveal().as_bytes(), NOW).is_ok();
        std::fs::write(file.path(), &good[..20]).expect("writable");
        assert!(matches!(
            keyring.refresh(),
            Err(KeyFileError::Damaged { .. })
        ));
        assert!(holds());
        assert_eq!(keyring.refresh().expect("told"), Refreshed::Unchanged);
        std::fs::remove_file(file.path()).expect("ours");
        assert!(matches!(keyring.refresh(), Err(KeyFileError::Gone(_))));
        assert!(holds());
        assert_eq!(keyring.refresh().expect("told"), Refreshed::Unchanged);
        std::fs::write(file.path(), &good).expect("writable");
        // A file that a test writes has the permissions of its umask.
        let owner = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(file.path(), owner).expect("ours");
        assert_eq!(keyring.refresh().expect("good"), Refreshed::Read(1));
        assert!(holds());
    }

    #[test]
    fn a_file_that_comes_after_the_start_is_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = KeyFile::at(dir.path().join("keys.json"));
        let keyring = Keyring::open(file.clone()).expect("none is good");
        assert_eq!(keyring.refresh().expect("none"), Refreshed::Unchanged);
        let text = create(&file, "ci");
        assert_eq!(keyring.refresh().expect("good"), Refreshed::Read(1));
        assert!(keyring.verify(text.reveal().as_bytes(), NOW).is_ok());
    }
}
