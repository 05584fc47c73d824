//! Measures a prompt: bytes of text, media, messages, and where the user's own texts stand.
//!
//! One walk serves every dialect, because they differ in names and not in shape: a list of messages with a role, whose
//! content is a string or a list of blocks, which may nest (tool results hold blocks again). Strings count as text
//! except names, ids and signatures; media payloads are counted apart; what has no fixed shape (tool arguments) counts
//! with its punctuation, as the model reads that too.

use std::hash::{DefaultHasher, Hasher as _};

use super::cursor::Cursor;
use super::history::{self, History, Seen};
use crate::llm::estimate::PromptSize;

/// Nesting beyond which a value is counted by its length only. Real content nests about eight deep.
const MAX_DEPTH: u32 = 48;

/// How much of each of the first texts tells conversations apart: the end, where agents that begin all of theirs with the
/// same words come to the point.
const BEGINNING_BYTES: usize = 256;

/// What the walk has found so far.
#[derive(Default)]
pub(super) struct Prompt<'a> {
    pub(super) size: PromptSize,
    pub(super) messages: u32,
    /// Something is referred to whose size nothing here bounds: a file by its id or address, except an image.
    pub(super) refers_to_files: bool,
    /// A part of the conversation declares tools (Codex's `additional_tools`).
    pub(super) brings_tools: bool,
    /// What the conversation holds that a model may reject.
    pub(super) history: History,
    /// The first role, block or member of a message that is not known.
    pub(super) strange: Option<Box<str>>,
    /// What the message that is being read holds.
    message: Seen,
    /// The text blocks of user messages, as they are written, without quotes.
    texts: Vec<&'a str>,
    /// For each user message with text, where its texts begin and end.
    turns: Vec<(usize, usize)>,
}

impl<'a> Prompt<'a> {
    /// The texts of each user message that has any, newest first.
    pub(super) fn newest_turns(&self) -> impl Iterator<Item = &[&'a str]> {
        self.turns
            .iter()
            .rev()
            .map(|(start, end)| &self.texts[*start..*end])
    }

    /// A number made of the first user message that has any text: the same for every request of a conversation, which
    /// grows at its other end. 0 if there is none.
    pub(super) fn beginning(&self) -> u64 {
        let Some((start, end)) = self.turns.first() else {
            return 0;
        };
        let mut hash = DefaultHasher::new();
        for text in &self.texts[*start..*end] {
            let tail = text.len().saturating_sub(BEGINNING_BYTES);
            hash.write_usize(text.len());
            hash.write(&text.as_bytes()[tail..]);
        }
        hash.finish()
    }

    /// Counts a value of no fixed shape by its length.
    pub(super) fn add_raw(&mut self, raw: &str) {
        self.size.text_bytes += raw.len() as u64;
    }

    /// Counts a system prompt or the like: text of which nothing is the user's.
    pub(super) fn add_content(&mut self, raw: &'a str) {
        self.outermost(&mut Cursor::new(raw));
    }

    /// Counts Ollama's `images`: a list of base64 texts beside the message.
    pub(super) fn add_images(&mut self, raw: &'a str) {
        self.images(&mut Cursor::new(raw));
    }

    /// Counts messages, or what stands in their place: one text, a list of texts, or token ids.
    pub(super) fn add_messages(&mut self, raw: &'a str) {
        let mut cursor = Cursor::new(raw);
        if cursor.peek() == b'[' {
            cursor.open();
            while cursor.element() {
                self.message(&mut cursor);
            }
        } else {
            self.message(&mut cursor);
        }
    }

    fn message(&mut self, cursor: &mut Cursor<'a>) {
        match cursor.peek() {
            b'{' => self.message_object(cursor),
            b'"' => {
                let start = self.texts.len();
                self.user_text(cursor);
                self.turns.push((start, self.texts.len()));
                self.messages += 1;
                self.history.add(Seen::default(), true);
            }
            b'[' => {
                cursor.open();
                while cursor.element() {
                    self.token_id(cursor);
                }
            }
            _ => self.token_id(cursor),
        }
    }

    fn token_id(&mut self, cursor: &mut Cursor<'a>) {
        if matches!(cursor.peek(), b'0'..=b'9' | b'-') {
            self.size.token_ids += 1;
            cursor.skip();
        } else {
            self.outermost(cursor);
        }
    }

