// SPDX-License-Identifier: MIT OR Apache-2.0
// What failed, as an exception.

'use strict';

const { camel } = require('./records.js');

// Messages name options in backticks, as the library calls them.
const inCamelCase = (text) => text.replace(/`([a-z]+(?:_[a-z]+)+)`/g, (_, name) => `\`${camel(name)}\``);

class VxError extends Error {
  constructor({ message, stage, file, remedy }) {
    super(inCamelCase(message));
    this.stage = stage;
    this.file = file ?? null;
    this.remedy = remedy === undefined || remedy === null ? null : inCamelCase(remedy);
  }
}
VxError.prototype.name = 'VxError';

const warn = (text) => process.emitWarning(inCamelCase(text), 'VxWarning');

module.exports = { VxError, warn };
