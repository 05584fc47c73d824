//! What tiers, teams and keys forbid, through the whole path: in the client's own format, however the request is written,
//! and to the exact moment.

use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use tollgate::config::settings::{Settings, ThrottleMode};
use tollgate::policy::priority::Pattern;
use tollgate::policy::rules::Policy;
use tollgate::policy::session::client_key;
use tollgate::store::record::Outcome;

use crate::rig::*;

const MINUTE: u64 = 60_000;

/// The wire formats, by a path for each; in Gemini's the model stands.
const FORMATS: [Format; 5] = [
    Format::Anthropic,
    Format::Chat,
    Format::Responses,
    Format::Gemini,
    Format::Ollama,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Anthropic,
    Chat,
    Responses,
    Gemini,
    Ollama,
}

/// What a request asks for; written in each format by [`Format::request`].
#[derive(Debug, Clone)]
struct Wish {
    model: &'static str,
    prompt_bytes: usize,
    cap: Option<u64>,
    tools: Vec<&'static str>,
    depth: Option<&'static str>,
}

/// What the policy of [`strict`] just allows.
fn modest() -> Wish {
    Wish {
        model: "small-1",
        prompt_bytes: 300,
        cap: Some(100),
        tools: vec!["Read", "web_get"],
        depth: Some("2"),
    }
}

fn patterns(texts: &[&str]) -> Option<Vec<Pattern>> {
    Some(texts.iter().copied().map(Pattern::new).collect())
}

fn strict() -> Policy {
    Policy {
        max_prompt_tokens: Some(500),
        max_output_tokens: Some(100),
        models: patterns(&["small-*"]),
        tools: patterns(&["Read", "web_*"]),
        max_depth: Some(2),
        ..Policy::default()
    }
}

impl Format {
    fn path(self, model: &str) -> String {
        match self {
            Format::Anthropic => "/anthropic/v1/messages".to_owned(),
            Format::Chat => "/openai/v1/chat/completions".to_owned(),
            Format::Responses => "/openai/v1/responses".to_owned(),
            Format::Gemini => format!("/gemini/v1beta/models/{model}:generateContent"),
            Format::Ollama => "/ollama/api/chat".to_owned(),
        }
    }

    fn body(self, wish: &Wish) -> Value {
        let text = "x".repeat(wish.prompt_bytes);
        let messages = json!([{"role": "user", "content": text}]);
        let named = || wish.tools.iter().map(|name| json!({"name": name}));
        let functions = |tools: Vec<Value>| -> Vec<Value> {
            let tool = |function| json!({"type": "function", "function": function});
            tools.into_iter().map(tool).collect()
        };
        match self {
            Format::Anthropic => {
                json!({"model": wish.model, "max_tokens": wish.cap, "messages": messages, "tools": named().collect::<Vec<_>>()})
            }
            Format::Chat => {
                json!({"model": wish.model, "max_completion_tokens": wish.cap, "messages": messages, "tools": functions(named().collect())})
            }
            Format::Responses => {
                json!({"model": wish.model, "max_output_tokens": wish.cap, "input": text, "tools": named().collect::<Vec<_>>()})
            }
            Format::Gemini => {
                json!({"generationConfig": {"maxOutputTokens": wish.cap}, "contents": [{"parts": [{"text": text}]}], "tools": [{"functionDeclarations": named().collect::<Vec<_>>()}]})
            }
            Format::Ollama => {
                json!({"model": wish.model, "stream": false, "options": {"num_predict": wish.cap}, "messages": messages, "tools": functions(named().collect())})
            }
        }
    }

    fn request(self, wish: &Wish) -> Vec<u8> {
        let body = self.body(wish).to_string();
        let headers: Vec<_> = wish
            .depth
            .map(|depth| ("x-tollgate-depth", depth))
            .into_iter()
            .collect();
        request(&format!("POST {}", self.path(wish.model)), &headers, body)
    }

