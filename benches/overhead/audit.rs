//! Whether tollgate really did its work while it was timed: its sums must equal what the upstream sent, to the token.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::upstream::{INPUT_TOKENS, OUTPUT_TOKENS};

#[derive(Deserialize)]
struct Report {
    total: Total,
}

#[derive(Deserialize, Debug, PartialEq)]
struct Total {
    requests: u64,
    input: u64,
    output: u64,
    unknown_cost_requests: u64,
    estimated_requests: u64,
    partial_requests: u64,
}

/// Asks a tollgate for its sums, after so many requests.
pub(crate) fn check(address: &str, sent: u64) -> anyhow::Result<()> {
    let mut connection = TcpStream::connect(address)?;
    write!(
        connection,
        "GET /api/v1/usage?by=provider HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    let booked = serde_json::from_str::<Report>(body)?.total;
    let expected = Total {
        requests: sent,
        input: sent * INPUT_TOKENS,
        output: sent * OUTPUT_TOKENS,
        unknown_cost_requests: 0,
        estimated_requests: 0,
        partial_requests: 0,
    };
    ensure!(
        booked == expected,
        "tollgate booked {booked:?}, the upstream sent {expected:?}"
    );
    Ok(())
}
