//! Decides from a request's path what it asks for, where it goes and what the provider's path is.
//!
//! Paths are matched by their END, segment by segment, because users configure base URLs with and without `/v1`, with
//! a provider's prefix and doubled. Segments are percent-decoded one at a time, so an encoded slash stays inside its
//! segment. The mount (which provider) and the provider's path have files of their own.

mod mount;
mod upstream_path;

use std::borrow::Cow;

use http::Method;

use super::wire::Endpoint;

pub use mount::{Mount, Tag, TagError, mount_of};
pub use upstream_path::normalise_path;

/// What a request's method and path say by themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target<'a> {
    /// What is asked of the provider.
    pub endpoint: Endpoint,
    /// The model that the path names (Gemini, Vertex, an Azure deployment). It beats the body's.
    pub model: Option<Cow<'a, str>>,
    /// Whether the answer is a stream, where the path decides that (Gemini, Vertex); else the body does.
    pub stream: Option<bool>,
    /// Whether the query asks for server-sent events (`alt=sse`); a Gemini stream without it is one JSON array.
    pub sse: bool,
}

/// Reads the endpoint, and the model and stream flag where the path holds them.
///
/// `path` may carry a query. `/openai/deployments/gpt4o/chat/completions?api-version=1` gives
/// [`Endpoint::ChatCompletions`] with the model `gpt4o`.
pub fn endpoint_of<'a>(method: &Method, path: &'a str) -> Target<'a> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    // Nearest the end first; empty segments come from doubled or trailing slashes.
    let mut from_end = path.rsplit('/').filter(|segment| !segment.is_empty());
    let mut next = || from_end.next().map(percent_decoded);
    let [last, second, third, fourth] = [next(), next(), next(), next()];
    let parts = [&last, &second, &third, &fourth].map(|part| part.as_deref().unwrap_or(""));

    let mut target = Target {
        endpoint: Endpoint::Other,
        model: None,
        stream: None,
        sse: query.split('&').any(|pair| pair == "alt=sse"),
    };
    if method == Method::GET {
        target.endpoint = match parts {
            ["results", _, "batches", "messages"] => Endpoint::BatchResults,
            [_, "responses", ..] => Endpoint::ResponseFetch,
            _ => Endpoint::Other,
        };
        return target;
    }
    if method != Method::POST {
        return target;
    }
    if let Some((model, verb)) = parts[0].rsplit_once(':')
        && ["models", "tunedModels", "endpoints"].contains(&parts[1])
    {
        (target.endpoint, target.stream) = match verb {
            "generateContent" => (Endpoint::GenerateContent, Some(false)),
            "streamGenerateContent" => (Endpoint::GenerateContent, Some(true)),
            "countTokens" => (Endpoint::GeminiCountTokens, Some(false)),
            "embedContent" | "batchEmbedContents" => (Endpoint::EmbedContent, Some(false)),
            // Claude on Vertex AI: the body is Anthropic's.
            "rawPredict" if model == "count-tokens" => {
                target.endpoint = Endpoint::CountTokens;
                return target;
            }
            "rawPredict" => (Endpoint::Messages, Some(false)),
            "streamRawPredict" => (Endpoint::Messages, Some(true)),
            _ => (Endpoint::Other, None),
        };
        let length = model.len();
        target.model = last.map(|segment| cut(segment, length));
        return target;
    }
    target.endpoint = match parts {
        ["count_tokens", "messages", ..] => Endpoint::CountTokens,
        ["messages", ..] => Endpoint::Messages,
        ["completions", "chat", ..] => Endpoint::ChatCompletions,
        ["completions", ..] => Endpoint::Completions,
        ["compact", "responses", ..] | ["responses", ..] => Endpoint::Responses,
        ["chat", "api", ..] => Endpoint::OllamaChat,
        ["generate", "api", ..] => Endpoint::OllamaGenerate,
        ["embed" | "embeddings", "api", ..] => Endpoint::OllamaEmbed,
        ["embeddings", ..] => Endpoint::Embeddings,
        ["generations" | "edits" | "variations", "images", ..] => Endpoint::Images,
        [_, "audio", ..] => Endpoint::Audio,
        _ => Endpoint::Other,
    };
    // Azure: the deployment is the model, whatever the body says.
    target.model = match parts {
        [_, _, "deployments", _] => second,
        [_, _, _, "deployments"] => third,
        _ => None,
    };
    target
}

/// Whether a path has a segment `.` or `..`, however it is written. Whoever serves the provider's address may resolve them,
/// and then serves another path than the one that was judged here; programs resolve them before they send.
pub fn has_dot_segment(path: &str) -> bool {
    let path = path.split('?').next().unwrap_or(path);
    path.split('/')
        .map(percent_decoded)
        .any(|segment| matches!(&*segment, "." | ".."))
}

