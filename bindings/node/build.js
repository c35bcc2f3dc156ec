// SPDX-License-Identifier: MIT OR Apache-2.0
// Compiles the addon with cargo and puts it beside this file, as vx.node: `node build.js [--release]`.

'use strict';

const { execFileSync, spawnSync } = require('node:child_process');
const { copyFileSync, renameSync } = require('node:fs');
const path = require('node:path');

const isRelease = process.argv.includes('--release');
const cargo = process.env.CARGO || 'cargo';
const options = { cwd: __dirname, stdio: ['ignore', 'inherit', 'inherit'] };
const build = spawnSync(cargo, ['build', '--locked', ...(isRelease ? ['--release'] : [])], options);
if (build.error) {
  console.error(`vx is compiled when it is installed, and ${cargo} cannot be started (${build.error.message}): run \`make setup\` in ` +
    'the checkout, which installs what is missing');
  process.exit(1);
}
if (build.status !== 0) {
  process.exit(build.status ?? 1);
}
const metadata = execFileSync(cargo, ['metadata', '--format-version=1', '--no-deps'], { cwd: __dirname, maxBuffer: 1 << 28 });
const folder = path.join(JSON.parse(metadata).target_directory, isRelease ? 'release' : 'debug');
const library = process.platform === 'darwin' ? 'libvx_node.dylib' : 'libvx_node.so';
const addon = path.join(__dirname, 'vx.node');
// Replaced at once: a process may have the old one loaded.
copyFileSync(path.join(folder, library), `${addon}.new`);
renameSync(`${addon}.new`, addon);