    /// The text of a refusal, once its shape has been checked.
    fn refusal(self, head: &Head, body: &Body) -> String {
        assert_eq!(head.status(), 403, "{}", body.text());
        assert_eq!(head.value("x-should-retry"), Some("false"));
        let body = body.json();
        let (message, shape) = match self {
            Format::Anthropic => (
                &body["error"]["message"],
                body["type"] == "error" && body["error"]["type"] == "permission_error",
            ),
            Format::Chat | Format::Responses => (
                &body["error"]["message"],
                body["error"]["code"] == "POLICY_VIOLATION",
            ),
            Format::Gemini => (
                &body["error"]["message"],
                body["error"]["code"] == 403 && body["error"]["status"] == "PERMISSION_DENIED",
            ),
            Format::Ollama => (&body["error"], body["error"].is_string()),
        };
        assert!(shape, "{self:?}: {body}");
        let message = message.as_str().expect("a text");
        assert!(message.contains("POLICY_VIOLATION"), "{message}");
        message.to_owned()
    }
}

/// A tollgate whose callers are all of a tier with this policy, before a provider that answers everything.
async fn tier(policy: Policy) -> (Tollgate, Answering) {
    adjusted(move |settings| {
        settings.auth.tier = Some("free".to_owned());
        settings.tiers.insert("free".to_owned(), policy);
    })
    .await
}

async fn adjusted(adjust: impl FnOnce(&mut Settings)) -> (Tollgate, Answering) {
    let upstream = Upstream::start().await.answering(|_| json_answer("{}"));
    let tollgate = Tollgate::changed(upstream.address, &[], adjust).await;
    (tollgate, upstream)
}

/// Whether a request passes; if not, the rule that it violates (from the message's end).
async fn verdict(tollgate: &Tollgate, request: Vec<u8>) -> Result<(), String> {
    let (head, body) = tollgate.ask(request).await;
    if head.status() == 200 {
        return Ok(());
    }
    let text = body.text();
    assert!(text.contains("POLICY_VIOLATION"), "{text}");
    let rule = text
        .split("(rule ")
        .nth(1)
        .and_then(|rest| rest.split(')').next());
    Err(rule.expect("a rule").to_owned())
}

#[tokio::test]
async fn each_rule_holds_in_each_format_to_the_last_token() {
    let (tollgate, upstream) = tier(strict()).await;
    for format in FORMATS {
        let (head, body) = tollgate.ask(format.request(&modest())).await;
        assert_eq!(head.status(), 200, "{format:?}: {}", body.text());
        for (wish, rule, said) in [
            (
                Wish {
                    model: "large-1",
                    ..modest()
                },
                "models",
                "large-1",
            ),
            (
                Wish {
                    prompt_bytes: 1_600,
                    ..modest()
                },
                "max_prompt",
                "500",
            ),
            (
                Wish {
                    cap: Some(101),
                    ..modest()
                },
                "max_output",
                "101",
            ),
            (
                Wish {
                    cap: Some(1 << 63),
                    ..modest()
                },
                "max_output",
                "9223372036854775808",
            ),
            (
                Wish {
                    cap: None,
                    ..modest()
                },
                "max_output",
                "states no limit",
            ),
            (
                Wish {
                    tools: vec!["Read", "Bash"],
                    ..modest()
                },
                "tools",
                "Bash",
            ),
            (
                Wish {
                    depth: Some("3"),
                    ..modest()
                },
                "max_depth",
                "3",
            ),
        ] {
            upstream.take();
            let (head, body) = tollgate.ask(format.request(&wish)).await;
            let message = format.refusal(&head, &body);
            assert!(
                message.contains(&format!("tiers.free.{rule}")),
                "{format:?}: {message}"
            );
            assert!(message.contains(said), "{format:?}: {message}");
            assert!(!message.contains("xxx"), "nothing of the prompt");
            assert_eq!(upstream.take().len(), 0, "nothing reached the provider");
            let record = tollgate.record(&head).await;
            assert_eq!((record.outcome, record.status), (Outcome::Refused, 403));
            assert_eq!(record.error.as_deref(), Some("POLICY_VIOLATION"));
        }
    }
}

