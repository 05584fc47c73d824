//! THE PATH: what happens to a request, in order. Each step has a file; the decisions inside the steps are plain
//! functions in `policy` and `llm`.
//!
//! ```text
//! parse → identify → classify → admit → route → send → stream back, meter, record
//! ```
//!
//! Routing has two halves: which models could serve is decided before admission, which admits the first that budgets
//! allow; with what head and body the request goes there, after it.
//!
//! The future of [`handle`] is dropped when the client hangs up, at any await. So whatever a step takes is held by a
//! value that gives it back when dropped: the [`Account`] books the request, dropping the answer's body cancels the
//! request to the provider.

mod account;
mod admit;
mod answer;
mod ask;
mod authenticate;
mod book;
mod case;
mod choose;
mod classify;
mod conversations;
pub mod explain;
mod gate;
mod headers;
mod hold;
mod identify;
mod known;
mod lanes;
mod line;
mod lineup;
mod opening;
mod parse;
mod police;
mod provider_key;
mod recall;
mod relay;
mod route;
mod routed;
mod send;
pub mod standing;
mod tasks;
mod telling;
mod throttle;
mod unknown_models;
mod upgrade;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use http::{Request, Response};
use hyper::body::Incoming;

use self::account::Account;
pub use self::answer::AnswerBody;
use self::case::Case;
pub use self::gate::{Gate, GateError};
pub use self::provider_key::ProviderKeyError;
pub use self::recall::throttle_of_ledger;
use self::send::Served;
pub(crate) use self::tasks::Streams;
pub use self::tasks::Tasks;
use crate::refusal::Refusal;

/// Answers one request: the provider's answer, or a refusal in the client's wire format.
///
/// Boxed, as is the account, because they live across every await of the path and would be kept at each of its steps: ten
/// thousand requests may wait.
///
/// # Errors
/// Never; it is what hyper wants to hear.
pub async fn handle(
    gate: Arc<Gate>,
    request: Box<Request<Incoming>>,
) -> Result<Response<AnswerBody>, Infallible> {
    let mut account = Box::new(Account::open(&gate));
    Ok(match gate.settings.throttle.queue.keep_alive {
        None => path(gate, request, account).await,
        Some(every) => {
            let hold = Arc::default();
            account.hold_with(&hold);
            hold::company(hold, every, Box::pin(path(gate, request, account))).await
        }
    })
}

async fn path(
    gate: Arc<Gate>,
    request: Box<Request<Incoming>>,
    mut account: Box<Account>,
) -> Response<AnswerBody> {
    match serve(&gate, request, &mut account).await {
        Ok(served) => relay::relay(served, account),
        Err(refusal) => account.refuse(&refusal),
    }
}

/// Answers a request that is not even read.
pub fn refuse_unread(gate: &Arc<Gate>, refusal: &Refusal) -> Response<AnswerBody> {
    Account::open(gate).refuse(refusal)
}

/// The steps up to the head of the provider's answer.
async fn serve(
    gate: &Arc<Gate>,
    request: Box<Request<Incoming>>,
    account: &mut Account,
) -> Result<Served, Refusal> {
    // What takes memory and does not wait for its turn has it for itself, and gives it back.
    let (call, once) = Box::pin(parse::parse(gate, request, account)).await?;
    let started = Instant::now();
    let peek = call.read(gate)?;
    let asked = parse::understand(&call, peek.as_ref(), account);
    let caller = identify::identify(&call, &asked, account)?;
    let class = classify::classify(gate, &call, &asked, &caller, account)?;
    police::police(gate, &call, &asked, &caller, account)?;
    account.add_own_time(started);
    let case = Case {
        gate,
        call: &call,
        asked: &asked,
        caller: &caller,
        class: &class,
    };
    let choice = Box::pin(async {
        let menu = choose::menu(&case, account).await?;
        admit::admit(&case, menu, account).await
    });
    let choice = choice.await?;
    send::send(&case, choice, once, account).await
}
