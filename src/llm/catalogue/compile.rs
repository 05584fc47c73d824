//! From a model as written to a model ready for pricing: overlays, ratios, and every reason to call a price unknown.

use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::entry::{
    Cells, Mode, ModelEntry, PriceBlock, SearchPrice, SearchUnit, TimeOfDay, ToolFees,
};
use super::rate::{Fee, Rate};
use super::schedule::{Other, Schedule, Window};
use super::tariff::{Kind, Ladder, Rates, Service, Tariff};
use super::{CatalogueError, Model, SearchFee, Unpriced};

/// Makes a model from its entry.
///
/// # Errors
/// Names the field that contradicts another or cannot be understood.
pub(super) fn model(entry: ModelEntry) -> Result<Model, CatalogueError> {
    let schedule = schedule(&entry)?;
    Ok(Model {
        mode: entry.mode.unwrap_or_default(),
        family: entry.family.map(String::into_boxed_str),
        context_window: entry.context_window,
        max_input_tokens: entry.max_input_tokens,
        max_output_tokens: entry.max_output_tokens,
        status: entry.status,
        deprecation_date: entry.deprecation_date,
        free: entry.free,
        schedule,
        search_fee: search_fee(entry.tool_fees_per_1k),
        regions: entry
            .region_multipliers
            .into_iter()
            .map(|(name, factor)| (name.into(), factor))
            .collect(),
        provider: entry.provider.into(),
        id: entry.id.into(),
    })
}

/// Changes a known model as an override says. See [`ModelEntry`] for what replaces what.
///
/// # Errors
/// As [`model`]; also if prices that need a standard price beside them come without one.
pub(super) fn amend(model: &mut Model, mut entry: ModelEntry) -> Result<(), CatalogueError> {
    entry.mode.get_or_insert(model.mode);
    let says_price = entry.price.is_some()
        || entry.free
        || entry.variable_price
        || entry.zero_price_unverified
        || !entry.service_tiers.is_empty()
        || entry.time_of_day.is_some()
        || entry.upcoming.is_some();
    if says_price {
        model.schedule = schedule(&entry)?;
        model.free = entry.free;
    }
    if entry.tool_fees_per_1k.is_some() {
        model.search_fee = search_fee(entry.tool_fees_per_1k);
    }
    if !entry.region_multipliers.is_empty() {
        model.regions = entry
            .region_multipliers
            .into_iter()
            .map(|(name, factor)| (name.into(), factor))
            .collect();
    }
    model.mode = entry.mode.unwrap_or(model.mode);
    if let Some(family) = entry.family {
        model.family = Some(family.into());
    }
    model.context_window = entry.context_window.or(model.context_window);
    model.max_input_tokens = entry.max_input_tokens.or(model.max_input_tokens);
    model.max_output_tokens = entry.max_output_tokens.or(model.max_output_tokens);
    model.status = entry.status.or(model.status);
    model.deprecation_date = entry.deprecation_date.or(model.deprecation_date);
    Ok(())
}

/// The fee of one search. Answers do not say how much search context the request asked for, so where the fee depends
/// on it the providers' default size, medium, is assumed.
fn search_fee(fees: Option<ToolFees>) -> Option<SearchFee> {
    let fees = fees?;
    let fee: Fee = match fees.web_search? {
        SearchPrice::Flat(fee) | SearchPrice::BySize { medium: fee, .. } => fee,
    };
    Some(SearchFee {
        attos: fee.attos_per_call(),
        per_request: fees.web_search_unit == SearchUnit::GroundedPrompt,
    })
}

fn schedule(entry: &ModelEntry) -> Result<Result<Schedule, Unpriced>, CatalogueError> {
    let fail = |field, problem| CatalogueError::new(&entry.provider, &entry.id, field, problem);
    let price = match (&entry.price, entry.free) {
        (Some(price), _) => price.clone(),
        (None, true) => PriceBlock {
            cells: zero_cells(),
            tiers: Vec::new(),
        },
        (None, false) => {
            for (field, given) in [
                ("service_tiers", !entry.service_tiers.is_empty()),
                ("time_of_day", entry.time_of_day.is_some()),
                ("upcoming", entry.upcoming.is_some()),
            ] {
                if given {
                    return Err(fail(field, "needs `price` beside it"));
                }
            }
            let why = if entry.variable_price {
                Unpriced::Variable
            } else {
                Unpriced::NoTokenPrice
            };
            return Ok(Err(why));
        }
    };
    if entry.free && !all_zero(&price) {
        return Err(fail("free", "contradicts `price`"));
    }
    if entry.variable_price {
        return Ok(Err(Unpriced::Variable));
    }
    if entry.zero_price_unverified {
        return Ok(Err(Unpriced::ZeroUnverified));
    }
    if !entry.free && entry.other_units.is_some() && all_zero(&price) {
        return Ok(Err(Unpriced::OtherUnits));
    }
    let price = with_free_output(price, entry.mode);
    let current = tariff(&price, &entry.service_tiers);
    let other = match (&entry.time_of_day, &entry.upcoming) {
        (None, None) => None,
        // No provider combines these, so no rule says which price would win. Better to ask than to guess.
        (Some(_), Some(_)) => return Err(fail("time_of_day", "cannot stand beside `upcoming`")),
        (Some(_), None) if !entry.service_tiers.is_empty() || !price.tiers.is_empty() => {
            return Err(fail(
                "time_of_day",
                "cannot stand beside `tiers` or `service_tiers`",
            ));
        }
        (Some(hours), None) => Some(off_peak(hours, &price).ok_or_else(|| {
            fail(
                "time_of_day",
                "expected days 1 to 7 and hours such as \"10:00-12:30\"",
            )
        })?),
        (None, Some(change)) => {
            let new = with_free_output(change.price.clone(), entry.mode);
            let services = entry
                .service_tiers
                .iter()
                .map(|(service, block)| (*service, rescaled(block, &price, &new)));
            let from =
                unix_ms(change.from).ok_or_else(|| fail("upcoming", "`from` lies before 1970"))?;
            Some(Other::From(from, tariff(&new, &services.collect())))
        }
    };
    Ok(Ok(Schedule {
        current,
        other: other.map(Box::new),
    }))
}

