// Runs tollgate in front of the simulated provider for the tests of one file, and compares what both know of a test.
//
// Every port is chosen by the system, everything is on the loopback interface, and every wait ends after PATIENCE.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createWriteStream, existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');

// Milliseconds that anything may take before a test fails.
export const PATIENCE = 30_000;

// What must never be found in a log.
export const API_KEY = 'sk-test-d41d8cd98f00b204e9800998ecf8427e';
export const PROMPT = 'Recite the verse of the purple heron.';

// The SDKs and the programs take settings from variables such as these; the tests' own must be the only ones.
const FOREIGN = /^(OPENAI|ANTHROPIC|GOOGLE|GEMINI|TOLLGATE|CLAUDE|CODEX)_(?!BIN$)|^(HTTPS?|ALL|NO)_PROXY$/i;
for (const name of Object.keys(process.env)) if (FOREIGN.test(name)) delete process.env[name];

function binary() {
  const file = path.resolve(process.env.TOLLGATE_BIN || path.join(ROOT, 'target/debug/tollgate'));
  assert.ok(existsSync(file), `${file} is missing: run \`cargo build\`, or set TOLLGATE_BIN`);
  return file;
}

/** Looks again and again until there is something to see. */
export async function until(what, look) {
  const deadline = performance.now() + PATIENCE;
  for (;;) {
    const seen = await look();
    if (seen) return seen;
    assert.ok(performance.now() < deadline, `${what}: not within ${PATIENCE} ms`);
    await pause(10);
  }
}

/** Headers that tell the simulated provider what to do: `simulate({ output_tokens: 5 })`. */
export function simulate(behaviour) {
  const entries = Object.entries(behaviour);
  return Object.fromEntries(entries.map(([name, value]) => [`x-simulate-${name.replaceAll('_', '-')}`, String(value)]));
}

/** Starts a program and reads on its output where it listens. */
async function start(args, log) {
  const child = spawn(binary(), args, { stdio: ['ignore', 'pipe', 'pipe'] });
  child.stderr.pipe(createWriteStream(log));
  const exited = once(child, 'exit');
  process.on('exit', () => child.kill('SIGKILL'));
  const timer = setTimeout(() => child.kill('SIGKILL'), PATIENCE);
  let url;
  for await (const line of createInterface({ input: child.stdout })) {
    if (line.startsWith('listening on ')) {
      url = line.slice('listening on '.length).trim();
      break;
    }
  }
  clearTimeout(timer);
  assert.ok(url, `tollgate ${args[0]} did not say where it listens; see ${log}`);
  return {
    url,
    async stop() {
      child.kill('SIGTERM');
      const limit = setTimeout(() => child.kill('SIGKILL'), PATIENCE);
      const [code, signal] = await exited;
      clearTimeout(limit);
      assert.deepEqual({ code, signal }, { code: 0, signal: null }, await readFile(log, 'utf8'));
    },
  };
}

async function json(url) {
  const answer = await fetch(url, { signal: AbortSignal.timeout(PATIENCE) });
  assert.equal(answer.status, 200, `GET ${url}: ${answer.status}`);
  return answer.json();
}

/** tollgate and its one upstream. */
export class Rig {
  /** Starts both; `config` is the text of tollgate's config file. */
  static async start(config = '') {
    const rig = new Rig();
    rig.folder = await mkdtemp(path.join(tmpdir(), 'tollgate-node-'));
    const logs = ['simulate.log', 'tollgate.log'].map((name) => path.join(rig.folder, name));
    rig.simulator = await start(['simulate', '--listen', '127.0.0.1:0'], logs[0]);
    const upstreams = ['anthropic', 'openai', 'gemini'].flatMap((name) => ['--set', `providers.${name}.base_url=${rig.simulator.url}`]);
    const ledger = path.join(rig.folder, 'ledger');
    const file = path.join(rig.folder, 'tollgate.toml');
    await writeFile(file, config);
    // What the provider answers is what the SDK gets, unless a test is about retries.
    const once = ['--set', 'send.max_retries=0'];
    const serve = ['serve', '--config', file, '--listen', '127.0.0.1:0', '--ledger-dir', ledger, ...upstreams, ...once];
    rig.proxy = await start(serve, logs[1]).catch(async (error) => {
      await rig.simulator.stop();
      throw error;
    });
    rig.url = rig.proxy.url;
    return rig;
  }

  async stop() {
    await this.proxy.stop();
    await this.simulator.stop();
    const log = await readFile(path.join(this.folder, 'tollgate.log'), 'utf8');
    for (const secret of [API_KEY, PROMPT]) assert.ok(!log.includes(secret), 'the log holds a key or a prompt');
    await rm(this.folder, { recursive: true });
  }

  stats() {
    return json(`${this.simulator.url}/_simulate/stats`);
  }

