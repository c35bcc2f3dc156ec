// SPDX-License-Identifier: MIT OR Apache-2.0
// Records, options and errors of runs.

'use strict';

const assert = require('node:assert/strict');
const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');
const { pathToFileURL } = require('node:url');

const { CLIP, MEDIA, MODELS, collect, command, inputs, linesOf, scratch, serve } = require('./helpers.js');
const vx = require('..');

const isSummary = (line) => line.includes('"status":');

// Returns a summary without what differs from run to run.
function withoutTimes(line) {
  const summary = JSON.parse(line);
  delete summary.seconds;
  return JSON.stringify(summary);
}

async function assertSameAsCommand(vxCommand, files, switches, options) {
  const lines = linesOf(vxCommand, '--provider=cpu', ...switches, ...files);
  const records = (await collect(vx.detect(files, { provider: 'cpu', ...options })));
  const frames = records.filter((record) => record instanceof vx.Frame).map((record) => record.line);
  const summaries = records.filter((record) => record instanceof vx.FileSummary).map((record) => withoutTimes(record.line));
  assert.deepEqual(frames.sort(), lines.filter((line) => !isSummary(line)).sort());
  assert.deepEqual(summaries.sort(), lines.filter(isSummary).map(withoutTimes).sort());
  assert.equal(summaries.length, files.length);
  assert.ok(frames.length > files.length / 2);
}

for (const [name, switches, options] of [
  ['plain', [], {}],
  ['in worker processes', ['--isolate'], { isolate: true }],
  ['a second apart', ['--every=1s', '--confidence=0.1'], { every: 1, confidence: 0.1 }],
]) {
  test(`records are the lines of the command: ${name}`, async (t) => {
    const vxCommand = command(t);
    if (vxCommand) {
      await assertSameAsCommand(vxCommand, inputs(t), switches, options);
    }
  });
}

test('a record has the fields of its line', async () => {
  const records = await collect(vx.detect(CLIP, { provider: 'cpu' }));
  const frame = records.find((record) => record.type === 'frame' && record.detections.length > 0);
  const fields = JSON.parse(frame.line);
  assert.deepEqual([frame.file, frame.ptsNs, frame.width, frame.height], [CLIP, BigInt(fields.pts_ns), 640, 480]);
  assert.equal(frame.seconds, fields.pts_ns / 1e9);
  assert.deepEqual([frame.isKeyframe, frame.isAnalysed], [true, true]);
  const [found] = frame.detections;
  const { label, class_id, confidence, box } = fields.detections[0];
  assert.deepEqual(found, { label, classId: class_id, confidence, box, keypoints: [], rotatedBox: null, mask: null });
  assert.deepEqual(JSON.parse(JSON.stringify(frame)), fields);
  const summary = records.at(-1);
  assert.equal(summary.type, 'file');
  assert.deepEqual([summary.status, summary.complete, summary.error, summary.isCached], ['ok', true, null, false]);
  assert.equal(summary.keyframes, records.length - 1);
  assert.equal(summary.bytes, fs.statSync(CLIP).size);
  assert.ok(summary.seconds.total > 0 && summary.seconds.lockWait >= 0 && summary.durationSeconds > 0 && summary.bytesRead > 0);
  assert.deepEqual(JSON.parse(JSON.stringify(summary)), JSON.parse(summary.line));
});

test('keypoints, rotated boxes and masks', async () => {
  const first = async (model) => {
    const options = { provider: 'cpu', model: path.join(MODELS, model), confidence: 0.01 };
    const records = await collect(vx.detect(CLIP, options));
    return records.find((record) => record.detections?.length > 0).detections[0];
  };
  assert.equal((await first('pose.onnx')).keypoints[0].length, 3);
  assert.equal((await first('obb.onnx')).rotatedBox.length, 5);
  const { mask } = await first('segment.onnx');
  assert.equal(mask.counts.reduce((sum, count) => sum + count, 0), mask.size[0] * mask.size[1]);
});

