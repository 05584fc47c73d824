// Refusals as the Node SDKs see them: their own error, our text, and one request where coming back is useless.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { createAnthropic } from '@ai-sdk/anthropic';
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import Anthropic from '@anthropic-ai/sdk';
import { ApiError, GoogleGenAI } from '@google/genai';
import { APICallError, generateText, streamText } from 'ai';
import OpenAI from 'openai';

import { API_KEY, PROMPT, Rig, all } from './rig.mjs';

// One request for each session; a tier that bounds the output.
const CONFIG = `
[budgets.tiny]
scope = "session"
window = "day"
limit = "1 requests"
hard = true

[auth]
tier = "small"

[tiers.small]
max_output = 1000
`;

// Below the tier's, which a request that states none would break: the models write more.
const CAP = 50;

const MESSAGES = [{ role: 'user', content: PROMPT }];

let rig;
before(async () => {
  rig = await Rig.start(CONFIG);
});
after(() => rig.stop());

/** Spends the session's one request; returns the base URL that charges it. */
async function spend(session) {
  const base = `${rig.url}/@${session}`;
  const answer = await fetch(`${base}/openai/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'gpt-5.6', messages: MESSAGES, max_completion_tokens: CAP }),
  });
  assert.equal(answer.status, 200, await answer.text());
  return base;
}

const openai = (base) => new OpenAI({ baseURL: `${base}/openai/v1`, apiKey: API_KEY });
const anthropic = (base) => new Anthropic({ baseURL: `${base}/anthropic`, apiKey: API_KEY });
const google = (base) =>
  new GoogleGenAI({ apiKey: API_KEY, httpOptions: { baseUrl: `${base}/gemini`, retryOptions: { attempts: 4 } } });

const ai = {
  responses: (base) => createOpenAI({ baseURL: `${base}/openai/v1`, apiKey: API_KEY })('gpt-5.6'),
  chat: (base) => createOpenAI({ baseURL: `${base}/openai/v1`, apiKey: API_KEY }).chat('gpt-5.6'),
  messages: (base) => createAnthropic({ baseURL: `${base}/anthropic/v1`, apiKey: API_KEY })('claude-sonnet-5-5'),
  compatible: (base) =>
    createOpenAICompatible({ name: 'tollgate', baseURL: `${base}/openai/v1`, apiKey: API_KEY })('gpt-5.6'),
};

/** The error that a stream of the AI SDK reports: it throws none. */
async function streamed(model, options) {
  const parts = await all(streamText({ model, prompt: PROMPT, onError() {}, ...options }).fullStream);
  throw parts.find((part) => part.type === 'error').error;
}

// By name: how it asks, with which output cap; its native error; the status of a spent budget.
const PROGRAMS = {
  'openai chat': [
    (base, cap = CAP) =>
      openai(base).chat.completions.create({ model: 'gpt-5.6', messages: MESSAGES, max_completion_tokens: cap }),
    OpenAI.RateLimitError,
    429,
  ],
  'openai chat stream': [
    (base, cap = CAP) =>
      openai(base).chat.completions.create({
        model: 'gpt-5.6',
        messages: MESSAGES,
        max_completion_tokens: cap,
        stream: true,
      }),
    OpenAI.RateLimitError,
    429,
  ],
  'openai responses': [
    (base, cap = CAP) => openai(base).responses.create({ model: 'gpt-5.6', input: PROMPT, max_output_tokens: cap }),
    OpenAI.RateLimitError,
    429,
  ],
  anthropic: [
    (base, cap = CAP) =>
      anthropic(base).messages.create({ model: 'claude-sonnet-5-5', max_tokens: cap, messages: MESSAGES }),
    Anthropic.RateLimitError,
    429,
  ],
  'google genai': [
    (base, cap = CAP) =>
      google(base).models.generateContent({
        model: 'gemini-3-flash',
        contents: PROMPT,
        config: { maxOutputTokens: cap },
      }),
    ApiError,
    402,
  ],
};
for (const [name, model] of Object.entries(ai)) {
  PROGRAMS[`ai ${name}`] = [
    (base, cap = CAP) => generateText({ model: model(base), prompt: PROMPT, maxOutputTokens: cap }),
    APICallError,
    402,
  ];
  PROGRAMS[`ai ${name} stream`] = [
    (base, cap = CAP) => streamed(model(base), { maxOutputTokens: cap }),
    APICallError,
    402,
  ];
}

const sessionOf = (kind, name) => `${kind}-${name.replaceAll(' ', '-')}`;
const statusOf = (error) => error.statusCode ?? error.status;

for (const [name, [ask, native, status]] of Object.entries(PROGRAMS)) {
  test(`a spent budget is the error of ${name}, and one request`, async () => {
    const session = sessionOf('spent', name);
    const base = await spend(session);
    const error = await Promise.resolve(ask(base)).then(assert.fail, (e) => e);
    assert.ok(error instanceof native, `${error.constructor.name}: ${error.message}`);
    assert.equal(statusOf(error), status);
    assert.match(error.message, /tollgate: Request throttled: CRITICAL\. /);
    assert.ok(error.message.includes(`Request budget tiny of session ${session} is 100 % full`), error.message);
    assert.match(error.message, /It passes again/);
    assert.ok(!error.message.includes(PROMPT));
    assert.deepEqual(await rig.outcomes(session, 2), { complete: 1, refused: 1 });
  });
}

for (const name of ['openai chat', 'openai responses', 'anthropic', 'google genai', 'ai responses', 'ai messages stream']) {
  test(`a policy violation is a 403 for ${name}, and one request`, async () => {
    const [ask] = PROGRAMS[name];
    const session = sessionOf('violation', name);
    const error = await Promise.resolve(ask(`${rig.url}/@${session}`, 2000)).then(assert.fail, (e) => e);
    assert.equal(statusOf(error), 403);
    assert.match(error.message, /POLICY_VIOLATION/);
    assert.match(error.message, /tiers\.small\.max_output/);
    assert.deepEqual(await rig.outcomes(session, 1), { refused: 1 });
  });
}
