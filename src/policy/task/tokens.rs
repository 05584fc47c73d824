//! Splits a text into words and says where each stands: at the beginning of a sentence or clause, in quotation marks or a
//! path, or in prose. Pasted lines (fenced code, quotations, stack traces) give no words.
//!
//! Words are runs of letters, digits, underscores and inner apostrophes. Scripts that are written without spaces (Chinese,
//! Japanese, Thai) give one word per character, so that their texts do not pass for short ones.

use super::vocabulary::{UNKNOWN, Vocabulary};

/// Bytes that are read from each end of a long text: what is wanted stands before or after what is pasted.
const END_BYTES: usize = 1536;

/// Bytes of pasted text that count as one word, where only the number of words matters.
const PASTED_BYTES_PER_WORD: usize = 6;

/// A word of the text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token {
    start: u32,
    end: u32,
    /// Its number in the vocabulary.
    pub(super) word: u16,
    /// Whether it is the first of a sentence.
    pub(super) begins_sentence: bool,
    /// Whether it is the first of a clause: of a sentence, or behind a comma, a colon, a bracket or a line's end.
    pub(super) begins_clause: bool,
    /// Whether it is in quotation marks or a path: a name and not a word of the request.
    pub(super) muted: bool,
    /// Whether a hyphen joins it to the word before.
    pub(super) joined: bool,
}

impl Token {
    /// The word as it is written.
    pub(super) fn of<'a>(&self, text: &'a str) -> &'a str {
        text.get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }
}

/// What a text consists of.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    /// The words of its prose.
    pub(super) list: Vec<Token>,
    /// How many words there are in all; pasted and left-out parts count by their length.
    pub(super) words: u32,
    /// Whether a stack trace or a compiler's error is among what is pasted.
    pub(super) trace: bool,
}

impl Tokens {
    /// Reads a text; of a long one both ends.
    pub(super) fn read(text: &str, vocabulary: &Vocabulary) -> Self {
        let mut tokens = Self {
            list: Vec::with_capacity((text.len() / 5).min(1024)),
            ..Self::default()
        };
        if text.len() <= 2 * END_BYTES {
            tokens.lines(text, 0, text.len(), false, vocabulary);
            return tokens;
        }
        let head = text.floor_char_boundary(END_BYTES);
        let tail = text.ceil_char_boundary(text.len() - END_BYTES);
        tokens.lines(text, 0, head, false, vocabulary);
        tokens.pasted(tail - head);
        // A tail that closes more blocks of code than it opens begins inside of one.
        let fences = memchr::memmem::find_iter(&text.as_bytes()[tail..], b"\n```").count();
        tokens.lines(text, tail, text.len(), fences % 2 == 1, vocabulary);
        tokens
    }

    fn pasted(&mut self, bytes: usize) {
        let words = u32::try_from(bytes / PASTED_BYTES_PER_WORD).unwrap_or(u32::MAX);
        self.words = self.words.saturating_add(words);
    }

    fn lines(
        &mut self,
        text: &str,
        from: usize,
        to: usize,
        mut fenced: bool,
        vocabulary: &Vocabulary,
    ) {
        let mut start = from;
        let mut begins_sentence = true;
        while start < to {
            let rest = &text.as_bytes()[start..to];
            let end = memchr::memchr(b'\n', rest).map_or(to, |length| start + length);
            let line = text[start..end].trim_start();
            if line.starts_with("```") || line.starts_with("~~~") {
                fenced = !fenced;
                begins_sentence = true;
            } else if line.trim_end().is_empty() {
                begins_sentence = true;
            } else {
                let trace = is_trace(line);
                self.trace |= trace;
                if fenced || trace || line.starts_with('>') {
                    self.pasted(line.len());
                    begins_sentence = true;
                } else {
                    let listed = line.starts_with(['-', '*', '#', '•'])
                        || line.starts_with(|first: char| first.is_ascii_digit());
                    self.line(text, start, end, begins_sentence || listed, vocabulary);
                    begins_sentence = line.trim_end().ends_with(['.', '!', '?', ':']);
                }
            }
            start = end + 1;
        }
    }

