//! Every way in which the ledger can fail, with what is wrong, where, and how to mend it.

use std::io;
use std::path::{Path, PathBuf};

use super::record::Record;

/// The ledger cannot be opened. Nothing has been erased.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process holds the ledger.
    #[error("the ledger {} is locked by another tollgate process{}", .dir.display(), pid_text(.pid))]
    Locked {
        /// The ledger's directory.
        dir: PathBuf,
        /// The process that holds it, if it wrote its number.
        pid: Option<u32>,
    },
    /// The path is a file or another thing that cannot hold files.
    #[error("{} is not a directory", .dir.display())]
    NotADirectory {
        /// The path in question.
        dir: PathBuf,
    },
    /// The directory holds files that no ledger makes.
    #[error("{} is not a tollgate ledger: it holds {stranger:?}", .dir.display())]
    Foreign {
        /// The ledger's directory.
        dir: PathBuf,
        /// One file that does not belong there.
        stranger: String,
    },
    /// A newer tollgate wrote it.
    #[error("the ledger {} has format {found}; this tollgate knows formats up to {known}", .dir.display())]
    Newer {
        /// The ledger's directory.
        dir: PathBuf,
        /// The format that the directory states.
        found: u32,
        /// The newest format that this program reads.
        known: u32,
    },
    /// Its files contradict each other or cannot be read.
    #[error("the ledger {} is damaged: {what}", .dir.display())]
    Damaged {
        /// The ledger's directory.
        dir: PathBuf,
        /// What was found.
        what: String,
    },
    /// The system refused.
    #[error("cannot {action} {}{}", .path.display(), why(.source))]
    Io {
        /// What was attempted, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

fn pid_text(pid: &Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}

/// The usual reasons in words; the system's own text follows as the error's source.
fn why(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => ": no permission",
        io::ErrorKind::ReadOnlyFilesystem => ": the file system is read-only",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ": the disk is full",
        io::ErrorKind::FileTooLarge => ": the file size limit is reached",
        _ => "",
    }
}

impl OpenError {
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_path_buf(),
            source,
        }
    }

    /// How to mend it, for the `hint:` line.
    pub fn hint(&self) -> String {
        match self {
            OpenError::Locked { pid, .. } => format!(
                "stop that process{}, or give this one another directory (ledger.dir)",
                pid.map_or_else(String::new, |pid| format!(" (kill {pid})"))
            ),
            OpenError::NotADirectory { .. } => {
                "set ledger.dir to a directory, or move that file away".to_owned()
            }
            OpenError::Foreign { .. } => {
                "set ledger.dir to an empty or new directory; nothing was changed".to_owned()
            }
            OpenError::Newer { .. } => {
                "use the newer tollgate, or set ledger.dir to another directory".to_owned()
            }
            OpenError::Damaged { .. } => {
                "nothing was erased: restore the directory from a backup, or move it away and start with a new one"
                    .to_owned()
            }
            OpenError::Io { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => {
                    "give the user that runs tollgate write permission there, or set ledger.dir"
                }
                io::ErrorKind::ReadOnlyFilesystem => "set ledger.dir to a writable file system",
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    "free some space, or set ledger.dir to another disk"
                }
                io::ErrorKind::FileTooLarge => "raise the file size limit (ulimit -f)",
                _ => "check the path in ledger.dir",
            }
            .to_owned(),
        }
    }
}

/// A request could not be written down. Holds the record, for those who go on without.
#[derive(Debug, thiserror::Error)]
#[error("the ledger cannot be written")]
pub struct LedgerFailure {
    /// What was to be recorded.
    pub record: Box<Record>,
    /// Why it was not.
    #[source]
    pub source: io::Error,
}

/// The database failed: an error, a panic caught, or content that cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The disk refused.
    #[error("{1}")]
    Io(io::ErrorKind, String),
    /// The database reports damage, panicked, or holds what cannot be read.
    #[error("{0}")]
    Damaged(String),
}

impl StoreError {
    pub(super) fn io(action: &str, source: &io::Error) -> Self {
        Self::Io(source.kind(), format!("cannot {action}: {source}"))
    }
}

/// A question to the ledger got no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The database failed; requests are still journaled, and it is reopened by itself.
    #[error("the ledger's store cannot be read")]
    Store(#[from] StoreError),
    /// Too many questions wait already.
    #[error("the ledger is busy")]
    Busy,
    /// The ledger has been shut down.
    #[error("the ledger is closed")]
    Closed,
}
