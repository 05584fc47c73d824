//! What requests are expected to use, learned from what past requests of the same model and caller really used.
//!
//! Output: a quantile (by default the 95th percentile) of past outputs, in steps of a quarter octave, rounded up; older
//! outputs fade, because every 512 outputs all counts are halved. Input: the estimate from the prompt's size, corrected
//! by how such estimates turned out (a moving average over about the last eight), and the share of it that came out of
//! a prompt cache. A caller with fewer than eight requests is taken for a usual one of its model, and a model with
//! fewer than eight for a usual model.

use std::collections::HashMap;

use super::throttle::Share;
use crate::llm::estimate::USUAL_OUTPUT;
use crate::llm::usage::Usage;

/// Fewer past requests than this say nothing.
const ENOUGH: u32 = 8;

/// When so many outputs are counted, all counts are halved.
const FADE_AT: u32 = 512;

/// Steps of the histogram for each doubling of the output.
const STEPS: u32 = 4;

/// Steps in all: up to 2^20 tokens, more than any model writes; the last one holds all that is longer.
const BUCKETS: usize = 20 * STEPS as usize + 1;

/// Models, and callers of all models together, that are remembered; then those not used for longest are forgotten.
const MAX_REMEMBERED: usize = 4_096;

/// Ratios are in 1,024ths.
const ONE: u64 = 1_024;

/// Bounds of the correction of an estimated input.
const RATIO_BOUNDS: (u64, u64) = (ONE / 2, ONE * 3);

/// What has been learned of all models and callers.
#[derive(Debug)]
pub struct Learned {
    models: HashMap<Box<str>, Model>,
    /// Callers of all models.
    callers: usize,
    /// Counts what is learned; tells what was used last.
    turn: u64,
    quantile: Share,
}

#[derive(Debug, Default)]
struct Model {
    habit: Habit,
    callers: HashMap<Box<str>, Habit>,
}

/// How one caller uses one model.
#[derive(Debug)]
struct Habit {
    outputs: Box<[u16; BUCKETS]>,
    /// Sum of `outputs`.
    count: u32,
    /// Requests learned from, also where they had no input to compare.
    inputs: u32,
    /// Real input / estimated input, in 1,024ths.
    input_ratio: u64,
    /// Cache reads / real input, in 1,024ths.
    cached_share: u64,
    /// Cache writes / real input, in 1,024ths.
    written_share: u64,
    used: u64,
}

impl Default for Habit {
    fn default() -> Self {
        Self {
            outputs: Box::new([0; BUCKETS]),
            count: 0,
            inputs: 0,
            input_ratio: ONE,
            cached_share: 0,
            written_share: 0,
            used: 0,
        }
    }
}

/// The bucket of an output.
fn bucket(output: u64) -> usize {
    if output == 0 {
        return 0;
    }
    let octave = output.ilog2();
    // The step inside the octave, rounded up: outputs of a bucket are at most its upper bound.
    let base = 1_u64 << octave;
    let step = (output - base)
        .saturating_mul(u64::from(STEPS))
        .div_ceil(base);
    ((octave * STEPS) as usize + step as usize + 1).min(BUCKETS - 1)
}

/// The largest output of a bucket.
fn upper_bound(bucket: usize) -> u64 {
    let Some(place) = bucket.checked_sub(1) else {
        return 0;
    };
    let (octave, step) = (place as u32 / STEPS, place as u64 % u64::from(STEPS));
    let base = 1_u64 << octave;
    base + base * step / u64::from(STEPS)
}

