// SPDX-License-Identifier: MIT OR Apache-2.0
// Keyframes as pictures.

'use strict';

const assert = require('node:assert/strict');
const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');
const { pathToFileURL } = require('node:url');

const { CLIP, MEDIA, collect, manyFrames, scratch, start } = require('./helpers.js');
const vx = require('..');

async function first(file, options) {
  for await (const keyframe of vx.keyframes(file, options)) {
    return keyframe;
  }
  return undefined;
}

test('pictures are those that FFmpeg decodes', async (t) => {
  const decoded = spawnSync('ffmpeg', ['-v', 'error', '-i', CLIP, '-frames:v', '1', '-f', 'rawvideo', '-pix_fmt', 'yuv420p', '-']);
  if (decoded.error) {
    return t.skip('the command ffmpeg is missing');
  }
  const keyframe = await first(CLIP, { format: 'native' });
  assert.deepEqual([keyframe.format, keyframe.width, keyframe.height, keyframe.sampleBytes], ['yuv420p', 640, 480, 1]);
  assert.deepEqual(keyframe.planes.map(({ rows, columns, step }) => [rows, columns, step]), [[480, 640, 1], [240, 320, 1], [240, 320, 1]]);
  const rows = keyframe.planes.flatMap(({ data, rows, columns, stride }) =>
    Array.from({ length: rows }, (_, row) => data.subarray(row * stride, row * stride + columns)),
  );
  assert.ok(Buffer.concat(rows).equals(decoded.stdout));
  assert.throws(() => keyframe.data, /3 planes.*'rgb'/);
});

test('rows are packed, without a copy where they are not padded', async () => {
  const wide = await first(CLIP);
  assert.deepEqual([wide.format, wide.data.length], ['rgb24', 640 * 480 * 3]);
  assert.equal(wide.data.buffer, wide.planes[0].data.buffer);
  wide.data[0] ^= 255;
  assert.equal(wide.planes[0].data[0], wide.data[0]);
  const narrow = await first(CLIP, { size: [321, null] });
  const [{ data, stride, columns, step }] = narrow.planes;
  assert.deepEqual([narrow.height, columns, step, narrow.data.length], [241, 321, 3, 321 * 241 * 3]);
  assert.ok(stride > 321 * 3);
  assert.deepEqual(narrow.data.subarray(963, 2 * 963), data.subarray(stride, stride + 963));
  const swapped = await first(CLIP, { format: 'bgr', size: [321, null] });
  assert.deepEqual([...swapped.data.subarray(0, 3)].reverse(), [...narrow.data.subarray(0, 3)]);
});

test('pictures outlive their iterator', async () => {
  const pictures = await collect(vx.keyframes(CLIP, { size: [64, 48], maxFrames: 3 }));
  assert.equal(pictures.length, 3);
  const copy = pictures.map(({ data }) => Buffer.from(data));
  await collect(vx.keyframes(CLIP, { size: [64, 48] }));
  assert.ok(pictures.every(({ data }, index) => copy[index].equals(data) && data.some((value) => value > 0)));
});

test('times, rotation and information', async () => {
  const records = await collect(vx.detect(CLIP, { provider: 'cpu' }));
  const reader = vx.keyframes(pathToFileURL(CLIP), { format: 'gray', size: [null, 36], threads: 1 });
  const pictures = await collect(reader);
  assert.deepEqual(pictures.map(({ ptsNs }) => ptsNs), records.slice(0, -1).map(({ ptsNs }) => ptsNs));
  assert.deepEqual([pictures[1].seconds, pictures[1].width, pictures[1].isKeyframe], [1, 48, true]);
  assert.match(reader.info.codec, /^H\.264/);
  assert.equal(reader.path, CLIP);
  const dense = await collect(vx.keyframes(CLIP, { maxGap: '500ms', size: [64, 36] }));
  assert.ok(dense.length > pictures.length && dense.some(({ isKeyframe }) => !isKeyframe));
  const sparse = await collect(vx.keyframes(CLIP, { minInterval: 3, size: [64, 36] }));
  assert.ok(sparse.length < pictures.length);
  const portrait = path.join(MEDIA, 'vga_portrait_unlabelled.mp4');
  const [upright, stored] = [await first(portrait), await first(portrait, { upright: false })];
  assert.ok(upright.width <= stored.width);
});

