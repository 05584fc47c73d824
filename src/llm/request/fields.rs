//! Finds the top-level fields that tollgate reads, in one pass over the body, and refuses what could mean two things.
//!
//! serde_json checks the whole text and resolves escaped spellings of the keys; the values stay as they are written.
//! Values that nobody reads are skipped without recursion, so depth costs nothing.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::settings::{self, Other, Setting};
use crate::llm::wire::Endpoint;

/// Declares the fields, their names for errors, and how many there are.
macro_rules! fields {
    ($($field:ident = $name:literal),+ $(,)?) => {
        /// A field that means something to tollgate at the endpoint in question.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Field { $($field),+ }

        impl Field {
            const COUNT: usize = [$(Field::$field),+].len();

            /// The name in messages.
            const fn name(self) -> &'static str {
                match self { $(Field::$field => $name),+ }
            }
        }
    };
}

fields! {
    Model = "model",
    Stream = "stream",
    StreamOptions = "stream_options",
    MaxTokens = "max_tokens",
    MaxCompletionTokens = "max_completion_tokens",
    MaxOutputTokens = "max_output_tokens",
    GenerationConfig = "generationConfig",
    Options = "options",
    Choices = "n",
    BestOf = "best_of",
    ServiceTier = "service_tier",
    Speed = "speed",
    Region = "inference_geo",
    Background = "background",
    Messages = "messages",
    Input = "input",
    Contents = "contents",
    Content = "content",
    Requests = "requests",
    Prompt = "prompt",
    System = "system",
    Images = "images",
    Tools = "tools",
    Functions = "functions",
    McpServers = "mcp_servers",
    Plugins = "plugins",
    WebSearch = "web_search_options",
    LiveSearch = "search_parameters",
    Models = "models",
    Fallbacks = "fallbacks",
    Container = "container",
    Preset = "preset",
    Format = "response_format",
    Thinking = "thinking",
    Reasoning = "reasoning",
    ReasoningEffort = "reasoning_effort",
    PreviousResponse = "previous_response_id",
    Conversation = "conversation",
    Template = "prompt",
    Thread = "thread",
    CachedContent = "cachedContent",
    Context = "context",
    Metadata = "metadata",
    ClientMetadata = "client_metadata",
    PromptCacheKey = "prompt_cache_key",
    User = "user",
    SafetyIdentifier = "safety_identifier",
}

impl Field {
    /// What a key means at an endpoint, in whatever case it is written: see [`folded`].
    fn at(endpoint: Endpoint, key: &[u8]) -> Option<Field> {
        Self::exactly(endpoint, key).or_else(|| {
            // Google's parsers go by the case.
            let folded = folded(key).filter(|_| !is_gemini(endpoint))?;
            Self::exactly(endpoint, folded.as_bytes())
        })
    }

    /// What a key means at an endpoint. Google accepts its fields in snake case too.
    fn exactly(endpoint: Endpoint, key: &[u8]) -> Option<Field> {
        use Endpoint as E;
        let gemini = is_gemini(endpoint);
        let anthropic = matches!(endpoint, E::Messages | E::CountTokens);
        let ollama = matches!(endpoint, E::OllamaChat | E::OllamaGenerate | E::OllamaEmbed);
        let openai = !gemini && !anthropic && !ollama;
        Some(match key {
            b"tools" => Field::Tools,
            b"contents" if gemini => Field::Contents,
            b"content" if gemini => Field::Content,
            b"requests" if gemini => Field::Requests,
            b"systemInstruction" | b"system_instruction" if gemini => Field::System,
            b"generationConfig" | b"generation_config" if gemini => Field::GenerationConfig,
            b"cachedContent" | b"cached_content" if gemini => Field::CachedContent,
            b"serviceTier" | b"service_tier" if gemini => Field::ServiceTier,
            _ if gemini => return None,
            b"model" => Field::Model,
            b"stream" => Field::Stream,
            b"messages" => Field::Messages,
            b"system" if anthropic || ollama => Field::System,
            b"thinking" if anthropic => Field::Thinking,
            b"thread" if anthropic => Field::Thread,
            b"output_config" if anthropic => Field::Format,
            b"mcp_servers" if anthropic => Field::McpServers,
            b"container" if anthropic => Field::Container,
            b"speed" if anthropic => Field::Speed,
            b"inference_geo" if anthropic => Field::Region,
            b"options" if ollama => Field::Options,
            b"think" if ollama => Field::Thinking,
            b"images" if ollama => Field::Images,
            b"context" if ollama => Field::Context,
            b"format" if ollama => Field::Format,
            b"prompt" if endpoint == E::Responses => Field::Template,
            b"background" if endpoint == E::Responses => Field::Background,
            b"prompt" => Field::Prompt,
            b"input" => Field::Input,
            _ if ollama => return None,
            // A name that the endpoint does not know would bound nothing.
            b"max_tokens" if endpoint != E::Responses => Field::MaxTokens,
            b"metadata" => Field::Metadata,
            b"service_tier" => Field::ServiceTier,
            // OpenRouter takes these in every format; Anthropic and LiteLLM have `fallbacks`.
            b"models" => Field::Models,
            b"fallbacks" => Field::Fallbacks,
            b"plugins" => Field::Plugins,
            b"preset" => Field::Preset,
            _ if !openai => return None,
            b"stream_options" => Field::StreamOptions,
            b"max_completion_tokens" if endpoint != E::Responses => Field::MaxCompletionTokens,
            b"max_output_tokens" if endpoint == E::Responses => Field::MaxOutputTokens,
            b"web_search_options" => Field::WebSearch,
            b"search_parameters" => Field::LiveSearch,
            b"n" => Field::Choices,
            b"best_of" => Field::BestOf,
            b"instructions" => Field::System,
            b"functions" => Field::Functions,
            b"response_format" => Field::Format,
            b"text" if endpoint == E::Responses => Field::Format,
            b"reasoning" => Field::Reasoning,
            b"reasoning_effort" => Field::ReasoningEffort,
            b"previous_response_id" => Field::PreviousResponse,
            b"conversation" => Field::Conversation,
            b"client_metadata" => Field::ClientMetadata,
            b"prompt_cache_key" => Field::PromptCacheKey,
            b"user" => Field::User,
            b"safety_identifier" => Field::SafetyIdentifier,
            _ => return None,
        })
    }
}

