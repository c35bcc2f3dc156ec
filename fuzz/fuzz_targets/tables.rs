// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes `gstvx::fuzzing::tables`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| gstvx::fuzzing::run("tables", input));
