//! What a request asks for, in the terms that all wire formats share. Each dialect's file reads its own.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::text::TextSize;

/// A request, read.
#[derive(Debug, Default)]
pub(super) struct Ask<'a> {
    /// The model asked for.
    pub(super) model: Cow<'a, str>,
    /// Whether the answer is to come as a stream.
    pub(super) stream: bool,
    /// All text of the prompt.
    pub(super) text: TextSize,
    /// Most output tokens that are allowed.
    pub(super) max_output: Option<u64>,
    /// Whether the model is to reason.
    pub(super) wants_reasoning: bool,
    /// The tools as they were sent.
    pub(super) tools: Option<&'a RawValue>,
    /// The tool that must be called: its name, or `any`.
    pub(super) forced_tool: Option<Cow<'a, str>>,
    /// How many answers are wanted (OpenAI's `n`).
    pub(super) choices: u64,
    /// What only OpenAI's formats know.
    pub(super) openai: OpenAiAsk<'a>,
}

/// What only OpenAI's formats know.
#[derive(Debug, Default)]
pub(super) struct OpenAiAsk<'a> {
    /// `stream_options.include_usage`.
    pub(super) include_usage: bool,
    /// `stream_options.include_obfuscation` was switched off.
    pub(super) no_obfuscation: bool,
    /// Responses: `background`.
    pub(super) background: bool,
    /// Responses: `store` was switched off.
    pub(super) no_store: bool,
    /// Responses: `previous_response_id`.
    pub(super) previous: Option<Cow<'a, str>>,
}

/// A tool call that the model "makes".
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ToolCall {
    /// Name of the tool.
    pub(super) name: String,
    /// Its arguments: a JSON object that suits the tool's schema, as text.
    pub(super) arguments: String,
}

impl ToolCall {
    /// Calls the tool of that name, or the first one for `any`. `None` if the request offers no such tool.
    ///
    /// Reads the tools of every dialect: `name` may stand in the tool, in its `function`, or in one of its
    /// `functionDeclarations`.
    pub(super) fn choose(tools: &RawValue, wanted: &str) -> Option<Self> {
        let tools: Vec<Value> = serde_json::from_str(tools.get()).ok()?;
        tools
            .iter()
            .flat_map(|tool| {
                let declared = tool
                    .get("functionDeclarations")
                    .or_else(|| tool.get("function_declarations"));
                match declared.and_then(Value::as_array) {
                    Some(declared) => declared.iter().collect(),
                    None => vec![tool.get("function").unwrap_or(tool)],
                }
            })
            .find_map(|tool| {
                let name = tool.get("name")?.as_str()?;
                let schema = [
                    "input_schema",
                    "parameters",
                    "parametersJsonSchema",
                    "parameters_json_schema",
                    "inputSchema",
                ]
                .iter()
                .find_map(|key| tool.get(key));
                (wanted == "any" || wanted == name).then(|| ToolCall {
                    name: name.to_owned(),
                    arguments: sample(schema.unwrap_or(&Value::Null), 0, true).to_string(),
                })
            })
    }
}

/// How deep a schema is followed; recursive ones have no end.
const MAX_DEPTH: usize = 8;

/// A value that suits a JSON schema of the plain kind that tools use.
fn sample(schema: &Value, depth: usize, object_by_default: bool) -> Value {
    if let Some(first) = schema
        .get("enum")
        .and_then(Value::as_array)
        .and_then(|values| values.first())
    {
        return first.clone();
    }
    let kind = match schema.get("type") {
        Some(Value::String(kind)) => kind.to_ascii_lowercase(),
        Some(Value::Array(kinds)) => kinds
            .first()
            .and_then(Value::as_str)
            .unwrap_or("string")
            .to_ascii_lowercase(),
        _ if object_by_default || schema.get("properties").is_some() => "object".to_owned(),
        _ => "string".to_owned(),
    };
    match kind.as_str() {
        "object" => {
            let mut fields = serde_json::Map::new();
            if let (Some(properties), true) = (
                schema.get("properties").and_then(Value::as_object),
                depth < MAX_DEPTH,
            ) {
                for (name, property) in properties {
                    fields.insert(name.clone(), sample(property, depth + 1, false));
                }
            }
            Value::Object(fields)
        }
        "array" => Value::Array(Vec::new()),
        "integer" | "number" => 1.into(),
        "boolean" => true.into(),
        "null" => Value::Null,
        _ => "sample".into(),
    }
}

