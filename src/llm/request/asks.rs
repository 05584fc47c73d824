//! Reads what a request demands of the model that serves it, beyond words: so that another model can be judged by it.
//!
//! Everything here is a fact of the body, found by the same pass as the rest. What tollgate has no word for is not
//! guessed: its name stands in [`Asks::strange`], and such a request is left to the model that it asks for.

use std::borrow::Cow;

use super::cursor::{Cursor, member, text_of, unescaped};
use super::declared::Declared;
use super::fields::{Field, Fields, is_gemini};
use super::history::History;
use super::settings::Setting;
use crate::llm::wire::Endpoint;

/// What a request demands. The default demands nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asks<'a> {
    /// The temperature is set.
    pub temperature: bool,
    /// How tokens are drawn is set otherwise: top-p, top-k and their likes.
    pub sampling: bool,
    /// Tokens are favoured or punished: frequency and presence penalty, `logit_bias`.
    pub penalties: bool,
    /// Texts at which the answer stops are given.
    pub stop: bool,
    /// The probabilities of tokens are asked for.
    pub logprobs: bool,
    /// Whether a tool must be called.
    pub tool_choice: ToolChoice,
    /// The types of the tools that the provider defines; `mcp` for the servers that it calls.
    pub provider_tools: Vec<Cow<'a, str>>,
    /// What is said about thinking, apart from how much effort it is worth.
    pub thinking: Option<ThinkingAsked<'a>>,
    /// The effort that is asked for, as it is spelled.
    pub effort: Option<Cow<'a, str>>,
    /// The settings for reasoning are an object, `reasoning` (OpenAI Responses, OpenRouter).
    pub reasoning_object: bool,
    /// The answer is to be JSON.
    pub structured: bool,
    /// And it is to follow a schema.
    pub schema: bool,
    /// How wordy the answer is to be is set (OpenAI's `verbosity`).
    pub verbosity: bool,
    /// The provider is to tidy up the conversation (Anthropic's `context_management`).
    pub context_management: bool,
    /// The answer is to carry its reasoning in encrypted form (OpenAI Responses).
    pub encrypted_reasoning: bool,
    /// The provider keeps the answer, so that the next request may refer to it there (OpenAI Responses, unless told not to).
    pub kept: bool,
    /// The output cap stands under OpenAI's old name, `max_tokens`.
    pub old_cap: bool,
    /// What the conversation so far holds.
    pub history: History,
    /// A part of the request that the provider keeps, for this model: a previous response, a thread, cached content.
    pub held: Option<&'static str>,
    /// Files are referred to that only the provider can read, or fetch.
    pub files_by_reference: bool,
    /// The first part of the body of which tollgate does not know what it asks of a model.
    pub strange: Option<Cow<'a, str>>,
}

/// Whether the model must call a tool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// It may, or must not.
    #[default]
    Free,
    /// It must call one, or a certain one.
    Forced,
}

/// What a request says about thinking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ThinkingAsked<'a> {
    /// Not to think (`disabled`, `think: false`).
    Off,
    /// The model decides (Anthropic's `adaptive`, Ollama's `think: true`).
    Adaptive,
    /// Only between calls of tools (Anthropic's `between_tools`).
    BetweenTools,
    /// To think, for at most so many tokens (Anthropic's `enabled`).
    Budget(u64),
    /// Google's `thinkingConfig`.
    Google {
        /// `thinkingBudget`: −1 lets the model decide, 0 is none.
        budget: Option<i64>,
        /// `thinkingLevel`.
        level: Option<Cow<'a, str>>,
    },
}

