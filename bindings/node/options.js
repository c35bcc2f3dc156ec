// SPDX-License-Identifier: MIT OR Apache-2.0
// Options as the addon gets them: their types are checked here, their values there.

'use strict';

const path = require('node:path');
const { fileURLToPath } = require('node:url');

const wrong = (name, expected) => {
  throw new TypeError(`${name}: expected ${expected}`);
};

const text = (name, value) => (typeof value === 'string' ? value : wrong(name, 'a string'));
const flag = (name, value) => (typeof value === 'boolean' ? value : wrong(name, 'true or false'));
const number = (name, value) => (typeof value === 'number' ? value : wrong(name, 'a number'));

function count(name, value) {
  return Number.isInteger(value) && value >= 0 && value < 2 ** 32 ? value : wrong(name, 'a whole number from 0 to 4294967295');
}

function file(name, value) {
  if (value instanceof URL && value.protocol === 'file:') {
    return fileURLToPath(value);
  }
  return typeof value === 'string' ? value : wrong(name, 'a path, or a file: URL');
}

// Text with a unit, or a number in the unit that the command assumes.
const quantity = (expected) => (name, value) =>
  typeof value === 'string' ? value : typeof value === 'number' ? String(value) : wrong(name, expected);

const duration = quantity('seconds, or text such as "1.5s"');
const size = quantity('bytes, or text such as "800M"');

function names(name, value) {
  const list = typeof value === 'string' ? [value] : value;
  const isName = (item) => typeof item === 'string' || typeof item === 'number';
  return Array.isArray(list) && list.every(isName) ? list.map(String) : wrong(name, 'names or numbers of classes');
}

function properties(name, value) {
  const isPlain = (item) => ['string', 'number', 'bigint', 'boolean'].includes(typeof item);
  if (value === null || typeof value !== 'object' || !Object.values(value).every(isPlain)) {
    wrong(name, 'an object of properties, such as { "max-gap": "1s" }');
  }
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, String(item)]));
}

function share(name, value) {
  return Array.isArray(value) && value.length === 2 ? value.join('/') : text(name, value);
}

function sides(name, value) {
  if (!Array.isArray(value) || value.length !== 2) {
    wrong(name, '[width, height], null for one that follows from the other');
  }
  return value.map((side) => (side === null || side === undefined ? 0 : count(name, side)));
}

function isolation(name, value) {
  return flag(name, value) ? [process.execPath, path.join(__dirname, 'worker.js')] : undefined;
}

const DETECT = {
  model: file,
  labels: file,
  confidence: number,
  iou: number,
  classes: names,
  provider: text,
  cacheDir: file,
  every: duration,
  set: properties,
  output: file,
  format: text,
  resume: flag,
  retryFailed: flag,
  overwrite: flag,
  lanes: count,
  order: text,
  stopOnError: flag,
  memoryLimit: size,
  fileTimeout: duration,
  shard: share,
  probe: flag,
  cache: file,
  saveFrames: file,
  whichFrames: text,
  draw: flag,
  isolate: isolation,
};

const KEYFRAMES = {
  format: text,
  size: sides,
  maxGap: duration,
  minInterval: duration,
  maxFrames: count,
  threads: count,
  upright: flag,
};

function converted(table, options) {
  if (options === null || typeof options !== 'object') {
    wrong('options', 'an object');
  }
  const result = {};
  for (const [name, value] of Object.entries(options)) {
    if (name === 'signal') {
      continue;
    }
    if (!Object.hasOwn(table, name)) {
      throw new TypeError(`unknown option ${name}: use ${Object.keys(table).join(', ')} or signal`);
    }
    if (value !== undefined && value !== null) {
      result[name] = table[name](name, value);
    }
  }
  return result;
}

function signal(options) {
  const { signal } = options;
  if (signal !== undefined && signal !== null && !(signal instanceof AbortSignal)) {
    wrong('signal', 'an AbortSignal');
  }
  return signal ?? undefined;
}

function input(value) {
  if (value instanceof URL) {
    return value.protocol === 'file:' ? fileURLToPath(value) : value.href;
  }
  if (typeof value === 'string') {
    return value;
  }
  const isList = value !== null && typeof value === 'object' && Array.isArray(value.list);
  return isList && value.list.every((name) => typeof name === 'string')
    ? value.list
    : wrong('inputs', 'a path, a URL, { list: [...] } or an array of these');
}

module.exports = {
  // The options of `detect`, by name.
  detectOptions: (options) => converted(DETECT, options),
  keyframeOptions: (options) => converted(KEYFRAMES, options),
  signal,
  inputs: (value) => (Array.isArray(value) ? value : [value]).map(input),
  file,
};
