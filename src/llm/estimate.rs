//! Guesses tokens before they are counted, from sizes alone: no tokenizer, no model, no learning.
//!
//! Input: bytes of text / 3, rounded up. Measured against o200k, that errs to the safe side on code, prose and Chinese,
//! where characters / 4 was 14 % to 75 % low. Media cannot be told from their bytes; the constants below are upper
//! middles of what the providers publish. A factor learned per key and model corrects all of it elsewhere.

/// Bytes of text that are taken for one token.
const BYTES_PER_TOKEN: u64 = 3;

/// Tokens of one image: Anthropic's former ceiling (1,568 for 1.15 megapixels), above OpenAI's 765 for 1024 × 1024 and
/// Gemini's 258 per tile.
const IMAGE: u64 = 1_600;

/// Least tokens of a document: one page, as text and as image (Anthropic states 1,500 to 3,000 per page).
const DOCUMENT: u64 = 2_000;

/// Base64 bytes of a document per token: a page of 60 to 100 KB for 1,500 tokens.
const DOCUMENT_BYTES_PER_TOKEN: u64 = 60;

/// Least tokens of a recording: half a minute at Gemini's 32 per second.
const RECORDING: u64 = 1_000;

/// Base64 bytes of audio or video per token: 128 kbit/s is 21 KB of base64 a second, for 32 tokens.
const RECORDING_BYTES_PER_TOKEN: u64 = 600;

/// Output tokens expected of a request about which nothing has been learned. Agents state caps of 64,000 and more and
/// write far less.
pub const USUAL_OUTPUT: u64 = 1_024;

/// How large a prompt is, in what can be counted without a tokenizer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PromptSize {
    /// Bytes of text in UTF-8, tools and schemas included, media excluded.
    pub text_bytes: u64,
    /// Tokens that the client has made itself (token ids in place of text).
    pub token_ids: u64,
    /// Images, given or referred to.
    pub images: u32,
    /// Documents, given or referred to.
    pub documents: u32,
    /// Base64 bytes of the documents given.
    pub document_bytes: u64,
    /// Audio and video, given or referred to.
    pub recordings: u32,
    /// Base64 bytes of the audio and video given.
    pub recording_bytes: u64,
}

/// Estimates the input tokens of a prompt.
pub fn input_tokens(prompt: &PromptSize) -> u64 {
    let documents = (u64::from(prompt.documents) * DOCUMENT)
        .max(prompt.document_bytes / DOCUMENT_BYTES_PER_TOKEN);
    let recordings = (u64::from(prompt.recordings) * RECORDING)
        .max(prompt.recording_bytes / RECORDING_BYTES_PER_TOKEN);
    input_tokens_of_bytes(prompt.text_bytes)
        .saturating_add(prompt.token_ids)
        .saturating_add(u64::from(prompt.images) * IMAGE)
        .saturating_add(documents)
        .saturating_add(recordings)
}

/// Estimates the input tokens of a body that could not be read, from its length.
pub const fn input_tokens_of_bytes(bytes: u64) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN)
}

/// The output to expect: what is usual, for each of `choices` answers, but not more than the cap allows.
pub fn expected_output(cap: Option<u64>, choices: u32, usual: u64) -> u64 {
    cap.map_or(usual, |cap| cap.min(usual))
        .saturating_mul(u64::from(choices.max(1)))
}

/// How many bytes of text so much output is, by the same estimate.
pub const fn bytes_of_output(tokens: u64) -> u64 {
    tokens.saturating_mul(BYTES_PER_TOKEN)
}

/// Estimates output tokens from the bytes of text that an answer has shown.
pub const fn output_tokens(output_bytes: u64) -> u64 {
    output_bytes.div_ceil(BYTES_PER_TOKEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_a_third_of_its_bytes_rounded_up() {
        for (bytes, tokens) in [(0, 0), (1, 1), (3, 1), (4, 2), (u64::MAX, u64::MAX / 3)] {
            assert_eq!(input_tokens_of_bytes(bytes), tokens);
            assert_eq!(output_tokens(bytes), tokens);
        }
    }

    #[test]
    fn media_are_charged_by_the_piece_or_by_their_size() {
        let prompt = PromptSize {
            text_bytes: 10,
            token_ids: 5,
            images: 2,
            documents: 1,
            document_bytes: 6_000_000,
            recordings: 1,
            recording_bytes: 10,
        };
        assert_eq!(input_tokens(&prompt), 4 + 5 + 3_200 + 100_000 + 1_000);
    }

    #[test]
    fn output_is_the_smaller_of_cap_and_habit_for_each_choice() {
        assert_eq!(expected_output(Some(128_000), 1, USUAL_OUTPUT), 1_024);
        assert_eq!(expected_output(Some(0), 1, USUAL_OUTPUT), 0);
        assert_eq!(expected_output(Some(100), 3, USUAL_OUTPUT), 300);
        assert_eq!(expected_output(None, 0, 7), 7);
        assert_eq!(
            expected_output(Some(u64::MAX), u32::MAX, u64::MAX),
            u64::MAX
        );
    }
}