fn zero_cells() -> Cells {
    let mut cells = Cells::default();
    cells.0[Kind::Input as usize] = Some(Rate::ZERO);
    cells.0[Kind::Output as usize] = Some(Rate::ZERO);
    cells
}

fn all_zero(price: &PriceBlock) -> bool {
    let blocks = std::iter::once(&price.cells).chain(price.tiers.iter().map(|(_, cells)| cells));
    blocks
        .flat_map(|cells| cells.0)
        .flatten()
        .all(|rate| rate == Rate::ZERO)
}

/// Embeddings and reranking write no tokens, so their output costs nothing where no price is written down.
fn with_free_output(mut price: PriceBlock, mode: Option<Mode>) -> PriceBlock {
    if matches!(mode, Some(Mode::Embedding | Mode::Rerank)) {
        price.cells.0[Kind::Output as usize].get_or_insert(Rate::ZERO);
    }
    price
}

fn off_peak(hours: &TimeOfDay, price: &PriceBlock) -> Option<Other> {
    let mut windows = Vec::new();
    for window in &hours.off_peak_windows_utc {
        for span in &window.hours {
            windows.extend(Window::parse(&window.iso_weekdays, span)?);
        }
    }
    let cheap = PriceBlock {
        cells: hours.off_peak.cells.over(&price.cells),
        tiers: Vec::new(),
    };
    Some(Other::OffPeak(windows, tariff(&cheap, &[].into())))
}

fn unix_ms(day: Date) -> Option<u64> {
    let midnight = day.to_zoned(TimeZone::UTC).ok()?;
    u64::try_from(midnight.timestamp().as_millisecond()).ok()
}

type Services = std::collections::BTreeMap<Service, PriceBlock>;

fn tariff(standard: &PriceBlock, services: &Services) -> Tariff {
    Tariff {
        standard: ladder(standard, &PriceBlock::default()),
        services: services
            .iter()
            .map(|(service, block)| (*service, ladder(block, standard)))
            .collect(),
    }
}

/// The prices written down for a prompt of that size: a tier that is exceeded replaces the base prices it names.
fn cells_at(block: &PriceBlock, prompt_tokens: u64) -> Cells {
    let exceeded = block
        .tiers
        .iter()
        .rev()
        .find(|(above, _)| prompt_tokens > *above);
    exceeded.map_or(block.cells, |(_, tier)| tier.over(&block.cells))
}

/// The prices of `block` at every prompt size, where a kind that it does not name costs what `under` writes down for
/// that prompt size. A block without tiers is flat; only the kinds that it lacks follow `under`'s tiers.
///
/// A kind that neither names falls back within the result: a batch image without a price costs batch input, not
/// standard input.
fn ladder(block: &PriceBlock, under: &PriceBlock) -> Ladder {
    let rates_at =
        |prompt| Rates::from_cells(&cells_at(block, prompt).over(&cells_at(under, prompt)));
    let mut thresholds: Vec<u64> = block
        .tiers
        .iter()
        .chain(&under.tiers)
        .map(|(above, _)| *above)
        .collect();
    thresholds.sort_unstable();
    thresholds.dedup();
    let base = rates_at(0);
    let mut steps: Vec<(u64, Rates)> = Vec::new();
    for above in thresholds {
        let rates = rates_at(above.saturating_add(1));
        if steps.last().map_or(&base, |(_, last)| last) != &rates {
            steps.push((above, rates));
        }
    }
    Ladder {
        base,
        steps: steps.into(),
    }
}

/// A service tier's prices after the standard price has changed: each keeps its ratio to the standard price of its
/// kind, fallbacks included.
fn rescaled(service: &PriceBlock, old: &PriceBlock, new: &PriceBlock) -> PriceBlock {
    let scale = |cells: &Cells, prompt| {
        let was = Rates::from_cells(&cells_at(old, prompt));
        let is = Rates::from_cells(&cells_at(new, prompt));
        let mut scaled = *cells;
        for kind in Kind::ALL {
            if let (Some(rate), Some(was), Some(is)) =
                (cells.get(kind), was.get(kind), is.get(kind))
            {
                scaled.0[kind as usize] = Some(rate.rescaled(was, is));
            }
        }
        scaled
    };
    PriceBlock {
        cells: scale(&service.cells, 0),
        tiers: service
            .tiers
            .iter()
            .map(|(above, cells)| (*above, scale(cells, above.saturating_add(1))))
            .collect(),
    }
}
