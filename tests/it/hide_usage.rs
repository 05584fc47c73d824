//! What a client that did not ask for usage sees of an OpenAI stream.

use bytes::Bytes;
use proptest::prelude::*;
use tollgate::llm::hide_usage::HideUsage;

/// What comes out of a stream that comes in these pieces, all together.
fn hidden<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut filter = HideUsage::new();
    let mut out = Vec::new();
    for piece in pieces {
        out.extend_from_slice(&filter.push(Bytes::copy_from_slice(piece)));
    }
    out.extend_from_slice(&filter.finish());
    out
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("the input is text")
}

fn hide(stream: &str) -> String {
    text(hidden([stream.as_bytes()]))
}

/// One event as the provider sends it, and as the client is to see it.
fn event() -> impl Strategy<Value = (String, String)> {
    let same = |text: &str| (text.to_owned(), text.to_owned());
    let end = prop::sample::select(vec!["\n\n", "\r\n\r\n", "\r\r"]);
    let line = prop::sample::select(vec![
        same("data: [DONE]"),
        same(": OPENROUTER PROCESSING"),
        same("data: {\"error\":{\"message\":\"\\\"usage\\\":null\"}}"),
        same("data: {\"error\":{\"code\":1},\"choices\":[],\"usage\":{\"prompt_tokens\":1}}"),
        same("data: {\"choices\":[],\"prompt_filter_results\":[{\"usage\":null}]}"),
        same("data: {\"choices\":[{\"delta\":{\"content\":\",\\\"usage\\\":null}\"}}]}"),
        same("data: {\"choices\":[{\"delta\":{}}],\"usage\":{\"prompt_tokens\":1}}"),
        same("data: {\"choices\":[{\"usage\":null}]}"),
        same("data: {\"choices\":[],\"usage\":null"),
        same("data: \"usage\""),
        same("data:"),
        same("event: usage"),
        (
            "data: {\"id\":1,\"choices\":[{}],\"usage\":null}".into(),
            "data: {\"id\":1,\"choices\":[{}]}".into(),
        ),
        (
            "data: {\"id\":1,\"usage\":null,\"x\":[{\"usage\":null}]}".into(),
            "data: {\"id\":1,\"x\":[{\"usage\":null}]}".into(),
        ),
        (
            "data:{\"usage\":null,\"id\":1e400}".into(),
            "data:{\"id\":1e400}".into(),
        ),
        (
            "data: {\"id\":1 , \"usage\" : null }".into(),
            "data: {\"id\":1  }".into(),
        ),
        (
            "data: { \"usage\":null , \"id\":1}".into(),
            "data: {  \"id\":1}".into(),
        ),
        ("data: {\"usage\":null}".into(), "data: {}".into()),
        (
            "event: x\ndata: {\"choices\":[],\"usage\":null}".into(),
            "event: x\ndata: {\"choices\":[]}".into(),
        ),
    ]);
    let extra = prop::sample::select(vec![
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3}}",
        "data:{\"id\":\"x\",\"usage\":{\"prompt_tokens\":3},\"choices\":[ ],\"timings\":{}}",
    ]);
    prop_oneof![
        4 => (line, end.clone()).prop_map(|((from, to), end)| (from + end, to + end)),
        1 => (extra, end).prop_map(|(from, end)| (format!("{from}{end}"), String::new())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn only_usage_goes_and_every_other_byte_stays_however_the_stream_is_cut(
        events in prop::collection::vec(event(), 0..8),
        cuts in prop::collection::vec(0..600_usize, 0..5),
    ) {
        let (sent, expected): (Vec<_>, Vec<_>) = events.into_iter().unzip();
        let (sent, expected) = (sent.concat().into_bytes(), expected.concat());
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(sent.len())).collect();
        cuts.extend([0, sent.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|pair| &sent[pair[0]..pair[1]]);
        prop_assert_eq!(text(hidden(pieces)), expected.as_str());
        prop_assert_eq!(text(hidden(sent.chunks(1))), expected.as_str());
    }

    #[test]
    fn no_bytes_upset_it_and_no_cut_changes_what_comes_out(
        bytes in prop::collection::vec(prop_oneof![
            prop::sample::select(&b"\n\r:{}[],\" "[..]).prop_map(|byte| vec![byte]),
            prop::sample::select(vec!["data: ", "{\"choices\":[],\"usage\":{}}", "{\"usage\":null}", "\n\n", "\r\n"])
                .prop_map(|text| text.as_bytes().to_vec()),
            prop::collection::vec(any::<u8>(), 0..4),
        ], 0..40),
        cut in 0..200_usize,
    ) {
        let bytes = bytes.concat();
        let whole = hidden([&bytes[..]]);
        let (head, tail) = bytes.split_at(cut.min(bytes.len()));
        prop_assert_eq!(&hidden([head, tail]), &whole);
        prop_assert_eq!(&hidden(bytes.chunks(1)), &whole);
    }
}

#[test]
fn comments_inside_a_removed_event_stay() {
    let stream = ": keep\ndata: {\"choices\":[],\"usage\":{}}\n\ndata: [DONE]\n\n";
    assert_eq!(hide(stream), ": keep\ndata: [DONE]\n\n");
}

#[test]
fn complete_events_are_never_held_back_and_unchanged_chunks_are_not_copied() {
    let mut filter = HideUsage::new();
    let chunk = Bytes::from_static(b"data: {\"choices\":[{}]}\n\n: x\n\n");
    let out = filter.push(chunk.clone());
    assert_eq!(out.as_ptr(), chunk.as_ptr());
    assert_eq!(out, chunk);
    let chunk = Bytes::from_static(b"data: {\"a\":1}\n\ndata: {\"usa");
    let out = filter.push(chunk.clone());
    assert_eq!(out.as_ptr(), chunk.as_ptr());
    assert_eq!(&out[..], b"data: {\"a\":1}\n\n");
    assert_eq!(
        &filter.push(Bytes::from_static(b"ge\":null,\"b\":1}\n\n"))[..],
        b"data: {\"b\":1}\n\n"
    );
}

#[test]
fn what_is_held_at_the_end_comes_out() {
    assert_eq!(
        hide("data: {\"choices\":[{\"de"),
        "data: {\"choices\":[{\"de"
    );
    assert_eq!(
        hide("data: {\"choices\":[],\"usage\":{}}"),
        "",
        "the usage chunk is hidden without its blank line too"
    );
}

#[test]
fn an_event_of_any_size_passes_and_little_of_it_is_held() {
    let mut filter = HideUsage::new();
    let long = Bytes::from(vec![b'x'; 300_000]);
    let mut out = filter.push(Bytes::from_static(b"data: ")).len();
    for sent in 1..=10 {
        out += filter.push(long.clone()).len();
        assert!(
            sent * long.len() + 6 - out <= 1 << 20,
            "held: {}",
            sent * long.len() - out
        );
    }
    out += filter
        .push(Bytes::from_static(b"\n\ndata: {\"usage\":null}\n\n"))
        .len();
    assert_eq!(out, 6 + 10 * long.len() + "\n\ndata: {}\n\n".len());
}
