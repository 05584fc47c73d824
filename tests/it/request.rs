//! What real clients' bodies are read as, and what odd ones do.

use tollgate::llm::estimate;
use tollgate::llm::request::{Peek, Unparsed, UsageOption, UserId, peek};
use tollgate::llm::splice::{ask_for_usage, replace_model};
use tollgate::llm::wire::Endpoint;

fn read(endpoint: Endpoint, body: &str) -> Peek<'_> {
    peek(endpoint, body.as_bytes()).expect("a body that is read")
}

fn user_text(endpoint: Endpoint, body: &str) -> Option<String> {
    read(endpoint, body)
        .newest_user_text
        .map(std::borrow::Cow::into_owned)
}

#[test]
fn a_claude_code_turn_is_read_whole() {
    let body = r#"{"model":"claude-opus-4-8","max_tokens":64000,"stream":true,
        "thinking":{"type":"adaptive"},"output_config":{"effort":"high"},
        "metadata":{"user_id":"{\"device_id\":\"d1\",\"account_uuid\":\"\",\"session_id\":\"8f6b\"}"},
        "system":[{"type":"text","text":"abc","cache_control":{"type":"ephemeral"}}],
        "tools":[{"name":"Bash","input_schema":{}},{"name":"Read","input_schema":{}}],
        "messages":[
          {"role":"user","content":[{"type":"text","text":"<system-reminder>\nfix typo\n</system-reminder>"},
                                    {"type":"text","text":"Refactor the\tlogin"}]},
          {"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"c2lnbmF0dXJl"},
                                         {"type":"tool_use","id":"t1","name":"Read","input":{"a":1}}]},
          {"role":"user","content":[{"type":"tool_result","tool_use_id":"t1",
              "content":[{"type":"text","text":"file"},
                         {"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}}]},
              {"type":"text","text":"<system-reminder>again</system-reminder>"}]}]}"#
        .replace("\tlogin", "\\tlogin")
        .replace("reminder>\nfix", "reminder>\\nfix")
        .replace("typo\n<", "typo\\n<");
    let peek = read(Endpoint::Messages, &body);
    let model = peek.model.as_ref().expect("a model");
    assert_eq!(model.name, "claude-opus-4-8");
    assert_eq!(&body[model.span.clone()], "\"claude-opus-4-8\"");
    assert!(peek.stream && peek.thinking && !peek.hidden_context);
    assert_eq!(peek.output_cap, Some(64_000));
    assert_eq!((peek.tools, peek.messages, peek.choices), (2, 3, 1));
    assert_eq!((peek.prompt.images, peek.prompt.documents), (1, 0));
    assert_eq!(
        peek.stated.user_id,
        Some(UserId::ClaudeCode {
            session: Some("8f6b".into()),
            account: None,
            device: Some("d1".into())
        })
    );
    assert_eq!(
        peek.newest_user_text.as_deref(),
        Some("Refactor the\tlogin"),
        "tool results and reminders are not the user's words"
    );
    let texts = [
        "abc",
        "<system-reminder>\nfix typo\n</system-reminder>",
        "Refactor the\tlogin",
        "hm",
        "Read",
        r#"{"a":1}"#,
        "file",
        "<system-reminder>again</system-reminder>",
        r#"[{"name":"Bash","input_schema":{}},{"name":"Read","input_schema":{}}]"#,
        r#"{"effort":"high"}"#,
    ];
    let bytes: usize = texts.iter().map(|text| text.len()).sum();
    assert_eq!(peek.prompt.text_bytes, bytes as u64);
    assert_eq!(
        estimate::input_tokens(&peek.prompt),
        bytes.div_ceil(3) as u64 + 1_600
    );
}

#[test]
fn a_codex_turn_is_read_whole() {
    let body = r##"{"model":"gpt-5.5-codex","instructions":"You are Codex","stream":true,"store":false,
        "reasoning":{"effort":"medium"},"prompt_cache_key":"u1",
        "client_metadata":{"session_id":"u1","thread_id":"u1","x-codex-turn-metadata":"{\"a\":1}"},
        "input":[
          {"type":"message","role":"developer","content":[{"type":"input_text","text":"rules"}]},
          {"type":"message","role":"user","content":[{"type":"input_text","text":"# AGENTS.md instructions for /x\n\n<INSTRUCTIONS>\nuse css\n</INSTRUCTIONS>"}]},
          {"type":"message","role":"user","content":[{"type":"input_text","text":"Write a \u0022script\u0022"}]},
          {"type":"message","role":"user","content":[{"type":"input_text","text":"<environment_context>\n<cwd>/x</cwd>\n</environment_context>"}]},
          {"type":"function_call","name":"shell","arguments":"{\"c\":1}","call_id":"c1"},
          {"type":"function_call_output","call_id":"c1","output":"done"}]}"##;
    let peek = read(Endpoint::Responses, body);
    assert_eq!(peek.newest_user_text.as_deref(), Some("Write a \"script\""));
    assert_eq!(peek.stated.prompt_cache_key.as_deref(), Some("u1"));
    assert_eq!(peek.stated.client_session_id.as_deref(), Some("u1"));
    assert!(peek.thinking);
    assert_eq!(peek.messages, 6);
    assert_eq!(
        peek.usage_option,
        UsageOption::Odd,
        "Responses have no such option"
    );
    assert_eq!(ask_for_usage(body.as_bytes(), &peek), None);
}

