use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;

/// 2026-11-21 12:00:00 UTC.
const NOW: u64 = 1_795_262_400_000;

fn headers(pairs: &[(&str, &str)]) -> http::HeaderMap {
    let mut map = http::HeaderMap::new();
    for (name, value) in pairs {
        let name: HeaderName = name.parse().expect("a name");
        let value = HeaderValue::from_bytes(value.as_bytes()).expect("a value");
        map.append(name, value);
    }
    map
}

fn head(pairs: &[(&str, &str)]) -> RateNews {
    RateNews::of_head(&headers(pairs), NOW)
}

fn quota(limit: u64, remaining: u64, resets_ms: u64, window: Duration) -> Option<Quota> {
    Some(Quota {
        limit: Some(limit),
        remaining: Some(remaining),
        resets_in: Some(Duration::from_millis(resets_ms)),
        window: Some(window),
    })
}

fn body(status: u16, json: &str) -> (Option<crate::llm::reading::AnswerError>, RateNews) {
    let mut news = RateNews::default();
    let error = read_error(
        status,
        &http::HeaderMap::new(),
        json.as_bytes(),
        NOW,
        &mut news,
    );
    (error, news)
}

/// The names of an error as `kind/code`.
fn names(status: u16, json: &str) -> String {
    let error = body(status, json).0.expect("an error");
    let text = |name: Option<String>| name.unwrap_or_default();
    format!("{}/{}", text(error.kind), text(error.code))
}

#[test]
fn anthropic_tells_four_limits_with_moments() {
    let news = head(&[
        ("anthropic-ratelimit-requests-limit", "1000"),
        ("anthropic-ratelimit-requests-remaining", "999"),
        ("anthropic-ratelimit-requests-reset", "2026-11-21T12:00:01Z"),
        ("anthropic-ratelimit-input-tokens-limit", "500000"),
        ("anthropic-ratelimit-input-tokens-remaining", "0"),
        (
            "anthropic-ratelimit-input-tokens-reset",
            "2026-11-21T12:00:17Z",
        ),
        ("anthropic-ratelimit-output-tokens-limit", "100000"),
        ("anthropic-ratelimit-output-tokens-remaining", "100000"),
        (
            "anthropic-ratelimit-output-tokens-reset",
            "2026-11-21T11:59:59Z",
        ),
        ("anthropic-ratelimit-tokens-limit", "600000"),
        ("anthropic-ratelimit-tokens-remaining", "599000"),
        ("anthropic-ratelimit-tokens-reset", "2026-11-21T12:00:00Z"),
        // Pools of their own.
        ("anthropic-fast-input-tokens-limit", "7"),
        ("anthropic-ratelimit-priority-input-tokens-limit", "7"),
        ("retry-after", "17"),
        ("x-should-retry", "true"),
    ]);
    assert_eq!(news.requests, quota(1000, 999, 1000, MINUTE));
    assert_eq!(news.input_tokens, quota(500_000, 0, 17_000, MINUTE));
    assert_eq!(news.output_tokens, quota(100_000, 100_000, 0, MINUTE));
    assert_eq!(news.tokens, quota(600_000, 599_000, 0, MINUTE));
    assert_eq!(news.requests_day, None);
    assert_eq!(news.asked(), Some(Duration::from_secs(17)));
    assert_eq!(news.should_retry, Some(true));
}

#[test]
fn openai_tells_go_durations_and_its_windows_follow_from_them() {
    let news = head(&[
        ("x-ratelimit-limit-requests", "500"),
        ("x-ratelimit-limit-tokens", "500000"),
        ("x-ratelimit-remaining-requests", "499"),
        ("x-ratelimit-remaining-tokens", "1000"),
        ("x-ratelimit-reset-requests", "120ms"),
        ("x-ratelimit-reset-tokens", "59.88s"),
        ("x-ratelimit-limit-images", "5"),
        ("retry-after", "1"),
        ("retry-after-ms", "960"),
    ]);
    assert_eq!(news.requests, quota(500, 499, 120, MINUTE));
    assert_eq!(news.tokens, quota(500_000, 1000, 59_880, MINUTE));
    // The two waits say the same; the reset is when all is back, not when this request fits.
    assert_eq!(news.asked(), Some(Duration::from_millis(960)));

    let free = head(&[
        ("x-ratelimit-limit-requests", "200"),
        ("x-ratelimit-remaining-requests", "199"),
        ("x-ratelimit-reset-requests", "7m12s"),
    ]);
    assert_eq!(free.requests, None);
    assert_eq!(free.requests_day, quota(200, 199, 432_000, DAY));
}

