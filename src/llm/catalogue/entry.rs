//! One model as the catalogue's file and the user's config write it: the same keys in both, so that a line of
//! `config/models.json` can be taken over into `[[models]]`. Unknown keys are errors.

use std::collections::BTreeMap;
use std::fmt;

use jiff::civil::Date;
use serde::de::{self, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::rate::{Factor, Fee, Rate};
use super::tariff::{Kind, Service};

/// What is known, or to be changed, of one model.
///
/// As an override of a known model: `price` (or `free`) replaces all its token prices, those of its service tiers
/// included; every other field replaces its namesake; aliases are added; what is left out stays.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelEntry {
    /// The provider's name in the catalogue (`anthropic`, `google`, …), or the user's own name for another one.
    pub provider: String,
    /// The name that the provider's API takes.
    pub id: String,
    /// Other names with the same prices.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// The line of models it belongs to (`claude-opus`, …), for grouping only.
    #[serde(default)]
    pub family: Option<String>,
    /// What it does.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// Prompt plus output, in tokens.
    #[serde(default)]
    pub context_window: Option<u32>,
    /// Largest prompt in tokens, where the provider caps it below the window.
    #[serde(default)]
    pub max_input_tokens: Option<u32>,
    /// Largest output in tokens. Some providers state the whole window here.
    #[serde(default)]
    pub max_output_tokens: Option<u32>,
    /// The standard prices; `null` where there is none per token.
    #[serde(default)]
    pub price: Option<PriceBlock>,
    /// The prices of the other service tiers.
    #[serde(default)]
    pub service_tiers: BTreeMap<Service, PriceBlock>,
    /// Prices that hold at certain hours.
    #[serde(default)]
    pub time_of_day: Option<TimeOfDay>,
    /// An announced change.
    #[serde(default)]
    pub upcoming: Option<Upcoming>,
    /// Fees for tools that the provider runs.
    #[serde(default)]
    pub tool_fees_per_1k: Option<ToolFees>,
    /// Prices per image, second, page, …: not counted by tollgate, but a zero token price beside one is no price.
    #[serde(default)]
    pub other_units: Option<IgnoredAny>,
    /// Factors on token prices by where inference runs.
    #[serde(default)]
    pub region_multipliers: BTreeMap<String, Factor>,
    /// The day on which the provider ends it.
    #[serde(default, deserialize_with = "optional_date")]
    pub deprecation_date: Option<Date>,
    /// Where it is in its life, unless in full use.
    #[serde(default)]
    pub status: Option<Status>,
    /// Really costs nothing.
    #[serde(default)]
    pub free: bool,
    /// A router or hosted name whose price is not known in advance.
    #[serde(default)]
    pub variable_price: bool,
    /// Its zero price may be a placeholder.
    #[serde(default)]
    pub zero_price_unverified: bool,
    /// Where the figures come from: a note for people, not used.
    #[serde(default)]
    pub source: Option<IgnoredAny>,
    /// How far the sources agree: a note for people, not used.
    #[serde(default)]
    pub confidence: Option<IgnoredAny>,
}

/// What a model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it all")]
pub enum Mode {
    #[default]
    Chat,
    Responses,
    Completion,
    Embedding,
    Rerank,
    AudioTranscription,
    AudioSpeech,
    Realtime,
    ImageGeneration,
    Moderation,
    Ocr,
}

/// Where a model is in its life, as far as the sources know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Not yet in general use.
    Beta,
    /// Its end is announced.
    Deprecated,
    /// Gone.
    Retired,
    /// The announced end has passed; whether it is gone is not known.
    PastDeprecationDate,
}

/// Prices by kind of token, and for long prompts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PriceBlock {
    /// The prices of prompts of any length, unless a tier replaces them.
    pub cells: Cells,
    /// Prices that replace the above for the whole request, each with the prompt size in tokens that must be exceeded;
    /// ascending.
    pub tiers: Vec<(u64, Cells)>,
}

/// The prices that are written down; a kind without one falls back to another kind's.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cells(pub [Option<Rate>; Kind::COUNT]);

impl Cells {
    /// The price of a kind of token, if it is written down.
    pub fn get(&self, kind: Kind) -> Option<Rate> {
        self.0[kind as usize]
    }

    /// These prices, and `under`'s where there is none here.
    #[must_use]
    pub fn over(&self, under: &Cells) -> Cells {
        Cells(std::array::from_fn(|kind| self.0[kind].or(under.0[kind])))
    }
}

