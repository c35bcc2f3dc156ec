// SPDX-License-Identifier: MIT OR Apache-2.0
// Loads the addon, passes it the folders of ONNX Runtime, and stops its runs when the process exits.

'use strict';

const path = require('node:path');

// Longest wait for runs at the end of the process, in milliseconds.
const EXIT_TIMEOUT = 500;

const native = load();
native.addLibraryDirs([path.join(__dirname, 'lib')]);
process.on('exit', () => native.closeAll(EXIT_TIMEOUT));

function load() {
  try {
    return require('./vx.node');
  } catch (error) {
    const isMissing = error.code === 'MODULE_NOT_FOUND';
    const remedy = isMissing
      ? `the addon is not compiled: run \`npm run build\` in ${__dirname}`
      : `the addon cannot be loaded (${error.message}): it links to FFmpeg and GStreamer of the system that it was compiled on; run ` +
        `\`npm run build\` in ${__dirname}`;
    throw new Error(`vx: ${remedy}`, { cause: error });
  }
}

module.exports = native;