#[test]
fn groq_counts_requests_by_the_day_and_tokens_by_the_minute() {
    let news = head(&[
        ("x-ratelimit-limit-requests", "14400"),
        ("x-ratelimit-limit-tokens", "18000"),
        ("x-ratelimit-remaining-requests", "14370"),
        ("x-ratelimit-remaining-tokens", "15702"),
        ("x-ratelimit-reset-requests", "2m59.56s"),
        ("x-ratelimit-reset-tokens", "7.66s"),
    ]);
    assert_eq!(news.requests, None);
    assert_eq!(news.requests_day, quota(14_400, 14_370, 179_560, DAY));
    assert_eq!(news.tokens, quota(18_000, 15_702, 7660, MINUTE));
}

#[test]
fn a_window_that_cannot_be_told_is_left_open() {
    // As xAI and Azure send them, and OpenAI before anything is used.
    for reset in [None, Some(("x-ratelimit-reset-requests", "0s"))] {
        let mut pairs = vec![
            ("x-ratelimit-limit-requests", "60"),
            ("x-ratelimit-remaining-requests", "60"),
        ];
        pairs.extend(reset);
        let requests = head(&pairs).requests.expect("a limit");
        assert_eq!((requests.limit, requests.window), (Some(60), None));
    }
}

#[test]
fn mistral_counts_tokens_by_size() {
    let news = head(&[
        ("x-ratelimitbysize-limit-minute", "500000"),
        ("x-ratelimitbysize-remaining-minute", "499000"),
        ("x-ratelimitbysize-limit-month", "1000000000"),
        ("x-ratelimitbysize-remaining-month", "0"),
        ("ratelimitbysize-reset", "12"),
        ("ratelimitbysize-query-cost", "1000"),
    ]);
    assert_eq!(news.tokens, quota(500_000, 499_000, 12_000, MINUTE));
    let other = head(&[
        ("x-ratelimit-limit-req-minute", "60"),
        ("x-ratelimit-remaining-req-minute", "59"),
        ("x-ratelimit-limit-tokens-minute", "500000"),
        ("x-ratelimit-remaining-tokens-minute", "400000"),
    ]);
    let requests = other.requests.expect("a limit");
    assert_eq!((requests.limit, requests.window), (Some(60), Some(MINUTE)));
    assert_eq!(other.tokens.expect("a limit").remaining, Some(400_000));
}

#[test]
fn names_with_the_window_or_the_kind_of_token_in_them_are_understood() {
    // Cerebras, Fireworks.
    let news = head(&[
        ("x-ratelimit-limit-requests-day", "1000"),
        ("x-ratelimit-remaining-requests-day", "999"),
        ("x-ratelimit-reset-requests-day", "33011.382867"),
        ("x-ratelimit-limit-tokens-minute", "60000"),
        ("x-ratelimit-remaining-tokens-minute", "59000"),
        ("x-ratelimit-limit-tokens-day", "1000000"),
        ("x-ratelimit-remaining-tokens-day", "5"),
        ("x-ratelimit-limit-tokens-prompt", "70000"),
        ("x-ratelimit-limit-tokens-generated", "8000"),
        ("x-ratelimit-limit-requests-hour", "7"),
    ]);
    assert_eq!(news.requests_day.and_then(|day| day.limit), Some(1000));
    assert_eq!(news.requests, None);
    assert_eq!(news.tokens.and_then(|tokens| tokens.limit), Some(60_000));
    assert_eq!(news.tokens_day.and_then(|day| day.remaining), Some(5));
    assert_eq!(
        news.input_tokens.and_then(|input| input.limit),
        Some(70_000)
    );
    assert_eq!(
        news.output_tokens.and_then(|output| output.limit),
        Some(8000)
    );
}

