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

    // Sums of the time before routing: nothing was routed, and what is routed now stands beside them.
    let savings = |running: &mut Running| {
        let savings = running.parts.keeper.savings(&Query::default());
        savings.expect("readable")
    };
    let before = savings(&mut running);
    assert_eq!((before.all.requests, before.on.requests), (52, 0));
    assert_eq!((before.rows.len(), before.shadow.requests), (0, 0));
    let mut record = rig.record(1);
    record.routed_by = Some("rule:docs".to_owned());
    record.saving = Some(Cost::from_attos(5));
    running.close(running.begin(record), 2);
    for _ in 0..2 {
        let after = savings(&mut running);
        assert_eq!((after.all.requests, after.on.requests), (53, 1));
        assert_eq!(after.on.saving, Cost::from_attos(5));
        assert_eq!(after.on.cost, Some(Cost::from_attos(22)));
        running.save();
    }
}

#[test]
fn what_is_not_routed_adds_up_to_the_sums_of_older_versions() {
    let mut rig = Rig::new(None);
    let mut running = rig.start();
    // As they were written then: without the fields of routing.
    let mut old = rig.record(1);
    old.outcome = Outcome::Complete;
    old.provenance = Provenance::Reported;
    let booked_at = NOON / HOUR_MS;
    let group = OldGroup {
        hour: u32::try_from(booked_at).expect("an hour of this century"),
        session: old.session.clone(),
        provider: old.provider.clone(),
        priority: old.priority as u8,
        endpoint: String::new(),
        outcome: Outcome::Complete,
        provenance: Provenance::Reported,
        cost_source: CostSource::Table,
    };
    let sum = OldSum {
        requests: 7,
        usage: crate::llm::usage::Usage {
            input: 70,
            ..Default::default()
        },
        unknown_cost: 0,
    };
    let value = minicbor::to_vec((&group, &sum)).expect("encoding into memory cannot fail");
    let mut key = super::super::sums::hour_key(group.hour);
    let group = minicbor::to_vec(&group).expect("encoding into memory cannot fail");
    key.extend_from_slice(&<sha2::Sha256 as sha2::Digest>::digest(&group)[..16]);
    let bytes = (key.len() + value.len()) as u64;
    let stored = running.parts.keeper.with_shelf(|shelf| {
        let mark = super::super::sums::SumsMark {
            bytes,
            ..shelf.sums
        };
        shelf.apply_sums(mark, vec![Change::Put(key.clone(), value.clone())])
    });
    stored.expect("the store works");
    running.close(running.begin(old), 5);
    running.save();
    let (recalled, _, sums) = running.recall(0, u64::MAX);
    assert_eq!(recalled.sums, 1, "one and the same");
    assert_eq!((sums.fresh_tokens, recalled.requests), (75, 0));
    let savings = running.parts.keeper.savings(&Query::default());
    let savings = savings.expect("readable");
    assert_eq!((savings.all.requests, savings.on.requests), (8, 0));
}

/// A sum's group before routing; what the test leaves out is empty.
#[derive(minicbor::Encode)]
#[cbor(map)]
struct OldGroup {
    #[n(0)]
    hour: u32,
    #[n(1)]
    session: String,
    #[n(5)]
    provider: String,
    #[n(8)]
    priority: u8,
    #[n(10)]
    endpoint: String,
    #[n(11)]
    outcome: Outcome,
    #[n(12)]
    provenance: Provenance,
    #[n(13)]
    cost_source: CostSource,
}

/// A sum before routing, with a cost of null.
#[derive(minicbor::Encode)]
#[cbor(map)]
struct OldSum {
    #[n(0)]
    requests: u64,
    #[n(1)]
    usage: crate::llm::usage::Usage,
    #[n(3)]
    unknown_cost: u64,
}
