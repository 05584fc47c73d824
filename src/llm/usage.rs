//! Token counts in one normal form, whatever wire format they came in, and how far they can be trusted.
//!
//! Normal form: `input` holds all prompt tokens, cache reads and writes included; `output` includes reasoning. Every
//! other count is a part of one of the two. The dialects' readers do the conversion; nothing else adds or subtracts.

/// What one request used, in tokens (and searches).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Usage {
    /// All prompt tokens: uncached, read from a cache and written to one.
    #[n(0)]
    pub input: u64,
    /// Part of `input` that was read from the provider's prompt cache.
    #[n(1)]
    pub cached_read: u64,
    /// Part of `input` that was written to the provider's prompt cache, whatever its life.
    #[n(2)]
    pub cache_write: u64,
    /// Part of `cache_write` that lives an hour (Anthropic).
    #[n(3)]
    pub cache_write_1h: u64,
    /// Part of `cache_write` that lives twelve hours (OpenAI).
    #[n(4)]
    pub cache_write_12h: u64,
    /// All tokens that the model wrote, reasoning included.
    #[n(5)]
    pub output: u64,
    /// Part of `output` spent on reasoning.
    #[n(6)]
    pub reasoning: u64,
    /// Part of `input` that is audio.
    #[n(7)]
    pub audio_in: u64,
    /// Part of `audio_in` that was read from a cache.
    #[n(8)]
    pub audio_cached: u64,
    /// Part of `output` that is audio.
    #[n(9)]
    pub audio_out: u64,
    /// Part of `input` that is images.
    #[n(10)]
    pub image_in: u64,
    /// Part of `image_in` that was read from a cache.
    #[n(11)]
    pub image_cached: u64,
    /// Part of `output` that is images.
    #[n(12)]
    pub image_out: u64,
    /// Part of `input` that is video.
    #[n(13)]
    pub video_in: u64,
    /// Web searches that the provider ran, each with a fee of its own.
    #[n(14)]
    pub web_searches: u64,
    /// Part of `output` that is video.
    #[n(15)]
    pub video_out: u64,
}

impl Usage {
    /// Prompt tokens that were neither read from a cache nor written to one.
    pub const fn uncached(&self) -> u64 {
        self.input
            .saturating_sub(self.cached_read)
            .saturating_sub(self.cache_write)
    }

    /// Tokens that budgets count: uncached input, cache writes and output; cache reads are not fresh.
    pub const fn fresh(&self) -> u64 {
        self.input
            .saturating_sub(self.cached_read)
            .saturating_add(self.output)
    }

    /// Adds another request's usage, field by field.
    pub fn add(&mut self, other: &Usage) {
        for (mine, theirs) in [
            (&mut self.input, other.input),
            (&mut self.cached_read, other.cached_read),
            (&mut self.cache_write, other.cache_write),
            (&mut self.cache_write_1h, other.cache_write_1h),
            (&mut self.cache_write_12h, other.cache_write_12h),
            (&mut self.output, other.output),
            (&mut self.reasoning, other.reasoning),
            (&mut self.audio_in, other.audio_in),
            (&mut self.audio_cached, other.audio_cached),
            (&mut self.audio_out, other.audio_out),
            (&mut self.image_in, other.image_in),
            (&mut self.image_cached, other.image_cached),
            (&mut self.image_out, other.image_out),
            (&mut self.video_in, other.video_in),
            (&mut self.web_searches, other.web_searches),
            (&mut self.video_out, other.video_out),
        ] {
            *mine = mine.saturating_add(theirs);
        }
    }
}

/// Where a request's token counts come from. It stays with them for ever.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    minicbor::Encode,
    minicbor::Decode,
)]
#[cbor(index_only)]
pub enum Provenance {
    /// There is nothing to count: the request was not billed by tokens or never reached the provider.
    #[default]
    #[n(0)]
    None,
    /// The provider's own final figures.
    #[n(1)]
    Reported,
    /// The provider's figures up to where the answer broke off; the missing output is estimated from what was seen.
    #[n(2)]
    Partial,
    /// No figures from the provider: counted from the bytes of the request and the answer.
    #[n(3)]
    Estimated,
}

impl Provenance {
    /// The name used in metrics and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Provenance::None => "none",
            Provenance::Reported => "reported",
            Provenance::Partial => "partial",
            Provenance::Estimated => "estimated",
        }
    }
}
