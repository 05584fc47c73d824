"""Who is charged: the session, agent and priority that each client's way of naming them leads to."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import openai
import pytest

from books import Books
from conftest import API_KEY, PROMPT

MESSAGES: Any = [{"role": "user", "content": PROMPT}]
UUID = "6f1c2f4e-8a57-4d0a-9a3d-0f1e2d3c4b5a"


def chat(books: Books, path: str = "/openai/v1", headers: dict[str, str] | None = None, **body: Any) -> dict[str, Any]:
    """Asks with OpenAI's SDK, without the headers of the test's own session; returns the ledger's record."""
    with openai.OpenAI(
        base_url=books.proxy.url + path, api_key=API_KEY, max_retries=0, timeout=30.0, default_headers=headers
    ) as client:
        raw = client.chat.completions.with_raw_response.create(model="gpt-5.6", messages=MESSAGES, extra_body=body)
    assert raw.parse().choices
    record = books.booked(raw.headers)
    assert raw.headers["x-tollgate-session"] == record["session"]
    assert raw.headers["x-tollgate-priority"] == record["priority"]
    return record


def message(
    books: Books, path: str = "/anthropic", headers: dict[str, str] | None = None, **body: Any
) -> dict[str, Any]:
    """Asks with Anthropic's SDK."""
    with anthropic.Anthropic(
        base_url=books.proxy.url + path, api_key=API_KEY, max_retries=0, timeout=30.0, default_headers=headers
    ) as client:
        raw = client.messages.with_raw_response.create(
            model="claude-opus-4-8", max_tokens=64, messages=MESSAGES, extra_body=body
        )
    assert raw.parse().content
    return books.booked(raw.headers)


def test_headers_name_session_and_priority_and_stay_here(books: Books) -> None:
    own = {"x-tollgate-session": "docs", "x-tollgate-priority": "high", "x-tollgate-phase": "review"}
    record = chat(books, headers=own | {"x-custom": "kept"})
    assert (record["session"], record["priority"], record["phase"]) == ("docs", "high", "review")
    [sent] = books.sent()
    assert "x-custom" in sent["header_names"]
    assert not [name for name in sent["header_names"] if name.startswith("x-tollgate-")]


@pytest.mark.parametrize("mount", ["/openai/v1", "/v1", "/openai", ""])
def test_a_tag_in_the_path_names_session_and_priority(books: Books, mount: str) -> None:
    record = chat(books, path=f"/@s:low{mount}")
    assert (record["session"], record["priority"], record["provider"]) == ("s", "low", "openai")
    [sent] = books.sent()
    assert sent["path"] == "/v1/chat/completions"


def test_a_header_beats_the_tag(books: Books) -> None:
    record = chat(books, path="/@tagged:low/openai/v1", headers={"x-tollgate-session": "named"})
    assert (record["session"], record["priority"]) == ("named", "low")


def test_claude_codes_session_is_found_and_its_agents_are_told_apart(books: Books) -> None:
    headers = {
        "X-Claude-Code-Session-Id": UUID,
        "User-Agent": "claude-cli/2.1.330 (external, sdk-cli)",
        "x-app": "cli",
        "anthropic-beta": "claude-code-20250219",
    }
    main = message(books, headers=headers)
    assert (main["session"], main["agent"]) == (UUID, None)
    sub = message(books, headers=headers | {"x-claude-code-agent-id": "a62a16bd16a5d109a"})
    assert (sub["session"], sub["agent"]) == (UUID, "a62a16bd16a5d109a")
    assert all({"anthropic-beta", "x-claude-code-session-id"} <= set(sent["header_names"]) for sent in books.sent(2))


def test_claude_codes_session_is_found_in_the_body(books: Books) -> None:
    user = json.dumps({"device_id": "0" * 64, "account_uuid": "", "session_id": UUID})
    assert message(books, metadata={"user_id": user})["session"] == UUID


@pytest.mark.parametrize(
    ("header", "session"), [("session-id", UUID), ("x-session-id", "ses_1a2b3c")], ids=["codex", "opencode"]
)
def test_other_agents_sessions_are_found(books: Books, header: str, session: str) -> None:
    assert chat(books, headers={header: session})["session"] == session


def test_a_cache_key_names_the_session_of_a_plain_sdk(books: Books) -> None:
    assert chat(books, prompt_cache_key="thread-7")["session"] == "thread-7"


def test_a_plain_sdk_is_known_by_its_keys_fingerprint(books: Books) -> None:
    first, second = chat(books), chat(books)
    assert first["session"] == second["session"]
    assert API_KEY not in json.dumps(first)


@pytest.mark.parametrize("mount", ["/anthropic", "", "/anthropic/v1"])
def test_anthropics_messages_are_found_under_every_base_url(books: Books, mount: str) -> None:
    assert message(books, path=mount)["provider"] == "anthropic"
    [sent] = books.sent()
    assert sent["path"] == "/v1/messages"


def test_an_unknown_provider_is_refused_in_the_sdks_own_class_and_the_known_ones_are_listed(books: Books) -> None:
    with (
        openai.OpenAI(base_url=f"{books.proxy.url}/nobody/v1", api_key=API_KEY, max_retries=2) as client,
        pytest.raises(openai.NotFoundError, match="openrouter"),
    ):
        client.chat.completions.create(model="gpt-5.6", messages=MESSAGES)
