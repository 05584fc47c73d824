//! Decides whether another model can serve a request: whether it has what the request needs, and room for it.
//!
//! A model stands in only where it is known that it can: an ability that nobody states counts as missing. Settings that it
//! refuses are another matter; `adapt`'s rules change them, and where no rule does, it does not fit either. The model that
//! was asked always fits.
//!
//! Room: the estimated prompt, a quarter more and 1,024 tokens (tokenizers differ by up to 30 %, and providers add text of
//! their own), and the output that is wanted must be within the window. The output wanted is the cap, lowered to what the
//! model can write; without one, 4,096 tokens. Where the prompt cannot be measured (documents, recordings, what the
//! provider's tools find), the window must be at least that of the model that was asked.

use std::fmt;

use super::abilities::{Abilities, Structured, When, matches};
use super::adapt::plan::{self, Step};
use super::request::{Peek, Seen, ToolChoice};
use super::wire::Endpoint;

/// Output that is expected of a request without a cap.
const UNSTATED_OUTPUT: u64 = 4_096;

/// What is added to an estimate besides a quarter of it.
const MARGIN_TOKENS: u64 = 1_024;

/// Names of beta features (in Anthropic's header) that only some models have.
const MODEL_BETAS: [&str; 2] = ["context-1m-", "output-"];

/// The window that one of them asks for.
const LONG_CONTEXT: u32 = 1_000_000;

/// A model that may serve, and where.
#[derive(Debug, Clone, Copy)]
pub struct Rung<'a> {
    /// The provider's own name: tells whether two are the same.
    pub provider: &'a str,
    /// The model, as the provider's API takes it.
    pub model: &'a str,
    /// What is known of it.
    pub abilities: &'a Abilities,
}

/// What a request demands.
#[derive(Debug, Clone, Copy)]
pub struct Demands<'a> {
    /// Where it is sent.
    pub endpoint: Endpoint,
    /// What its body says.
    pub peek: &'a Peek<'a>,
    /// The value of its header `anthropic-beta`, if it has one.
    pub betas: &'a str,
    /// The estimated tokens of its prompt.
    pub prompt_tokens: u64,
}

/// Why a model cannot serve a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// What is missing.
    pub reason: Reason,
    /// Which part of the request is meant: a member's, tool's or feature's name. Never a value.
    pub part: Option<Box<str>>,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason.why())?;
        match &self.part {
            Some(part) => write!(f, ": {part}"),
            None => Ok(()),
        }
    }
}

impl From<Reason> for Unfit {
    fn from(reason: Reason) -> Self {
        Unfit { reason, part: None }
    }
}

/// Declares the reasons and what they say.
macro_rules! reasons {
    ($($reason:ident = $why:literal),+ $(,)?) => {
        /// What a model is missing.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "the texts say it")]
        pub enum Reason { $($reason),+ }

        impl Reason {
            /// All reasons.
            pub const ALL: &'static [Reason] = &[$(Reason::$reason),+];

            /// The reason for people.
            pub const fn why(self) -> &'static str {
                match self { $(Reason::$reason => $why),+ }
            }
        }
    };
}

reasons! {
    Endpoint = "requests of this kind are not given to another model",
    Form = "the request is a form, which is not changed",
    Encoded = "the request's body is compressed, and is not changed",
    NoModel = "the request names no model that could be replaced",
    Strange = "the request has a part of which it is not known what other models make of it",
    Held = "the provider keeps a part of the request for this model",
    Kept = "the answer is kept by the provider that is asked (store is not false), and the next request may refer to it there",
    Files = "the request refers to files that only its provider can read",
    OtherModels = "the request names further models itself",
    Background = "the work is to go on in the background",
    ServiceTier = "the request asks for a service tier that the model may not have",
    Region = "it is not known that the model can be bound to a region",
    Beta = "the request asks for a beta feature that the model may not have",
    CacheWarming = "the request only warms this model's cache",
    Tools = "it is not known that the model can call tools",
    ForcedTools = "it is not known that the model can be made to call a tool",
    ChatTools = "the model takes tools only at the responses endpoint, or without reasoning effort",
    ProviderTools = "it is not known that the model has a tool of the provider's own",
    Images = "it is not known that the model sees images",
    LinkedImages = "the provider does not fetch images by their address",
    Documents = "it is not known that the model reads documents",
    Recordings = "it is not known that the model takes audio or video",
    Thinking = "the request asks for thinking, which the model cannot do",
    ThinkingForm = "it is not known how the model is told how much to think",
    Effort = "it is not known which effort levels the model takes",
    RoomToThink = "the model always thinks, and the output cap leaves too little room for that",
    Structured = "it is not known that the model can answer in this JSON form",
    Stop = "it is not known that the model stops at given texts",
    Logprobs = "it is not known that the model gives the probabilities of tokens",
    Choices = "it is not known that the model gives more than one answer",
    Prefill = "it is not known that the model goes on with a message of its own",
    SystemMessages = "it is not known that the model takes system messages among the others",
    DeveloperMessages = "it is not known that the model takes messages of the role developer",
    InsideTurn = "the newest turn holds thoughts that only the model which had them may go on with",
    BoundThoughts = "the conversation holds thoughts that cannot be cut from it",
    Signatures = "the model wants its own signatures on the calls in the newest turn",
    Window = "the prompt and the wanted output do not fit the model's context window",
    WindowUnknown = "the model's context window is not known",
    Unmeasured = "the prompt cannot be measured, and the model's window may be smaller",
    OutputUnknown = "it is not known how much the model can write",
    Edit = "the request could not be changed without touching other parts of it",
}

