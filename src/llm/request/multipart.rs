//! Reads the model and the prompt from a form (image edits, transcriptions), looking only at its two ends.
//!
//! Uploads are megabytes of media between small fields. Python's SDK writes the fields first, Node's may write them
//! last, so the first and the last 64 KiB are searched. The boundary is taken from the body's own first line.

use std::borrow::Cow;

use memchr::memmem;

use super::{ModelField, Peek, Stated, Unparsed, UsageOption, whole_number};
use crate::llm::estimate::PromptSize;

/// How far from each end fields are looked for, in bytes.
const WINDOW_BYTES: usize = 64 * 1024;

/// Longest boundary, by RFC 2046, with the two dashes in front.
const MAX_BOUNDARY_BYTES: usize = 72;

/// How many fields are looked at in each window.
const MAX_FIELDS: usize = 64;

/// Reads a form whose body begins with `--`.
pub(super) fn peek(body: &[u8]) -> Result<Peek<'_>, Unparsed> {
    let head = &body[..body.len().min(MAX_BOUNDARY_BYTES + 2)];
    let line = memchr::memchr(b'\r', head).ok_or(Unparsed::NotJson)?;
    if line <= 2 || body.get(line + 1) != Some(&b'\n') {
        return Err(Unparsed::NotJson);
    }
    let boundary = &body[..line];
    let head_end = body.len().min(WINDOW_BYTES);
    let tail_start = body.len().saturating_sub(WINDOW_BYTES).max(head_end);

    let mut form = Peek {
        model: None,
        stream: false,
        usage_option: UsageOption::Odd,
        output_cap: None,
        choices: 1,
        service_tier: None,
        tools: 0,
        thinking: false,
        hidden_context: false,
        prompt: PromptSize::default(),
        messages: 0,
        stated: Stated::default(),
        newest_user_text: None,
    };
    let head_fields = fields(body, boundary, 0, head_end);
    for (name, start, end) in head_fields.chain(fields(body, boundary, tail_start, body.len())) {
        let Ok(value) = std::str::from_utf8(&body[start..end]) else {
            continue;
        };
        match name {
            b"model" if form.model.is_some() => return Err(Unparsed::DuplicateField("model")),
            b"model" => {
                form.model = Some(ModelField {
                    name: Cow::Borrowed(value),
                    span: start..end,
                    json: false,
                });
            }
            b"stream" => form.stream = matches!(value, "true" | "1"),
            b"n" => {
                let choices = whole_number(value).unwrap_or(1).max(1);
                form.choices = u32::try_from(choices).unwrap_or(u32::MAX);
            }
            b"prompt" => {
                form.prompt.text_bytes += value.len() as u64;
                form.messages = 1;
            }
            b"image" | b"image[]" | b"mask" => form.prompt.images += 1,
            _ => {}
        }
    }
    Ok(form)
}

/// The fields between two offsets: name, and where the value begins and ends.
fn fields<'a>(
    body: &'a [u8],
    boundary: &'a [u8],
    from: usize,
    to: usize,
) -> impl Iterator<Item = (&'a [u8], usize, usize)> {
    let window = &body[from..to];
    let mut at = 0;
    std::iter::from_fn(move || {
        let found = memmem::find(&window[at..], boundary)?;
        let delimiter = at + found;
        at = delimiter + boundary.len();
        // A delimiter stands at the start of a line; elsewhere it is part of an upload.
        let start_of_line = from + delimiter == 0 || body[..from + delimiter].ends_with(b"\r\n");
        if !start_of_line || !window[at..].starts_with(b"\r\n") {
            return Some(None);
        }
        let head_start = at + 2;
        let head_end = head_start + memmem::find(&window[head_start..], b"\r\n\r\n")?;
        let value_start = head_end + 4;
        at = value_start;
        let name = field_name(&window[head_start..head_end]);
        let end = memmem::find_iter(&window[value_start..], boundary)
            .map(|offset| value_start + offset)
            .find(|end| window[..*end].ends_with(b"\r\n"));
        let Some(end) = end else {
            // An upload that runs out of the window: an image counts, its bytes are nobody's text.
            return name
                .filter(|name| is_upload(name))
                .map(|name| Some((name, from + value_start, from + value_start)));
        };
        at = end;
        let value_end = (end - 2).max(value_start);
        Some(name.map(|name| (name, from + value_start, from + value_end)))
    })
    .take(MAX_FIELDS)
    .flatten()
}

fn is_upload(name: &[u8]) -> bool {
    matches!(name, b"image" | b"image[]" | b"mask")
}

/// The `name` of a part's Content-Disposition.
fn field_name(head: &[u8]) -> Option<&[u8]> {
    let mut at = 0;
    loop {
        let found = at + memmem::find(&head[at..], b"name=\"")?;
        let start = found + b"name=\"".len();
        // Not the end of `filename=`.
        if !head[..found].ends_with(b"file") {
            let length = memchr::memchr(b'"', &head[start..])?;
            return Some(&head[start..start + length]);
        }
        at = start;
    }
}

#[cfg(test)]
mod tests {
    use super::super::peek;
    use super::*;
    use crate::llm::wire::Endpoint;

    fn part(name: &str, rest: &str, value: &[u8]) -> Vec<u8> {
        let mut part =
            format!("--B0undary\r\nContent-Disposition: form-data; name=\"{name}\"{rest}\r\n\r\n")
                .into_bytes();
        part.extend_from_slice(value);
        part.extend_from_slice(b"\r\n");
        part
    }

    fn form(parts: &[Vec<u8>]) -> Vec<u8> {
        [&parts.concat()[..], b"--B0undary--\r\n"].concat()
    }

    #[test]
    fn the_model_is_found_before_and_after_a_large_upload() {
        let model = part("model", "", b"whisper-1");
        let upload = part(
            "file",
            "; filename=\"a.mp3\"\r\nContent-Type: audio/mpeg",
            &[0xff; 300_000],
        );
        for body in [
            form(&[model.clone(), upload.clone()]),
            form(&[upload.clone(), model.clone()]),
            form(std::slice::from_ref(&model)),
        ] {
            let found = peek(Endpoint::Audio, &body)
                .expect("a form")
                .model
                .expect("a model");
            assert_eq!(found.name, "whisper-1");
            assert_eq!(&body[found.span], b"whisper-1");
        }
        assert_eq!(
            peek(Endpoint::Audio, &form(&[model.clone(), upload, model])),
            Err(Unparsed::DuplicateField("model"))
        );
    }

    #[test]
    fn an_upload_cannot_pose_as_a_field() {
        let posing = part(
            "x",
            "",
            b"y--B0undary\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nz",
        );
        let body = form(&[posing, part("stream", "", b"true"), part("n", "", b"3")]);
        let read = peek(Endpoint::Images, &body).expect("a form");
        assert_eq!(read.model, None);
        assert!(read.stream);
        assert_eq!(read.choices, 3);
    }

    #[test]
    fn broken_forms_are_not_json_and_do_no_harm() {
        for body in [&b"--"[..], b"--\r\n", b"--a", b"--a\r", b"---------------"] {
            assert_eq!(peek(Endpoint::Images, body), Err(Unparsed::NotJson));
        }
        let whole = form(&[
            part("model", "", b"m"),
            part("image", "; filename=\"name=\"", b"x"),
        ]);
        for end in 0..whole.len() {
            let _ = peek(Endpoint::Images, &whole[..end]);
        }
    }
}
