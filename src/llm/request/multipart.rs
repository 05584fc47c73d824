//! Reads the model and the prompt from a form (image edits, transcriptions).
//!
//! Uploads are megabytes of media between small fields, whose order the SDKs differ in. The whole body is searched for
//! the line between its parts (at memory speed), because a field that is hidden between two uploads would be read by the
//! provider all the same. That line is taken from the body's own first line; what declares it is the content type, which
//! whoever relies on a field must compare.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memmem;

use super::caps::whole_number;
use super::{Asks, Form, ModelField, Peek, Stated, Unparsed, UsageOption};
use crate::llm::estimate::PromptSize;

/// Longest boundary, by RFC 2046, with the two dashes in front.
const MAX_BOUNDARY_BYTES: usize = 72;

/// How many parts a form may have; real ones have up to about 40. One with more is not read.
const MAX_PARTS: usize = 1_000;

/// Reads a form whose body begins with `--`.
pub(super) fn peek(body: &[u8]) -> Result<Peek<'_>, Unparsed> {
    let head = &body[..body.len().min(MAX_BOUNDARY_BYTES + 2)];
    let line = memchr::memchr(b'\r', head).ok_or(Unparsed::NotJson)?;
    if line <= 2 || body.get(line + 1) != Some(&b'\n') {
        return Err(Unparsed::NotJson);
    }
    let boundary = &body[2..line];
    let mut form = Peek {
        model: None,
        stream: false,
        usage_option: UsageOption::Odd,
        output_cap: None,
        choices: 1,
        service_tier: None,
        speed: None,
        region: None,
        background: false,
        tools: 0,
        declared: Vec::new(),
        hidden_tools: false,
        other_models: Vec::new(),
        thinking: false,
        hidden_context: false,
        hidden_input: false,
        body_bytes: body.len() as u64,
        form: None,
        prompt: PromptSize::default(),
        messages: 0,
        asks: Asks::default(),
        stated: Stated::default(),
        newest_user_text: None,
        beginning: 0,
        side_request: false,
    };
    let mut plain = true;
    for (number, part) in parts(body, &body[..line]).enumerate() {
        if number >= MAX_PARTS {
            return Err(Unparsed::NotJson);
        }
        match part {
            Part::Field { name, value } => plain &= take(&mut form, body, name, value)?,
            Part::Odd => plain = false,
        }
    }
    form.form = Some(Form { boundary, plain });
    Ok(form)
}

