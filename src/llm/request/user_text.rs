//! Decides which of a user message's text is the user's own.
//!
//! Agents put reminders, environment notes, files and command output into messages with the role `user`, in tags of their
//! own or under fixed first words. Those are cut out ([`injected`] has the list); a message of which nothing remains was
//! not the user's, and an older one is looked at. Some agents also ask for purposes of their own, such as a title.

mod injected;

use std::borrow::Cow;

use super::cursor::unescaped;
use injected::{is_side_request, own_part};

/// Longest text that is handed on, in bytes: the first and the last half of it. A long message is mostly pasted
/// material, and what is wanted stands before or after that.
const MAX_BYTES: usize = 8 * 1024;

/// Bytes that are looked at in all, so that no body can make the search long. Injected notes are tens of kilobytes.
const MAX_READ_BYTES: usize = 256 * 1024;

/// Of a block that is longer than what may be read: bytes of its end that are.
const TAIL_BYTES: usize = 16 * 1024;

/// Bytes of a block by which an agent's own question is told.
const SIDE_REQUEST_BYTES: usize = 256;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct UserText<'a> {
    /// The newest text that a user wrote.
    pub(super) own: Option<Cow<'a, str>>,
    /// The newest message, or the one just before it, is an agent's question for a purpose of its own.
    pub(super) side_request: bool,
}

/// Finds the newest text that a user wrote, given each user message's texts as they are written, newest first.
pub(super) fn newest<'a, 'b>(turns: impl Iterator<Item = &'b [&'a str]>) -> UserText<'a>
where
    'a: 'b,
{
    let mut left = MAX_READ_BYTES;
    let mut found = UserText::default();
    for (nth, blocks) in turns.enumerate() {
        // A question may also stand before the user's words that it is about.
        if nth < 2 && blocks.first().is_some_and(|block| asks_aside(block)) {
            found.side_request = true;
            found.own = None;
            break;
        }
        if found.own.is_none() {
            found.own = own_text(blocks, &mut left);
        }
        if left == 0 || (found.own.is_some() && nth > 0) {
            break;
        }
    }
    found
}

/// Whether a message that begins with this block is an agent's question for a purpose of its own.
fn asks_aside(block: &str) -> bool {
    let start = &block[..block.floor_char_boundary(SIDE_REQUEST_BYTES)];
    is_side_request(
        &unescaped(start, SIDE_REQUEST_BYTES),
        start.len() == block.len(),
    )
}

/// Joins what is the user's own in the blocks of one message, as long as there are bytes `left` to be read.
fn own_text<'a>(blocks: &[&'a str], left: &mut usize) -> Option<Cow<'a, str>> {
    let mut own: Option<Cow<'a, str>> = None;
    for block in blocks {
        if *left == 0 {
            break;
        }
        let text = own_part(readable(block, left));
        if text.trim().is_empty() {
            continue;
        }
        own = Some(match own {
            None => text,
            Some(before) => Cow::Owned([&*before, "\n", &*text].concat()),
        });
    }
    own.map(bounded)
}

/// The text of a block, escapes resolved; of one that is longer than what is `left` to be read, both ends.
fn readable<'a>(block: &'a str, left: &mut usize) -> Cow<'a, str> {
    if block.len() <= *left {
        *left -= block.len().max(1).min(*left);
        return unescaped(block, usize::MAX);
    }
    let tail_length = TAIL_BYTES.min(*left / 2);
    let head = &block[..block.floor_char_boundary(*left - tail_length)];
    // An escape that is cut in its middle leaves a digit or a letter behind, which is no word of any rule.
    let start = block.ceil_char_boundary(block.len() - tail_length);
    *left = 0;
    let mut text = unescaped(head, usize::MAX).into_owned();
    text.push('\n');
    text.push_str(&unescaped(&block[start..], usize::MAX));
    Cow::Owned(text)
}

