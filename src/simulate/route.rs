//! Which part of which provider a request is for, told by the end of its path, as clients put all kinds of prefixes
//! before it.

use http::{HeaderMap, Method};

use super::gemini::Framing;
use super::ollama::Form;
use crate::llm::wire::{Dialect, Endpoint};

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// The simulator's own pages.
    Control(Control),
    /// Something that a model answers, or that is counted for one.
    Model(Call<'a>),
    /// An OpenAI response that was asked for before.
    Recall(&'a str, Recall),
    /// A list of models or one of them.
    Models(Dialect, Option<&'a str>),
    /// A page of Ollama's that tells about the server.
    OllamaPage(OllamaPage),
    /// A WebSocket on OpenAI's Responses: refused, so that clients fall back to POST.
    WebSocket,
    /// A known path with another method.
    WrongMethod(Dialect),
    /// Nothing is there.
    Unknown(Dialect),
}

/// The simulator's own pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Control {
    /// What was done.
    Stats,
    /// The last requests.
    Requests,
    /// Forget.
    Reset,
    /// The request, told back as JSON.
    Echo,
    /// The request's body, sent back as it came.
    Reflect,
    /// No such page.
    Unknown,
    /// `GET timeline`: what happened when.
    Timeline,
    /// `GET limits`: counts and levels of the limits.
    Limits,
    /// `PUT limits`: other limits.
    SetLimits,
    /// `PUT script`: another script.
    SetScript,
}

/// Something that a model answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call<'a> {
    /// Anthropic Messages.
    Messages,
    /// Anthropic's count of tokens.
    CountTokens,
    /// Anthropic's results of a batch.
    BatchResults,
    /// OpenAI Chat Completions.
    Chat,
    /// OpenAI's old Completions.
    Completions,
    /// OpenAI Responses.
    Responses,
    /// OpenAI's count of tokens.
    ResponseTokens,
    /// OpenAI embeddings.
    Embeddings,
    /// OpenAI images.
    Images,
    /// OpenAI transcriptions and translations.
    Transcription,
    /// Gemini's answer in one.
    Generate(&'a str),
    /// Gemini's answer as a stream.
    StreamGenerate(&'a str, Framing),
    /// Gemini's count of tokens.
    GeminiCount(&'a str),
    /// Gemini's embeddings; `true` for a batch.
    GeminiEmbed(&'a str, bool),
    /// Ollama's two ways to generate.
    Ollama(Form),
    /// Ollama's embeddings; `true` for the old path.
    OllamaEmbed(bool),
}

/// What to do with a response that was asked for before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recall {
    /// Tell it.
    Fetch,
    /// Stop it.
    Cancel,
    /// Forget it.
    Delete,
}

/// A page of Ollama's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OllamaPage {
    /// `/`.
    Root,
    /// `/api/version`.
    Version,
    /// `/api/tags`.
    Tags,
    /// `/api/ps`.
    Running,
    /// `/api/show`.
    Show,
}

impl Call<'_> {
    /// Whose form the answer has.
    pub(super) const fn dialect(self) -> Dialect {
        match self {
            Call::Messages | Call::CountTokens | Call::BatchResults => Dialect::Anthropic,
            Call::Generate(_)
            | Call::StreamGenerate(..)
            | Call::GeminiCount(_)
            | Call::GeminiEmbed(..) => Dialect::Gemini,
            Call::Ollama(_) | Call::OllamaEmbed(_) => Dialect::Ollama,
            _ => Dialect::OpenAi,
        }
    }

    /// What it is called in the counts.
    pub(super) const fn endpoint(self) -> Endpoint {
        match self {
            Call::Messages => Endpoint::Messages,
            Call::CountTokens => Endpoint::CountTokens,
            Call::BatchResults => Endpoint::BatchResults,
            Call::Chat => Endpoint::ChatCompletions,
            Call::Completions => Endpoint::Completions,
            Call::Responses => Endpoint::Responses,
            Call::ResponseTokens => Endpoint::Other,
            Call::Embeddings => Endpoint::Embeddings,
            Call::Images => Endpoint::Images,
            Call::Transcription => Endpoint::Audio,
            Call::Generate(_) | Call::StreamGenerate(..) => Endpoint::GenerateContent,
            Call::GeminiCount(_) => Endpoint::GeminiCountTokens,
            Call::GeminiEmbed(..) => Endpoint::EmbedContent,
            Call::Ollama(Form::Chat) => Endpoint::OllamaChat,
            Call::Ollama(Form::Generate) => Endpoint::OllamaGenerate,
            Call::OllamaEmbed(_) => Endpoint::OllamaEmbed,
        }
    }
}

impl Route<'_> {
    /// Whose form errors have.
    pub(super) const fn dialect(self) -> Dialect {
        match self {
            Route::Model(call) => call.dialect(),
            Route::Models(dialect, _) | Route::WrongMethod(dialect) | Route::Unknown(dialect) => {
                dialect
            }
            Route::OllamaPage(_) => Dialect::Ollama,
            Route::Control(_) | Route::Recall(..) | Route::WebSocket => Dialect::OpenAi,
        }
    }

    /// What it is called in the counts.
    pub(super) const fn endpoint(self) -> Endpoint {
        match self {
            Route::Model(call) => call.endpoint(),
            Route::Recall(..) => Endpoint::ResponseFetch,
            _ => Endpoint::Other,
        }
    }
}

