"""Routing as the official SDKs see it: another model serves, the answer reads as always, and the books say so.

The provider refuses what real models refuse, so a request that was not adapted would fail.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import anthropic
import ollama
import openai
import pytest
from google import genai
from google.genai import types

from conftest import API_KEY
from rig import Proxy, Simulator

# The guide's rules send the first to the cheap rung, and leave the second alone.
CHEAP = "Write a README for this project"
DEMANDING = "Implement user authentication function"

CONFIG = """
[routing]
mode = "on"
keep = "1s"

[throttle]
mode = "off"

[[routing.rules]]
name = "at-home"
provider = "ollama"
model = "llama3.1:70b"
to = "ollama/qwen3:8b"

[[abilities]]
providers = ["ollama"]
models = ["qwen3:8b"]
context_window = 32768
"""


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    """A provider that refuses what real models refuse."""
    simulator = Simulator(tmp_path_factory.mktemp("strict") / "simulate.log", "--strict")
    yield simulator
    simulator.stop()


@pytest.fixture(scope="module")
def proxy(strict: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """tollgate with routing on."""
    proxy = Proxy(strict.url, tmp_path_factory.mktemp("routing"), CONFIG)
    yield proxy
    proxy.stop()


@pytest.fixture(scope="module")
def claude(proxy: Proxy) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=f"{proxy.url}/anthropic", api_key=API_KEY, max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def gpt(proxy: Proxy) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{proxy.url}/openai/v1", api_key=API_KEY, max_retries=0) as client:
        yield client


def routed(proxy: Proxy, headers: Any, asked: str, served: str) -> dict[str, Any]:
    """The record of a request that another model served, as its answer's headers tell."""
    assert headers["x-tollgate-model"] == served
    assert headers["x-tollgate-requested-model"] == asked
    record = proxy.record(headers["x-tollgate-request-id"])
    assert (record["requested_model"], record["sent_model"]) == (asked, served)
    assert record["routed_by"] == headers["x-tollgate-route"]
    assert record["outcome"] == "complete"
    return record


def test_anthropic_message_that_may_think_is_routed(proxy: Proxy, claude: anthropic.Anthropic) -> None:
    answer = claude.messages.with_raw_response.create(
        model="claude-sonnet-5-5",
        max_tokens=4000,
        thinking={"type": "adaptive"},
        messages=[{"role": "user", "content": CHEAP}],
    )
    record = routed(proxy, answer.headers, "claude-sonnet-5-5", "claude-haiku-5-5")
    assert Decimal(record["saving_usd"]) > 0
    assert answer.parse().model == "claude-haiku-5-5", "the answer's own field stays as the provider sent it"


def test_anthropic_stream_of_demanding_work_keeps_its_model(claude: anthropic.Anthropic) -> None:
    with claude.messages.stream(
        model="claude-sonnet-5-5", max_tokens=100, messages=[{"role": "user", "content": DEMANDING}]
    ) as stream:
        assert stream.get_final_message().model == "claude-sonnet-5-5"
        assert "x-tollgate-requested-model" not in stream.response.headers


def test_openai_stream_without_usage_is_routed_and_stays_without_usage(proxy: Proxy, gpt: openai.OpenAI) -> None:
    answer = gpt.chat.completions.with_raw_response.create(
        model="gpt-6.1-sol", stream=True, messages=[{"role": "user", "content": CHEAP}]
    )
    chunks = list(answer.parse())
    assert all(chunk.usage is None for chunk in chunks)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    record = routed(proxy, answer.headers, "gpt-6.1-sol", "gpt-6-luna")
    assert record["provenance"] == "reported"


def test_openai_responses_is_routed(proxy: Proxy, gpt: openai.OpenAI) -> None:
    answer = gpt.responses.with_raw_response.create(model="gpt-6-astra", input=CHEAP, reasoning={"effort": "low"})
    assert answer.parse().output_text
    routed(proxy, answer.headers, "gpt-6-astra", "gpt-6-luna")


def test_a_pinned_model_stays(proxy: Proxy, gpt: openai.OpenAI) -> None:
    answer = gpt.chat.completions.with_raw_response.create(
        model="gpt-6.1-sol",
        messages=[{"role": "user", "content": CHEAP}],
        extra_headers={"x-tollgate-route": "pinned"},
    )
    assert answer.headers["x-tollgate-model"] == "gpt-6.1-sol"
    assert proxy.record(answer.headers["x-tollgate-request-id"])["routed_by"] is None


@pytest.mark.parametrize("stream", [False, True])
def test_google_genai_is_routed_by_its_path(proxy: Proxy, stream: bool) -> None:
    with genai.Client(api_key=API_KEY, http_options=types.HttpOptions(base_url=f"{proxy.url}/gemini")) as client:
        if stream:
            *_, answer = client.models.generate_content_stream(model="gemini-3.1-pro-preview", contents=CHEAP)
        else:
            answer = client.models.generate_content(model="gemini-3.1-pro-preview", contents=CHEAP)
    headers = {name.lower(): value for name, value in answer.sdk_http_response.headers.items()}
    routed(proxy, headers, "gemini-3.1-pro-preview", "gemini-3.5-flash-lite")


def test_ollama_is_routed_to_the_model_that_a_rule_names(proxy: Proxy) -> None:
    with ollama.Client(host=f"{proxy.url}/ollama") as client:
        answer = client.chat(model="llama3.1:70b", messages=[{"role": "user", "content": CHEAP}])
    assert answer.model == "qwen3:8b"
    report = proxy.usage(by="rule,model")
    rows = [row for row in report["rows"] if "rule:at-home" in str(row)]
    assert len(rows) == 1, report