impl<'a> Asks<'a> {
    pub(super) fn read(
        endpoint: Endpoint,
        fields: &Fields<'a>,
        declared: &Declared<'a>,
        history: History,
        strange_part: Option<Box<str>>,
        files_by_reference: bool,
    ) -> Self {
        let mut asks = Self {
            temperature: fields.noted(Setting::Temperature).is_some(),
            sampling: fields.noted(Setting::Sampling).is_some(),
            penalties: fields.noted(Setting::Penalties).is_some(),
            stop: fields
                .noted(Setting::Stop)
                .is_some_and(|raw| !matches!(raw, "[]" | "\"\"")),
            logprobs: fields
                .noted(Setting::Logprobs)
                .is_some_and(|raw| !matches!(raw, "false" | "0")),
            provider_tools: declared.defined_kinds.clone(),
            verbosity: fields.noted(Setting::Verbosity).is_some(),
            context_management: fields.noted(Setting::ContextManagement).is_some(),
            kept: endpoint == Endpoint::Responses && fields.noted(Setting::Store) != Some("false"),
            old_cap: endpoint == Endpoint::ChatCompletions
                && fields.get(Field::MaxTokens).is_some(),
            history,
            held: held(fields),
            files_by_reference,
            strange: fields.strange().map(|name| Cow::Owned(name.to_owned())),
            ..Self::default()
        };
        if let Some(part) = strange_part {
            asks.find_strange(Cow::Owned(part.into()));
        }
        if let Some(raw) = fields.noted(Setting::ToolChoice) {
            asks.read_tool_choice(raw);
        }
        if let Some(raw) = fields.get(Field::Format) {
            asks.read_format(endpoint, raw);
        }
        if let Some(raw) = fields.get(Field::Thinking) {
            asks.read_thinking(raw);
        }
        if let Some(raw) = fields.get(Field::Reasoning) {
            asks.read_reasoning(raw);
        }
        if let Some(raw) = fields.get(Field::ReasoningEffort) {
            asks.effort = text_of(raw).or(Some(Cow::Borrowed("")));
        }
        if let Some(raw) = fields.noted(Setting::Include) {
            asks.read_include(raw);
        }
        if is_gemini(endpoint)
            && let Some(raw) = fields.get(Field::GenerationConfig)
        {
            asks.read_generation_config(raw);
        }
        asks
    }

    fn find_strange(&mut self, name: Cow<'a, str>) {
        self.strange.get_or_insert(name);
    }

    /// OpenAI's words and objects, Anthropic's objects, Google's `functionCallingConfig`.
    fn read_tool_choice(&mut self, raw: &'a str) {
        if let Some(config) =
            member(raw, "functionCallingConfig").or_else(|| member(raw, "function_calling_config"))
        {
            match member(config, "mode").and_then(text_of).as_deref() {
                None | Some("AUTO" | "NONE" | "MODE_UNSPECIFIED") => {}
                Some("ANY") => self.tool_choice = ToolChoice::Forced,
                Some(_) => self.find_strange(Cow::Borrowed("toolConfig")),
            }
            return;
        }
        let word = text_of(raw).or_else(|| member(raw, "type").and_then(text_of));
        match word.as_deref() {
            Some("auto" | "none") => {}
            Some("any" | "required" | "tool" | "function" | "custom") => {
                self.tool_choice = ToolChoice::Forced;
            }
            // The old `function_call: {"name": …}`.
            None if member(raw, "name").is_some() => self.tool_choice = ToolChoice::Forced,
            None if raw == "{}" => {}
            _ => self.find_strange(Cow::Borrowed("tool_choice")),
        }
    }

    /// Anthropic's `output_config`, OpenAI's `response_format` and `text`, Ollama's `format`.
    fn read_format(&mut self, endpoint: Endpoint, raw: &'a str) {
        match endpoint {
            Endpoint::Messages | Endpoint::CountTokens | Endpoint::Responses => {
                each_member(raw, |key, value| match key {
                    "format" => self.read_format_type(value),
                    "effort" => self.effort = text_of(value).or(Some(Cow::Borrowed(""))),
                    "verbosity" => self.verbosity = true,
                    other => self.find_strange(Cow::Owned(other.to_owned())),
                });
            }
            Endpoint::ChatCompletions => self.read_format_type(raw),
            _ => {
                self.structured = raw != "\"\"";
                self.schema = raw.starts_with('{');
            }
        }
    }

    fn read_format_type(&mut self, raw: &'a str) {
        let kind = member(raw, "type");
        self.structured |= kind != Some("\"text\"");
        self.schema |= !matches!(kind, Some("\"text\"" | "\"json_object\""));
    }

    /// Anthropic's `thinking` and Ollama's `think`.
    fn read_thinking(&mut self, raw: &'a str) {
        match raw {
            "true" => self.thinking = Some(ThinkingAsked::Adaptive),
            "false" => self.thinking = Some(ThinkingAsked::Off),
            _ if raw.starts_with('"') => self.effort = text_of(raw),
            _ => {
                each_member(raw, |key, _| {
                    if !matches!(key, "type" | "budget_tokens" | "display") {
                        self.find_strange(Cow::Owned(format!("thinking.{key}")));
                    }
                });
                let budget = member(raw, "budget_tokens").and_then(|raw| raw.parse().ok());
                match (member(raw, "type").and_then(text_of).as_deref(), budget) {
                    (Some("disabled"), _) => self.thinking = Some(ThinkingAsked::Off),
                    (Some("adaptive"), _) => self.thinking = Some(ThinkingAsked::Adaptive),
                    (Some("between_tools"), _) => self.thinking = Some(ThinkingAsked::BetweenTools),
                    (Some("enabled"), Some(budget)) => {
                        self.thinking = Some(ThinkingAsked::Budget(budget));
                    }
                    _ => self.find_strange(Cow::Borrowed("thinking")),
                }
            }
        }
    }

