use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use serde_json::Value;

use super::classes::Class::{Ambiguous, Terminal};
use super::*;
use crate::llm::rate_limits::{RateNews, read_error};
use crate::llm::reading::AnswerError;

const HERE: Class = Class::Transient { pauses_lane: false };
const LINE: Class = Class::Transient { pauses_lane: true };

fn error(kind: &str, code: &str) -> AnswerError {
    let some = |name: &str| (!name.is_empty()).then(|| name.to_owned());
    AnswerError {
        kind: some(kind),
        code: some(code),
    }
}

fn judged(status: u16, kind: &str, code: &str, news: &RateNews) -> (Class, Sign) {
    let error = error(kind, code);
    let judgement = judge(
        &Failed::Answered {
            status,
            error: &error,
        },
        news,
    );
    (judgement.class, judgement.sign)
}

fn attempted(judgement: Judgement) -> Attempted {
    Attempted {
        judgement,
        attempts: 1,
        max_retries: MAX_RETRIES,
        first_byte_out: false,
        repeatable: true,
        deadline_ms: 600_000,
        now_ms: 0,
        chance: 0.5,
    }
}

fn refused(asked: Option<Duration>) -> Judgement {
    Judgement {
        class: LINE,
        sign: Sign::RateLimited,
        status: Some(429),
        asked,
        elsewhere: true,
    }
}

fn why(attempted: &Attempted) -> Option<(Why, bool)> {
    match next(attempted, &mut RetryBudget::default()) {
        Next::GiveUp(GiveUp { why, stop }) => Some((why, stop)),
        Next::RetryIn(_) => None,
    }
}