test('times keep all of their digits', async (t) => {
  const shifted = path.join(scratch(t), 'shifted.mkv');
  const made = spawnSync('ffmpeg', ['-v', 'error', '-i', CLIP, '-c', 'copy', '-output_ts_offset', '20000000.001', shifted]);
  if (made.error) {
    return t.skip('the command ffmpeg is missing');
  }
  const [frame] = await collect(vx.detect(shifted, { provider: 'cpu' }));
  assert.equal(frame.ptsNs, BigInt(/"pts_ns":(\d+)/.exec(frame.line)[1]));
  assert.ok(frame.ptsNs > BigInt(Number.MAX_SAFE_INTEGER), `${frame.ptsNs}`);
});

test('every option of the command is an option here', (t) => {
  const vxCommand = command(t);
  if (!vxCommand) {
    return;
  }
  const { stdout } = spawnSync(vxCommand, ['detect', '--help'], { encoding: 'utf8' });
  const named = [...stdout.matchAll(/^\s+(?:-\w, )?--([a-z][a-z-]+)/gm)].map(([, name]) =>
    name.replace(/-([a-z])/g, (_, letter) => letter.toUpperCase()),
  );
  // A list on standard input ({ list }), what the command prints, a plan (`plan`), a page (`vx report`), and help.
  const others = ['null', 'quiet', 'debug', 'dryRun', 'report', 'help', 'version'];
  assert.throws(() => vx.detect(CLIP, { colour: 'red' }), (error) => {
    const own = /use (.*) or signal$/.exec(error.message)[1].split(', ');
    assert.deepEqual(own.sort(), [...new Set(named)].filter((name) => !others.includes(name)).sort());
    return error instanceof TypeError;
  });
});

test('defaults are those of the command', async (t) => {
  const vxCommand = command(t);
  if (!vxCommand) {
    return;
  }
  const output = path.join(scratch(t), 'found.jsonl');
  const picture = path.join(MEDIA, 'gray_to_I420.jpg');
  linesOf(vxCommand, '--output', output, CLIP);
  // An output is continued only with equal settings.
  const run = vx.detect([CLIP, picture], { output, resume: true });
  assert.deepEqual(new Set((await collect(run)).map((record) => record.file)), new Set([picture]));
  assert.deepEqual(run.overview.files, [picture]);
  const other = collect(vx.detect(CLIP, { output, resume: true, confidence: 0.3 }));
  await assert.rejects(other, (error) => error instanceof vx.VxError && error.message.includes('confidence'));
});

test('options have the types of JavaScript', async (t) => {
  const files = [CLIP, path.join(MEDIA, 'gray_to_I420.jpg')];
  const shares = [];
  for (const number of [1, 2]) {
    shares.push((await vx.plan(files, { shard: [number, 2], provider: 'cpu' })).files);
  }
  assert.deepEqual(shares.flat().sort(), files.toSorted());
  const output = path.join(scratch(t), 'found.csv');
  const run = vx.detect([pathToFileURL(CLIP), { list: [files[1]] }], {
    classes: ['person', 0],
    every: '2s',
    fileTimeout: 60,
    memoryLimit: '2G',
    set: { 'max-frames': 2, 'detector::precision': 'fp32' },
    order: 'as-given',
    provider: 'cpu',
    output: pathToFileURL(output),
    cacheDir: '',
    model: undefined,
    isolate: false,
  });
  const records = await collect(run);
  assert.equal(records.filter((record) => record.type === 'frame' && record.file === CLIP).length, 2);
  assert.ok(fs.readFileSync(output, 'utf8').startsWith('file,'));
  for (const [options, word] of [
    [{ confidence: '0.5' }, 'confidence'],
    [{ lanes: -1 }, 'lanes'],
    [{ lanes: 1.5 }, 'lanes'],
    [{ classes: [{}] }, 'classes'],
    [{ set: { a: {} } }, 'set'],
    [{ every: new Date() }, 'every'],
    [{ resume: 1 }, 'resume'],
    [{ model: 5 }, 'model'],
    [{ signal: 'now' }, 'signal'],
    [null, 'options'],
  ]) {
    assert.throws(() => vx.detect(CLIP, options), (error) => error instanceof TypeError && error.message.includes(word));
  }
  assert.throws(() => vx.detect([5]), TypeError);
  assert.throws(() => vx.detect(undefined), TypeError);
});

