//! What may differ between a request and its adapted form: the listed changes, and not one byte more.

use serde_json::Value;
use tollgate::llm::adapt::Adapted;

/// Checks a request against its adapted form.
pub(super) fn only_what_is_listed_changed(
    written: &str,
    original: &Value,
    adapted: &Adapted,
    body: &Value,
    model: &str,
) {
    kept_pieces_are_all_there(written, adapted);
    for change in &adapted.changes {
        assert!(!change.what.contains("SECRET"), "a prompt in {change:?}");
    }
    let (before, after) = (original.as_object().unwrap(), body.as_object().unwrap());
    let names = before.keys().chain(after.keys());
    for name in names.filter(|name| before.get(*name) != after.get(*name)) {
        let listed = name == "model"
            || adapted.changes.iter().any(|change| {
                let mut words = change.what.split([' ', '.', '=']);
                words.any(|word| word == name)
            });
        assert!(listed, "`{name}` changed unlisted: {:?}", adapted.changes);
    }
    if adapted.changes.len() == 1 && adapted.path.is_none() {
        // Only the name: what stands around it is the same, to the byte.
        let [span] = adapted.edited.as_slice() else {
            panic!("one edit, not {:?}", adapted.edited);
        };
        let expected = [
            &written[..span.start],
            &format!("\"{model}\""),
            &written[span.end..],
        ];
        assert_eq!(String::from_utf8_lossy(&adapted.body), expected.concat());
    }
    if adapted.changes.len() == 1 && adapted.path.is_some() {
        assert_eq!(adapted.body, written.as_bytes());
    }
}

/// What lies between the edits stands in the adapted body in the same order, from its first byte to its last.
fn kept_pieces_are_all_there(written: &str, adapted: &Adapted) {
    let body = std::str::from_utf8(&adapted.body).unwrap();
    let mut rest = body;
    let mut at = 0;
    for range in &adapted.edited {
        let kept = &written[at..range.start];
        let found = rest
            .find(kept)
            .unwrap_or_else(|| panic!("lost `{kept}` in {body}"));
        assert!(
            at > 0 || found == 0,
            "something stands before the beginning"
        );
        rest = &rest[found + kept.len()..];
        at = range.end;
    }
    assert!(rest.ends_with(&written[at..]), "the end changed");
}
