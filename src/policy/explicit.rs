//! The rule for what a client states in `x-tollgate-…` headers: once, and a short visible name. A value that breaks it
//! is an error and not a guess, because whoever sets such a header relies on it.

use http::HeaderMap;

/// Longest value in characters.
pub const MAX_CHARS: usize = 128;

/// A header that breaks the rule, and which part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("header {header} {rule}")]
pub struct HeaderError {
    /// The header's name.
    pub header: &'static str,
    /// What its value has to be.
    pub rule: Rule,
}

/// What the value of an explicit header has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    /// It is there twice or more.
    #[error("must be given once")]
    Once,
    /// It is empty, too long, or holds spaces, control or non-ASCII characters.
    #[error("must be 1 to 128 visible ASCII characters")]
    Name,
    /// It is not the name of a priority.
    #[error("must be low, normal, high or critical")]
    Priority,
}

/// Reads an explicit header. `Ok(None)` if it is absent.
///
/// # Errors
///
/// The header is repeated, or its value is not 1 to 128 visible ASCII characters.
pub fn value<'a>(
    headers: &'a HeaderMap,
    header: &'static str,
) -> Result<Option<&'a str>, HeaderError> {
    let mut values = headers.get_all(header).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let broken = |rule| HeaderError { header, rule };
    if values.next().is_some() {
        return Err(broken(Rule::Once));
    }
    match value.to_str() {
        Ok(text) if is_name(text) => Ok(Some(text)),
        _ => Err(broken(Rule::Name)),
    }
}

/// Whether a text is a name: 1 to 128 visible ASCII characters.
pub fn is_name(text: &str) -> bool {
    (1..=MAX_CHARS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const HEADER: &str = "x-tollgate-session";

    fn read(values: &[&[u8]]) -> Result<Option<String>, Rule> {
        let mut headers = HeaderMap::new();
        for value in values {
            let value = HeaderValue::from_bytes(value).expect("a header value");
            headers.append(HEADER, value);
        }
        value(&headers, HEADER)
            .map(|text| text.map(str::to_owned))
            .map_err(|error| error.rule)
    }

    #[test]
    fn one_short_visible_name_is_taken_and_all_else_refused() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[b"docs/a:1"]), Ok(Some("docs/a:1".into())));
        assert_eq!(
            read(&[&[b'a'; 128]]).map(|text| text.map(|t| t.len())),
            Ok(Some(128))
        );
        assert_eq!(read(&[&[b'a'; 129]]), Err(Rule::Name));
        assert_eq!(read(&[b""]), Err(Rule::Name));
        assert_eq!(read(&[b"a b"]), Err(Rule::Name));
        assert_eq!(read(&["é".as_bytes()]), Err(Rule::Name));
        assert_eq!(read(&[b"a", b"a"]), Err(Rule::Once));
    }

    #[test]
    fn the_message_names_header_and_rule() {
        let error = HeaderError {
            header: HEADER,
            rule: Rule::Once,
        };
        assert_eq!(
            error.to_string(),
            "header x-tollgate-session must be given once"
        );
    }
}
