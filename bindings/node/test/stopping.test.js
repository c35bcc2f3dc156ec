// SPDX-License-Identifier: MIT OR Apache-2.0
// The ways in which an iteration ends before its end.

'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const { test } = require('node:test');

const { CLIP, MEDIA, SMALL, collect, copies, serve, start, threads, until } = require('./helpers.js');
const vx = require('..');

const noThreads = () => until(() => threads() === 0, 'threads of runs are left');

test('leaving the loop stops the run', async (t) => {
  const run = vx.detect(copies(t), { provider: 'cpu' });
  for await (const record of run) {
    assert.equal(record.type, 'frame');
    break;
  }
  assert.equal(run.summary.isCancelled, true);
  assert.ok(run.summary.missing > 0);
  assert.deepEqual(await run.next(), { value: undefined, done: true });
  assert.deepEqual(await collect(run), []);
  await noThreads();
});

test('an exception in the loop stops the run, and arrives', async (t) => {
  const run = vx.detect(copies(t), { provider: 'cpu' });
  const loop = async () => {
    for await (const record of run) {
      await new Promise((resolve) => setTimeout(resolve, 5));
      throw new RangeError(record.type);
    }
  };
  await assert.rejects(loop(), RangeError);
  assert.equal(run.summary.isCancelled, true);
  await noThreads();
});

test('a signal stops a run that is waited for, with its reason', async (t) => {
  const controller = new AbortController();
  const run = vx.detect(copies(t), { provider: 'cpu', signal: controller.signal });
  let at = 0;
  const loop = async () => {
    for await (const record of run) {
      assert.ok(record);
      if (at === 0) {
        at = performance.now();
        setTimeout(() => controller.abort(), 20);
      }
    }
  };
  await assert.rejects(loop(), { name: 'AbortError' });
  await until(() => run.summary !== null, 'there is no summary');
  assert.equal(run.summary.isCancelled, true);
  await noThreads();
});

test('a signal stops a run that nobody waits for, that has not started, or that has ended', async (t) => {
  const reason = new Error('enough');
  const early = vx.detect(copies(t), { provider: 'cpu', signal: AbortSignal.abort(reason) });
  await assert.rejects(early.next(), reason);
  assert.deepEqual(await early.next(), { value: undefined, done: true });
  const controller = new AbortController();
  const idle = vx.detect(copies(t), { provider: 'cpu', signal: controller.signal });
  await idle.next();
  controller.abort(reason);
  await until(() => idle.summary !== null, 'there is no summary');
  await assert.rejects(collect(idle), reason);
  const other = new AbortController();
  const complete = vx.detect(CLIP, { provider: 'cpu', signal: other.signal });
  assert.ok((await collect(complete)).length > 1);
  other.abort();
  assert.deepEqual(await complete.next(), { value: undefined, done: true });
  const reading = new AbortController();
  const pictures = vx.keyframes(CLIP, { signal: reading.signal });
  await pictures.next();
  reading.abort(reason);
  await assert.rejects(pictures.next(), reason);
  await noThreads();
});

test('a timeout as signal ends a run that is slow to start', async (t) => {
  // Compiling a model takes longer than this, and cannot be interrupted.
  const run = vx.detect(copies(t), { provider: 'cpu', cacheDir: '', signal: AbortSignal.timeout(1) });
  await assert.rejects(collect(run), { name: 'TimeoutError' });
  await noThreads();
});

test('stop and close end a wait in progress', async (t) => {
  const folder = copies(t);
  const waiting = vx.detect(folder, { provider: 'cpu' });
  const pending = waiting.next();
  waiting.stop();
  assert.deepEqual(await pending, { value: undefined, done: true });
  const returned = vx.detect(folder, { provider: 'cpu' });
  const first = returned.next();
  assert.deepEqual(await returned.return(5), { value: 5, done: true });
  assert.equal((await first).done, true);
  const closed = vx.detect(folder, { provider: 'cpu' });
  await Promise.all([closed.close(), closed.close()]);
  assert.equal(closed.summary.frames, 0);
  await waiting.close();
  await noThreads();
});

test('a server that does not respond delays nothing', async (t) => {
  const server = net.createServer(() => {});
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const address = `http://127.0.0.1:${server.address().port}/a.mp4`;
  const code = `
    const controller = new AbortController();
    const signal = controller.signal;
    const names = [];
    const note = (error) => {
      names.push(error.name);
      if (names.length === 2) console.log(names.join());
    };
    vx.keyframes(args[0], { signal }).next().catch(note);
    vx.detect(args[0], { signal, provider: 'cpu' }).next().catch(note);
    setTimeout(() => controller.abort(), 300);`;
  // The process ends by itself.
  const { status, out, errors } = await start(code, address).ended;
  assert.deepEqual([status, out.trim()], [0, 'AbortError,AbortError'], errors);
});

test('finish completes the files that are being read', async (t) => {
  const run = vx.detect(copies(t), { provider: 'cpu', lanes: 1 });
  const records = [];
  for await (const record of run) {
    records.push(record);
    run.finish();
  }
  const summaries = records.filter((record) => record.type === 'file');
  assert.ok(summaries.length >= 1 && summaries.length < 60);
  assert.ok(summaries.every((summary) => summary.status === 'ok'));
  assert.equal(run.summary.isCancelled, true);
  assert.equal(run.summary.missing, 60 - summaries.length);
});

test('calls of next that are not waited for get their records in order', async () => {
  const run = vx.detect(CLIP, { provider: 'cpu' });
  const results = await Promise.all(Array.from({ length: 30 }, () => run.next()));
  const times = results.filter(({ value }) => value?.type === 'frame').map(({ value }) => value.ptsNs);
  assert.ok(times.length > 2 && times.every((time, index) => index === 0 || time > times[index - 1]));
  assert.equal(results.findIndex(({ done }) => done), times.length + 1);
});

test('an iterator that is dropped stops its run', async (t) => {
  const code = `
    const { readdirSync, readFileSync } = require('node:fs');
    const threads = () => readdirSync('/proc/self/task').filter((task) => {
      try { return /^vx(noderun|bulkbin|keyframes)/.test(readFileSync('/proc/self/task/' + task + '/comm', 'utf8')); } catch { return false; }
    }).length;
    const controller = new AbortController();
    async function begin() {
      await vx.detect(args[0], { provider: 'cpu', signal: controller.signal }).next();
      await vx.keyframes(args[1]).next();
    }
    (async () => {
      await begin();
      const before = threads();
      for (let round = 0; round < 1000 && threads() > 0; round += 1) {
        gc();
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      console.log(before > 0, threads());
    })();`;
  const { status, out, errors } = await start(code, copies(t), CLIP).ended;
  assert.deepEqual([status, out.trim()], [0, 'true 0'], errors);
});

test('a slow consumer stops the run from going ahead', async (t) => {
  const { address, paths } = await serve(t, fs.readFileSync(path.join(MEDIA, 'gray_to_I420.jpg')));
  const list = Array.from({ length: 3000 }, (_, number) => `${address}/${number}.jpg`);
  const run = vx.detect({ list }, SMALL);
  await run.next();
  let [before, since] = [0, performance.now()];
  await until(() => {
    if (paths.size !== before) {
      [before, since] = [paths.size, performance.now()];
    }
    return performance.now() - since > 2000;
  }, 'files are still being read');
  assert.ok(before > 50 && before < 2000, `${before} files are ahead of the consumer`);
  // It goes on when the consumer does.
  for (let number = 0; number < 1500; number += 1) {
    assert.equal((await run.next()).done, false);
  }
  await until(() => paths.size > before, 'no other file is read');
  await run.close();
});