/// Takes a field in. Returns whether it can be read in one way only.
fn take<'a>(
    form: &mut Peek<'a>,
    body: &'a [u8],
    name: &[u8],
    at: Range<usize>,
) -> Result<bool, Unparsed> {
    if matches!(name, b"image" | b"image[]" | b"mask") {
        form.prompt.images += 1;
        form.prompt.image_bytes += at.len() as u64;
        return Ok(true);
    }
    let Ok(value) = std::str::from_utf8(&body[at.clone()]) else {
        return Ok(name != b"model");
    };
    match name {
        b"model" if form.model.is_some() => return Err(Unparsed::DuplicateField("model")),
        b"model" => {
            form.model = Some(ModelField {
                name: Cow::Borrowed(value),
                span: at,
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
        _ => {}
    }
    Ok(true)
}

/// What stands between two lines of a form's boundary.
enum Part<'a> {
    /// A field of a plain name, and where its value is.
    Field { name: &'a [u8], value: Range<usize> },
    /// Something that parsers may differ about.
    Odd,
}

/// The parts of a form. `delimiter` is the boundary with its two dashes.
fn parts<'a>(body: &'a [u8], delimiter: &'a [u8]) -> impl Iterator<Item = Part<'a>> {
    // A delimiter stands at the start of a line; elsewhere it is part of an upload.
    let mut starts = memmem::find_iter(body, delimiter)
        .filter(|at| *at == 0 || body[..*at].ends_with(b"\n"))
        .peekable();
    std::iter::from_fn(move || {
        let start = starts.next()?;
        let end = starts.peek().copied();
        let after = start + delimiter.len();
        if body[after..].starts_with(b"--") && end.is_none() {
            return None;
        }
        Some(part(body, after, end.unwrap_or(body.len())))
    })
}

/// The part between the end of one delimiter and the start of the next.
fn part(body: &[u8], after: usize, end: usize) -> Part<'_> {
    let found = || {
        let head_start = after + body[after..end].starts_with(b"\r\n").then_some(2)?;
        let head_end = head_start + memmem::find(&body[head_start..end], b"\r\n\r\n")?;
        let start = head_end + 4;
        let value = body[start..end].strip_suffix(b"\r\n")?;
        Some(Part::Field {
            name: field_name(&body[head_start..head_end])?,
            value: start..start + value.len(),
        })
    };
    found().unwrap_or(Part::Odd)
}

/// The `name` of a part's Content-Disposition, if it is of letters that every parser reads alike.
fn field_name(head: &[u8]) -> Option<&[u8]> {
    let mut at = 0;
    loop {
        let found = at + memmem::find(&head[at..], b"name=\"")?;
        let start = found + b"name=\"".len();
        // Not the end of `filename=`.
        if !head[..found].ends_with(b"file") {
            let length = memchr::memchr(b'"', &head[start..])?;
            let name = &head[start..start + length];
            let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.[]".contains(byte);
            return name.iter().all(plain).then_some(name);
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
    fn a_field_between_two_uploads_is_found() {
        let upload = || part("file", "; filename=\"a\"", &[0xff; 200_000]);
        let (cheap, dear) = (part("model", "", b"cheap"), part("model", "", b"dear"));
        let body = form(&[upload(), dear.clone(), upload()]);
        let model = peek(Endpoint::Audio, &body).expect("a form").model;
        assert_eq!(model.map(|model| model.name), Some(Cow::Borrowed("dear")));
        assert_eq!(
            peek(Endpoint::Audio, &form(&[cheap, upload(), dear, upload()])),
            Err(Unparsed::DuplicateField("model"))
        );
    }

    #[test]
    fn a_form_that_parsers_may_differ_about_says_so() {
        let plain = |body: &[u8]| {
            let form = peek(Endpoint::Audio, body).map(|peek| peek.form);
            form.expect("a form").expect("a form").plain
        };
        let model = part("model", "", b"m");
        let upload = part(
            "file",
            "; filename=\"a b.mp3\"\r\nContent-Type: audio/mpeg",
            b"x",
        );
        assert!(plain(&form(&[model.clone(), upload])));
        let odd = |line: &str| {
            let part = format!("--B0undary\r\nContent-Disposition: form-data; {line}\r\n\r\nm\r\n");
            plain(&form(&[model.clone(), part.into_bytes()]))
        };
        assert!(odd("name=\"language\""));
        for line in [
            "name=model",
            "name=\"mo\\del\"",
            "name*=utf-8''model",
            "x=1",
        ] {
            assert!(!odd(line), "{line}");
        }
        let with = |middle: &[u8]| [&form(std::slice::from_ref(&model))[..], middle].concat();
        assert!(plain(&with(b"")));
        assert!(!plain(&with(&form(&[part(
            "prompt",
            "",
            b"after the end"
        )]))));
        let bare =
            b"--B0undary\r\nA: b\r\n\r\nx\n--B0undary\r\nA: name=\"c\"\r\n\r\nx\r\n--B0undary--";
        assert!(!plain(bare), "a line that ends without a carriage return");
        assert!(
            !plain(&form(&[part("model", "", b"\xff")])),
            "a model that is no text"
        );
    }

    #[test]
    fn a_form_of_too_many_parts_is_not_read() {
        let parts = vec![part("x", "", b""); MAX_PARTS];
        assert!(peek(Endpoint::Audio, &form(&parts)).is_ok());
        let more = vec![part("x", "", b""); MAX_PARTS + 1];
        assert_eq!(peek(Endpoint::Audio, &form(&more)), Err(Unparsed::NotJson));
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
