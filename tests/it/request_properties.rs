//! Properties of reading and changing request bodies: they hold for any bytes, and agree with a full parser.

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tollgate::llm::request::{Unparsed, decoded, peek};
use tollgate::llm::splice::{ask_for_usage, replace_model};
use tollgate::llm::wire::Endpoint;

const ENDPOINTS: [Endpoint; 12] = [
    Endpoint::Messages,
    Endpoint::CountTokens,
    Endpoint::ChatCompletions,
    Endpoint::Responses,
    Endpoint::Completions,
    Endpoint::Embeddings,
    Endpoint::Images,
    Endpoint::Audio,
    Endpoint::GenerateContent,
    Endpoint::OllamaChat,
    Endpoint::OllamaGenerate,
    Endpoint::EmbedContent,
];

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        let key = prop_oneof![
            prop::sample::select(vec![
                "role",
                "content",
                "type",
                "text",
                "source",
                "data",
                "image_url",
                "include_usage",
                "parts",
                "id",
            ])
            .prop_map(str::to_owned),
            ".{0,4}",
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Objects whose keys are often those that are read, with any values.
fn any_body() -> impl Strategy<Value = Map<String, Value>> {
    let key = prop_oneof![
        3 => prop::sample::select(vec![
            "model", "stream", "stream_options", "messages", "input", "prompt", "max_tokens",
            "metadata", "user", "tools", "contents", "system", "n",
        ])
        .prop_map(str::to_owned),
        // Not a known key in another case: two spellings of one are two fields, which is refused.
        1 => "_.{0,6}",
    ];
    prop::collection::btree_map(key, any_value(), 0..8)
        .prop_map(|members| members.into_iter().collect())
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for endpoint in ENDPOINTS {
            let _ = peek(endpoint, &bytes);
        }
        for encoding in ["gzip", "deflate", "br", "zstd", "br, zstd"] {
            let _ = decoded(Some(encoding), &bytes, 10_000);
        }
    }

    #[test]
    fn no_text_like_json_makes_it_panic(text in r#"(\{|\}|\[|\]|,|:|"model"|"messages"|"role"|"user"|"content"|"text"|"a\\n"|1|null| ){0,40}"#) {
        for endpoint in ENDPOINTS {
            let _ = peek(endpoint, text.as_bytes());
        }
    }

    #[test]
    fn it_reads_what_a_full_parser_reads(body in any_body(), pretty in any::<bool>()) {
        let text = if pretty {
            serde_json::to_string_pretty(&body)
        } else {
            serde_json::to_string(&body)
        }
        .expect("a value");
        for endpoint in ENDPOINTS {
            let peek = peek(endpoint, text.as_bytes()).expect("a JSON object");
            if !matches!(endpoint, Endpoint::GenerateContent | Endpoint::EmbedContent) {
                let model = peek.model.as_ref().map(|model| &*model.name);
                prop_assert_eq!(model, body.get("model").and_then(Value::as_str));
                if let Some(model) = &peek.model {
                    let written: Value = serde_json::from_str(&text[model.span.clone()]).expect("a value");
                    prop_assert_eq!(written.as_str(), Some(&*model.name));
                }
            }
            if endpoint == Endpoint::Messages {
                if let Some(stream) = body.get("stream").and_then(Value::as_bool) {
                    prop_assert_eq!(peek.stream, stream);
                }
                if let Some(cap) = body.get("max_tokens").and_then(Value::as_u64) {
                    prop_assert_eq!(peek.output_cap, Some(cap));
                }
                let tools = body.get("tools").and_then(Value::as_array).map_or(0, Vec::len);
                prop_assert_eq!(peek.tools as usize, tools);
                let session = body.get("metadata").and_then(|m| m.get("session_id")).and_then(Value::as_str);
                prop_assert_eq!(peek.stated.session_id.as_deref(), session);
            }
            prop_assert!(peek.prompt.text_bytes <= text.len() as u64 + 2);
        }
    }

    #[test]
    fn the_newest_user_text_is_the_last_users(
        turns in prop::collection::vec((prop::sample::select(vec!["user", "assistant", "system"]), "[^<]{0,30}", any::<bool>()), 0..8)
    ) {
        let messages: Vec<Value> = turns
            .iter()
            .map(|(role, text, blocks)| if *blocks {
                json!({"content": [{"type": "text", "text": text}], "role": role})
            } else {
                json!({"role": role, "content": text})
            })
            .collect();
        let body = json!({"messages": messages}).to_string();
        let expected = turns
            .iter()
            .rev()
            .find(|(role, text, _)| *role == "user" && !text.trim().is_empty())
            .map(|(_, text, _)| text.as_str());
        for endpoint in [Endpoint::Messages, Endpoint::ChatCompletions, Endpoint::OllamaChat] {
            let peek = peek(endpoint, body.as_bytes()).expect("a JSON object");
            prop_assert_eq!(peek.newest_user_text.as_deref(), expected);
            prop_assert_eq!(peek.messages as usize, turns.len());
        }
    }

    #[test]
    fn asking_for_usage_adds_that_member_and_changes_no_other_byte(body in any_body(), pretty in any::<bool>()) {
        let mut body = body;
        body.insert("stream".into(), json!(true));
        let text = if pretty {
            serde_json::to_string_pretty(&body)
        } else {
            serde_json::to_string(&body)
        }
        .expect("a value");
        // Read back, since printing and reading a float may change its last digit.
        let body: Map<String, Value> = serde_json::from_str(&text).expect("a value");
        let read = peek(Endpoint::ChatCompletions, text.as_bytes()).expect("a JSON object");
        let option = body.get("stream_options").cloned().unwrap_or(Value::Null);
        let usage = option.get("include_usage").cloned().unwrap_or(Value::Null);
        let understood = matches!(option, Value::Null | Value::Object(_))
            && matches!(usage, Value::Null | Value::Bool(false));
        let spliced = ask_for_usage(text.as_bytes(), &read);
        prop_assert_eq!(spliced.is_some(), understood);
        let Some(spliced) = spliced else { return Ok(()) };

        let mut expected = body;
        let mut option = option.as_object().cloned().unwrap_or_default();
        option.insert("include_usage".into(), json!(true));
        expected.insert("stream_options".into(), option.into());
        let parsed: Map<String, Value> = serde_json::from_slice(&spliced).expect("JSON still");
        prop_assert_eq!(parsed, expected);

        // One contiguous change: what precedes and follows it is as it was.
        let old = text.as_bytes();
        let prefix = old.iter().zip(&spliced).take_while(|(a, b)| a == b).count();
        let suffix = old[prefix..].iter().rev().zip(spliced[prefix..].iter().rev()).take_while(|(a, b)| a == b).count();
        let removed = &text[prefix..old.len() - suffix];
        let added = spliced.len() + removed.len() - old.len();
        let longest = r#""stream_options":{"include_usage":true},"#.len();
        prop_assert!(removed.len() <= "false".len() && added <= longest);
    }

    #[test]
    fn replacing_the_model_changes_only_its_value(mut body in any_body(), model in ".{0,20}", old in ".{0,20}") {
        body.insert("model".into(), old.into());
        let text = serde_json::to_string(&body).expect("a value");
        let read = peek(Endpoint::Responses, text.as_bytes()).expect("a JSON object");
        let span = read.model.as_ref().expect("a model").span.clone();
        let spliced = replace_model(text.as_bytes(), &read, &model).expect("a model");
        prop_assert!(spliced.starts_with(&text.as_bytes()[..span.start]));
        prop_assert!(spliced.ends_with(&text.as_bytes()[span.end..]));
        let mut expected: Map<String, Value> = serde_json::from_str(&text).expect("a value");
        expected.insert("model".into(), model.into());
        let parsed: Map<String, Value> = serde_json::from_slice(&spliced).expect("JSON still");
        prop_assert_eq!(parsed, expected);
    }

    #[test]
    fn what_serde_refuses_is_not_json_here(body in any_body(), cut in any::<prop::sample::Index>()) {
        let text = serde_json::to_string(&body).expect("a value");
        let mut end = cut.index(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        prop_assert_eq!(peek(Endpoint::Messages, &text.as_bytes()[..end]), Err(Unparsed::NotJson));
    }
}
