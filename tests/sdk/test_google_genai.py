"""The Python SDK `google-genai`: generating, streaming, counting, embedding."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import httpx
import httpx2
import pytest
from google import genai
from google.genai import errors, types

from books import Books
from conftest import API_KEY, PROMPT
from simulate import simulate

MODEL = "gemini-2.5-flash"
PRICE = ("google", MODEL)
WEATHER = types.Tool(
    function_declarations=[
        types.FunctionDeclaration(
            name="weather",
            description="The weather in a city",
            parameters=types.Schema(
                type=types.Type.OBJECT, properties={"city": types.Schema(type=types.Type.STRING)}, required=["city"]
            ),
        )
    ]
)
MUST_CALL: dict[str, Any] = {
    "tools": [WEATHER],
    "tool_config": types.ToolConfig(
        function_calling_config=types.FunctionCallingConfig(mode=types.FunctionCallingConfigMode.ANY)
    ),
}
BROKEN = (httpx.TransportError, httpx2.TransportError)

ERRORS = [
    (400, errors.ClientError),
    (401, errors.ClientError),
    (429, errors.ClientError),
    (500, errors.ServerError),
    (503, errors.ServerError),
]


@pytest.fixture
def client(books: Books) -> Iterator[genai.Client]:
    # The limit is in milliseconds here.
    options = types.HttpOptions(base_url=f"{books.proxy.url}/gemini", headers=books.headers, timeout=30_000)
    with genai.Client(api_key=API_KEY, vertexai=False, http_options=options) as client:
        yield client


def config(behaviour: dict[str, str] | None = None, **settings: Any) -> types.GenerateContentConfig:
    """Settings of one call, with headers that the simulated provider obeys."""
    return types.GenerateContentConfig(http_options=types.HttpOptions(headers=behaviour or {}), **settings)


def headers(answer: types.GenerateContentResponse) -> Any:
    """The headers of an answer, or of the stream that a chunk came in."""
    assert answer.sdk_http_response and answer.sdk_http_response.headers
    return {name.lower(): value for name, value in answer.sdk_http_response.headers.items()}


def test_an_answer_with_thoughts_and_cache_is_booked_to_the_token_and_priced(
    client: genai.Client, books: Books
) -> None:
    behaviour = simulate(input_tokens=2000, cached_tokens=1500, output_tokens=60, reasoning_tokens=20)
    answer = client.models.generate_content(model=MODEL, contents=PROMPT, config=config(behaviour))
    assert answer.text
    record = books.agree_on(headers(answer), "gemini", MODEL, price=PRICE)
    usage = answer.usage_metadata
    assert usage
    assert (usage.prompt_token_count, usage.cached_content_token_count) == (2000, 1500)
    assert (usage.candidates_token_count, usage.thoughts_token_count) == (40, 20)
    assert (record["usage"]["output"], record["usage"]["reasoning"]) == (60, 20)
    assert record["endpoint"] == "generate_content"


def test_a_stream_is_booked_to_the_token_and_priced(client: genai.Client, books: Books) -> None:
    behaviour = simulate(output_tokens=50)
    chunks = list(client.models.generate_content_stream(model=MODEL, contents=PROMPT, config=config(behaviour)))
    assert len(chunks) > 1
    record = books.agree_on(headers(chunks[0]), "gemini", MODEL, price=PRICE)
    assert record["usage"]["output"] == 50


def test_tools_are_called(client: genai.Client, books: Books) -> None:
    answer = client.models.generate_content(model=MODEL, contents=PROMPT, config=config(**MUST_CALL))
    [call] = answer.function_calls or []
    assert (call.name, call.args) == ("weather", {"city": "sample"})
    books.agree()


def test_tools_are_called_in_a_stream(client: genai.Client, books: Books) -> None:
    stream = client.models.generate_content_stream(model=MODEL, contents=PROMPT, config=config(**MUST_CALL))
    [call] = [call for chunk in stream for call in chunk.function_calls or []]
    assert (call.name, call.args) == ("weather", {"city": "sample"})
    books.agree()


def test_counting_tokens_is_free(client: genai.Client, books: Books) -> None:
    answer = client.models.count_tokens(model=MODEL, contents=PROMPT)
    assert answer.total_tokens
    [sent] = books.sent()
    assert sent["usage"] is None
    total = books.proxy.usage(by="session", session=books.session)["total"]
    assert (total["input"], total["output"]) == (0, 0)


def test_an_async_client_is_booked(client: genai.Client, books: Books) -> None:
    async def streamed() -> None:
        stream = await client.aio.models.generate_content_stream(model=MODEL, contents=PROMPT, config=config())
        assert "".join([chunk.text or "" async for chunk in stream])

    async def ask() -> None:
        whole = client.aio.models.generate_content(model=MODEL, contents=PROMPT, config=config())
        await asyncio.gather(whole, *(streamed() for _ in range(5)))
        await client.aio.aclose()

    asyncio.run(ask())
    books.agree(6)


@pytest.mark.parametrize(("status", "native"), ERRORS)
def test_an_error_is_the_sdks_own_class_and_costs_nothing(
    client: genai.Client, books: Books, status: int, native: type[errors.APIError]
) -> None:
    with pytest.raises(native) as caught:
        client.models.generate_content(model=MODEL, contents=PROMPT, config=config(simulate(status=status)))
    assert (type(caught.value), caught.value.code) == (native, status)
    books.failed(caught.value.response.headers, status)


def test_an_error_in_a_stream_is_raised_and_booked_as_one(client: genai.Client, books: Books) -> None:
    chunks: list[types.GenerateContentResponse] = []
    with pytest.raises(errors.APIError):
        for chunk in client.models.generate_content_stream(
            model=MODEL, contents=PROMPT, config=config(simulate(error_after=3))
        ):
            chunks.append(chunk)
    books.broken(headers(chunks[0]), "stream_error", "error_event")


@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_cut_stays_a_cut(client: genai.Client, books: Books, how: str) -> None:
    behaviour = simulate(cut_after=3, cut_by=how, token_ms=10)
    chunks: list[types.GenerateContentResponse] = []
    with pytest.raises(BROKEN):
        for chunk in client.models.generate_content_stream(model=MODEL, contents=PROMPT, config=config(behaviour)):
            chunks.append(chunk)
    books.broken(headers(chunks[0]), "upstream_cut", "cut")


def test_a_client_that_leaves_ends_the_providers_work(client: genai.Client, books: Books) -> None:
    behaviour = simulate(output_tokens=3000, token_ms=10)
    stream = client.models.generate_content_stream(model=MODEL, contents=PROMPT, config=config(behaviour))
    first = next(stream)
    stream.close()
    client.close()
    left = time.monotonic()
    record = books.broken(headers(first), "client_gone", "client_gone")
    assert time.monotonic() - left < 5, "the answer would have taken 30 s"
    assert record["usage"]["output"] < 1000
