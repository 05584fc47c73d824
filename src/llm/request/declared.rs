//! Names the tools that a body declares, and the models that it names besides its own.
//!
//! A function counts by its name. A tool of the provider's own counts by its type (`web_search_20250305`,
//! `code_interpreter`, `googleSearch`) and by its name where it has one; an MCP server as `mcp` and by its own name. What
//! is declared without a readable name counts as the empty name, so that nothing is declared unseen. Members that are
//! there twice count twice.

use std::borrow::Cow;

use super::cursor::{Cursor, member, unescaped};
use super::fields::{Field, Fields, folded, is_gemini};
use crate::llm::wire::Endpoint;

/// How deep tools may lie inside tools (OpenAI's namespaces are one level); below, they have no readable name.
const MAX_DEPTH: u32 = 8;

/// Room for the tools of a usual agent (Claude Code declares 24).
const USUAL_TOOLS: usize = 32;

/// Beginnings of the types that the provider defines and the client runs, at Anthropic and OpenAI. All other types count
/// as run by the provider.
const CLIENT_RUNS: [&str; 6] = [
    "bash_",
    "text_editor_",
    "computer",
    "memory_",
    "local_shell",
    "apply_patch",
];

/// What a body declares.
#[derive(Debug, Default)]
pub(super) struct Declared<'a> {
    /// The names of all tools, in the body's order.
    pub(super) names: Vec<Cow<'a, str>>,
    /// Models besides the request's own: to fall back to, or that a tool uses.
    pub(super) models: Vec<Cow<'a, str>>,
    /// How many tools and functions are in the lists for them.
    pub(super) count: u32,
    /// How many of them the provider defines, so that it adds its own text to the prompt.
    pub(super) defined: u32,
    /// The types of those that the provider defines.
    pub(super) defined_kinds: Vec<Cow<'a, str>>,
    /// The provider runs some of them, and feeds what they find to the model.
    pub(super) provider_runs: bool,
}

impl<'a> Declared<'a> {
    /// Reads what the fields declare.
    pub(super) fn read(endpoint: Endpoint, fields: &Fields<'a>) -> Self {
        let mut declared = Self::default();
        for raw in [Field::Tools, Field::Functions]
            .into_iter()
            .filter_map(|field| fields.get(field))
        {
            declared.names.reserve(USUAL_TOOLS);
            let count = entries(raw, |cursor| {
                if is_gemini(endpoint) {
                    declared.gemini_tool(cursor);
                } else {
                    declared.tool(cursor, 0);
                }
            });
            declared.count = declared.count.saturating_add(count);
        }
        if let Some(raw) = fields.get(Field::McpServers) {
            entries(raw, |cursor| declared.server(cursor, &["name"]));
        }
        if let Some(raw) = fields.get(Field::Plugins) {
            entries(raw, |cursor| {
                declared.named(cursor, &["id"]);
                declared.provider_runs = true;
            });
        }
        let live_search = fields.get(Field::LiveSearch);
        let live_search = live_search.is_some_and(|raw| member(raw, "mode") != Some("\"off\""));
        if live_search || fields.get(Field::WebSearch).is_some() {
            declared.provider_tool(Cow::Borrowed("web_search"));
        }
        for raw in [Field::Models, Field::Fallbacks]
            .into_iter()
            .filter_map(|field| fields.get(field))
        {
            entries(raw, |cursor| declared.model(cursor));
        }
        declared
    }

    /// Notes what the model's name asks for besides the model: `:online` is OpenRouter's short form of its web plugin.
    pub(super) fn note_model(&mut self, name: &str) {
        const SUFFIX: &[u8] = b":online";
        let end = name.as_bytes().last_chunk::<{ SUFFIX.len() }>();
        if end.is_some_and(|end| end.eq_ignore_ascii_case(SUFFIX)) {
            self.provider_tool(Cow::Borrowed("web"));
        }
    }

    fn provider_tool(&mut self, name: Cow<'a, str>) {
        self.defined_kinds.push(name.clone());
        self.names.push(name);
        self.defined = self.defined.saturating_add(1);
        self.provider_runs = true;
    }

    /// Reads a tool in the formats of Anthropic, OpenAI and Ollama.
    fn tool(&mut self, cursor: &mut Cursor<'a>, depth: u32) {
        let before = self.names.len();
        if cursor.peek() != b'{' || depth >= MAX_DEPTH {
            self.text(cursor);
            return;
        }
        cursor.open();
        while let Some(key) = cursor.key() {
            let key = in_lower_case(key);
            match (&*key, cursor.peek()) {
                ("type", b'"') => {
                    let kind = unescaped(cursor.string(), usize::MAX);
                    self.kind(kind);
                }
                ("type" | "name" | "server_label" | "mcp_server_name", _) => self.text(cursor),
                ("function" | "custom", b'{') => self.named(cursor, &["name"]),
                ("tools", b'[') => {
                    cursor.open();
                    while cursor.element() {
                        self.tool(cursor, depth + 1);
                    }
                }
                ("model", _) => self.model(cursor),
                _ => {
                    cursor.skip();
                }
            }
        }
        if self.names.len() == before {
            self.names.push(Cow::Borrowed(""));
        }
    }

