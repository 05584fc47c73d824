//! OpenAI's images and transcriptions, in their smallest form: a picture of one dot, a line of words.

use std::borrow::Cow;

use memchr::memmem;
use serde::Deserialize;

use super::ask::Ask;
use super::reply::Reply;
use super::text::{TextSize, Tokens};

/// A PNG of one dot, in base64.
const DOT: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

#[derive(Deserialize)]
struct ImageRequest<'a> {
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    prompt: Option<TextSize>,
    n: Option<u64>,
}

/// Reads a request for images.
///
/// # Errors
/// Not JSON, or no prompt.
pub(super) fn ask_images(body: &[u8]) -> Result<Ask<'_>, String> {
    let request: ImageRequest<'_> =
        serde_json::from_slice(body).map_err(|problem| problem.to_string())?;
    Ok(Ask {
        model: request.model.unwrap_or(Cow::Borrowed("gpt-image-1")),
        text: request
            .prompt
            .ok_or("Missing required parameter: 'prompt'.")?,
        choices: request.n.unwrap_or(1).min(10),
        ..Ask::default()
    })
}

/// The answer to a request for images.
pub(super) fn images(reply: &Reply) -> String {
    let data = vec![format!(r#"{{"b64_json":"{DOT}"}}"#); reply.choices as usize].join(",");
    let (input, output) = (reply.usage.input, reply.usage.output);
    let usage = match reply.tells_usage {
        true => format!(
            r#","usage":{{"input_tokens":{input},"input_tokens_details":{{"text_tokens":{input},"image_tokens":0}},"output_tokens":{output},"output_tokens_details":{{"image_tokens":{output},"text_tokens":0}},"total_tokens":{}}}"#,
            input + output
        ),
        false => String::new(),
    };
    format!(
        r#"{{"created":{},"background":"opaque","output_format":"png","quality":"high","size":"1024x1024","data":[{data}]{usage}}}"#,
        reply.created
    )
}

/// Reads a request for a transcription: a form, of which only the model matters. The length of the sound is not
/// looked at.
pub(super) fn ask_transcription(body: &[u8]) -> Ask<'_> {
    let field = b"name=\"model\"\r\n\r\n";
    let model = memmem::find(body, field)
        .map(|place| &body[place + field.len()..])
        .and_then(|rest| rest.split(|byte| *byte == b'\r').next())
        .and_then(|model| std::str::from_utf8(model).ok())
        .unwrap_or("gpt-4o-transcribe");
    Ask {
        model: Cow::Borrowed(model),
        text: TextSize {
            bytes: 0,
            numbers: 14,
        },
        ..Ask::default()
    }
}

/// Whether this model counts seconds instead of tokens.
pub(super) fn counts_seconds(model: &str) -> bool {
    model.starts_with("whisper")
}

/// The answer to a request for a transcription.
pub(super) fn transcription(reply: &Reply, seconds: bool) -> String {
    let (input, output) = (reply.usage.input, reply.usage.output);
    let usage = match (reply.tells_usage, seconds) {
        (false, _) => String::new(),
        (true, true) => r#","usage":{"type":"duration","seconds":42}"#.to_owned(),
        (true, false) => format!(
            r#","usage":{{"type":"tokens","input_tokens":{input},"input_token_details":{{"text_tokens":0,"audio_tokens":{input}}},"output_tokens":{output},"total_tokens":{}}}"#,
            input + output
        ),
    };
    format!(r#"{{"text":"{}"{usage}}}"#, Tokens(0, reply.text))
}
