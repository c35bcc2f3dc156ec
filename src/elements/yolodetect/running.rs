//! Properties by which a user says how the model is to be run.

use gst::glib;

use crate::detect;

/// Number format of the arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVxPrecision")]
pub enum Precision {
    /// The provider's best.
    #[default]
    #[enum_value(name = "Auto: the fastest that keeps accuracy", nick = "auto")]
    Auto,
    /// 32-bit floats.
    #[enum_value(name = "32-bit floats", nick = "fp32")]
    Fp32,
    /// 16-bit brain floats.
    #[enum_value(name = "16-bit brain floats", nick = "bf16")]
    Bf16,
    /// 16-bit floats.
    #[enum_value(name = "16-bit floats", nick = "fp16")]
    Fp16,
}

impl From<Precision> for detect::Precision {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::Auto => Self::Auto,
            Precision::Fp32 => Self::Fp32,
            Precision::Bf16 => Self::Bf16,
            Precision::Fp16 => Self::Fp16,
        }
    }
}

/// What automatic numbers of sessions and threads are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVxOptimizeFor")]
pub enum OptimizeFor {
    /// Throughput, which is what keyframes of whole files want.
    #[default]
    #[enum_value(name = "Auto: as throughput", nick = "auto")]
    Auto,
    /// Most frames in a time.
    #[enum_value(name = "Throughput: a session for each core", nick = "throughput")]
    Throughput,
    /// Each frame soonest.
    #[enum_value(name = "Latency: one session with all cores", nick = "latency")]
    Latency,
}

impl From<OptimizeFor> for detect::OptimizeFor {
    fn from(goal: OptimizeFor) -> Self {
        match goal {
            OptimizeFor::Auto | OptimizeFor::Throughput => Self::Throughput,
            OptimizeFor::Latency => Self::Latency,
        }
    }
}