/// Whether a model can serve a request in the place of the one that was asked.
///
/// # Errors
/// Why not.
pub fn fits(demands: &Demands<'_>, from: &Rung<'_>, to: &Rung<'_>) -> Result<(), Unfit> {
    steps(demands, from, to, Turn::Other).map(drop)
}

/// Whether a model that has begun the newest turn itself can go on with it.
///
/// # Errors
/// Why not.
pub fn goes_on(demands: &Demands<'_>, from: &Rung<'_>, to: &Rung<'_>) -> Result<(), Unfit> {
    steps(demands, from, to, Turn::Own).map(drop)
}

/// Who has begun the newest turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// The model that may serve: the thoughts in it are its own.
    Own,
    /// Another one, or nobody knows.
    Other,
}

/// What has to be done to the request for that model.
pub(super) fn steps(
    demands: &Demands<'_>,
    from: &Rung<'_>,
    to: &Rung<'_>,
    turn: Turn,
) -> Result<Vec<Step>, Unfit> {
    movable(demands, from, to)?;
    abilities(demands, from, to)?;
    if turn == Turn::Other {
        history(demands, from, to)?;
    }
    room(demands, from, to)?;
    plan::plan(demands, from, to)
}

/// A boolean that must be known to hold.
fn need(ability: Option<bool>, reason: Reason) -> Result<(), Unfit> {
    if ability == Some(true) {
        Ok(())
    } else {
        Err(reason.into())
    }
}

fn refuse(when: bool, reason: Reason) -> Result<(), Unfit> {
    if when { Err(reason.into()) } else { Ok(()) }
}

fn same_provider(from: &Rung<'_>, to: &Rung<'_>) -> bool {
    from.provider == to.provider
}

/// Whether requests of this kind are ever given to another model.
pub const fn may_move(endpoint: Endpoint) -> bool {
    matches!(
        endpoint,
        Endpoint::Messages
            | Endpoint::ChatCompletions
            | Endpoint::Responses
            | Endpoint::GenerateContent
            | Endpoint::OllamaChat
            | Endpoint::OllamaGenerate
    )
}

/// Whether the request can be given to any other model at all.
fn movable(demands: &Demands<'_>, from: &Rung<'_>, to: &Rung<'_>) -> Result<(), Unfit> {
    let (peek, asks) = (demands.peek, &demands.peek.asks);
    let moved = !same_provider(from, to);
    refuse(!may_move(demands.endpoint), Reason::Endpoint)?;
    refuse(peek.form.is_some(), Reason::Form)?;
    let named = |reason, part: &str| Unfit {
        reason,
        part: Some(part.into()),
    };
    if let Some(part) = &asks.strange {
        return Err(named(Reason::Strange, part));
    }
    if let Some(held) = asks.held {
        return Err(named(Reason::Held, held));
    }
    refuse(moved && asks.kept, Reason::Kept)?;
    refuse(moved && asks.files_by_reference, Reason::Files)?;
    refuse(!peek.other_models.is_empty(), Reason::OtherModels)?;
    refuse(peek.background, Reason::Background)?;
    refuse(peek.output_cap == Some(0), Reason::CacheWarming)?;
    let usual_tier = |tier: &str| matches!(tier, "auto" | "default" | "standard_only" | "standard");
    if let Some(tier) = peek.service_tier.as_deref() {
        refuse(!usual_tier(tier), Reason::ServiceTier)?;
    }
    if peek.region.is_some() {
        refuse(moved, Reason::Region)?;
        need(to.abilities.region, Reason::Region)?;
    }
    for beta in demands.betas.split(',').map(str::trim) {
        let bound = MODEL_BETAS.iter().any(|start| beta.starts_with(start));
        let has =
            beta.starts_with("context-1m-") && to.abilities.context_window >= Some(LONG_CONTEXT);
        if bound && !has {
            return Err(named(Reason::Beta, beta));
        }
    }
    Ok(())
}

