//! What policies and hard budgets need to know of a body, in every wire format, however it is written: declared tools,
//! further models, caps of any value, input that the size does not show.

use tollgate::llm::estimate::worst_case_input;
use tollgate::llm::request::{Peek, Unparsed, peek};
use tollgate::llm::wire::Endpoint;

fn read(endpoint: Endpoint, body: &str) -> Peek<'_> {
    peek(endpoint, body.as_bytes()).unwrap_or_else(|why| panic!("{why:?}: {body}"))
}

#[test]
fn tools_are_named_in_every_format() {
    use Endpoint::{ChatCompletions, GenerateContent, Messages, OllamaChat, Responses};
    for (endpoint, body, names) in [
        (
            Messages,
            r#"{"tools":[{"name":"Read","description":"a \"name\":\"x\"","input_schema":{"name":"inner","type":"object"}},
                {"type":"custom","name":"Edit"},{"type":"web_search_20250305","name":"web_search"},
                {"name":"bash","type":"bash_20250124"},{"type":"mcp_toolset","mcp_server_name":"docs"}],
                "mcp_servers":[{"type":"url","url":"https://x/","name":"docs"}],
                "tool_choice":{"type":"tool","name":"Forced"}}"#,
            &[
                "Read",
                "Edit",
                "web_search_20250305",
                "web_search",
                "bash",
                "bash_20250124",
                "mcp",
                "docs",
                "mcp",
                "docs",
            ][..],
        ),
        (
            ChatCompletions,
            r#"{"tools":[{"type":"function","function":{"name":"read","parameters":{"name":"inner"}}},
                {"type":"custom","custom":{"name":"grep"}},{"type":"web_search"}],
                "functions":[{"name":"old"}],"tool_choice":{"type":"function","function":{"name":"forced"}},
                "function_call":{"name":"forced"}}"#,
            &["read", "grep", "web_search", "old"],
        ),
        (
            ChatCompletions,
            r#"{"model":"x/y:Online","web_search_options":{},"plugins":[{"id":"web","max_results":3}]}"#,
            &["web", "web_search", "web"],
        ),
        (
            ChatCompletions,
            r#"{"search_parameters":{"mode":"auto"}}"#,
            &["web_search"],
        ),
        (
            ChatCompletions,
            r#"{"search_parameters":{"mode":"off"}}"#,
            &[],
        ),
        (
            Responses,
            r#"{"tools":[{"type":"function","name":"shell","parameters":{}},{"type":"custom","name":"apply_patch"},
                {"type":"web_search_preview_2025_03_11"},{"type":"file_search","vector_store_ids":["v"]},
                {"type":"code_interpreter","container":{"type":"auto"}},{"type":"computer_use_preview"},
                {"type":"mcp","server_label":"deepwiki","server_url":"https://x/","allowed_tools":["ask"]},
                {"type":"namespace","name":"crm","tools":[{"type":"function","name":"look_up"}]}]}"#,
            &[
                "shell",
                "apply_patch",
                "web_search_preview_2025_03_11",
                "file_search",
                "code_interpreter",
                "computer_use_preview",
                "mcp",
                "deepwiki",
                "crm",
                "look_up",
            ],
        ),
        (
            GenerateContent,
            r#"{"tools":[{"functionDeclarations":[{"name":"a","parameters":{"name":"inner"}},{"name":"b"}]},
                {"function_declarations":[{"name":"c"}]},{"googleSearch":{}},{"google_search":{},"codeExecution":{}},
                {"urlContext":null},{"computer_use":{}},{}],"toolConfig":{"functionCallingConfig":{"allowedFunctionNames":["f"]}}}"#,
            &[
                "a",
                "b",
                "c",
                "googleSearch",
                "googleSearch",
                "codeExecution",
                "computerUse",
            ],
        ),
        (
            OllamaChat,
            r#"{"tools":[{"type":"function","function":{"name":"read"}},{"function":{"name":"write"}}]}"#,
            &["read", "write"],
        ),
    ] {
        let mut found = read(endpoint, body).declared;
        let mut names = names.to_vec();
        // In no promised order between the fields.
        found.sort();
        names.sort_unstable();
        assert_eq!(found, names, "{body}");
    }
}

