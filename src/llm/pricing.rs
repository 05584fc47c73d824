//! What an answer costs, exactly.
//!
//! The rule: sort the usage into disjoint kinds of token, choose the row of prices by time, service tier and prompt
//! size, multiply and add up, apply the region's factor, then add the fees of searches. Nothing is rounded, and
//! whatever is not known makes the cost unknown, never zero.
//!
//! Not modelled: free allowances of searches (they belong to an account, not to a request), fees of other tools,
//! prices per image, second or page, prepaid throughput (it is priced as standard), and Chinese public holidays in
//! DeepSeek's off-peak hours.

use super::catalogue::{Catalogue, Kind, Model, Period, Rates, Service, Unpriced};
use super::reading::Reading;
use super::usage::Usage;
use crate::units::Cost;

/// What decides the price of a request besides its usage.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terms<'a> {
    /// The provider's name in the catalogue; empty if only the model's name can tell.
    pub provider: &'a str,
    /// The model that was asked for.
    pub model: &'a str,
    /// The service tier as the provider spells it.
    pub service_tier: Option<&'a str>,
    /// Anthropic's `speed`.
    pub speed: Option<&'a str>,
    /// Where inference runs, if that can have its own price: Anthropic's `inference_geo`, `us` or `eu` for OpenAI's
    /// regional hosts, the location of a Vertex AI endpoint.
    pub region: Option<&'a str>,
    /// When the request was made, in Unix milliseconds.
    pub at_unix_ms: u64,
}

/// The table's word on one piece of work.
#[derive(Debug, Clone, Copy)]
pub struct Quote<'c> {
    /// The model whose prices were used.
    pub model: Option<&'c Model>,
    /// The service tier whose prices were used: standard where the model has none for the one that was billed.
    pub service: Service,
    /// The prompt size in tokens that was exceeded, where that changed the prices.
    pub above_input_tokens: Option<u64>,
    /// Which of the model's prices held at the time.
    pub period: Period,
    /// The cost, or why it is not known.
    pub cost: Result<Cost, Unpriced>,
}

/// What an answer costs, side work included.
#[derive(Debug, Clone, Copy)]
pub struct Priced<'c> {
    /// The answer itself, without side work.
    pub answer: Quote<'c>,
    /// What the table says in all, or why it cannot say.
    pub table: Result<Cost, Unpriced>,
    /// What the provider says it charged in all.
    pub stated: Option<Cost>,
}

impl Priced<'_> {
    /// The cost to book: the provider's own word before the table's; `None` if neither knows.
    pub fn cost(&self) -> Option<Cost> {
        self.stated.or(self.table.ok())
    }
}

/// Prices a whole answer: its own usage and each piece of side work, the latter with its own model and prompt size.
///
/// What the answer states (model, service tier, speed, region) goes before what `terms` says. If the catalogue does
/// not know the model that the answer names, the one that was asked for is priced: answers often name a snapshot. On
/// Bedrock the asked-for model goes first, as answers leave out the geography, which has its price.
pub fn price_reading<'c>(
    catalogue: &'c Catalogue,
    terms: &Terms<'_>,
    reading: &Reading,
) -> Priced<'c> {
    let stated = Terms {
        service_tier: reading.service_tier.as_deref().or(terms.service_tier),
        speed: reading.speed.as_deref().or(terms.speed),
        region: reading.region.as_deref().or(terms.region),
        ..*terms
    };
    let model = served_model(catalogue, terms, reading);
    let answer = match &reading.usage {
        Some(usage) => quote(model, &stated, usage),
        None => Quote {
            cost: Err(Unpriced::NoUsage),
            ..quote(model, &stated, &Usage::default())
        },
    };
    let mut table = match (answer.cost, reading.side.is_empty()) {
        // A batch's results have no usage of their own, only their lines have.
        (Err(Unpriced::NoUsage), false) => Ok(Cost::ZERO),
        (cost, _) => cost,
    };
    for side in &reading.side {
        let side_model = match &side.model {
            Some(name) => catalogue.resolve(terms.provider, name),
            None => model,
        };
        // Speed is the answer's own; another model beside it runs at its usual one.
        let is_same = side_model.map(|model| &model.id) == model.map(|model| &model.id);
        let side_terms = Terms {
            service_tier: side.service_tier.as_deref().or(stated.service_tier),
            speed: stated.speed.filter(|_| is_same),
            ..stated
        };
        let cost = quote(side_model, &side_terms, &side.usage).cost;
        table = table.and_then(|sum| Ok(sum + cost?));
    }
    Priced {
        answer,
        table,
        stated: reading.stated_cost,
    }
}

/// Prices one piece of work by the model that was asked for.
pub fn price<'c>(catalogue: &'c Catalogue, terms: &Terms<'_>, usage: &Usage) -> Quote<'c> {
    quote(catalogue.resolve(terms.provider, terms.model), terms, usage)
}

