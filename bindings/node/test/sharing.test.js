// SPDX-License-Identifier: MIT OR Apache-2.0
// The event loop beside a run, and runs beside each other.

'use strict';

const assert = require('node:assert/strict');
const { monitorEventLoopDelay } = require('node:perf_hooks');
const { test } = require('node:test');

const { CLIP, SMALL, collect, copies, manyFrames, start } = require('./helpers.js');
const vx = require('..');

// Returns the longest delay of the event loop while `work` is waited for, in milliseconds.
async function longestDelay(work) {
  const delays = monitorEventLoopDelay({ resolution: 10 });
  delays.enable();
  await work();
  delays.disable();
  return delays.max / 1e6;
}

test('the event loop is as free during a run as beside one in another process', async (t) => {
  const file = manyFrames(t, 5000);
  if (!file) {
    return;
  }
  const folder = copies(t, 8);
  const loop = (name) => `(async () => { for await (const record of ${name}); })();`;
  const cases = [
    [() => collect(vx.detect(file, SMALL)), loop(`vx.detect(args[0], ${JSON.stringify(SMALL)})`)],
    [() => collect(vx.detect(folder, { provider: 'cpu', cacheDir: '' })), loop("vx.detect(args[1], { provider: 'cpu', cacheDir: '' })")],
    [() => collect(vx.keyframes(CLIP, { maxGap: 0.04 })), loop("vx.keyframes(args[2], { maxGap: 0.04 })")],
  ];
  for (const [own, code] of cases) {
    // Both loads are the same, and so is what the machine does to timers. Once as good is enough: what blocks does so each time.
    const tried = [];
    while (tried.length < 5 && !tried.some(([here, beside]) => here < Math.max(50, 2 * beside))) {
      const beside = await longestDelay(() => start(code, file, folder, CLIP).ended);
      tried.push([await longestDelay(own), beside]);
    }
    assert.ok(tried.at(-1)[0] < Math.max(50, 2 * tried.at(-1)[1]), `delays in ms, here and beside: ${JSON.stringify(tried)}`);
  }
});

test('several runs at once share one engine', async () => {
  // In a process of its own, which has loaded no model before.
  const { status, out, errors } = await start(`
    (async () => {
      const lines = async (run) => {
        const lines = [];
        for await (const record of run) if (record.type === 'frame') lines.push(record.line);
        return lines;
      };
      const runs = [1, 2, 3].map(() => vx.detect(args[0], { provider: 'cpu' }));
      const results = await Promise.all(runs.map(lines));
      console.log(JSON.stringify([results, runs.map(({ summary }) => summary.engine.modelLoads)]));
    })();`, CLIP).ended;
  assert.equal(status, 0, errors);
  const [results, loads] = JSON.parse(out);
  assert.deepEqual(loads, [1, 1, 1]);
  assert.ok(results[0].length > 0);
  assert.deepEqual(results, [results[0], results[0], results[0]]);
});

test('more runs than libuv has threads leave these alone', async (t) => {
  const folder = copies(t, 8);
  const runs = Array.from({ length: 6 }, () => vx.detect(folder, { provider: 'cpu', lanes: 1 }));
  const firsts = runs.map((run) => run.next());
  // Reading a file needs one of the threads.
  assert.ok((await require('node:fs/promises').readFile(CLIP)).length > 0);
  assert.ok((await Promise.all(firsts)).every(({ done }) => !done));
  await Promise.all(runs.map((run) => run.close()));
});
