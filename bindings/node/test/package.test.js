// SPDX-License-Identifier: MIT OR Apache-2.0
// Types, installation in a project, and the programs of the manual.

'use strict';

const assert = require('node:assert/strict');
const { execFileSync, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');

const { CLIP, PACKAGE, ROOT, scratch } = require('./helpers.js');
const vx = require('..');

test('types are accepted by TypeScript and complete', (t) => {
  const compiler = path.join(PACKAGE, 'node_modules/typescript/bin/tsc');
  if (!fs.existsSync(compiler)) {
    return t.skip('TypeScript is not installed: run `npm ci --ignore-scripts`');
  }
  for (const more of [['--module', 'nodenext', '--moduleResolution', 'nodenext'], ['--module', 'commonjs', '--moduleResolution', 'node10']]) {
    const flags = ['--strict', '--noEmit', '--target', 'es2022', '--exactOptionalPropertyTypes', '--noUncheckedIndexedAccess', ...more];
    const checked = spawnSync(process.execPath, [compiler, ...flags, path.join(__dirname, 'types.ts')], { cwd: PACKAGE, encoding: 'utf8' });
    assert.equal(checked.status, 0, checked.stdout);
  }
  const declared = fs.readFileSync(path.join(PACKAGE, 'index.d.ts'), 'utf8');
  const names = [...declared.matchAll(/^export (?:class|function) (\w+)/gm)].map(([, name]) => name);
  assert.deepEqual([...new Set(names)].sort(), Object.keys(vx).sort());
});

test('records have the fields that are declared', async () => {
  const declared = fs.readFileSync(path.join(PACKAGE, 'index.d.ts'), 'utf8');
  const fieldsOf = (name) => {
    const body = new RegExp(`^export class ${name} .*?^}`, 'ms').exec(declared)[0];
    return [...body.matchAll(/^ {2}readonly (\w+)/gm)].map(([, field]) => field).sort();
  };
  const own = (object) => Object.getOwnPropertyNames(object).sort();
  for await (const record of vx.detect(CLIP, { provider: 'cpu', set: { 'max-frames': 1 } })) {
    assert.deepEqual(own(record), fieldsOf(record.type === 'frame' ? 'Frame' : 'FileSummary'));
  }
  for await (const keyframe of vx.keyframes(CLIP, { maxFrames: 1 })) {
    assert.deepEqual(own(keyframe), fieldsOf('Keyframe'));
  }
});

test('a fresh project runs the programs of the manual', (t) => {
  const project = scratch(t);
  const npm = (...args) => execFileSync('npm', [...args, '--no-audit', '--no-fund', '--offline'], { cwd: project, encoding: 'utf8' });
  npm('init', '-y');
  // The addon is compiled already.
  npm('install', '--ignore-scripts', PACKAGE);
  fs.mkdirSync(path.join(project, 'recordings'));
  fs.copyFileSync(CLIP, path.join(project, 'recordings/scenes.mp4'));
  const manual = fs.readFileSync(path.join(ROOT, 'docs/node.md'), 'utf8');
  const programs = [...manual.matchAll(/^```(js|ts)\n(.*?)^```/gms)];
  assert.ok(programs.length >= 4);
  for (const [, , program] of programs) {
    fs.writeFileSync(path.join(project, 'program.mjs'), program);
    const done = spawnSync(process.execPath, ['program.mjs'], { cwd: project, encoding: 'utf8', timeout: 120_000 });
    assert.equal(done.status, 0, `${program}\n${done.stderr}`);
    assert.ok(done.stdout.length > 0, `it prints nothing:\n${program}`);
  }
});
