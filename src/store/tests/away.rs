//! What is put away comes back whole, whatever the store does meanwhile.

use super::*;

fn named(name: &str) -> Vec<Vec<u8>> {
    vec![name.as_bytes().to_vec()]
}

fn counters(name: &str, bytes: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    vec![(name.as_bytes().to_vec(), bytes.to_vec())]
}

#[test]
fn what_is_put_away_is_fetched_whole_from_memory_and_from_the_store() {
    for rig in Rig::both() {
        let mut running = rig.start();
        let long: Vec<u8> = (0..20_000_u32).map(|n| n as u8).collect();
        for (name, bytes) in [("docs", &b"7"[..]), ("d", b""), ("long", &long), ("", b"0")] {
            running.parts.keeper.put_away(counters(name, bytes));
        }
        let names: Vec<_> = ["long", "docs", "doc", "", "d"]
            .map(|name| name.as_bytes().to_vec())
            .into();
        let expected = [
            Some(long.clone()),
            Some(b"7".to_vec()),
            None,
            Some(b"0".to_vec()),
            Some(Vec::new()),
        ];
        let fetch = |running: &mut Running| running.parts.keeper.fetch_away(&names);
        assert_eq!(fetch(&mut running).expect("it works"), expected);
        assert!(running.parts.keeper.has_unsaved());
        running.save();
        assert!(!running.parts.keeper.has_unsaved());
        assert_eq!(fetch(&mut running).expect("it works"), expected);
        // The newest counts, also when it is shorter.
        running.parts.keeper.put_away(counters("long", b"short"));
        for _ in 0..2 {
            let found = running.parts.keeper.fetch_away(&named("long"));
            assert_eq!(found.expect("it works"), [Some(b"short".to_vec())]);
            running.save();
        }
        assert!(
            running.everything().is_empty(),
            "and its bytes are counted right"
        );
        drop(running);
        let mut running = rig.start();
        assert_eq!(
            fetch(&mut running).expect("it works"),
            [None, None, None, None, None]
        );
        while running.parts.keeper.prune().expect("the store works") {}
        let left = running.parts.keeper.with_shelf(|shelf| {
            let mut left = 0;
            let mut count = |_: &[u8], _: &[u8]| {
                left += 1;
                ControlFlow::Continue(())
            };
            let all = Order::Rising;
            shelf
                .store
                .scan(Table::Away, &[], &[0xFF; 9], all, &mut count)?;
            Ok(left)
        });
        assert_eq!(left.expect("the store works"), 0, "a new start counts anew");
    }
}

#[test]
fn a_store_that_fails_loses_nothing_that_was_put_away() {
    let rig = Rig::new(Some(MemoryStore::default()));
    let memory = rig.memory.clone().expect("in memory");
    let mut running = rig.start();
    running.parts.keeper.put_away(counters("early", b"1"));
    running.save();
    memory.set_failing(true);
    running.parts.keeper.put_away(counters("late", b"2"));
    assert!(running.parts.keeper.checkpoint().is_err());
    let found = running.parts.keeper.fetch_away(&named("late"));
    assert_eq!(found.expect("it is in memory"), [Some(b"2".to_vec())]);
    let unknown = running.parts.keeper.fetch_away(&named("early"));
    assert!(unknown.is_err(), "unknown is not nothing");
    memory.set_failing(false);
    // The store forgets what it had not synced, as a database does when it is opened anew.
    memory.crash(0);
    running.save();
    for (name, bytes) in [("early", b"1"), ("late", b"2")] {
        let found = running.parts.keeper.fetch_away(&named(name));
        assert_eq!(found.expect("it works"), [Some(bytes.to_vec())], "{name}");
    }
}

#[test]
fn what_was_put_away_goes_when_no_window_can_hold_it_any_more() {
    let rig = Rig::new(Some(MemoryStore::default()));
    let mut running = rig.start();
    for number in 0..1000 {
        let name = format!("session {number}");
        running.parts.keeper.put_away(counters(&name, &[7; 100]));
    }
    running.save();
    rig.clock.fetch_add(32 * 24 * HOUR_MS, Ordering::Relaxed);
    for _ in 0..10 {
        assert!(!running.parts.keeper.prune().expect("the store works"));
    }
    running.parts.keeper.put_away(counters("session 5", b"new"));
    running.save();
    rig.clock.fetch_add(2 * 24 * HOUR_MS, Ordering::Relaxed);
    for _ in 0..10 {
        running.parts.keeper.prune().expect("the store works");
    }
    let names: Vec<_> = (0..1000)
        .map(|number| format!("session {number}").into_bytes())
        .collect();
    let found = running.parts.keeper.fetch_away(&names).expect("it works");
    let found: Vec<_> = found.into_iter().flatten().collect();
    assert_eq!(found, [b"new".to_vec()]);
    assert!(
        running.everything().is_empty(),
        "and its bytes are counted right"
    );
}