/// Keeps the first and the last half of a text that is too long.
fn bounded(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.len() <= MAX_BYTES {
        return text;
    }
    let half = MAX_BYTES / 2;
    let head = &text[..text.floor_char_boundary(half - 1)];
    let tail = &text[text.ceil_char_boundary(text.len() - half)..];
    Cow::Owned([head, "\n", tail].concat())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::injected::{INJECTED_STARTS, SIDE_REQUESTS};
    use super::*;

    fn own(turns: &[&[&str]]) -> Option<String> {
        newest(turns.iter().copied()).own.map(Cow::into_owned)
    }

    #[test]
    fn injected_text_is_not_the_users() {
        assert_eq!(
            own(&[&[
                r"<system-reminder>\nlog <b>x</b> </system-remind> typo</system-reminder>",
                r"Fix <b>it</b>\u003csystem-reminder\u003eno</system-reminder> now"
            ]])
            .as_deref(),
            Some("Fix <b>it</b> now")
        );
        assert_eq!(
            own(&[
                &[r"<environment_context>\n<cwd>/x</cwd>"],
                &["[Request interrupted by user for tool use]"],
                &["Older words"],
            ])
            .as_deref(),
            Some("Older words")
        );
        assert_eq!(
            own(&[&[
                r"# AGENTS.md instructions for /x\n\n<INSTRUCTIONS>\nUse css\n</INSTRUCTIONS>"
            ]]),
            None
        );
        assert_eq!(
            own(&[&["<command-message>go</command-message><command-name>/go</command-name><command-args>the page</command-args>"]]).as_deref(),
            Some("the page")
        );
    }

    #[test]
    fn a_plain_text_is_not_copied() {
        let turns: [&[&str]; 1] = [&["a < b, <skills>"]];
        assert!(matches!(
            newest(turns.into_iter()).own,
            Some(Cow::Borrowed("a < b, <skills>"))
        ));
    }

    #[test]
    fn of_a_long_text_both_ends_are_kept() {
        let long = format!("start{}end", "é".repeat(10_000));
        let kept = own(&[&[&long]]).expect("a text");
        assert!(kept.len() <= MAX_BYTES);
        assert!(kept.starts_with("start") && kept.ends_with("end"));
    }

    #[test]
    fn where_an_agent_marks_the_users_words_only_those_count() {
        for (blocks, expected) in [
            (
                r"<user_info>\nlinux</user_info>\n<user_query>\nAdd a form\n</user_query>",
                "\nAdd a form\n",
            ),
            (
                r"<task>\nAdd a form\n</task>\n<environment_details>\n# Time</environment_details>",
                "\nAdd a form\n",
            ),
            (
                r"<context>css</context>\n<userRequest>Add <system-reminder>x</system-reminder>it</userRequest>",
                "Add it",
            ),
            (
                r"Parse this: <task>x</task> please",
                "Parse this: <task>x</task> please",
            ),
            (
                r"Add a form\n\n# *SEARCH/REPLACE block* Rules:\n\nEvery block",
                "Add a form\n",
            ),
            (
                r"Look at @a.css\n--- Content from referenced files ---\nbody {}",
                "Look at @a.css",
            ),
        ] {
            assert_eq!(own(&[&[blocks]]).as_deref(), Some(expected), "{blocks}");
        }
    }

    #[test]
    fn whole_messages_of_agents_are_passed_over() {
        for start in INJECTED_STARTS {
            let message = start.replace('\n', "\\n") + " and css";
            assert_eq!(
                own(&[&[&message], &["Older words"]]).as_deref(),
                Some("Older words"),
                "{start}"
            );
        }
    }

    #[test]
    fn requests_of_agents_for_themselves_are_told() {
        fn found<'a>(turns: &[&[&'a str]]) -> UserText<'a> {
            newest(turns.iter().copied())
        }
        let aside = UserText {
            own: None,
            side_request: true,
        };
        for start in SIDE_REQUESTS {
            let written = start.replace('\n', "\\n");
            assert_eq!(found(&[&[&written]]), aside, "{start}");
            // The question stands before the user's words that it is about.
            assert_eq!(found(&[&["Add a form"], &[&written]]), aside, "{start}");
            let old: [&[&str]; 3] = [&["Add a form"], &["Before"], &[&written]];
            assert!(!found(&old).side_request, "{start}");
        }
        assert_eq!(found(&[&["quota"]]), aside);
        assert!(!found(&[&["quota exceeded"]]).side_request);
    }

    #[test]
    fn of_a_block_that_is_too_long_both_ends_are_looked_at() {
        let notes = r"Notes.\n\u003c/".repeat(60_000);
        let long = format!("Fix it <system-reminder>{notes}</system-reminder> now, please");
        assert_eq!(own(&[&[&long]]).as_deref(), Some("Fix it  now, please"));
        let unclosed = format!("Fix it <system-reminder>{notes}");
        assert_eq!(own(&[&[&unclosed]]).as_deref(), Some("Fix it "));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(
            pieces in prop::collection::vec(
                prop_oneof![
                    any::<String>(),
                    Just("<system-reminder>".to_owned()),
                    Just("</system-reminder>".to_owned()),
                    Just("<user_query>".to_owned()),
                    Just("</user_query>".to_owned()),
                    Just(r"\ud83d".to_owned()),
                    Just(r"\u00".to_owned()),
                    Just("é".repeat(140_000)),
                ],
                0..6,
            ),
        ) {
            let text = pieces.concat();
            let found = newest([&[text.as_str()][..], &[text.as_str()][..]].into_iter());
            prop_assert!(found.own.is_none_or(|own| own.len() <= MAX_BYTES && !own.trim().is_empty()));
        }
    }
}
