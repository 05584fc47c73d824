// The Node SDK `@anthropic-ai/sdk`: messages, streams, counting.

import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';
import { all, API_KEY, PATIENCE, PROMPT, Rig, simulate } from './rig.mjs';

const MODEL = 'claude-sonnet-5-5';
const ASK = { model: MODEL, max_tokens: 4096, messages: [{ role: 'user', content: PROMPT }] };
const MUST_CALL = {
  tools: [
    {
      name: 'weather',
      input_schema: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
    },
  ],
  tool_choice: { type: 'any' },
};
const CACHE = { input_tokens: 5000, cached_tokens: 3000, cache_write_tokens: 1500, cache_write_1h_tokens: 400 };

let rig;
let books;
let client;

before(async () => {
  rig = await Rig.start();
});
after(() => rig?.stop());
beforeEach(async (context) => {
  books = await rig.books(context.name);
  client = new Anthropic({
    baseURL: `${rig.url}/anthropic`,
    apiKey: API_KEY,
    maxRetries: 0,
    timeout: PATIENCE,
    defaultHeaders: books.headers,
  });
});

test('a message with every kind of cache is booked to the token', async () => {
  const { data, response } = await client.messages.create(ASK, { headers: simulate(CACHE) }).withResponse();
  assert.equal(data.usage.cache_read_input_tokens, 3000);
  const record = await books.agreeOn(response.headers, 'anthropic', MODEL);
  assert.equal(record.usage.cache_write_1h, 400);
});

test('a stream with every kind of cache is booked to the token', async () => {
  const options = { headers: simulate(CACHE) };
  const { data, response } = await client.messages.create({ ...ASK, stream: true }, options).withResponse();
  const events = await all(data);
  assert.equal(events[0].type, 'message_start');
  assert.equal(events.at(-1).type, 'message_stop');
  const record = await books.agreeOn(response.headers, 'anthropic', MODEL);
  assert.equal(record.usage.cache_write_1h, 400);
});

test('the stream helper gives the whole message', async () => {
  const message = await client.messages.stream(ASK, { headers: simulate({ output_tokens: 30 }) }).finalMessage();
  assert.equal(message.content[0].type, 'text');
  assert.equal(message.usage.output_tokens, 30);
  await books.agree(1);
});

test('tools are called, whole and in a stream', async () => {
  const whole = await client.messages.create({ ...ASK, ...MUST_CALL });
  const streamed = await client.messages.stream({ ...ASK, ...MUST_CALL }).finalMessage();
  for (const message of [whole, streamed]) {
    const call = message.content.find((block) => block.type === 'tool_use');
    assert.deepEqual([call.name, call.input], ['weather', { city: 'sample' }]);
  }
  await books.agree(2);
});

test('counting tokens is free', async () => {
  const { input_tokens } = await client.messages.countTokens({ model: MODEL, messages: ASK.messages });
  assert.ok(input_tokens > 0);
  const [sent] = await books.sent();
  assert.equal(sent.usage, null);
});

for (const [status, native] of [
  [400, Anthropic.BadRequestError],
  [401, Anthropic.AuthenticationError],
  [403, Anthropic.PermissionDeniedError],
  [404, Anthropic.NotFoundError],
  [429, Anthropic.RateLimitError],
  [500, Anthropic.InternalServerError],
]) {
  test(`status ${status} is ${native.name} and costs nothing`, async () => {
    const error = await client.messages.create(ASK, { headers: simulate({ status }) }).then(assert.fail, (e) => e);
    assert.equal(error.constructor, native);
    await books.failed(error.headers, status);
  });
}

test('an overloaded provider is an error of the SDK that says so', async () => {
  const error = await client.messages.create(ASK, { headers: simulate({ status: 529 }) }).then(assert.fail, (e) => e);
  assert.ok(error instanceof Anthropic.APIError);
  assert.equal(error.status, 529);
  assert.equal(error.type, 'overloaded_error');
  await books.failed(error.headers, 529);
});

test('an error event in a stream is raised and booked as one', async () => {
  const options = { headers: simulate({ error_after: 5 }) };
  const { data, response } = await client.messages.create({ ...ASK, stream: true }, options).withResponse();
  await assert.rejects(all(data), Anthropic.APIError);
  const record = await books.broken(response.headers, 'stream_error', 'error_event');
  assert.equal(record.error, 'overloaded_error');
});

for (const how of ['reset', 'close']) {
  test(`a cut by ${how} stays a cut`, async () => {
    const options = { headers: simulate({ cut_after: 6, cut_by: how, token_ms: 10 }) };
    const { data, response } = await client.messages.create({ ...ASK, stream: true }, options).withResponse();
    await assert.rejects(all(data));
    const record = await books.broken(response.headers, 'upstream_cut', 'cut');
    assert.equal(record.provenance, 'partial');
  });
}

test("a client that leaves ends the provider's work", async () => {
  const options = { headers: simulate({ input_tokens: 4321, output_tokens: 3000, token_ms: 10 }) };
  const { data, response } = await client.messages.create({ ...ASK, stream: true }, options).withResponse();
  for await (const event of data) {
    if (event.type === 'content_block_delta') {
      data.controller.abort();
      break;
    }
  }
  const left = performance.now();
  const record = await books.broken(response.headers, 'client_gone', 'client_gone');
  assert.ok(performance.now() - left < 5_000, 'the answer would have taken 30 s');
  assert.deepEqual([record.provenance, record.usage.input], ['partial', 4321]);
});
