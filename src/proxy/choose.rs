//! Which models could serve a request, in the order in which its budgets are asked to admit it. What was asked for is
//! always among them.
//!
//! The order is `policy::routing`'s; what a model can do is `llm::fitness`'s. Here both meet the request: who else speaks
//! its format, whom its caller may use, what each would cost, and what served the conversation last.

mod suits;

use http::header;

pub(super) use self::suits::Unsuited;
use self::suits::{Table, cost, place_of};
use super::account::Account;
use super::admit;
use super::ask::{self, Estimate};
use super::case::{Case, Changed, Choice};
use super::conversations::Talker;
use super::identify::bad_tag;
use super::parse::CallBody;
use super::throttle::Wish;
use crate::config::settings::ThrottleMode;
use crate::llm::adapt::{self, Incoming};
use crate::llm::fitness::{self, Rung};
use crate::llm::request::{Peek, Seen};
use crate::llm::usage::Usage;
use crate::policy::explicit;
use crate::policy::routing::conversation::{Change, Conversation, Sense, sense};
use crate::policy::routing::{self, Mode, Plan, To, Wanted};
use crate::policy::throttle::Level;
use crate::refusal::Refusal;

/// The header by which a client keeps its model.
const ROUTE_HEADER: &str = "x-tollgate-route";

/// What may serve a request.
#[derive(Debug)]
pub(super) struct Menu {
    /// The choices, in the order in which budgets are asked; what was asked for is among them.
    pub(super) choices: Vec<Choice>,
    /// What was asked for serves, whatever is decided; the decision is only recorded.
    pub(super) shadow: bool,
    /// The conversation that the request belongs to; `None` where nothing is routed.
    pub(super) talk: Option<Talk>,
}

/// A request's conversation.
#[derive(Debug, Clone)]
pub(super) struct Talk {
    /// Whose it is.
    pub(super) talker: Talker,
    /// What served it last, if that is known.
    pub(super) last: Option<Conversation>,
    /// The model is at work on its user's newest words, and has called tools.
    inside_turn: bool,
}

/// Everything that was weighed, for whoever wants to know why.
#[derive(Debug)]
pub(super) struct Weighed {
    /// What came of it.
    pub(super) menu: Menu,
    /// Every candidate in the plan's order, and why it does not come into question.
    pub(super) looked: Vec<(Choice, Option<Unsuited>)>,
    /// Whether the conversation had better keep its model.
    pub(super) sense: Sense,
    /// The level of the request's budgets, if a rule asks for it.
    pub(super) level: Level,
    /// The ladder that knows the model.
    pub(super) ladder: Option<String>,
}

impl Menu {
    /// What was asked for.
    pub(super) fn asked(&self) -> Option<&Choice> {
        self.choices.iter().find(|choice| choice.why.is_none())
    }

    fn only(asked: Choice) -> Self {
        Self {
            choices: vec![asked],
            shadow: false,
            talk: None,
        }
    }
}

/// The request as it is made for a choice; `None` if it cannot be, which is found out only here.
pub(super) fn made(case: &Case<'_>, choice: &Choice, account: &Account) -> Option<Choice> {
    let (Some(_), Some(model)) = (&choice.why, &choice.model) else {
        return Some(choice.clone());
    };
    let (CallBody::Kept(body), Some(peek)) = (&case.call.body, case.asked.peek) else {
        return None;
    };
    let asked = Choice::asked(case.call, case.asked);
    let table = Table::new(case, peek, &asked, &ask::estimate(case, &asked), account);
    let gate = case.gate;
    let settings = &gate.providers[choice.provider].settings;
    let abilities = gate
        .known
        .abilities(&gate.catalogue, &settings.catalogue, model);
    let to = Rung {
        provider: &settings.name,
        model,
        abilities: &abilities,
    };
    let incoming = Incoming {
        path: &case.call.rest,
        body,
        content_encoding: None,
    };
    let adapt = match choice.began_turn {
        true => adapt::adapt_own,
        false => adapt::adapt,
    };
    let adapted = adapt(&incoming, &table.demands(), &table.from(), &to).ok()?;
    Some(Choice {
        changed: Some(Changed {
            rest: adapted.path,
            body: Some(adapted.body.into()),
            by: adapted.changes,
        }),
        ..choice.clone()
    })
}

