//! A copy of the database's file from before it was opened.
//!
//! sled takes a damaged beginning, or a file that was cut, for an empty log and begins to write over it. So the file is
//! copied before it is opened, and put back unless the caller, who knows from the journal what must be in it, accepts
//! what came up. A copy that a process left behind when it was killed is put back too: everything newer is in the
//! journal. Large files are not copied, as that would take seconds; of those only the copy's absence can be told.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Largest file that is copied, in bytes: some 10 ms of start-up time.
const LARGEST: u64 = 32 << 20;

/// Holds the copy and puts it back when dropped, unless it was let go.
#[derive(Debug)]
pub(super) struct SafetyCopy {
    original: PathBuf,
    copy: Option<PathBuf>,
}

impl SafetyCopy {
    /// Copies a file that may not be there.
    ///
    /// # Errors
    /// When it is there and cannot be copied.
    pub(super) fn of(original: &Path) -> io::Result<Self> {
        let copy = original.with_extension("before");
        if copy.exists() {
            fs::rename(&copy, original)?;
        }
        let size = match fs::metadata(original) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            metadata => Some(metadata?.len()),
        };
        let copied = size.is_some_and(|size| size > 0 && size <= LARGEST);
        if copied {
            // A name of its own until it is whole: half a copy must never be put back.
            let unfinished = original.with_extension("copying");
            fs::copy(original, &unfinished)?;
            File::open(&unfinished)?.sync_data()?;
            fs::rename(&unfinished, &copy)?;
        }
        Ok(Self {
            original: original.to_path_buf(),
            copy: copied.then_some(copy),
        })
    }

    /// What came up is what must be there: the copy goes.
    ///
    /// # Errors
    /// When it cannot be removed; it would be put back by the next start.
    pub(super) fn let_go(&mut self) -> io::Result<()> {
        self.copy.take().map_or(Ok(()), fs::remove_file)
    }
}

impl Drop for SafetyCopy {
    fn drop(&mut self) {
        if let Some(copy) = self.copy.take() {
            // If this fails, the copy stays where it is, and the next start puts it back.
            let _ = fs::rename(copy, &self.original);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_accepted_is_put_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("db");
        fs::write(&file, "before").expect("a file");
        let copy = SafetyCopy::of(&file).expect("a copy");
        fs::write(&file, "after").expect("a file");
        drop(copy);
        assert_eq!(fs::read_to_string(&file).expect("a file"), "before");
        let mut copy = SafetyCopy::of(&file).expect("a copy");
        fs::write(&file, "after").expect("a file");
        copy.let_go().expect("removed");
        drop(copy);
        assert_eq!(fs::read_to_string(&file).expect("a file"), "after");
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 1);
    }

    #[test]
    fn a_copy_that_a_killed_process_left_is_put_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("db");
        fs::write(&file, "before").expect("a file");
        let copy = SafetyCopy::of(&file).expect("a copy");
        fs::write(&file, "half done").expect("a file");
        std::mem::forget(copy);
        drop(SafetyCopy::of(&file).expect("a copy"));
        assert_eq!(fs::read_to_string(&file).expect("a file"), "before");
    }
}