/// Finds the route.
pub(super) fn find<'a>(
    method: &Method,
    path: &'a str,
    query: &str,
    headers: &HeaderMap,
) -> Route<'a> {
    if let Some((_, page)) = path.rsplit_once("/_simulate/") {
        return Route::Control(control(method, page));
    }
    let path = path.trim_end_matches('/');
    let (rest, last) = path.rsplit_once('/').unwrap_or(("", path));
    let (rest, before) = rest.rsplit_once('/').unwrap_or(("", rest));
    let parent = rest.rsplit_once('/').map_or(rest, |(_, parent)| parent);
    let dialect = spoken(path, headers);
    let post = |call| {
        if method == Method::POST {
            Route::Model(call)
        } else {
            Route::WrongMethod(dialect)
        }
    };
    let page = |route| {
        if method == Method::GET || method == Method::HEAD {
            route
        } else {
            Route::WrongMethod(dialect)
        }
    };
    match (before, last) {
        ("", "") => page(Route::OllamaPage(OllamaPage::Root)),
        ("api", "chat") => post(Call::Ollama(Form::Chat)),
        ("api", "generate") => post(Call::Ollama(Form::Generate)),
        ("api", "embed") => post(Call::OllamaEmbed(false)),
        ("api", "embeddings") => post(Call::OllamaEmbed(true)),
        ("api", "tags") => page(Route::OllamaPage(OllamaPage::Tags)),
        ("api", "version") => page(Route::OllamaPage(OllamaPage::Version)),
        ("api", "ps") => page(Route::OllamaPage(OllamaPage::Running)),
        ("api", "show") if method == Method::POST => Route::OllamaPage(OllamaPage::Show),
        ("messages", "count_tokens") => post(Call::CountTokens),
        (_, "results") if parent == "batches" => {
            if method == Method::GET {
                Route::Model(Call::BatchResults)
            } else {
                Route::WrongMethod(dialect)
            }
        }
        (_, "messages") => post(Call::Messages),
        ("chat", "completions") => post(Call::Chat),
        (_, "completions") => post(Call::Completions),
        ("responses", "input_tokens") => post(Call::ResponseTokens),
        (_, "responses") if method == Method::GET && headers.contains_key("upgrade") => {
            Route::WebSocket
        }
        (_, "responses") => post(Call::Responses),
        ("responses", id) => match *method {
            Method::GET => Route::Recall(id, Recall::Fetch),
            Method::DELETE => Route::Recall(id, Recall::Delete),
            _ => Route::WrongMethod(dialect),
        },
        (id, "cancel") if parent == "responses" && method == Method::POST => {
            Route::Recall(id, Recall::Cancel)
        }
        (_, "embeddings") => post(Call::Embeddings),
        ("images", "generations") => post(Call::Images),
        ("audio", "transcriptions" | "translations") => post(Call::Transcription),
        (_, "models") => page(Route::Models(dialect, None)),
        ("models" | "tunedModels", target) => match target.rsplit_once(':') {
            Some((model, "generateContent")) => post(Call::Generate(model)),
            Some((model, "streamGenerateContent")) => {
                let events = query.split('&').any(|pair| pair == "alt=sse");
                post(Call::StreamGenerate(
                    model,
                    if events {
                        Framing::Events
                    } else {
                        Framing::Array
                    },
                ))
            }
            Some((model, "countTokens")) => post(Call::GeminiCount(model)),
            Some((model, "embedContent")) => post(Call::GeminiEmbed(model, false)),
            Some((model, "batchEmbedContents")) => post(Call::GeminiEmbed(model, true)),
            _ => page(Route::Models(dialect, Some(target))),
        },
        _ => Route::Unknown(dialect),
    }
}