  /**
   * How many requests of a session the ledger holds, by their outcome, once there are `count`. Those that name no model
   * are left out: Claude Code sends a HEAD to its base URL when it starts.
   */
  outcomes(session, count) {
    const query = new URLSearchParams({ by: 'model,outcome', session });
    return until(`${count} requests of ${session} in the ledger`, async () => {
      const { rows } = await json(`${this.url}/api/v1/usage?${query}`);
      const made = {};
      for (const { labels: [model, outcome], requests } of rows) {
        if (model) made[outcome] = (made[outcome] ?? 0) + requests;
      }
      const total = Object.values(made).reduce((sum, requests) => sum + requests, 0);
      return total >= count && made;
    });
  }

  /** The books of one test, under a session of its own. */
  async books(session) {
    const before = await until('the provider to be idle', async () => {
      const stats = await this.stats();
      return stats.in_flight === 0 && stats;
    });
    return new Books(this, session.replaceAll(/[^A-Za-z0-9_.-]/g, '-'), before.requests);
  }
}

/** One test's requests, seen from both ends. */
export class Books {
  constructor(rig, session, before) {
    Object.assign(this, { rig, session, before, headers: { 'x-tollgate-session': session } });
  }

  /** What the provider knows of this test's requests, in the order of their ends, once there are `count`. */
  async sent(count = 1) {
    const made = await until(`${count} requests to end at the provider`, async () => {
      const { requests, in_flight } = await this.rig.stats();
      return in_flight === 0 && requests - this.before >= count && requests - this.before;
    });
    assert.equal(made, count, 'requests that arrived');
    return json(`${this.rig.simulator.url}/_simulate/requests?last=${count}`);
  }

  /** The ledger's record of the answer with these headers. */
  booked(headers) {
    const id = headers.get('x-tollgate-request-id');
    return until(`request ${id} in the ledger`, async () => {
      const answer = await fetch(`${this.rig.url}/api/v1/requests/${id}`, { signal: AbortSignal.timeout(PATIENCE) });
      return answer.ok && answer.json();
    });
  }

  /** Demands that the ledger holds what the provider has sent for the test's one request; returns the record. */
  async agreeOn(headers, provider, model) {
    const [sent] = await this.sent();
    assert.equal(sent.outcome, 'complete');
    const record = await this.booked(headers);
    const { input, cached, cache_write, output, reasoning } = sent.usage;
    assert.deepEqual(figures(record.usage), { input, cached_read: cached, cache_write, output, reasoning });
    const { session, outcome, status, provenance } = record;
    assert.deepEqual(
      { session, provider: record.provider, model: record.model, outcome, status, provenance },
      { session: this.session, provider, model, outcome: 'complete', status: 200, provenance: 'reported' },
    );
    assert.equal(record.cost_source, 'table');
    return record;
  }

  /** Demands that the session's sums in the ledger are the figures that the provider has sent for `count` requests. */
  async agree(count) {
    const sent = await this.sent(count);
    const sum = (name) => sent.reduce((total, answer) => total + answer.usage[name], 0);
    const query = new URLSearchParams({ by: 'session', session: this.session });
    const total = await until(`${count} requests in the ledger`, async () => {
      const report = await json(`${this.rig.url}/api/v1/usage?${query}`);
      return report.total.requests >= count && report.total;
    });
    assert.equal(total.requests, count);
    assert.deepEqual(figures(total), {
      input: sum('input'),
      cached_read: sum('cached'),
      cache_write: sum('cache_write'),
      output: sum('output'),
      reasoning: sum('reasoning'),
    });
  }

  /** The record of an answer that was an error of the provider: nothing is booked for it. */
  async failed(headers, expected) {
    const [sent] = await this.sent();
    assert.equal(sent.outcome, 'error');
    const { outcome, status, provenance, usage } = await this.booked(headers);
    assert.deepEqual({ outcome, status, provenance }, { outcome: 'provider_error', status: expected, provenance: 'none' });
    assert.ok(Object.values(usage).every((count) => count === 0));
  }

  /** The record of a stream that did not reach its end: its figures say that they are not the provider's last. */
  async broken(headers, outcome, providerOutcome) {
    const [sent] = await this.sent();
    assert.equal(sent.outcome, providerOutcome);
    const record = await this.booked(headers);
    assert.equal(record.outcome, outcome);
    assert.ok(['partial', 'estimated'].includes(record.provenance), record.provenance);
    assert.ok(record.usage.input > 0);
    assert.ok(record.usage.output > 0 && record.usage.output <= sent.usage.output);
    return record;
  }
}

function figures({ input, cached_read, cache_write, output, reasoning }) {
  return { input, cached_read, cache_write, output, reasoning };
}

/** All that an asynchronous iterator gives. */
export async function all(stream) {
  const items = [];
  for await (const item of stream) items.push(item);
  return items;
}
