//! What is read back at start is everything that was booked, each request once.

use super::*;

#[test]
fn where_single_records_were_pruned_the_sums_stand_in_for_them() {
    let mut rig = Rig::new(Some(MemoryStore::default()));
    rig.settings.max_bytes = 200_000;
    let mut running = rig.start();
    for _ in 0..2000 {
        let record = rig.record(1);
        running.close(running.begin(record), 2);
        rig.clock.fetch_add(10_000, Ordering::Relaxed);
    }
    running.save();
    while running.parts.keeper.prune().expect("the store works") {}
    drop(running);
    let mut running = rig.start();
    let now = rig.clock.load(Ordering::Relaxed);
    let oldest = running
        .parts
        .keeper
        .records(&Query::default(), usize::MAX)
        .expect("readable")
        .last()
        .map_or(0, |record| record.finished_unix_ms);
    assert!(oldest > NOON + HOUR_MS, "some were pruned");
    let (recalled, singles, mut total) = running.recall(NOON - 24 * HOUR_MS, NOON);
    assert!(recalled.border_unix_ms > oldest - HOUR_MS && recalled.border_unix_ms < now);
    assert_eq!(recalled.border_unix_ms % HOUR_MS, 0);
    singles.iter().for_each(|(_, takes)| total.add(takes));
    assert_eq!((total.requests, total.fresh_tokens), (2000, 4000));
}

#[test]
fn what_is_read_back_begins_where_it_is_asked_to() {
    for mut rig in Rig::both() {
        let mut running = rig.start();
        for _ in 0..100 {
            let record = rig.record(1);
            running.close(running.begin(record), 2);
            rig.clock.fetch_add(HOUR_MS / 10, Ordering::Relaxed);
        }
        // NOON lies 2/3 into its hour.
        let hour = NOON / HOUR_MS * HOUR_MS;
        let newest = running.parts.opened.newest_unix_ms;
        assert_eq!(newest, 0, "nothing was there");
        let (recalled, singles, sums) =
            running.recall(hour + 2 * HOUR_MS + 5, hour + 4 * HOUR_MS + 9);
        assert_eq!(recalled.border_unix_ms, hour + 4 * HOUR_MS);
        assert_eq!(sums.requests, 20, "two whole hours");
        let first = (4 * HOUR_MS - (NOON - hour)).div_ceil(HOUR_MS / 10);
        assert_eq!(singles.len() as u64, 100 - first);
        let (recalled, singles, sums) = running.recall(hour + 5 * HOUR_MS + 9, hour);
        assert_eq!(recalled.border_unix_ms, hour + 5 * HOUR_MS);
        assert_eq!(sums.requests, 0);
        let first = (5 * HOUR_MS + 9 - (NOON - hour)).div_ceil(HOUR_MS / 10);
        assert_eq!(singles.len() as u64, 100 - first);
        drop(running);
        let newest = rig.start().parts.opened.newest_unix_ms;
        assert_eq!(newest, NOON + 99 * (HOUR_MS / 10));
    }
}

#[test]
fn the_newest_time_is_known_whether_it_is_packed_journaled_or_of_a_request_that_never_ended() {
    for mut rig in Rig::both() {
        let mut newest = Vec::new();
        for round in 0..3 {
            rig.clock.fetch_add(1000, Ordering::Relaxed);
            let mut running = rig.start();
            newest.push(running.parts.opened.newest_unix_ms);
            let record = rig.record(1);
            let entry = running.begin(record);
            match round {
                0 => {
                    running.close(entry, 2);
                    running.save();
                }
                1 => running.close(entry, 2),
                _ => std::mem::forget(entry),
            }
        }
        newest.push(rig.start().parts.opened.newest_unix_ms);
        assert_eq!(newest, [0, NOON + 1000, NOON + 2000, NOON + 3000]);
    }
}
