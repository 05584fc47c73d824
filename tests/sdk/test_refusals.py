"""Refusals as the official SDKs see them: their own exception, our text, and one request where coming back is useless."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import httpx
import ollama
import openai
import pytest
from google import genai
from google.genai import errors, types

from conftest import API_KEY, PROMPT
from rig import PATIENCE, Proxy, Simulator, until

# Below the tier's, which a request that states none would break: the models write more.
CAP = 50

MESSAGES: Any = [{"role": "user", "content": PROMPT}]

# One request for each session; one model that has no room for anything; a tier that bounds the output.
CONFIG = """
[budgets.tiny]
scope = "session"
window = "{window}"
limit = "1 requests"
hard = true

[budgets.closed]
scope = "model:gpt-closed"
window = "day"
limit = "1 tokens"
hard = true

[auth]
tier = "small"

[tiers.small]
max_output = 1000
"""


def started(simulator: Simulator, tmp_path_factory: pytest.TempPathFactory, window: str) -> Iterator[Proxy]:
    proxy = Proxy(simulator.url, tmp_path_factory.mktemp(f"refusing-{window}"), CONFIG.format(window=window))
    yield proxy
    proxy.stop()


@pytest.fixture(scope="module")
def proxy(simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Refuses every session's second request, for a day."""
    yield from started(simulator, tmp_path_factory, "day")


