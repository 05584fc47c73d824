"""The Python SDK `anthropic`: messages, streams and their helper, counting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import pytest

from books import Books
from conftest import API_KEY, PROMPT
from simulate import simulate

MODEL = "claude-sonnet-5-5"
PRICE = ("anthropic", MODEL)
ASK: dict[str, Any] = {"model": MODEL, "max_tokens": 4096, "messages": [{"role": "user", "content": PROMPT}]}
TOOLS: Any = [
    {
        "name": "weather",
        "description": "The weather in a city",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }
]
MUST_CALL: dict[str, Any] = {"tools": TOOLS, "tool_choice": {"type": "any"}}
CACHE = simulate(
    input_tokens=5000,
    cached_tokens=3000,
    cache_write_tokens=1500,
    cache_write_1h_tokens=400,
    output_tokens=123,
)

ERRORS = [
    (400, anthropic.BadRequestError),
    (401, anthropic.AuthenticationError),
    (403, anthropic.PermissionDeniedError),
    (404, anthropic.NotFoundError),
    (429, anthropic.RateLimitError),
    (500, anthropic.InternalServerError),
    (503, anthropic.ServiceUnavailableError),
    (529, anthropic.OverloadedError),
]


@pytest.fixture
def settings(books: Books) -> dict[str, Any]:
    return {
        "base_url": f"{books.proxy.url}/anthropic",
        "api_key": API_KEY,
        "max_retries": 0,
        "timeout": 30.0,
        "default_headers": books.headers,
    }


@pytest.fixture
def client(settings: dict[str, Any]) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(**settings) as client:
        yield client


@pytest.fixture
def async_client(settings: dict[str, Any]) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(**settings)


def test_a_message_with_every_kind_of_cache_is_booked_to_the_token_and_priced(
    client: anthropic.Anthropic, books: Books
) -> None:
    raw = client.messages.with_raw_response.create(**ASK, extra_headers=CACHE)
    message = raw.parse()
    assert message.content[0].type == "text"
    record = books.agree_on(raw.headers, "anthropic", MODEL, price=PRICE)
    usage = message.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (500, 3000, 1500)
    assert record["usage"]["cache_write_1h"] == 400
    assert record["endpoint"] == "messages"


def test_a_stream_with_every_kind_of_cache_is_booked_to_the_token_and_priced(
    client: anthropic.Anthropic, books: Books
) -> None:
    stream = client.messages.create(**ASK, stream=True, extra_headers=CACHE)
    events = list(stream)
    assert events[0].type == "message_start"
    assert events[-1].type == "message_stop"
    record = books.agree_on(stream.response.headers, "anthropic", MODEL, price=PRICE)
    assert (record["usage"]["cache_write_1h"], record["usage"]["output"]) == (400, 123)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_compressed_stream_is_booked(client: anthropic.Anthropic, books: Books, encoding: str) -> None:
    stream = client.messages.create(**ASK, stream=True, extra_headers=simulate(encoding=encoding))
    assert list(stream)[-1].type == "message_stop"
    assert stream.response.headers["content-encoding"] == encoding
    books.agree_on(stream.response.headers, "anthropic", MODEL, price=PRICE)


def test_the_stream_helper_gives_text_and_the_whole_message(client: anthropic.Anthropic, books: Books) -> None:
    with client.messages.stream(**ASK, extra_headers=simulate(output_tokens=30)) as stream:
        text = "".join(stream.text_stream)
        message = stream.get_final_message()
    assert text == message.content[0].text
    record = books.agree_on(stream.response.headers, "anthropic", MODEL, price=PRICE)
    assert message.usage.output_tokens == record["usage"]["output"] == 30


def test_thinking_is_booked_as_reasoning(client: anthropic.Anthropic, books: Books) -> None:
    with client.messages.stream(
        **ASK, thinking={"type": "enabled", "budget_tokens": 1024}, extra_headers=simulate(reasoning_tokens=9)
    ) as stream:
        message = stream.get_final_message()
    assert message.content[0].type == "thinking"
    record = books.agree_on(stream.response.headers, "anthropic", MODEL, price=PRICE)
    assert record["usage"]["reasoning"] == 9


def test_tools_are_called(client: anthropic.Anthropic, books: Books) -> None:
    message = client.messages.create(**ASK, **MUST_CALL)
    [call] = [block for block in message.content if block.type == "tool_use"]
    assert (call.name, call.input) == ("weather", {"city": "sample"})
    assert message.stop_reason == "tool_use"
    books.agree()


def test_tools_are_called_in_a_stream(client: anthropic.Anthropic, books: Books) -> None:
    with client.messages.stream(**ASK, **MUST_CALL) as stream:
        message = stream.get_final_message()
    [call] = [block for block in message.content if block.type == "tool_use"]
    assert (call.name, call.input) == ("weather", {"city": "sample"})
    books.agree()


def test_counting_tokens_is_free(client: anthropic.Anthropic, books: Books) -> None:
    raw = client.messages.with_raw_response.count_tokens(model=MODEL, messages=ASK["messages"])
    assert raw.parse().input_tokens > 0
    [sent] = books.sent()
    assert sent["usage"] is None
    total = books.proxy.usage(by="session", session=books.session)["total"]
    assert (total["input"], total["output"]) == (0, 0)


def test_an_async_client_is_booked(async_client: anthropic.AsyncAnthropic, books: Books) -> None:
    async def ask() -> None:
        async with async_client:
            whole = async_client.messages.create(**ASK)

            async def streamed() -> None:
                async with async_client.messages.stream(**ASK) as stream:
                    assert "".join([text async for text in stream.text_stream])

            await asyncio.gather(whole, *(streamed() for _ in range(10)))

    asyncio.run(ask())
    books.agree(11)


@pytest.mark.parametrize(("status", "native"), ERRORS)
def test_an_error_is_the_sdks_own_class_and_costs_nothing(
    client: anthropic.Anthropic, books: Books, status: int, native: type[anthropic.APIStatusError]
) -> None:
    with pytest.raises(native) as caught:
        client.messages.create(**ASK, extra_headers=simulate(status=status))
    assert type(caught.value) is native
    books.failed(caught.value.response.headers, status)


def test_an_async_error_is_the_sdks_own_class(async_client: anthropic.AsyncAnthropic, books: Books) -> None:
    async def ask() -> None:
        async with async_client:
            await async_client.messages.create(**ASK, extra_headers=simulate(status=529))

    with pytest.raises(anthropic.OverloadedError) as caught:
        asyncio.run(ask())
    books.failed(caught.value.response.headers, 529)


def test_an_error_event_in_a_stream_is_raised_and_booked_as_one(client: anthropic.Anthropic, books: Books) -> None:
    stream = client.messages.create(**ASK, stream=True, extra_headers=simulate(error_after=5))
    with pytest.raises(anthropic.APIStatusError) as caught:
        list(stream)
    assert caught.value.status_code == 200
    record = books.broken(stream.response.headers, "stream_error", "error_event")
    assert record["error"] == "overloaded_error"


@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_cut_stays_a_cut(client: anthropic.Anthropic, books: Books, how: str) -> None:
    behaviour = simulate(cut_after=6, cut_by=how, token_ms=10)
    with (
        pytest.raises((httpx2.TransportError, anthropic.APIConnectionError)),
        client.messages.stream(**ASK, extra_headers=behaviour) as stream,
    ):
        stream.until_done()
    record = books.broken(stream.response.headers, "upstream_cut", "cut")
    assert record["provenance"] == "partial", "the input was stated at the start of the stream"


def test_a_client_that_leaves_ends_the_providers_work(client: anthropic.Anthropic, books: Books) -> None:
    behaviour = simulate(input_tokens=4321, output_tokens=3000, token_ms=10)
    with client.messages.stream(**ASK, extra_headers=behaviour) as stream:
        next(iter(stream.text_stream))
    left = time.monotonic()
    record = books.broken(stream.response.headers, "client_gone", "client_gone")
    assert time.monotonic() - left < 5, "the answer would have taken 30 s"
    assert (record["provenance"], record["usage"]["input"]) == ("partial", 4321)
    assert record["usage"]["output"] < 1000
