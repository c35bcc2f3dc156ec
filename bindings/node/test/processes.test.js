// SPDX-License-Identifier: MIT OR Apache-2.0
// Ends of processes and of threads of JavaScript, in the middle of runs.

'use strict';

const assert = require('node:assert/strict');
const path = require('node:path');
const { test } = require('node:test');
const { Worker } = require('node:worker_threads');

const { CLIP, PACKAGE, collect, copies, start, threads, until } = require('./helpers.js');
const vx = require('..');

// Longest time from the request to end to the end, in milliseconds. A second is what the package promises.
const PROMPT = 1000;

// Begins a run over the folder in `args`, and prints a line at its first record.
const BEGIN = `
  (async () => {
    let started = false;
    for await (const record of vx.detect(args[0], { provider: 'cpu' })) {
      if (!started) console.log('started');
      started = true;
    }
  })();`;

// Starts the code up to three times: a machine that is busy or frozen may exceed the time once, a wait that blocks does so each time.
async function endsPromptly(run) {
  let took;
  for (let attempt = 0; attempt < 3; attempt += 1) {
    took = await run();
    if (took < PROMPT) {
      return;
    }
  }
  assert.fail(`it took ${took} ms`);
}

test('process.exit in the middle of a run ends the process with its own status', async (t) => {
  const folder = copies(t);
  await endsPromptly(async () => {
    const { ended, printed } = start(`${BEGIN} process.stdout.once('drain', () => {});
      const timer = setInterval(() => { if (globalThis.started) process.exit(7); }, 1);
      const log = console.log; console.log = (text) => { log(text); globalThis.started = true; };`, folder);
    await printed;
    const from = performance.now();
    const { status, signal, at, errors } = await ended;
    assert.deepEqual([status, signal, errors], [7, null, '']);
    return at - from;
  });
});

test('an exception that nobody handles ends the process', async (t) => {
  const { status, errors } = await start(`
    (async () => {
      for await (const record of vx.detect(args[0], { provider: 'cpu' })) setTimeout(() => { throw new Error('unhandled'); });
    })();`, copies(t)).ended;
  assert.equal(status, 1);
  assert.match(errors, /unhandled/);
});

for (const signal of ['SIGINT', 'SIGTERM']) {
  test(`${signal} ends the process as it ends others`, async (t) => {
    const folder = copies(t);
    await endsPromptly(async () => {
      const { child, ended, printed } = start(BEGIN, folder);
      await printed;
      const from = performance.now();
      child.kill(signal);
      const end = await ended;
      assert.equal(end.signal, signal);
      return end.at - from;
    });
  });
}

test('a handler of SIGINT can stop a run, and the process then ends by itself', async (t) => {
  const folder = copies(t);
  await endsPromptly(async () => {
    const { child, ended, printed } = start(`
      const controller = new AbortController();
      process.once('SIGINT', () => controller.abort());
      (async () => {
        let started = false;
        try {
          for await (const record of vx.detect(args[0], { provider: 'cpu', signal: controller.signal })) {
            if (!started) console.log('started');
            started = true;
          }
        } catch (error) {
          console.log(error.name);
          process.exitCode = 3;
        }
      })();`, folder);
    await printed;
    const from = performance.now();
    child.kill('SIGINT');
    const { status, out, at, errors } = await ended;
    assert.deepEqual([status, out.split('\n')[1]], [3, 'AbortError'], errors);
    return at - from;
  });
});

test('a run that nobody iterates does not keep the process', async (t) => {
  const { status, out, errors } = await start(`
    const run = vx.detect(args[0], { provider: 'cpu' });
    vx.keyframes(args[1]);
    process.on('exit', () => console.log(run.summary));`, copies(t), CLIP).ended;
  assert.deepEqual([status, out.trim(), errors], [0, 'null', '']);
});

test('worker processes end with the process that has started them', async (t) => {
  const { child, ended, printed } = start(BEGIN.replace("provider: 'cpu'", "provider: 'cpu', isolate: true"), copies(t));
  await printed;
  const { execFileSync } = require('node:child_process');
  const children = () => execFileSync('ps', ['-eo', 'pid,args'], { encoding: 'utf8' }).split('\n')
    .filter((line) => line.includes(path.join(PACKAGE, 'worker.js'))).map((line) => parseInt(line, 10));
  const started = children();
  assert.ok(started.length > 0);
  child.kill('SIGKILL');
  await ended;
  await until(() => !children().some((pid) => started.includes(pid)), 'worker processes are left');
});

const THREAD = `
  const { parentPort, workerData } = require('node:worker_threads');
  const vx = require(workerData.package);
  (async () => {
    for await (const record of vx.detect(workerData.path, { provider: 'cpu' })) parentPort.postMessage(record);
    parentPort.postMessage('end');
  })();`;

function thread(file) {
  const worker = new Worker(THREAD, { eval: true, workerData: { package: PACKAGE, path: file } });
  const messages = [];
  worker.on('message', (message) => messages.push(message));
  const ended = new Promise((resolve, reject) => worker.on('exit', resolve).on('error', reject));
  return { worker, messages, ended };
}

test('threads run beside each other and share records as messages', async () => {
  const workers = [thread(CLIP), thread(CLIP)];
  const own = await collect(vx.detect(CLIP, { provider: 'cpu' }));
  for (const { messages, ended } of workers) {
    assert.equal(await ended, 0);
    assert.equal(messages.pop(), 'end');
    const frames = messages.filter((record) => record.type === 'frame');
    const plain = own.filter((record) => record.type === 'frame').map((record) => ({ ...record }));
    assert.deepEqual(frames, plain);
  }
});

test('a thread can be terminated in the middle of a run', async (t) => {
  const folder = copies(t);
  for (let round = 0; round < 3; round += 1) {
    const { worker, messages, ended } = thread(folder);
    await until(() => messages.length > 0, 'no record has come');
    await worker.terminate();
    await ended;
  }
  await until(() => threads() === 0, 'threads of runs are left');
  // The package works on in this thread.
  assert.ok((await collect(vx.detect(CLIP, { provider: 'cpu' }))).length > 1);
});

test('process.exit while a thread runs ends the process with its own status', async (t) => {
  const folder = copies(t);
  await endsPromptly(async () => {
    const { ended, printed } = start(`
      const { Worker } = require('node:worker_threads');
      const data = { package: ${JSON.stringify(PACKAGE)}, path: args[0] };
      const worker = new Worker(${JSON.stringify(THREAD)}, { eval: true, workerData: data });
      worker.once('message', () => { console.log('started'); process.exit(5); });`, folder);
    await printed;
    const from = performance.now();
    const { status, errors, at } = await ended;
    assert.deepEqual([status, errors], [5, '']);
    return at - from;
  });
});
