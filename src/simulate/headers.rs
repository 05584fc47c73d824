//! The headers that a provider puts on every answer, besides those about limits.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::behaviour::Flavour;
use crate::llm::wire::Dialect;

/// The header that carries the request's id. Gemini and Ollama have none of their own and get OpenAI's, so that every
/// answer can be found in the counts.
const fn id_header(dialect: Dialect) -> HeaderName {
    match dialect {
        Dialect::Anthropic => HeaderName::from_static("request-id"),
        _ => HeaderName::from_static("x-request-id"),
    }
}

/// Adds them.
pub(super) fn write(headers: &mut HeaderMap, dialect: Dialect, flavour: Flavour, request_id: &str) {
    let id =
        HeaderValue::try_from(request_id).unwrap_or_else(|_| HeaderValue::from_static("req_sim"));
    match (dialect, flavour) {
        (Dialect::Anthropic, _) => {
            headers.insert(
                "anthropic-organization-id",
                HeaderValue::from_static("00000000-0000-4000-8000-000000000001"),
            );
        }
        (Dialect::OpenAi, Flavour::OpenAi) => {
            headers.insert("openai-organization", HeaderValue::from_static("org-sim"));
            headers.insert("openai-processing-ms", HeaderValue::from_static("1"));
            headers.insert("openai-version", HeaderValue::from_static("2020-10-01"));
        }
        (Dialect::OpenAi, Flavour::Azure) => {
            headers.insert("apim-request-id", id.clone());
            headers.insert("x-ms-region", HeaderValue::from_static("Sweden Central"));
        }
        (Dialect::Gemini, _) => {
            headers.insert("server-timing", HeaderValue::from_static("gfet4t7; dur=1"));
        }
        (Dialect::OpenAi | Dialect::Ollama, _) => {}
    }
    headers.insert(id_header(dialect), id);
}
