//! Whose a request is: who was chosen to serve it, and where it goes when they do not.

use std::sync::Arc;

use super::super::case::{Case, Choice};
use super::super::choose::{Menu, Talk};
use super::super::routed::Routing;
use super::{Account, Place};

impl Account {
    /// Gives back what the request holds of its budgets and of its provider.
    pub(in crate::proxy) fn lets_go(&mut self) {
        self.reservation = None;
        self.turn = None;
    }

    /// Whether it was admitted.
    pub(in crate::proxy) fn is_admitted(&self) -> bool {
        self.reservation.is_some()
    }

    /// Notes what was decided about who serves the request, for the record and for the conversation's next request.
    pub(in crate::proxy) fn is_served_by(&mut self, case: &Case<'_>, menu: &Menu, choice: &Choice) {
        let decided = match menu.shadow {
            true => menu.choices.first().unwrap_or(choice),
            false => choice,
        };
        if choice.why.is_some() {
            self.goes_to(choice);
        }
        self.routing = Routing::of(case, menu, decided);
        if let Some(why) = &decided.why {
            let gate = Arc::clone(&self.gate);
            let provider = &gate.providers[decided.provider].settings.name;
            let model = decided.model.as_deref().unwrap_or_default();
            let record = self.record_mut();
            record.routed_to = Some(if decided.provider == case.call.provider {
                model.to_owned()
            } else {
                format!("{provider}/{model}")
            });
            record.routed_by = Some(why.clone());
            record.flags.route_shadow = menu.shadow;
        }
    }

    /// The conversation that the request belongs to, where its model may change.
    pub(in crate::proxy) fn talk(&self) -> Option<&Talk> {
        self.routing.as_ref().map(Routing::talk)
    }

    /// The request goes to somebody else after what came of it so far: from here on it counts as theirs.
    pub(in crate::proxy) fn moves_to(&mut self, choice: &Choice) {
        self.goes_to(choice);
        self.tries_again();
        if choice.why.is_none() && self.record().routed_by.is_some() {
            let record = self.record_mut();
            if !record.flags.route_shadow {
                // It went another way after all.
                (record.routed_by, record.routed_to) = (None, None);
            }
        }
        if let Some(routing) = &mut self.routing {
            routing.goes_elsewhere(&self.gate, choice.provider);
        }
    }

    /// From here on the request counts as that provider's and model's.
    pub(in crate::proxy) fn goes_to(&mut self, choice: &Choice) {
        let gate = Arc::clone(&self.gate);
        let provider = &gate.providers[choice.provider];
        if let Some(place) = self.provider.replace(choice.provider) {
            gate.providers[place].in_flight.dec();
        }
        provider.in_flight.inc();
        let record = self.record_mut();
        let name = provider.settings.name.clone();
        let before = std::mem::replace(&mut record.provider, name);
        let asked = record.requested_provider.get_or_insert(before);
        if *asked == record.provider {
            record.requested_provider = None;
        }
        record.sent_model = choice
            .model
            .clone()
            .filter(|model| record.requested_model.as_ref() != Some(model));
    }

    /// Writes down where the request goes now, in case this process does not see its end.
    pub(in crate::proxy) fn amend(&mut self) {
        if let Place::Journaled(entry) = &mut self.place {
            entry.amend();
        }
    }
}
