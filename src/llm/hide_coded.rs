//! Hides usage in a stream that may be compressed: a provider can compress although it was asked not to. What goes on is
//! plain then, because an event cannot be cut out of compressed bytes.

use std::io;

use bytes::Bytes;

use super::decode::{Coding, Decoder};
use super::hide_usage::HideUsage;

/// The filter of one stream.
pub struct HideCodedUsage {
    /// `None` where the bytes are plain.
    decoder: Option<Decoder<Vec<u8>>>,
    filter: HideUsage,
}

impl HideCodedUsage {
    /// Starts at the beginning of a stream; `None` if its coding cannot be undone.
    pub fn new(coding: Coding) -> Option<Self> {
        let decoder = match coding {
            Coding::Identity => None,
            Coding::Unknown => return None,
            coding => Some(Decoder::new(coding, Vec::new())),
        };
        Some(Self {
            decoder,
            filter: HideUsage::new(),
        })
    }

    /// Takes the next bytes of the stream and returns the plain ones that may go on.
    ///
    /// # Errors
    /// When the bytes are not what the coding says.
    pub fn push(&mut self, chunk: Bytes) -> io::Result<Bytes> {
        let plain = match &mut self.decoder {
            None => chunk,
            Some(decoder) => {
                decoder.push(&chunk)?;
                Bytes::from(std::mem::take(decoder.sink_mut()))
            }
        };
        Ok(self.filter.push(plain))
    }

    /// The stream has ended: returns what was held back.
    pub fn finish(&mut self) -> Bytes {
        self.filter.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_compressed_stream_comes_out_plain_and_without_the_extra_chunk() {
        let plain = b"data: {\"choices\":[{\"index\":0}],\"usage\":null}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\ndata: [DONE]\n\n";
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(plain).expect("memory");
        let packed = gzip.finish().expect("memory");
        let mut hide = HideCodedUsage::new(Coding::Gzip).expect("gzip is known");
        let mut out = Vec::new();
        for piece in packed.chunks(7) {
            out.extend_from_slice(
                &hide
                    .push(Bytes::copy_from_slice(piece))
                    .expect("sound gzip"),
            );
        }
        out.extend_from_slice(&hide.finish());
        assert_eq!(
            out,
            b"data: {\"choices\":[{\"index\":0}]}\n\ndata: [DONE]\n\n"
        );
        assert!(HideCodedUsage::new(Coding::Unknown).is_none());
        let mut broken = HideCodedUsage::new(Coding::Gzip).expect("gzip is known");
        assert!(broken.push(Bytes::from_static(b"not gzip at all")).is_err());
    }
}
