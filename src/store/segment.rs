//! The journal's files: one per segment, numbered without gaps, each beginning with a magic and its number.
//!
//! Writing goes through two small traits, so that a test can give out a disk that is full.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// First bytes of a segment.
const MAGIC: [u8; 8] = *b"TGJRNL1\n";

/// Bytes before the first frame: the magic and the segment's number.
pub const HEADER: u64 = 16;

/// A segment that is being written.
pub trait SegmentFile: Send + Sync {
    /// Writes at the end, perhaps not everything; returns how many bytes.
    fn append(&self, bytes: &[u8]) -> io::Result<usize>;
    /// Cuts the file to a length.
    fn truncate(&self, length: u64) -> io::Result<()>;
    /// Makes what was written survive a power cut.
    fn sync(&self) -> io::Result<()>;
}

impl SegmentFile for File {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut file = self;
        file.write(bytes)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Makes new segments.
pub trait SegmentMaker: Send + Sync {
    /// Makes the segment with this number, header written, durable in its directory.
    fn create(&self, number: u64) -> io::Result<Arc<dyn SegmentFile>>;
}

/// The directory of the segments.
#[derive(Debug, Clone)]
pub struct SegmentDir(PathBuf);

/// A segment as it was read.
#[derive(Debug)]
pub struct Segment {
    /// Everything after the header.
    pub frames: Vec<u8>,
    /// Whether the header was whole and named this segment.
    pub header_is_whole: bool,
}

impl SegmentDir {
    /// Segments live in `path`, which must exist.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where they live.
    pub fn path(&self) -> &Path {
        &self.0
    }

    fn file(&self, number: u64) -> PathBuf {
        self.0.join(format!("{number:012}.log"))
    }

    /// The numbers of all segments, rising.
    pub fn list(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let name = entry?.file_name();
            let number = name
                .to_str()
                .and_then(|name| name.strip_suffix(".log"))
                .and_then(|stem| stem.parse::<u64>().ok());
            numbers.extend(number);
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Bytes of one segment.
    pub fn size(&self, number: u64) -> u64 {
        fs::metadata(self.file(number)).map_or(0, |file| file.len())
    }

    /// Reads a whole segment. They are rotated every second or few MiB, so this is little.
    pub fn read(&self, number: u64) -> io::Result<Segment> {
        let mut frames = fs::read(self.file(number))?;
        let header_is_whole = frames.get(..HEADER as usize) == Some(&header(number));
        let body = if header_is_whole {
            HEADER as usize
        } else {
            // A header cut short holds no frame behind it; a flipped one does, and the walk finds them.
            0
        };
        frames.drain(..body);
        Ok(Segment {
            frames,
            header_is_whole,
        })
    }

    /// Deletes a segment; one that has gone is fine.
    pub fn remove(&self, number: u64) -> io::Result<()> {
        match fs::remove_file(self.file(number)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Keeps a damaged segment's file under another name, for people to look at. Returns that name.
    pub fn keep_damaged(&self, number: u64) -> io::Result<PathBuf> {
        let kept = self.0.join(format!("{number:012}.damaged"));
        if !kept.exists() && fs::hard_link(self.file(number), &kept).is_err() {
            fs::copy(self.file(number), &kept)?;
        }
        Ok(kept)
    }

    /// Makes the directory's entries survive a power cut.
    pub fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}

fn header(number: u64) -> [u8; HEADER as usize] {
    let mut bytes = [0; HEADER as usize];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..].copy_from_slice(&number.to_le_bytes());
    bytes
}

impl SegmentMaker for SegmentDir {
    fn create(&self, number: u64) -> io::Result<Arc<dyn SegmentFile>> {
        let path = self.file(number);
        let made = (|| {
            let mut file = OpenOptions::new()
                .create_new(true)
                .append(true)
                .open(&path)?;
            file.write_all(&header(number))?;
            file.sync_data()?;
            self.sync()?;
            Ok(file)
        })();
        match made {
            Ok(file) => Ok(Arc::new(file)),
            Err(error) => {
                // A half-made segment holds nothing, and would stand in the way of the next try.
                if io::Error::kind(&error) != io::ErrorKind::AlreadyExists {
                    fs::remove_file(&path).ok();
                }
                Err(error)
            }
        }
    }
}