#[test]
fn each_provider_s_errors_are_classed_by_name_and_status() {
    use Sign::{Failing, Overloaded, RateLimited, Untold, Well};
    for (status, kind, code, class, sign) in [
        // Anthropic.
        (400, "invalid_request_error", "", Terminal, Well),
        (401, "authentication_error", "", Terminal, Well),
        (
            402,
            "billing_error",
            "linked_organization_billing",
            Terminal,
            Well,
        ),
        (403, "permission_error", "", Terminal, Well),
        (404, "not_found_error", "", Terminal, Well),
        (408, "", "", HERE, Failing),
        (409, "conflict_error", "", HERE, Well),
        (413, "request_too_large", "", Terminal, Well),
        (429, "rate_limit_error", "", LINE, RateLimited),
        (
            429,
            "rate_limit_error",
            "enforced_spend_limit_reached",
            Terminal,
            Well,
        ),
        (
            429,
            "rate_limit_error",
            "contract_spend_limit_reached",
            Terminal,
            Well,
        ),
        (
            429,
            "rate_limit_error",
            "ramp_limit_exceeded",
            LINE,
            RateLimited,
        ),
        (500, "api_error", "", HERE, Failing),
        (
            503,
            "overloaded_error",
            "cmek_unavailable",
            HERE,
            Overloaded,
        ),
        (504, "timeout_error", "", HERE, Failing),
        (529, "overloaded_error", "", HERE, Overloaded),
        (200, "overloaded_error", "", HERE, Overloaded),
        (200, "rate_limit_error", "", LINE, RateLimited),
        (200, "invalid_request_error", "", Terminal, Well),
        // OpenAI and Codex.
        (
            400,
            "invalid_request_error",
            "context_length_exceeded",
            Terminal,
            Well,
        ),
        (200, "", "context_length_exceeded", Terminal, Well),
        (
            401,
            "invalid_request_error",
            "invalid_api_key",
            Terminal,
            Well,
        ),
        (429, "tokens", "rate_limit_exceeded", LINE, RateLimited),
        (429, "requests", "", LINE, RateLimited),
        (
            429,
            "insufficient_quota",
            "insufficient_quota",
            Terminal,
            Well,
        ),
        (429, "insufficient_quota", "", Terminal, Well),
        (429, "", "billing_hard_limit_reached", Terminal, Well),
        (429, "", "billing_not_active", Terminal, Well),
        (429, "usage_limit_reached", "", Terminal, Well),
        (500, "server_error", "", HERE, Failing),
        (
            503,
            "server_error",
            "server_is_overloaded",
            HERE,
            Overloaded,
        ),
        (503, "", "slow_down", LINE, RateLimited),
        (200, "", "rate_limit_exceeded", LINE, RateLimited),
        (200, "", "server_error", HERE, Failing),
        (200, "", "invalid_prompt", Terminal, Well),
        (200, "", "something_of_tomorrow", Terminal, Untold),
        // OpenRouter: the code is a status.
        (200, "", "502", HERE, Failing),
        (200, "", "429", LINE, RateLimited),
        (402, "", "402", Terminal, Well),
        // Google.
        (429, "RESOURCE_EXHAUSTED", "429", LINE, RateLimited),
        (200, "UNAVAILABLE", "503", HERE, Overloaded),
        (200, "INVALID_ARGUMENT", "400", Terminal, Well),
        (499, "CANCELLED", "499", Terminal, Well),
        (504, "DEADLINE_EXCEEDED", "504", HERE, Failing),
        // Bedrock.
        (429, "ThrottlingException", "", LINE, RateLimited),
        (400, "ThrottlingException", "", LINE, RateLimited),
        (200, "throttlingException", "", LINE, RateLimited),
        (429, "ModelNotReadyException", "", HERE, Overloaded),
        (400, "ValidationException", "", Terminal, Well),
        (429, "ServiceQuotaExceededException", "", Terminal, Well),
        (424, "ModelErrorException", "", Terminal, Well),
        (503, "ServiceUnavailableException", "", HERE, Overloaded),
        (200, "internalServerException", "", HERE, Failing),
        // Azure, Groq, Mistral, llama.cpp, Ollama, content networks, nobody in particular.
        (429, "", "429", LINE, RateLimited),
        (400, "", "content_filter", Terminal, Well),
        (498, "", "", HERE, Overloaded),
        (429, "rate_limited", "1300", LINE, RateLimited),
        (
            429,
            "service_tier_capacity_exceeded",
            "3505",
            HERE,
            Overloaded,
        ),
        (503, "unavailable_error", "503", HERE, Overloaded),
        (400, "exceed_context_size_error", "400", Terminal, Well),
        (200, "", "", HERE, Failing),
        (502, "", "", HERE, Failing),
        (524, "", "", HERE, Failing),
        (501, "", "", Terminal, Well),
        (418, "", "", Terminal, Well),
    ] {
        let found = judged(status, kind, code, &RateNews::default());
        assert_eq!(found, (class, sign), "{status} {kind} {code}");
    }
}

#[test]
fn the_provider_s_own_word_on_retrying_overrides_the_table_but_brings_no_money_back() {
    let says = |should_retry| RateNews {
        should_retry: Some(should_retry),
        ..RateNews::default()
    };
    assert_eq!(
        judged(529, "overloaded_error", "", &says(false)),
        (Terminal, Sign::Overloaded)
    );
    assert_eq!(
        judged(429, "rate_limit_error", "", &says(false)),
        (Terminal, Sign::Well)
    );
    assert_eq!(
        judged(404, "not_found", "", &says(true)),
        (HERE, Sign::Well)
    );
    assert_eq!(
        judged(429, "", "insufficient_quota", &says(true)).0,
        Terminal
    );
    assert_eq!(
        judged(400, "", "context_length_exceeded", &says(true)).0,
        Terminal
    );
}

