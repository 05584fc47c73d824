//! The file that keys are kept in: JSON with a version, readable by its owner alone, replaced as a whole.
//!
//! ```text
//! keys.json        {"tollgate_keys": 1, "keys": […]}; see `Key`
//! keys.json.lock   held while a command changes the file
//! keys.json.new    the next file, until it is on the disk and takes the place of the last one
//! ```
//!
//! A file that is damaged, foreign, newer, or that others may write to is refused and left as it is: who writes to it
//! makes keys.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::roster::Keys;
use super::stamp::Stamp;

/// The format that this program writes, and the newest that it reads.
const FORMAT: u64 = 1;

/// Largest file that is read, in bytes: some ten thousand keys.
const LARGEST: u64 = 8 << 20;

/// How often the lock is tried, 20 ms apart: another command holds it for a moment.
const LOCK_TRIES: u32 = 250;

/// Permissions that let others than the owner write.
const OTHERS_WRITE: u32 = 0o022;

#[derive(Serialize)]
struct Written<'a> {
    tollgate_keys: u64,
    keys: &'a Keys,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    #[expect(
        dead_code,
        reason = "read beforehand, as a newer file may look different"
    )]
    tollgate_keys: u64,
    keys: Keys,
}

/// Only the version, of a file that may be newer.
#[derive(Deserialize)]
struct Version {
    tollgate_keys: u64,
}

/// Where keys are kept.
#[derive(Debug, Clone)]
pub struct KeyFile {
    path: PathBuf,
}

/// Why the file cannot be used. The message names the file and says how to mend it.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The system refuses.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// There is none, where one was before.
    #[error("{} is gone", .0.display())]
    Gone(PathBuf),
    /// It is a directory, a pipe or the like.
    #[error("{} is not a file; point auth.keys_file at another path", .0.display())]
    NotAFile(PathBuf),
    /// Others than its owner can make keys.
    #[error(
        "others than its owner may write to {} (mode {mode:04o}), and thus make keys; look into it, then `chmod 600` it",
        path.display()
    )]
    Writable {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is no keys file.
    #[error("{} is not a tollgate keys file; point auth.keys_file at another path", .0.display())]
    Foreign(PathBuf),
    /// A newer tollgate wrote it.
    #[error(
        "{} has format {found}, and this tollgate knows {FORMAT}; use the newer tollgate that wrote it",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// It was a keys file, and is not whole.
    #[error("{} is damaged ({what}); restore it from a backup, or move it away and make new keys", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Another command has held it for too long.
    #[error("another `tollgate keys` has held {} for 5 s; try again when it is done", .0.display())]
    Locked(PathBuf),
}

