// SPDX-License-Identifier: MIT OR Apache-2.0
//! Properties of this machine that affect the choice of a provider: its processor and its graphics devices.
//!
//! Plain functions, any thread.

use std::path::Path;

use once_cell::sync::Lazy;

/// Properties of the processor. OpenVINO supports every x86-64 processor, but its plugin provider only those of Intel, and in
/// 32-bit floats it is not faster than the CPU provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Processor {
    pub is_intel: bool,
    /// Whether it has instructions for bf16.
    pub has_bf16: bool,
    /// Whether it has instructions for fp16.
    pub has_fp16: bool,
    /// Whether it has instructions that multiply unsigned by signed bytes and add in 32 bits (VNNI).
    pub has_vnni: bool,
}

/// Returns the properties of this machine's processor, as Linux reports them; all false on other systems.
pub(crate) fn processor() -> Processor {
    static PROCESSOR: Lazy<Processor> =
        Lazy::new(|| std::fs::read_to_string("/proc/cpuinfo").map(|text| parse_processor(&text)).unwrap_or_default());
    *PROCESSOR
}

/// Returns what code that was generated for this processor depends on: its name and its instructions. Empty on systems other than
/// Linux.
pub(crate) fn processor_name() -> &'static str {
    static NAME: Lazy<String> = Lazy::new(|| {
        let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let first = text.split("\n\n").next().unwrap_or_default();
        let is_kept =
            |line: &&str| ["vendor_id", "model name", "flags", "Features"].iter().any(|name| line.starts_with(name));
        first.lines().filter(is_kept).collect::<Vec<_>>().join("\n")
    });
    &NAME
}

fn parse_processor(cpuinfo: &str) -> Processor {
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or("", |(_, value)| value.trim())
    };
    let flags = field("flags");
    let has = |flag: &str| flags.split_whitespace().any(|found| found == flag);
    Processor {
        is_intel: field("vendor_id") == "GenuineIntel",
        has_bf16: has("amx_bf16") || has("avx512_bf16"),
        has_fp16: has("avx512_fp16") || has("amx_fp16"),
        has_vnni: has("avx512_vnni") || has("avx_vnni"),
    }
}

/// Whether an NVIDIA driver is present. True on systems other than Linux, where this is unknown, so that CUDA is tried.
pub(super) fn has_nvidia() -> bool {
    const DEVICES: [&str; 4] = ["/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/nvhost-gpu"];
    !cfg!(target_os = "linux") || DEVICES.iter().any(|device| Path::new(device).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_recognised_by_vendor_and_flags() {
        let xeon = "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu avx512_bf16 sse\n";
        assert_eq!(parse_processor(xeon), Processor { is_intel: true, has_bf16: true, ..Processor::default() });
        assert_eq!(parse_processor("vendor_id : AuthenticAMD\nflags : fpu\n"), Processor::default());
        assert!(parse_processor("vendor_id : AuthenticAMD\nflags : fpu avx512_vnni\n").has_vnni);
        assert_eq!(parse_processor(""), Processor::default());
    }
}