@pytest.fixture(scope="module")
def patient(simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Refuses every session's second request, for a minute."""
    yield from started(simulator, tmp_path_factory, "minute")


def spend(proxy: Proxy, session: str) -> str:
    """Spends the session's one request; returns the base URL that charges it."""
    base = f"{proxy.url}/@{session}"
    body = {"model": "gpt-5.6", "messages": MESSAGES, "max_completion_tokens": CAP}
    answer = httpx.post(f"{base}/openai/v1/chat/completions", json=body, timeout=PATIENCE, trust_env=False)
    assert answer.status_code == 200, answer.text
    return base


def outcomes(proxy: Proxy, session: str, count: int) -> dict[str, int]:
    """How many requests of the session the ledger holds, by their outcome, once there are `count`."""

    def look() -> dict[str, int] | None:
        report = proxy.usage(by="outcome", session=session)
        enough = report["total"]["requests"] >= count
        return {row["labels"][0]: row["requests"] for row in report["rows"]} if enough else None

    return until(f"{count} requests of {session} in the ledger", look)


def openai_client(base: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{base}/openai/v1", api_key=API_KEY, timeout=PATIENCE)


def chat(base: str, **options: Any) -> Any:
    with openai_client(base) as client:
        usual = {"model": "gpt-5.6", "messages": MESSAGES, "max_completion_tokens": CAP}
        return client.chat.completions.create(**usual | options)


def responses(base: str, **options: Any) -> Any:
    with openai_client(base) as client:
        return client.responses.create(**{"model": "gpt-5.6", "input": PROMPT, "max_output_tokens": CAP} | options)


def embeddings(base: str) -> Any:
    with openai_client(base) as client:
        return client.embeddings.create(model="text-embedding-4", input=PROMPT)


def messages(base: str, **options: Any) -> Any:
    options = {"model": "claude-sonnet-5-5", "max_tokens": CAP, "messages": MESSAGES} | options
    with anthropic.Anthropic(base_url=f"{base}/anthropic", api_key=API_KEY, timeout=PATIENCE) as client:
        return client.messages.create(**options)


def generate(base: str, **options: Any) -> Any:
    # With the retries that this SDK has, and does not use unless it is told to.
    retry = types.HttpRetryOptions(attempts=4)
    config = types.GenerateContentConfig(**{"max_output_tokens": CAP} | options)
    with genai.Client(
        api_key=API_KEY, http_options=types.HttpOptions(base_url=f"{base}/gemini", retry_options=retry)
    ) as client:
        return client.models.generate_content(model="gemini-3-flash", contents=PROMPT, config=config)


def ollama_chat(base: str, **options: Any) -> Any:
    with ollama.Client(host=f"{base}/ollama") as client:
        return client.chat(model="qwen3:8b", messages=MESSAGES, **{"options": {"num_predict": CAP}} | options)


FINAL: dict[str, tuple[Callable[..., Any], type[Exception], int]] = {
    "chat": (chat, openai.RateLimitError, 429),
    "chat-stream": (lambda base: chat(base, stream=True), openai.RateLimitError, 429),
    "responses": (responses, openai.RateLimitError, 429),
    "responses-stream": (lambda base: responses(base, stream=True), openai.RateLimitError, 429),
    "embeddings": (embeddings, openai.RateLimitError, 429),
    "messages": (messages, anthropic.RateLimitError, 429),
    "messages-stream": (lambda base: messages(base, stream=True), anthropic.RateLimitError, 429),
    "gemini": (generate, errors.ClientError, 402),
    "ollama": (ollama_chat, ollama.ResponseError, 402),
}


def status(error: Any) -> int:
    return error.code if isinstance(error, errors.APIError) else error.status_code


@pytest.mark.parametrize("name", FINAL)
def test_a_spent_budget_is_the_sdks_own_error_and_one_request(proxy: Proxy, name: str) -> None:
    ask, native, expected = FINAL[name]
    session = f"spent-{name}"
    base = spend(proxy, session)
    with pytest.raises(native) as raised:
        ask(base)
    error: Any = raised.value
    assert status(error) == expected
    text = str(error)
    assert "tollgate: Request throttled: CRITICAL." in text
    assert f"Request budget tiny of session {session} is 100 % full (1 of 1 request per day)" in text
    assert "It passes again" in text
    assert "raise budgets.tiny.limit" in text
    assert PROMPT not in text
    assert outcomes(proxy, session, 2) == {"complete": 1, "refused": 1}


def test_programs_find_the_numbers_beside_the_text(proxy: Proxy) -> None:
    session = "numbers"
    base = spend(proxy, session)
    with pytest.raises(openai.RateLimitError) as of_openai:
        chat(base)
    with pytest.raises(anthropic.RateLimitError) as of_anthropic:
        messages(base)
    body: Any = of_openai.value.body
    assert (body["code"], body["type"]) == ("insufficient_quota", "insufficient_quota")
    other: Any = of_anthropic.value.body
    assert other["error"]["type"] == "billing_error"
    assert of_anthropic.value.response.headers["x-should-retry"] == "false"
    assert int(of_anthropic.value.response.headers["retry-after"]) > 60
    for facts in (body["tollgate"], other["error"]["tollgate"]):
        named = {name: facts[name] for name in ("budget", "scope", "window", "unit", "settled", "limit", "level", "ending")}
        assert named == {
            **{"budget": "tiny", "scope": f"session {session}", "window": "day", "unit": "requests"},
            **{"settled": 1, "limit": 1, "level": "CRITICAL", "ending": "final"},
        }
        assert facts["passes_at"].endswith("Z")


def test_what_can_never_fit_is_a_bad_request(proxy: Proxy) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        chat(f"{proxy.url}/@never", model="gpt-closed")
    assert "so it can never pass" in str(raised.value)
    assert outcomes(proxy, "never", 1) == {"refused": 1}


VIOLATIONS: dict[str, tuple[Callable[..., Any], type[Exception]]] = {
    "chat": (lambda base: chat(base, max_completion_tokens=2000), openai.PermissionDeniedError),
    "responses": (lambda base: responses(base, max_output_tokens=2000), openai.PermissionDeniedError),
    "messages": (lambda base: messages(base, max_tokens=2000), anthropic.PermissionDeniedError),
    "gemini": (lambda base: generate(base, max_output_tokens=2000), errors.ClientError),
    "ollama": (lambda base: ollama_chat(base, options={"num_predict": 2000}), ollama.ResponseError),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_policy_violation_is_forbidden_and_names_its_rule(proxy: Proxy, name: str) -> None:
    ask, native = VIOLATIONS[name]
    session = f"violation-{name}"
    with pytest.raises(native) as raised:
        ask(f"{proxy.url}/@{session}")
    assert status(raised.value) == 403
    assert "POLICY_VIOLATION" in str(raised.value)
    assert "tiers.small.max_output" in str(raised.value)
    assert outcomes(proxy, session, 1) == {"refused": 1}


def test_what_a_short_wait_cures_is_tried_again_when_it_passes(patient: Proxy) -> None:
    waiting = {"wait-chat": chat, "wait-messages": messages}
    bases = {session: spend(patient, session) for session in waiting}
    # The window's slots are a second each: at once it would be 61 s, which is not a short wait any more.
    time.sleep(3)
    with ThreadPoolExecutor() as pool:
        answers = [pool.submit(ask, bases[session]) for session, ask in waiting.items()]
        began = time.monotonic()
        for answer in answers:
            assert answer.result(timeout=90)
    assert time.monotonic() - began > 50
    for session in waiting:
        assert outcomes(patient, session, 3) == {"complete": 2, "refused": 1}
