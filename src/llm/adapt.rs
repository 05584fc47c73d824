//! Changes a request so that another model takes it: its model's name, and what the written rules say, and no other byte.

mod edit;
pub(super) mod plan;
mod rules;

use std::ops::Range;

use super::fitness::{self, Demands, Reason, Rung, Turn, Unfit};
use super::request::whole_number;
use super::wire::{Dialect, Endpoint};
use edit::{Edits, Part, parts};
use plan::{Act, At, Step};

pub use rules::{RULES, Rule};

/// A request for another model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adapted {
    /// Its body.
    pub body: Vec<u8>,
    /// Its path with the query, where the path names the model.
    pub path: Option<String>,
    /// What was changed, the model's name first.
    pub changes: Vec<Change>,
    /// Which bytes of the body that came in were replaced, in order; an empty range is an insertion.
    pub edited: Vec<Range<usize>>,
}

/// One change, for people: never the value of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The rule's name.
    pub rule: &'static str,
    /// What it was done to.
    pub what: String,
}

/// The request as it came in.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    /// Its path with the query.
    pub path: &'a str,
    /// Its body, as it was sent.
    pub body: &'a [u8],
    /// Its header `content-encoding`.
    pub content_encoding: Option<&'a str>,
}

/// Changes a request for the model `to` in the place of `from`. `demands` must have been read from this very body.
///
/// # Errors
/// Why the model cannot serve it; never for a request that [`fitness::fits`] and that is neither compressed nor without a
/// model's name.
pub fn adapt(
    incoming: &Incoming<'_>,
    demands: &Demands<'_>,
    from: &Rung<'_>,
    to: &Rung<'_>,
) -> Result<Adapted, Unfit> {
    made(incoming, demands, from, to, Turn::Other)
}

/// The same for a model that has begun the newest turn itself.
///
/// # Errors
/// Why it cannot serve it; never for a request with which it [`fitness::goes_on`], with the same exceptions.
pub fn adapt_own(
    incoming: &Incoming<'_>,
    demands: &Demands<'_>,
    from: &Rung<'_>,
    to: &Rung<'_>,
) -> Result<Adapted, Unfit> {
    made(incoming, demands, from, to, Turn::Own)
}

fn made(
    incoming: &Incoming<'_>,
    demands: &Demands<'_>,
    from: &Rung<'_>,
    to: &Rung<'_>,
    turn: Turn,
) -> Result<Adapted, Unfit> {
    let encoded = |encoding: &str| !matches!(encoding.trim(), "" | "identity");
    if incoming.content_encoding.is_some_and(encoded) {
        return Err(Reason::Encoded.into());
    }
    let steps = fitness::steps(demands, from, to, turn)?;
    let mut work = Work::on(incoming.body, demands)?;
    let path = work.model(incoming, demands, to)?;
    work.cut(&steps);
    for step in &steps {
        work.step(step)?;
    }
    let edited = work.edits.ranges();
    let body = if work.edits.is_empty() {
        incoming.body.to_vec()
    } else {
        work.edits.apply(incoming.body).ok_or(Reason::Edit)?
    };
    Ok(Adapted {
        body,
        path,
        changes: work.changes,
        edited,
    })
}

/// Cuts from a conversation what other models thought in it, for a model that might refuse that: the body, and what was cut
/// by which rules. `None` where there is nothing to cut, or it cannot be: then the request stays as it is.
pub fn without_foreign_thoughts(
    body: &[u8],
    demands: &Demands<'_>,
    to: &Rung<'_>,
) -> Option<(Vec<u8>, Vec<Change>)> {
    let steps = plan::foreign_thoughts(&demands.peek.asks, to.abilities);
    if steps.is_empty() || !fitness::thoughts_can_go(demands, to) {
        return None;
    }
    let mut work = Work::on(body, demands).ok()?;
    for step in &steps {
        work.step(step).ok()?;
    }
    Some((work.edits.apply(body)?, work.changes))
}