    /// Reads one line of prose.
    fn line(
        &mut self,
        text: &str,
        from: usize,
        to: usize,
        mut begins_sentence: bool,
        vocabulary: &Vocabulary,
    ) {
        let bytes = text.as_bytes();
        let mut begins_clause = true;
        let mut quoted_until = from;
        let mut joined = false;
        let mut in_path = false;
        let mut at = from;
        while at < to {
            let byte = bytes[at];
            let start = at;
            let mut ascii = true;
            let word = if ASCII_WORD[usize::from(byte)] {
                while at < to && (ASCII_WORD[usize::from(bytes[at])] || inner_apostrophe(bytes, at))
                {
                    at += 1;
                }
                if bytes.get(at).is_some_and(|byte| !byte.is_ascii()) && at < to {
                    let length = text[at..to].find(|letter: char| !joins(letter));
                    let length = length.unwrap_or(to - at);
                    ascii = length == 0;
                    at += length;
                }
                true
            } else if !byte.is_ascii() {
                ascii = false;
                let rest = &text[at..to];
                let first = rest.chars().next().unwrap_or_default();
                let length = rest.find(|letter: char| !joins(letter));
                // A typographic apostrophe joins, and begins nothing.
                let length = length.filter(|_| first != '’').unwrap_or(match first {
                    '’' => 0,
                    _ => rest.len(),
                });
                at += length.max(first.len_utf8());
                length > 0 || stands_alone(first)
            } else {
                at += 1;
                false
            };
            if word {
                let number = if ascii {
                    vocabulary.find_ascii(&bytes[start..at])
                } else {
                    number_of(&text[start..at], vocabulary)
                };
                self.words = self.words.saturating_add(u32::from(!joined));
                self.list.push(Token {
                    start: start as u32,
                    end: at as u32,
                    word: number,
                    begins_sentence,
                    begins_clause: begins_clause || begins_sentence,
                    muted: in_path || start < quoted_until,
                    joined,
                });
                (begins_sentence, begins_clause) = (false, false);
                (joined, in_path) = (false, false);
                continue;
            }
            let next_is_word = bytes
                .get(at)
                .filter(|_| at < to)
                .is_some_and(|next| ASCII_WORD[usize::from(*next)]);
            let touches_word = start > from && ASCII_WORD[usize::from(bytes[start - 1])];
            match byte {
                b'-' if next_is_word && touches_word => joined = true,
                b'.' | b'/' | b'\\' | b':' | b'@' | b'#' if next_is_word => {
                    in_path = touches_word || matches!(byte, b'/' | b'.');
                    joined = touches_word;
                    if touches_word && let Some(last) = self.list.last_mut() {
                        last.muted = true;
                    }
                }
                b'.' | b'!' | b'?' => begins_sentence = true,
                b',' | b';' | b':' | b'(' | b')' => begins_clause = true,
                b'`' | b'"' if start >= quoted_until => {
                    if let Some(length) = memchr::memchr(byte, &bytes[at..to]) {
                        quoted_until = at + length;
                    }
                }
                // The typographic ones: dashes divide clauses.
                _ if !byte.is_ascii() && text[start..at].starts_with(['—', '–']) => {
                    begins_clause = true;
                }
                _ => {}
            }
        }
    }
}

/// Whether a line is of a stack trace, a log's error or a compiler's.
fn is_trace(line: &str) -> bool {
    const STARTS: [&str; 20] = [
        "Traceback (most recent",
        "File \"",
        "Caused by:",
        "Exception in thread",
        "Unhandled",
        "Uncaught ",
        "panic: ",
        "fatal error:",
        "FATAL",
        "ERROR",
        "Error: ",
        "error: ",
        "error[",
        "error TS",
        "[ERROR]",
        "[error]",
        "npm ERR!",
        "goroutine ",
        "Segmentation fault",
        "--> ",
    ];
    // Nearly every line is told by its first byte.
    match line.as_bytes()[0] {
        b'a' if line.starts_with("at ") => {
            // `at UserList (UserList.jsx:12:20)`, `at com.x.Main.run(Main.java:3)`
            let end = line.trim_end();
            end.ends_with(')') && end.contains('(') && end.contains([':', '.'])
        }
        b't' => line.starts_with("thread '") && line.contains("panicked at"),
        b'A'..=b'Z' | b'a'..=b'z' | b'[' | b'-' => {
            STARTS.iter().any(|start| line.starts_with(start)) || begins_with_exception(line)
        }
        _ => false,
    }
}

/// `ValueError: …`, `java.lang.NullPointerException: …`, `TypeError [ERR_X]: …`.
fn begins_with_exception(line: &str) -> bool {
    let end = line
        .find(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '.' || letter == '_'));
    let (name, rest) = line.split_at(end.unwrap_or(line.len()));
    name.len() > "Error".len()
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && (name.ends_with("Error") || name.ends_with("Exception"))
        && (rest.starts_with(": ") || rest.starts_with(" ["))
}

