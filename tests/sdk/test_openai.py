"""The Python SDK `openai`: chat, completions, responses, embeddings, models."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx2
import openai
import pytest

from books import Books
from conftest import API_KEY, PROMPT
from simulate import simulate

MODEL = "gpt-5.6"
PRICE = ("openai", MODEL)
MESSAGES: Any = [{"role": "user", "content": PROMPT}]
WEATHER: Any = {
    "name": "weather",
    "description": "The weather in a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
TOOLS: Any = [{"type": "function", "function": WEATHER}]

ERRORS = [
    (400, openai.BadRequestError),
    (401, openai.AuthenticationError),
    (403, openai.PermissionDeniedError),
    (404, openai.NotFoundError),
    (429, openai.RateLimitError),
    (500, openai.InternalServerError),
    (503, openai.InternalServerError),
]


@pytest.fixture
def settings(books: Books) -> dict[str, Any]:
    return {
        "base_url": f"{books.proxy.url}/openai/v1",
        "api_key": API_KEY,
        "max_retries": 0,
        "timeout": 30.0,
        "default_headers": books.headers,
    }


@pytest.fixture
def client(settings: dict[str, Any]) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(**settings) as client:
        yield client


@pytest.fixture
def async_client(settings: dict[str, Any]) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(**settings)


def test_a_chat_answer_is_booked_to_the_token_and_priced(client: openai.OpenAI, books: Books) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL,
        messages=MESSAGES,
        extra_headers=simulate(input_tokens=1234, cached_tokens=1000, output_tokens=77, reasoning_tokens=33),
    )
    answer = raw.parse()
    assert answer.choices[0].message.content
    record = books.agree_on(raw.headers, "openai", MODEL, price=PRICE)
    usage = answer.usage
    assert usage and usage.prompt_tokens_details and usage.completion_tokens_details
    assert (usage.prompt_tokens, usage.completion_tokens) == (1234, 77)
    assert usage.prompt_tokens_details.cached_tokens == record["usage"]["cached_read"] == 1000
    assert usage.completion_tokens_details.reasoning_tokens == record["usage"]["reasoning"] == 33
    assert record["endpoint"] == "chat_completions"
    assert not record["stream"]


@pytest.mark.parametrize("encoding", [None, "gzip", "deflate"])
def test_a_stream_that_asks_for_usage_sees_it(client: openai.OpenAI, books: Books, encoding: str | None) -> None:
    stream = client.chat.completions.create(
        model=MODEL,
        messages=MESSAGES,
        stream=True,
        stream_options={"include_usage": True},
        extra_headers=simulate(encoding=encoding) if encoding else {},
    )
    chunks = list(stream)
    assert stream.response.headers.get("content-encoding") == encoding
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert chunks[-1].choices == []
    assert [chunk.usage is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    record = books.agree_on(stream.response.headers, "openai", MODEL, price=PRICE)
    assert chunks[-1].usage and chunks[-1].usage.completion_tokens == record["usage"]["output"]


def test_a_stream_that_does_not_ask_sees_no_usage_and_is_booked_exactly(client: openai.OpenAI, books: Books) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, stream=True, extra_headers=simulate(output_tokens=40)
    )
    chunks = list(stream)
    assert all(chunk.choices for chunk in chunks), "a chunk without choices was not asked for"
    assert all(chunk.usage is None for chunk in chunks)
    assert all("usage" not in chunk.model_fields_set for chunk in chunks), "nor was a null"
    assert chunks[-1].choices[0].finish_reason == "stop"
    record = books.agree_on(stream.response.headers, "openai", MODEL, price=PRICE)
    assert record["usage"]["output"] == 40


def test_azures_first_chunk_without_choices_is_not_taken_for_the_usage(client: openai.OpenAI, books: Books) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, stream=True, extra_headers=simulate(flavour="azure")
    )
    chunks = list(stream)
    assert chunks[0].choices == [], "it carries the prompt's filter results"
    assert all(chunk.choices and chunk.usage is None for chunk in chunks[1:])
    books.agree_on(stream.response.headers, "openai", MODEL, price=PRICE)


def test_the_stream_helper_accumulates_an_answer(client: openai.OpenAI, books: Books) -> None:
    with client.chat.completions.stream(model=MODEL, messages=MESSAGES) as stream:
        kinds = {event.type for event in stream}
        answer = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert answer.choices[0].message.content
    books.agree()


def test_tools_are_called(client: openai.OpenAI, books: Books) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, tools=TOOLS, tool_choice="required")
    [call] = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "sample"})
    assert answer.choices[0].finish_reason == "tool_calls"
    books.agree()


def test_tools_are_called_in_a_stream(client: openai.OpenAI, books: Books) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, tools=TOOLS, tool_choice="required", stream=True
    )
    deltas = [call for chunk in stream for call in chunk.choices[0].delta.tool_calls or []]
    assert deltas[0].function and deltas[0].function.name == "weather"
    arguments = "".join(delta.function.arguments or "" for delta in deltas if delta.function)
    assert json.loads(arguments) == {"city": "sample"}
    books.agree_on(stream.response.headers, "openai", MODEL, price=PRICE)


def test_several_choices_are_all_booked(client: openai.OpenAI, books: Books) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, n=3, extra_headers=simulate(output_tokens=5)
    )
    assert len(answer.choices) == 3
    [sent] = books.agree()
    assert sent["usage"]["output"] == 15


def test_responses_are_booked(client: openai.OpenAI, books: Books) -> None:
    raw = client.responses.with_raw_response.create(
        model=MODEL,
        input=PROMPT,
        extra_headers=simulate(input_tokens=900, cached_tokens=300, cache_write_tokens=200, output_tokens=50),
    )
    answer = raw.parse()
    assert answer.output_text
    record = books.agree_on(raw.headers, "openai", MODEL, price=PRICE)
    assert answer.usage and answer.usage.input_tokens == record["usage"]["input"] == 900
    assert record["usage"]["cache_write"] == 200
    assert record["endpoint"] == "responses"


def test_a_responses_stream_is_booked(client: openai.OpenAI, books: Books) -> None:
    stream = client.responses.create(model=MODEL, input=PROMPT, stream=True, reasoning={"effort": "low"})
    events = list(stream)
    assert events[0].type == "response.created"
    last = events[-1]
    assert last.type == "response.completed"
    record = books.agree_on(stream.response.headers, "openai", MODEL, price=PRICE)
    assert last.response.usage and last.response.usage.output_tokens == record["usage"]["output"]
    assert record["usage"]["reasoning"] > 0


def test_a_responses_stream_calls_tools(client: openai.OpenAI, books: Books) -> None:
    tool: Any = {"type": "function", "strict": False, **WEATHER}
    with client.responses.stream(model=MODEL, input=PROMPT, tools=[tool], tool_choice="required") as stream:
        stream.until_done()
        answer = stream.get_final_response()
    [call] = [item for item in answer.output if item.type == "function_call"]
    assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "sample"})
    books.agree()


def test_old_completions_are_booked(client: openai.OpenAI, books: Books) -> None:
    model = "gpt-3.5-turbo-instruct"
    raw = client.completions.with_raw_response.create(model=model, prompt=PROMPT)
    assert raw.parse().choices[0].text
    books.agree_on(raw.headers, "openai", model, price=("openai", model))


def test_an_old_completions_stream_is_booked_without_being_asked(client: openai.OpenAI, books: Books) -> None:
    model = "gpt-3.5-turbo-instruct"
    stream = client.completions.create(model=model, prompt=PROMPT, stream=True)
    chunks = list(stream)
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    books.agree_on(stream.response.headers, "openai", model, price=("openai", model))


def test_embeddings_are_booked(client: openai.OpenAI, books: Books) -> None:
    model = "text-embedding-3-small"
    raw = client.embeddings.with_raw_response.create(model=model, input=[PROMPT, "another"])
    assert len(raw.parse().data) == 2
    record = books.agree_on(raw.headers, "openai", model, price=("openai", model))
    assert record["usage"]["output"] == 0


def test_the_list_of_models_passes_through(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()]


def test_a_model_without_a_price_is_counted_and_its_cost_is_unknown(client: openai.OpenAI, books: Books) -> None:
    raw = client.chat.completions.with_raw_response.create(model="my-own-finetune-7b", messages=MESSAGES)
    raw.parse()
    books.agree_on(raw.headers, "openai", "my-own-finetune-7b")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("provider", ["groq", "mistral", "deepseek", "xai", "together", "llamacpp", "vllm"])
def test_compatible_providers_are_booked_in_their_own_manner(
    settings: dict[str, Any], books: Books, provider: str, stream: bool
) -> None:
    behaviour = simulate(flavour=provider, output_tokens=30, reasoning_tokens=10)
    with openai.OpenAI(**settings | {"base_url": f"{books.proxy.url}/{provider}/v1"}) as client:
        answer = client.chat.completions.create(
            model="some-model", messages=MESSAGES, stream=stream, extra_headers=behaviour
        )
        if stream:
            assert list(answer)
    [sent] = books.agree()
    assert sent["usage_sent"]


@pytest.mark.parametrize("stream", [False, True])
def test_the_cost_that_openrouter_states_is_booked(settings: dict[str, Any], books: Books, stream: bool) -> None:
    with openai.OpenAI(**settings | {"base_url": f"{books.proxy.url}/openrouter/v1"}) as client:
        raw = client.chat.completions.with_raw_response.create(
            model="openai/gpt-5.6", messages=MESSAGES, stream=stream, extra_headers=simulate(flavour="openrouter")
        )
        if stream:
            assert list(raw.parse())
        else:
            raw.parse()
    [sent] = books.agree()
    record = books.booked(raw.headers)
    assert (Decimal(record["cost_usd"]), record["cost_source"]) == (Decimal(sent["cost"]), "stated")


def test_an_async_client_in_parallel_is_booked_request_by_request(
    async_client: openai.AsyncOpenAI, books: Books
) -> None:
    count = 20

    async def one(number: int) -> None:
        behaviour = simulate(output_tokens=number + 1, token_ms=2)
        if number % 2:
            await async_client.chat.completions.create(model=MODEL, messages=MESSAGES, extra_headers=behaviour)
            return
        stream = await async_client.chat.completions.create(
            model=MODEL, messages=MESSAGES, stream=True, extra_headers=behaviour
        )
        assert all([chunk.choices async for chunk in stream])

    async def all_at_once() -> None:
        async with async_client:
            await asyncio.gather(*(one(number) for number in range(count)))

    asyncio.run(all_at_once())
    sent = books.agree(count)
    assert sum(answer["usage"]["output"] for answer in sent) == count * (count + 1) // 2


@pytest.mark.parametrize(("status", "native"), ERRORS)
def test_an_error_is_the_sdks_own_class_and_costs_nothing(
    client: openai.OpenAI, books: Books, status: int, native: type[openai.APIStatusError]
) -> None:
    with pytest.raises(native) as caught:
        client.chat.completions.create(model=MODEL, messages=MESSAGES, extra_headers=simulate(status=status))
    assert type(caught.value) is native
    books.failed(caught.value.response.headers, status)


def test_an_async_error_keeps_the_providers_headers(async_client: openai.AsyncOpenAI, books: Books) -> None:
    async def ask() -> None:
        async with async_client:
            await async_client.responses.create(
                model=MODEL,
                input=PROMPT,
                extra_headers=simulate(status=429, retry_after=7, error_code="insufficient_quota"),
            )

    with pytest.raises(openai.RateLimitError) as caught:
        asyncio.run(ask())
    assert caught.value.response.headers["retry-after"] == "7"
    assert caught.value.code == "insufficient_quota"
    books.failed(caught.value.response.headers, 429)


def test_an_error_event_in_a_stream_is_raised_and_booked_as_one(client: openai.OpenAI, books: Books) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, stream=True, extra_headers=simulate(error_after=4)
    )
    with pytest.raises(openai.APIError):
        list(stream)
    books.broken(stream.response.headers, "stream_error", "error_event")


@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_cut_stays_a_cut(client: openai.OpenAI, books: Books, how: str) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, stream=True, extra_headers=simulate(cut_after=5, cut_by=how, token_ms=10)
    )
    with pytest.raises((httpx2.TransportError, openai.APIConnectionError)):
        list(stream)
    books.broken(stream.response.headers, "upstream_cut", "cut")


def test_a_stream_without_its_end_is_not_taken_for_a_whole_one(client: openai.OpenAI, books: Books) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, stream=True, extra_headers=simulate(end_after=4)
    )
    list(stream)
    [sent] = books.sent()
    assert sent["outcome"] == "ended_early"
    assert books.booked(stream.response.headers)["provenance"] in ("partial", "estimated")


def test_a_client_that_leaves_ends_the_providers_work(client: openai.OpenAI, books: Books) -> None:
    behaviour = simulate(output_tokens=3000, token_ms=10)
    with client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True, extra_headers=behaviour) as stream:
        for number, _chunk in enumerate(stream):
            if number == 5:
                break
    left = time.monotonic()
    record = books.broken(stream.response.headers, "client_gone", "client_gone")
    assert time.monotonic() - left < 5, "the answer would have taken 30 s"
    assert record["usage"]["output"] < 1000


def test_an_async_client_that_is_cancelled_ends_the_providers_work(
    async_client: openai.AsyncOpenAI, books: Books
) -> None:
    async def ask() -> None:
        async with async_client:
            await async_client.chat.completions.create(
                model=MODEL, messages=MESSAGES, extra_headers=simulate(latency_ms=20_000)
            )

    async def cancel() -> None:
        asking = asyncio.create_task(ask())
        await asyncio.wait_for(asyncio.to_thread(books.arrived), 30)
        asking.cancel()
        await asyncio.wait([asking])

    asyncio.run(cancel())
    left = time.monotonic()
    [sent] = books.sent()
    assert time.monotonic() - left < 5, "the answer would have taken 20 s"
    assert sent["outcome"] == "client_gone"