/// Whether the model has what the request needs.
fn abilities(demands: &Demands<'_>, from: &Rung<'_>, to: &Rung<'_>) -> Result<(), Unfit> {
    let (peek, asks, has) = (demands.peek, &demands.peek.asks, to.abilities);
    let seen = asks.history.all();
    let tools = peek.tools > 0 || seen.any(Seen::TOOL_CALL.and(Seen::TOOL_RESULT));
    if tools {
        need(has.tools, Reason::Tools)?;
    }
    if asks.tool_choice == ToolChoice::Forced {
        need(has.forced_tools, Reason::ForcedTools)?;
    }
    if tools && demands.endpoint == Endpoint::ChatCompletions {
        refuse(has.chat_tools == Some(When::No), Reason::ChatTools)?;
    }
    let own = has.provider_tools.as_deref().unwrap_or_default();
    let missing = asks
        .provider_tools
        .iter()
        .find(|kind| !own.iter().any(|pattern| matches(pattern, kind)));
    if let Some(kind) = missing {
        return Err(Unfit {
            reason: Reason::ProviderTools,
            part: Some(kind.as_ref().into()),
        });
    }
    if peek.prompt.images > 0 {
        need(has.images, Reason::Images)?;
        refuse(
            seen.any(Seen::LINKED_IMAGE)
                && (has.linked_images == Some(false)
                    || (!same_provider(from, to) && has.linked_images.is_none())),
            Reason::LinkedImages,
        )?;
    }
    if peek.prompt.documents > 0 {
        need(has.documents, Reason::Documents)?;
    }
    if peek.prompt.recordings > 0 {
        need(has.recordings, Reason::Recordings)?;
    }
    if asks.structured {
        let wanted = if asks.schema {
            Structured::Schema
        } else {
            Structured::Json
        };
        refuse(has.structured < Some(wanted), Reason::Structured)?;
        refuse(
            peek.tools > 0 && has.structured_with_tools == Some(false),
            Reason::Structured,
        )?;
    }
    if asks.stop {
        need(has.stop, Reason::Stop)?;
    }
    if asks.logprobs {
        need(has.logprobs, Reason::Logprobs)?;
    }
    if peek.choices > 1 {
        need(has.choices, Reason::Choices)?;
    }
    if asks.history.ends_with_model {
        need(has.prefill, Reason::Prefill)?;
    }
    if seen.any(Seen::SYSTEM) {
        need(has.system_messages, Reason::SystemMessages)?;
    }
    if seen.any(Seen::DEVELOPER) {
        need(has.developer_messages, Reason::DeveloperMessages)?;
    }
    Ok(())
}

/// Whether the model can go on with the conversation.
fn history(demands: &Demands<'_>, from: &Rung<'_>, to: &Rung<'_>) -> Result<(), Unfit> {
    let history = &demands.peek.asks.history;
    let thoughts = Seen::THINKING.and(Seen::SIGNATURE).and(Seen::REASONING);
    refuse(history.turn.any(thoughts), Reason::InsideTurn)?;
    refuse(
        history.turn.any(Seen::TOOL_CALL) && to.abilities.signatures == Some(true),
        Reason::Signatures,
    )?;
    refuse(
        history.all().any(Seen::REASONING_TEXT) && !same_provider(from, to),
        Reason::BoundThoughts,
    )?;
    refuse(
        history.earlier.any(Seen::REASONING) && history.all().any(Seen::ITEM_ID),
        Reason::BoundThoughts,
    )
}

/// Whether the thoughts of other models can be cut from the conversation: not from the newest turn, and not where other
/// items go with them.
pub(super) fn thoughts_can_go(demands: &Demands<'_>, to: &Rung<'_>) -> bool {
    demands.peek.asks.strange.is_none() && history(demands, to, to).is_ok()
}

/// Whether prompt and output have room.
fn room(demands: &Demands<'_>, from: &Rung<'_>, to: &Rung<'_>) -> Result<(), Unfit> {
    let (peek, has) = (demands.peek, to.abilities);
    let Some(window) = has.context_window.filter(|window| *window > 0) else {
        return Err(Reason::WindowUnknown.into());
    };
    let unmeasured = peek.hidden_input || peek.prompt.documents > 0 || peek.prompt.recordings > 0;
    if unmeasured {
        let least = |has: &Abilities| {
            has.max_input
                .unwrap_or(u32::MAX)
                .min(has.context_window.unwrap_or(u32::MAX))
        };
        refuse(
            from.abilities.context_window.is_none() || least(has) < least(from.abilities),
            Reason::Unmeasured,
        )?;
    }
    let prompt = demands
        .prompt_tokens
        .saturating_add(demands.prompt_tokens / 4)
        .saturating_add(MARGIN_TOKENS);
    let wanted =
        wanted_output(peek.output_cap, has)?.saturating_mul(u64::from(peek.choices.max(1)));
    refuse(
        prompt.saturating_add(wanted) > u64::from(window)
            || has.max_input.is_some_and(|most| prompt > u64::from(most)),
        Reason::Window,
    )
}

/// The output that is wanted, as far as the model can write it.
fn wanted_output(cap: Option<u64>, has: &Abilities) -> Result<u64, Unfit> {
    let most = has.max_output.map(u64::from).filter(|most| *most > 0);
    match (cap, most) {
        (Some(_), None) if has.any_cap != Some(true) => Err(Reason::OutputUnknown.into()),
        (Some(cap), None) => Ok(cap.min(UNSTATED_OUTPUT)),
        (cap, most) => Ok(cap.unwrap_or(UNSTATED_OUTPUT).min(most.unwrap_or(u64::MAX))),
    }
}
