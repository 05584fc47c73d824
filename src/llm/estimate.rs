//! Guesses tokens before they are counted, from sizes alone: no tokenizer, no model, no learning.
//!
//! Input: bytes of text / 3, rounded up. Measured against o200k, that errs to the safe side on code, prose and Chinese,
//! where characters / 4 was 14 % to 75 % low. Media cannot be told from their bytes; the constants below are upper
//! middles of what the providers publish. A factor learned per key and model corrects all of it elsewhere.
//!
//! Beside the guess stands the worst case, which nothing may exceed: what budgets that are `hard` reserve.

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

/// Most tokens of one image: gpt-4o-mini bills 2,833 + 5,667 for each of up to 8 tiles, 48,169. All others stay far
/// below: 16,384 patches of Qwen's, about 10,000 of OpenAI's newer models (up to 2.46 tokens each), 4,784 at Anthropic,
/// 258 for each tile at Google.
const IMAGE_AT_MOST: u64 = 50_000;

/// Most tokens that a provider adds unseen to any prompt: Anthropic's instructions for using tools have up to about 1,000
/// (its table of models says 159 to 804), the default system prompts in chat templates (Mistral's, Cohere's, gpt-oss')
/// some hundred. What templates put around a message is shorter than the JSON around it.
const UNSEEN_AT_MOST: u64 = 1_024;

/// Most tokens that a provider adds for a tool which it defines itself and a body only names: Anthropic's computer tool
/// has 735, its text editor 700, its shell 245.
const DEFINED_TOOL_AT_MOST: u64 = 1_024;

/// The context window of a model that is not known: no larger one is in wide use (of 2,500 models in the catalogue one
/// family states more).
const UNKNOWN_WINDOW: u64 = 2_000_000;

/// Most output tokens of a model that is not known, in one answer: the makers of closed models allow 64,000 to 128,000,
/// and servers of open ones at most the whole window, which usually is this.
const UNKNOWN_OUTPUT: u64 = 131_072;

/// Most output tokens of one image that is made: gpt-image-1 bills up to 6,240, Gemini's image models 1,120 to 2,520.
pub const IMAGE_OUTPUT_AT_MOST: u64 = 16_384;

/// Most answers that a request can ask for at the providers that give several (OpenAI: 128): what one that cannot be read
/// is taken to ask for.
pub const MOST_CHOICES: u32 = 128;

/// How large a prompt is, in what can be counted without a tokenizer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PromptSize {
    /// Bytes of text in UTF-8, tools and schemas included, media excluded.
    pub text_bytes: u64,
    /// Tokens that the client has made itself (token ids in place of text).
    pub token_ids: u64,
    /// Images, given or referred to.
    pub images: u32,
    /// Bytes of the images given, as they are written.
    pub image_bytes: u64,
    /// Documents, given or referred to.
    pub documents: u32,
    /// Base64 bytes of the documents given.
    pub document_bytes: u64,
    /// Audio and video, given or referred to.
    pub recordings: u32,
    /// Base64 bytes of the audio and video given.
    pub recording_bytes: u64,
    /// Declared tools that the provider defines, so that it adds their description.
    pub defined_tools: u32,
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

