// SPDX-License-Identifier: MIT OR Apache-2.0
/** Objects on the keyframes of media files. The manual is docs/node.md of the project. */

/** Seconds, or text with a unit: `"1.5s"`, `"5m"`. */
export type Duration = number | string;

/** A path; a URL (http, https, file); or names of files as runs report them, which are neither patterns nor folders. */
export type Input = string | URL | { list: readonly string[] };

/** The options of `vx detect`. */
export interface DetectOptions {
  /** ONNX model; without it: the built-in person detector. */
  model?: string | URL;
  /** File with class names, one per line, or an Ultralytics data.yaml. */
  labels?: string | URL;
  /** Confidence above which a detection counts, 0 to 1. Default: that of `vx detect`. */
  confidence?: number;
  /** Overlap above which the less confident of two boxes is dropped, 0 to 1. Default: that of `vx detect`. */
  iou?: number;
  /** Names or numbers of the classes to detect. Default: all. */
  classes?: string | readonly (string | number)[];
  /** Execution provider, or the path of a plugin provider's library. Default: auto. */
  provider?: string;
  /** Folder for compiled models, which make later starts faster; `""`: none. Default: `vx` in the user's cache directory. */
  cacheDir?: string | URL;
  /** Detect on frames this far apart. Default: on all keyframes. */
  every?: Duration;
  /** Other properties of `vxbulkbin` or of an element in it: `{ "max-gap": "1s", "detector::precision": "bf16" }`. */
  set?: Readonly<Record<string, string | number | bigint | boolean>>;
  /** Output file; its extension selects the format. */
  output?: string | URL;
  /** Format of the output, whatever its extension. */
  format?: string;
  /** Continue an output; unchanged files in it are kept, and have no records in the iterator. */
  resume?: boolean;
  /** With `resume`, read files again that failed before. */
  retryFailed?: boolean;
  /** Replace an output that exists. */
  overwrite?: boolean;
  /** Number of files read at once. Default: planned. */
  lanes?: number;
  /** Order in which files are read. Default: largest-first. */
  order?: 'largest-first' | 'as-given';
  /** Start no other file after one has failed, and throw. */
  stopOnError?: boolean;
  /** Memory to plan with, in bytes or `"800M"`. Default: 80 % of what is available. */
  memoryLimit?: number | string;
  /** Time after which a file fails. */
  fileTimeout?: Duration;
  /** Read one of several shares of the files: `"3/16"` or `[3, 16]`. */
  shard?: string | readonly [number, number];
  /** Also read files in folders that are media by content. */
  probe?: boolean;
  /** Folder for results that are reused while nothing has changed. */
  cache?: string | URL;
  /** Folder for keyframes as JPEG files. */
  saveFrames?: string | URL;
  /** Keyframes to save. Default: those with detections. */
  whichFrames?: 'detections' | 'all';
  /** Draw detections into the saved keyframes. */
  draw?: boolean;
  /** Read files in separate processes; a crash costs one file. */
  isolate?: boolean;
  /** Stops the run; the iteration then throws the signal's reason. */
  signal?: AbortSignal;
}

/** One detected object. */
export interface Detection {
  /** Name of the class. */
  label: string;
  /** Number of the class in the model. */
  classId: number | null;
  /** Confidence, 0 to 1. */
  confidence: number | null;
  /** In pixels of the frame. */
  box: [left: number, top: number, width: number, height: number];
  /** In pixels of the frame, with a confidence; empty for models without keypoints. */
  keypoints: [x: number, y: number, confidence: number][];
  /** In pixels of the frame, and radians clockwise; null for upright boxes. */
  rotatedBox: [centerX: number, centerY: number, width: number, height: number, rotation: number] | null;
  /** The part of the box that the object covers; null for models without masks. */
  mask: Mask | null;
}

/** A grid over a box, row by row. */
export interface Mask {
  size: [rows: number, columns: number];
  /** Lengths of runs, the first of background, then in turn object and background. */
  counts: number[];
}

/** One frame, with what was detected on it. */
export class Frame {
  private constructor();
  readonly type: 'frame';
  /** Path or URL of the file, or a file:// URI where the path is not UTF-8. */
  readonly file: string;
  /** Presentation time of the container in nanoseconds; null where the container has none. A number would not hold all of its digits. */
  readonly ptsNs: bigint | null;
  /** The same in seconds. */
  readonly seconds: number | null;
  /** Width in pixels. */
  readonly width: number;
  /** Height in pixels. */
  readonly height: number;
  /** False for a frame between keyframes. */
  readonly isKeyframe: boolean;
  /** False for a frame that the detector did not analyse. */
  readonly isAnalysed: boolean;
  /** By falling confidence. */
  readonly detections: readonly Detection[];
  /** The line of `vx detect`, byte for byte, without its line feed. */
  readonly line: string;
  /** Returns the fields of that line. */
  toJSON(): Record<string, unknown>;
}

