// SPDX-License-Identifier: MIT OR Apache-2.0
// Prints how fast records arrive, how late a timer of 10 ms is meanwhile, and how much memory is used: `node bench.js FILE…`. The model may
// be set in VX_MODEL. The first line is the timer alone.

'use strict';

const { detect } = require('.');

const INTERVAL = 10;
const milliseconds = (value) => `${value.toFixed(1)} ms`;

// Measures how late the timer is while `work` is waited for.
async function lateness(work) {
  const late = [];
  let due = performance.now() + INTERVAL;
  const timer = setInterval(() => {
    late.push(performance.now() - due);
    due = performance.now() + INTERVAL;
  }, INTERVAL);
  const result = await work();
  clearInterval(timer);
  late.sort((a, b) => a - b);
  const at = (share) => milliseconds(late[Math.floor((late.length - 1) * share)]);
  console.log(`timer: median ${at(0.5)} late, 99 % ${at(0.99)}, at most ${at(1)}, ${late.length} times`);
  return result;
}

async function main(files) {
  await lateness(() => new Promise((resolve) => setTimeout(resolve, 3000)));
  const started = performance.now();
  let [records, first] = [0, 0];
  const run = detect(files, { provider: 'cpu', model: process.env.VX_MODEL });
  await lateness(async () => {
    for await (const record of run) {
      records += record.type === 'frame' ? 1 : 0;
      first ||= performance.now() - started;
    }
  });
  const seconds = (performance.now() - started) / 1000;
  const memory = Math.round(process.memoryUsage.rss() / 1e6);
  console.log(`${records} frames in ${seconds.toFixed(1)} s (${(records / seconds).toFixed(0)}/s), first after ${milliseconds(first)}, ${memory} MB`);
}

main(process.argv.slice(2));
