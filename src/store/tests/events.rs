//! Events are kept exactly once, are found, and never cost a request.

use super::*;

#[test]
fn damage_in_an_event_costs_that_event_and_no_request() {
    let mut rig = Rig::new(Some(MemoryStore::default()));
    let running = rig.start();
    let mut spans = Vec::new();
    for number in 0..3 {
        let record = rig.record(1);
        running.close(running.begin(record), 2);
        let before = fs::metadata(rig.segment(1)).expect("there").len() as usize;
        running.event(number);
        let after = fs::metadata(rig.segment(1)).expect("there").len() as usize;
        spans.push(before..after);
    }
    drop(running);
    let whole = fs::read(rig.segment(1)).expect("readable");
    let fresh = rig.folder.path().join("fresh");
    copy_dir(&rig.settings.dir, &fresh);
    for (number, span) in spans.into_iter().enumerate() {
        for place in span {
            fs::remove_dir_all(&rig.settings.dir).expect("removable");
            copy_dir(&fresh, &rig.settings.dir);
            let mut bytes = whole.clone();
            bytes[place] ^= 0x04;
            fs::write(rig.segment(1), &bytes).expect("writable");
            rig.memory.as_ref().expect("in memory").crash(0);
            let mut running = rig.start();
            assert_eq!(running.parts.opened.damage.len(), 1, "flipped at {place}");
            assert_eq!(running.everything().len(), 3, "flipped at {place}");
            let others: Vec<u64> = (0..3).rev().filter(|n| *n != number as u64).collect();
            assert_eq!(running.events(), others, "flipped at {place}");
        }
    }
}

#[test]
fn events_go_when_they_are_too_old_or_take_more_than_their_share() {
    for mut rig in Rig::both() {
        rig.settings.keep_records = Duration::from_secs(3600);
        rig.settings.max_bytes = 16 * 40_000;
        let mut running = rig.start();
        for number in 0..2000 {
            running.event(number);
            rig.clock.fetch_add(10_000, Ordering::Relaxed);
        }
        running.save();
        while running.parts.keeper.prune().expect("the store works") {}
        let events = running.events();
        assert_eq!(events.first(), Some(&1999), "the newest is there");
        assert!(
            (354..=366).contains(&events.len()),
            "an hour of them: {}",
            events.len()
        );
        assert!(running.everything().is_empty());

        for number in 2000..8000 {
            running.event(number);
        }
        let record = rig.record(1);
        running.close(running.begin(record), 2);
        running.save();
        while running.parts.keeper.prune().expect("the store works") {}
        let bytes = running
            .parts
            .keeper
            .with_shelf(|shelf| Ok(shelf.events.bytes));
        let bytes = bytes.expect("the store works");
        assert!(
            (30_000..=40_000).contains(&bytes),
            "{bytes} bytes of events"
        );
        assert_eq!(running.events().first(), Some(&7999));
        assert_eq!(running.everything().len(), 1, "no record goes for them");
    }
}

#[test]
fn events_are_found_by_filter_and_newest_first() {
    for rig in Rig::both() {
        let mut running = rig.start();
        for number in 0..500_u64 {
            let mut event = Event::new(
                [EventKind::Refused, EventKind::Waited][number as usize % 2],
                rig.clock.load(Ordering::Relaxed),
            );
            event.session = Some(format!("session {}", number % 3));
            event.actual_tokens = number;
            running.book.event(&event);
            // Four in each millisecond.
            rig.clock
                .fetch_add(u64::from(number % 4 == 3), Ordering::Relaxed);
        }
        let query = EventQuery {
            since: Some(NOON + 10),
            until: Some(NOON + 100),
            kinds: vec![EventKind::Waited],
            sessions: vec!["session 1".to_owned()],
            limit: 4,
            ..EventQuery::default()
        };
        let events = running.parts.keeper.events(&query).expect("readable");
        let numbers: Vec<_> = events.iter().map(|event| event.actual_tokens).collect();
        assert_eq!(numbers, [397, 391, 385, 379]);
        assert_eq!(running.events(), (0..500).rev().collect::<Vec<_>>());
    }
}
