// SPDX-License-Identifier: MIT OR Apache-2.0
// A worker process of a run with `isolate`; standard input is the socket to its supervisor.

'use strict';

// The supervisor ends its workers, not the terminal.
process.on('SIGINT', () => {});

const native = require('./native.js');

try {
  native.serveWorker();
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
