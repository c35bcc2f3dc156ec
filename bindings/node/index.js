// SPDX-License-Identifier: MIT OR Apache-2.0
// Objects on the keyframes of media files. index.d.ts describes everything that is exported here.

'use strict';

const { VxError, warn } = require('./errors.js');
const native = require('./native.js');
const options = require('./options.js');
const { Frame, FileSummary, seconds } = require('./records.js');
const { Source } = require('./source.js');

// Returns what the addon has made; a failure is thrown.
function made(value, type) {
  if (value instanceof type) {
    return value;
  }
  throw new VxError(value);
}

class Run extends Source {
  #native;
  overview = null;
  progress = [];
  summary = null;

  constructor(run, signal) {
    super(run, signal);
    this.#native = run;
  }

  finish() {
    this.#native.finish();
  }

  _take({ records, warnings, overview, progress, summary }) {
    warnings.forEach(warn);
    this.overview = overview ?? this.overview;
    this.progress = progress ?? this.progress;
    this.summary = summary ?? this.summary;
    return records.map(({ line, ptsNs, isFile, isCached }) =>
      isFile ? new FileSummary(line, isCached) : new Frame(line, ptsNs ?? null),
    );
  }
}

class Keyframe {
  constructor(fields) {
    const { ptsNs = null, durationNs = null, planes, ...others } = fields;
    Object.assign(this, { ptsNs, seconds: seconds(ptsNs), durationNs }, others, { planes });
  }

  get data() {
    if (this.planes.length !== 1) {
      throw new TypeError(`${this.format} has ${this.planes.length} planes: use \`planes\`, or format: 'rgb'`);
    }
    const { data, rows, columns, stride, step } = this.planes[0];
    const rowBytes = columns * step;
    if (stride === rowBytes) {
      return data.subarray(0, rows * rowBytes);
    }
    const packed = new Uint8Array(rows * rowBytes);
    for (let row = 0; row < rows; row += 1) {
      packed.set(data.subarray(row * stride, row * stride + rowBytes), row * rowBytes);
    }
    return packed;
  }
}

class Keyframes extends Source {
  path;
  info = null;

  constructor(keyframes, signal, path) {
    super(keyframes, signal);
    this.path = path;
  }

  _take({ keyframe, info, problems }) {
    if (problems.length > 0) {
      warn(`${this.path}: ${problems.join('; ')}`);
    }
    this.info = info ?? this.info;
    return keyframe ? [new Keyframe(keyframe)] : [];
  }
}

function detect(inputs, settings = {}) {
  const signal = options.signal(settings);
  const run = native.detect(options.inputs(inputs), options.detectOptions(settings));
  return new Run(made(run, native.NativeRun), signal);
}

async function plan(inputs, settings = {}) {
  const { plan, failure } = await native.plan(options.inputs(inputs), options.detectOptions(settings));
  if (failure) {
    throw new VxError(failure);
  }
  return plan;
}

function keyframes(path, settings = {}) {
  const signal = options.signal(settings);
  const name = path instanceof URL && path.protocol !== 'file:' ? path.href : options.file('path', path);
  const reader = native.keyframes(name, options.keyframeOptions(settings));
  return new Keyframes(made(reader, native.NativeKeyframes), signal, name);
}

module.exports = { detect, keyframes, plan, FileSummary, Frame, Keyframe, Keyframes, Run, VxError };
