//! Keeps secrets out of messages: what a message quotes of a config file, a variable or a flag goes through here.
//!
//! A value is secret if its key's last word is key, keys, token, secret, password or authorization. In every URL the
//! user name and password and the query are secret too. Masking keeps the length in bytes, so that places in the text
//! stay where they are. When in doubt it hides too much.

use std::ops::Range;

const SECRET_WORDS: [&str; 6] = [
    "key",
    "keys",
    "token",
    "secret",
    "password",
    "authorization",
];

/// Whether values under this name are secret. Takes config keys, variables and flags.
pub(super) fn is_secret(name: &str) -> bool {
    let name = name.trim().trim_matches(['"', '\'']).to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| name.ends_with(word))
}

/// The value for a message about `name`.
pub(super) fn value(name: &str, value: &str) -> String {
    if is_secret(name) {
        return "*".repeat(value.chars().count().min(8));
    }
    text(value)
}

/// A copy of a config file's text without its secrets, of the same length in bytes.
pub(super) fn text(text: &str) -> String {
    let mut masked = text.as_bytes().to_vec();
    for span in secret_values(text).into_iter().chain(url_secrets(text)) {
        for byte in &mut masked[span] {
            if *byte != b'\n' && *byte != b'\r' {
                *byte = b'*';
            }
        }
    }
    String::from_utf8(masked)
        .expect("whole characters are replaced by ASCII, since spans end at ASCII or at the end")
}

/// Everything after `…key =` to the end of the line, or of the multi-line text that begins there.
fn secret_values(text: &str) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    for (equals, _) in text.match_indices('=') {
        let before = text[..equals].trim_end_matches([' ', '\t']);
        let name_start = before
            .rfind(['\n', '{', ',', '.', ' '])
            .map_or(0, |at| at + 1);
        if !is_secret(&before[name_start..]) {
            continue;
        }
        let start = equals + 1;
        let rest = &text[start..];
        let opening = rest.trim_start_matches([' ', '\t']);
        let quotes = ["\"\"\"", "'''"]
            .into_iter()
            .find(|quotes| opening.starts_with(quotes));
        let length = match quotes {
            Some(quotes) => {
                let inside = rest.len() - opening.len() + quotes.len();
                rest[inside..]
                    .find(quotes)
                    .map_or(rest.len(), |end| inside + end + quotes.len())
            }
            None => rest.find('\n').unwrap_or(rest.len()),
        };
        spans.push(start..start + length);
    }
    spans
}

/// User names, passwords and queries of URLs.
fn url_secrets(text: &str) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    for (at, mark) in text.match_indices("://") {
        let start = at + mark.len();
        let rest = &text[start..];
        let end = rest
            .find(|c: char| c.is_whitespace() || matches!(c, '"' | '\''))
            .unwrap_or(rest.len());
        let url = &rest[..end];
        if let Some(user) = url
            .split(['/', '?'])
            .next()
            .and_then(|authority| authority.rfind('@'))
        {
            spans.push(start..start + user);
        }
        if let Some(query) = url.find('?') {
            spans.push(start + query + 1..start + end);
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_and_nothing_moves() {
        let before = "a = 1\napi_key = \"sk-geheim-é\" # x\nx = { auth_token = 's3' }\nb = \"https://me:pw@host/p?sig=abc\"\n\
                      secret = \"\"\"\none\ntwo\"\"\"\nlisten = \"x\"\n";
        let after = text(before);
        assert_eq!(after.len(), before.len());
        for hidden in ["geheim", "s3", "pw", "me:", "abc", "one", "two"] {
            assert!(!after.contains(hidden), "{hidden} in {after}");
        }
        for kept in [
            "a = 1\n",
            "api_key =",
            "@host/p?",
            "listen = \"x\"\n",
            "auth_token =",
        ] {
            assert!(after.contains(kept), "{kept} not in {after}");
        }
        assert_eq!(after.lines().count(), before.lines().count());
    }

    #[test]
    fn a_variable_is_hidden_by_its_name() {
        assert_eq!(value("TOLLGATE_X_API_KEY", "sk-1"), "****");
        assert_eq!(value("--set server.listen", "0.0.0.0:1"), "0.0.0.0:1");
        assert_eq!(
            value("TOLLGATE_BASE_URL", "https://u:p@h/"),
            "https://***@h/"
        );
    }
}