impl KeyFile {
    /// The file at this path, which need not exist.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it; a missing one holds no keys.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn load(&self) -> Result<Keys, KeyFileError> {
        Ok(self.read()?.map(|(keys, _)| keys).unwrap_or_default())
    }

    /// Reads it, with the stamp of what was read; `None` if it is missing.
    pub(super) fn read(&self) -> Result<Option<(Keys, Stamp)>, KeyFileError> {
        let path = &self.path;
        // Looked at first: opening a pipe would wait for a writer.
        match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("read", path, error)),
            Ok(metadata) if !metadata.is_file() => {
                return Err(KeyFileError::NotAFile(path.clone()));
            }
            Ok(_) => {}
        }
        let read = |error| io_error("read", path, error);
        let file = File::open(path).map_err(read)?;
        let metadata = file.metadata().map_err(read)?;
        let mode = metadata.mode() & 0o7777;
        if mode & OTHERS_WRITE != 0 {
            let path = path.clone();
            return Err(KeyFileError::Writable { path, mode });
        }
        let mut bytes = Vec::new();
        file.take(LARGEST + 1)
            .read_to_end(&mut bytes)
            .map_err(read)?;
        self.decode(&bytes)
            .map(|keys| Some((keys, Stamp::from(&metadata))))
    }

    fn decode(&self, bytes: &[u8]) -> Result<Keys, KeyFileError> {
        let path = || self.path.clone();
        let damaged = |what: String| KeyFileError::Damaged { path: path(), what };
        if bytes.len() as u64 > LARGEST {
            return Err(damaged(format!("it is larger than {LARGEST} bytes")));
        }
        let version: Version = match serde_json::from_slice(bytes) {
            Ok(version) => version,
            // Half of a file of ours, or nothing of it, after a disk that ran full or lost what it was given.
            Err(_)
                if bytes.trim_ascii().is_empty()
                    || memchr::memmem::find(bytes, b"tollgate_keys").is_some() =>
            {
                return Err(damaged("it is not whole".to_owned()));
            }
            Err(_) => return Err(KeyFileError::Foreign(path())),
        };
        if version.tollgate_keys != FORMAT {
            return Err(KeyFileError::Newer {
                path: path(),
                found: version.tollgate_keys,
            });
        }
        let read: Read =
            serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        match read.keys.flaw() {
            Some(flaw) => Err(damaged(flaw)),
            None => Ok(read.keys),
        }
    }

    /// Changes the keys in the file, making it if it is missing. Two commands at once wait for each other. When the
    /// change fails, or the file cannot be used, it stays as it is.
    ///
    /// # Errors
    /// The change's own, and that the file cannot be read or written.
    pub fn change<T, E: From<KeyFileError>>(
        &self,
        change: impl FnOnce(&mut Keys) -> Result<T, E>,
    ) -> Result<T, E> {
        let target = self.target()?;
        let _lock = lock(&target)?;
        let mut keys = self.load()?;
        let done = change(&mut keys)?;
        write(&target, &keys)?;
        Ok(done)
    }

    /// The file itself where the path is a link to it, so that the link stays; its directory exists.
    fn target(&self) -> Result<PathBuf, KeyFileError> {
        if let Ok(target) = fs::canonicalize(&self.path) {
            return Ok(target);
        }
        let dir = directory(&self.path);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|error| io_error("make the directory", dir, error))?;
        Ok(self.path.clone())
    }
}

fn io_error(doing: &'static str, path: &Path, source: io::Error) -> KeyFileError {
    KeyFileError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

/// The directory that a file is in.
fn directory(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A file's neighbour with a longer name.
fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Takes the lock; it is given back when the file is closed. The keys file itself cannot be the lock: it is replaced.
fn lock(target: &Path) -> Result<File, KeyFileError> {
    let path = beside(target, ".lock");
    let fail = |error| io_error("lock", &path, error);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(fail)?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20)),
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
    }
    Err(KeyFileError::Locked(path))
}

