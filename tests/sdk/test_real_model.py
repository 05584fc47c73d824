"""A real model behind tollgate: what llama.cpp's server says it used is what the ledger holds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import openai
import pytest

from rig import Program, Proxy

MESSAGES: Any = [{"role": "user", "content": "Name three colours."}]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """tollgate in front of llama.cpp's server."""
    folder = tmp_path_factory.mktemp("real-model")
    model = Program([sys.executable, Path(__file__).with_name("real_model.py")], folder / "model.log")
    proxy = Proxy(model.url, folder)
    yield proxy
    proxy.stop()
    model.stop()


@pytest.fixture
def client(served: Proxy) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{served.url}/llamacpp/v1",
        api_key="none-needed",
        max_retries=0,
        timeout=60.0,
        default_headers={"x-tollgate-session": "real"},
    ) as client:
        yield client


def check(served: Proxy, headers: Any, usage: Any) -> None:
    """The record of a whole answer with these figures, served for free."""
    record = served.record(headers["x-tollgate-request-id"])
    assert (record["provider"], record["session"], record["outcome"]) == ("llamacpp", "real", "complete")
    assert record["provenance"] == "reported"
    assert (record["usage"]["input"], record["usage"]["output"]) == (usage.prompt_tokens, usage.completion_tokens)
    assert record["usage"]["cached_read"] == usage.prompt_tokens_details.cached_tokens
    assert usage.completion_tokens > 0
    assert Decimal(record["cost_usd"]) == 0


def test_a_real_answer_is_booked_as_the_server_counted_it(client: openai.OpenAI, served: Proxy) -> None:
    raw = client.chat.completions.with_raw_response.create(model="smollm2", messages=MESSAGES, max_tokens=24)
    answer = raw.parse()
    assert answer.choices[0].message.content
    check(served, raw.headers, answer.usage)


def test_a_real_stream_is_booked_as_the_server_counted_it(client: openai.OpenAI, served: Proxy) -> None:
    stream = client.chat.completions.create(
        model="smollm2", messages=MESSAGES, max_tokens=24, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    check(served, stream.response.headers, chunks[-1].usage)


def test_a_real_stream_that_did_not_ask_is_booked_all_the_same(client: openai.OpenAI, served: Proxy) -> None:
    stream = client.chat.completions.create(
        model="smollm2", messages=MESSAGES, max_tokens=24, temperature=0, seed=1, stream=True
    )
    chunks = list(stream)
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    record = served.record(stream.response.headers["x-tollgate-request-id"])
    assert record["provenance"] == "reported"
    whole = client.chat.completions.create(model="smollm2", messages=MESSAGES, max_tokens=24, temperature=0, seed=1)
    assert whole.usage
    assert (record["usage"]["input"], record["usage"]["output"]) == (
        whole.usage.prompt_tokens,
        whole.usage.completion_tokens,
    )


def test_a_real_answer_in_the_responses_format_is_booked(client: openai.OpenAI, served: Proxy) -> None:
    answer = client.responses.with_raw_response.create(model="smollm2", input="Say hi.", max_output_tokens=8)
    usage = answer.parse().usage
    record = served.record(answer.headers["x-tollgate-request-id"])
    assert usage and (record["usage"]["input"], record["usage"]["output"]) == (usage.input_tokens, usage.output_tokens)
