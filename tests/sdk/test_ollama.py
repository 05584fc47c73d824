"""The Python SDK `ollama`: chatting, generating, embedding."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import ollama
import pytest

from books import Books
from conftest import PROMPT
from simulate import simulate

MODEL = "qwen3:8b"
MESSAGES: Any = [{"role": "user", "content": PROMPT}]
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather in a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


class Session:
    """A client, with the headers of its last answer, which the SDK itself keeps to itself."""

    def __init__(self, books: Books, **behaviour: str | int) -> None:
        self.headers: Any = {}
        self.client = ollama.Client(
            host=f"{books.proxy.url}/ollama",
            headers=books.headers | simulate(**behaviour),
            timeout=30,
            event_hooks={"response": [self._remember]},
        )

    def _remember(self, response: httpx.Response) -> None:
        self.headers = response.headers


def is_free(record: dict[str, Any]) -> bool:
    """Served at home: a known price of nothing."""
    return float(record["cost"]) == 0 and record["cost_source"] == "table"


def check(books: Books, session: Session) -> dict[str, Any]:
    """The record of the one answer, which is what the provider sent, for free."""
    [sent] = books.agree()
    record = books.booked(session.headers)
    assert (record["provider"], record["model"], record["provenance"]) == ("ollama", MODEL, "reported")
    assert (record["usage"]["input"], record["usage"]["output"]) == (sent["usage"]["input"], sent["usage"]["output"])
    assert is_free(record)
    return record


def test_a_chat_answer_is_booked(books: Books) -> None:
    session = Session(books, input_tokens=300, output_tokens=25)
    answer = session.client.chat(model=MODEL, messages=MESSAGES)
    assert answer.message.content
    record = check(books, session)
    assert (answer.prompt_eval_count, answer.eval_count) == (300, 25)
    assert record["endpoint"] == "ollama_chat"


def test_a_chat_stream_is_booked(books: Books) -> None:
    session = Session(books, output_tokens=25)
    chunks = list(session.client.chat(model=MODEL, messages=MESSAGES, stream=True))
    assert chunks[-1].done
    record = check(books, session)
    assert chunks[-1].eval_count == record["usage"]["output"] == 25
    assert record["stream"]


@pytest.mark.parametrize("stream", [False, True])
def test_generating_is_booked(books: Books, stream: bool) -> None:
    session = Session(books)
    answer = session.client.generate(model=MODEL, prompt=PROMPT, stream=stream)
    last = list(answer)[-1] if stream else answer
    record = check(books, session)
    assert last.eval_count == record["usage"]["output"]
    assert record["endpoint"] == "ollama_generate"


def test_tools_are_called(books: Books) -> None:
    session = Session(books, tool="weather")
    answer = session.client.chat(model=MODEL, messages=MESSAGES, tools=TOOLS)
    [call] = answer.message.tool_calls or []
    assert (call.function.name, call.function.arguments) == ("weather", {"city": "sample"})
    check(books, session)


def test_embedding_is_booked(books: Books) -> None:
    session = Session(books)
    answer = session.client.embed(model=MODEL, input=[PROMPT, "another"])
    assert len(answer.embeddings) == 2
    record = check(books, session)
    assert answer.prompt_eval_count == record["usage"]["input"]


def test_an_async_client_is_booked(books: Books) -> None:
    async def ask() -> None:
        client = ollama.AsyncClient(host=f"{books.proxy.url}/ollama", headers=books.headers, timeout=30)
        async for _chunk in await client.chat(model=MODEL, messages=MESSAGES, stream=True):
            pass
        await client.close()

    asyncio.run(ask())
    books.agree()


@pytest.mark.parametrize("status", [400, 404, 429, 503])
def test_an_error_is_the_sdks_own_class_and_costs_nothing(books: Books, status: int) -> None:
    session = Session(books, status=status)
    with pytest.raises(ollama.ResponseError) as caught:
        session.client.chat(model=MODEL, messages=MESSAGES)
    assert caught.value.status_code == status
    books.failed(session.headers, status)


def test_an_error_in_a_stream_is_raised_and_booked_as_one(books: Books) -> None:
    session = Session(books, error_after=3)
    with pytest.raises(ollama.ResponseError):
        list(session.client.chat(model=MODEL, messages=MESSAGES, stream=True))
    books.broken(session.headers, "stream_error", "error_event")


@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_cut_stays_a_cut(books: Books, how: str) -> None:
    session = Session(books, cut_after=3, cut_by=how, token_ms=10)
    with pytest.raises(httpx.TransportError):
        list(session.client.chat(model=MODEL, messages=MESSAGES, stream=True))
    books.broken(session.headers, "upstream_cut", "cut")


def test_a_client_that_leaves_ends_the_providers_work(books: Books) -> None:
    session = Session(books, output_tokens=3000, token_ms=10)
    stream: Any = session.client.chat(model=MODEL, messages=MESSAGES, stream=True)
    next(stream)
    stream.close()
    left = time.monotonic()
    books.broken(session.headers, "client_gone", "client_gone")
    assert time.monotonic() - left < 5, "the answer would have taken 30 s"