/// `tool_choice` of the OpenAI and Anthropic formats: a word, or an object that may name a tool.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum ToolChoice {
    /// `auto`, `none`, `required`.
    Word(String),
    /// `{"type":"tool","name":…}`, `{"type":"function","function":{"name":…}}` and the like.
    Object(ToolChoiceObject),
}

/// The object form of `tool_choice`.
#[derive(Debug, Deserialize)]
pub(super) struct ToolChoiceObject {
    #[serde(rename = "type", default)]
    kind: String,
    name: Option<String>,
    function: Option<NamedTool>,
}

#[derive(Debug, Deserialize)]
struct NamedTool {
    name: String,
}

impl ToolChoice {
    /// The tool that must be called: its name, or `any`; `None` where the model may choose.
    pub(super) fn forced<'a>(self) -> Option<Cow<'a, str>> {
        match self {
            ToolChoice::Word(word) => {
                (word == "required" || word == "any").then_some(Cow::Borrowed("any"))
            }
            ToolChoice::Object(object) => match object
                .name
                .or(object.function.map(|function| function.name))
            {
                Some(name) => Some(Cow::Owned(name)),
                None => (object.kind == "any" || object.kind == "required")
                    .then_some(Cow::Borrowed("any")),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn call(tools: &str, wanted: &str) -> Option<(String, Value)> {
        let raw: &RawValue = serde_json::from_str(tools).unwrap();
        ToolCall::choose(raw, wanted)
            .map(|call| (call.name, serde_json::from_str(&call.arguments).unwrap()))
    }

    #[test]
    fn tools_of_every_dialect_are_found_and_get_arguments_that_suit_them() {
        let schema = r#"{"type":"object","properties":{"city":{"type":"string"},"unit":{"enum":["C","F"]},"days":{"type":"integer"},"at":{"properties":{"x":{"type":"boolean"}}}}}"#;
        let arguments =
            serde_json::json!({"city": "sample", "unit": "C", "days": 1, "at": {"x": true}});
        for tools in [
            format!(r#"[{{"name":"w","input_schema":{schema}}}]"#),
            format!(r#"[{{"type":"function","function":{{"name":"w","parameters":{schema}}}}}]"#),
            format!(r#"[{{"type":"function","name":"w","parameters":{schema}}}]"#),
            format!(r#"[{{"functionDeclarations":[{{"name":"w","parameters":{schema}}}]}}]"#),
        ] {
            assert_eq!(
                call(&tools, "any"),
                Some(("w".to_owned(), arguments.clone())),
                "{tools}"
            );
        }
    }

    #[test]
    fn a_tool_is_found_by_its_name_and_an_unknown_one_is_not() {
        let tools = r#"[{"name":"a"},{"name":"b"}]"#;
        assert_eq!(
            call(tools, "b"),
            Some(("b".to_owned(), serde_json::json!({})))
        );
        assert_eq!(call(tools, "c"), None);
    }

    #[test]
    fn a_choice_forces_only_if_it_says_so() {
        for (choice, forced) in [
            (r#""auto""#, None),
            (r#""required""#, Some("any")),
            (r#"{"type":"any"}"#, Some("any")),
            (r#"{"type":"auto"}"#, None),
            (r#"{"type":"tool","name":"w"}"#, Some("w")),
            (r#"{"type":"function","function":{"name":"w"}}"#, Some("w")),
            (r#"{"type":"function","name":"w"}"#, Some("w")),
        ] {
            let read: ToolChoice = serde_json::from_str(choice).unwrap();
            assert_eq!(read.forced().as_deref(), forced, "{choice}");
        }
    }
}
