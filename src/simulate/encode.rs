//! Content encodings: answers are packed frame by frame, so that each can be unpacked as it comes; requests are
//! unpacked whole.

use std::fmt;
use std::io::{self, Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

use super::behaviour::Encoding;

/// Largest request after unpacking: a small body must not fill the memory.
const MAX_UNPACKED: u64 = 256 * 1024 * 1024;

/// Packs a body as it is written.
pub(super) enum Encoder {
    /// RFC 1952.
    Gzip(GzEncoder<Vec<u8>>),
    /// RFC 1950.
    Deflate(ZlibEncoder<Vec<u8>>),
    /// RFC 7932.
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    /// RFC 8878.
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Encoder")
    }
}

impl Encoder {
    /// An encoder for one body.
    ///
    /// # Errors
    /// The zstd library cannot make one (no memory).
    pub(super) fn new(encoding: Encoding) -> io::Result<Self> {
        Ok(match encoding {
            Encoding::Gzip => Encoder::Gzip(GzEncoder::new(Vec::new(), Compression::fast())),
            Encoding::Deflate => {
                Encoder::Deflate(ZlibEncoder::new(Vec::new(), Compression::fast()))
            }
            Encoding::Brotli => Encoder::Brotli(Box::new(brotli::CompressorWriter::new(
                Vec::new(),
                4096,
                4,
                18,
            ))),
            Encoding::Zstd => Encoder::Zstd(zstd::stream::write::Encoder::new(Vec::new(), 1)?),
        })
    }

    /// Packs a frame so that the other side can unpack all of it now.
    ///
    /// # Errors
    /// Writing into memory fails, which the libraries allow for and which does not happen.
    pub(super) fn pack(&mut self, bytes: &[u8]) -> io::Result<Bytes> {
        let packed = match self {
            Encoder::Gzip(encoder) => flushed(encoder, bytes)?.get_mut(),
            Encoder::Deflate(encoder) => flushed(encoder, bytes)?.get_mut(),
            Encoder::Brotli(encoder) => flushed(encoder.as_mut(), bytes)?.get_mut(),
            Encoder::Zstd(encoder) => flushed(encoder, bytes)?.get_mut(),
        };
        Ok(std::mem::take(packed).into())
    }

    /// Ends the body and gives what is left of it.
    ///
    /// # Errors
    /// As [`Encoder::pack`].
    pub(super) fn finish(self) -> io::Result<Bytes> {
        Ok(match self {
            Encoder::Gzip(encoder) => encoder.finish()?.into(),
            Encoder::Deflate(encoder) => encoder.finish()?.into(),
            Encoder::Brotli(encoder) => encoder.into_inner().into(),
            Encoder::Zstd(encoder) => encoder.finish()?.into(),
        })
    }
}

fn flushed<'a, W: Write>(writer: &'a mut W, bytes: &[u8]) -> io::Result<&'a mut W> {
    writer.write_all(bytes)?;
    writer.flush()?;
    Ok(writer)
}

/// Packs a body in one piece.
///
/// # Errors
/// As [`Encoder::pack`].
pub(super) fn packed(encoding: Encoding, body: &[u8]) -> io::Result<Bytes> {
    let mut encoder = Encoder::new(encoding)?;
    let mut all = encoder.pack(body)?.to_vec();
    all.extend_from_slice(&encoder.finish()?);
    Ok(all.into())
}

/// Unpacks a request's body.
///
/// # Errors
/// The body is not in that encoding, or larger than 256 MiB.
pub(super) fn unpacked(encoding: Encoding, body: &[u8]) -> io::Result<Bytes> {
    let reader: Box<dyn Read + '_> = match encoding {
        Encoding::Gzip => Box::new(flate2::read::MultiGzDecoder::new(body)),
        Encoding::Deflate => Box::new(flate2::read::ZlibDecoder::new(body)),
        Encoding::Brotli => Box::new(brotli_decompressor::Decompressor::new(body, 4096)),
        Encoding::Zstd => Box::new(zstd::stream::read::Decoder::new(body)?),
    };
    let mut plain = Vec::new();
    reader.take(MAX_UNPACKED + 1).read_to_end(&mut plain)?;
    if plain.len() as u64 > MAX_UNPACKED {
        return Err(io::Error::other("larger than 256 MiB when unpacked"));
    }
    Ok(plain.into())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    const ALL: [Encoding; 4] = [
        Encoding::Gzip,
        Encoding::Deflate,
        Encoding::Brotli,
        Encoding::Zstd,
    ];

    #[test]
    fn what_is_packed_in_frames_unpacks_to_the_same_bytes() {
        for encoding in ALL {
            let mut encoder = Encoder::new(encoding).unwrap();
            let mut packed = Vec::new();
            for frame in ["data: one\n\n", "data: two\n\n"] {
                packed.extend_from_slice(&encoder.pack(frame.as_bytes()).unwrap());
            }
            packed.extend_from_slice(&encoder.finish().unwrap());
            assert_eq!(
                unpacked(encoding, &packed).unwrap(),
                "data: one\n\ndata: two\n\n",
                "{encoding}"
            );
        }
    }

    #[test]
    fn a_frame_can_be_unpacked_before_the_next_one_comes() {
        for encoding in ALL {
            let mut encoder = Encoder::new(encoding).unwrap();
            let first = encoder.pack(b"data: first\n\n").unwrap();
            let mut plain = [0; 13];
            let mut reader: Box<dyn Read> = match encoding {
                Encoding::Gzip => Box::new(flate2::read::GzDecoder::new(&*first)),
                Encoding::Deflate => Box::new(flate2::read::ZlibDecoder::new(&*first)),
                Encoding::Brotli => Box::new(brotli_decompressor::Decompressor::new(&*first, 4096)),
                Encoding::Zstd => Box::new(zstd::stream::read::Decoder::new(&*first).unwrap()),
            };
            reader.read_exact(&mut plain).unwrap();
            assert_eq!(&plain, b"data: first\n\n", "{encoding}");
        }
    }

    #[test]
    fn what_is_not_packed_is_an_error() {
        for encoding in ALL {
            assert!(unpacked(encoding, b"\x01plain text").is_err(), "{encoding}");
        }
    }
}
