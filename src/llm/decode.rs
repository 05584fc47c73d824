//! Undoes an answer's content coding on the side copy that the meter reads.
//!
//! Decoders push: plain bytes come out as soon as compressed ones have gone in, straight into the sink, so nothing is
//! collected however much a few bytes inflate to. What inflates beyond all reason is given up.

use std::io::{self, Write};

use brotli_decompressor::DecompressorWriter;
use flate2::write::MultiGzDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;

/// How an answer's bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// Not at all.
    Identity,
    /// gzip, also several members in a row.
    Gzip,
    /// zlib, or raw deflate as some servers send under the same name.
    Deflate,
    /// Brotli.
    Brotli,
    /// Zstandard.
    Zstd,
    /// Something else, or several codings on top of each other.
    Unknown,
}

impl Coding {
    /// Reads the `content-encoding` of an answer.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut codings = headers
            .get_all(CONTENT_ENCODING)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case(b"identity"));
        let Some(coding) = codings.next() else {
            return Coding::Identity;
        };
        if codings.next().is_some() {
            return Coding::Unknown;
        }
        match coding.to_ascii_lowercase().as_slice() {
            b"gzip" | b"x-gzip" => Coding::Gzip,
            b"deflate" => Coding::Deflate,
            b"br" => Coding::Brotli,
            b"zstd" => Coding::Zstd,
            _ => Coding::Unknown,
        }
    }
}

/// Plain bytes that are always let through, whatever they came from.
const FREE_BYTES: u64 = 64 << 20;
/// Beyond that, plain bytes per compressed one. Text compresses some ten times, a zeros file a thousand times.
const MAX_RATIO: u64 = 1000;
/// Largest zstd window, as a power of two: RFC 9659 lets a content coding use 8 MiB.
const ZSTD_WINDOW_LOG: u32 = 23;

/// A decoder that owns the sink of its plain bytes.
pub(crate) enum Decoder<W: Write> {
    Identity(W),
    Gzip(Box<MultiGzDecoder<Bounded<W>>>),
    Deflate(Box<Deflate<W>>),
    Brotli(Box<DecompressorWriter<Bounded<W>>>),
    Zstd(Box<zstd::stream::write::Decoder<'static, Bounded<W>>>),
    /// The coding cannot be undone.
    Unknown(W),
}

impl<W: Write> Decoder<W> {
    /// Makes the decoder for a coding.
    pub(crate) fn new(coding: Coding, sink: W) -> Self {
        match coding {
            Coding::Identity => Decoder::Identity(sink),
            Coding::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(Bounded::new(sink)))),
            Coding::Deflate => Decoder::Deflate(Box::new(Deflate::new(sink))),
            Coding::Brotli => {
                // 4096: bytes of its output buffer.
                Decoder::Brotli(Box::new(DecompressorWriter::new(Bounded::new(sink), 4096)))
            }
            Coding::Zstd => match zstd_decoder() {
                Ok(raw) => Decoder::Zstd(Box::new(zstd::stream::write::Decoder::with_decoder(
                    Bounded::new(sink),
                    raw,
                ))),
                Err(_) => Decoder::Unknown(sink),
            },
            Coding::Unknown => Decoder::Unknown(sink),
        }
    }

    /// The sink.
    pub(crate) fn sink(&self) -> &W {
        match self {
            Decoder::Identity(sink) | Decoder::Unknown(sink) => sink,
            Decoder::Gzip(decoder) => &decoder.get_ref().sink,
            Decoder::Deflate(decoder) => &decoder.sink.sink,
            Decoder::Brotli(decoder) => &decoder.get_ref().sink,
            Decoder::Zstd(decoder) => &decoder.get_ref().sink,
        }
    }

    /// The sink, to be changed.
    pub(crate) fn sink_mut(&mut self) -> &mut W {
        match self {
            Decoder::Identity(sink) | Decoder::Unknown(sink) => sink,
            Decoder::Gzip(decoder) => &mut decoder.get_mut().sink,
            Decoder::Deflate(decoder) => &mut decoder.sink.sink,
            Decoder::Brotli(decoder) => &mut decoder.get_mut().sink,
            Decoder::Zstd(decoder) => &mut decoder.get_mut().sink,
        }
    }

    /// Decodes the next bytes; all that they yield has reached the sink when this returns.
    ///
    /// # Errors
    /// When they are not what the coding says, or yield more than any answer would. The decoder must not be used again.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Decoder::Identity(sink) => sink.write_all(bytes),
            Decoder::Gzip(decoder) => {
                decoder.get_mut().allow(bytes.len());
                write_and_flush(&mut **decoder, bytes)
            }
            Decoder::Deflate(decoder) => {
                decoder.sink.allow(bytes.len());
                decoder.push(bytes)
            }
            Decoder::Brotli(decoder) => {
                decoder.get_mut().allow(bytes.len());
                write_and_flush(&mut **decoder, bytes)
            }
            Decoder::Zstd(decoder) => {
                decoder.get_mut().allow(bytes.len());
                write_and_flush(&mut **decoder, bytes)
            }
            Decoder::Unknown(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// The body has ended. Not for one that had no bytes at all.
    ///
    /// # Errors
    /// When the compressed stream has not.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        match self {
            Decoder::Identity(_) => Ok(()),
            Decoder::Gzip(decoder) => decoder.try_finish(),
            Decoder::Deflate(decoder) if decoder.ended => Ok(()),
            Decoder::Deflate(_) => Err(io::ErrorKind::UnexpectedEof.into()),
            Decoder::Brotli(decoder) => decoder.close(),
            Decoder::Zstd(decoder) => decoder.do_finish(),
            Decoder::Unknown(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// Writes until everything is taken or the compressed stream is at its end; what follows that end is ignored.
fn write_and_flush(decoder: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match decoder.write(bytes)? {
            0 => break,
            taken => bytes = &bytes[taken..],
        }
    }
    decoder.flush()
}

/// A zstd decoder whose window, and so whose memory, is bounded.
fn zstd_decoder() -> io::Result<zstd::stream::raw::Decoder<'static>> {
    let mut raw = zstd::stream::raw::Decoder::new()?;
    raw.set_parameter(zstd::stream::raw::DParameter::WindowLogMax(ZSTD_WINDOW_LOG))?;
    Ok(raw)
}