impl Habit {
    fn learn(&mut self, estimated_input: u64, used: &Usage, turn: u64) {
        self.used = turn;
        let place = &mut self.outputs[bucket(used.output)];
        *place = place.saturating_add(1);
        self.count += 1;
        if self.count >= FADE_AT {
            self.outputs.iter_mut().for_each(|count| *count /= 2);
            self.count = self.outputs.iter().map(|count| u32::from(*count)).sum();
        }
        if estimated_input == 0 || used.input == 0 {
            return;
        }
        let part = |part: u64, whole: u64| {
            u64::try_from(u128::from(part) * u128::from(ONE) / u128::from(whole))
                .unwrap_or(u64::MAX)
        };
        let ratio = part(used.input, estimated_input).clamp(RATIO_BOUNDS.0, RATIO_BOUNDS.1);
        let first = self.inputs == 0;
        for (average, new) in [
            (&mut self.input_ratio, ratio),
            (
                &mut self.cached_share,
                part(used.cached_read, used.input).min(ONE),
            ),
            (
                &mut self.written_share,
                part(used.cache_write, used.input).min(ONE),
            ),
        ] {
            *average = if first { new } else { (*average * 7 + new) / 8 };
        }
        self.inputs = self.inputs.saturating_add(1);
    }

    fn output(&self, quantile: Share) -> Option<u64> {
        if self.count < ENOUGH {
            return None;
        }
        let needed = (u64::from(self.count) * u64::from(quantile.0)).div_ceil(1_000_000);
        let mut seen = 0;
        for (bucket, count) in self.outputs.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= needed {
                return Some(upper_bound(bucket));
            }
        }
        None
    }
}

impl Learned {
    /// Nothing learned yet. `quantile` is the share of past outputs that an expected output covers.
    pub fn new(quantile: Share) -> Self {
        Self {
            models: HashMap::new(),
            callers: 0,
            turn: 0,
            quantile,
        }
    }

    /// What a request is expected to use, from the estimate of its input alone: `output` is for one answer, not capped
    /// by anything that the request says.
    pub fn expect(&self, model: &str, caller: &str, estimated_input: u64) -> Usage {
        let known = self.models.get(model);
        let habits = [
            known.and_then(|model| model.callers.get(caller)),
            known.map(|model| &model.habit),
        ];
        let output = habits
            .iter()
            .flatten()
            .find_map(|habit| habit.output(self.quantile))
            .unwrap_or(USUAL_OUTPUT);
        let input = habits.iter().flatten().find(|habit| habit.inputs >= ENOUGH);
        let Some(habit) = input else {
            return Usage {
                input: estimated_input,
                output,
                ..Usage::default()
            };
        };
        let of = |whole: u64, share: u64| {
            u64::try_from(u128::from(whole) * u128::from(share) / u128::from(ONE))
                .unwrap_or(u64::MAX)
        };
        let input = of(estimated_input, habit.input_ratio);
        let cached_read = of(input, habit.cached_share);
        Usage {
            input,
            cached_read,
            cache_write: of(input, habit.written_share).min(input - cached_read),
            output,
            ..Usage::default()
        }
    }

    /// Learns from a request that the provider reported on: what its size let expect, and what it used.
    pub fn learn(&mut self, model: &str, caller: &str, estimated_input: u64, used: &Usage) {
        self.turn += 1;
        let turn = self.turn;
        if !self.models.contains_key(model) {
            self.make_room();
            self.models.insert(model.into(), Model::default());
        }
        let Some(known) = self.models.get_mut(model) else {
            return;
        };
        known.habit.learn(estimated_input, used, turn);
        if !known.callers.contains_key(caller) {
            known.callers.insert(caller.into(), Habit::default());
            self.callers += 1;
        }
        if let Some(habit) = known.callers.get_mut(caller) {
            habit.learn(estimated_input, used, turn);
        }
        if self.callers > MAX_REMEMBERED {
            self.forget_callers();
        }
    }

    fn make_room(&mut self) {
        if self.models.len() < MAX_REMEMBERED {
            return;
        }
        let oldest = self.models.iter().min_by_key(|(_, model)| model.habit.used);
        if let Some(name) = oldest.map(|(name, _)| name.clone())
            && let Some(model) = self.models.remove(&name)
        {
            self.callers -= model.callers.len();
        }
    }