/// Which bytes are part of an ASCII word.
const ASCII_WORD: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric() || byte == b'_';
        byte += 1;
    }
    table
};

/// Whether an apostrophe stands between two letters here: "doesn't".
fn inner_apostrophe(bytes: &[u8], at: usize) -> bool {
    bytes[at] == b'\'' && bytes.get(at + 1).is_some_and(u8::is_ascii_alphabetic)
}

/// The number of a word with letters outside ASCII.
fn number_of(word: &str, vocabulary: &Vocabulary) -> u16 {
    const LONGEST_BYTES: usize = 64;
    if word.len() > LONGEST_BYTES {
        return UNKNOWN;
    }
    vocabulary.find(&word.to_lowercase().replace('’', "'"))
}

/// Whether a text in lower case is found as one word.
pub(super) fn is_word(text: &str) -> bool {
    let mut letters = text.chars();
    match (letters.next(), letters.next()) {
        (None, _) => false,
        (Some(only), None) => stands_alone(only) || (joins(only) && only != '\''),
        (Some(first), _) => {
            first != '\''
                && !text.ends_with('\'')
                && text.chars().all(|letter| joins(letter) || letter == '\'')
        }
    }
}

/// Whether a character is part of a word of several characters.
fn joins(letter: char) -> bool {
    (letter.is_alphanumeric() || letter == '_' || letter == '’') && !stands_alone(letter)
}

/// Whether a character is a word of its own: Thai to Myanmar, kana, ideographs.
fn stands_alone(letter: char) -> bool {
    matches!(letter,
        '\u{0E00}'..='\u{0EFF}' | '\u{1000}'..='\u{109F}' | '\u{1780}'..='\u{17FF}'
        | '\u{3040}'..='\u{30FF}' | '\u{3400}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}'
        | '\u{20000}'..='\u{3FFFF}')
        && letter.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(text: &str) -> Vec<String> {
        let tokens = Tokens::read(text, &Vocabulary::new());
        tokens
            .list
            .iter()
            .map(|token| token.of(text).to_lowercase())
            .collect()
    }

    #[test]
    fn words_are_runs_of_letters_digits_and_underscores() {
        assert_eq!(
            split("Fix: the my_function2—naïve ÉTÉ! 修正button的 x, it doesn't"),
            [
                "fix",
                "the",
                "my_function2",
                "naïve",
                "été",
                "修",
                "正",
                "button",
                "的",
                "x",
                "it",
                "doesn't"
            ]
        );
    }

    #[test]
    fn quotations_and_paths_are_muted_and_hyphens_join() {
        let text = "Fix `the css` in src/ui/app.css, end-to-end. \"ok";
        let tokens = Tokens::read(text, &Vocabulary::new());
        let words = |wanted: fn(&Token) -> bool| -> Vec<&str> {
            let list = tokens.list.iter().filter(|token| wanted(token));
            list.map(|token| token.of(text)).collect()
        };
        assert_eq!(
            words(|token| token.muted),
            ["the", "css", "src", "ui", "app", "css"]
        );
        assert_eq!(words(|token| token.begins_sentence), ["Fix", "ok"]);
        assert_eq!(words(|token| token.begins_clause), ["Fix", "end", "ok"]);
        assert_eq!(tokens.words, 7, "a path and a hyphenated word are one each");
    }

    #[test]
    fn pasted_lines_give_no_words() {
        let text = "Why?\n```py\ncss = 1\n```\n> quoted\nTraceback (most recent call last):\n  File \"x\"\nValueError: no\nend";
        assert_eq!(split(text), ["why", "end"]);
        assert!(Tokens::read(text, &Vocabulary::new()).trace);
        assert!(
            !Tokens::read(
                "Error handling is nice. At home (or so).",
                &Vocabulary::new()
            )
            .trace
        );
    }

    proptest! {
        #[test]
        fn any_text_is_split_without_panic_into_whole_words(text in any::<String>()) {
            for word in split(&text) {
                prop_assert!(!word.is_empty());
            }
        }

        #[test]
        fn ascii_words_are_those_between_other_characters(text in "[a-z][a-zA-Z_0-9 ,-]{0,80}") {
            let expected: Vec<String> = text
                .split(|letter: char| !letter.is_alphanumeric() && letter != '_')
                .filter(|word| !word.is_empty())
                .map(str::to_lowercase)
                .collect();
            prop_assert_eq!(split(&text), expected);
        }
    }
}