test('errors have a stage, a file and a remedy', async (t) => {
  const output = path.join(scratch(t), 'found.jsonl');
  fs.writeFileSync(output, 'x\n');
  const failure = async (...args) => {
    try {
      await collect(vx.detect(...args));
    } catch (error) {
      assert.ok(error instanceof vx.VxError && error instanceof Error && error.name === 'VxError', String(error));
      return error;
    }
    return assert.fail('nothing was thrown');
  };
  const exists = await failure(CLIP, { output });
  assert.deepEqual([exists.stage, exists.file], ['output', output]);
  assert.match(exists.remedy, /`resume`.*`overwrite`/);
  for (const [options, stage, text] of [
    [{ output, resume: true, overwrite: true }, 'settings', /`resume`/],
    [{ retryFailed: true }, 'settings', /`retryFailed`/],
    [{ fileTimeout: '1y' }, 'settings', /`fileTimeout`/],
    [{ order: 'random' }, 'settings', /largest-first/],
    [{ set: { colour: 'red' } }, 'settings', /colour/],
    [{ whichFrames: 'all' }, 'settings', /`whichFrames`.*`saveFrames`/],
    [{ shard: '5/4' }, 'settings', /`shard`/],
    [{ model: '/nowhere.onnx' }, 'model', /nowhere\.onnx/],
    [{ model: CLIP }, 'model', /scenes\.mp4/],
  ]) {
    const error = await failure(CLIP, options);
    assert.equal(error.stage, stage, error.message);
    assert.match(error.message, text);
  }
  assert.equal((await failure(path.join(MODELS, 'sizes'), {})).stage, 'inputs');
  assert.match((await failure(path.join(MODELS, 'sizes'), {})).remedy, /`probe`/);
});

test('a file that fails does not end the run, unless that is wanted', async (t) => {
  const [file] = inputs(t).slice(-1);
  const run = vx.detect([file, CLIP], { provider: 'cpu', order: 'as-given' });
  const records = await collect(run);
  const failed = records.find((record) => record.status === 'failed');
  assert.equal(failed.file, file);
  assert.equal(typeof failed.error, 'string');
  assert.deepEqual([run.summary.files, run.summary.failed, run.summary.isCancelled], [2, 1, false]);
  assert.equal(run.summary.frames, records.filter((record) => record.type === 'frame').length);
  const strict = vx.detect([file, CLIP], { provider: 'cpu', order: 'as-given', stopOnError: true, lanes: 1 });
  await assert.rejects(collect(strict), (error) => error.stage === 'reading' && error.message.includes('broken.mp4'));
  assert.equal(strict.summary.failed, 1);
});

test('URLs are inputs, and records have their names', async (t) => {
  const content = fs.readFileSync(CLIP);
  const { address } = await serve(t, content);
  const url = new URL(`${address}/scenes.mp4`);
  const local = await collect(vx.detect(CLIP, { provider: 'cpu' }));
  const remote = await collect(vx.detect([url], { provider: 'cpu' }));
  assert.equal(remote.at(-1).status, 'ok', remote.at(-1).error);
  assert.equal(remote.at(-1).file, url.href);
  assert.ok(remote.at(-1).bytesReceived > 0);
  const found = (records) => records.filter((record) => record.type === 'frame').map((record) => [record.ptsNs, record.detections]);
  assert.deepEqual(found(remote), found(local));
  const pictures = await collect(vx.keyframes(url, { format: 'native' }));
  assert.equal(pictures.length, local.length - 1);
});

test('warnings of a run are warnings of the process', async (t) => {
  const labels = path.join(scratch(t), 'names.txt');
  fs.writeFileSync(labels, 'one\ntwo\nthree\n');
  const warned = new Promise((resolve) => process.once('warning', resolve));
  await collect(vx.detect(CLIP, { provider: 'cpu', labels }));
  const warning = await warned;
  assert.equal(warning.name, 'VxWarning');
  assert.match(warning.message, /names\.txt|label/);
});

test('results are kept in a cache', async (t) => {
  const cache = path.join(scratch(t), 'cache');
  const lines = [];
  for (const isCached of [false, true]) {
    const run = vx.detect(CLIP, { provider: 'cpu', cache });
    const records = await collect(run);
    assert.equal(records.at(-1).isCached, isCached);
    assert.equal(run.summary.cached, Number(isCached));
    lines.push(records.map((record) => (record.type === 'frame' ? record.line : '')));
  }
  assert.deepEqual(lines[0], lines[1]);
});
