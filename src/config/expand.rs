//! Replaces `${NAME}` and `${NAME:-default}` in the texts of a parsed config file.
//!
//! After parsing, so that quotes and newlines in a variable are only text. As in a shell, the default also stands in for
//! an empty variable. `$${` is a plain `${`; a `$` before anything else is itself.

use std::collections::BTreeMap;

/// Why a text cannot be expanded. Holds names of variables, never their values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ExpandError {
    /// The variable is missing and there is no default.
    #[error("environment variable `{0}` is not set")]
    Unset(String),
    /// No `}` follows, or what stands before it is no name.
    #[error("`${{` is not followed by a name and `}}`")]
    Malformed,
}

/// The text with its variables replaced; `None` if there is nothing to replace.
pub(super) fn expand(
    text: &str,
    environment: &BTreeMap<String, String>,
) -> Result<Option<String>, ExpandError> {
    if !text.contains("${") {
        return Ok(None);
    }
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find("${") {
        if rest[..dollar].ends_with('$') {
            expanded.push_str(&rest[..dollar - 1]);
            expanded.push_str("${");
            rest = &rest[dollar + 2..];
            continue;
        }
        expanded.push_str(&rest[..dollar]);
        let inside = &rest[dollar + 2..];
        let end = inside.find('}').ok_or(ExpandError::Malformed)?;
        let (name, default) = match inside[..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&inside[..end], None),
        };
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(ExpandError::Malformed);
        }
        let value = environment.get(name).map(String::as_str);
        let value = match default {
            Some(default) => value.filter(|value| !value.is_empty()).unwrap_or(default),
            None => value.ok_or_else(|| ExpandError::Unset(name.to_owned()))?,
        };
        expanded.push_str(value);
        rest = &inside[end + 1..];
    }
    expanded.push_str(rest);
    Ok(Some(expanded))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_as_in_a_shell() {
        let environment: BTreeMap<String, String> = [("A", "x\"y"), ("EMPTY", "")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        for (text, expanded) in [
            ("plain $A", Ok(None)),
            ("<${A}>", Ok(Some("<x\"y>"))),
            ("${A}${A}", Ok(Some("x\"yx\"y"))),
            ("${B:-d}", Ok(Some("d"))),
            ("${EMPTY:-d}", Ok(Some("d"))),
            ("${EMPTY}", Ok(Some(""))),
            ("${B:-}", Ok(Some(""))),
            ("$${A}", Ok(Some("${A}"))),
            ("${B}", Err(ExpandError::Unset("B".into()))),
            ("${A", Err(ExpandError::Malformed)),
            ("${}", Err(ExpandError::Malformed)),
            ("${A B}", Err(ExpandError::Malformed)),
        ] {
            let expanded = expanded.map(|some| some.map(str::to_owned));
            assert_eq!(expand(text, &environment), expanded, "{text}");
        }
    }
}
