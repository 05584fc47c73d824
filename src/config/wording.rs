//! How budgets and thresholds are told to people: amounts with their separators, whose, over which time.

use crate::policy::budget::{Budget, Limit, Window};
use crate::policy::throttle::Share;
use crate::units::Cost;

/// `100,000 tokens`, `5 USD`, `1 request`.
pub fn limit(limit: Limit) -> String {
    match limit {
        Limit::Tokens(1) => "1 token".to_owned(),
        Limit::Tokens(count) => format!("{} tokens", grouped(&count.to_string())),
        Limit::Requests(1) => "1 request".to_owned(),
        Limit::Requests(count) => format!("{} requests", grouped(&count.to_string())),
        Limit::Usd(cost) => format!("{} USD", usd(cost)),
    }
}

/// `5`, `1,000`, `0.50`, exact.
pub fn usd(cost: Cost) -> String {
    let exact = cost.to_string();
    let (whole, fraction) = exact.split_once('.').unwrap_or((&exact, ""));
    match fraction {
        "" | "00" => grouped(whole),
        fraction => format!("{}.{fraction}", grouped(whole)),
    }
}

fn grouped(digits: &str) -> String {
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `everything together`, `each session`, `team research`.
pub fn whose(budget: &Budget) -> String {
    use crate::policy::budget::ScopeKind;
    match (budget.scope, &budget.only) {
        (ScopeKind::Global, _) => "everything together".to_owned(),
        (kind, None) => format!("each {}", kind.as_str()),
        (kind, Some(name)) => format!("{} {name}", kind.as_str()),
    }
}

/// `in any hour`, `in a calendar month`.
pub const fn window(window: Window) -> &'static str {
    match window {
        Window::Minute => "in any minute",
        Window::Hour => "in any hour",
        Window::Day => "in any 24 hours",
        Window::Month => "in a calendar month",
    }
}

/// `70%`, `99.9%`.
pub fn percent(share: Share) -> String {
    let (whole, fraction) = (share.0 / 10_000, share.0 % 10_000);
    let text = format!("{whole}.{fraction:04}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_told_with_separators_and_exactly() {
        let usd = |text: &str| limit(Limit::Usd(text.parse().expect("money")));
        assert_eq!(limit(Limit::Tokens(1_000_000)), "1,000,000 tokens");
        assert_eq!(limit(Limit::Tokens(999)), "999 tokens");
        assert_eq!(limit(Limit::Requests(1)), "1 request");
        assert_eq!(usd("5"), "5 USD");
        assert_eq!(usd("1000.5"), "1,000.50 USD");
        assert_eq!(usd("0.0001"), "0.0001 USD");
        assert_eq!(percent(Share(700_000)), "70%");
        assert_eq!(percent(Share(999_001)), "99.9001%");
        assert_eq!(percent(Share(0)), "0%");
        assert_eq!(percent(Share::WHOLE), "100%");
    }
}
