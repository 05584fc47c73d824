//! The name of a session as a user writes it: it must fit into a path and into a header as it is.

use std::fmt;
use std::str::FromStr;

/// Characters that mean something in a path or in the tag itself.
const FORBIDDEN: &[u8] = b"/:@?#%";

/// Longest name in bytes.
const LONGEST: usize = 128;

/// A session's name: 1 to 128 visible ASCII characters without `/ : @ ? # %` and spaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session(String);

impl Session {
    /// The session of requests that belong to none.
    pub fn default_session() -> Self {
        Self("default".to_owned())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as a part of a path: what RFC 3986 does not allow there becomes `%XX`.
    pub fn in_path(&self) -> String {
        let mut path = String::with_capacity(self.0.len());
        for byte in self.0.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte) {
                path.push(char::from(byte));
            } else {
                path.push_str(&format!("%{byte:02X}"));
            }
        }
        path
    }
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text cannot be a session's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a session's name is 1 to 128 visible ASCII characters without spaces and / : @ ? # %")]
pub struct SessionError;

impl FromStr for Session {
    type Err = SessionError;

    fn from_str(name: &str) -> Result<Self, SessionError> {
        let fits = |byte: u8| byte.is_ascii_graphic() && !FORBIDDEN.contains(&byte);
        if name.is_empty() || name.len() > LONGEST || !name.bytes().all(fits) {
            return Err(SessionError);
        }
        Ok(Self(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_must_fit_into_a_path_and_a_header() {
        for good in ["a", "docs", "ci-7_x.y~z", "a';x", &"x".repeat(128)] {
            assert_eq!(
                good.parse::<Session>().map(|name| name.to_string()),
                Ok(good.to_owned())
            );
        }
        for bad in [
            "",
            "a b",
            "a/b",
            "a:b",
            "@a",
            "a?",
            "a#",
            "a%41",
            "é",
            "a\n",
            &"x".repeat(129),
        ] {
            assert_eq!(bad.parse::<Session>(), Err(SessionError), "{bad}");
        }
        assert_eq!(Session("a'<|\"z".into()).in_path(), "a'%3C%7C%22z");
    }
}
