//! Which names the tables of a section may have: `[providers.NAME]`, `[budgets.NAME]`, `[teams.NAME]` …
//!
//! 1 to 64 lower-case letters, digits, - and _, so that every name can be part of a variable, a path and a metric; and no
//! two that differ only in - and _, which would share their variables.

use std::collections::BTreeSet;

use crate::config::layers::NamedSection;
use crate::config::lookup::Lookup;
use crate::config::named::is_table_name;

/// The names of a section's tables that can be used. `what` is one of them (`provider`), `reserved` says why a name
/// cannot be one. The others are noted as problems.
pub(super) fn usable(
    lookup: &mut Lookup<'_>,
    section: &NamedSection,
    what: &str,
    reserved: impl Fn(&str) -> Option<&'static str>,
) -> Vec<String> {
    let mut usable = Vec::new();
    let mut variables = BTreeSet::new();
    for (name, place) in lookup.layers.names(section) {
        let path = format!("{}.{name}", section.name);
        let refused = if is_table_name(&name) {
            reserved(&name)
        } else {
            Some("1 to 64 lower-case letters, digits, - and _")
        };
        if let Some(help) = refused {
            let message = format!("`{name}` cannot be a {what}'s name");
            lookup.object(Some(place), &path, message, help);
        } else if !variables.insert(name.replace('-', "_")) {
            let message = format!("{what} `{name}` differs from another one only in - and _");
            lookup.object(Some(place), &path, message, "give it another name");
        } else {
            lookup.tables_at.insert(path, place);
            usable.push(name);
        }
    }
    usable
}
