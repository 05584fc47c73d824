//! The environment variables that point SDKs and agents at the proxy.
//!
//! What each client puts behind its base URL decides how much of the path the variable holds: Anthropic's SDKs add
//! `/v1/messages`, OpenAI's only `/chat/completions`, Google's the version and the rest.
//!
//! Not here: Codex reads no variable, only its config (`openai_base_url`); Azure and Bedrock sign or name their hosts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::session::Session;
use crate::cli::TagArgs;
use crate::config::Loaded;
use crate::failure::Failure;

/// Variable, the provider it is for, and what follows the provider's name in the path.
const VARIABLES: [(&str, &str, &str); 17] = [
    // SDKs, Claude Code, Vercel's AI SDK (which leaves out /v1; the proxy knows the path by its end).
    ("ANTHROPIC_BASE_URL", "anthropic", ""),
    // LangChain, which looks here first.
    ("ANTHROPIC_API_URL", "anthropic", ""),
    // litellm, aider.
    ("ANTHROPIC_API_BASE", "anthropic", ""),
    ("OPENAI_BASE_URL", "openai", "/v1"),
    // LangChain, litellm, aider.
    ("OPENAI_API_BASE", "openai", "/v1"),
    // google-genai, Gemini CLI.
    ("GOOGLE_GEMINI_BASE_URL", "gemini", ""),
    // litellm adds /models/….
    ("GEMINI_API_BASE", "gemini", "/v1beta"),
    ("OLLAMA_HOST", "ollama", ""),
    ("OLLAMA_API_BASE", "ollama", ""),
    // Groq's SDK adds /openai/v1/….
    ("GROQ_BASE_URL", "groq", ""),
    // LangChain; litellm.
    ("MISTRAL_BASE_URL", "mistral", "/v1"),
    ("MISTRAL_API_BASE", "mistral", "/v1"),
    ("DEEPSEEK_API_BASE", "deepseek", "/v1"),
    ("XAI_API_BASE", "xai", "/v1"),
    ("TOGETHER_BASE_URL", "together", "/v1"),
    ("TOGETHERAI_API_BASE", "together", "/v1"),
    ("OPENROUTER_API_BASE", "openrouter", "/v1"),
];

/// The variables for the providers that the configuration has, tagged as asked.
///
/// # Errors
/// The proxy's address is not known, or `--url` is not one.
pub fn variables(loaded: &Loaded, tag: &TagArgs) -> Result<Vec<(&'static str, String)>, Failure> {
    let base = tagged(&proxy_url(loaded, tag.url.as_deref())?, tag);
    let mounted = |name: &str| {
        loaded
            .settings
            .providers
            .iter()
            .any(|provider| provider.name == name)
    };
    Ok(VARIABLES
        .iter()
        .filter(|(_, provider, _)| mounted(provider))
        .map(|(variable, provider, rest)| (*variable, format!("{base}/{provider}{rest}")))
        .collect())
}

/// `NO_PROXY` with the proxy's host in it, when an HTTP proxy is set that would otherwise be asked to reach it. In both
/// spellings, as clients read either.
pub fn no_proxy(
    loaded: &Loaded,
    tag: &TagArgs,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Vec<(&'static str, String)>, Failure> {
    let set = |name: &str| environment(name).filter(|value| !value.is_empty());
    let proxies = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
    if !proxies.into_iter().any(|name| set(name).is_some()) {
        return Ok(Vec::new());
    }
    let url = proxy_url(loaded, tag.url.as_deref())?;
    let Some(host) = url
        .parse::<http::Uri>()
        .ok()
        .and_then(|url| url.host().map(str::to_owned))
    else {
        return Ok(Vec::new());
    };
    let host = host.trim_matches(['[', ']']);
    let list = set("NO_PROXY")
        .or_else(|| set("no_proxy"))
        .unwrap_or_default();
    if list
        .split(',')
        .any(|entry| matches!(entry.trim(), "*") || entry.trim() == host)
    {
        return Ok(Vec::new());
    }
    let list = if list.is_empty() {
        host.to_owned()
    } else {
        format!("{list},{host}")
    };
    Ok(vec![("NO_PROXY", list.clone()), ("no_proxy", list)])
}

fn tagged(base: &str, tag: &TagArgs) -> String {
    let default = Session::default_session();
    match (&tag.session, tag.priority) {
        (None, None) => base.to_owned(),
        (Some(session), None) => format!("{base}/@{}", session.in_path()),
        (session, Some(priority)) => {
            format!(
                "{base}/@{}:{priority}",
                session.as_ref().unwrap_or(&default).in_path()
            )
        }
    }
}

fn proxy_url(loaded: &Loaded, given: Option<&str>) -> Result<String, Failure> {
    if let Some(given) = given {
        return given_url(given);
    }
    let listen = loaded.settings.server.listen;
    if listen.port() == 0 {
        return Err(Failure::usage("the system chooses the proxy's port (server.listen has port 0), so it is not known here")
            .hint("give the address that tollgate shows when it starts: --url http://127.0.0.1:PORT"));
    }
    Ok(format!("http://{}", reachable(listen)))
}

/// Where a client on this machine reaches a listener: the unspecified address is every address, also loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn given_url(given: &str) -> Result<String, Failure> {
    let url = given.trim_end_matches('/').parse::<http::Uri>().ok();
    let url = url
        .filter(|url| matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some());
    let plain = |url: &http::Uri| {
        url.query().is_none()
            && !given.contains('#')
            && !url
                .authority()
                .is_some_and(|all| all.as_str().contains('@'))
    };
    match url.filter(plain) {
        Some(url) => Ok(url.to_string().trim_end_matches('/').to_owned()),
        None => Err(Failure::usage("--url is not the address of a proxy")
            .hint("an example: --url http://127.0.0.1:8402")),
    }
}
