// SPDX-License-Identifier: MIT OR Apache-2.0
// Uses of the package that the compiler of TypeScript has to accept, and, where it says so, to refuse.

import { detect, keyframes, plan, FileSummary, Frame, VxError } from '..';
import type { Detection, Keyframe, Summary } from '..';

async function use(): Promise<void> {
  const controller = new AbortController();
  const run = detect(['a.mp4', new URL('https://example.com/b.mp4'), { list: ['c.mp4'] }], {
    classes: ['person', 3],
    every: 1.5,
    shard: [1, 4],
    signal: controller.signal,
  });
  for await (const record of run) {
    if (record.type === 'frame') {
      const frame: Frame = record;
      const found: Detection | undefined = frame.detections[0];
      const [left, top]: number[] = found?.box ?? [];
      const time: bigint | null = frame.ptsNs;
      console.log(left, top, time);
    } else {
      const done: FileSummary = record;
      const status: 'ok' | 'damaged' | 'failed' = done.status;
      console.log(status, done.seconds['total']);
    }
    if (record instanceof FileSummary) {
      console.log(record.error?.length);
    }
  }
  const summary: Summary | null = run.summary;
  const loads: number | undefined = summary?.engine?.modelLoads;
  console.log(loads, run.overview?.files.length, run.progress[0]?.share);
  for await (const picture of keyframes('a.mp4', { size: [320, null] })) {
    const keyframe: Keyframe = picture;
    const pixels: Uint8Array = keyframe.data;
    console.log(pixels.length, keyframe.planes[0]?.stride);
    break;
  }
  const { lanes }: { lanes: number } = await plan('a.mp4');
  await run.close();
  try {
    await run.next();
  } catch (error) {
    if (error instanceof VxError) {
      const stage: string = error.stage;
      console.log(stage, error.file, error.remedy, lanes);
    }
  }
}

// @ts-expect-error an option that does not exist
detect('a.mp4', { colour: 'red' });
// @ts-expect-error a value that does not exist
detect('a.mp4', { order: 'random' });
// @ts-expect-error records are read-only
void detect('a.mp4').next().then(({ value }) => { (value as Frame).width = 5; });
// @ts-expect-error only runs make frames
new Frame();

export { use };
