"""The Python SDK `ollama`: chatting, generating, embedding."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from decimal import Decimal
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

    def __init__(self, books: Books) -> None:
        self._books = books
        self.headers: Any = {}
        self.clients: list[ollama.Client] = []

    def client(self, **behaviour: str | int) -> ollama.Client:
        """A client whose requests make the simulated provider behave like that."""
        client = ollama.Client(
            host=f"{self._books.proxy.url}/ollama",
            headers=self._books.headers | simulate(**behaviour),
            timeout=30,
            event_hooks={"response": [self._remember]},
        )
        self.clients.append(client)
        return client

    def _remember(self, response: httpx.Response) -> None:
        self.headers = response.headers

    def check(self) -> dict[str, Any]:
        """The record of the one answer, which is what the provider sent; served at home, so for nothing."""
        [sent] = self._books.agree()
        record = self._books.booked(self.headers)
        facts = ("provider", "model", "provenance", "cost_source")
        assert [record[fact] for fact in facts] == ["ollama", MODEL, "reported", "table"]
        figures = ("input", "output")
        assert [record["usage"][figure] for figure in figures] == [sent["usage"][figure] for figure in figures]
        assert Decimal(record["cost_usd"]) == 0
        return record


@pytest.fixture
def session(books: Books) -> Iterator[Session]:
    session = Session(books)
    yield session
    for client in session.clients:
        client.close()


def test_a_chat_answer_is_booked(session: Session) -> None:
    client = session.client(input_tokens=300, output_tokens=25)
    answer = client.chat(model=MODEL, messages=MESSAGES)
    assert answer.message.content
    record = session.check()
    assert (answer.prompt_eval_count, answer.eval_count) == (300, 25)
    assert record["endpoint"] == "ollama_chat"


def test_a_chat_stream_is_booked(session: Session) -> None:
    client = session.client(output_tokens=25)
    chunks = list(client.chat(model=MODEL, messages=MESSAGES, stream=True))
    assert chunks[-1].done
    record = session.check()
    assert chunks[-1].eval_count == record["usage"]["output"] == 25
    assert record["stream"]


@pytest.mark.parametrize("stream", [False, True])
def test_generating_is_booked(session: Session, stream: bool) -> None:
    client = session.client()
    answer = client.generate(model=MODEL, prompt=PROMPT, stream=stream)
    last = list(answer)[-1] if stream else answer
    record = session.check()
    assert last.eval_count == record["usage"]["output"]
    assert record["endpoint"] == "ollama_generate"


def test_tools_are_called(session: Session) -> None:
    client = session.client(tool="weather")
    answer = client.chat(model=MODEL, messages=MESSAGES, tools=TOOLS)
    [call] = answer.message.tool_calls or []
    assert (call.function.name, call.function.arguments) == ("weather", {"city": "sample"})
    session.check()


def test_embedding_is_booked(session: Session) -> None:
    client = session.client()
    answer = client.embed(model=MODEL, input=[PROMPT, "another"])
    assert len(answer.embeddings) == 2
    record = session.check()
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
def test_an_error_is_the_sdks_own_class_and_costs_nothing(session: Session, books: Books, status: int) -> None:
    client = session.client(status=status)
    with pytest.raises(ollama.ResponseError) as caught:
        client.chat(model=MODEL, messages=MESSAGES)
    assert caught.value.status_code == status
    books.failed(session.headers, status)


def test_an_error_in_a_stream_is_raised_and_booked_as_one(session: Session, books: Books) -> None:
    client = session.client(error_after=3)
    with pytest.raises(ollama.ResponseError):
        list(client.chat(model=MODEL, messages=MESSAGES, stream=True))
    books.broken(session.headers, "stream_error", "error_event")


@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_cut_stays_a_cut(session: Session, books: Books, how: str) -> None:
    client = session.client(cut_after=3, cut_by=how, token_ms=10)
    with pytest.raises(httpx.TransportError):
        list(client.chat(model=MODEL, messages=MESSAGES, stream=True))
    books.broken(session.headers, "upstream_cut", "cut")


def test_a_client_that_leaves_ends_the_providers_work(session: Session, books: Books) -> None:
    client = session.client(output_tokens=3000, token_ms=10)
    stream: Any = client.chat(model=MODEL, messages=MESSAGES, stream=True)
    next(stream)
    stream.close()
    left = time.monotonic()
    books.broken(session.headers, "client_gone", "client_gone")
    assert time.monotonic() - left < 5, "the answer would have taken 30 s"