/// The most that a request of at most so many input and output tokens can cost by the table, whichever of the models
/// serves it: the whole prompt at the dearest way to read or write one, all output at the dearest way to write some.
///
/// `media` says whether the prompt may hold images, sound or video. What an answer will hold nobody knows before. Where the
/// request leaves the service tier to the account, the account may have it served with priority. Fees for searches are not
/// in it: their number is known only afterwards.
///
/// # Errors
/// Of one of the models a price is not known.
pub fn price_at_most<'a>(
    catalogue: &Catalogue,
    terms: &Terms<'_>,
    other_models: impl Iterator<Item = &'a str>,
    input: u64,
    output: u64,
    media: bool,
) -> Result<Cost, Unpriced> {
    let own = most_of_model(catalogue, terms, input, output, media)?;
    let mut others = other_models.map(|model| {
        let terms = Terms { model, ..*terms };
        most_of_model(catalogue, &terms, input, output, media)
    });
    others.try_fold(own, |most, other| Ok(most.max(other?)))
}

fn most_of_model(
    catalogue: &Catalogue,
    terms: &Terms<'_>,
    input: u64,
    output: u64,
    media: bool,
) -> Result<Cost, Unpriced> {
    const INPUT: [Kind; 7] = [
        Kind::Input,
        Kind::CacheWrite5m,
        Kind::CacheWrite1h,
        Kind::CacheWrite12h,
        Kind::AudioIn,
        Kind::ImageIn,
        Kind::VideoIn,
    ];
    const TEXT_KINDS: usize = 4;
    const OUTPUT: [Kind; 5] = [
        Kind::Output,
        Kind::ReasoningOutput,
        Kind::AudioOut,
        Kind::ImageOut,
        Kind::VideoOut,
    ];
    let model = catalogue
        .resolve(terms.provider, terms.model)
        .ok_or(Unpriced::UnknownModel)?;
    let (tariff, _) = model.schedule()?.at(terms.at_unix_ms);
    let left_to_account = terms
        .service_tier
        .is_none_or(|tier| tier.eq_ignore_ascii_case("auto"));
    let by_account = left_to_account.then_some(Service::Priority);
    let [best, second, last] = wanted_services(terms).map(Some);
    let ladders = [best, second, last, by_account].map(|service| tariff.service(service?));
    let dearest = |kinds: &[Kind]| {
        let rates = ladders.iter().flatten().map(|ladder| ladder.at(input).0);
        rates
            .flat_map(|rates| kinds.iter().filter_map(|kind| rates.get(*kind)))
            .max()
    };
    let read = if media {
        &INPUT[..]
    } else {
        &INPUT[..TEXT_KINDS]
    };
    let mut attos: i128 = 0;
    for (tokens, rate, kind) in [
        (input, dearest(read), Kind::Input),
        (output, dearest(&OUTPUT), Kind::Output),
    ] {
        if tokens > 0 {
            let rate = rate.ok_or(Unpriced::Tokens(kind))?;
            attos = attos.saturating_add(i128::from(tokens).saturating_mul(i128::from(rate)));
        }
    }
    if let Some(factor) = terms.region.and_then(|region| model.region_factor(region)) {
        attos = factor.of(attos);
    }
    Ok(Cost::from_attos(attos))
}

/// The cost of usage whose price is not known, at prices per million tokens that somebody assumes. Cache reads and
/// writes count like other input.
pub fn at_flat_prices(usage: &Usage, input_per_million: Cost, output_per_million: Cost) -> Cost {
    const MILLION: i128 = 1_000_000;
    let part =
        |tokens: u64, price: Cost| i128::from(tokens).saturating_mul(price.attos()) / MILLION;
    Cost::from_attos(
        part(usage.input, input_per_million).saturating_add(part(usage.output, output_per_million)),
    )
}

fn served_model<'c>(
    catalogue: &'c Catalogue,
    terms: &Terms<'_>,
    reading: &Reading,
) -> Option<&'c Model> {
    let asked = || catalogue.resolve(terms.provider, terms.model);
    let named = || catalogue.resolve(terms.provider, reading.model.as_deref()?);
    if terms.provider == "bedrock" {
        asked().or_else(named)
    } else {
        named().or_else(asked)
    }
}

fn quote<'c>(model: Option<&'c Model>, terms: &Terms<'_>, usage: &Usage) -> Quote<'c> {
    let mut quote = Quote {
        model,
        service: Service::Standard,
        above_input_tokens: None,
        period: Period::Current,
        cost: Err(Unpriced::UnknownModel),
    };
    let Some(model) = model else {
        return quote;
    };
    let schedule = match model.schedule() {
        Ok(schedule) => schedule,
        Err(why) => {
            quote.cost = Err(why);
            return quote;
        }
    };
    let (tariff, period) = schedule.at(terms.at_unix_ms);
    quote.period = period;
    let ladder = wanted_services(terms)
        .into_iter()
        .find_map(|service| {
            quote.service = service;
            tariff.service(service)
        })
        .unwrap_or(&tariff.standard);
    let (rates, above) = ladder.at(usage.input);
    quote.above_input_tokens = above;
    quote.cost = cost(model, rates, terms, usage);
    quote
}

