//! Ledgers of older formats are read on.

use super::*;

#[test]
fn a_ledger_of_the_first_format_is_read_on_and_becomes_one_of_this() {
    let mut rig = Rig::new(None);
    let fixture =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/ledger-format-1");
    copy_dir(&fixture, &rig.settings.dir);
    let packed = rig.settings.dir.join("store/db.gz");
    let mut bytes = Vec::new();
    let file = fs::File::open(&packed).expect("the fixture has it");
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(file), &mut bytes)
        .expect("readable");
    fs::write(rig.settings.dir.join("store/db"), bytes).expect("writable");
    fs::remove_file(packed).expect("removable");

    for round in 0..2 {
        let mut running = rig.start();
        let opened = running.parts.opened.clone();
        let found = (opened.recovered, opened.interrupted, opened.damage.len());
        // 40 requests are in the store, 10 in the journal, and one was running when the process was killed.
        let events = match round {
            0 => {
                assert_eq!(found, (10, 1, 0));
                running.event(5);
                Vec::from([5])
            }
            _ => Vec::from([5]),
        };
        assert_eq!(opened.newest_unix_ms, NOON);
        let all = running.everything();
        assert_eq!(all.len(), 51);
        let ended = |wanted: Outcome| all.values().filter(|(ended, _)| *ended == wanted).count();
        assert_eq!(ended(Outcome::Complete), 45);
        assert_eq!(ended(Outcome::Refused), 5);
        assert_eq!(ended(Outcome::Interrupted), 1);
        let (_, _, sums) = running.recall(0, u64::MAX);
        assert_eq!(sums.requests, 46, "what was refused takes no request");
        assert_eq!(sums.fresh_tokens, (1..=50).sum::<u64>() + 1000);
        assert_eq!(running.events(), events);
        if round == 0 {
            running.save();
        }
    }
    let identity = fs::read_to_string(rig.settings.dir.join("ledger.json"));
    assert_eq!(identity.expect("readable"), r#"{"tollgate_ledger":2}"#);
    let record = rig.record(1);
    let mut running = rig.start();
    running.close(running.begin(record), 2);
    assert_eq!(running.everything().len(), 52);
}