#[test]
fn no_spelling_hides_a_tool() {
    use Endpoint::{ChatCompletions, GenerateContent, Messages, OllamaChat};
    for (endpoint, body, name) in [
        (
            Messages,
            r#"{"tools":[{"name":"\u0057eb\u0053earch"}]}"#,
            "WebSearch",
        ),
        (Messages, r#"{"tools":[{"n\u0061me":"Bash"}]}"#, "Bash"),
        (Messages, r#"{"t\u006fols":[{"name":"Bash"}]}"#, "Bash"),
        // Two names, of which the provider may take either.
        (
            Messages,
            r#"{"tools":[{"name":"Bash","name":"Read"}]}"#,
            "Bash",
        ),
        (
            Messages,
            r#"{"tools":[{"name":"Read","name":"Bash"}]}"#,
            "Bash",
        ),
        (
            ChatCompletions,
            r#"{"tools":[{"type":"function","function":{"name":"read"},"function":{"name":"bash"}}]}"#,
            "bash",
        ),
        (
            ChatCompletions,
            r#"{"tools":[{"type":"function","type":"web_search","name":"read"}]}"#,
            "web_search",
        ),
        // Servers in Go take keys in any case, and fold these two letters.
        (
            OllamaChat,
            r#"{"Tools":[{"Function":{"NAME":"bash"}}]}"#,
            "bash",
        ),
        (
            OllamaChat,
            r#"{"toolſ":[{"function":{"name":"bash"}}]}"#,
            "bash",
        ),
        (
            ChatCompletions,
            r#"{"TOOLS":[{"TYPE":"web_search"}]}"#,
            "web_search",
        ),
        // Shapes that nobody documents.
        (Messages, r#"{"tools":{"name":"Bash"}}"#, "Bash"),
        (Messages, r#"{"tools":["Bash"]}"#, "Bash"),
        (Messages, r#"{"tools":[{"name":["Bash"]}]}"#, ""),
        (Messages, r#"{"tools":[{}]}"#, ""),
        (Messages, r#"{"tools":[7]}"#, ""),
        (Messages, r#"{"tools":[[{"name":"Bash"}]]}"#, ""),
        (
            ChatCompletions,
            r#"{"tools":[{"type":"function","function":"bash"}]}"#,
            "",
        ),
        (
            GenerateContent,
            r#"{"tools":{"googleSearch":{}}}"#,
            "googleSearch",
        ),
        (
            GenerateContent,
            r#"{"tools":[{"functionDeclarations":{"name":"f"}}]}"#,
            "f",
        ),
        (
            GenerateContent,
            r#"{"tools":[{"functionDeclarations":[{}]}]}"#,
            "",
        ),
    ] {
        let found = read(endpoint, body).declared;
        assert!(found.iter().any(|found| found == name), "{body}: {found:?}");
    }
    // Nested without end: counted, though not by name.
    let deep = format!(
        r#"{{"tools":[{}{{"name":"Bash"}}{}]}}"#,
        r#"{"type":"namespace","name":"n","tools":["#.repeat(500),
        "]}".repeat(500)
    );
    let found = read(Endpoint::Responses, &deep).declared;
    assert!(found.contains(&"".into()), "{found:?}");
    for (endpoint, body) in [
        (Messages, r#"{"tools":[],"t\u006fols":[{"name":"Bash"}]}"#),
        (Messages, r#"{"tools":null,"Tools":[{"name":"Bash"}]}"#),
        (OllamaChat, r#"{"tools":[],"toolſ":[{"name":"Bash"}]}"#),
        (
            GenerateContent,
            r#"{"tools":[],"tools":[{"googleSearch":{}}]}"#,
        ),
    ] {
        assert_eq!(
            peek(endpoint, body.as_bytes()),
            Err(Unparsed::DuplicateField("tools"))
        );
    }
}

#[test]
fn models_besides_the_requests_own_are_named() {
    for (endpoint, body, models) in [
        (
            Endpoint::ChatCompletions,
            r#"{"model":"a","models":["b","\u0063"]}"#,
            &["b", "c"][..],
        ),
        (
            Endpoint::Messages,
            r#"{"model":"a","fallbacks":[{"model":"b","max_tokens":9},{"max_tokens":1},7]}"#,
            &["b", "", ""],
        ),
        (
            Endpoint::Messages,
            r#"{"tools":[{"type":"advisor_20260301","name":"advisor","model":"b"}]}"#,
            &["b"],
        ),
        (
            Endpoint::Responses,
            r#"{"tools":[{"type":"image_generation","model":"gpt-image-2"}]}"#,
            &["gpt-image-2"],
        ),
        (
            Endpoint::ChatCompletions,
            r#"{"model":"a","fallbacks":null}"#,
            &[],
        ),
    ] {
        assert_eq!(read(endpoint, body).other_models, models, "{body}");
    }
}

/// Every format's way to write a cap, with a place for the value.
const CAPS: [(Endpoint, &str); 8] = [
    (Endpoint::Messages, r#"{"max_tokens":?}"#),
    (Endpoint::ChatCompletions, r#"{"max_tokens":?}"#),
    (Endpoint::ChatCompletions, r#"{"max_completion_tokens":?}"#),
    (Endpoint::Completions, r#"{"max_tokens":?}"#),
    (Endpoint::Responses, r#"{"max_output_tokens":?}"#),
    (
        Endpoint::GenerateContent,
        r#"{"generationConfig":{"maxOutputTokens":?}}"#,
    ),
    (Endpoint::OllamaChat, r#"{"options":{"num_predict":?}}"#),
    (Endpoint::OllamaGenerate, r#"{"options":{"num_predict":?}}"#),
];

#[test]
fn caps_of_any_value_are_read_and_none_overflows() {
    for (endpoint, body) in CAPS {
        for (value, cap) in [
            ("9223372036854775808", Some(1 << 63)),
            ("18446744073709551616", Some(u64::MAX)),
            ("1e400", Some(u64::MAX)),
            ("\"Infinity\"", Some(u64::MAX)),
            ("-1", None),
            ("-9223372036854775809", None),
            ("-1e400", None),
            ("null", None),
            ("true", None),
            ("\"many\"", None),
            ("\"NaN\"", None),
            ("[5]", None),
            ("\"\"", None),
            ("0", Some(0)),
            ("-0", Some(0)),
            ("2.0", Some(2)),
            ("2.1", Some(3)),
            ("0.0001", Some(1)),
            ("\"50\"", Some(50)),
            ("\"\\u00350\"", Some(50)),
            ("1E3", Some(1_000)),
        ] {
            let body = body.replace('?', value);
            assert_eq!(read(endpoint, &body).output_cap, cap, "{body}");
        }
    }
}

#[test]
fn a_cap_is_not_lowered_by_a_name_that_the_endpoint_does_not_know_or_a_second_value() {
    let cap = |endpoint, body| read(endpoint, body).output_cap;
    assert_eq!(
        cap(
            Endpoint::Responses,
            r#"{"max_tokens":5,"max_completion_tokens":5}"#
        ),
        None
    );
    assert_eq!(
        cap(Endpoint::ChatCompletions, r#"{"max_output_tokens":5}"#),
        None
    );
    assert_eq!(
        cap(
            Endpoint::Messages,
            r#"{"max_tokens":5,"fallbacks":[{"model":"b","max_tokens":900}]}"#
        ),
        Some(900)
    );
    assert_eq!(
        cap(
            Endpoint::ChatCompletions,
            r#"{"max_tokens":5,"max_completion_tokens":900}"#
        ),
        Some(900)
    );
    for (endpoint, body, name) in [
        (
            Endpoint::GenerateContent,
            r#"{"generationConfig":{"maxOutputTokens":null,"max_output_tokens":5}}"#,
            "generationConfig.maxOutputTokens",
        ),
        (
            Endpoint::GenerateContent,
            r#"{"generationConfig":{"candidateCount":8,"candidateCount":1}}"#,
            "generationConfig.candidateCount",
        ),
        (
            Endpoint::OllamaChat,
            r#"{"options":{"num_predict":5,"num_predict":-1}}"#,
            "options.num_predict",
        ),
        (
            Endpoint::ChatCompletions,
            r#"{"max_tokens":5,"Max_Tokens":9}"#,
            "max_tokens",
        ),
    ] {
        assert_eq!(
            peek(endpoint, body.as_bytes()),
            Err(Unparsed::DuplicateField(name)),
            "{body}"
        );
    }
}

#[test]
fn answers_are_counted_for_every_text_that_is_to_be_completed() {
    for (endpoint, body, choices) in [
        (Endpoint::ChatCompletions, r#"{"n":3}"#, 3),
        (
            Endpoint::ChatCompletions,
            r#"{"n":9223372036854775808}"#,
            u32::MAX,
        ),
        (Endpoint::ChatCompletions, r#"{"n":-4}"#, 1),
        (Endpoint::ChatCompletions, r#"{"n":1.5}"#, 2),
        (
            Endpoint::Completions,
            r#"{"prompt":["a","b"],"n":3,"best_of":5}"#,
            10,
        ),
        (Endpoint::Completions, r#"{"prompt":[[1,2],[3]]}"#, 2),
        (Endpoint::Completions, r#"{"prompt":[1,2,3]}"#, 1),
        (Endpoint::Completions, r#"{"prompt":"a"}"#, 1),
        (
            Endpoint::GenerateContent,
            r#"{"generationConfig":{"candidate_count":4}}"#,
            4,
        ),
    ] {
        assert_eq!(read(endpoint, body).choices, choices, "{body}");
    }
}

#[test]
fn input_that_the_size_does_not_show_is_told() {
    use Endpoint::{ChatCompletions, GenerateContent, Messages, Responses};
    for (endpoint, body, hidden) in [
        (Responses, r#"{"previous_response_id":"r"}"#, true),
        (Responses, r#"{"conversation":"c"}"#, true),
        (Responses, r#"{"prompt":{"id":"p"}}"#, true),
        (ChatCompletions, r#"{"preset":"p"}"#, true),
        (GenerateContent, r#"{"cached_content":"c"}"#, true),
        (Messages, r#"{"container":"c"}"#, true),
        (Messages, r#"{"thread":{"type":"continue"}}"#, true),
        // Tools that the provider runs; not those that the client runs.
        (
            Messages,
            r#"{"tools":[{"type":"web_search_20250305","name":"web_search"}]}"#,
            true,
        ),
        (Messages, r#"{"mcp_servers":[{"name":"docs"}]}"#, true),
        (
            Messages,
            r#"{"tools":[{"type":"bash_20250124","name":"bash"},{"name":"Read"}]}"#,
            false,
        ),
        (Responses, r#"{"tools":[{"type":"file_search"}]}"#, true),
        (
            Responses,
            r#"{"tools":[{"type":"function","name":"f"},{"type":"local_shell"}]}"#,
            false,
        ),
        (GenerateContent, r#"{"tools":[{"urlContext":{}}]}"#, true),
        (
            GenerateContent,
            r#"{"tools":[{"functionDeclarations":[{"name":"f"}]}]}"#,
            false,
        ),
        // Files by id or address; an image has a largest size wherever it stands.
        (
            Responses,
            r#"{"input":[{"role":"user","content":[{"type":"input_file","file_id":"f"}]}]}"#,
            true,
        ),
        (
            Responses,
            r#"{"input":[{"role":"user","content":[{"type":"input_file","file_data":"data:application/pdf;base64,AAAA"},{"type":"input_file","file_url":"https://x/"}]}]}"#,
            true,
        ),
        (
            Responses,
            r#"{"input":[{"role":"user","content":[{"type":"input_image","image_url":"https://x/"}]}]}"#,
            false,
        ),
        (
            ChatCompletions,
            r#"{"messages":[{"role":"user","content":[{"type":"video_url","video_url":{"url":"https://x/"}}]}]}"#,
            true,
        ),
        (
            Messages,
            r#"{"messages":[{"role":"user","content":[{"type":"document","source":{"type":"url","url":"https://x/"}}]}]}"#,
            true,
        ),
        (
            Messages,
            r#"{"messages":[{"role":"user","content":[{"type":"container_upload","file_id":"f"}]}]}"#,
            true,
        ),
        (
            Messages,
            r#"{"messages":[{"role":"user","content":[{"type":"image","source":{"type":"file","file_id":"f"}}]}]}"#,
            false,
        ),
        (
            GenerateContent,
            r#"{"contents":[{"parts":[{"fileData":{"fileUri":"https://youtu.be/x"}}]}]}"#,
            true,
        ),
        (
            GenerateContent,
            r#"{"contents":[{"parts":[{"fileData":{"fileUri":"gs://x","mimeType":"image/png"}}]}]}"#,
            false,
        ),
        (
            GenerateContent,
            r#"{"contents":[{"parts":[{"text":"hello"}]}]}"#,
            false,
        ),
        (
            Messages,
            r#"{"system":"s","messages":[{"role":"user","content":"hi"}]}"#,
            false,
        ),
    ] {
        assert_eq!(read(endpoint, body).hidden_input, hidden, "{body}");
    }
}

#[test]
fn the_worst_case_counts_every_byte_but_those_of_images() {
    let text = "x".repeat(1_000);
    let image = "A".repeat(1_000_000);
    let body = format!(
        r#"{{"messages":[{{"role":"user","content":[{{"type":"text","text":"{text}"}},
        {{"type":"image","source":{{"type":"base64","media_type":"image/png","data":"{image}"}}}}]}}],"odd":"{text}"}}"#
    );
    let peek = read(Endpoint::Messages, &body);
    assert_eq!(peek.body_bytes, body.len() as u64);
    let worst = worst_case_input(&peek.prompt, peek.body_bytes, peek.hidden_input, None);
    let bytes = (body.len() - image.len()) as u64;
    assert!(
        (bytes..bytes + 60_000).contains(&worst),
        "{worst} of {bytes}"
    );
    // Ollama's images stand beside the text.
    let body =
        format!(r#"{{"messages":[{{"role":"user","content":"{text}","images":["{image}"]}}]}}"#);
    let peek = read(Endpoint::OllamaChat, &body);
    let worst = worst_case_input(&peek.prompt, peek.body_bytes, peek.hidden_input, None);
    assert!(worst < 60_000, "{worst}");
}

#[test]
fn tools_that_the_conversation_brings_are_not_overlooked() {
    let codex = r#"{"model":"gpt-6.1-sol","input":[{"type":"additional_tools","id":"at_1","role":"developer",
        "tools":[{"type":"namespace","name":"functions","tools":[{"type":"custom","name":"exec"}]}]},
        {"type":"message","role":"user","content":[{"type":"input_text","text":"hi"}]}]}"#;
    let peek = read(Endpoint::Responses, codex);
    assert!(peek.hidden_tools);
    assert!(peek.asks.strange.is_some(), "no other model gets it");
    let plain =
        r#"{"model":"m","input":[{"type":"message","role":"user","content":"additional_tools"}]}"#;
    assert!(!read(Endpoint::Responses, plain).hidden_tools);
}
