//! Decides which client program asks, told by its headers: they differ in what makes them give up, come back, and show
//! an error's text. The facts are measured; `docs/refusals.md` has the table.
//!
//! A program that cannot be told is [`Client::Other`], which is answered in the way that the fewest programs retry.

use http::HeaderMap;

/// A family of client programs that treat an error alike.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Client {
    /// Claude Code.
    ClaudeCode,
    /// Codex, in each of its forms (`exec`, terminal, editor). It repeats every status but a 400.
    Codex,
    /// An SDK made by Stainless (OpenAI's, Anthropic's and others'): it obeys `x-should-retry`.
    Stainless,
    /// The Vercel AI SDK, and what is made with it (opencode). It repeats 429 whatever the headers say.
    VercelAi,
    /// Gemini CLI. It repeats 429 up to ten times.
    GeminiCli,
    /// Google's `google-genai`. With its retries switched on it repeats 429 and ignores every header.
    GoogleGenAi,
    /// The AWS SDKs (`boto3`): they read an error's kind from a header.
    Boto,
    /// Any other program.
    #[default]
    Other,
}

impl Client {
    /// Tells the program by its headers. What is more particular goes first: Claude Code sends the headers of the SDK
    /// inside it too, and Gemini CLI those of google-genai.
    pub fn of(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let agent = text("user-agent").unwrap_or("");
        if agent.starts_with("claude-cli/") || headers.contains_key("x-claude-code-session-id") {
            Client::ClaudeCode
        } else if text("originator").is_some_and(is_codex) || is_codex(agent) {
            Client::Codex
        } else if agent.starts_with("GeminiCLI") {
            Client::GeminiCli
        } else if [agent, text("x-goog-api-client").unwrap_or("")]
            .iter()
            .any(|value| value.contains("google-genai-sdk/"))
        {
            Client::GoogleGenAi
        } else if agent.contains("ai-sdk/") {
            Client::VercelAi
        } else if headers.contains_key("amz-sdk-invocation-id") {
            Client::Boto
        } else if headers.contains_key("x-stainless-lang") {
            Client::Stainless
        } else {
            Client::Other
        }
    }
}

/// `codex_exec`, `codex_cli_rs`, `codex-tui`, `codex_vscode`, with or without a version behind it; `Codex Desktop`.
fn is_codex(name: &str) -> bool {
    let name = name.as_bytes();
    name.len() >= 5
        && name[..5].eq_ignore_ascii_case(b"codex")
        && matches!(name.get(5), None | Some(b'_' | b'-' | b'/' | b' '))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn client(headers: &[(&str, &str)]) -> Client {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(
                name.parse::<HeaderName>().unwrap(),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        Client::of(&map)
    }

    #[test]
    fn each_program_is_told_by_what_it_was_seen_to_send() {
        let lang = ("x-stainless-lang", "js");
        let cases: [(&[(&str, &str)], Client); 16] = [
            (
                &[
                    ("user-agent", "claude-cli/2.1.197 (external, sdk-cli)"),
                    lang,
                ],
                Client::ClaudeCode,
            ),
            (
                &[
                    ("x-claude-code-session-id", "u1"),
                    ("user-agent", "mine"),
                    lang,
                ],
                Client::ClaudeCode,
            ),
            (
                &[(
                    "user-agent",
                    "codex_exec/0.169.0 (Debian 12.0.0; x86_64) dumb",
                )],
                Client::Codex,
            ),
            (
                &[("originator", "codex_vscode"), ("user-agent", "x")],
                Client::Codex,
            ),
            (&[("originator", "codex-tui")], Client::Codex),
            (
                &[
                    ("user-agent", "OpenAI/Python 3.54.0"),
                    ("x-stainless-lang", "python"),
                ],
                Client::Stainless,
            ),
            (
                &[
                    ("user-agent", "langchain-anthropic/1.7.7"),
                    ("x-stainless-lang", "python"),
                ],
                Client::Stainless,
            ),
            (
                &[(
                    "user-agent",
                    "ai/6.0.326 ai-sdk/provider-utils/4.0.66 runtime/node.js/v20.20.2",
                )],
                Client::VercelAi,
            ),
            (
                &[(
                    "user-agent",
                    "opencode/1.18.33 ai-sdk/provider-utils/4.0.46 runtime/bun/1.3.14",
                )],
                Client::VercelAi,
            ),
            (
                &[
                    (
                        "user-agent",
                        "GeminiCLI-tui/0.61.0/gemini-2.5-flash (linux; x64; terminal)",
                    ),
                    (
                        "x-goog-api-client",
                        "google-genai-sdk/1.30.0 gl-node/v20.20.2",
                    ),
                ],
                Client::GeminiCli,
            ),
            (
                &[("user-agent", "google-genai-sdk/3.4.0 gl-python/3.11.7")],
                Client::GoogleGenAi,
            ),
            (
                &[(
                    "x-goog-api-client",
                    "google-genai-sdk/2.32.0 gl-node/v20.20.2",
                )],
                Client::GoogleGenAi,
            ),
            (
                &[
                    ("user-agent", "Boto3/1.44.5 md/Botocore"),
                    ("amz-sdk-invocation-id", "u"),
                ],
                Client::Boto,
            ),
            (&[("user-agent", "litellm/1.106.2")], Client::Other),
            (&[("user-agent", "codexical/1")], Client::Other),
            (&[], Client::Other),
        ];
        for (headers, expected) in cases {
            assert_eq!(client(headers), expected, "{headers:?}");
        }
    }

    #[test]
    fn headers_that_are_no_text_tell_nothing() {
        let mut map = HeaderMap::new();
        for name in ["user-agent", "originator", "x-goog-api-client"] {
            map.insert(name, HeaderValue::from_bytes(b"codex\xff").unwrap());
        }
        assert_eq!(Client::of(&map), Client::Other);
    }
}