#[test]
fn a_quota_that_minutes_do_not_refill_is_terminal_for_now() {
    let spent = RateNews {
        spent: true,
        retry_after: Some(Duration::from_secs(13)),
        should_retry: Some(true),
        ..RateNews::default()
    };
    assert_eq!(
        judged(429, "RESOURCE_EXHAUSTED", "429", &spent),
        (Terminal, Sign::Well)
    );
    // That the day's quota is gone is not why it is overloaded.
    assert_eq!(judged(503, "UNAVAILABLE", "503", &spent).0, HERE);

    let asks = |asked| RateNews {
        retry_after: Some(asked),
        ..RateNews::default()
    };
    assert_eq!(judged(429, "", "", &asks(MAX_PAUSE)).0, LINE);
    let longer = MAX_PAUSE + Duration::from_millis(1);
    assert_eq!(judged(429, "", "", &asks(longer)).0, Terminal);
    assert_eq!(
        judged(503, "", "", &asks(longer)),
        (Terminal, Sign::Overloaded)
    );
}

#[test]
fn another_account_may_serve_what_this_one_is_out_of_order_or_out_of_money_for() {
    let elsewhere = |status, kind: &str, code: &str, news: &RateNews| {
        let error = AnswerError {
            kind: Some(kind.to_owned()),
            code: Some(code.to_owned()),
        };
        let failed = Failed::Answered {
            status,
            error: &error,
        };
        judge(&failed, news).elsewhere
    };
    let nothing = RateNews::default();
    let stop = RateNews {
        should_retry: Some(false),
        ..RateNews::default()
    };
    let tomorrow = RateNews {
        retry_after: Some(Duration::from_secs(86_400)),
        ..RateNews::default()
    };
    for (status, kind, code, news) in [
        (429, "rate_limit_error", "", &nothing),
        (529, "overloaded_error", "", &stop),
        (503, "", "", &tomorrow),
        (429, "", "insufficient_quota", &nothing),
        (429, "", "", &tomorrow),
        (400, "billing_error", "", &nothing),
        (402, "", "", &nothing),
    ] {
        assert!(
            elsewhere(status, kind, code, news),
            "{status} {kind} {code}"
        );
    }
    for (status, kind, code) in [
        (400, "invalid_request_error", ""),
        (400, "", "context_length_exceeded"),
        (500, "", "context_length_exceeded"),
        (401, "authentication_error", ""),
        (404, "not_found_error", ""),
    ] {
        assert!(
            !elsewhere(status, kind, code, &nothing),
            "{status} {kind} {code}"
        );
    }
    let lost = judge(&Failed::Closed(Sent::Whole), &nothing);
    assert!(!lost.elsewhere, "it may have been billed");
}

