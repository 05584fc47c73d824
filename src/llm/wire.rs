//! The wire formats that tollgate can read, and which one a request's path belongs to.

/// The family of wire format: decides how errors, refusals and keep-alives look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Anthropic Messages.
    Anthropic,
    /// OpenAI and everything compatible with it.
    OpenAi,
    /// Google Gemini (also on Vertex AI).
    Gemini,
    /// Ollama's own API.
    Ollama,
}

impl Dialect {
    /// The name used in config and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Dialect::Anthropic => "anthropic",
            Dialect::OpenAi => "openai",
            Dialect::Gemini => "gemini",
            Dialect::Ollama => "ollama",
        }
    }
}

/// What a request asks of the provider, told by the end of its path. Decides how its body and its answer are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// Anthropic `…/messages`.
    Messages,
    /// Anthropic `…/messages/count_tokens`: free, never booked.
    CountTokens,
    /// Anthropic `…/messages/batches/{id}/results` (JSON lines).
    BatchResults,
    /// OpenAI `…/chat/completions`.
    ChatCompletions,
    /// OpenAI `…/responses` (POST).
    Responses,
    /// OpenAI `…/responses/{id}` (GET): polls or resumes background work.
    ResponseFetch,
    /// OpenAI's old `…/completions`.
    Completions,
    /// OpenAI `…/embeddings`.
    Embeddings,
    /// OpenAI `…/images/…`.
    Images,
    /// OpenAI `…/audio/…`.
    Audio,
    /// Gemini `…:generateContent` and its stream `…:streamGenerateContent`.
    GenerateContent,
    /// Gemini `…:countTokens`: free, never booked.
    GeminiCountTokens,
    /// Gemini `…:embedContent`, `…:batchEmbedContents`.
    EmbedContent,
    /// Ollama `/api/chat`.
    OllamaChat,
    /// Ollama `/api/generate`.
    OllamaGenerate,
    /// Ollama `/api/embed`, `/api/embeddings`.
    OllamaEmbed,
    /// Anything else: passed through, recorded, not metered.
    Other,
}

impl Endpoint {
    /// The name used in the ledger and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Endpoint::Messages => "messages",
            Endpoint::CountTokens => "count_tokens",
            Endpoint::BatchResults => "batch_results",
            Endpoint::ChatCompletions => "chat_completions",
            Endpoint::Responses => "responses",
            Endpoint::ResponseFetch => "response_fetch",
            Endpoint::Completions => "completions",
            Endpoint::Embeddings => "embeddings",
            Endpoint::Images => "images",
            Endpoint::Audio => "audio",
            Endpoint::GenerateContent => "generate_content",
            Endpoint::GeminiCountTokens => "gemini_count_tokens",
            Endpoint::EmbedContent => "embed_content",
            Endpoint::OllamaChat => "ollama_chat",
            Endpoint::OllamaGenerate => "ollama_generate",
            Endpoint::OllamaEmbed => "ollama_embed",
            Endpoint::Other => "other",
        }
    }
}

/// How an endpoint is billed, as far as tokens tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Billing {
    /// Every answer costs tokens: what the provider does not state is estimated.
    ByTokens,
    /// Tokens count where the provider states them; otherwise it bills by other units (seconds, images) that are not
    /// priced here, or the work was booked when it was asked for.
    WhereStated,
    /// Nothing is billed.
    Free,
}

impl Endpoint {
    /// The dialect that its clients speak, whoever the provider is; `None` where the path does not tell.
    pub const fn dialect(self) -> Option<Dialect> {
        match self {
            Endpoint::Messages | Endpoint::CountTokens | Endpoint::BatchResults => {
                Some(Dialect::Anthropic)
            }
            Endpoint::ChatCompletions
            | Endpoint::Responses
            | Endpoint::ResponseFetch
            | Endpoint::Completions
            | Endpoint::Embeddings
            | Endpoint::Images
            | Endpoint::Audio => Some(Dialect::OpenAi),
            Endpoint::GenerateContent | Endpoint::GeminiCountTokens | Endpoint::EmbedContent => {
                Some(Dialect::Gemini)
            }
            Endpoint::OllamaChat | Endpoint::OllamaGenerate | Endpoint::OllamaEmbed => {
                Some(Dialect::Ollama)
            }
            Endpoint::Other => None,
        }
    }

    /// Whether it asks work of a model: only that counts as a request where requests are limited. What only counts
    /// tokens, fetches, probes or is not known does not.
    pub const fn asks_a_model(self) -> bool {
        match self {
            Endpoint::Messages
            | Endpoint::ChatCompletions
            | Endpoint::Responses
            | Endpoint::Completions
            | Endpoint::Embeddings
            | Endpoint::Images
            | Endpoint::Audio
            | Endpoint::GenerateContent
            | Endpoint::EmbedContent
            | Endpoint::OllamaChat
            | Endpoint::OllamaGenerate
            | Endpoint::OllamaEmbed => true,
            Endpoint::CountTokens
            | Endpoint::GeminiCountTokens
            | Endpoint::BatchResults
            | Endpoint::ResponseFetch
            | Endpoint::Other => false,
        }
    }

    /// The same by its name in the ledger. A name of a newer version asks a model, for all that is known.
    pub fn name_asks_a_model(name: &str) -> bool {
        const OTHERS: [Endpoint; 5] = [
            Endpoint::CountTokens,
            Endpoint::GeminiCountTokens,
            Endpoint::BatchResults,
            Endpoint::ResponseFetch,
            Endpoint::Other,
        ];
        OTHERS.iter().all(|known| known.as_str() != name)
    }

    /// How requests to it are billed.
    pub const fn billing(self) -> Billing {
        match self {
            Endpoint::Messages
            | Endpoint::ChatCompletions
            | Endpoint::Responses
            | Endpoint::Completions
            | Endpoint::Embeddings
            | Endpoint::GenerateContent
            | Endpoint::EmbedContent
            | Endpoint::OllamaChat
            | Endpoint::OllamaGenerate
            | Endpoint::OllamaEmbed => Billing::ByTokens,
            Endpoint::Images
            | Endpoint::Audio
            | Endpoint::BatchResults
            | Endpoint::ResponseFetch => Billing::WhereStated,
            Endpoint::CountTokens | Endpoint::GeminiCountTokens | Endpoint::Other => Billing::Free,
        }
    }
}