/** The result of a file. */
export class FileSummary {
  private constructor();
  readonly type: 'file';
  /** Path or URL of the file, or a file:// URI where the path is not UTF-8. */
  readonly file: string;
  readonly status: 'ok' | 'damaged' | 'failed';
  /** Whether the file was read to its end and nothing of it is known to be missing or damaged. */
  readonly complete: boolean;
  /** Keyframes with a record. */
  readonly keyframes: number;
  /** Keyframes in the container's index; null if it has none. */
  readonly indexedKeyframes: number | null;
  /** Frames between keyframes with a record. */
  readonly framesBetween: number;
  /** Frames that could not be decoded, or not completely. */
  readonly damagedFrames: number;
  /** Detections on all frames. */
  readonly detectionCount: number;
  /** Sizes of the model's input at which it ran, as `640x384`. */
  readonly inputSizes: readonly string[];
  /** Duration according to the container. */
  readonly durationSeconds: number | null;
  /** Time from the first to the last frame with a record. */
  readonly coveredSeconds: number | null;
  /** Length of the file; null where it cannot be accessed. */
  readonly bytes: number | null;
  /** When the file was last modified, in nanoseconds since 1970, to within 256 ns. */
  readonly modifiedNs: number | null;
  /** Bytes read. */
  readonly bytesRead: number;
  /** Bytes that a server sent; null for files. */
  readonly bytesReceived: number | null;
  /** Seconds by stage: total, open, read, decode, queued, prepare, infer and others. Stages run in parallel. */
  readonly seconds: Readonly<Record<string, number>>;
  /** Warnings, up to eight texts. */
  readonly warnings: readonly string[];
  /** Why frames may be missing or incomplete although the file was read to its end. */
  readonly problems: readonly string[];
  /** Why the first choice of execution provider was not used; null if it was. */
  readonly fallback: string | null;
  /** Why the file failed; null if it did not. */
  readonly error: string | null;
  /** Whether the result was in the cache. */
  readonly isCached: boolean;
  /** The line of `vx detect`, without its line feed. */
  readonly line: string;
  /** Returns the fields of that line. */
  toJSON(): Record<string, unknown>;
}

/** What a run is about to do. */
export interface Overview {
  /** Names of the files to read. */
  files: string[];
  /** Other names of files that are read, and the names under which these are read. */
  duplicates: { name: string; readAs: string }[];
  /** Number of pictures in folders that were left out. */
  picturesLeftOut: number;
  /** Remarks on the search for files. */
  notes: string[];
}

/** How far a file is. */
export interface FileProgress {
  file: string;
  frames: number;
  detections: number;
  /** 0 to 1. */
  share: number;
}

/** The engine of a run. */
export interface EngineReport {
  model: string;
  provider: string;
  device: string;
  precision: string;
  sessions: number;
  intraOpThreads: number;
  /** How often this process has loaded a model. Runs with the same settings at the same time share an engine. */
  modelLoads: number;
  lanes: number;
  decoderThreads: number;
}

/** How a run ended. */
export interface Summary {
  /** Files that are done. */
  files: number;
  /** Files that failed, among these. */
  failed: number;
  /** Damaged files, among these. */
  damaged: number;
  /** Files whose results were in the cache, among these. */
  cached: number;
  /** Files without a result. */
  missing: number;
  /** Frames that were passed on. */
  frames: number;
  /** Detections on these. */
  detections: number;
  /** Whether the run was stopped before all files were done. */
  isCancelled: boolean;
  /** The file that holds the results so far, if the output is not complete. */
  keptIn: string | null;
  /** The engine, if files were read in this process. */
  engine: EngineReport | null;
  /** Worker processes that were started, with `isolate`. */
  workers: number | null;
}

/** What `detect` and `keyframes` have in common. Leaving a `for await` loop, in whatever way, closes it. */
interface Source<T> extends AsyncIterableIterator<T>, AsyncDisposable {
  return(value?: unknown): Promise<IteratorResult<T, unknown>>;
  /** Stops at once, and resolves when that is done: half a second later at most, unless files are still being searched or opened. */
  close(): Promise<void>;
  /** Stops at once, and does not wait for that. The iteration ends. */
  stop(): void;
}

