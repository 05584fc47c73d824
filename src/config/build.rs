//! Turns the layers into settings: which keys there are, what type each has, and what contradicts what.

mod budgets;
mod names;
mod policies;
mod providers;
mod routing;
mod send;
mod server;
mod tasks;
mod throttle;

use super::choice::OnFailure;
use super::lookup::Lookup;
use super::scalar::{Size, TimeLimit};
use super::settings::{ClassifySettings, LedgerSettings, LogSettings, Settings};

/// Asks for every key.
pub(super) fn settings(lookup: &mut Lookup<'_>) -> Settings {
    let server = server::server(lookup);
    let upstream = server::upstream(lookup);
    let providers = providers::providers(lookup);
    let mut settings = Settings {
        server,
        upstream,
        routing: routing::routing(lookup, &providers),
        providers,
        ledger: ledger(lookup),
        log: LogSettings {
            level: lookup.ask("log.level"),
            format: lookup.ask("log.format"),
        },
        classify: ClassifySettings {
            priority_rules: lookup.ask_tables("classify.priority"),
            tasks: tasks::task_rules(lookup),
        },
        throttle: throttle::throttle(lookup),
        budgets: budgets::budgets(lookup),
        auth: policies::auth(lookup),
        tiers: policies::tiers(lookup),
        teams: policies::teams(lookup),
        keys: policies::keys(lookup),
        send: send::send(lookup),
        limits: send::limits(lookup),
        models: lookup.ask_tables("models"),
        abilities: lookup.ask_tables("abilities"),
    };
    policies::check_tiers(lookup, &settings);
    routing::check_tasks(lookup, &settings);
    server::check_reach(lookup, &mut settings);
    settings
}

fn ledger(lookup: &mut Lookup<'_>) -> LedgerSettings {
    LedgerSettings {
        dir: lookup.ask("ledger.dir"),
        sync_interval: lookup.ask("ledger.sync_interval"),
        keep_records: lookup.ask::<TimeLimit>("ledger.keep_records").0,
        keep_sums: lookup.ask::<TimeLimit>("ledger.keep_sums").0,
        max_bytes: lookup.ask::<Size>("ledger.max_size").0,
        pass_on_failure: lookup.ask::<OnFailure>("ledger.on_failure") == OnFailure::Pass,
    }
}
