//! Embeddings in the forms of OpenAI, Gemini and Ollama. The numbers are made up from their place and are always the
//! same; what counts is their number and the usage.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::Deserialize;

use super::ask::Ask;
use super::reply::Reply;
use super::text::{TextSize, base64, tokens_in};

/// Length of a vector unless another is asked for.
const DIMENSIONS: usize = 1536;

/// Longest vector that is made.
const MAX_DIMENSIONS: usize = 4096;

/// Most inputs in one request (OpenAI's limit).
const MAX_INPUTS: usize = 2048;

/// What is to be embedded: a text, texts, token ids, or lists of token ids.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Input {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u64>),
    TokenLists(Vec<Vec<u64>>),
}

impl Input {
    /// Tokens of each input. A token id counts as one.
    fn tokens(&self) -> Vec<u64> {
        match self {
            Input::Text(text) => vec![tokens_in(text.len() as u64)],
            Input::Texts(texts) => texts
                .iter()
                .map(|text| tokens_in(text.len() as u64))
                .collect(),
            Input::Tokens(tokens) => vec![tokens.len() as u64],
            Input::TokenLists(lists) => lists.iter().map(|tokens| tokens.len() as u64).collect(),
        }
    }
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    #[serde(alias = "prompt")]
    input: Option<Input>,
    #[serde(borrow)]
    encoding_format: Option<Cow<'a, str>>,
    dimensions: Option<usize>,
}

/// A request, read.
#[derive(Debug)]
pub(super) struct Wanted {
    inputs: usize,
    dimensions: usize,
    base64: bool,
}

/// Reads a request of OpenAI's or Ollama's form.
///
/// # Errors
/// Not JSON, no model, no input, or more than can be made.
pub(super) fn ask(body: &[u8]) -> Result<(Ask<'_>, Wanted), String> {
    let request: Request<'_> =
        serde_json::from_slice(body).map_err(|problem| problem.to_string())?;
    let tokens = request
        .input
        .ok_or("Missing required parameter: 'input'.")?
        .tokens();
    let dimensions = request.dimensions.unwrap_or(DIMENSIONS);
    if tokens.len() > MAX_INPUTS || dimensions > MAX_DIMENSIONS {
        return Err(format!(
            "at most {MAX_INPUTS} inputs and {MAX_DIMENSIONS} dimensions are possible"
        ));
    }
    let ask = Ask {
        model: request.model.ok_or("you must provide a model parameter")?,
        text: TextSize {
            bytes: 0,
            numbers: tokens.iter().sum(),
        },
        max_output: Some(0),
        ..Ask::default()
    };
    let wanted = Wanted {
        inputs: tokens.len(),
        dimensions,
        base64: request.encoding_format.as_deref() == Some("base64"),
    };
    Ok((ask, wanted))
}

/// How many vectors Gemini's form asks for: one, or one for each of the `requests`.
pub(super) fn gemini_inputs(body: &[u8]) -> usize {
    #[derive(Deserialize)]
    struct Batch {
        requests: Vec<serde::de::IgnoredAny>,
    }
    serde_json::from_slice::<Batch>(body).map_or(1, |batch| batch.requests.len().min(MAX_INPUTS))
}

/// The number at a place of any vector: from −0.5 up to 0.5, in steps that a 32-bit float holds exactly.
fn number(place: usize) -> f32 {
    (place * 37 % 256) as f32 / 256.0 - 0.5
}

fn numbers(dimensions: usize) -> String {
    let mut text = String::with_capacity(dimensions * 12);
    for place in 0..dimensions {
        let comma = if place > 0 { "," } else { "" };
        let _ = write!(text, "{comma}{:?}", number(place));
    }
    text
}

/// OpenAI's answer.
pub(super) fn openai(reply: &Reply, wanted: &Wanted) -> String {
    let vector = if wanted.base64 {
        let bytes: Vec<u8> = (0..wanted.dimensions)
            .flat_map(|place| number(place).to_le_bytes())
            .collect();
        format!("\"{}\"", base64(&bytes))
    } else {
        format!("[{}]", numbers(wanted.dimensions))
    };
    let data: Vec<_> = (0..wanted.inputs)
        .map(|index| format!(r#"{{"object":"embedding","index":{index},"embedding":{vector}}}"#))
        .collect();
    let tokens = reply.usage.input;
    let usage = match reply.tells_usage {
        true => format!(r#","usage":{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}"#),
        false => String::new(),
    };
    format!(
        r#"{{"object":"list","data":[{}],"model":{}{usage}}}"#,
        data.join(","),
        reply.model
    )
}

/// Gemini's answer, to one input or to a batch. It tells no usage.
pub(super) fn gemini(inputs: usize, batch: bool) -> String {
    let vector = format!(r#"{{"values":[{}]}}"#, numbers(DIMENSIONS));
    if batch {
        format!(r#"{{"embeddings":[{}]}}"#, vec![vector; inputs].join(","))
    } else {
        format!(r#"{{"embedding":{vector}}}"#)
    }
}

/// Ollama's answer; the old path knows one vector and no usage.
pub(super) fn ollama(reply: &Reply, wanted: &Wanted, old: bool) -> String {
    let vector = format!("[{}]", numbers(wanted.dimensions));
    if old {
        return format!(r#"{{"embedding":{vector}}}"#);
    }
    let usage = match reply.tells_usage {
        true => format!(r#","prompt_eval_count":{}"#, reply.usage.input),
        false => String::new(),
    };
    format!(
        r#"{{"model":{},"embeddings":[{}],"total_duration":14143917,"load_duration":1019500{usage}}}"#,
        reply.model,
        vec![vector; wanted.inputs].join(",")
    )
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn every_form_of_input_is_counted() {
        for (input, count, tokens) in [
            (r#""hello""#, 1, 2),
            (r#"["hello","you"]"#, 2, 3),
            ("[1,2,3]", 1, 3),
            ("[[1,2],[3]]", 2, 3),
        ] {
            let body = format!(r#"{{"model":"m","input":{input}}}"#);
            let (ask, wanted) = ask(body.as_bytes()).unwrap();
            assert_eq!(
                (wanted.inputs, ask.text.numbers),
                (count, tokens),
                "{input}"
            );
        }
        assert!(ask(br#"{"model":"m","input":"x","dimensions":1000000}"#).is_err());
    }
}
