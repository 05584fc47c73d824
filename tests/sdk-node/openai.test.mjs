// The Node SDK `openai`: chat and responses.

import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import OpenAI from 'openai';
import { all, API_KEY, PATIENCE, PROMPT, Rig, simulate } from './rig.mjs';

const MODEL = 'gpt-5.6';
const ASK = { model: MODEL, messages: [{ role: 'user', content: PROMPT }] };
const PARAMETERS = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] };
const MUST_CALL = {
  tools: [{ type: 'function', function: { name: 'weather', parameters: PARAMETERS } }],
  tool_choice: 'required',
};

let rig;
let books;
let client;

before(async () => {
  rig = await Rig.start();
});
after(() => rig?.stop());
beforeEach(async (context) => {
  books = await rig.books(context.name);
  client = new OpenAI({
    baseURL: `${rig.url}/openai/v1`,
    apiKey: API_KEY,
    maxRetries: 0,
    timeout: PATIENCE,
    defaultHeaders: books.headers,
  });
});

test('a chat answer is booked to the token', async () => {
  const headers = simulate({ input_tokens: 1234, cached_tokens: 1000, output_tokens: 77, reasoning_tokens: 33 });
  const { data, response } = await client.chat.completions.create(ASK, { headers }).withResponse();
  assert.ok(data.choices[0].message.content);
  const record = await books.agreeOn(response.headers, 'openai', MODEL);
  assert.equal(data.usage.prompt_tokens, record.usage.input);
  assert.equal(data.usage.completion_tokens, record.usage.output);
  assert.equal(record.usage.cached_read, 1000);
});

test('a stream that asks for usage sees it', async () => {
  const body = { ...ASK, stream: true, stream_options: { include_usage: true } };
  const { data, response } = await client.chat.completions.create(body).withResponse();
  const chunks = await all(data);
  const last = chunks.at(-1);
  assert.deepEqual(last.choices, []);
  const record = await books.agreeOn(response.headers, 'openai', MODEL);
  assert.equal(last.usage.completion_tokens, record.usage.output);
});

for (const encoding of ['gzip', 'br']) {
  test(`a stream compressed by ${encoding} is booked`, async () => {
    const body = { ...ASK, stream: true, stream_options: { include_usage: true } };
    const { data, response } = await client.chat.completions
      .create(body, { headers: { 'accept-encoding': encoding, ...simulate({ encoding }) } })
      .withResponse();
    assert.equal(response.headers.get('content-encoding'), encoding);
    assert.ok((await all(data)).at(-1).usage);
    await books.agreeOn(response.headers, 'openai', MODEL);
  });
}

test('a stream that does not ask sees no usage and is booked exactly', async () => {
  const { data, response } = await client.chat.completions.create({ ...ASK, stream: true }).withResponse();
  const chunks = await all(data);
  assert.ok(chunks.length > 1);
  for (const chunk of chunks) {
    assert.equal(chunk.choices.length, 1);
    assert.ok(!('usage' in chunk));
  }
  await books.agreeOn(response.headers, 'openai', MODEL);
});

test('tools are called, whole and in a stream', async () => {
  const whole = await client.chat.completions.create({ ...ASK, ...MUST_CALL });
  const streamed = await client.chat.completions.stream({ ...ASK, ...MUST_CALL }).finalChatCompletion();
  for (const answer of [whole, streamed]) {
    const [call] = answer.choices[0].message.tool_calls;
    assert.equal(call.function.name, 'weather');
    assert.deepEqual(JSON.parse(call.function.arguments), { city: 'sample' });
  }
  await books.agree(2);
});

test('responses are booked, whole and in a stream', async () => {
  const ask = { model: MODEL, input: PROMPT, reasoning: { effort: 'low' } };
  const whole = await client.responses.create(ask);
  assert.ok(whole.output_text);
  const events = await all(await client.responses.create({ ...ask, stream: true }));
  assert.equal(events.at(-1).type, 'response.completed');
  assert.ok(events.at(-1).response.usage.output_tokens_details.reasoning_tokens > 0);
  await books.agree(2);
});

test('requests in parallel are all booked', async () => {
  const ask = (_, number) => client.chat.completions.create(ASK, { headers: simulate({ output_tokens: number + 1 }) });
  await Promise.all(Array.from({ length: 20 }, ask));
  await books.agree(20);
});

for (const [status, native] of [
  [400, OpenAI.BadRequestError],
  [401, OpenAI.AuthenticationError],
  [403, OpenAI.PermissionDeniedError],
  [404, OpenAI.NotFoundError],
  [429, OpenAI.RateLimitError],
  [503, OpenAI.InternalServerError],
]) {
  test(`status ${status} is ${native.name} and costs nothing`, async () => {
    const error = await client.chat.completions.create(ASK, { headers: simulate({ status }) }).then(assert.fail, (e) => e);
    assert.equal(error.constructor, native);
    await books.failed(error.headers, status);
  });
}

test('an error event in a stream is raised and booked as one', async () => {
  const options = { headers: simulate({ error_after: 4 }) };
  const { data, response } = await client.chat.completions.create({ ...ASK, stream: true }, options).withResponse();
  await assert.rejects(all(data), OpenAI.APIError);
  await books.broken(response.headers, 'stream_error', 'error_event');
});

for (const how of ['reset', 'close']) {
  test(`a cut by ${how} stays a cut`, async () => {
    const options = { headers: simulate({ cut_after: 5, cut_by: how, token_ms: 10 }) };
    const { data, response } = await client.chat.completions.create({ ...ASK, stream: true }, options).withResponse();
    await assert.rejects(all(data));
    await books.broken(response.headers, 'upstream_cut', 'cut');
  });
}

test("a client that leaves ends the provider's work", async () => {
  const options = { headers: simulate({ output_tokens: 3000, token_ms: 10 }) };
  const { data, response } = await client.chat.completions.create({ ...ASK, stream: true }, options).withResponse();
  let seen = 0;
  for await (const _chunk of data) if (++seen === 5) break;
  const left = performance.now();
  const record = await books.broken(response.headers, 'client_gone', 'client_gone');
  assert.ok(performance.now() - left < 5_000, 'the answer would have taken 30 s');
  assert.ok(record.usage.output < 1000);
});
