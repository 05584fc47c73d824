use proptest::prelude::*;

use super::*;

const MINUTE_MS: u64 = 60_000;

fn routing() -> Routing {
    Routing {
        keep: Duration::from_secs(300),
        only_at_user_turn: true,
        ..Routing::default()
    }
}

fn usage(cached_read: u64, cache_write: u64) -> Usage {
    Usage {
        input: cached_read + cache_write + 10,
        cached_read,
        cache_write,
        output: 5,
        ..Usage::default()
    }
}

fn begun(model: &str, at_ms: u64, usage: &Usage) -> Conversation {
    Conversation::after(None, "a", model, at_ms, usage, routing().keep)
}

fn moved(before: &Conversation, model: &str, at_ms: u64, usage: &Usage) -> Conversation {
    Conversation::after(Some(before), "a", model, at_ms, usage, routing().keep)
}

fn change(now_ms: u64) -> Change {
    Change {
        now_ms,
        at_user_turn: true,
        insists: false,
        costs: None,
    }
}

fn costs(stay: i128, change: i128) -> Option<Costs> {
    Some(Costs {
        stay: Cost::from_attos(stay),
        change: Cost::from_attos(change),
    })
}

#[test]
fn inside_a_turn_the_model_stays_unless_the_config_lets_it_go() {
    let last = begun("opus", 0, &Usage::default());
    let inside = Change {
        at_user_turn: false,
        insists: true,
        costs: costs(9, 1),
        ..change(60 * MINUTE_MS)
    };
    assert_eq!(sense(&routing(), Some(&last), &inside), Sense::InTurn);
    let anywhere = Routing {
        only_at_user_turn: false,
        ..routing()
    };
    assert_eq!(sense(&anywhere, Some(&last), &inside), Sense::MayChange);
    assert_eq!(
        sense(&routing(), None, &inside),
        Sense::MayChange,
        "nothing is known"
    );
}

#[test]
fn a_living_cache_is_given_up_only_for_less_money() {
    let last = begun("opus", 0, &usage(0, 50_000));
    let with = |costs, now_ms| {
        let change = Change {
            costs,
            ..change(now_ms)
        };
        sense(&routing(), Some(&last), &change)
    };
    assert_eq!(with(costs(10, 11), MINUTE_MS), Sense::CacheIsWorthMore);
    assert_eq!(with(costs(10, 10), MINUTE_MS), Sense::CacheIsWorthMore);
    assert_eq!(with(costs(11, 10), MINUTE_MS), Sense::MayChange);
    assert_eq!(
        with(None, MINUTE_MS),
        Sense::CacheIsWorthMore,
        "a price is not known"
    );
    assert_eq!(
        with(costs(10, 11), 5 * MINUTE_MS),
        Sense::MayChange,
        "the cache is gone"
    );
    let nothing_cached = begun("opus", 0, &usage(0, 0));
    let dearer = Change {
        costs: costs(1, 2),
        ..change(1)
    };
    assert_eq!(
        sense(&routing(), Some(&nothing_cached), &dearer),
        Sense::MayChange
    );
}

#[test]
fn who_was_moved_stays_for_a_while_but_comes_back_at_once_for_a_rule_that_says_asked() {
    let first = begun("opus", 0, &usage(0, 0));
    let down = moved(&first, "haiku", MINUTE_MS, &usage(0, 0));
    let at = |now_ms| Change {
        costs: costs(9, 1),
        ..change(now_ms)
    };
    assert_eq!(
        sense(&routing(), Some(&down), &at(6 * MINUTE_MS - 1)),
        Sense::JustMoved
    );
    assert_eq!(
        sense(&routing(), Some(&down), &at(6 * MINUTE_MS)),
        Sense::MayChange
    );
    let insists = Change {
        insists: true,
        ..at(2 * MINUTE_MS)
    };
    assert_eq!(sense(&routing(), Some(&down), &insists), Sense::MayChange);
    // More answers of the same model are no new move.
    let later = moved(&down, "haiku", 4 * MINUTE_MS, &usage(0, 0));
    assert_eq!(
        sense(&routing(), Some(&later), &at(6 * MINUTE_MS)),
        Sense::MayChange
    );
}

#[test]
fn a_cache_lives_as_long_as_its_provider_says_and_from_each_use_on() {
    let hours = |hours: u64| hours * 60 * MINUTE_MS;
    let hour = Usage {
        cache_write_1h: 100,
        ..usage(0, 100)
    };
    let last = begun("opus", 0, &hour);
    assert_eq!(last.cached_tokens(hours(1) - 1), 100);
    assert_eq!(last.cached_tokens(hours(1)), 0);
    // What is only read lives on as it was written.
    let read = moved(&last, "opus", MINUTE_MS * 50, &usage(100, 0));
    assert_eq!(read.cached_tokens(MINUTE_MS * 109), 100);
    let half_day = Usage {
        cache_write_12h: 7,
        ..usage(0, 7)
    };
    assert_eq!(begun("m", 0, &half_day).cached_tokens(hours(12) - 1), 7);
    // Another model has a cache of its own, of which nothing is known.
    let other = moved(&last, "haiku", MINUTE_MS, &usage(3, 0));
    assert_eq!(other.cached_tokens(MINUTE_MS * 6), 0);
    assert_eq!(other.cached_tokens(MINUTE_MS * 6 - 1), 3);
}