/// The most input tokens that a request can be billed for in one turn of the model.
///
/// `body_bytes` is the length of the body without its content encoding, `hidden` whether the model gets more than the
/// body shows (also where the body could not be read), `context_window` the model's, if it is known; zero counts as not
/// known. A request of several prompts (embeddings, old completions) has a window for each: none must be given for it.
///
/// - A token is at least one byte of what the model reads, whichever tokenizer made it, and what the model reads is in the
///   body, where JSON makes it longer. So the bytes of the body are the bound for everything but media, whatever the
///   prompt's shape.
/// - Images are counted by the piece, wherever they stand, and their bytes taken off.
/// - Documents and recordings have no bound of their own: a thousand pages, or an hour of a still picture, compress to
///   next to nothing. Like hidden input they count as the whole window, 2,000,000 tokens if that is not known.
/// - A prompt beyond the window is rejected (or cut) by the provider and costs no more, so a known window bounds it all.
///   One exception is known: the tokens that gpt-4o-mini bills for images are not those of its window, so that three or
///   more large images in one request can exceed it.
///
/// Tools that the provider runs make the model read its window again on every turn; the caller must know that the figure
/// is for one.
pub fn worst_case_input(
    prompt: &PromptSize,
    body_bytes: u64,
    hidden: bool,
    context_window: Option<u64>,
) -> u64 {
    let window = context_window.filter(|window| *window > 0);
    let shown = body_bytes
        .saturating_sub(prompt.image_bytes)
        .saturating_add(u64::from(prompt.images) * IMAGE_AT_MOST)
        .saturating_add(u64::from(prompt.defined_tools) * DEFINED_TOOL_AT_MOST)
        .saturating_add(UNSEEN_AT_MOST);
    if hidden || prompt.documents > 0 || prompt.recordings > 0 {
        window.unwrap_or(shown.max(UNKNOWN_WINDOW))
    } else {
        window.map_or(shown, |window| shown.min(window))
    }
}

/// The most output tokens that a request can be billed for: its own cap for each answer, or the model's if that is lower
/// or the request states none; 131,072 if neither is known.
///
/// Providers refuse or lower a cap above the model's, and count reasoning within it.
pub fn worst_case_output(cap: Option<u64>, choices: u32, model_max_output: Option<u64>) -> u64 {
    let model = model_max_output.filter(|most| *most > 0);
    let each = match (cap, model) {
        (Some(cap), Some(model)) => cap.min(model),
        (Some(cap), None) => cap,
        (None, model) => model.unwrap_or(UNKNOWN_OUTPUT),
    };
    each.saturating_mul(u64::from(choices.max(1)))
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
            ..PromptSize::default()
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

    #[test]
    fn the_worst_input_is_a_token_for_every_byte_and_the_most_of_every_image() {
        let prompt = PromptSize {
            text_bytes: 900,
            images: 2,
            image_bytes: 5_000_000,
            defined_tools: 3,
            ..PromptSize::default()
        };
        let shown = 1_000 + 2 * IMAGE_AT_MOST + 3 * DEFINED_TOOL_AT_MOST + UNSEEN_AT_MOST;
        let worst = |hidden, window| worst_case_input(&prompt, 5_001_000, hidden, window);
        assert_eq!(worst(false, None), shown);
        assert_eq!(worst(false, Some(0)), shown, "no window is that small");
        assert_eq!(worst(false, Some(200_000)), shown);
        assert_eq!(worst(false, Some(50_000)), 50_000);
        assert_eq!(worst(true, Some(200_000)), 200_000);
        assert_eq!(worst(true, None), UNKNOWN_WINDOW);
    }

    #[test]
    fn what_no_size_bounds_takes_the_whole_window() {
        let of = |documents, recordings, body, window| {
            let prompt = PromptSize {
                documents,
                recordings,
                ..PromptSize::default()
            };
            worst_case_input(&prompt, body, false, window)
        };
        assert_eq!(of(1, 0, 3_000, Some(1_000_000)), 1_000_000);
        assert_eq!(of(0, 1, 3_000, None), UNKNOWN_WINDOW);
        assert_eq!(of(1, 0, 30_000_000, None), 30_000_000 + UNSEEN_AT_MOST);
        assert_eq!(of(0, 0, u64::MAX, None), u64::MAX);
    }

    #[test]
    fn the_worst_output_is_the_lower_of_cap_and_model_for_each_answer() {
        for (cap, choices, model, most) in [
            (Some(100), 1, Some(64_000), 100),
            (Some(1 << 63), 1, Some(64_000), 64_000),
            (Some(100), 3, None, 300),
            (Some(0), 1, None, 0),
            (None, 2, Some(64_000), 128_000),
            (None, 1, Some(0), UNKNOWN_OUTPUT),
            (None, 0, None, UNKNOWN_OUTPUT),
            (Some(u64::MAX), u32::MAX, None, u64::MAX),
        ] {
            assert_eq!(
                worst_case_output(cap, choices, model),
                most,
                "{cap:?} {choices} {model:?}"
            );
        }
    }
}
