// SPDX-License-Identifier: MIT OR Apache-2.0
//! Durations and sizes with units, as text.

use std::time::Duration;

/// Splits `text` into its number and its unit.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let digits = text.trim_end_matches(|unit: char| unit.is_alphabetic()).len();
    (text[..digits].trim_end(), &text[digits..])
}

/// Parses a size in bytes: `800M`, `1.5GiB`. K, M, G and T are powers of 1024.
///
/// # Errors
/// What is wrong with the text.
pub fn size(text: &str) -> Result<u64, String> {
    let (digits, unit) = split(text);
    let shift = match unit.to_ascii_uppercase().trim_end_matches('B').trim_end_matches('I') {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(format!("unknown unit {unit}: use K, M, G or T")),
    };
    let number: f64 = digits.parse().map_err(|_| "expected a number followed by K, M, G or T".to_owned())?;
    let bytes = number * (1_u64 << shift) as f64;
    if (1.0..1e18).contains(&bytes) { Ok(bytes as u64) } else { Err("out of range".to_owned()) }
}

/// Parses a duration: `90s`, `1.5m`, `500ms`; without a unit in seconds.
///
/// # Errors
/// What is wrong with the text.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (digits, unit) = split(text);
    let seconds = match unit {
        "ns" => 1e-9,
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "" | "s" | "sec" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        _ => return Err(format!("unknown unit {unit}: use ns, us, ms, s, m, h or d")),
    };
    let number: f64 =
        digits.parse().map_err(|_| "expected a number followed by ns, us, ms, s, m, h or d".to_owned())?;
    match Duration::try_from_secs_f64(number * seconds) {
        // GStreamer counts nanoseconds in 64 bits.
        Ok(duration) if !duration.is_zero() && duration.as_secs() < u64::MAX / 1_000_000_000 => Ok(duration),
        _ => Err("out of range: it must be more than 0".to_owned()),
    }
}

/// Converts the value of a property to one that GStreamer reads: a duration or a size with a unit to nanoseconds or bytes, for
/// properties that count these. All other values are returned unchanged.
///
/// # Errors
/// What is wrong with the text.
pub(super) fn plain(property: &str, value: &str) -> Result<String, String> {
    let has_unit = value.ends_with(char::is_alphabetic) && value.starts_with(|first: char| first.is_ascii_digit());
    Ok(match property {
        _ if !has_unit => value.to_owned(),
        "min-interval" | "max-gap" | "io-timeout" | "file-timeout" | "load-timeout" => {
            duration(value)?.as_nanos().to_string()
        }
        "memory-limit" | "spool-limit" => size(value)?.to_string(),
        _ => value.to_owned(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        assert_eq!(size("800M").unwrap(), 800 << 20);
        assert_eq!(size("1.5GiB").unwrap(), 3 << 29);
        assert_eq!(size("4g").unwrap(), 4 << 30);
        assert_eq!(size("123").unwrap(), 123);
        for wrong in ["", "G", "1X", "-1", "0", "nan", "1e30"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, ms) in
            [("1.5", 1500), ("1.5s", 1500), ("2m", 120_000), ("250ms", 250), ("1 h", 3_600_000), ("3min", 180_000)]
        {
            assert_eq!(duration(text).unwrap(), Duration::from_millis(ms), "{text}");
        }
        for wrong in ["", "0", "-1", "x", "inf", "nan", "1y", "s", "1e30d", "0.1ns"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn units_are_for_properties_that_count_them() {
        assert_eq!(plain("max-gap", "1s").unwrap(), "1000000000");
        assert_eq!(plain("max-gap", "17").unwrap(), "17");
        assert_eq!(plain("spool-limit", "2M").unwrap(), "2097152");
        assert_eq!(plain("hardware-device", "0s").unwrap(), "0s");
        assert!(plain("io-timeout", "1y").is_err());
    }
}
