//! An error inside a stream that has already begun: the same JSON that would have been the answer's body, as the event
//! in which the endpoint's clients look for one.

use serde_json::{Value, json};

use super::wire::Endpoint;

/// Makes an event of an error's body. A body that is no JSON is told as a plain message, so that nothing of it can break
/// the stream.
pub fn of_body(endpoint: Endpoint, body: &[u8]) -> String {
    let error: Value = serde_json::from_slice(body).unwrap_or_else(|_| {
        let message = "the provider answered with an error that is no JSON";
        json!({"type": "error", "error": {"type": "api_error", "message": message}})
    });
    match endpoint {
        Endpoint::Messages => format!("event: error\ndata: {error}\n\n"),
        Endpoint::Responses => {
            let inner = &error["error"];
            let code = inner["code"]
                .as_str()
                .or_else(|| inner["type"].as_str())
                .unwrap_or("server_error");
            let message = inner["message"].as_str().unwrap_or_default();
            let event = json!({
                "type": "response.failed",
                "sequence_number": 0,
                // The SDKs raise on this one.
                "error": {"code": code, "message": message},
                "response": {
                    "id": "resp_tollgate",
                    "object": "response",
                    "status": "failed",
                    "output": [],
                    "error": {"code": code, "message": message},
                },
            });
            format!("event: response.failed\ndata: {event}\n\n")
        }
        _ => format!("data: {error}\n\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_event_whatever_its_body_looks_like() {
        let pretty = b"{\n  \"error\": {\n    \"message\": \"no\\n\\nmore\", \"code\": \"insufficient_quota\"\n  }\n}\n";
        for endpoint in [
            Endpoint::Messages,
            Endpoint::Responses,
            Endpoint::ChatCompletions,
            Endpoint::GenerateContent,
        ] {
            for body in [&pretty[..], b"<html>\n\n</html>", b""] {
                let event = of_body(endpoint, body);
                assert!(event.ends_with("\n\n"), "{event}");
                assert_eq!(event.matches("\n\n").count(), 1, "{event}");
                assert_eq!(event.matches("data: ").count(), 1, "{event}");
            }
        }
        let failed = of_body(Endpoint::Responses, pretty);
        assert!(
            failed.contains(r#""code":"insufficient_quota""#),
            "{failed}"
        );
        assert!(failed.starts_with("event: response.failed\n"), "{failed}");
    }
}
