//! Undoes a request's content encoding on a bounded copy, for reading only: the client's own bytes go on.

use std::borrow::Cow;
use std::io::Read;

/// Largest zstd window in bits: 8 MiB, what RFC 8878 asks every decoder to take. A larger one would let a few bytes
/// ask for 128 MiB of memory.
const ZSTD_WINDOW_BITS: u32 = 23;

/// How many encodings may lie over each other.
const MAX_LAYERS: usize = 2;

/// Why a body's text could not be had. It passes nevertheless, unparsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Decoded, it would be larger than the cap.
    #[error("body is too large after decoding")]
    TooLarge,
    /// The bytes are not what the header says.
    #[error("body does not decode")]
    Broken,
    /// An encoding that is not gzip, deflate, br or zstd.
    #[error("unknown content encoding")]
    UnknownEncoding,
}

/// Returns the body as it is without its content encoding, at most `cap` bytes of it.
///
/// `content_encoding` is the header's value; without one, or with `identity`, the body itself is returned.
///
/// # Errors
///
/// The body is larger than `cap` once decoded, is damaged, or has an encoding that is not known.
pub fn decoded<'a>(
    content_encoding: Option<&str>,
    body: &'a [u8],
    cap: usize,
) -> Result<Cow<'a, [u8]>, Unreadable> {
    let mut plain = Cow::Borrowed(body);
    let encodings = content_encoding.unwrap_or_default();
    // The last one named was applied last.
    for (layer, encoding) in encodings.rsplit(',').map(str::trim).enumerate() {
        if layer >= MAX_LAYERS {
            return Err(Unreadable::UnknownEncoding);
        }
        let copy = match encoding.to_ascii_lowercase().as_str() {
            "" | "identity" => continue,
            "gzip" | "x-gzip" => read(flate2::read::MultiGzDecoder::new(&*plain), cap),
            // The name means zlib; some senders leave its frame out.
            "deflate" => match read(flate2::read::ZlibDecoder::new(&*plain), cap) {
                Err(Unreadable::Broken) => read(flate2::read::DeflateDecoder::new(&*plain), cap),
                other => other,
            },
            "br" => read(brotli_decompressor::Decompressor::new(&*plain, 4096), cap),
            "zstd" => zstd::stream::read::Decoder::with_buffer(&*plain)
                .and_then(|mut decoder| {
                    decoder.window_log_max(ZSTD_WINDOW_BITS)?;
                    Ok(decoder)
                })
                .map_err(|_| Unreadable::Broken)
                .and_then(|decoder| read(decoder, cap)),
            _ => return Err(Unreadable::UnknownEncoding),
        }?;
        plain = Cow::Owned(copy);
    }
    Ok(plain)
}

fn read(decoder: impl Read, cap: usize) -> Result<Vec<u8>, Unreadable> {
    let mut plain = Vec::new();
    decoder
        .take(cap as u64 + 1)
        .read_to_end(&mut plain)
        .map_err(|_| Unreadable::Broken)?;
    if plain.len() > cap {
        return Err(Unreadable::TooLarge);
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::read::{DeflateEncoder, GzEncoder, ZlibEncoder};

    const TEXT: &[u8] = br#"{"model":"m","messages":[]}"#;

    /// `TEXT` in brotli: one uncompressed block between header and end mark.
    fn brotli() -> Vec<u8> {
        let mut coded = Vec::new();
        // Stream header: window bits 16 (one zero bit); then ISLAST=0, MNIBBLES=4, MLEN-1, ISUNCOMPRESSED=1.
        let length = (TEXT.len() - 1) as u32;
        let bits: u32 = (length << 4) | (1 << 20);
        coded.extend_from_slice(&bits.to_le_bytes()[..3]);
        coded.extend_from_slice(TEXT);
        coded.push(0x03);
        coded
    }

    fn read_all(mut encoder: impl Read) -> Vec<u8> {
        let mut coded = Vec::new();
        encoder.read_to_end(&mut coded).expect("encoding in memory");
        coded
    }

    #[test]
    fn every_encoding_that_clients_use_is_undone() {
        let level = Compression::default();
        let zstd = zstd::encode_all(TEXT, 3).expect("encoding in memory");
        let gzip = read_all(GzEncoder::new(TEXT, level));
        for (encoding, body) in [
            ("gzip", gzip.clone()),
            ("X-GZIP", gzip.clone()),
            ("deflate", read_all(ZlibEncoder::new(TEXT, level))),
            ("deflate", read_all(DeflateEncoder::new(TEXT, level))),
            ("br", brotli()),
            ("zstd", zstd.clone()),
            ("zstd, gzip", read_all(GzEncoder::new(&zstd[..], level))),
            ("identity", TEXT.to_vec()),
        ] {
            assert_eq!(
                decoded(Some(encoding), &body, 1_000).as_deref(),
                Ok(TEXT),
                "{encoding}"
            );
            if encoding != "identity" {
                assert_eq!(
                    decoded(Some(encoding), &body, 20),
                    Err(Unreadable::TooLarge),
                    "{encoding}"
                );
                let cut = &body[..body.len() - 2];
                assert!(decoded(Some(encoding), cut, 1_000).is_err(), "{encoding}");
            }
        }
        assert_eq!(decoded(None, TEXT, 1).as_deref(), Ok(TEXT));
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        for encoding in ["snappy", "gzip, gzip, gzip", "aws-chunked"] {
            let gzip = read_all(GzEncoder::new(TEXT, Compression::default()));
            assert!(decoded(Some(encoding), &gzip, 1_000).is_err(), "{encoding}");
        }
    }

    #[test]
    fn a_bomb_costs_no_more_than_the_cap() {
        let zeros = vec![0_u8; 50_000_000];
        let bomb = zstd::encode_all(&zeros[..], 1).expect("encoding in memory");
        assert!(bomb.len() < 100_000);
        assert_eq!(
            decoded(Some("zstd"), &bomb, 1_000_000),
            Err(Unreadable::TooLarge)
        );
    }
}