#[test]
fn every_dialects_prompt_media_and_cap_are_found() {
    use Endpoint::{
        ChatCompletions, Completions, EmbedContent, Embeddings, GenerateContent, OllamaChat,
        OllamaGenerate, Responses,
    };
    struct Case(
        Endpoint,
        &'static str,
        (u64, u64),
        (u32, u32, u32),
        Option<u64>,
        Option<&'static str>,
    );
    for Case(endpoint, body, (bytes, ids), media, cap, text) in [
        Case(
            ChatCompletions,
            r#"{"max_completion_tokens":7,"messages":[{"role":"system","content":"sys"},{"content":[{"type":"text","text":"hello"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAAAAAA","detail":"low"}},{"type":"image_url","image_url":{"url":"https://x/y.png"}},{"type":"input_audio","input_audio":{"data":"UklGRg","format":"wav"}},{"type":"file","file":{"file_data":"data:application/pdf;base64,JVBE"}}],"role":"user"}]}"#,
            (8, 0),
            (2, 1, 1),
            Some(7),
            Some("hello"),
        ),
        Case(
            Responses,
            r#"{"input":"hi there","max_output_tokens":12345678901234567890123}"#,
            (8, 0),
            (0, 0, 0),
            Some(u64::MAX),
            Some("hi there"),
        ),
        Case(
            Responses,
            r#"{"input":[{"role":"user","content":[{"type":"input_image","image_url":"data:image/jpeg;base64,AA"},{"type":"input_image","file_id":"f"},{"type":"input_file","file_id":"f"},{"type":"input_text","text":"see"}]}]}"#,
            (3, 0),
            (2, 1, 0),
            None,
            Some("see"),
        ),
        Case(
            Completions,
            r#"{"prompt":["one","two"],"max_tokens":1e3}"#,
            (6, 0),
            (0, 0, 0),
            Some(1_000),
            Some("two"),
        ),
        Case(
            Completions,
            r#"{"prompt":[[1,2],[3]]}"#,
            (0, 3),
            (0, 0, 0),
            None,
            None,
        ),
        Case(
            Embeddings,
            r#"{"input":["code code",""]}"#,
            (9, 0),
            (0, 0, 0),
            None,
            None,
        ),
        Case(
            Embeddings,
            r#"{"input":[1, 2 ,3]}"#,
            (0, 3),
            (0, 0, 0),
            None,
            None,
        ),
        Case(
            GenerateContent,
            r#"{"system_instruction":{"parts":[{"text":"sys"}]},"contents":[{"parts":[{"text":"hello"},{"inline_data":{"mime_type":"image/png","data":"AAAA"}},{"fileData":{"mimeType":"application/pdf","fileUri":"gs://x"}}]},{"role":"model","parts":[{"text":"yes","thoughtSignature":"AAAA"}]},{"role":"user","parts":[{"functionResponse":{"name":"f","response":{"a":1}}}]}],"generationConfig":{"maxOutputTokens":"50"}}"#,
            (3 + 5 + 3 + 1 + 7, 0),
            (1, 1, 0),
            Some(50),
            Some("hello"),
        ),
        Case(
            EmbedContent,
            r#"{"requests":[{"model":"m","content":{"parts":[{"text":"abc"}]}}]}"#,
            (4, 0),
            (0, 0, 0),
            None,
            None,
        ),
        Case(
            OllamaChat,
            r#"{"messages":[{"role":"user","content":"look","images":["AAAA","BBBB"]}],"options":{"num_predict":9}}"#,
            (4, 0),
            (2, 0, 0),
            Some(9),
            Some("look"),
        ),
        Case(
            OllamaGenerate,
            r#"{"prompt":"go","system":"sys","images":["AAAA"],"context":[1,2],"options":{"num_predict":-1}}"#,
            (5, 2),
            (1, 0, 0),
            None,
            Some("go"),
        ),
    ] {
        let peek = read(endpoint, body);
        let prompt = peek.prompt;
        assert_eq!(
            (prompt.text_bytes, prompt.token_ids),
            (bytes, ids),
            "{body}"
        );
        assert_eq!(
            (prompt.images, prompt.documents, prompt.recordings),
            media,
            "{body}"
        );
        assert_eq!(peek.output_cap, cap, "{body}");
        assert_eq!(peek.newest_user_text.as_deref(), text, "{body}");
    }
}

