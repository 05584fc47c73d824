//! Prices ready for use: every fallback of a kind of token to another has been applied, so that pricing a request is
//! choosing one row and multiplying.

use serde::Deserialize;

use super::entry::Cells;

/// A kind of token with a price of its own. Every token of a request is of exactly one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(
    missing_docs,
    reason = "the catalogue's own names, explained in config/models.README.md"
)]
pub enum Kind {
    Input,
    Output,
    CacheRead,
    CacheWrite5m,
    CacheWrite1h,
    CacheWrite12h,
    ReasoningOutput,
    AudioIn,
    AudioOut,
    AudioCacheRead,
    ImageIn,
    ImageOut,
    ImageCacheRead,
    VideoIn,
    VideoOut,
}

impl Kind {
    /// How many kinds there are.
    pub const COUNT: usize = 15;

    /// Every kind, in the order of its cell.
    pub const ALL: [Kind; Kind::COUNT] = [
        Kind::Input,
        Kind::Output,
        Kind::CacheRead,
        Kind::CacheWrite5m,
        Kind::CacheWrite1h,
        Kind::CacheWrite12h,
        Kind::ReasoningOutput,
        Kind::AudioIn,
        Kind::AudioOut,
        Kind::AudioCacheRead,
        Kind::ImageIn,
        Kind::ImageOut,
        Kind::ImageCacheRead,
        Kind::VideoIn,
        Kind::VideoOut,
    ];

    /// Its name in the catalogue.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Input => "input",
            Kind::Output => "output",
            Kind::CacheRead => "cache_read",
            Kind::CacheWrite5m => "cache_write_5m",
            Kind::CacheWrite1h => "cache_write_1h",
            Kind::CacheWrite12h => "cache_write_12h",
            Kind::ReasoningOutput => "reasoning_output",
            Kind::AudioIn => "audio_in",
            Kind::AudioOut => "audio_out",
            Kind::AudioCacheRead => "audio_cache_read",
            Kind::ImageIn => "image_in",
            Kind::ImageOut => "image_out",
            Kind::ImageCacheRead => "image_cache_read",
            Kind::VideoIn => "video_in",
            Kind::VideoOut => "video_out",
        }
    }
}

/// How a request is served and billed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// The ordinary way.
    #[default]
    #[serde(skip)]
    Standard,
    /// Later, in bulk.
    Batch,
    /// When there is room.
    Flex,
    /// Before others.
    Priority,
    /// With more speed (Anthropic's fast mode).
    Fast,
    /// With still more (OpenAI).
    Ultrafast,
}

impl Service {
    /// Its name in the catalogue and in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Service::Standard => "standard",
            Service::Batch => "batch",
            Service::Flex => "flex",
            Service::Priority => "priority",
            Service::Fast => "fast",
            Service::Ultrafast => "ultrafast",
        }
    }
}

/// What every kind of token costs, in atto-dollars a token, once fallbacks are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rates([u64; Kind::COUNT]);

/// The cell of a kind that has no price and nothing to fall back to.
const UNPRICED: u64 = u64::MAX;

impl Rates {
    /// Applies the fallbacks.
    ///
    /// Cache reads and writes without a price cost what input costs; writes of an hour or twelve first try the
    /// five-minute price. Audio, images and video cost what text costs. A cached audio or image token without a price
    /// of its own costs what a cached text token costs if the kind costs the same as text when it is not cached;
    /// otherwise nothing says that it is discounted, and it costs its full uncached price.
    pub(crate) fn from_cells(cells: &Cells) -> Self {
        use Kind::{
            AudioCacheRead, AudioIn, AudioOut, CacheRead, CacheWrite1h, CacheWrite5m,
            CacheWrite12h, ImageCacheRead, ImageIn, ImageOut, Input, Output, ReasoningOutput,
            VideoIn, VideoOut,
        };
        let cell = |kind, fallback| {
            cells
                .get(kind)
                .map_or(fallback, |rate| rate.attos_per_token())
        };
        let input = cell(Input, UNPRICED);
        let output = cell(Output, UNPRICED);
        let cache_read = cell(CacheRead, input);
        let write_5m = cell(CacheWrite5m, input);
        let cached_like = |uncached: u64| {
            if uncached == input {
                cache_read
            } else {
                uncached
            }
        };
        let audio_in = cell(AudioIn, input);
        let image_in = cell(ImageIn, input);
        Self(Kind::ALL.map(|kind| match kind {
            Input => input,
            Output => output,
            CacheRead => cache_read,
            CacheWrite5m => write_5m,
            CacheWrite1h | CacheWrite12h => cell(kind, write_5m),
            AudioIn => audio_in,
            ImageIn => image_in,
            VideoIn => cell(kind, input),
            ReasoningOutput | AudioOut | ImageOut | VideoOut => cell(kind, output),
            AudioCacheRead => cell(kind, cached_like(audio_in)),
            ImageCacheRead => cell(kind, cached_like(image_in)),
        }))
    }

    /// The price of a kind in atto-dollars a token; `None` if it is not known.
    pub(crate) fn get(&self, kind: Kind) -> Option<u64> {
        let rate = self.0[kind as usize];
        (rate != UNPRICED).then_some(rate)
    }
}

/// Prices by prompt size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ladder {
    /// For prompts that exceed no threshold.
    pub(crate) base: Rates,
    /// For prompts with more tokens than the threshold; ascending.
    pub(crate) steps: Box<[(u64, Rates)]>,
}

impl Ladder {
    /// The prices of a request with that many prompt tokens, and the threshold that it exceeded.
    pub(crate) fn at(&self, prompt_tokens: u64) -> (&Rates, Option<u64>) {
        self.steps
            .iter()
            .rev()
            .find(|(above, _)| prompt_tokens > *above)
            .map_or((&self.base, None), |(above, rates)| (rates, Some(*above)))
    }
}

/// The prices of all service tiers in one period of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tariff {
    pub(crate) standard: Ladder,
    pub(crate) services: Box<[(Service, Ladder)]>,
}

impl Tariff {
    /// The prices of a service tier, if the model has it.
    pub(crate) fn service(&self, wanted: Service) -> Option<&Ladder> {
        if wanted == Service::Standard {
            return Some(&self.standard);
        }
        self.services
            .iter()
            .find(|(service, _)| *service == wanted)
            .map(|(_, ladder)| ladder)
    }
}