/// The path for another model, where the path names it: Gemini, and everything on Vertex AI. `None` for other paths.
pub fn path_for(path: &str, model: &str) -> Option<String> {
    let (rest, query) = match path.split_once('?') {
        Some((rest, query)) => (rest, Some(query)),
        None => (path, None),
    };
    let end = rest.trim_end_matches('/').len();
    let (before, last) = rest[..end].rsplit_once('/')?;
    // A colon may be written as an escape; the verb has none.
    let verb = last
        .rfind(':')
        .or_else(|| last.rfind("%3A"))
        .or_else(|| last.rfind("%3a"))?;
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let model = percent_encoding::utf8_percent_encode(model, MODEL_IN_PATH);
    Some(format!(
        "{before}/{model}{}{}{query}",
        &last[verb..],
        &rest[end..]
    ))
}

/// What is escaped in a model's name in a path: all but what needs no escape in a segment.
const MODEL_IN_PATH: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'@');

/// What is cut from one object inside the body.
struct Cuts<'a, 's> {
    object: Part<'a>,
    /// Where it stands, for people.
    place: String,
    /// The names that go, and why.
    members: Vec<(&'s Step, &'static [&'static str])>,
}

/// A body that is being changed.
struct Work<'a> {
    /// Whether the server takes names in any case.
    folds: bool,
    members: Vec<Part<'a>>,
    /// Where a first member would stand.
    first: usize,
    edits: Edits,
    changes: Vec<Change>,
}

impl<'a> Work<'a> {
    fn on(body: &'a [u8], demands: &Demands<'_>) -> Result<Self, Unfit> {
        let text = std::str::from_utf8(body).map_err(|_| Reason::Encoded)?;
        // Where the object begins: behind a byte-order mark, if there is one.
        let base = text.find('{').ok_or(Reason::NoModel)?;
        Ok(Self {
            folds: demands.endpoint.dialect() != Some(Dialect::Gemini),
            members: parts(&text[base..], base),
            first: base + 1,
            edits: Edits::default(),
            changes: Vec::new(),
        })
    }

    fn note(&mut self, step: &Step, what: impl Into<String>) {
        self.changes.push(Change {
            rule: step.rule.name,
            what: what.into(),
        });
    }

    /// Replaces the model's name in the path or the body.
    fn model(
        &mut self,
        incoming: &Incoming<'_>,
        demands: &Demands<'_>,
        to: &Rung<'_>,
    ) -> Result<Option<String>, Unfit> {
        let in_path = demands.endpoint == Endpoint::GenerateContent
            || (demands.endpoint == Endpoint::Messages && demands.peek.model.is_none());
        let path = if in_path {
            Some(path_for(incoming.path, to.model).ok_or(Reason::NoModel)?)
        } else {
            // Azure: the path's deployment is the model, whatever the body says.
            if incoming.path.contains("/deployments/") {
                return Err(Reason::NoModel.into());
            }
            let field = demands.peek.model.as_ref().filter(|field| field.json);
            let span = field.ok_or(Reason::NoModel)?.span.clone();
            let name = serde_json::to_string(to.model).map_err(|_| Reason::NoModel)?;
            self.edits.replace(span, name);
            None
        };
        self.changes.push(Change {
            rule: rules::MODEL.name,
            what: to.model.to_owned(),
        });
        Ok(path)
    }