    /// Forgets the half of the callers that were not used for longest.
    fn forget_callers(&mut self) {
        let callers = self
            .models
            .values()
            .flat_map(|model| model.callers.values());
        let mut used: Vec<u64> = callers.map(|habit| habit.used).collect();
        let middle = used.len() / 2;
        let (_, middle, _) = used.select_nth_unstable(middle);
        let middle = *middle;
        for model in self.models.values_mut() {
            model.callers.retain(|_, habit| habit.used > middle);
        }
        self.callers = self.models.values().map(|model| model.callers.len()).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(input: u64, cached_read: u64, output: u64) -> Usage {
        Usage {
            input,
            cached_read,
            output,
            ..Usage::default()
        }
    }

    fn learned() -> Learned {
        Learned::new(Share(950_000))
    }

    #[test]
    fn a_bucket_never_holds_more_than_its_upper_bound() {
        for output in (0..5_000).chain([65_535, 65_536, 65_537, 1 << 19]) {
            let bound = upper_bound(bucket(output));
            assert!(bound >= output, "{output} in a bucket up to {bound}");
            assert!(
                bound <= output + output / 4 + 1,
                "{output} in a bucket up to {bound}"
            );
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn nineteen_of_twenty_past_outputs_fit_what_is_expected() {
        let mut learned = learned();
        for output in 1..=100 {
            learned.learn("m", "c", 0, &used(0, 0, output));
        }
        let expected = learned.expect("m", "c", 0).output;
        assert!((95..=112).contains(&expected), "{expected}");
    }

    #[test]
    fn a_new_caller_is_taken_for_a_usual_one_of_its_model() {
        let mut learned = learned();
        assert_eq!(learned.expect("m", "c", 300).output, USUAL_OUTPUT);
        for _ in 0..20 {
            learned.learn("m", "busy", 100, &used(100, 0, 64));
        }
        assert_eq!(learned.expect("m", "new", 300).output, 64);
        assert_eq!(learned.expect("other", "busy", 300).output, USUAL_OUTPUT);
    }

    #[test]
    fn callers_of_one_model_are_told_apart() {
        let mut learned = learned();
        for _ in 0..20 {
            learned.learn("m", "short", 100, &used(100, 0, 16));
            learned.learn("m", "long", 100, &used(100, 0, 4_096));
        }
        assert_eq!(learned.expect("m", "short", 1).output, 16);
        assert_eq!(learned.expect("m", "long", 1).output, 4_096);
    }

    #[test]
    fn estimated_inputs_are_corrected_within_bounds() {
        let mut learned = learned();
        for _ in 0..20 {
            learned.learn("m", "c", 1_000, &used(800, 400, 1));
            learned.learn("m", "wild", 1_000, &used(80_000, 0, 1));
        }
        let expected = learned.expect("m", "c", 1_000);
        assert!((795..=800).contains(&expected.input), "{expected:?}");
        assert!((395..=400).contains(&expected.cached_read), "{expected:?}");
        assert_eq!(learned.expect("m", "wild", 1_000).input, 3_000);
        let most = learned.expect("m", "wild", u64::MAX);
        assert_eq!(most.input, u64::MAX, "stays at the largest count");
    }

    #[test]
    fn what_changed_long_ago_fades() {
        let mut learned = learned();
        for _ in 0..500 {
            learned.learn("m", "c", 0, &used(0, 0, 8_192));
        }
        for _ in 0..5_000 {
            learned.learn("m", "c", 0, &used(0, 0, 32));
        }
        assert_eq!(learned.expect("m", "c", 0).output, 32);
    }

    #[test]
    fn memory_is_bounded_and_the_busy_stay() {
        let mut learned = learned();
        for turn in 0..20_000 {
            learned.learn("m", &format!("caller-{turn}"), 10, &used(10, 0, 1_000));
            learned.learn("m", "busy", 10, &used(10, 0, 16));
            learned.learn(&format!("model-{turn}"), "busy", 10, &used(10, 0, 16));
        }
        assert!(learned.callers <= MAX_REMEMBERED, "{}", learned.callers);
        assert!(learned.models.len() <= MAX_REMEMBERED);
        assert_eq!(learned.expect("m", "busy", 0).output, 16);
    }
}