/// Whether the body is Google's.
pub(super) const fn is_gemini(endpoint: Endpoint) -> bool {
    matches!(
        endpoint,
        Endpoint::GenerateContent | Endpoint::GeminiCountTokens | Endpoint::EmbedContent
    )
}

/// A key in lower case, if it is not already; `None` too if it can be none of ours.
///
/// Servers written in Go (Ollama, many gateways) take a field's name in any case, by Unicode's folding, by which two
/// letters beyond ASCII fold into it: ſ and the Kelvin sign. What such a server would read must not pass unread here.
pub(in crate::llm) fn folded(key: &[u8]) -> Option<String> {
    const LONGEST_BYTES: usize = 64;
    let plain = |byte: &u8| byte.is_ascii() && !byte.is_ascii_uppercase();
    if key.len() > LONGEST_BYTES || key.iter().all(plain) {
        return None;
    }
    let fold = |letter: char| match letter {
        'ſ' => 's',
        '\u{212A}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    let key = std::str::from_utf8(key).ok()?;
    Some(key.chars().map(fold).collect())
}

/// The values of the fields that a body has, as they are written.
pub(super) struct Fields<'a> {
    values: [Option<&'a RawValue>; Field::COUNT],
    duplicate: Option<Field>,
    /// Of several members that ask the same, the last.
    noted: [Option<&'a RawValue>; Setting::COUNT],
    strange: Option<Box<str>>,
}

impl<'a> Fields<'a> {
    /// Reads the fields of a JSON object. `Err` if the text is anything else.
    pub(super) fn read(endpoint: Endpoint, text: &'a str) -> Result<Self, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let fields = deserializer.deserialize_map(FieldsVisitor(endpoint))?;
        deserializer.end()?;
        Ok(fields)
    }

    /// The name of a field that is there twice.
    pub(super) fn duplicate(&self) -> Option<&'static str> {
        self.duplicate.map(Field::name)
    }

    /// The name of the first member of which it is not known what it asks of a model.
    pub(super) fn strange(&self) -> Option<&str> {
        self.strange.as_deref()
    }

    /// The value of a member that asks this of the model, as it is written; null counts as absent.
    pub(super) fn noted(&self, setting: Setting) -> Option<&'a str> {
        self.noted[setting as usize].map(RawValue::get)
    }

    /// A field's value as it is written, null included.
    pub(super) fn written(&self, field: Field) -> Option<&'a str> {
        self.values[field as usize].map(RawValue::get)
    }

    /// A field's value as it is written; null counts as absent.
    pub(super) fn get(&self, field: Field) -> Option<&'a str> {
        self.written(field).filter(|value| *value != "null")
    }
}

/// What a top-level key is.
enum Key {
    Field(Field),
    Setting(Setting),
    Neutral,
    /// Its name, shortened.
    Strange(Box<str>),
}

/// Longest name of a strange member that is kept, in bytes.
const LONGEST_STRANGE: usize = 40;

impl Key {
    fn read(endpoint: Endpoint, key: &[u8]) -> Self {
        if let Some(field) = Field::at(endpoint, key) {
            return Key::Field(field);
        }
        match settings::other(endpoint, key) {
            Other::Setting(setting) => Key::Setting(setting),
            Other::Neutral => Key::Neutral,
            Other::Strange => {
                let kept = &key[..key.len().min(LONGEST_STRANGE)];
                Key::Strange(String::from_utf8_lossy(kept).into())
            }
        }
    }
}

struct FieldsVisitor(Endpoint);

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Fields {
            values: [None; Field::COUNT],
            duplicate: None,
            noted: [None; Setting::COUNT],
            strange: None,
        };
        while let Some(key) = map.next_key_seed(KeySeed(self.0))? {
            match key {
                Key::Field(field) => {
                    let value = map.next_value::<&'de RawValue>()?;
                    if fields.values[field as usize].replace(value).is_some() {
                        fields.duplicate.get_or_insert(field);
                    }
                }
                Key::Setting(setting) => {
                    let value = map.next_value::<&'de RawValue>()?;
                    if value.get() != "null" {
                        fields.noted[setting as usize] = Some(value);
                    }
                }
                Key::Neutral => {
                    map.next_value::<IgnoredAny>()?;
                }
                Key::Strange(name) => {
                    map.next_value::<IgnoredAny>()?;
                    fields.strange.get_or_insert(name);
                }
            }
        }
        Ok(fields)
    }
}

/// Reads a key as bytes: serde_json fails on half a surrogate pair where a text is asked for.
struct KeySeed(Endpoint);

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<Key, D::Error> {
        key.deserialize_bytes(self)
    }
}

impl Visitor<'_> for KeySeed {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_bytes<E: serde::de::Error>(self, key: &[u8]) -> Result<Key, E> {
        Ok(Key::read(self.0, key))
    }
}
