//! What the lanes have learned, kept in a file beside the ledger so that it survives a restart. Nothing depends on it: a file
//! that is missing or damaged means that everything is learned anew.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::LaneKey;
use crate::policy::lane::Learned;

/// The file's name in the ledger's directory.
pub(super) const FILE: &str = "limits.cbor";

/// Provider, credential's fingerprint, class, and what was learned.
type Line = (String, String, String, Learned);

fn file(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

/// What an earlier process has learned.
pub(super) fn read(dir: &Path) -> HashMap<LaneKey, Learned> {
    let Ok(bytes) = std::fs::read(file(dir)) else {
        return HashMap::new();
    };
    let lines: Vec<Line> = match minicbor::decode(&bytes) {
        Ok(lines) => lines,
        Err(error) => {
            tracing::warn!(file = %file(dir).display(), %error, "what was learned of limits cannot be read; it is learned anew");
            return HashMap::new();
        }
    };
    let keyed = lines
        .into_iter()
        .map(|(provider, credential, class, learned)| {
            let key = LaneKey {
                provider,
                credential,
                class,
            };
            (key, learned)
        });
    keyed.collect()
}

/// Writes what has been learned, in the place of what stood there.
pub(super) fn write(dir: &Path, learned: Vec<(LaneKey, Learned)>) -> std::io::Result<()> {
    let lines: Vec<Line> = learned
        .into_iter()
        .map(|(key, learned)| (key.provider, key.credential, key.class, learned))
        .collect();
    let bytes = minicbor::to_vec(&lines).expect("encoding into memory cannot fail");
    let fresh = dir.join(format!("{FILE}.new"));
    let mut out = std::fs::File::create(&fresh)?;
    out.write_all(&bytes)?;
    out.sync_all()?;
    std::fs::rename(fresh, file(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_learned_reads_back_and_damage_is_only_forgotten() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        assert!(read(dir.path()).is_empty());
        let key = LaneKey {
            provider: "p".into(),
            credential: "key-1".into(),
            class: "m".into(),
        };
        let learned = Learned {
            at_ms: 7,
            concurrency: Some(3),
            ..Learned::default()
        };
        write(dir.path(), vec![(key.clone(), learned.clone())]).expect("a writable folder");
        assert_eq!(read(dir.path()).get(&key), Some(&learned));
        std::fs::write(file(dir.path()), b"no").expect("a writable folder");
        assert!(read(dir.path()).is_empty());
    }
}