/// Replaces the file: the new one is on the disk before it takes the old one's place, and the place before we return.
fn write(target: &Path, keys: &Keys) -> Result<(), KeyFileError> {
    let next = beside(target, ".new");
    let fail = |error| io_error("write", &next, error);
    // What a killed command left, perhaps with other permissions. Only the holder of the lock gets here.
    match fs::remove_file(&next) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
        _ => {}
    }
    let written = Written {
        tollgate_keys: FORMAT,
        keys,
    };
    let mut bytes = serde_json::to_vec_pretty(&written).expect("keys are texts and numbers");
    bytes.push(b'\n');
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&next)
        .map_err(fail)?;
    file.write_all(&bytes).map_err(fail)?;
    file.sync_all().map_err(fail)?;
    drop(file);
    fs::rename(&next, target).map_err(|error| io_error("replace", target, error))?;
    let dir = directory(target);
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|error| io_error("sync the directory", dir, error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::keys::roster::{KeyError, NewKey};

    const NOW: u64 = 1_795_176_000_000;

    #[derive(Debug)]
    enum Failed {
        File(KeyFileError),
        Key,
    }

    impl From<KeyFileError> for Failed {
        fn from(error: KeyFileError) -> Self {
            Self::File(error)
        }
    }

    impl From<KeyError> for Failed {
        fn from(_: KeyError) -> Self {
            Self::Key
        }
    }

    fn create(file: &KeyFile, name: &str) -> Result<String, Failed> {
        file.change(|keys| {
            let new = NewKey {
                name: name.to_owned(),
                ..NewKey::default()
            };
            let (_, text) = keys.create(new, NOW)?;
            Ok(text.reveal().to_owned())
        })
    }

    fn refused(file: &KeyFile) -> String {
        let Err(Failed::File(error)) = create(file, "another") else {
            panic!("the file should have been refused");
        };
        error.to_string()
    }

    #[test]
    fn the_file_is_its_owners_alone_and_holds_no_secret() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("state/tollgate/keys.json");
        let file = KeyFile::at(&path);
        assert_eq!(file.load().expect("none yet"), Keys::default());
        let text = create(&file, "ci").expect("made");
        let secret = text.rsplit('_').next().expect("a last part");
        let content = fs::read_to_string(&path).expect("it is there");
        assert!(content.contains("\"ci\"") && !content.contains(secret));
        let mode = |path: &Path| fs::metadata(path).expect("it is there").mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().expect("a directory")), 0o700);
        assert!(!beside(&path, ".new").exists());
        create(&file, "cd").expect("made");
        assert_eq!(mode(&path), 0o600, "after it was replaced");
        let names: Vec<String> = file
            .load()
            .expect("readable")
            .iter()
            .map(|key| key.name.clone())
            .collect();
        assert_eq!(names, ["ci", "cd"]);
    }

    #[test]
    fn two_commands_at_once_lose_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = KeyFile::at(dir.path().join("keys.json"));
        std::thread::scope(|scope| {
            for number in 0..16 {
                let file = &file;
                scope.spawn(move || create(file, &format!("key-{number}")).expect("made"));
            }
        });
        assert_eq!(file.load().expect("readable").iter().count(), 16);
    }

    #[test]
    fn what_is_no_whole_keys_file_of_ours_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("keys.json");
        let file = KeyFile::at(&path);
        create(&file, "ci").expect("made");
        let good = fs::read_to_string(&path).expect("readable");
        for (content, said) in [
            (good[..good.len() / 2].to_owned(), "damaged"),
            (String::new(), "damaged"),
            (
                good.replace("\"created_unix_ms\"", "\"creatd_unix_ms\""),
                "creatd_unix_ms",
            ),
            (good.replace("sha256\": \"", "sha256\": \"x"), "SHA-256"),
            (good.replace("\"ci\"", "\"C I\""), "cannot be a key's name"),
            (
                good.replace("\"tollgate_keys\": 1", "\"tollgate_keys\": 2"),
                "has format 2",
            ),
            ("{\"keys\": []}".to_owned(), "is not a tollgate keys file"),
            ("my thesis".to_owned(), "is not a tollgate keys file"),
            ("x".repeat(LARGEST as usize + 1), "larger than"),
        ] {
            fs::write(&path, &content).expect("writable");
            let message = refused(&file);
            assert!(message.contains(said), "{message}");
            assert!(
                message.contains(&*path.to_string_lossy()),
                "it names the file: {message}"
            );
            assert!(file.load().is_err());
            assert_eq!(fs::read_to_string(&path).expect("readable"), content);
        }
    }

    #[test]
    fn a_file_that_others_may_write_to_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("keys.json");
        let file = KeyFile::at(&path);
        create(&file, "ci").expect("made");
        for (mode, refusal) in [(0o666, true), (0o620, true), (0o644, false), (0o400, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
            assert_eq!(file.load().is_err(), refusal, "{mode:o}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o602)).expect("ours");
        let message = refused(&file);
        assert!(
            message.contains("0602") && message.contains("chmod 600"),
            "{message}"
        );
    }

    #[test]
    fn a_link_stays_a_link_and_a_directory_is_no_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let (real, link) = (dir.path().join("real.json"), dir.path().join("keys.json"));
        create(&KeyFile::at(&real), "ci").expect("made");
        std::os::unix::fs::symlink(&real, &link).expect("a link");
        create(&KeyFile::at(&link), "cd").expect("made");
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        let keys = KeyFile::at(&real).load().expect("readable");
        assert_eq!(keys.iter().count(), 2);
        let message = refused(&KeyFile::at(dir.path()));
        assert!(message.contains("is not a file"), "{message}");
    }

    #[test]
    fn a_change_that_fails_changes_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = KeyFile::at(dir.path().join("keys.json"));
        create(&file, "ci").expect("made");
        let before = Stamp::of(file.path());
        assert!(matches!(create(&file, "ci"), Err(Failed::Key)));
        assert_eq!(Stamp::of(file.path()), before);
    }
}