    /// OpenAI Responses' `reasoning`, and OpenRouter's.
    fn read_reasoning(&mut self, raw: &'a str) {
        self.reasoning_object = true;
        each_member(raw, |key, value| match key {
            "effort" => self.effort = text_of(value).or(Some(Cow::Borrowed(""))),
            "summary" | "generate_summary" => {}
            other => self.find_strange(Cow::Owned(format!("reasoning.{other}"))),
        });
    }

    fn read_include(&mut self, raw: &'a str) {
        let mut cursor = Cursor::new(raw);
        if cursor.peek() != b'[' {
            return self.find_strange(Cow::Borrowed("include"));
        }
        cursor.open();
        while cursor.element() {
            match cursor.skip() {
                "\"reasoning.encrypted_content\"" => self.encrypted_reasoning = true,
                _ => self.find_strange(Cow::Borrowed("include")),
            }
        }
    }

    fn read_generation_config(&mut self, raw: &'a str) {
        each_member(raw, |key, value| match key {
            "temperature" => self.temperature = true,
            "topP" | "top_p" | "topK" | "top_k" => self.sampling = true,
            "presencePenalty" | "presence_penalty" | "frequencyPenalty" | "frequency_penalty" => {
                self.penalties = true;
            }
            "stopSequences" | "stop_sequences" => self.stop = value != "[]",
            "responseLogprobs" | "response_logprobs" => self.logprobs |= value != "false",
            "logprobs" => self.logprobs = true,
            "responseMimeType" | "response_mime_type" => {
                self.structured |= value != "\"text/plain\"";
            }
            "responseSchema"
            | "response_schema"
            | "responseJsonSchema"
            | "response_json_schema" => (self.structured, self.schema) = (true, true),
            "thinkingConfig" | "thinking_config" => self.read_google_thinking(value),
            "maxOutputTokens" | "max_output_tokens" | "candidateCount" | "candidate_count"
            | "seed" => {}
            other => self.find_strange(Cow::Owned(format!("generationConfig.{other}"))),
        });
    }

    fn read_google_thinking(&mut self, raw: &'a str) {
        let (mut budget, mut level) = (None, None);
        each_member(raw, |key, value| match key {
            "thinkingBudget" | "thinking_budget" => {
                budget = value.parse().ok();
                if budget.is_none() {
                    self.find_strange(Cow::Borrowed("thinkingBudget"));
                }
            }
            "thinkingLevel" | "thinking_level" => level = text_of(value),
            "includeThoughts" | "include_thoughts" => {}
            other => self.find_strange(Cow::Owned(format!("thinkingConfig.{other}"))),
        });
        self.thinking = Some(ThinkingAsked::Google { budget, level });
    }
}

/// Calls for each member of an object that is not null, with its key unescaped.
fn each_member<'a>(raw: &'a str, mut read: impl FnMut(&str, &'a str)) {
    let mut cursor = Cursor::new(raw);
    if cursor.peek() != b'{' {
        return;
    }
    cursor.open();
    while let Some(key) = cursor.key() {
        cursor.peek();
        let value = cursor.skip();
        if value != "null" {
            read(&unescaped(&key, usize::MAX), value);
        }
    }
}

/// What the provider keeps for this request, by the name that people know.
fn held(fields: &Fields<'_>) -> Option<&'static str> {
    const HELD: [(Field, &str); 8] = [
        (Field::PreviousResponse, "a previous response"),
        (Field::Conversation, "a conversation"),
        (Field::Template, "a prompt template"),
        (Field::Preset, "a preset"),
        (Field::Thread, "a thread"),
        (Field::CachedContent, "cached content"),
        (Field::Container, "a container"),
        (Field::Context, "the conversation in token ids"),
    ];
    HELD.iter()
        .find(|(field, _)| fields.get(*field).is_some_and(|raw| raw != "\"\""))
        .map(|(_, what)| *what)
}
