// SPDX-License-Identifier: MIT OR Apache-2.0
// The records of a run. Each has the fields of its line of `vx detect`, with the names of JavaScript.

'use strict';

const camel = (name) => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());

const withCamelNames = (fields) => Object.fromEntries(Object.entries(fields).map(([name, value]) => [camel(name), value]));

const seconds = (ns) => (ns === null ? null : Number(ns) / 1e9);

class Frame {
  type = 'frame';

  constructor(line, ptsNs) {
    const fields = JSON.parse(line);
    this.file = fields.file ?? '';
    this.ptsNs = ptsNs;
    this.seconds = seconds(ptsNs);
    this.width = fields.width;
    this.height = fields.height;
    this.isKeyframe = fields.keyframe ?? true;
    this.isAnalysed = fields.looked ?? true;
    this.detections = fields.detections.map((found) => ({
      label: found.label,
      classId: found.class_id,
      confidence: found.confidence,
      box: found.box,
      keypoints: found.keypoints ?? [],
      rotatedBox: found.rotated_box ?? null,
      mask: found.mask ?? null,
    }));
    Object.defineProperty(this, 'line', { value: line });
  }

  toJSON() {
    return JSON.parse(this.line);
  }
}

class FileSummary {
  type = 'file';

  constructor(line, isCached) {
    const fields = JSON.parse(line);
    delete fields.schema;
    Object.assign(this, { inputSizes: [], modifiedNs: null, bytesReceived: null, warnings: [], problems: [], fallback: null });
    Object.assign(this, withCamelNames(fields));
    this.seconds = withCamelNames(fields.seconds);
    this.error = fields.error?.message ?? null;
    this.isCached = isCached;
    Object.defineProperty(this, 'line', { value: line });
  }

  toJSON() {
    return JSON.parse(this.line);
  }
}

module.exports = { Frame, FileSummary, camel, seconds };