#[test]
fn together_and_openrouter_name_nothing_but_a_limit() {
    let together = head(&[
        ("x-ratelimit-limit", "10"),
        ("x-ratelimit-remaining", "9"),
        ("x-ratelimit-reset", "1"),
        ("x-tokenlimit-limit", "3000"),
        ("x-tokenlimit-remaining", "2000"),
    ]);
    assert_eq!(together.requests.and_then(|limit| limit.remaining), Some(9));
    assert_eq!(together.requests.and_then(|limit| limit.window), None);
    assert_eq!(together.tokens.and_then(|limit| limit.limit), Some(3000));

    let soon = (NOW + 41_500).to_string();
    let openrouter = head(&[
        ("X-RateLimit-Limit", "20"),
        ("X-RateLimit-Remaining", "0"),
        ("X-RateLimit-Reset", &soon),
    ]);
    assert_eq!(openrouter.asked(), Some(Duration::from_millis(41_500)));

    let midnight = (NOW + 12 * 3_600_000).to_string();
    let day = head(&[
        ("x-ratelimit-limit", "50"),
        ("x-ratelimit-remaining", "0"),
        ("x-ratelimit-reset", &midnight),
    ]);
    assert_eq!(day.requests_day, quota(50, 0, 43_200_000, DAY));
    assert_eq!(day.asked(), Some(Duration::from_secs(43_200)));
}

#[test]
fn azure_and_bedrock_ask_in_milliseconds() {
    let azure = head(&[
        ("x-ratelimit-remaining-requests", "-1"),
        ("x-ratelimit-limit-requests", "250"),
        ("x-ratelimit-limit-tokens", "0"),
        ("x-ratelimit-remaining-tokens", "0"),
        ("retry-after", "8"),
        ("retry-after-ms", "7420"),
    ]);
    assert_eq!(azure.asked(), Some(Duration::from_millis(7420)));
    // -1 is "not known", a limit of 0 "not limited here".
    assert_eq!(
        azure.requests.map(|quota| (quota.limit, quota.remaining)),
        Some((Some(250), None))
    );
    assert_eq!(
        azure.tokens.map(|quota| (quota.limit, quota.remaining)),
        Some((None, Some(0)))
    );

    let bedrock = head(&[("x-amz-retry-after", "1500")]);
    assert_eq!(bedrock.asked(), Some(Duration::from_millis(1500)));
}

#[test]
fn claude_plans_tell_their_windows_in_seconds_since_1970() {
    let resets = (NOW / 1000 + 7200).to_string();
    let news = head(&[
        ("anthropic-ratelimit-unified-status", "rejected"),
        ("anthropic-ratelimit-unified-reset", &resets),
        (
            "anthropic-ratelimit-unified-representative-claim",
            "five_hour",
        ),
        ("anthropic-ratelimit-unified-5h-reset", &resets),
        ("anthropic-ratelimit-unified-5h-utilization", "1.02"),
        ("anthropic-ratelimit-unified-7d-utilization", "0.5"),
        ("anthropic-ratelimit-unified-overage-status", "allowed"),
        ("retry-after", "30"),
    ]);
    assert!(news.plan.rejected);
    let short = news.plan.short.expect("a window");
    assert_eq!(short.used_ppm, 1_020_000);
    assert_eq!(short.resets_in, Some(Duration::from_secs(7200)));
    assert_eq!(short.window, Some(Duration::from_secs(5 * 3600)));
    assert_eq!(news.plan.long.map(|long| long.used_ppm), Some(500_000));
    // The plan's wait is the longer one.
    assert_eq!(news.asked(), Some(Duration::from_secs(7200)));

    let warned = head(&[
        ("anthropic-ratelimit-unified-status", "allowed_warning"),
        ("anthropic-ratelimit-unified-reset", &resets),
        ("anthropic-ratelimit-unified-5h-utilization", "NaN"),
        ("anthropic-ratelimit-unified-7d-utilization", "-3"),
    ]);
    assert_eq!(warned.asked(), None);
    assert_eq!(warned.plan.short.map(|short| short.used_ppm), Some(0));
    assert_eq!(warned.plan.long.map(|long| long.used_ppm), Some(0));
}

