//! The ledger's directory: whose it is, which format it has, who holds it, and where the running proxy listens.
//!
//! ```text
//! ledger.json    what this is and its format; written last when a ledger is made
//! lock           held while a process has the ledger open; holds that process's number
//! running.json   process and address of the running proxy, for the command line
//! journal/       segments; *.damaged are kept for people to look at
//! store/         the database
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::OpenError;

/// The format that this program writes, and the newest that it reads. Format 2 has events in the journal, and costs at a
/// ceiling price; a program that knows format 1 alone would take them for damage.
pub const FORMAT: u32 = 2;

const IDENTITY: &str = "ledger.json";
const LOCK: &str = "lock";
const RUNNING: &str = "running.json";
const JOURNAL: &str = "journal";
const STORE: &str = "store";

/// How often the lock is tried again, 20 ms apart: a report of the command line holds it for a moment.
const LOCK_TRIES: u32 = 50;

#[derive(Debug, Serialize, Deserialize)]
struct Identity {
    tollgate_ledger: u32,
}

/// Where the running proxy is found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Its process number.
    pub pid: u32,
    /// Where it listens.
    pub address: SocketAddr,
}

/// The ledger's directory, held by this process until dropped.
#[derive(Debug)]
pub struct Home {
    dir: PathBuf,
    /// Whether the directory held a ledger before.
    pub existed: bool,
    /// Whether it says of itself which format this program writes.
    is_current: bool,
    /// Whether this process wrote `running.json`.
    announced: bool,
    _lock: File,
}

/// Whether the directory holds a ledger.
pub fn holds_ledger(dir: &Path) -> bool {
    dir.join(IDENTITY).exists()
}

/// What the running proxy wrote of itself; a process that was killed leaves it behind.
pub fn running(dir: &Path) -> Option<Running> {
    serde_json::from_slice(&fs::read(dir.join(RUNNING)).ok()?).ok()
}

impl Home {
    /// Takes hold of the directory, making it if it is missing.
    ///
    /// # Errors
    ///
    /// When it is no directory, holds other things, has a newer format, is held by another process, or cannot be written.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        make_dir(dir)?;
        refuse_strangers(dir)?;
        let format = read_format(dir)?;
        let lock = take_lock(dir)?;
        for part in [JOURNAL, STORE] {
            make_dir(&dir.join(part))?;
        }
        Ok(Self {
            dir: dir.to_path_buf(),
            existed: format.is_some(),
            is_current: format == Some(FORMAT),
            announced: false,
            _lock: lock,
        })
    }

    /// The directory itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where segments are.
    pub fn journal(&self) -> PathBuf {
        self.dir.join(JOURNAL)
    }

    /// Where the database is.
    pub fn store(&self) -> PathBuf {
        self.dir.join(STORE)
    }

    /// Marks a ledger that has been made as complete, and one of an older format as one of this.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn complete(&self) -> Result<(), OpenError> {
        if self.is_current {
            return Ok(());
        }
        let identity = Identity {
            tollgate_ledger: FORMAT,
        };
        let path = self.dir.join(IDENTITY);
        write_whole(&path, &identity).map_err(|error| OpenError::io("write", &path, error))
    }

    /// Writes where this process can be asked.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn announce(&mut self, address: SocketAddr) -> io::Result<()> {
        let running = Running {
            pid: std::process::id(),
            address,
        };
        write_whole(&self.dir.join(RUNNING), &running)?;
        self.announced = true;
        Ok(())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.announced {
            // A file that stays behind is found out by whoever connects to its address.
            fs::remove_file(self.dir.join(RUNNING)).ok();
        }
    }
}

/// Makes a directory, readable by its owner alone, and makes its entry durable.
fn make_dir(dir: &Path) -> Result<(), OpenError> {
    if dir.is_dir() {
        return Ok(());
    }
    if dir.exists() {
        return Err(OpenError::NotADirectory {
            dir: dir.to_path_buf(),
        });
    }
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(dir)
        .and_then(|()| match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
            _ => Ok(()),
        })
        .map_err(|error| OpenError::io("make the directory", dir, error))
}

fn refuse_strangers(dir: &Path) -> Result<(), OpenError> {
    let read = |error| OpenError::io("read", dir, error);
    for entry in fs::read_dir(dir).map_err(read)? {
        let name = entry.map_err(read)?.file_name();
        let known = [
            IDENTITY,
            LOCK,
            RUNNING,
            JOURNAL,
            STORE,
            // By default the clients' keys are kept here too.
            "keys.json",
            "keys.json.lock",
            // What was learned of the providers' limits.
            "limits.cbor",
            // There when the directory is a file system of its own.
            "lost+found",
        ]
        .iter()
        .any(|ours| {
            name.to_str()
                .is_some_and(|name| name.trim_end_matches(".new") == *ours)
        });
        if !known {
            return Err(OpenError::Foreign {
                dir: dir.to_path_buf(),
                stranger: name.to_string_lossy().into_owned(),
            });
        }
    }
    Ok(())
}