#[test]
fn a_used_up_quota_is_waited_for_only_where_it_is_what_went_wrong() {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("x-ratelimit-limit-requests", "10"),
        ("x-ratelimit-remaining-requests", "0"),
        ("x-ratelimit-reset-requests", "40s"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let news = RateNews::of_head(&headers, 0);
    let nameless = AnswerError::default();
    let asked = |status| {
        let failed = Failed::Answered {
            status,
            error: &nameless,
        };
        judge(&failed, &news).asked
    };
    assert_eq!(asked(429), Some(Duration::from_secs(40)));
    assert_eq!(asked(500), None);
}

#[test]
fn without_an_answer_it_counts_how_much_had_gone_out() {
    use Sign::{Failing, Untold};
    for (failed, class, sign) in [
        (Failed::Connect, HERE, Failing),
        (Failed::Closed(Sent::Nothing), HERE, Failing),
        (Failed::Closed(Sent::Part), HERE, Failing),
        (Failed::Closed(Sent::Whole), Ambiguous, Failing),
        (Failed::TimedOut, Ambiguous, Failing),
        (Failed::Invalid, Ambiguous, Failing),
        (Failed::Empty, HERE, Failing),
        (Failed::Tls, Terminal, Untold),
        (Failed::RequestBody, Terminal, Untold),
    ] {
        let judgement = judge(&failed, &RateNews::default());
        assert_eq!(
            (judgement.class, judgement.sign),
            (class, sign),
            "{failed:?}"
        );
        assert_eq!(judgement.status, None);
    }
}

#[test]
fn three_retries_and_then_the_client_is_told_to_stop() {
    let mut attempted = attempted(refused(None));
    for attempts in 1..=3 {
        attempted.attempts = attempts;
        assert_eq!(why(&attempted), None, "{attempts}");
    }
    attempted.attempts = 4;
    assert_eq!(why(&attempted), Some((Why::RetriesSpent, true)));
    attempted.max_retries = 0;
    attempted.attempts = 1;
    assert_eq!(why(&attempted), Some((Why::RetriesSpent, true)));
}

#[test]
fn what_cannot_or_must_not_be_sent_again_is_not() {
    let sound = attempted(refused(None));
    for (attempted, expected) in [
        (
            Attempted {
                first_byte_out: true,
                ..sound
            },
            (Why::FirstByteOut, false),
        ),
        (
            Attempted {
                repeatable: false,
                ..sound
            },
            (Why::NotRepeatable, false),
        ),
        (
            Attempted {
                judgement: Judgement {
                    class: Ambiguous,
                    status: None,
                    ..sound.judgement
                },
                ..sound
            },
            (Why::Ambiguous, false),
        ),
        (
            Attempted {
                judgement: Judgement {
                    class: Terminal,
                    ..sound.judgement
                },
                ..sound
            },
            (Why::Terminal, true),
        ),
        // No SDK comes back on a 400; an agent gets itself a new token on a 401.
        (
            Attempted {
                judgement: Judgement {
                    class: Terminal,
                    status: Some(400),
                    ..sound.judgement
                },
                ..sound
            },
            (Why::Terminal, false),
        ),
        (
            Attempted {
                judgement: Judgement {
                    class: Terminal,
                    status: Some(401),
                    ..sound.judgement
                },
                ..sound
            },
            (Why::Terminal, false),
        ),
        // The client may wait longer than we do.
        (
            Attempted {
                judgement: refused(Some(Duration::from_secs(601))),
                ..sound
            },
            (Why::Deadline, false),
        ),
        (
            Attempted {
                now_ms: 700_000,
                ..sound
            },
            (Why::Deadline, false),
        ),
    ] {
        assert_eq!(why(&attempted), Some(expected), "{attempted:?}");
    }
}

#[test]
fn a_marker_is_the_header_that_stops_the_sdks() {
    let judgement = Judgement {
        class: Terminal,
        ..refused(None)
    };
    let (name, value) = GiveUp::new(Why::Terminal, &judgement)
        .marker()
        .expect("a marker");
    assert_eq!(
        (name.as_str(), value.as_bytes()),
        ("x-should-retry", &b"false"[..])
    );
    assert_eq!(GiveUp::new(Why::Deadline, &judgement).marker(), None);
}

#[test]
fn retries_beyond_the_budget_wait_and_past_the_deadline_they_are_given_up() {
    let mut budget = RetryBudget::new(0, 1);
    let attempted = Attempted {
        judgement: Judgement {
            class: HERE,
            sign: Sign::Overloaded,
            status: Some(529),
            asked: None,
            elsewhere: true,
        },
        deadline_ms: 40_000,
        ..attempted(refused(None))
    };
    assert_eq!(
        next(&attempted, &mut budget),
        Next::RetryIn(Duration::from_millis(500))
    );
    assert_eq!(
        next(&attempted, &mut budget),
        Next::RetryIn(Duration::from_millis(30_500))
    );
    let spent = GiveUp {
        why: Why::BudgetSpent,
        stop: true,
    };
    assert_eq!(next(&attempted, &mut budget), Next::GiveUp(spent));
}

#[test]
fn part_of_a_millisecond_is_never_cut_off_what_was_asked() {
    let asked = Duration::from_nanos(7_420_000_001);
    let attempted = Attempted {
        chance: 0.0,
        ..attempted(refused(Some(asked)))
    };
    let Next::RetryIn(pause) = next(&attempted, &mut RetryBudget::default()) else {
        panic!("no retry");
    };
    assert!(pause >= asked, "{pause:?}");
}

/// The recorded errors are classed, and ask for what, as their index says.
#[test]
fn recorded_errors_are_classed_as_their_index_states() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/wire");
    let read = |name: &str| std::fs::read(folder.join(name));
    let index = read("index.json").expect("the index");
    let index: Value = serde_json::from_slice(&index).expect("an index");
    // Before the moments that the samples name.
    let now_ms = 1_795_000_000_000;
    let mut seen = 0;
    for sample in index["samples"].as_array().expect("samples") {
        let expected = &sample["expected"]["error"];
        let name = sample["file"].as_str().expect("a file");
        let Some(class) = expected["class"].as_str() else {
            continue;
        };
        let Ok(body) = read(name) else {
            assert!(name.starts_with("bedrock"), "{name} is missing");
            continue;
        };
        let mut headers = HeaderMap::new();
        for (name, value) in sample["headers"].as_object().expect("headers") {
            let value = value.as_str().expect("a text").parse().expect("a value");
            headers.insert(name.parse::<HeaderName>().expect("a name"), value);
        }
        let status = sample["status"].as_u64().expect("a status") as u16;
        let mut news = RateNews::of_head(&headers, now_ms);
        // A stream's last error, a line's, or the whole body.
        let text = String::from_utf8(body).expect("text");
        let documents: Vec<&str> = match name.rsplit_once('.').expect("an ending").1 {
            "sse" => text
                .lines()
                .filter_map(|line| line.strip_prefix("data: "))
                .collect(),
            "ndjson" => text.lines().collect(),
            _ => vec![&text],
        };
        let found = documents
            .iter()
            .filter_map(|json| read_error(status, &headers, json.as_bytes(), now_ms, &mut news))
            .next_back()
            .unwrap_or_else(|| panic!("{name}: no error was found"));
        let failed = Failed::Answered {
            status,
            error: &found,
        };
        let judgement = judge(&failed, &news);
        assert_eq!(
            judgement.class != Terminal,
            class == "transient",
            "{name}: {judgement:?}"
        );
        for (field, from) in [("retry_after_ms", 0), ("reset_at_ms", now_ms)] {
            if let Some(wait) = expected[field].as_u64() {
                let asked = judgement
                    .asked
                    .unwrap_or_else(|| panic!("{name} asks for nothing"));
                // Google's text may name the same wait more exactly.
                let late = asked.as_millis() as u64 - (wait - from);
                assert!(late < 1000, "{name}: {asked:?}");
            }
        }
        seen += 1;
    }
    assert!(seen >= 17, "{seen} errors are recorded");
}