    fn message_object(&mut self, cursor: &mut Cursor<'a>) {
        self.messages += 1;
        let start = self.texts.len();
        let mut role = None;
        let mut gemini = false;
        let (mut kind, mut has_id) = ("", false);
        self.message = Seen::default();
        cursor.open();
        while let Some(key) = cursor.key() {
            match (&*key, cursor.peek()) {
                ("role", b'"') => role = Some(cursor.string()),
                ("type", b'"') => kind = cursor.string(),
                ("id", b'"') => {
                    cursor.skip();
                    has_id = true;
                }
                ("content", _) => self.message_content(cursor),
                ("parts", _) => {
                    gemini = true;
                    self.message_content(cursor);
                }
                ("images", b'[') => self.images(cursor),
                (key, first) => {
                    // What is null says nothing; `n` begins no other value.
                    if first != b'n' {
                        self.note(key, history::message_member(key));
                    }
                    self.refers_to_files |= self.member(key, cursor, 0);
                }
            }
        }
        self.note(kind, history::item(kind).or_else(|| history::block(kind)));
        self.brings_tools |= kind == "additional_tools";
        if has_id && kind != "reasoning" {
            self.message.note(Seen::ITEM_ID);
        }
        if let Some(role) = role {
            self.note(role, history::role(role));
        }
        // Google's `contents` may leave the role out for a single turn.
        let of_user = role.map_or(gemini, |role| role == "user");
        self.history.add(self.message, of_user);
        if !of_user {
            self.texts.truncate(start);
        } else if self.texts.len() > start {
            self.turns.push((start, self.texts.len()));
        }
    }

    /// Reads a message's own content, whose texts may be the user's.
    fn message_content(&mut self, cursor: &mut Cursor<'a>) {
        match cursor.peek() {
            b'"' => self.user_text(cursor),
            b'{' => self.refers_to_files |= self.object(cursor, 1, true),
            b'[' => {
                cursor.open();
                while cursor.element() {
                    self.refers_to_files |= match cursor.peek() {
                        b'"' => {
                            self.user_text(cursor);
                            false
                        }
                        b'{' => self.object(cursor, 1, true),
                        _ => self.value(cursor, 1),
                    };
                }
            }
            _ => {
                cursor.skip();
            }
        }
    }

    /// Notes what a part of a message stands for, or that nobody knows.
    fn note(&mut self, name: &str, seen: Option<Seen>) {
        match seen {
            Some(seen) => self.message.note(seen),
            None => {
                self.strange.get_or_insert_with(|| name.into());
            }
        }
    }

    /// Notes what a member of a part says, where Google's parts have no type but a member instead.
    fn note_part(&mut self, key: &str) {
        match key {
            "functionCall" | "function_call" => self.message.note(Seen::TOOL_CALL),
            "functionResponse" | "function_response" => self.message.note(Seen::TOOL_RESULT),
            "thoughtSignature" | "thought_signature" => self.message.note(Seen::SIGNATURE),
            "executableCode"
            | "codeExecutionResult"
            | "executable_code"
            | "code_execution_result"
            | "toolCall"
            | "toolResponse" => self.note(key, None),
            _ => {}
        }
    }

    fn user_text(&mut self, cursor: &mut Cursor<'a>) {
        let (text, length) = cursor.measured_string();
        self.size.text_bytes += length;
        self.texts.push(text);
    }

    fn images(&mut self, cursor: &mut Cursor<'a>) {
        if cursor.peek() != b'[' {
            cursor.skip();
            return;
        }
        cursor.open();
        while cursor.element() {
            self.size.images += 1;
            cursor.peek();
            self.size.image_bytes += cursor.skip().len() as u64;
        }
    }

    /// Counts a value that no block encloses. What it refers to and no block explains may be anything.
    fn outermost(&mut self, cursor: &mut Cursor<'a>) {
        self.refers_to_files |= self.value(cursor, 0);
    }

    /// Counts any value. Returns whether it refers to a medium by address or id.
    fn value(&mut self, cursor: &mut Cursor<'a>, depth: u32) -> bool {
        match cursor.peek() {
            b'"' => {
                self.size.text_bytes += cursor.measured_string().1;
                false
            }
            b'{' | b'[' if depth >= MAX_DEPTH => {
                self.size.text_bytes += cursor.skip().len() as u64;
                false
            }
            b'{' => self.object(cursor, depth + 1, false),
            b'[' => {
                let mut refers = false;
                cursor.open();
                while cursor.element() {
                    refers |= self.value(cursor, depth + 1);
                }
                refers
            }
            _ => {
                cursor.skip();
                false
            }
        }
    }