/// Prices in atto-dollars a token: input, cache read, cache write, output.
fn priced(usage: &Usage, [input, read, write, output]: [i128; 4]) -> Cost {
    let part = |tokens: u64, price: i128| i128::from(tokens) * price;
    Cost::from_attos(
        part(usage.uncached(), input)
            + part(usage.cached_read, read)
            + part(usage.cache_write, write)
            + part(usage.output, output),
    )
}

#[test]
fn a_change_is_priced_with_the_lost_cache() {
    const OPUS: [i128; 4] = [400, 20, 500, 2_000];
    const SONNET: [i128; 4] = [200, 10, 250, 1_000];
    let cost_of =
        |stays: bool, usage: &Usage| Some(priced(usage, if stays { OPUS } else { SONNET }));
    // A long conversation: reading the prefix from opus's cache costs less than having sonnet write it into its own.
    let long = begun("opus", 0, &usage(0, 100_000));
    let of_long = long.costs(1, 101_000, 500, cost_of).expect("prices");
    let stay = 100_000 * 20 + 1_000 * 500 + 500 * 2_000;
    let other = 101_000 * 250 + 500 * 1_000;
    assert_eq!(
        (of_long.stay.attos(), of_long.change.attos()),
        (stay, other)
    );
    assert!(of_long.stay < of_long.change);
    // Without caching on the client's part everything is plain input, and the cheaper model is cheaper.
    let plain = begun("opus", 0, &usage(0, 0));
    let of_plain = plain.costs(1, 101_000, 500, cost_of).expect("prices");
    assert_eq!(of_plain.change.attos(), 101_000 * 200 + 500 * 1_000);
    assert!(of_plain.change < of_plain.stay);
    // A cache that is gone, or larger than the prompt, counts as what there is of it.
    let gone = long
        .costs(5 * MINUTE_MS, 101_000, 0, cost_of)
        .expect("prices");
    assert_eq!(gone.stay.attos(), 101_000 * 500);
    let short = long.costs(1, 40, 0, cost_of).expect("prices");
    assert_eq!(short.stay.attos(), 40 * 20);
    assert_eq!(
        long.costs(1, 40, 0, |stays, usage| cost_of(stays, usage)
            .filter(|_| stays)),
        None
    );
}

#[test]
fn what_would_be_written_is_priced_by_how_long_the_client_has_it_kept() {
    let hour = Usage {
        cache_write_1h: 100,
        ..usage(0, 100)
    };
    let half_day = Usage {
        cache_write_12h: 100,
        ..usage(0, 100)
    };
    for (first, kinds) in [
        (usage(0, 0), [0, 0, 0]),
        (usage(0, 100), [900, 0, 0]),
        (hour, [900, 900, 0]),
        (half_day, [900, 0, 900]),
    ] {
        // An answer that only reads says nothing new of it.
        let last = moved(&begun("m", 0, &first), "m", 1, &usage(100, 0));
        let seen = std::cell::RefCell::new(Vec::new());
        last.costs(2, 1_000, 1, |_, usage| {
            let written = [
                usage.cache_write,
                usage.cache_write_1h,
                usage.cache_write_12h,
            ];
            seen.borrow_mut().push((usage.cached_read, written));
            Some(Cost::ZERO)
        });
        let all = kinds.map(|tokens| tokens / 9 * 10);
        assert_eq!(seen.into_inner(), [(100, kinds), (0, all)]);
    }
}

#[test]
fn what_is_kept_for_each_conversation_is_small() {
    assert!(
        size_of::<Conversation>() <= 96,
        "{} bytes besides two names",
        size_of::<Conversation>()
    );
}

proptest! {
    /// A conversation whose requests come at any times, wish for any of three models, and cost anything.
    #[test]
    fn a_conversation_changes_only_when_it_may(
        requests in prop::collection::vec(
            (0..400_000_u64, any::<bool>(), 0..3_u8, any::<bool>(), prop::option::of((0..9_i128, 0..9_i128)), 0..2_u64),
            1..60,
        ),
    ) {
        let routing = routing();
        let keep_ms = 300_000;
        let mut last: Option<Conversation> = None;
        let (mut now, mut moved_at) = (0_u64, None::<u64>);
        for (pause, at_user_turn, wish, insists, priced, cached) in requests {
            now += pause;
            let wish = wish.to_string();
            let costs = priced.and_then(|(stay, change)| costs(stay, change));
            let change = Change { now_ms: now, at_user_turn, insists, costs };
            let sense = sense(&routing, last.as_ref(), &change);
            let served = match &last {
                Some(last) if sense.stays() => last.target().1.to_owned(),
                _ => wish,
            };
            if let Some(last) = &last && !last.is_with("a", &served) {
                prop_assert!(at_user_turn, "never inside a turn");
                if !insists {
                    prop_assert!(moved_at.is_none_or(|moved| now >= moved + keep_ms), "never just after a move");
                    let pays = costs.is_some_and(|costs| costs.change < costs.stay);
                    prop_assert!(last.cached_tokens(now) == 0 || pays, "never for more money");
                }
                moved_at = Some(now);
            }
            last = Some(Conversation::after(last.as_ref(), "a", &served, now, &usage(cached, 0), routing.keep));
        }
    }
}