    /// Cuts all top-level members that go, at once: neighbours share their commas.
    fn cut(&mut self, steps: &[Step]) {
        let folds = self.folds;
        let going = |part: &Part<'_>| {
            steps.iter().any(|step| match &step.act {
                Act::Drop(at) => at.inside.is_empty() && At::is(at.top, part, folds),
                _ => false,
            })
        };
        let cut: Vec<usize> = (0..self.members.len())
            .filter(|index| going(&self.members[*index]))
            .collect();
        self.edits.cut(&self.members, going);
        for step in steps {
            let Act::Drop(at) = &step.act else { continue };
            for index in &cut {
                let part = &self.members[*index];
                if at.inside.is_empty() && At::is(at.top, part, folds) {
                    self.changes.push(Change {
                        rule: step.rule.name,
                        what: part.name.clone().into_owned(),
                    });
                }
            }
        }
        // Inside one object, too, all that goes is cut at once.
        let mut objects: Vec<Cuts<'a, '_>> = Vec::new();
        for step in steps {
            let Act::Drop(at) = &step.act else { continue };
            let Some((last, outer)) = at.inside.split_last() else {
                continue;
            };
            let Some(object) = self.find(at.top, outer) else {
                continue;
            };
            let known = objects
                .iter_mut()
                .find(|cuts| cuts.object.value == object.value);
            match known {
                Some(cuts) => cuts.members.push((step, last)),
                None => {
                    let place = At {
                        inside: outer,
                        ..*at
                    };
                    objects.push(Cuts {
                        object,
                        place: place.label(),
                        members: vec![(step, last)],
                    });
                }
            }
        }
        for cuts in objects {
            let (place, going) = (&cuts.place, &cuts.members);
            let members = parts(cuts.object.raw, cuts.object.value.start);
            let goes = |part: &Part<'_>| going.iter().any(|(_, names)| At::is(names, part, folds));
            self.edits.cut(&members, goes);
            for (step, names) in going {
                for part in members.iter().filter(|part| At::is(names, part, folds)) {
                    self.note(step, format!("{place}.{}", part.name));
                }
            }
        }
    }