/// zlib or raw deflate, told apart by the first two bytes.
pub(crate) struct Deflate<W> {
    head: Vec<u8>,
    inflate: Option<Decompress>,
    ended: bool,
    sink: Bounded<W>,
}

impl<W: Write> Deflate<W> {
    fn new(sink: W) -> Self {
        Self {
            head: Vec::new(),
            inflate: None,
            ended: false,
            sink: Bounded::new(sink),
        }
    }

    fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.inflate.is_some() {
            return self.inflate(bytes);
        }
        self.head.extend_from_slice(bytes);
        let [first, second, ..] = self.head[..] else {
            return Ok(());
        };
        // RFC 1950: method 8, window at most 2^15, and the two bytes are a multiple of 31.
        let zlib = first & 0x0F == 8
            && first >> 4 <= 7
            && u16::from_be_bytes([first, second]).is_multiple_of(31);
        self.inflate = Some(Decompress::new(zlib));
        let head = std::mem::take(&mut self.head);
        self.inflate(&head)
    }

    fn inflate(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let Some(inflate) = &mut self.inflate else {
            return Ok(());
        };
        let mut plain = [0; 4096];
        while !self.ended {
            let (taken, given) = (inflate.total_in(), inflate.total_out());
            let status = inflate.decompress(bytes, &mut plain, FlushDecompress::None)?;
            let taken = (inflate.total_in() - taken) as usize;
            let given = (inflate.total_out() - given) as usize;
            self.sink.write_all(&plain[..given])?;
            bytes = &bytes[taken..];
            self.ended = status == Status::StreamEnd;
            if taken == 0 && given == 0 {
                break;
            }
        }
        // Plain text passes for a short raw stream with something after it.
        if self.ended && !bytes.is_empty() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(())
    }
}

/// Lets plain bytes through as long as they are in proportion to the compressed ones.
pub(crate) struct Bounded<W> {
    sink: W,
    compressed: u64,
    plain: u64,
}

impl<W> Bounded<W> {
    fn new(sink: W) -> Self {
        Self {
            sink,
            compressed: 0,
            plain: 0,
        }
    }

    fn allow(&mut self, compressed: usize) {
        self.compressed += compressed as u64;
    }
}

impl<W: Write> Write for Bounded<W> {
    fn write(&mut self, plain: &[u8]) -> io::Result<usize> {
        self.plain += plain.len() as u64;
        if self.plain > FREE_BYTES.max(self.compressed.saturating_mul(MAX_RATIO)) {
            return Err(io::Error::other("inflates too much"));
        }
        self.sink.write_all(plain)?;
        Ok(plain.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn decode<'a>(
        coding: Coding,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> io::Result<Vec<u8>> {
        let mut decoder = Decoder::new(coding, Vec::new());
        for piece in pieces {
            decoder.push(piece)?;
        }
        Ok(decoder.sink().clone())
    }

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).expect("memory takes it");
        encoder.finish().expect("memory takes it")
    }