/** Objects on the keyframes of files. */
export interface Run extends Source<Frame | FileSummary> {}
export class Run {
  private constructor();
  /** Starts no other file and finishes those that are being read; the iteration goes on to the end. */
  finish(): void;
  /** What the run is about to do; null until the first record is there. */
  readonly overview: Overview | null;
  /** How far the files are that are being read. */
  readonly progress: readonly FileProgress[];
  /** How the run ended; null before, and where it could not start. */
  readonly summary: Summary | null;
}

/**
 * Detects objects on the keyframes of files, folders (searched recursively), patterns (`*`, `?`, `[…]`, `**`) and URLs. Starts at once, in
 * the background.
 *
 * A file that cannot be read does not end the run: its summary has the status `failed`.
 *
 * @throws TypeError for options of wrong types. VxError for wrong values, and during iteration for wrong inputs and outputs and where the
 * run cannot continue.
 */
export function detect(inputs: Input | readonly Input[], options?: DetectOptions): Run;

/** What a run would read, with which model and how many threads. */
export interface Plan {
  files: string[];
  bytes: number;
  model: string;
  layout: string;
  provider: string;
  device: string;
  precision: string;
  /** Files read side by side. */
  lanes: number;
  /** Bytes of memory to plan with; null where that is not known. */
  memory: number | null;
}

/** Finds the files and loads the model, but reads no file and writes nothing. */
export function plan(inputs: Input | readonly Input[], options?: DetectOptions): Promise<Plan>;

/** How keyframes are read. */
export interface KeyframeOptions {
  /** `"rgb"`, `"bgr"`, FFmpeg's name of a pixel format, or `"native"`: as decoded. Default: rgb. */
  format?: string;
  /** In pixels; null for a side that follows from the other. Default: as stored. */
  size?: readonly [width: number | null, height: number | null];
  /** Also read frames between keyframes that are farther apart than this. */
  maxGap?: Duration;
  /** Skip keyframes that are closer than this to the one before. */
  minInterval?: Duration;
  /** Most frames to read. */
  maxFrames?: number;
  /** Decoder threads. Default: one for each core, at most eight. */
  threads?: number;
  /** Apply the container's rotation. Default: true. */
  upright?: boolean;
  /** Ends reading; the iteration then throws the signal's reason. */
  signal?: AbortSignal;
}

/** One plane of a picture. */
export interface Plane {
  /** FFmpeg's memory, without a copy: `stride` bytes for each row. Write to a `native` picture only after copying it. */
  data: Uint8Array;
  rows: number;
  /** Samples, or groups of interleaved samples, in a row. */
  columns: number;
  /** Bytes from one row to the next. */
  stride: number;
  /** Bytes from one column to the next. */
  step: number;
}

/** A keyframe as a picture. */
export class Keyframe {
  private constructor();
  /** Presentation time of the container in nanoseconds; null where the container has none. */
  readonly ptsNs: bigint | null;
  /** The same in seconds. */
  readonly seconds: number | null;
  /** Duration of the frame itself in nanoseconds. */
  readonly durationNs: bigint | null;
  readonly width: number;
  readonly height: number;
  /** FFmpeg's name of the pixel format. */
  readonly format: string;
  /** Bytes of a sample: 1 or 2. */
  readonly sampleBytes: number;
  /** False for a frame between keyframes. */
  readonly isKeyframe: boolean;
  /** Whether the decoder concealed errors in the picture, or parts of it are missing. */
  readonly isCorrupt: boolean;
  /** Width of a pixel to its height. */
  readonly pixelAspectRatio: [number, number];
  /** Bytes of its packet; 0 for a frame between keyframes. */
  readonly packetBytes: number;
  readonly planes: readonly Plane[];
  /** The bytes of a picture with one plane, rows without padding; copied only where the rows are padded. */
  get data(): Uint8Array;
}

/** A file that is being read. */
export interface FileInfo {
  container: string;
  codec: string;
  durationNs: bigint | null;
  frameRate: [number, number] | null;
  isInterlaced: boolean;
  title: string | null;
}

/** The keyframes of a file, in order of presentation. */
export interface Keyframes extends Source<Keyframe> {}
export class Keyframes {
  private constructor();
  readonly path: string;
  /** The file; null until the first keyframe is there. */
  readonly info: FileInfo | null;
}

/** Reads the keyframes of a file as pictures. Those that cannot be decoded are left out, with a warning at the end. */
export function keyframes(path: string | URL, options?: KeyframeOptions): Keyframes;

/** What failed. */
export class VxError extends Error {
  private constructor();
  readonly stage: 'settings' | 'inputs' | 'output' | 'cache' | 'pictures' | 'model' | 'reading';
  /** The file or folder that it is about. */
  readonly file: string | null;
  /** What to do, where the message does not say it. */
  readonly remedy: string | null;
}