#[tokio::test]
async fn no_way_of_writing_a_request_gets_around_a_rule() {
    let (tollgate, upstream) = tier(strict()).await;
    let chat = "/openai/v1/chat/completions";
    let messages = "/anthropic/v1/messages";
    for (path, body, rule) in [
        (
            messages,
            r#"{"model":"small-1","max_tokens":9,"tools":[{"name":"B\u0061sh"}]}"#,
            "tools",
        ),
        (
            messages,
            r#"{"model":"small-1","max_tokens":9,"tools":[{"n\u0061me":"Bash"}]}"#,
            "tools",
        ),
        (
            messages,
            r#"{"model":"small-1","max_tokens":9,"tools":[{"name":"Bash","name":"Read"}]}"#,
            "tools",
        ),
        (
            messages,
            r#"{"model":"small-1","max_tokens":9,"tools":[{"type":"code_execution_20250825","name":"Read"}]}"#,
            "tools",
        ),
        (
            messages,
            r#"{"model":"small-1","max_tokens":9,"mcp_servers":[{"name":"Read"}]}"#,
            "tools",
        ),
        (
            messages,
            r#"{"model":"small-1","max_tokens":9,"thread":{"type":"continue"}}"#,
            "tools",
        ),
        (
            messages,
            r#"{"model":"small-1","max_tokens":9,"fallbacks":[{"model":"large-1"}]}"#,
            "models",
        ),
        (
            messages,
            r#"{"model":"small-1","max_tokens":9,"fallbacks":[{"model":"small-2","max_tokens":900}]}"#,
            "max_output",
        ),
        (messages, r#"{"max_tokens":9}"#, "models"),
        (
            messages,
            r#"{"model":["small-1"],"max_tokens":9}"#,
            "models",
        ),
        (
            messages,
            r#"{"model":"small-1\u0000","max_tokens":9}"#,
            "models",
        ),
        (
            chat,
            r#"{"model":"small-1","models":["large-1"],"max_tokens":9}"#,
            "models",
        ),
        (
            chat,
            r#"{"model":"small-1","max_tokens":9,"plugins":[{"id":"file-parser"}]}"#,
            "tools",
        ),
        (
            chat,
            r#"{"model":"small-1","max_tokens":9,"n":20}"#,
            "max_output",
        ),
        (
            chat,
            r#"{"model":"small-1","max_tokens":"900"}"#,
            "max_output",
        ),
        (chat, r#"{"model":"small-1","max_tokens":-1}"#, "max_output"),
        (
            chat,
            r#"{"model":"small-1","max_tokens":null}"#,
            "max_output",
        ),
        (
            chat,
            r#"{"model":"small-1","max_output_tokens":9}"#,
            "max_output",
        ),
        (
            "/openai/v1/completions",
            r#"{"model":"small-1","max_tokens":60,"prompt":["a","b"]}"#,
            "max_output",
        ),
        (
            "/openai/v1/responses",
            r#"{"model":"small-1","max_tokens":9}"#,
            "max_output",
        ),
        (
            "/openai/v1/responses",
            r#"{"model":"small-1","max_output_tokens":9,"prompt":{"id":"p"}}"#,
            "tools",
        ),
        (
            "/openai/v1/responses",
            r#"{"model":"small-1","max_output_tokens":9,"previous_response_id":"r"}"#,
            "max_prompt",
        ),
        (
            "/openai/v1/responses",
            r#"{"model":"small-1","max_output_tokens":9,"tools":[{"type":"mcp","server_label":"Read"}]}"#,
            "tools",
        ),
        (
            "/gemini/v1beta/models/small-1:generateContent",
            r#"{"generation_config":{"max_output_tokens":9},"tools":[{"google_search":{}}]}"#,
            "tools",
        ),
        (
            "/gemini/v1beta/models/small-1:generateContent",
            r#"{"generationConfig":{"maxOutputTokens":9},"cachedContent":"c"}"#,
            "tools",
        ),
        (
            "/gemini/v1beta/models/large-1:generateContent",
            "not JSON",
            "models",
        ),
        (
            "/ollama/api/chat",
            r#"{"model":"small-1","options":{"num_predict":-1}}"#,
            "max_output",
        ),
        (
            "/ollama/api/chat",
            r#"{"model":"small-1","options":{"num_predict":9},"TOOLS":[{"function":{"name":"Bash"}}]}"#,
            "tools",
        ),
        (
            "/ollama/api/chat",
            r#"{"model":"small-1","options":{"num_predict":9},"toolſ":[{"function":{"name":"Bash"}}]}"#,
            "tools",
        ),
        // A body that cannot be read cannot be checked.
        (messages, "not JSON", "models"),
        (messages, "", "models"),
        (chat, "[]", "models"),
        (
            "/gemini/v1beta/models/small-1:generateContent",
            "not JSON",
            "tools",
        ),
        (
            "/openai/v1/embeddings",
            r#"{"model":"large-1","input":"a"}"#,
            "models",
        ),
        (
            "/openai/v1/images/generations",
            r#"{"prompt":"a"}"#,
            "models",
        ),
    ] {
        let found = verdict(&tollgate, request(&format!("POST {path}"), &[], body)).await;
        assert_eq!(found, Err(format!("tiers.free.{rule}")), "{path} {body}");
    }
    // Two values for one field are refused whoever asks.
    for body in [
        r#"{"model":"small-1","model":"large-1"}"#,
        r#"{"model":"small-1","tools":[],"t\u006fols":[{"name":"Bash"}]}"#,
        r#"{"Model":"large-1","model":"small-1"}"#,
    ] {
        let (head, _) = tollgate
            .ask(request("POST /ollama/api/chat", &[], body))
            .await;
        assert_eq!(head.status(), 400, "{body}");
    }
    assert_eq!(upstream.take().len(), 0, "nothing reached the provider");
}

#[tokio::test]
async fn a_body_in_an_encoding_that_cannot_be_undone_is_not_passed_unchecked() {
    let (tollgate, _upstream) = tier(strict()).await;
    let body = Format::Anthropic.body(&modest()).to_string();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, body.as_bytes()).expect("memory");
    let gzip = gzip.finish().expect("memory");
    let post = |encoding, body: &[u8]| {
        request(
            "POST /anthropic/v1/messages",
            &[("content-encoding", encoding)],
            body,
        )
    };
    assert_eq!(verdict(&tollgate, post("gzip", &gzip)).await, Ok(()));
    for (encoding, body) in [
        ("lzma", body.as_bytes()),
        ("gzip", body.as_bytes()),
        ("br", &gzip),
    ] {
        let found = verdict(&tollgate, post(encoding, body)).await;
        assert_eq!(found, Err("tiers.free.models".to_owned()), "{encoding}");
    }
    // One that is read twice over must be read as a whole.
    let twice = [&gzip[..], &gzip[..]].concat();
    assert!(verdict(&tollgate, post("gzip", &twice)).await.is_err());
}

#[tokio::test]
async fn a_form_counts_only_if_it_can_be_read_in_one_way() {
    let (tollgate, _upstream) = tier(Policy {
        models: patterns(&["whisper-small"]),
        ..Policy::default()
    })
    .await;
    let part = |name: &str, value: &str| {
        format!("--real\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let upload = part("file", &"\u{1}".repeat(100_000));
    let small = part("model", "whisper-small");
    let large = part("model", "whisper-large");
    let end = "--real--\r\n";
    let fake = "--fake\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-small\r\n--fake--\r\n";
    for (content_type, body, passes) in [
        (
            "multipart/form-data; boundary=real",
            format!("{small}{upload}{end}"),
            true,
        ),
        (
            "multipart/form-data; boundary=\"real\"",
            format!("{upload}{small}{end}"),
            true,
        ),
        (
            "multipart/form-data; boundary=real",
            format!("{upload}{large}{upload}{end}"),
            false,
        ),
        (
            "multipart/form-data; boundary=real",
            format!("{upload}{end}"),
            false,
        ),
        // What stands before the first delimiter is nobody's field.
        (
            "multipart/form-data; boundary=real",
            format!("{fake}{large}{end}"),
            false,
        ),
        (
            "multipart/form-data; boundary=real; boundary=fake",
            format!("{fake}{large}{end}"),
            false,
        ),
        (
            "multipart/form-data",
            format!("{small}{upload}{end}"),
            false,
        ),
        (
            "application/octet-stream",
            format!("{small}{upload}{end}"),
            false,
        ),
    ] {
        let post = request(
            "POST /openai/v1/audio/transcriptions",
            &[("content-type", content_type)],
            &body,
        );
        let found = verdict(&tollgate, post).await;
        assert_eq!(found.is_ok(), passes, "{content_type}: {found:?}");
    }
}

#[tokio::test]
async fn where_no_model_is_asked_only_depth_and_rates_count() {
    let (tollgate, _upstream) = tier(Policy {
        requests_per_minute: Some(4),
        ..strict()
    })
    .await;
    let depth = |depth| [("x-tollgate-depth", depth)];
    for line in [
        "DELETE /openai/v1/files/file_1",
        "GET /openai/v1/models",
        "POST /anthropic/v1/messages/count_tokens",
    ] {
        assert_eq!(
            verdict(&tollgate, request(line, &depth("2"), "any bytes")).await,
            Ok(())
        );
        let found = verdict(&tollgate, request(line, &depth("3"), "any bytes")).await;
        assert_eq!(found, Err("tiers.free.max_depth".to_owned()), "{line}");
    }
    assert_eq!(
        verdict(&tollgate, request("GET /openai/v1/models", &[], "")).await,
        Ok(())
    );
    let found = verdict(&tollgate, request("GET /openai/v1/models", &[], "")).await;
    assert_eq!(found, Err("tiers.free.requests_per_minute".to_owned()));
}

#[tokio::test]
async fn paths_that_cannot_be_checked_do_not_lead_around_the_rules() {
    let (tollgate, _upstream) = tier(strict()).await;
    let socket = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    for (line, headers) in [
        ("POST /anthropic/v1/messages/batches", &[][..]),
        ("POST /openai/v1/threads/thread_1/runs", &[]),
        (
            "POST /anthropic/model/anthropic.claude-opus-4-8/converse",
            &[],
        ),
        (
            "POST /anthropic/model/anthropic.claude-opus-4-8/invoke",
            &[],
        ),
        ("PUT /openai/v1/anything", &[]),
        ("GET /openai/v1/realtime?model=gpt-realtime", &socket),
    ] {
        let found = verdict(&tollgate, request(line, headers, "{}")).await;
        assert_eq!(found, Err("tiers.free.models".to_owned()), "{line}");
    }
}

#[tokio::test]
async fn rates_slide_and_free_at_the_exact_moment() {
    let (tollgate, upstream) = tier(Policy {
        requests_per_minute: Some(2),
        requests_per_hour: Some(3),
        ..Policy::default()
    })
    .await;
    let ask = async |at: u64| {
        tollgate.set_clock(NOON + at);
        let (head, body) = tollgate.ask(Format::Chat.request(&modest())).await;
        if head.status() == 200 {
            return Ok(());
        }
        Err(Format::Chat.refusal(&head, &body))
    };
    // A second and a fraction: both leave with their own second.
    assert_eq!(ask(0).await, Ok(()));
    assert_eq!(ask(1_500).await, Ok(()));
    let message = ask(2_000).await.expect_err("two in a minute");
    assert!(
        message.contains("requests_per_minute") && message.contains("in 59 s"),
        "{message}"
    );
    assert!(ask(MINUTE + 999).await.is_err());
    assert_eq!(ask(MINUTE + 1_000).await, Ok(()), "the first one has left");
    let message = ask(MINUTE + 2_500).await.expect_err("three in an hour");
    assert!(message.contains("requests_per_hour"), "{message}");
    // A clock that is set back frees nothing.
    assert!(ask(0).await.is_err());
    assert!(ask(61 * MINUTE - 1).await.is_err());
    assert_eq!(ask(61 * MINUTE).await, Ok(()));
    assert_eq!(upstream.take().len(), 4, "what was refused reached nobody");
}

#[tokio::test]
async fn each_key_of_a_tier_has_its_own_rate_and_those_without_share_one() {
    let (tollgate, _upstream) = tier(Policy {
        requests_per_minute: Some(1),
        ..Policy::default()
    })
    .await;
    let with = |key: &str| {
        let bearer = format!("Bearer {key}");
        let headers: &[(&str, &str)] = if key.is_empty() {
            &[]
        } else {
            &[("authorization", &bearer)]
        };
        request(
            "POST /openai/v1/chat/completions",
            headers,
            r#"{"model":"m"}"#,
        )
    };
    for key in ["sk-test-one-00000001", "sk-test-two-00000002", ""] {
        assert_eq!(verdict(&tollgate, with(key)).await, Ok(()), "{key}");
        assert!(verdict(&tollgate, with(key)).await.is_err(), "{key}");
    }
}

#[tokio::test]
async fn a_request_that_a_rule_forbids_takes_nothing_of_a_rate() {
    let (tollgate, _upstream) = tier(Policy {
        requests_per_minute: Some(1),
        ..strict()
    })
    .await;
    let forbidden = Wish {
        model: "large-1",
        ..modest()
    };
    for _ in 0..3 {
        let found = verdict(&tollgate, Format::Chat.request(&forbidden)).await;
        assert_eq!(found, Err("tiers.free.models".to_owned()));
    }
    assert_eq!(
        verdict(&tollgate, Format::Chat.request(&modest())).await,
        Ok(())
    );
}

#[tokio::test]
async fn a_keys_own_policy_applies_besides_its_tiers() {
    let key = "sk-test-policy-0123456789";
    let mut headers = HeaderMap::new();
    headers.insert("x-api-key", HeaderValue::from_static(key));
    let name = client_key(&headers, None)
        .expect("a key")
        .fingerprint
        .to_string();
    let (tollgate, _upstream) = adjusted(|settings| {
        settings.auth.tier = Some("free".to_owned());
        settings.tiers.insert(
            "free".to_owned(),
            Policy {
                max_output_tokens: Some(1_000),
                ..Policy::default()
            },
        );
        settings.keys.insert(
            name.clone(),
            Policy {
                max_output_tokens: Some(10),
                ..Policy::default()
            },
        );
    })
    .await;
    let post = |headers: &[(&str, &str)], cap: u64| {
        request(
            "POST /anthropic/v1/messages",
            headers,
            format!(r#"{{"model":"m","max_tokens":{cap}}}"#),
        )
    };
    assert_eq!(
        verdict(&tollgate, post(&[("x-api-key", key)], 10)).await,
        Ok(())
    );
    let found = verdict(&tollgate, post(&[("x-api-key", key)], 11)).await;
    assert_eq!(found, Err(format!("keys.{name}.max_output")));
    let found = verdict(&tollgate, post(&[("x-api-key", key)], 1_001)).await;
    assert_eq!(
        found,
        Err("tiers.free.max_output".to_owned()),
        "the tier's comes first"
    );
    assert_eq!(
        verdict(&tollgate, post(&[], 1_000)).await,
        Ok(()),
        "another caller"
    );
}

#[tokio::test]
async fn a_model_that_cannot_write_more_needs_no_cap() {
    let most = 128_000;
    for (allowed, passes) in [(most, true), (most - 1, false)] {
        let (tollgate, _upstream) = tier(Policy {
            max_output_tokens: Some(allowed),
            ..Policy::default()
        })
        .await;
        let model = tollgate
            .gate
            .catalogue
            .resolve("openai", "gpt-5.5")
            .expect("in the catalogue");
        assert_eq!(model.max_output_tokens, Some(128_000));
        let post = request(
            "POST /openai/v1/responses",
            &[],
            r#"{"model":"gpt-5.5","input":"hi"}"#,
        );
        assert_eq!(verdict(&tollgate, post).await.is_ok(), passes, "{allowed}");
    }
}

#[tokio::test]
async fn in_the_modes_shadow_and_off_nothing_is_refused() {
    for mode in [ThrottleMode::Shadow, ThrottleMode::Off] {
        let (tollgate, _upstream) = adjusted(|settings| {
            settings.throttle.mode = mode;
            settings.auth.tier = Some("free".to_owned());
            settings.tiers.insert(
                "free".to_owned(),
                Policy {
                    requests_per_minute: Some(1),
                    ..strict()
                },
            );
        })
        .await;
        for wish in [
            modest(),
            modest(),
            Wish {
                model: "large-1",
                depth: Some("9"),
                ..modest()
            },
        ] {
            assert_eq!(
                verdict(&tollgate, Format::Chat.request(&wish)).await,
                Ok(()),
                "{mode:?}"
            );
        }
        let unread = request("POST /anthropic/v1/messages", &[], "not JSON");
        assert_eq!(verdict(&tollgate, unread).await, Ok(()), "{mode:?}");
    }
}

#[tokio::test]
async fn callers_without_policies_are_bounded_by_nothing() {
    let (tollgate, _upstream) = adjusted(|settings| {
        settings.tiers.insert("free".to_owned(), strict());
        settings.keys.insert("somebody".to_owned(), strict());
    })
    .await;
    let wish = Wish {
        model: "large-1",
        cap: None,
        tools: vec!["Bash"],
        ..modest()
    };
    for format in FORMATS {
        assert_eq!(
            verdict(&tollgate, format.request(&wish)).await,
            Ok(()),
            "{format:?}"
        );
    }
}