#[test]
fn chatgpt_plans_tell_percents_and_minutes() {
    let resets = (NOW / 1000 + 600).to_string();
    let news = head(&[
        ("x-codex-primary-used-percent", "42.5"),
        ("x-codex-primary-window-minutes", "300"),
        ("x-codex-primary-reset-at", &resets),
        ("x-codex-secondary-used-percent", "1e300"),
        ("x-codex-secondary-window-minutes", "99999999999999999999"),
        ("x-codex-credits-balance", "7"),
        ("x-codex-active-limit", "codex"),
    ]);
    let short = PlanWindow {
        used_ppm: 425_000,
        resets_in: Some(Duration::from_secs(600)),
        window: Some(Duration::from_secs(300 * 60)),
    };
    assert_eq!(news.plan.short, Some(short));
    let long = news.plan.long.expect("a window");
    assert_eq!((long.used_ppm, long.window), (10_000_000, Some(MAX_WAIT)));
    assert!(!news.plan.rejected);
}

#[test]
fn of_contradicting_headers_the_stricter_counts() {
    let news = head(&[
        ("x-ratelimit-limit-requests", "500"),
        ("x-ratelimit-limit-requests", "100"),
        ("x-ratelimit-remaining-requests", "900"),
        ("x-ratelimit-remaining-requests", "700"),
        ("x-ratelimit-reset-requests", "1s"),
        ("x-ratelimit-reset-requests", "3s"),
        ("retry-after", "5"),
        ("retry-after", "Sat, 21 Nov 2026 12:00:20 GMT"),
        ("retry-after-ms", "1200"),
        ("x-should-retry", "false"),
        ("x-should-retry", "true"),
    ]);
    let requests = news.requests.expect("a limit");
    assert_eq!((requests.limit, requests.remaining), (Some(100), Some(100)));
    assert_eq!(requests.resets_in, Some(Duration::from_secs(3)));
    assert_eq!(news.asked(), Some(Duration::from_secs(20)));
    assert_eq!(news.should_retry, Some(false));
    // Two windows of one pool: the one that is used up, else the slower one.
    let both = head(&[
        ("x-ratelimit-limit-req-second", "5"),
        ("x-ratelimit-remaining-req-second", "5"),
        ("x-ratelimit-limit-req-minute", "60"),
        ("x-ratelimit-remaining-req-minute", "60"),
    ]);
    assert_eq!(both.requests.and_then(|quota| quota.window), Some(MINUTE));
    let used_up = head(&[
        ("x-ratelimit-limit-req-second", "5"),
        ("x-ratelimit-remaining-req-second", "0"),
        ("x-ratelimit-limit-req-minute", "60"),
        ("x-ratelimit-remaining-req-minute", "60"),
    ]);
    assert_eq!(
        used_up.requests.and_then(|quota| quota.window),
        Some(SECOND)
    );
}

#[test]
fn garbage_lies_and_the_past_ask_for_nothing() {
    for value in [
        "-5",
        "0",
        "0.0",
        "soon",
        "",
        "NaN",
        "Sat, 21 Nov 2020 12:00:00 GMT",
        "\u{fffd}",
        "1e9",
    ] {
        let news = head(&[
            ("retry-after", value),
            ("retry-after-ms", value),
            ("x-should-retry", value),
        ]);
        assert_eq!(news.asked(), None, "{value:?}");
        assert_eq!(news.should_retry, None);
    }
    let news = head(&[
        ("x-ratelimit-limit-requests", "lots"),
        (
            "x-ratelimit-remaining-requests",
            "99999999999999999999999999",
        ),
        ("x-ratelimit-reset-requests", "never"),
        ("x-ratelimit-reset-tokens", "5s"),
        ("retry-after", "1000000000000"),
    ]);
    assert_eq!(
        news.requests.and_then(|quota| quota.remaining),
        Some(MAX_AMOUNT)
    );
    // A reset alone says nothing of a limit.
    assert_eq!(news.tokens, None);
    assert_eq!(news.asked(), Some(MAX_WAIT));
}