    /// Counts a block. `of_message`: its `text` is the message's own, not a tool's.
    fn object(&mut self, cursor: &mut Cursor<'a>, depth: u32, of_message: bool) -> bool {
        let media_before = self.media();
        let (mut kind, mut mime, mut data) = ("", "", None);
        let (mut refers, mut refers_inside) = (false, false);
        cursor.open();
        while let Some(key) = cursor.key() {
            match (&*key, cursor.peek()) {
                ("type", b'"') => kind = cursor.string(),
                ("media_type" | "mimeType" | "mime_type" | "format", b'"') => {
                    mime = cursor.string()
                }
                ("data", b'"') => data = Some(cursor.measured_string()),
                ("text", b'"') if of_message => self.user_text(cursor),
                (key, first) => {
                    if of_message {
                        self.note_part(key);
                    }
                    let found = self.member(key, cursor, depth);
                    refers |= found;
                    refers_inside |= found && first == b'{';
                }
            }
        }
        if of_message {
            self.note(kind, history::block(kind));
        }
        match data {
            Some((_, length)) if kind == "text" || (mime.is_empty() && kind != "base64") => {
                self.size.text_bytes += length;
            }
            Some((payload, _)) => self.medium(mime, payload.len()),
            None if refers && !mime.is_empty() => self.medium(mime, 0),
            // The kind says what a link leads to; a payload inside has been counted where it stood.
            None if refers && self.media() == media_before => match kind {
                "image" | "image_url" | "input_image" | "computer_screenshot" => {
                    self.medium("image/", 0);
                }
                "document" | "input_file" => self.medium("application/", 0),
                // OpenAI's block holds an object `file`; Anthropic's source of this type holds the id and says nothing
                // of the kind, which is that of the block around it.
                "file" if refers_inside => self.medium("application/", 0),
                "input_audio" | "audio" | "audio_url" | "video" | "video_url" | "input_video" => {
                    self.medium("video/", 0);
                }
                _ => return true,
            },
            None => {}
        }
        refers && self.media() == media_before
    }

    /// Counts the value of a key whose name says whether it is text, a link, arguments or nothing for the model.
    fn member(&mut self, key: &str, cursor: &mut Cursor<'a>, depth: u32) -> bool {
        match (key, cursor.peek()) {
            (
                "url" | "image_url" | "video_url" | "file_url" | "file_data" | "fileUri"
                | "file_uri" | "file_id",
                b'"',
            ) => self.link(cursor.string()),
            (
                "type" | "role" | "id" | "tool_use_id" | "tool_call_id" | "call_id" | "signature"
                | "thoughtSignature" | "thought_signature" | "detail" | "status" | "cache_control",
                _,
            ) => {
                cursor.skip();
                false
            }
            ("input" | "args" | "arguments" | "response" | "parameters", b'{' | b'[') => {
                self.size.text_bytes += cursor.skip().len() as u64;
                false
            }
            _ => self.value(cursor, depth),
        }
    }

    /// Takes a data URL as the medium itself; says of any other link that it leads to one.
    fn link(&mut self, link: &str) -> bool {
        let Some(payload) = link.strip_prefix("data:") else {
            return true;
        };
        // OpenAI's `file_data` is a data URL or the bare base64, which has no prefix and falls to the link above.
        let mime = payload.split([';', ',']).next().unwrap_or_default();
        self.medium(mime, payload.len());
        false
    }

    fn medium(&mut self, mime: &str, bytes: usize) {
        let bytes = bytes as u64;
        let given = bytes > 0;
        let class = mime.split(['/', '\\']).next().unwrap_or_default();
        match class {
            "image" => {
                self.size.images += 1;
                self.size.image_bytes += bytes;
                if !given {
                    self.message.note(Seen::LINKED_IMAGE);
                }
            }
            "application" | "text" => {
                self.size.documents += 1;
                self.size.document_bytes += bytes;
                self.refers_to_files |= !given;
            }
            // Audio and video, and the bare names of audio formats (`wav`, `mp3`).
            _ => {
                self.size.recordings += 1;
                self.size.recording_bytes += bytes;
                self.refers_to_files |= !given;
            }
        }
    }

    fn media(&self) -> u32 {
        self.size.images + self.size.documents + self.size.recordings
    }
}