    /// The member at a path, if it is there and not null.
    fn find(&self, top: &[&str], inside: &[&[&str]]) -> Option<Part<'a>> {
        let named = |members: Vec<Part<'a>>, names: &[&str]| {
            members
                .into_iter()
                .find(|part| At::is(names, part, self.folds) && part.raw != "null")
        };
        let outer = self
            .members
            .iter()
            .find(|part| At::is(top, part, self.folds) && part.raw != "null")?;
        let mut found = outer.clone();
        for names in inside {
            found = named(parts(found.raw, found.value.start), names)?;
        }
        Some(found)
    }

    fn step(&mut self, step: &Step) -> Result<(), Unfit> {
        match &step.act {
            Act::Drop(_) => {}
            Act::Set(at, value) => {
                if let Some(part) = self.find(at.top, at.inside) {
                    self.note(step, format!("{} = {value}", at.label()));
                    self.edits.replace(part.value, value.as_str());
                }
            }
            Act::Lower(at, most) => {
                if let Some(part) = self.find(at.top, at.inside)
                    && whole_number(part.raw).is_some_and(|asked| asked > *most)
                {
                    self.note(step, format!("{} = {most}", at.label()));
                    self.edits.replace(part.value, most.to_string());
                }
            }
            Act::Rename(at, name) => {
                if let Some(part) = self.find(at.top, at.inside) {
                    self.note(step, format!("{} is {name}", at.label()));
                    self.edits.replace(part.key, format!("\"{name}\""));
                }
            }
            Act::Become(at, name, value) => {
                if let Some(part) = self.find(at.top, at.inside) {
                    self.note(step, format!("{} is {name} = {value}", at.label()));
                    self.edits.replace(part.span, format!("\"{name}\":{value}"));
                }
            }
            Act::Insert(name, value) => {
                let at = self.first;
                self.edits.replace(at..at, format!("\"{name}\":{value},"));
                self.note(step, format!("{name} = {value}"));
            }
            Act::CutThoughts => self.cut_blocks(step, "messages", &["content"], |part| {
                let kind = parts(part.raw, 0)
                    .into_iter()
                    .find(|member| member.name == "type");
                let kind = kind.map_or("", |member| member.raw);
                matches!(kind, "\"thinking\"" | "\"redacted_thinking\"")
            })?,
            Act::CutSignatures => self.cut_signatures(step),
            Act::CutReasoning => {
                if let Some(input) = self.find(&["input"], &[]) {
                    let items = parts(input.raw, input.value.start);
                    let reasoning = |part: &Part<'_>| {
                        parts(part.raw, 0)
                            .iter()
                            .any(|member| member.name == "type" && member.raw == "\"reasoning\"")
                    };
                    let count = items.iter().filter(|item| reasoning(item)).count();
                    self.edits.cut(&items, reasoning);
                    self.note(step, format!("{count} of input"));
                }
            }
        }
        Ok(())
    }

    /// Cuts blocks from every message's content. A message that would be left empty cannot be sent.
    fn cut_blocks(
        &mut self,
        step: &Step,
        list: &str,
        content: &[&str],
        gone: impl Fn(&Part<'_>) -> bool,
    ) -> Result<(), Unfit> {
        let Some(messages) = self.find(&[list], &[]) else {
            return Ok(());
        };
        let mut count = 0;
        for message in parts(messages.raw, messages.value.start) {
            for member in parts(message.raw, message.value.start) {
                if !content.contains(&&*member.name) || !member.raw.starts_with('[') {
                    continue;
                }
                let blocks = parts(member.raw, member.value.start);
                let going = blocks.iter().filter(|block| gone(block)).count();
                if going == blocks.len() && going > 0 {
                    return Err(Reason::BoundThoughts.into());
                }
                count += going;
                self.edits.cut(&blocks, &gone);
            }
        }
        self.note(step, format!("{count} of {list}"));
        Ok(())
    }

    /// Cuts the signatures from the parts of every content.
    fn cut_signatures(&mut self, step: &Step) {
        let Some(contents) = self.find(&["contents"], &[]) else {
            return;
        };
        let mut count = 0;
        let is_signature =
            |part: &Part<'_>| matches!(&*part.name, "thoughtSignature" | "thought_signature");
        let contents = match contents.raw.as_bytes().first() {
            Some(b'{') => vec![contents],
            _ => parts(contents.raw, contents.value.start),
        };
        for content in contents {
            for member in parts(content.raw, content.value.start) {
                if member.name != "parts" {
                    continue;
                }
                let held = match member.raw.as_bytes().first() {
                    Some(b'{') => vec![member],
                    _ => parts(member.raw, member.value.start),
                };
                for part in held {
                    let members = parts(part.raw, part.value.start);
                    count += members.iter().filter(|member| is_signature(member)).count();
                    self.edits.cut(&members, is_signature);
                }
            }
        }
        self.note(step, format!("{count} of contents"));
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::llm::abilities::AbilityTable;
    use crate::llm::catalogue::Catalogue;
    use crate::llm::request::peek;

    /// The body and the rules that changed it, from `anthropic/claude-opus-5-5` unless the path says Gemini.
    fn given_to(
        model: &str,
        path: &str,
        body: &str,
        encoding: Option<&str>,
    ) -> Result<(String, Option<String>, Vec<&'static str>), Reason> {
        let (provider, asked, endpoint) = if path.contains("models/") {
            ("google", "gemini-2.5-pro", Endpoint::GenerateContent)
        } else if path.contains("chat") {
            ("openai", "gpt-4.1", Endpoint::ChatCompletions)
        } else {
            ("anthropic", "claude-opus-5-5", Endpoint::Messages)
        };
        let (table, catalogue) = (AbilityTable::builtin(), Catalogue::builtin());
        let (has, gets) = (
            table.of(&catalogue, provider, asked),
            table.of(&catalogue, provider, model),
        );
        let seen = peek(endpoint, body.as_bytes()).unwrap();
        let demands = Demands {
            endpoint,
            peek: &seen,
            betas: "",
            prompt_tokens: 10,
        };
        let rung = |model, abilities| Rung {
            provider,
            model,
            abilities,
        };
        let incoming = Incoming {
            path,
            body: body.as_bytes(),
            content_encoding: encoding,
        };
        adapt(&incoming, &demands, &rung(asked, &has), &rung(model, &gets))
            .map(|adapted| {
                let rules = adapted.changes.iter().map(|change| change.rule).collect();
                (
                    String::from_utf8(adapted.body).unwrap(),
                    adapted.path,
                    rules,
                )
            })
            .map_err(|unfit| unfit.reason)
    }

    #[test]
    fn a_coding_agents_request_is_adapted_in_place() {
        let body = r#"{"model": "claude-opus-5-5", "max_tokens":128000,
 "thinking":{"type":"adaptive"}, "output_config" : {"effort":"high" },
 "messages":[{"role":"user","content":[{"type":"text","text":"hi"}]},{"role":"assistant","content":[ {"type":"thinking","thinking":"t","signature":"s"}, {"type":"text","text":"yo"} ]},{"role":"user","content":"\u0067o"}],"metadata":{"user_id":"u"}}"#;
        // An effort above medium is a demand to think, which a model without effort levels might not meet.
        assert_eq!(
            given_to("claude-haiku-4-5", "/v1/messages", body, None),
            Err(Reason::Thinking)
        );
        let body = &body.replace("high", "medium");
        let (adapted, path, rules) =
            given_to("claude-haiku-4-5", "/v1/messages", body, None).unwrap();
        let expected = r#"{"model": "claude-haiku-4-5", "max_tokens":64000,
 "messages":[{"role":"user","content":[{"type":"text","text":"hi"}]},{"role":"assistant","content":[ {"type":"text","text":"yo"} ]},{"role":"user","content":"\u0067o"}],"metadata":{"user_id":"u"}}"#;
        assert_eq!(adapted, expected);
        assert_eq!(path, None);
        assert_eq!(
            rules,
            [
                "model",
                "effort-dropped",
                "thinking-dropped",
                "cap-lowered",
                "thoughts-dropped"
            ]
        );
    }

    #[test]
    fn what_cannot_be_changed_in_place_is_left_alone() {
        let body = r#"{"model":"claude-opus-5-5","max_tokens":5000,"messages":[]}"#;
        let given = |path, encoding| given_to("claude-haiku-5-5", path, body, encoding);
        assert_eq!(given("/v1/messages", Some("gzip")), Err(Reason::Encoded));
        assert!(given("/v1/messages", Some("identity")).is_ok());
        let chat = r#"{"model":"gpt-4.1","messages":[]}"#;
        let azure = "/openai/deployments/d/chat/completions";
        assert_eq!(given_to("gpt-4o", azure, chat, None), Err(Reason::NoModel));
        let strange = r#"{"model":"gpt-4.1","messages":[],"frobnicate":1}"#;
        assert_eq!(
            given_to("gpt-4o", "/v1/chat/completions", strange, None),
            Err(Reason::Strange)
        );
    }

    #[test]
    fn gemini_changes_in_the_path_and_may_keep_its_body_to_the_byte() {
        let path = "/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse";
        let body = r#"{ "contents":[{"parts":[{"text":"hi"}]}] }"#;
        let (adapted, path, rules) = given_to("gemini-2.5-flash", path, body, None).unwrap();
        assert_eq!(adapted, body);
        assert_eq!(
            path.as_deref(),
            Some("/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse")
        );
        assert_eq!(rules, ["model"]);
    }

    #[test]
    fn a_path_gets_another_model_and_keeps_all_else() {
        for (path, for_b) in [
            (
                "/v1beta/models/a:streamGenerateContent?alt=sse",
                Some("/v1beta/models/b:streamGenerateContent?alt=sse"),
            ),
            (
                "/v1/models/a%3AgenerateContent/",
                Some("/v1/models/b%3AgenerateContent/"),
            ),
            ("/v1/messages", None),
        ] {
            assert_eq!(path_for(path, "b").as_deref(), for_b, "{path}");
        }
        assert_eq!(
            path_for("/models/a:x", "o/p?q").as_deref(),
            Some("/models/o%2Fp%3Fq:x")
        );
    }
}