/// Prices that hold at certain hours.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeOfDay {
    /// What the standard prices are; only `peak` is known.
    pub base_is: BaseIs,
    /// The prices inside the windows; what is missing stays at the standard price.
    pub off_peak: PriceBlock,
    /// When they hold.
    pub off_peak_windows_utc: Vec<WindowEntry>,
}

/// What the standard prices are, where the time of day matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BaseIs {
    /// The dear hours.
    Peak,
}

/// Hours of certain days of the week, in UTC.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowEntry {
    /// ISO days of the week: 1 is Monday, 7 is Sunday.
    pub iso_weekdays: Vec<u8>,
    /// Spans such as `10:00-00:00` (to midnight) or `00:00-00:00` (all day).
    pub hours: Vec<String>,
}

/// An announced change of prices.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upcoming {
    /// The first day of the new prices, from midnight UTC.
    #[serde(deserialize_with = "date")]
    pub from: Date,
    /// What replaces `price`, as a whole.
    pub price: PriceBlock,
}

/// Fees for tools that the provider runs, per 1,000 calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolFees {
    /// Web searches.
    #[serde(default)]
    pub web_search: Option<SearchPrice>,
    /// What counts as a search.
    #[serde(default)]
    pub web_search_unit: SearchUnit,
}

/// The fee of a web search.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "a decimal number in quotes, or one each for `low`, `medium` and `high`"
)]
pub enum SearchPrice {
    /// The same for all.
    Flat(Fee),
    /// By the size of the search context that the request asked for.
    BySize {
        /// Little context.
        low: Fee,
        /// The default.
        medium: Fee,
        /// Much context.
        high: Fee,
    },
}

/// What a search fee is charged for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SearchUnit {
    /// Each query that the model sent to the search engine.
    #[default]
    Query,
    /// Each request that searched at all.
    GroundedPrompt,
}

fn date<'de, D: Deserializer<'de>>(from: D) -> Result<Date, D::Error> {
    let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
    text.parse()
        .map_err(|_| de::Error::custom(format_args!("`{text}` is not a date such as 2026-12-01")))
}

fn optional_date<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Date>, D::Error> {
    date(from).map(Some)
}

/// The keys of a price block that are not kinds of token.
const TIERS: &str = "tiers";
const ABOVE: &str = "above_input_tokens";

impl<'de> Deserialize<'de> for PriceBlock {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let read = from.deserialize_map(BlockVisitor { tier: false })?;
        Ok(Self {
            cells: read.cells,
            tiers: read.tiers,
        })
    }
}

/// One entry of `tiers`: a price block with a threshold instead of tiers.
struct TierEntry(u64, Cells);

impl<'de> Deserialize<'de> for TierEntry {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let read = from.deserialize_map(BlockVisitor { tier: true })?;
        let above = read.above.ok_or_else(|| de::Error::missing_field(ABOVE))?;
        Ok(Self(above, read.cells))
    }
}

/// Reads kinds of token straight into their cells, which derived code could do only with one field for each, thrice.
struct BlockVisitor {
    tier: bool,
}

#[derive(Default)]
struct BlockRead {
    above: Option<u64>,
    cells: Cells,
    tiers: Vec<(u64, Cells)>,
}

impl<'de> Visitor<'de> for BlockVisitor {
    type Value = BlockRead;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("prices by kind of token")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<BlockRead, A::Error> {
        let mut read = BlockRead::default();
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.as_str() == key) {
                read.cells.0[kind as usize] = Some(map.next_value()?);
            } else if key == TIERS && !self.tier {
                let tiers: Vec<TierEntry> = map.next_value()?;
                read.tiers = tiers
                    .into_iter()
                    .map(|TierEntry(above, cells)| (above, cells))
                    .collect();
                if !read.tiers.is_sorted_by(|a, b| a.0 < b.0) {
                    return Err(de::Error::custom(
                        "`tiers` must ascend by `above_input_tokens`",
                    ));
                }
            } else if key == ABOVE && self.tier {
                read.above = Some(map.next_value()?);
            } else {
                return Err(de::Error::custom(format_args!(
                    "unknown price `{key}`, expected one of {}",
                    Kind::ALL.map(Kind::as_str).join(", ")
                )));
            }
        }
        Ok(read)
    }
}
