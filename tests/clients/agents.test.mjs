// Refusals as the real coding agents see them, Claude Code and Codex: the text on their output, and one request where
// coming back is useless. Each runs with a home of its own and no account.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { API_KEY, PROMPT, Rig } from '../sdk-node/rig.mjs';

const BIN = path.join(path.dirname(fileURLToPath(import.meta.url)), 'node_modules/.bin');

// Milliseconds that an agent may take for one turn, its waiting included.
const TURN = 100_000;

// One request for each session; a model that nobody may ask for.
const config = (window) => `
[budgets.tiny]
scope = "session"
window = "${window}"
limit = "1 requests"
hard = true

[auth]
tier = "small"

[tiers.small]
models = ["claude*", "gpt-5.6"]
`;

let home;
let strict;
let patient;
before(async () => {
  home = await mkdtemp(path.join(tmpdir(), 'tollgate-agents-'));
  [strict, patient] = await Promise.all([Rig.start(config('day')), Rig.start(config('minute'))]);
});
after(async () => {
  await Promise.all([strict.stop(), patient.stop()]);
  await rm(home, { recursive: true });
});

/** Runs a program to its end; returns its exit code and all that it wrote. */
async function run(command, args, env, folder) {
  const child = spawn(command, args, {
    cwd: folder,
    env: { PATH: process.env.PATH, HOME: folder, TERM: 'dumb', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: TURN,
    killSignal: 'SIGKILL',
  });
  let text = '';
  for (const output of [child.stdout, child.stderr]) output.on('data', (piece) => (text += piece));
  const code = await new Promise((resolve, reject) => child.on('error', reject).on('close', resolve));
  return { code, text };
}

/** One turn of an agent. Its session is named by the path of its base URL. */
const AGENTS = {
  async 'claude-code'(base, folder, model) {
    const env = {
      ANTHROPIC_BASE_URL: `${base}/anthropic`,
      ANTHROPIC_API_KEY: API_KEY,
      CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1',
      DISABLE_AUTOUPDATER: '1',
    };
    return run(path.join(BIN, 'claude'), ['-p', ...(model ? ['--model', model] : []), PROMPT], env, folder);
  },
  async codex(base, folder, model = 'gpt-5.6') {
    await mkdir(path.join(folder, '.codex'));
    const provider = `name = "tollgate"\nbase_url = "${base}/openai/v1"\nenv_key = "OPENAI_API_KEY"\nwire_api = "responses"`;
    const text = `model = "${model}"\nmodel_provider = "tollgate"\n[model_providers.tollgate]\n${provider}\n`;
    await writeFile(path.join(folder, '.codex/config.toml'), text);
    return run(path.join(BIN, 'codex'), ['exec', '--skip-git-repo-check', PROMPT], { OPENAI_API_KEY: API_KEY }, folder);
  },
};

async function turn(rig, agent, session, model) {
  const folder = path.join(home, session);
  await mkdir(folder);
  return AGENTS[agent](`${rig.url}/@${session}`, folder, model);
}

/** Spends the session's one request. */
async function spend(rig, session) {
  const answer = await fetch(`${rig.url}/@${session}/openai/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'gpt-5.6', messages: [{ role: 'user', content: PROMPT }] }),
  });
  assert.equal(answer.status, 200, await answer.text());
}

for (const agent of Object.keys(AGENTS)) {
  test(`${agent} works through tollgate`, async () => {
    const session = `${agent}-works`;
    const { code, text } = await turn(strict, agent, session);
    assert.equal(code, 0, text);
    assert.deepEqual(await strict.outcomes(session, 1), { complete: 1 });
  });

  test(`${agent} gives up on a spent budget after one request, and shows why`, async () => {
    const session = `${agent}-spent`;
    await spend(strict, session);
    const { code, text } = await turn(strict, agent, session);
    assert.equal(code, 1, text);
    assert.ok(text.includes('tollgate: Request throttled: CRITICAL.'), text);
    assert.ok(text.includes(`Request budget tiny of session ${session} is 100 % full (1 of 1 request per day)`), text);
    assert.ok(text.includes('raise budgets.tiny.limit'), text);
    assert.deepEqual(await strict.outcomes(session, 2), { complete: 1, refused: 1 });
  });

  test(`${agent} gives up on a policy violation after one request, and shows the rule`, async () => {
    const session = `${agent}-violation`;
    const { code, text } = await turn(strict, agent, session, 'forbidden-1');
    assert.equal(code, 1, text);
    assert.match(text, /POLICY_VIOLATION/);
    assert.match(text, /tiers\.small\.models/);
    assert.deepEqual(await strict.outcomes(session, 1), { refused: 1 });
  });
}

test('agents come back when a short wait is over, and succeed', async () => {
  const agents = Object.keys(AGENTS);
  await Promise.all(agents.map((agent) => spend(patient, `${agent}-waits`)));
  // The window's slots are a second each: at once it would be 61 s, which is not a short wait any more.
  await pause(3000);
  await Promise.all(
    agents.map(async (agent) => {
      const session = `${agent}-waits`;
      const { code, text } = await turn(patient, agent, session);
      assert.equal(code, 0, text);
      assert.deepEqual(await patient.outcomes(session, 3), { complete: 2, refused: 1 });
    }),
  );
});