    /// Notes a tool's type, unless it says only that the client describes the tool.
    fn kind(&mut self, kind: Cow<'a, str>) {
        match &*kind {
            "function" | "custom" | "namespace" => {}
            "mcp" | "mcp_toolset" => self.provider_tool(Cow::Borrowed("mcp")),
            other if CLIENT_RUNS.iter().any(|start| other.starts_with(start)) => {
                self.defined_kinds.push(kind.clone());
                self.names.push(kind);
                self.defined = self.defined.saturating_add(1);
            }
            _ => self.provider_tool(kind),
        }
    }

    /// Reads a tool in Gemini's format: function declarations, or a tool of Google's own as a key.
    fn gemini_tool(&mut self, cursor: &mut Cursor<'a>) {
        if cursor.peek() != b'{' {
            self.text(cursor);
            return;
        }
        cursor.open();
        while let Some(key) = cursor.key() {
            match (&*key, cursor.peek()) {
                ("functionDeclarations" | "function_declarations", b'[') => {
                    cursor.open();
                    while cursor.element() {
                        self.named(cursor, &["name"]);
                    }
                }
                ("functionDeclarations" | "function_declarations", b'{') => {
                    self.named(cursor, &["name"]);
                }
                ("mcpServers" | "mcp_servers", b'[') => {
                    cursor.open();
                    while cursor.element() {
                        self.server(cursor, &["name"]);
                    }
                }
                _ => {
                    if cursor.skip() != "null" {
                        self.google_tool(in_camel_case(key));
                    }
                }
            }
        }
    }

    fn google_tool(&mut self, name: Cow<'a, str>) {
        if name == "computerUse" {
            self.defined_kinds.push(name.clone());
            self.names.push(name);
            self.defined = self.defined.saturating_add(1);
        } else {
            self.provider_tool(name);
        }
    }

    /// Reads an MCP server.
    fn server(&mut self, cursor: &mut Cursor<'a>, names: &[&str]) {
        self.provider_tool(Cow::Borrowed("mcp"));
        self.named(cursor, names);
    }

    /// Reads an object that is named by one of its members.
    fn named(&mut self, cursor: &mut Cursor<'a>, names: &[&str]) {
        if cursor.peek() != b'{' {
            self.text(cursor);
            return;
        }
        let before = self.names.len();
        cursor.open();
        while let Some(key) = cursor.key() {
            cursor.peek();
            if names.contains(&&*in_lower_case(key)) {
                self.text(cursor);
            } else {
                cursor.skip();
            }
        }
        if self.names.len() == before {
            self.names.push(Cow::Borrowed(""));
        }
    }

    /// Takes a text for a name; anything else but null is a name that cannot be read.
    fn text(&mut self, cursor: &mut Cursor<'a>) {
        if cursor.peek() == b'"' {
            self.names.push(unescaped(cursor.string(), usize::MAX));
        } else if cursor.skip() != "null" {
            self.names.push(Cow::Borrowed(""));
        }
    }

    /// Reads a further model: its name, or an object that names it.
    fn model(&mut self, cursor: &mut Cursor<'a>) {
        match cursor.peek() {
            b'"' => self.models.push(unescaped(cursor.string(), usize::MAX)),
            b'{' => {
                let before = self.models.len();
                cursor.open();
                while let Some(key) = cursor.key() {
                    match (&*in_lower_case(key), cursor.peek()) {
                        ("model", b'"') => {
                            self.models.push(unescaped(cursor.string(), usize::MAX));
                        }
                        _ => {
                            cursor.skip();
                        }
                    }
                }
                if self.models.len() == before {
                    self.models.push(Cow::Borrowed(""));
                }
            }
            _ => {
                if cursor.skip() != "null" {
                    self.models.push(Cow::Borrowed(""));
                }
            }
        }
    }
}

/// Reads each element of a list, or the one value that stands in a list's place. Returns how many elements the list has.
pub(super) fn entries<'a>(raw: &'a str, mut read: impl FnMut(&mut Cursor<'a>)) -> u32 {
    let mut cursor = Cursor::new(raw);
    if cursor.peek() != b'[' {
        read(&mut cursor);
        return 0;
    }
    cursor.open();
    let mut count = 0_u32;
    while cursor.element() {
        read(&mut cursor);
        count = count.saturating_add(1);
    }
    count
}

fn in_lower_case(key: Cow<'_, str>) -> Cow<'_, str> {
    folded(key.as_bytes()).map_or(key, Cow::Owned)
}

/// Google's names in the spelling of its documents: `google_search` is `googleSearch`.
fn in_camel_case(key: Cow<'_, str>) -> Cow<'_, str> {
    if !key.contains('_') {
        return key;
    }
    let mut parts = key.split('_');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut letters = part.chars();
        name.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        name.push_str(letters.as_str());
    }
    Cow::Owned(name)
}