#[test]
fn errors_are_named_whatever_they_look_like() {
    for (status, json, expected) in [
        (
            429,
            r#"{"type":"error","error":{"type":"rate_limit_error","message":"m","details":{"error_code":"enforced_spend_limit_reached"}}}"#,
            "rate_limit_error/enforced_spend_limit_reached",
        ),
        (
            429,
            r#"{"error":{"message":"m","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#,
            "tokens/rate_limit_exceeded",
        ),
        (429, r#"{"error":{"code":"429","message":"m"}}"#, "/429"),
        (
            429,
            r#"{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED","details":[]}}"#,
            "RESOURCE_EXHAUSTED/429",
        ),
        (
            200,
            r#"[{"error":{"code":503,"message":"m","status":"UNAVAILABLE"}}"#,
            "none",
        ),
        (
            200,
            r#"[{"error":{"code":503,"message":"m","status":"UNAVAILABLE"}}]"#,
            "UNAVAILABLE/503",
        ),
        (200, r#"{"error":"model runner stopped"}"#, "/"),
        (
            429,
            r#"{"object":"error","message":"m","type":"rate_limited","code":"1300"}"#,
            "rate_limited/1300",
        ),
        (429, r#"{"message":"Requests rate limit exceeded"}"#, "/"),
        (
            400,
            r##"{"__type":"com.amazon.coral#ThrottlingException","message":"m"}"##,
            "ThrottlingException/",
        ),
        (
            200,
            r#"{"type":"error","code":"server_error","message":"m","param":null}"#,
            "/server_error",
        ),
        (
            200,
            r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"rate_limit_exceeded","message":"m"}}}"#,
            "/rate_limit_exceeded",
        ),
        (
            200,
            r#"{"error":{"message":"m","code":502},"choices":[{"finish_reason":"error"}]}"#,
            "/502",
        ),
        (422, r#"{"detail":[{"msg":"m"}]}"#, "/"),
        (500, "<html>Bad Gateway</html>", "/"),
        (500, "", "/"),
        (
            500,
            r#"{"error":{"type":"a sentence, not a name","code":"x y"}}"#,
            "/",
        ),
        (500, r#"{"error":{"type":7,"code":{"a":1}}}"#, "7/"),
    ] {
        if expected == "none" {
            assert_eq!(body(status, json).0, None, "{json}");
        } else {
            assert_eq!(names(status, json), expected, "{json}");
        }
    }
}

#[test]
fn answers_that_are_no_errors_are_none() {
    for json in [
        r#"{"type":"message_start","message":{"usage":{}}}"#,
        r#"{"type":"response.created","response":{"status":"in_progress","error":null}}"#,
        r#"{"id":"x","object":"chat.completion.chunk","choices":[{"delta":{"content":"error"}}],"error":null}"#,
        r#"{"candidates":[]}"#,
        r#"{"model":"m","done":false,"error":""}"#,
        "[]",
        "null",
        "7",
        "\"error\"",
        "",
        "{",
    ] {
        let (error, news) = body(200, json);
        assert_eq!((error, news), (None, RateNews::default()), "{json}");
    }
}

#[test]
fn bedrock_names_its_error_in_a_header() {
    let headers = headers(&[(
        "x-amzn-errortype",
        "ThrottlingException:http://internal/coral/",
    )]);
    let mut news = RateNews::default();
    let error = read_error(
        429,
        &headers,
        br#"{"message":"Too many requests"}"#,
        NOW,
        &mut news,
    );
    assert_eq!(
        error.and_then(|error| error.kind).as_deref(),
        Some("ThrottlingException")
    );
}

#[test]
fn bodies_name_waits() {
    let ms = |json| body(429, json).1.asked().map(|wait| wait.as_millis());
    for (json, expected) in [
        (
            r#"{"error":{"message":"Please try again in 960ms. Visit"}}"#,
            Some(960),
        ),
        (
            r#"{"error":{"message":"Please try again in 6m0s."}}"#,
            Some(360_000),
        ),
        (r#"{"error":"server busy, retry in 2s"}"#, Some(2000)),
        (r#"{"message":"Please retry after 8 seconds."}"#, Some(8000)),
        (
            r#"{"type":"response.failed","response":{"error":{"code":"rate_limit_exceeded","message":"Please try again in 11.054s."}}}"#,
            Some(11_054),
        ),
        (
            r#"{"error":{"status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"0.5s"}]}}"#,
            Some(500),
        ),
        // The text is more exact, and longer.
        (
            r#"{"error":{"message":"Please retry in 37.41s.","details":[{"retryDelay":"37s"}]}}"#,
            Some(37_410),
        ),
        (
            r#"{"error":{"type":"usage_limit_reached","plan_type":"plus","resets_at":1795262460}}"#,
            Some(60_000),
        ),
        (
            r#"{"error":{"type":"usage_limit_reached","resets_in_seconds":90}}"#,
            Some(90_000),
        ),
        (
            r#"{"error":{"code":429,"metadata":{"headers":{"X-RateLimit-Limit":"20","X-RateLimit-Remaining":"0","X-RateLimit-Reset":"1795262460000"}}}}"#,
            Some(60_000),
        ),
        (
            r#"{"error":{"code":429,"metadata":{"headers":{"Retry-After":12}}}}"#,
            Some(12_000),
        ),
        (
            r#"{"error":{"details":[{"retryDelay":"-5s"},{"retryDelay":7},{"retryDelay":{"seconds":5}}]}}"#,
            None,
        ),
        (r#"{"error":{"message":"no"}}"#, None),
    ] {
        assert_eq!(ms(json), expected, "{json}");
    }
}

#[test]
fn quotas_that_no_wait_refills_are_told_from_the_others() {
    let quota = |id: &str, value: &str| {
        format!(
            r#"{{"error":{{"details":[{{"violations":[{{"quotaId":"GenerateRequestsPerMinute","quotaValue":"10"}},{{"quotaId":"{id}","quotaValue":"{value}"}}]}},{{"retryDelay":"13s"}}]}}}}"#
        )
    };
    let message = |text: &str| format!(r#"{{"error":{{"message":"{text}"}}}}"#);
    for (json, expected) in [
        (
            quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier", "10"),
            true,
        ),
        (quota("DailyTokens", "10"), true),
        (quota("SpendPerMonth", "250"), true),
        (
            quota("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "10"),
            false,
        ),
        (
            quota("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "0"),
            true,
        ),
        (
            r#"{"error":{"details":[{"metadata":{"quota_limit":"X","quota_limit_value":"0"}}]}}"#
                .to_owned(),
            true,
        ),
        (
            message("Quota exceeded for metric: m, limit: 0, model: x"),
            true,
        ),
        (message("Quota exceeded for metric: m, limit: 0."), true),
        (message("Quota exceeded for metric: m, limit: 0.5"), false),
        (message("Quota exceeded for metric: m, limit: 20"), false),
    ] {
        assert_eq!(body(429, &json).1.spent, expected, "{json}");
    }
}

proptest! {
    #[test]
    fn no_head_panics_or_goes_beyond_the_bounds(
        pairs in proptest::collection::vec((
            prop_oneof![
                "(anthropic-ratelimit|x-ratelimit|ratelimit|x-tokenlimit|x-codex-primary)-(limit|remaining|reset|unified-5h-reset|used-percent|window-minutes)(-requests|-tokens|-day|)",
                Just("retry-after".to_owned()),
                Just("retry-after-ms".to_owned()),
                Just("anthropic-ratelimit-unified-reset".to_owned()),
                Just("anthropic-ratelimit-unified-5h-utilization".to_owned()),
            ],
            prop_oneof!["\\PC{0,20}", "-?[0-9]{1,25}(\\.[0-9]{1,9})?", "[0-9]{1,12}(ms|s|m|h)([0-9]{1,9}s)?", Just("rejected".to_owned())],
        ), 0..12),
        now: u64,
    ) {
        let news = RateNews::of_pairs(pairs.iter().map(|(name, value)| (&**name, &**value)), now);
        for quota in [news.requests, news.requests_day, news.tokens, news.tokens_day, news.input_tokens, news.output_tokens].into_iter().flatten() {
            prop_assert!(quota.limit != Some(0) && quota.limit.is_none_or(|limit| limit <= MAX_AMOUNT));
            prop_assert!(quota.remaining.is_none_or(|left| left <= quota.limit.unwrap_or(MAX_AMOUNT)));
            prop_assert!(quota.resets_in.is_none_or(|reset| reset <= MAX_WAIT));
        }
        prop_assert!(news.asked().is_none_or(|wait| !wait.is_zero() && wait <= MAX_WAIT));
        prop_assert!(news.retry_after.is_none_or(|wait| !wait.is_zero()));
        prop_assert!(news.asked() >= news.retry_after);
    }

    #[test]
    fn no_body_panics(status in 100..600_u16, json in prop_oneof![".{0,60}", "[\\[\\]{}:,\"a-z0-9 .-]{0,60}"]) {
        let (error, news) = body(status, &json);
        prop_assert!(status < 400 || error.is_some());
        prop_assert!(news.asked().is_none_or(|wait| wait <= MAX_WAIT));
    }
}
