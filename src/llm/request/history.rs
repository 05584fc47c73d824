//! What the conversation so far holds that a model may reject: another one's thinking, signatures, roles, odd blocks.
//!
//! The newest turn is told from earlier ones: it begins at the newest message that is the user's own words and not the
//! result of a tool. Providers check what stands inside it, since the model goes on thinking where it left off.

/// What was seen in messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen(u16);

impl Seen {
    /// A block of Anthropic's thinking, given or redacted.
    pub const THINKING: Seen = Seen(1);
    /// A call of a tool by the model.
    pub const TOOL_CALL: Seen = Seen(2);
    /// Google's signature of a thought.
    pub const SIGNATURE: Seen = Seen(4);
    /// A reasoning item of OpenAI Responses.
    pub const REASONING: Seen = Seen(8);
    /// An item of OpenAI Responses, no reasoning, that has an id: its reasoning must not be missing.
    pub const ITEM_ID: Seen = Seen(16);
    /// A message with the role `system` among the others.
    pub const SYSTEM: Seen = Seen(32);
    /// A message with the role `developer`.
    pub const DEVELOPER: Seen = Seen(64);
    /// A message by the model.
    pub const MODEL: Seen = Seen(128);
    /// Reasoning beside a message of the model (`reasoning_content` and its likes).
    pub const REASONING_TEXT: Seen = Seen(256);
    /// An image that is not given but referred to.
    pub const LINKED_IMAGE: Seen = Seen(512);
    /// The result of a tool.
    pub const TOOL_RESULT: Seen = Seen(1024);

    /// Whether any of these was seen.
    pub const fn any(self, of: Seen) -> bool {
        self.0 & of.0 != 0
    }

    /// Both.
    #[must_use]
    pub const fn and(self, other: Seen) -> Seen {
        Seen(self.0 | other.0)
    }

    pub(super) fn note(&mut self, what: Seen) {
        self.0 |= what.0;
    }
}

/// What the conversation holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct History {
    /// Before the newest turn.
    pub earlier: Seen,
    /// In the newest turn.
    pub turn: Seen,
    /// The last message is the model's: it is to go on with it.
    pub ends_with_model: bool,
}

impl History {
    /// In all of it.
    pub const fn all(&self) -> Seen {
        self.earlier.and(self.turn)
    }

    /// Takes in the next message.
    pub(super) fn add(&mut self, message: Seen, of_user: bool) {
        self.ends_with_model = message.any(Seen::MODEL);
        let begins_turn = of_user && !message.any(Seen::TOOL_RESULT);
        if begins_turn {
            self.earlier.note(self.turn);
            self.turn = Seen::default();
        }
        self.turn.note(message);
    }
}

/// What a block's type stands for; `None` if tollgate does not know it.
pub(super) fn block(kind: &str) -> Option<Seen> {
    Some(match kind {
        "" | "text" | "input_text" | "output_text" | "image" | "image_url" | "input_image"
        | "document" | "input_file" | "file" | "input_audio" | "audio_url" | "video_url"
        | "input_video" | "refusal" => Seen::default(),
        "thinking" | "redacted_thinking" => Seen::THINKING,
        "tool_use" => Seen::TOOL_CALL,
        "tool_result" => Seen::TOOL_RESULT,
        _ => return None,
    })
}

/// What an item of OpenAI Responses stands for, by its type.
pub(super) fn item(kind: &str) -> Option<Seen> {
    Some(match kind {
        "" | "message" => Seen::default(),
        "function_call" | "custom_tool_call" => Seen::TOOL_CALL.and(Seen::MODEL),
        "function_call_output" | "custom_tool_call_output" => Seen::TOOL_RESULT,
        "reasoning" => Seen::REASONING.and(Seen::MODEL),
        _ => return None,
    })
}

/// What a message's role stands for.
pub(super) fn role(role: &str) -> Option<Seen> {
    Some(match role {
        "user" => Seen::default(),
        "assistant" | "model" => Seen::MODEL,
        "tool" | "function" => Seen::TOOL_RESULT,
        "system" => Seen::SYSTEM,
        "developer" => Seen::DEVELOPER,
        _ => return None,
    })
}

/// What a message's member stands for, apart from role, type, content and the like.
pub(super) fn message_member(name: &str) -> Option<Seen> {
    Some(match name {
        "name" | "tool_call_id" | "refusal" | "annotations" | "status" | "call_id" | "output"
        | "arguments" | "summary" | "encrypted_content" | "input" | "tool_name" => Seen::default(),
        "tool_calls" | "function_call" => Seen::TOOL_CALL,
        "reasoning_content" | "reasoning" | "reasoning_details" | "thinking" => {
            Seen::REASONING_TEXT
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_begins_with_the_users_words_and_not_with_a_tools_result() {
        let mut history = History::default();
        history.add(Seen::default(), true);
        history.add(Seen::MODEL.and(Seen::THINKING).and(Seen::TOOL_CALL), false);
        history.add(Seen::TOOL_RESULT, true);
        assert!(history.turn.any(Seen::THINKING) && !history.earlier.any(Seen::THINKING));
        history.add(Seen::default(), true);
        assert!(history.earlier.any(Seen::THINKING) && !history.turn.any(Seen::THINKING));
        assert!(!history.ends_with_model);
        history.add(Seen::MODEL, false);
        assert!(history.ends_with_model);
    }
}
