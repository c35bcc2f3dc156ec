// SPDX-License-Identifier: MIT OR Apache-2.0
//! Options of the linker for addons of Node.js.

fn main() {
    napi_build::setup();
}
