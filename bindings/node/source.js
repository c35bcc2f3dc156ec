// SPDX-License-Identifier: MIT OR Apache-2.0
// An asynchronous iterator over the answers of a thread. Subclasses say what an answer contains.
//
// One request is made at a time, and only for a consumer that waits, so that a slow consumer slows the thread down. `stop` and the
// signal end every wait.

'use strict';

const { VxError } = require('./errors.js');

class Source {
  #native;
  // What was received and not yet passed on.
  #ready = [];
  // What ends the iteration with an exception, once.
  #failures = [];
  // Whether the iteration ends when nothing is ready.
  #isOver = false;
  // Whether the thread answers no more.
  #hasEnded = false;
  // The request that is being answered.
  #request = null;
  // Ends the wait of the consumer.
  #wake = () => {};
  // The last call of `next`; calls wait for each other.
  #last = Promise.resolve();
  #forgetSignal = () => {};

  constructor(native, signal) {
    this.#native = native;
    if (signal?.aborted) {
      this.#abort(signal.reason);
    } else if (signal) {
      // The signal may live longer than the iterator, and must not keep it.
      const iterator = new WeakRef(this);
      const listener = () => iterator.deref()?.#abort(signal.reason);
      signal.addEventListener('abort', listener, { once: true });
      this.#forgetSignal = () => signal.removeEventListener('abort', listener);
    }
  }

  // Takes what the answer contains, and returns its records.
  _take(_answer) {
    throw new Error('a subclass says what an answer contains');
  }

  next() {
    const result = this.#last.then(() => this.#step());
    this.#last = result.catch(() => {});
    return result;
  }

  async return(value) {
    await this.close();
    return { value, done: true };
  }

  // Stops, and waits for the end.
  async close() {
    this.stop();
    await this.#drain();
    this.#throwFailure();
  }

  // Stops, and does not wait. The iteration ends.
  stop() {
    this.#ready = [];
    this.#isOver = true;
    if (!this.#hasEnded) {
      this.#native.stop();
    }
    this.#wake();
    // The last answer says how it has ended.
    void this.#drain();
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  async [Symbol.asyncDispose]() {
    await this.close();
  }

  async #step() {
    for (;;) {
      if (this.#ready.length > 0) {
        return { value: this.#ready.shift(), done: false };
      }
      if (this.#isOver) {
        this.#throwFailure();
        return { value: undefined, done: true };
      }
      const received = this.#receive();
      await Promise.race([received, new Promise((resolve) => { this.#wake = resolve; })]);
    }
  }

  #throwFailure() {
    const failures = this.#failures.splice(0);
    if (failures.length > 0) {
      throw failures[0];
    }
  }

  #abort(reason) {
    this.#failures.unshift(reason);
    this.stop();
  }

  async #drain() {
    while (!this.#hasEnded) {
      await this.#receive();
    }
  }

  // Receives an answer. Never rejects.
  #receive() {
    this.#request ??= this.#native.next().then(
      (answer) => {
        this.#request = null;
        const records = this._take(answer);
        if (!this.#isOver) {
          this.#ready.push(...records);
        }
        if (answer.failure) {
          this.#failures.push(new VxError(answer.failure));
        }
        if (answer.isLast) {
          this.#end();
        }
      },
      (error) => {
        this.#failures.push(error);
        this.#end();
      },
    );
    return this.#request;
  }

  #end() {
    this.#request = null;
    this.#isOver = true;
    this.#hasEnded = true;
    this.#forgetSignal();
  }
}

module.exports = { Source };
