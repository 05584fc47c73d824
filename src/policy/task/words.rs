//! Splits a text into lower-case words: runs of letters, digits and underscores.
//!
//! Scripts that are written without spaces (Chinese, Japanese, Thai) give one word per character, so that their texts
//! do not pass for short ones; a Latin word between such characters stands by itself.

/// Bytes that are read from each end of a long text: what is wanted stands before or after what is pasted.
const END_BYTES: usize = 2 * 1024;

/// Longest word that is looked up, in bytes; longer ones are counted only.
const MAX_WORD_BYTES: usize = 64;

/// The parts of a text that are read: all of a short one, else its beginning and its end.
pub(super) fn ends(text: &str) -> impl Iterator<Item = &str> {
    let (head, tail) = if text.len() <= 2 * END_BYTES {
        (text, "")
    } else {
        (
            &text[..text.floor_char_boundary(END_BYTES)],
            &text[text.ceil_char_boundary(text.len() - END_BYTES)..],
        )
    };
    [head, tail].into_iter()
}

/// Calls `visit` with the words that may be wanted, in lower case, and returns how many words there are in all.
///
/// `wanted` is asked with a word's first byte in lower case and its length in bytes, before the word is looked at;
/// words with letters outside ASCII are visited unasked, since their case can change both.
pub(super) fn each(
    text: &str,
    wanted: impl Fn(u8, usize) -> bool,
    mut visit: impl FnMut(&str),
) -> u32 {
    let bytes = text.as_bytes();
    let mut count = 0;
    let mut lower = [0_u8; MAX_WORD_BYTES];
    let mut at = 0;
    while at < bytes.len() {
        if !bytes[at].is_ascii() {
            at += other_script(&text[at..], &mut count, &mut visit);
            continue;
        }
        let start = at;
        while at < bytes.len() && ASCII_WORD[usize::from(bytes[at])] {
            at += 1;
        }
        if at == start {
            at += 1;
            continue;
        }
        // A letter of another script that belongs to the same word.
        if bytes.get(at).is_some_and(|byte| !byte.is_ascii())
            && text[at..].chars().next().is_some_and(joins)
        {
            at = start + other_script(&text[start..], &mut count, &mut visit);
            continue;
        }
        count += 1;
        let word = &bytes[start..at];
        if wanted(word[0].to_ascii_lowercase(), word.len())
            && let Some(lower) = lower.get_mut(..word.len())
        {
            lower.copy_from_slice(word);
            lower.make_ascii_lowercase();
            if let Ok(lower) = std::str::from_utf8(lower) {
                visit(lower);
            }
        }
    }
    count
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

/// Whether a lower-case text is found as one word.
pub(super) fn is_word(text: &str) -> bool {
    let mut whole = false;
    let count = each(text, |_, _| true, |word| whole = word == text);
    count == 1 && whole
}

/// Reads one word, or one character that is none, where other scripts are concerned. Returns its length in bytes.
fn other_script(text: &str, count: &mut u32, visit: &mut impl FnMut(&str)) -> usize {
    let first = text.chars().next().unwrap_or_default();
    if stands_alone(first) {
        *count += 1;
        visit(&text[..first.len_utf8()]);
        return first.len_utf8();
    }
    let length = text
        .find(|letter: char| !joins(letter))
        .unwrap_or(text.len());
    if length == 0 {
        return first.len_utf8();
    }
    *count += 1;
    if length <= MAX_WORD_BYTES {
        visit(&text[..length].to_lowercase());
    }
    length
}

/// Whether a character is part of a word of several characters.
fn joins(letter: char) -> bool {
    (letter.is_alphanumeric() || letter == '_') && !stands_alone(letter)
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
        let mut words = Vec::new();
        each(text, |_, _| true, |word| words.push(word.to_owned()));
        words
    }

    #[test]
    fn words_are_runs_of_letters_digits_and_underscores() {
        assert_eq!(
            split("Fix: the my_function2—naïve ÉTÉ! 修正button的 x"),
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
                "x"
            ]
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
        fn ascii_words_are_those_between_other_characters(text in "[a-zA-Z_0-9 ,.-]{0,80}") {
            let expected: Vec<String> = text
                .split(|letter: char| !letter.is_alphanumeric() && letter != '_')
                .filter(|word| !word.is_empty())
                .map(str::to_lowercase)
                .collect();
            prop_assert_eq!(split(&text), expected);
        }
    }
}