/// What was asked for, as it is made for that model: without what other models thought in its conversation, if it might
/// refuse that. As the client wrote it wherever no other one has served the conversation.
pub(super) fn asked(case: &Case<'_>, account: &Account) -> Choice {
    let asked = Choice::asked(case.call, case.asked);
    // In shadow mode others have served it in thought only.
    let others_serve = case.gate.settings.routing.mode == Mode::On;
    let talk = account.talk().filter(|_| others_serve);
    let foreign = talk.is_some_and(|talk| {
        let provider = &case.gate.providers[asked.provider].settings.name;
        let last = talk.last.as_ref();
        last.is_some_and(|last| last.had_others(provider, &talk.talker.model))
    });
    let (CallBody::Kept(body), Some(peek), true) = (&case.call.body, case.asked.peek, foreign)
    else {
        return asked;
    };
    let table = Table::new(case, peek, &asked, &ask::estimate(case, &asked), account);
    let cut = adapt::without_foreign_thoughts(body, &table.demands(), &table.from());
    let changed = cut.map(|(body, by)| Changed {
        rest: None,
        body: Some(body.into()),
        by,
    });
    Choice { changed, ..asked }
}

/// Decides what may serve a request.
///
/// # Errors
/// The header that pins a model says something else, or the ledger does not give back a budget that was put away.
pub(super) async fn menu(case: &Case<'_>, account: &mut Account) -> Result<Menu, Refusal> {
    Ok(weigh(case, account, false).await?.menu)
}

/// The same, with everything that was weighed if `telling`; else `looked` and `ladder` stay empty.
///
/// # Errors
/// As [`menu`].
pub(super) async fn weigh(
    case: &Case<'_>,
    account: &mut Account,
    telling: bool,
) -> Result<Weighed, Refusal> {
    let asked = Choice::asked(case.call, case.asked);
    let pinned = is_pinned(case)?;
    let settings = &case.gate.settings;
    let (Some(peek), Some(model)) = (case.asked.peek, asked.model.as_deref()) else {
        return Ok(Weighed::nothing(asked));
    };
    if settings.routing.mode == Mode::Off || pinned || !can_be_changed(case) {
        return Ok(Weighed::nothing(asked));
    }
    let estimate = ask::estimate(case, &asked);
    let level = level(case, &asked, &estimate, account).await?;
    let provider = &case.gate.providers[asked.provider].settings;
    let catalogue = &case.gate.catalogue;
    let wanted = Wanted {
        provider: &provider.name,
        catalogue: &provider.catalogue,
        model: catalogue.one_name(&provider.catalogue, model),
        written: model,
        task: case.class.task.as_deref(),
        simple: case.class.simple,
        priority: case.class.priority,
        session: &case.caller.session.name,
        key: case.caller.key.as_deref(),
        team: case.caller.team.as_deref(),
        level,
        pinned,
    };
    let same = |rung: &str, asked: &str| catalogue.one_name(&provider.catalogue, rung) == asked;
    let plan = routing::plan(&settings.routing, &wanted, same);
    let ladder = match telling {
        true => settings.routing.ladder(&wanted, same),
        false => None,
    };
    let ladder = ladder.map(|(ladder, _)| ladder.name.clone());
    if plan.first.asked && plan.cheaper.is_empty() {
        return Ok(Weighed {
            level,
            ladder,
            ..Weighed::nothing(asked)
        });
    }
    let talk = Talk::of(case, peek, &wanted);
    let table = Table::new(case, peek, &asked, &estimate, account);
    let chosen_by_hand = settings
        .routing
        .rule(&wanted)
        .is_some_and(|rule| matches!(rule.to, To::Model(_)));
    let looked: Vec<_> = plan
        .choices()
        .enumerate()
        .map(|(place, choice)| {
            let by_hand = chosen_by_hand && place == 0;
            let why_not = table.look(case, choice, by_hand, talk.began_turn_with(choice));
            (*choice, why_not)
        })
        .collect();
    let fits = |choice: &routing::Choice<'_>| {
        looked
            .iter()
            .any(|(other, why)| other == choice && why.is_none())
    };
    let sense = conversation_sense(case, &plan, &talk, &table, fits);
    let stays = talk.last.as_ref().filter(|_| sense.stays());
    let order = plan.order(fits, stays.map(Conversation::target));
    let own = |choice: &routing::Choice<'_>| Choice {
        began_turn: talk.began_turn_with(choice),
        ..table.own(case, choice, &asked)
    };
    let shadow = settings.routing.mode == Mode::Shadow;
    // In shadow mode nothing but the first is of interest besides what was asked for.
    let of_interest = |(place, choice): &(usize, &routing::Choice<'_>)| {
        !shadow || telling || *place == 0 || choice.asked
    };
    let order = order.iter().enumerate().filter(of_interest);
    let told = looked.iter().filter(|_| telling);
    let choices = order.map(|(_, choice)| own(choice)).collect();
    let looked = told
        .map(|(choice, why)| (own(choice), why.clone()))
        .collect();
    Ok(Weighed {
        menu: Menu {
            choices,
            shadow,
            talk: Some(talk),
        },
        looked,
        sense,
        level,
        ladder,
    })
}