/// Keeps the first `length` bytes of a segment without copying a borrowed one.
fn cut(segment: Cow<'_, str>, length: usize) -> Cow<'_, str> {
    match segment {
        Cow::Borrowed(text) => Cow::Borrowed(&text[..length]),
        Cow::Owned(mut text) => {
            text.truncate(length);
            Cow::Owned(text)
        }
    }
}

/// Decodes `%XX`; anything that is not a valid escape, or would not be UTF-8, stays as it is written.
fn percent_decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |offset: usize| {
            bytes
                .get(at + offset)
                .and_then(|digit| char::from(*digit).to_digit(16))
        };
        match (bytes[at], hex(1), hex(2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(decoded).map_or(Cow::Borrowed(text), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(path: &str) -> (Endpoint, Option<String>, Option<bool>) {
        let target = endpoint_of(&Method::POST, path);
        (
            target.endpoint,
            target.model.map(Cow::into_owned),
            target.stream,
        )
    }

    #[test]
    fn the_end_of_the_path_decides_whatever_stands_before_it() {
        for (path, endpoint) in [
            ("/v1/messages", Endpoint::Messages),
            ("/v1/messages?beta=true", Endpoint::Messages),
            ("/v1/v1/messages/", Endpoint::Messages),
            ("/messages", Endpoint::Messages),
            ("/anthropic/v1/messages/count_tokens", Endpoint::CountTokens),
            ("/v1/messages/batches", Endpoint::Other),
            ("/openai/v1/chat/completions", Endpoint::ChatCompletions),
            ("/chat/completions", Endpoint::ChatCompletions),
            ("/v1/chat%2Fcompletions", Endpoint::Other),
            ("/v1/%63hat/completions", Endpoint::ChatCompletions),
            ("/api/v1/responses", Endpoint::Responses),
            ("/responses/compact", Endpoint::Responses),
            ("/responses/resp_1/cancel", Endpoint::Other),
            ("/v1/completions", Endpoint::Completions),
            ("/embeddings", Endpoint::Embeddings),
            ("/api/embeddings", Endpoint::OllamaEmbed),
            ("/api/embed", Endpoint::OllamaEmbed),
            ("/api/chat", Endpoint::OllamaChat),
            ("/ollama/api/generate", Endpoint::OllamaGenerate),
            ("/v1/images/edits", Endpoint::Images),
            ("/v1/audio/transcriptions", Endpoint::Audio),
            ("/v1/files", Endpoint::Other),
            ("/", Endpoint::Other),
            ("", Endpoint::Other),
        ] {
            assert_eq!(post(path).0, endpoint, "{path}");
        }
    }

    #[test]
    fn fetching_is_told_from_asking_by_the_method() {
        let get = |path| endpoint_of(&Method::GET, path).endpoint;
        assert_eq!(get("/v1/responses/resp_1"), Endpoint::ResponseFetch);
        assert_eq!(get("/v1/responses"), Endpoint::Other);
        assert_eq!(get("/v1/messages"), Endpoint::Other);
        assert_eq!(get("/v1/responses/resp_1/input_items"), Endpoint::Other);
        assert_eq!(
            get("/v1/messages/batches/b1/results"),
            Endpoint::BatchResults
        );
        assert_eq!(
            endpoint_of(&Method::DELETE, "/v1/responses/resp_1").endpoint,
            Endpoint::Other
        );
    }

    #[test]
    fn the_path_names_model_and_stream_at_gemini_vertex_and_azure() {
        for (path, endpoint, model, stream) in [
            (
                "/v1beta/models/gemini-3-flash:streamGenerateContent?alt=sse",
                Endpoint::GenerateContent,
                "gemini-3-flash",
                Some(true),
            ),
            (
                "/v1/models/gemini-3-flash%3AgenerateContent",
                Endpoint::GenerateContent,
                "gemini-3-flash",
                Some(false),
            ),
            (
                "/v1beta/models/g:countTokens",
                Endpoint::GeminiCountTokens,
                "g",
                Some(false),
            ),
            (
                "/v1/projects/p/locations/l/publishers/anthropic/models/claude:streamRawPredict",
                Endpoint::Messages,
                "claude",
                Some(true),
            ),
            (
                "/openai/deployments/my%20gpt/chat/completions?api-version=2024-10-21",
                Endpoint::ChatCompletions,
                "my gpt",
                None,
            ),
            (
                "/azure/openai/deployments/d/embeddings",
                Endpoint::Embeddings,
                "d",
                None,
            ),
        ] {
            assert_eq!(
                post(path),
                (endpoint, Some(model.to_owned()), stream),
                "{path}"
            );
        }
        assert!(
            endpoint_of(
                &Method::POST,
                "/v1/models/m:streamGenerateContent?a=1&alt=sse"
            )
            .sse
        );
        assert_eq!(
            post("/v1/publishers/anthropic/models/count-tokens:rawPredict"),
            (Endpoint::CountTokens, None, None)
        );
    }

    #[test]
    fn dot_segments_are_found_however_they_are_written() {
        for path in [
            "/v1/chat/completions/.",
            "/..",
            "/v1/%2e%2E/x",
            "/v1/.%2e?a",
        ] {
            assert!(has_dot_segment(path), "{path}");
        }
        for path in [
            "/v1/models/gpt-5.1",
            "/v1/.../x",
            "/x?a=/../",
            "/v1/.well-known",
        ] {
            assert!(!has_dot_segment(path), "{path}");
        }
    }

    #[test]
    fn a_broken_escape_stays_as_it_is_written() {
        assert_eq!(percent_decoded("a%2"), "a%2");
        assert_eq!(percent_decoded("a%zz%41"), "a%zzA");
        assert_eq!(percent_decoded("%ff"), "%ff");
    }
}