#[test]
fn an_anthropic_document_counts_as_text_or_as_a_document_by_its_source() {
    let body = r#"{"messages":[{"role":"user","content":[
        {"type":"document","source":{"type":"text","media_type":"text/plain","data":"plain"}},
        {"type":"document","source":{"data":"JVBERi0","media_type":"application/pdf","type":"base64"}},
        {"type":"document","source":{"type":"url","url":"https://x/y.pdf"}},
        {"type":"image","source":{"type":"file","file_id":"f1"}}]}]}"#;
    let prompt = read(Endpoint::Messages, body).prompt;
    assert_eq!((prompt.documents, prompt.images), (2, 1));
    assert_eq!((prompt.text_bytes, prompt.document_bytes), (5, 7));
}

#[test]
fn streams_are_asked_for_except_at_ollama() {
    for (endpoint, body, stream) in [
        (Endpoint::Messages, "{}", false),
        (Endpoint::ChatCompletions, r#"{"stream":null}"#, false),
        (Endpoint::ChatCompletions, r#"{"str\u0065am":true}"#, true),
        (Endpoint::ChatCompletions, r#"{"stream":1}"#, true),
        (Endpoint::OllamaChat, "{}", true),
        (Endpoint::OllamaGenerate, r#"{"stream":false}"#, false),
        (Endpoint::OllamaEmbed, "{}", false),
    ] {
        assert_eq!(read(endpoint, body).stream, stream, "{body}");
    }
}

#[test]
fn a_prompt_that_the_provider_holds_is_known_to_be_larger() {
    for (endpoint, body, hidden) in [
        (
            Endpoint::Responses,
            r#"{"previous_response_id":"r1"}"#,
            true,
        ),
        (
            Endpoint::Responses,
            r#"{"previous_response_id":null}"#,
            false,
        ),
        (Endpoint::Responses, r#"{"conversation":{"id":"c"}}"#, true),
        (Endpoint::Responses, r#"{"prompt":{"id":"p"}}"#, true),
        (Endpoint::Completions, r#"{"prompt":"p"}"#, false),
        (
            Endpoint::Messages,
            r#"{"thread":{"type":"continue"}}"#,
            true,
        ),
        (Endpoint::Messages, r#"{"thread":{"type":"create"}}"#, false),
        (
            Endpoint::GenerateContent,
            r#"{"cachedContent":"c/1"}"#,
            true,
        ),
    ] {
        assert_eq!(read(endpoint, body).hidden_context, hidden, "{body}");
    }
}

#[test]
fn reasoning_is_known_in_every_dialect() {
    for (endpoint, body, thinking) in [
        (
            Endpoint::Messages,
            r#"{"thinking":{"type":"disabled"}}"#,
            false,
        ),
        (
            Endpoint::Messages,
            r#"{"thinking":{"type":"enabled","budget_tokens":9}}"#,
            true,
        ),
        (
            Endpoint::ChatCompletions,
            r#"{"reasoning_effort":"none"}"#,
            false,
        ),
        (
            Endpoint::ChatCompletions,
            r#"{"reasoning_effort":"low"}"#,
            true,
        ),
        (
            Endpoint::Responses,
            r#"{"reasoning":{"summary":"auto"}}"#,
            true,
        ),
        (
            Endpoint::Responses,
            r#"{"reasoning":{"effort":"none"}}"#,
            false,
        ),
        (
            Endpoint::GenerateContent,
            r#"{"generationConfig":{"thinkingConfig":{"thinkingBudget":0}}}"#,
            false,
        ),
        (
            Endpoint::GenerateContent,
            r#"{"generationConfig":{"thinkingConfig":{}}}"#,
            true,
        ),
        (Endpoint::OllamaChat, r#"{"think":"high"}"#, true),
        (Endpoint::OllamaChat, r#"{"think":false}"#, false),
    ] {
        assert_eq!(read(endpoint, body).thinking, thinking, "{body}");
    }
}

#[test]
fn a_field_that_is_decided_on_may_be_there_once() {
    for (endpoint, body, name) in [
        (
            Endpoint::ChatCompletions,
            r#"{"model":"cheap","model":"dear"}"#,
            "model",
        ),
        (
            Endpoint::ChatCompletions,
            r#"{"model":"cheap","mod\u0065l":"dear"}"#,
            "model",
        ),
        (
            Endpoint::ChatCompletions,
            r#"{"model":null,"model":"dear"}"#,
            "model",
        ),
        (
            Endpoint::Messages,
            r#"{"max_tokens":1,"a":0,"max_tokens":1}"#,
            "max_tokens",
        ),
        (Endpoint::Responses, r#"{"input":"a","input":"a"}"#, "input"),
        (
            Endpoint::GenerateContent,
            r#"{"generationConfig":{},"generation_config":{}}"#,
            "generationConfig",
        ),
    ] {
        assert_eq!(
            peek(endpoint, body.as_bytes()),
            Err(Unparsed::DuplicateField(name)),
            "{body}"
        );
    }
    for body in [
        r#"{"top_k":1,"top_k":2}"#,
        r#"{"a":{"model":1,"model":2}}"#,
        r#"{"input":1,"contents":1,"contents":2}"#,
    ] {
        assert!(
            peek(Endpoint::ChatCompletions, body.as_bytes()).is_ok(),
            "{body}"
        );
    }
}

#[test]
fn odd_json_is_read_and_what_is_not_json_passes() {
    let odd = "\u{FEFF} {\"model\" : \"m\\u00e9\" ,\"x\":1e999,\"y\":123456789012345678901234567890,\
               \"messages\":[{\"role\":\"user\",\"content\":\"half \\ud83d\"},null,7,{\"role\":\"user\",\"content\":null}],\
               \"half\\ud800\":{}} \n";
    let peek_of = read(Endpoint::ChatCompletions, odd);
    let model = peek_of.model.expect("a model");
    assert_eq!(model.name, "mé");
    assert_eq!(&odd[model.span], "\"m\\u00e9\"");
    assert_eq!(peek_of.newest_user_text.as_deref(), Some("half \u{FFFD}"));

    for bad in [
        &b""[..],
        b"[]",
        b"null",
        b"\"model\"",
        b"{",
        b"{\"a\":1,}",
        b"{\"a\":1} {}",
        b"{'a':1}",
        b"{\"a\":\"\xff\"}",
        b"{\"a\":\"\n\"}",
        b"--form\r\n",
    ] {
        assert_eq!(
            peek(Endpoint::ChatCompletions, bad),
            Err(Unparsed::NotJson),
            "{bad:?}"
        );
    }
}

#[test]
fn any_depth_is_read_without_harm() {
    let (open, close) = ("[".repeat(100_000), "]".repeat(100_000));
    for body in [
        format!(r#"{{"model":"m","x":{open}{close}}}"#),
        format!(r#"{{"model":"m","messages":{open}{close}}}"#),
        format!(r#"{{"model":"m","messages":[{{"role":"user","content":{open}{close}}}]}}"#),
        format!(
            r#"{{"model":"m","messages":{}1{}}}"#,
            r#"{"content":"#.repeat(50_000),
            "}".repeat(50_000)
        ),
        format!(r#"{{"model":"m","metadata":{open}{close},"stream_options":{open}{close}}}"#),
    ] {
        let peek = read(Endpoint::ChatCompletions, &body);
        assert_eq!(peek.model.expect("a model").name, "m");
    }
    // Deeper than the walk goes, but text all the same.
    let nested = format!(
        r#"{{"messages":[{{"role":"user","content":{}"{}"{}}}]}}"#,
        "[".repeat(200),
        "x".repeat(1_000),
        "]".repeat(200)
    );
    assert!(read(Endpoint::Messages, &nested).prompt.text_bytes >= 1_000);
}

#[test]
fn usage_is_asked_for_by_the_smallest_change() {
    for (body, changed) in [
        (
            r#" {"stream":true, "model":"m"} "#,
            Some(r#" {"stream_options":{"include_usage":true},"stream":true, "model":"m"} "#),
        ),
        (
            r#"{"stream":true,"stream_options":null}"#,
            Some(r#"{"stream":true,"stream_options":{"include_usage":true}}"#),
        ),
        (
            r#"{"stream":true,"stream_options":{ }}"#,
            Some(r#"{"stream":true,"stream_options":{"include_usage":true }}"#),
        ),
        (
            r#"{"stream":true,"stream_options":{"include_obfuscation":false}}"#,
            Some(
                r#"{"stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false}}"#,
            ),
        ),
        (
            r#"{"stream":true,"stream_options":{"include_usage":false,"x":1e400}}"#,
            Some(r#"{"stream":true,"stream_options":{"include_usage":true,"x":1e400}}"#),
        ),
        (
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
            None,
        ),
        (r#"{"stream":true,"stream_options":[]}"#, None),
        (
            r#"{"stream":true,"stream_options":{"include_usage":"yes"}}"#,
            None,
        ),
        (r#"{"stream":false}"#, None),
        ("{}", None),
    ] {
        let peek = read(Endpoint::ChatCompletions, body);
        let spliced = ask_for_usage(body.as_bytes(), &peek);
        let spliced = spliced.map(|bytes| String::from_utf8(bytes).expect("UTF-8"));
        assert_eq!(spliced.as_deref(), changed, "{body}");
    }
}

#[test]
fn a_model_is_replaced_and_nothing_else() {
    let body = "{\"a\": 1e999 ,\"model\" : \"old\\u0020one\",\"b\":\"model\"}\n";
    let peek = read(Endpoint::ChatCompletions, body);
    let spliced = replace_model(body.as_bytes(), &peek, "new \"one\"").expect("a model");
    assert_eq!(
        String::from_utf8(spliced).expect("UTF-8"),
        "{\"a\": 1e999 ,\"model\" : \"new \\\"one\\\"\",\"b\":\"model\"}\n"
    );
    let none = read(Endpoint::ChatCompletions, "{}");
    assert_eq!(replace_model(b"{}", &none, "m"), None);
}

#[test]
fn embedded_and_spoken_texts_are_no_task() {
    assert_eq!(
        user_text(Endpoint::Audio, r#"{"input":"fix the bug"}"#),
        None
    );
    assert_eq!(
        user_text(Endpoint::Images, r#"{"prompt":"a red house"}"#).as_deref(),
        Some("a red house")
    );
}