test('samples of 16 bits and pictures of several kinds are read', async () => {
  const files = fs.readdirSync(MEDIA).filter((name) => /\.(png|jpg|webp|tiff)$/.test(name));
  assert.ok(files.length > 2);
  for (const name of files) {
    const native = await first(path.join(MEDIA, name), { format: 'native' }).catch((error) => assert.ok(error instanceof vx.VxError));
    if (native) {
      const [{ data, rows, columns, stride, step }] = native.planes;
      assert.ok(rows * columns > 0 && (rows - 1) * stride + columns * step <= data.length, name);
    }
  }
});

test('wrong files and options are errors', async (t) => {
  await assert.rejects(first('/nowhere/a.mp4'), (error) => {
    return error instanceof vx.VxError && error.stage === 'reading' && error.file === '/nowhere/a.mp4';
  });
  for (const [options, word] of [
    [{ format: 'purple' }, /purple/],
    [{ size: [100_000, null] }, /`size`/],
    [{ size: [0, 0] }, /`size`/],
    [{ maxGap: 'soon' }, /`maxGap`/],
  ]) {
    await assert.rejects(async () => first(CLIP, options), (error) => error.stage === 'settings' && word.test(error.message));
  }
  for (const options of [{ size: 5 }, { size: [1] }, { size: [-1, 5] }, { upright: 1 }, { model: 'a' }, { maxFrames: 0.5 }]) {
    assert.throws(() => vx.keyframes(CLIP, options), TypeError);
  }
  const damaged = path.join(scratch(t), 'damaged.mp4');
  fs.writeFileSync(damaged, fs.readFileSync(CLIP).subarray(0, (fs.statSync(CLIP).size * 3) / 4));
  const warned = new Promise((resolve) => process.once('warning', resolve));
  await collect(vx.keyframes(damaged)).then(
    async () => assert.match((await warned).message, /damaged\.mp4/),
    (error) => assert.match(error.message, /damaged\.mp4/),
  );
});

test('memory stops growing over ten thousand frames and thousands of pictures', async (t) => {
  const file = manyFrames(t, 10_000);
  if (!file) {
    return;
  }
  // In a process of its own, so that other tests do not count. What is lost grows in every round; pools and the heap of
  // JavaScript grow in the first ones, and how much depends on how busy the machine is.
  const { status, out, errors } = await start(`
    (async () => {
      const count = async (iterator) => { let count = 0; for await (const item of iterator) count += 1; return count; };
      const options = { provider: 'cpu', model: args[1] };
      const counts = [];
      const resident = [];
      do {
        counts.push([
          await count(vx.detect(args[0], options)),
          await count(vx.keyframes(args[0], { size: [640, 480], maxFrames: 2000 })),
        ]);
        gc();
        resident.push(Math.round(process.memoryUsage.rss() / 1e6));
      } while (resident.length < 2 || (resident.length < 8 && resident.at(-1) - resident.at(-2) >= 8));
      console.log(JSON.stringify([counts, resident]));
    })();`, file, require('./helpers.js').SMALL.model).ended;
  assert.equal(status, 0, errors);
  const [counts, resident] = JSON.parse(out);
  for (const count of counts) {
    assert.deepEqual(count, [10_001, 2000]);
  }
  // Each picture has 0.9 MB, each record about 1 kB.
  assert.ok(resident.at(-1) - resident.at(-2) < 8, `memory grew in every round: ${resident.join(', ')} MB`);
});