fn cost(model: &Model, rates: &Rates, terms: &Terms<'_>, usage: &Usage) -> Result<Cost, Unpriced> {
    let mut attos: i128 = 0;
    for (kind, tokens) in by_kind(usage) {
        if tokens > 0 {
            let rate = rates.get(kind).ok_or(Unpriced::Tokens(kind))?;
            attos = attos.saturating_add(i128::from(tokens).saturating_mul(i128::from(rate)));
        }
    }
    if let Some(factor) = terms.region.and_then(|region| model.region_factor(region)) {
        attos = factor.of(attos);
    }
    if usage.web_searches > 0 {
        let fee = model.search_fee().ok_or(Unpriced::SearchFee)?;
        let charged = if fee.per_request {
            1
        } else {
            usage.web_searches
        };
        attos = attos.saturating_add(i128::from(charged) * i128::from(fee.attos));
    }
    Ok(Cost::from_attos(attos))
}

/// The usage as disjoint kinds: input kinds add up to `input`, output kinds to `output`.
///
/// A part that exceeds what it is a part of is cut. Where media and cache reads overlap without the provider saying
/// how much (their sum exceeds the prompt), the overlap is priced as a plain cache read.
fn by_kind(usage: &Usage) -> [(Kind, u64); Kind::COUNT] {
    let mut rest = usage.input;
    let mut cached = take(&mut rest, usage.cached_read);
    let mut written = take(&mut rest, usage.cache_write);
    let written_1h = take(&mut written, usage.cache_write_1h);
    let written_12h = take(&mut written, usage.cache_write_12h);
    let audio_cached = take(&mut cached, usage.audio_cached);
    let image_cached = take(&mut cached, usage.image_cached);
    let audio_in = take(&mut rest, usage.audio_in.saturating_sub(audio_cached));
    let image_in = take(&mut rest, usage.image_in.saturating_sub(image_cached));
    let video_in = take(&mut rest, usage.video_in);
    let mut output = usage.output;
    let audio_out = take(&mut output, usage.audio_out);
    let image_out = take(&mut output, usage.image_out);
    let video_out = take(&mut output, usage.video_out);
    let reasoning = take(&mut output, usage.reasoning);
    [
        (Kind::Input, rest),
        (Kind::CacheRead, cached),
        (Kind::CacheWrite5m, written),
        (Kind::CacheWrite1h, written_1h),
        (Kind::CacheWrite12h, written_12h),
        (Kind::AudioIn, audio_in),
        (Kind::AudioCacheRead, audio_cached),
        (Kind::ImageIn, image_in),
        (Kind::ImageCacheRead, image_cached),
        (Kind::VideoIn, video_in),
        (Kind::Output, output),
        (Kind::ReasoningOutput, reasoning),
        (Kind::AudioOut, audio_out),
        (Kind::ImageOut, image_out),
        (Kind::VideoOut, video_out),
    ]
}

/// Takes up to `wanted` out of `whole`.
fn take(whole: &mut u64, wanted: u64) -> u64 {
    let taken = wanted.min(*whole);
    *whole -= taken;
    taken
}

/// The service tiers to look for, best first. A tier that the model lacks costs the standard price.
fn wanted_services(terms: &Terms<'_>) -> [Service; 3] {
    let is_fast = terms
        .speed
        .is_some_and(|speed| speed.eq_ignore_ascii_case("fast"));
    let tier = terms.service_tier.map_or(Service::Standard, service_named);
    match (is_fast, tier) {
        (true, tier) => [Service::Fast, tier, Service::Standard],
        // OpenAI takes `fast` for `priority`, and answers so.
        (false, Service::Fast) => [Service::Fast, Service::Priority, Service::Standard],
        (false, tier) => [tier, Service::Standard, Service::Standard],
    }
}

/// The service tier behind a provider's name for it.
///
/// Google writes `FLEX`, `SERVICE_TIER_FLEX` and, as a traffic type, `ON_DEMAND_FLEX`. All that is not known to have
/// other prices is standard: `default`, `auto`, `on_demand`, `scale`, `reserved`, `PROVISIONED_THROUGHPUT`.
fn service_named(name: &str) -> Service {
    const PREFIXES: [&str; 2] = ["service_tier_", "on_demand_"];
    let after = |prefix: &str| {
        let (start, rest) = name.split_at_checked(prefix.len())?;
        start.eq_ignore_ascii_case(prefix).then_some(rest)
    };
    let bare = PREFIXES.into_iter().find_map(after).unwrap_or(name);
    [
        Service::Batch,
        Service::Flex,
        Service::Priority,
        Service::Fast,
        Service::Ultrafast,
    ]
    .into_iter()
    .find(|service| service.as_str().eq_ignore_ascii_case(bare))
    .unwrap_or_default()
}