    /// Made with Node's zlib at quality 9.
    const BROTLI: [u8; 35] = [
        0x1b, 0x97, 0x03, 0x00, 0x04, 0x6a, 0x72, 0xfe, 0x42, 0xbf, 0x13, 0x7c, 0x94, 0x96, 0xb4,
        0xbc, 0x95, 0x83, 0x8c, 0x52, 0x60, 0x55, 0xa7, 0xc8, 0x52, 0x7c, 0x8c, 0x97, 0xdb, 0x49,
        0xd8, 0x9e, 0xe2, 0x25, 0x02,
    ];

    #[test]
    fn brotli_comes_out_as_it_was() {
        let plain = "data: {\"type\":\"ping\"}\n\n".repeat(40).into_bytes();
        assert_eq!(decode(Coding::Brotli, [&BROTLI[..]]).expect("valid"), plain);
        assert_eq!(
            decode(Coding::Brotli, BROTLI.chunks(1)).expect("valid"),
            plain
        );
    }

    #[test]
    fn what_has_been_flushed_upstream_is_there_at_once() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(b"first").expect("memory takes it");
        encoder.flush().expect("memory takes it");
        assert_eq!(
            decode(Coding::Gzip, [&encoder.get_ref()[..]]).expect("valid"),
            b"first"
        );
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("memory");
        encoder.write_all(b"first").expect("memory takes it");
        encoder.flush().expect("memory takes it");
        assert_eq!(
            decode(Coding::Zstd, [&encoder.get_ref()[..]]).expect("valid"),
            b"first"
        );
    }

    #[test]
    fn gzip_members_in_a_row_are_one_body() {
        let body = [gzip(b"one "), gzip(b"two")].concat();
        assert_eq!(
            decode(Coding::Gzip, [&body[..]]).expect("valid"),
            b"one two"
        );
        assert_eq!(
            decode(Coding::Gzip, body.chunks(1)).expect("valid"),
            b"one two"
        );
    }

    #[test]
    fn wrong_bytes_and_unknown_codings_fail() {
        for coding in [
            Coding::Gzip,
            Coding::Deflate,
            Coding::Brotli,
            Coding::Zstd,
            Coding::Unknown,
        ] {
            let mut decoder = Decoder::new(coding, Vec::new());
            let pushed = decoder.push(b"{\"usage\": \"this is no compressed body\"}");
            assert!(
                pushed.and_then(|()| decoder.finish()).is_err(),
                "{coding:?}"
            );
        }
    }

    #[test]
    fn a_body_that_ends_inside_its_compressed_stream_is_told() {
        for (coding, body) in [
            (Coding::Gzip, gzip(b"some text")),
            (Coding::Brotli, BROTLI.to_vec()),
            (
                Coding::Zstd,
                zstd::encode_all(&b"some text"[..], 1).expect("memory takes it"),
            ),
        ] {
            for (end, whole) in [(body.len(), true), (body.len() - 1, false), (1, false)] {
                let mut decoder = Decoder::new(coding, Vec::new());
                decoder.push(&body[..end]).expect("valid so far");
                assert_eq!(decoder.finish().is_ok(), whole, "{coding:?} up to {end}");
            }
        }
    }

    #[test]
    fn a_bomb_is_given_up_and_costs_no_memory() {
        struct Counter(u64);
        impl Write for Counter {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 += bytes.len() as u64;
                assert!(bytes.len() <= 1 << 20, "pieces stay small");
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let bomb = zstd::encode_all(io::repeat(0).take(100 << 20), 1).expect("memory takes it");
        assert!(bomb.len() < 20_000);
        let mut decoder = Decoder::new(Coding::Zstd, Counter(0));
        assert!(decoder.push(&bomb).is_err());
        assert!(decoder.sink().0 <= FREE_BYTES);
    }

    #[test]
    fn the_header_names_one_coding_or_none_that_can_be_undone() {
        for (values, coding) in [
            (&[][..], Coding::Identity),
            (&["identity"], Coding::Identity),
            (&["GZIP"], Coding::Gzip),
            (&["deflate"], Coding::Deflate),
            (&["br"], Coding::Brotli),
            (&["identity, zstd"], Coding::Zstd),
            (&["gzip, br"], Coding::Unknown),
            (&["gzip", "gzip"], Coding::Unknown),
            (&["compress"], Coding::Unknown),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_ENCODING, value.parse().expect("a header value"));
            }
            assert_eq!(Coding::of(&headers), coding, "{values:?}");
        }
    }
}
