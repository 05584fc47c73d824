//! Reads who the body says is asking: sessions and users in metadata, each where some client puts them.

use std::borrow::Cow;

use serde::Deserialize;

use super::cursor::{member, text_of};
use super::fields::{Field, Fields};

/// Names that the body states. Which of them is the session is decided elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stated<'a> {
    /// `metadata.session_id`.
    pub session_id: Option<Cow<'a, str>>,
    /// `metadata.user_id`, taken apart.
    pub user_id: Option<UserId<'a>>,
    /// OpenAI's `prompt_cache_key`; Codex puts its thread id there.
    pub prompt_cache_key: Option<Cow<'a, str>>,
    /// Codex's `client_metadata.session_id`.
    pub client_session_id: Option<Cow<'a, str>>,
    /// OpenAI's `user`.
    pub user: Option<Cow<'a, str>>,
    /// OpenAI's `safety_identifier`, the successor of `user`.
    pub safety_identifier: Option<Cow<'a, str>>,
}

/// Anthropic's `metadata.user_id`, into which Claude Code packs three names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserId<'a> {
    /// Claude Code's: a JSON text, or `user_…_account_…_session_…` in old versions.
    ClaudeCode {
        /// The session.
        session: Option<String>,
        /// The account, if the user has logged in.
        account: Option<String>,
        /// The installation.
        device: Option<String>,
    },
    /// Any other text: a user's name.
    Plain(Cow<'a, str>),
}

impl<'a> Stated<'a> {
    pub(super) fn read(fields: &Fields<'a>) -> Self {
        let text = |field| fields.get(field).and_then(text_of);
        let inside = |field, name| {
            fields
                .get(field)
                .and_then(|raw| member(raw, name))
                .and_then(text_of)
        };
        Self {
            session_id: inside(Field::Metadata, "session_id"),
            user_id: inside(Field::Metadata, "user_id").map(UserId::read),
            prompt_cache_key: text(Field::PromptCacheKey),
            client_session_id: inside(Field::ClientMetadata, "session_id"),
            user: text(Field::User),
            safety_identifier: text(Field::SafetyIdentifier),
        }
    }
}

/// The JSON form of `metadata.user_id`; other keys (`tk`, `parent_session_id`, the user's own) are not needed.
#[derive(Deserialize)]
struct Packed {
    session_id: Option<String>,
    account_uuid: Option<String>,
    device_id: Option<String>,
}

impl<'a> UserId<'a> {
    fn read(text: Cow<'a, str>) -> Self {
        let present = |text: String| Some(text).filter(|text| !text.is_empty());
        if text.starts_with('{')
            && let Ok(packed) = serde_json::from_str::<Packed>(&text)
        {
            return UserId::ClaudeCode {
                session: packed.session_id.and_then(present),
                account: packed.account_uuid.and_then(present),
                device: packed.device_id.and_then(present),
            };
        }
        let parts = text
            .strip_prefix("user_")
            .and_then(|rest| rest.split_once("_account_"))
            .and_then(|(device, rest)| Some((device, rest.split_once("_session_")?)));
        match parts {
            Some((device, (account, session))) => UserId::ClaudeCode {
                session: present(session.to_owned()),
                account: present(account.to_owned()),
                device: present(device.to_owned()),
            },
            None => UserId::Plain(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_claude_codes_user_id_are_read() {
        let device = "d".repeat(64);
        let packed = |account: Option<&str>| UserId::ClaudeCode {
            session: Some("8f6b".into()),
            account: account.map(str::to_owned),
            device: Some(device.clone()),
        };
        let json = format!(
            r#"{{"device_id":"{device}","account_uuid":"","session_id":"8f6b","tk":{{"x":1}}}}"#
        );
        assert_eq!(UserId::read(json.into()), packed(None));
        let old = format!("user_{device}_account__session_8f6b");
        assert_eq!(UserId::read(old.into()), packed(None));
        let old = format!("user_{device}_account_a1_session_8f6b");
        assert_eq!(UserId::read(old.into()), packed(Some("a1")));
        for plain in ["user_7", "{not json", "ann", ""] {
            assert_eq!(UserId::read(plain.into()), UserId::Plain(plain.into()));
        }
    }
}