/// The format that the directory states, one that this program can read; `None` if it does not say that it is a ledger.
fn read_format(dir: &Path) -> Result<Option<u32>, OpenError> {
    let path = dir.join(IDENTITY);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::io("read", &path, error)),
    };
    let identity: Identity =
        serde_json::from_slice(&bytes).map_err(|error| OpenError::Damaged {
            dir: dir.to_path_buf(),
            what: format!("{IDENTITY} cannot be read: {error}"),
        })?;
    if identity.tollgate_ledger > FORMAT {
        return Err(OpenError::Newer {
            dir: dir.to_path_buf(),
            found: identity.tollgate_ledger,
            known: FORMAT,
        });
    }
    Ok(Some(identity.tollgate_ledger))
}

fn take_lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join(LOCK);
    let fail = |error| OpenError::io("lock", &path, error);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(fail)?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => {
                let written = file.set_len(0).and_then(|()| {
                    file.rewind()?;
                    write!(file, "{}", std::process::id())
                });
                return written.map(|()| file).map_err(fail);
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20)),
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
    }
    let mut text = String::new();
    file.read_to_string(&mut text).ok();
    Err(OpenError::Locked {
        dir: dir.to_path_buf(),
        pid: text.trim().parse().ok(),
    })
}

/// Writes a file so that it is either the old one or the new one, also after a power cut.
fn write_whole(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let new = path.with_extension("json.new");
    let mut file = File::create(&new)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_is_told_who_holds_the_ledger() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let home = Home::open(folder.path()).expect("a new ledger");
        let error = Home::open(folder.path()).expect_err("it is held");
        let text = format!("{error}; {}", error.hint());
        let pid = std::process::id();
        assert!(
            text.contains(&format!("locked by another tollgate process (pid {pid})")),
            "{text}"
        );
        assert!(text.contains("ledger.dir"), "{text}");
        drop(home);
        assert!(Home::open(folder.path()).is_ok());
    }

    #[test]
    fn foreign_newer_and_unreadable_directories_are_refused_and_left_alone() {
        for (name, content, expected) in [
            ("thesis.txt", "years of work", "is not a tollgate ledger"),
            (IDENTITY, r#"{"tollgate_ledger":3}"#, "has format 3"),
            (IDENTITY, "{", "ledger.json cannot be read"),
        ] {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let file = folder.path().join(name);
            fs::write(&file, content).expect("writable");
            let error = Home::open(folder.path()).expect_err(expected);
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(fs::read_to_string(&file).ok().as_deref(), Some(content));
            assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 1);
        }
    }

    #[test]
    fn the_clients_keys_may_be_kept_beside_a_ledger() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in [
            "keys.json",
            "keys.json.lock",
            "keys.json.new",
            "limits.cbor",
        ] {
            fs::write(folder.path().join(name), "").expect("writable");
        }
        assert!(Home::open(folder.path()).is_ok());
    }

    #[test]
    fn a_file_in_the_directorys_place_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("ledger");
        fs::write(&path, "").expect("writable");
        let error = Home::open(&path).expect_err("it is a file");
        assert!(error.to_string().ends_with("ledger is not a directory"));
    }

    #[test]
    fn the_systems_refusals_say_how_to_mend_them() {
        for (kind, said, hint) in [
            (
                io::ErrorKind::PermissionDenied,
                "no permission",
                "write permission",
            ),
            (
                io::ErrorKind::ReadOnlyFilesystem,
                "read-only",
                "writable file system",
            ),
            (
                io::ErrorKind::StorageFull,
                "the disk is full",
                "free some space",
            ),
            (io::ErrorKind::FileTooLarge, "file size limit", "ulimit -f"),
        ] {
            let error = OpenError::io("write", Path::new("/x/lock"), kind.into());
            assert!(error.to_string().contains(said), "{error}");
            assert!(error.to_string().contains("/x/lock"), "{error}");
            assert!(error.hint().contains(hint), "{}", error.hint());
        }
    }

    #[test]
    fn the_running_proxys_address_is_there_while_it_runs() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut home = Home::open(folder.path()).expect("a new ledger");
        let address = SocketAddr::from(([127, 0, 0, 1], 8402));
        home.announce(address).expect("writable");
        let pid = std::process::id();
        assert_eq!(running(folder.path()), Some(Running { pid, address }));
        drop(home);
        assert_eq!(running(folder.path()), None);
    }
}