impl Weighed {
    fn nothing(asked: Choice) -> Self {
        Self {
            looked: vec![(asked.clone(), None)],
            menu: Menu::only(asked),
            sense: Sense::MayChange,
            level: Level::None,
            ladder: None,
        }
    }
}

/// Whether the client or its key says that its model stays.
fn is_pinned(case: &Case<'_>) -> Result<bool, Refusal> {
    let headers = &case.call.parts.headers;
    match explicit::value(headers, ROUTE_HEADER).map_err(bad_tag)? {
        None => {}
        Some("pinned") => return Ok(true),
        Some(_) => {
            return Err(Refusal::BadTag(format!(
                "header {ROUTE_HEADER} must be pinned, or left out"
            )));
        }
    }
    let mut policies = case.caller.policies(&case.gate.settings);
    Ok(policies.any(|policy| policy.pin_model))
}

/// Whether the request can be changed for another model at all: its body is here, and plain.
fn can_be_changed(case: &Case<'_>) -> bool {
    let encoded = case
        .call
        .parts
        .headers
        .contains_key(header::CONTENT_ENCODING);
    // Azure: the deployment in the path is the model, and what others are called there nobody knows.
    let deployed = case.call.rest.contains("/deployments/");
    fitness::may_move(case.call.endpoint)
        && matches!(case.call.body, CallBody::Kept(_))
        && !encoded
        && !deployed
}

/// The level of the request's budgets, if there are budgets and a rule that asks for it.
async fn level(
    case: &Case<'_>,
    asked: &Choice,
    estimate: &Estimate,
    account: &mut Account,
) -> Result<Level, Refusal> {
    let gate = case.gate;
    let rules = &gate.settings.routing.rules;
    if gate.throttle.mode == ThrottleMode::Off || rules.iter().all(|rule| rule.level.is_none()) {
        return Ok(Level::None);
    }
    let at_unix_ms = account.record().id.unix_ms();
    let wish = Wish {
        scopes: admit::scopes(case, asked),
        ask: ask::simple(case, asked, estimate, at_unix_ms),
        priority: case.class.priority,
    };
    gate.throttle.level(gate, &wish).await
}

impl Talk {
    fn of(case: &Case<'_>, peek: &Peek<'_>, wanted: &Wanted<'_>) -> Self {
        let talker = Talker {
            session: wanted.session.to_owned(),
            agent: case.caller.session.agent.clone(),
            model: wanted.model.to_owned(),
            beginning: peek.beginning,
        };
        // Before the model has said anything there is no conversation to go on with.
        let goes_on = peek.asks.history.all().any(Seen::MODEL);
        let last = goes_on
            .then(|| case.gate.conversations.get(&talker))
            .flatten();
        let inside_turn = is_inside_turn(peek);
        Self {
            talker,
            last,
            inside_turn,
        }
    }

    /// Whether the turn is going on that this choice has begun.
    fn began_turn_with(&self, choice: &routing::Choice<'_>) -> bool {
        let last = self.last.as_ref().filter(|_| self.inside_turn);
        last.is_some_and(|last| last.is_with(choice.provider, choice.model))
    }
}

/// Whether the model is at work: the newest message is not the user's words.
fn is_inside_turn(peek: &Peek<'_>) -> bool {
    let turn = peek.asks.history.turn;
    turn.any(Seen::TOOL_RESULT.and(Seen::TOOL_CALL))
}

/// Whether the conversation had better keep what served it last, where the plan says another one.
fn conversation_sense<'a>(
    case: &Case<'_>,
    plan: &Plan<'a>,
    talk: &Talk,
    table: &Table<'_>,
    fits: impl FnMut(&routing::Choice<'a>) -> bool,
) -> Sense {
    let Some(last) = &talk.last else {
        return Sense::MayChange;
    };
    let order = plan.order(fits, None);
    let Some(first) = order.first() else {
        return Sense::MayChange;
    };
    if last.is_with(first.provider, first.model) {
        return Sense::MayChange;
    }
    let gate = case.gate;
    let now_ms = gate.clock.unix_ms();
    let cost_of = |stays: bool, usage: &Usage| {
        let (provider, model) = if stays {
            last.target()
        } else {
            (first.provider, first.model)
        };
        let place = place_of(gate, provider)?;
        cost(gate, place, model, table.at_unix_ms, usage)
    };
    let change = Change {
        now_ms,
        at_user_turn: !talk.inside_turn,
        insists: plan.insists,
        costs: last.costs(now_ms, table.expected.input, table.expected.output, cost_of),
    };
    sense(&gate.settings.routing, Some(last), &change)
}