fn control(method: &Method, page: &str) -> Control {
    match (method, page) {
        (&Method::GET, "stats") => Control::Stats,
        (&Method::GET, "requests") => Control::Requests,
        (&Method::POST, "reset") => Control::Reset,
        (&Method::GET, "timeline") => Control::Timeline,
        (&Method::GET, "limits") => Control::Limits,
        (&Method::PUT, "limits") => Control::SetLimits,
        (&Method::PUT, "script") => Control::SetScript,
        (_, "echo") => Control::Echo,
        (_, "reflect") => Control::Reflect,
        _ => Control::Unknown,
    }
}

/// Whose language the client speaks where the path does not tell: its headers do.
fn spoken(path: &str, headers: &HeaderMap) -> Dialect {
    if headers.contains_key("anthropic-version") {
        Dialect::Anthropic
    } else if path.contains("/v1beta")
        || headers.contains_key("x-goog-api-key")
        || headers.contains_key("x-goog-api-client")
    {
        Dialect::Gemini
    } else if path.starts_with("/api/") && !path.starts_with("/api/v1") {
        Dialect::Ollama
    } else {
        Dialect::OpenAi
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at<'a>(method: &Method, path: &'a str) -> Route<'a> {
        find(method, path, "", &HeaderMap::new())
    }

    #[test]
    fn the_end_of_the_path_decides_whatever_stands_before() {
        for (path, call) in [
            ("/v1/messages", Call::Messages),
            ("/anthropic/v1/messages", Call::Messages),
            ("/messages/", Call::Messages),
            ("/v1/messages/count_tokens", Call::CountTokens),
            ("/v1/v1/chat/completions", Call::Chat),
            ("/openai/deployments/d/chat/completions", Call::Chat),
            ("/v1/completions", Call::Completions),
            ("/api/v1/responses", Call::Responses),
            ("/api/v1/embeddings", Call::Embeddings),
            ("/api/embeddings", Call::OllamaEmbed(true)),
            ("/ollama/api/chat", Call::Ollama(Form::Chat)),
            (
                "/v1beta/models/gemini-3-flash:generateContent",
                Call::Generate("gemini-3-flash"),
            ),
            ("/v1/models/a:b:countTokens", Call::GeminiCount("a:b")),
        ] {
            assert_eq!(at(&Method::POST, path), Route::Model(call), "{path}");
        }
    }

    #[test]
    fn what_is_not_there_says_so() {
        assert_eq!(
            at(&Method::GET, "/v1/messages"),
            Route::WrongMethod(Dialect::OpenAi)
        );
        assert_eq!(
            at(&Method::POST, "/v1/nothing"),
            Route::Unknown(Dialect::OpenAi)
        );
        assert_eq!(
            at(&Method::GET, "/_simulate/nothing"),
            Route::Control(Control::Unknown)
        );
        assert_eq!(
            at(&Method::GET, "/x/_simulate/stats"),
            Route::Control(Control::Stats)
        );
    }

    #[test]
    fn responses_and_batches_are_found_by_id() {
        assert_eq!(
            at(&Method::GET, "/v1/responses/resp_1"),
            Route::Recall("resp_1", Recall::Fetch)
        );
        assert_eq!(
            at(&Method::POST, "/v1/responses/resp_1/cancel"),
            Route::Recall("resp_1", Recall::Cancel)
        );
        assert_eq!(
            at(&Method::GET, "/v1/messages/batches/b1/results"),
            Route::Model(Call::BatchResults)
        );
        assert_eq!(
            at(&Method::GET, "/v1/models/gpt-5.6"),
            Route::Models(Dialect::OpenAi, Some("gpt-5.6"))
        );
    }
}