proptest! {
    #[test]
    fn whatever_an_answer_says_a_retry_waits_for_it_and_ends_in_time(
        status in 400..600_u16,
        asked_ms in proptest::option::of(1..10_000_000_u64),
        attempts in 0..6_u32,
        deadline_ms in 0..4_000_000_u64,
        chance in 0.0..1.0,
        first_byte_out: bool,
    ) {
        let news = RateNews {
            retry_after: asked_ms.map(Duration::from_millis),
            ..RateNews::default()
        };
        let error = AnswerError::default();
        let judgement = judge(&Failed::Answered { status, error: &error }, &news);
        let attempted = Attempted { judgement, attempts, deadline_ms, chance, first_byte_out, ..attempted(judgement) };
        if let Next::RetryIn(pause) = next(&attempted, &mut RetryBudget::default()) {
            prop_assert!(pause >= news.retry_after.unwrap_or_default());
            prop_assert!(pause <= MAX_PAUSE.max(news.retry_after.unwrap_or_default()));
            prop_assert!(pause.as_millis() as u64 <= deadline_ms);
            prop_assert!(!first_byte_out && attempts <= MAX_RETRIES);
            prop_assert!(judgement.class != Terminal);
        }
    }

    #[test]
    fn no_name_panics(status: u16, kind in "\\PC{0,30}", code in "\\PC{0,30}") {
        judged(status, &kind, &code, &RateNews::default());
    }
}
