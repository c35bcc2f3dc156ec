// SPDX-License-Identifier: MIT OR Apache-2.0
// What the tests share: files, processes of their own, and the command that results are compared with.

'use strict';

const { spawn, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const http = require('node:http');
const os = require('node:os');
const path = require('node:path');

const PACKAGE = path.resolve(__dirname, '..');
const ROOT = path.resolve(PACKAGE, '../..');
const CLIP = path.join(ROOT, 'examples/media/scenes.mp4');
// Pictures, clips of several containers, rotated, grey, with alpha, with 16 bits, and some that are damaged.
const MEDIA = path.join(ROOT, 'tests/media');
const MODELS = path.join(ROOT, 'tests/models');

// Tests must not write to the user's cache.
process.env.XDG_CACHE_HOME ??= path.join(ROOT, 'target/cache');
process.env.GST_REGISTRY ??= path.join(ROOT, 'target/gst-registry-node.bin');

function scratch(t) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'vx-node-'));
  t.after(() => fs.rmSync(folder, { recursive: true, force: true }));
  return folder;
}

// Files of many kinds, one of which cannot be read.
function inputs(t) {
  const broken = path.join(scratch(t), 'broken.mp4');
  fs.writeFileSync(broken, fs.readFileSync(CLIP).subarray(0, 2000));
  const media = fs.readdirSync(MEDIA).filter((name) => !name.endsWith('.md'));
  return [CLIP, ...media.map((name) => path.join(MEDIA, name)).sort(), broken];
}

// A folder with enough files that a run lasts for a while.
function copies(t, count = 60) {
  const folder = path.join(scratch(t), 'copies');
  fs.mkdirSync(folder);
  for (let number = 0; number < count; number += 1) {
    fs.copyFileSync(CLIP, path.join(folder, `${String(number).padStart(3, '0')}.mp4`));
  }
  return folder;
}

// A file of small keyframes; skips the test where FFmpeg's command is missing.
function manyFrames(t, frames) {
  const file = path.join(scratch(t), 'many.mkv');
  const source = ['-f', 'lavfi', '-i', 'testsrc=size=64x48:rate=25', '-frames:v', String(frames)];
  const made = spawnSync('ffmpeg', ['-v', 'error', ...source, '-c:v', 'mjpeg', '-q:v', '12', file]);
  if (made.error) {
    t.skip('the command ffmpeg is missing');
    return undefined;
  }
  return file;
}

// A model that takes no time.
const SMALL = { provider: 'cpu', model: path.join(MODELS, 'pose.onnx') };

// Returns the command `vx`, as built by `make build`; skips the test where it is missing.
function command(t) {
  const built = ['release', 'debug'].map((profile) => path.join(ROOT, 'target', profile, 'vx'));
  const named = process.env.VX_COMMAND ? [process.env.VX_COMMAND] : built;
  const found = named.find((file) => fs.existsSync(file));
  if (!found) {
    t.skip('the command vx is not built: run `make build`, or set VX_COMMAND');
  }
  return found;
}

// Returns the lines of `vx detect`.
function linesOf(vx, ...args) {
  const done = spawnSync(vx, ['detect', '--quiet', ...args], { encoding: 'utf8', maxBuffer: 1 << 28 });
  if (done.status !== 0 && done.status !== 1) {
    throw new Error(done.stderr);
  }
  return done.stdout.split('\n').filter((line) => line !== '');
}

// Starts a process that runs `code`, in which `vx` is the package and `args` are what follows.
function start(code, ...args) {
  const script = `const vx = require(${JSON.stringify(PACKAGE)}); const args = process.argv.slice(1);\n${code}`;
  const child = spawn(process.execPath, ['--expose-gc', '-e', script, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let [out, errors] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text) => { out += text; });
  child.stderr.setEncoding('utf8').on('data', (text) => { errors += text; });
  const ended = new Promise((resolve) => {
    child.on('close', (status, signal) => resolve({ status, signal, out, errors, at: performance.now() }));
  });
  const printed = new Promise((resolve) => {
    child.stdout.on('data', resolve);
    child.on('close', resolve);
  });
  return { child, ended, printed };
}

// Serves `content` under every path of a server of its own; returns its address, and the paths that were asked for.
async function serve(t, content) {
  const paths = new Set();
  const server = http.createServer((request, response) => {
    paths.add(request.url);
    const range = /bytes=(\d+)-(\d*)/.exec(request.headers.range ?? '');
    const [from, to] = range ? [Number(range[1]), range[2] ? Number(range[2]) : content.length - 1] : [0, content.length - 1];
    const headers = { 'Accept-Ranges': 'bytes', 'Content-Length': to - from + 1 };
    response.writeHead(range ? 206 : 200, range ? { ...headers, 'Content-Range': `bytes ${from}-${to}/${content.length}` } : headers);
    response.end(request.method === 'HEAD' ? undefined : content.subarray(from, to + 1));
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { address: `http://127.0.0.1:${server.address().port}`, paths };
}

async function collect(iterator) {
  const records = [];
  for await (const record of iterator) {
    records.push(record);
  }
  return records;
}

// Returns how many threads of this process belong to runs, or read keyframes. Threads that ONNX Runtime and GStreamer keep have other
// names.
function threads() {
  const named = fs.readdirSync('/proc/self/task').map((task) => {
    try {
      return fs.readFileSync(`/proc/self/task/${task}/comm`, 'utf8');
    } catch {
      return '';
    }
  });
  return named.filter((name) => /^vx(noderun|bulkbin|keyframes)/.test(name)).length;
}

// Waits for a condition, at most for half a minute.
async function until(condition, what) {
  const deadline = performance.now() + 30_000;
  while (!(await condition())) {
    if (performance.now() > deadline) {
      throw new Error(`waited in vain: ${what}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

module.exports = {
  CLIP, MEDIA, MODELS, PACKAGE, ROOT, SMALL, collect, command, copies, inputs, linesOf, manyFrames, scratch, serve, start, threads, until,
};
