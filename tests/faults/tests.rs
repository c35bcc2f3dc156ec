// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests the faults: the effect of each on a good file, and the same result for the same seed.

use super::*;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

const CONTAINERS: [Container; 6] = [
    Container::Mp4,
    Container::FragmentedMp4,
    Container::Matroska,
    Container::TransportStream,
    Container::Flv,
    Container::Avi,
];

/// The number of seeds that a test tries with each file.
const SEEDS: u64 = 400;

/// A good file: its container, the suffix of its name and its bytes.
struct Sample {
    container: Container,
    suffix: &'static str,
    bytes: Vec<u8>,
}

/// Creates a short file with the `ffmpeg` command, if it exists.
fn encoded(suffix: &str, options: &str, number: usize) -> Option<Vec<u8>> {
    let name = format!("faults-{}-{number}.{suffix}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let inputs = "-f lavfi -i testsrc2=size=160x120:rate=25 -f lavfi -i sine -t 4";
    let status = Command::new("ffmpeg")
        .args("-nostdin -loglevel error -y -threads 1".split(' '))
        .args(inputs.split(' '))
        .args("-pix_fmt yuv420p -g 25".split(' '))
        .args(options.split(' '))
        .arg(&path)
        .status();
    let bytes = status.ok().filter(|status| status.success()).and(std::fs::read(&path).ok());
    let _ = std::fs::remove_file(path);
    bytes
}

/// Returns the good files, or none without an `ffmpeg` command.
fn samples() -> &'static [Sample] {
    const FRAGMENTS: &str = "-c:v libx264 -movflags frag_keyframe+empty_moov";
    const SHORT_FRAGMENTS: &str = "-c:v libx264 -frag_duration 400000 -movflags empty_moov+default_base_moof";
    static SAMPLES: OnceLock<Vec<Sample>> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let kinds = [
            (Container::Mp4, "mp4", "-c:v libx264"),
            (Container::Mp4, "mp4", "-c:v libx264 -movflags faststart"),
            (Container::FragmentedMp4, "mp4", FRAGMENTS),
            (Container::FragmentedMp4, "mp4", SHORT_FRAGMENTS),
            (Container::Matroska, "mkv", "-c:v libx264 -cluster_time_limit 500"),
            (Container::Matroska, "webm", "-c:v libvpx-vp9 -b:v 150k -cpu-used 8"),
            (Container::TransportStream, "ts", "-c:v libx264"),
            (Container::Flv, "flv", "-c:v libx264 -ar 44100"),
            (Container::Avi, "avi", "-c:v mpeg4 -b:v 200k"),
        ];
        let mut made = Vec::new();
        for (number, (container, suffix, options)) in kinds.into_iter().enumerate() {
            match encoded(suffix, options, number) {
                Some(bytes) => made.push(Sample { container, suffix, bytes }),
                None => eprintln!("left out: ffmpeg makes no {suffix} with {options}"),
            }
        }
        made
    })
}

#[test]
fn same_seed_gives_same_bytes() {
    for sample in samples() {
        for seed in 0..50 {
            let first = faulty(sample.container, &sample.bytes, seed);
            assert!(first == faulty(sample.container, &sample.bytes, seed), "seed {seed}");
        }
    }
}

#[test]
fn every_fault_is_selected_by_some_seed() {
    for container in CONTAINERS {
        let mut descriptions = String::new();
        let mut tried = false;
        for sample in samples().iter().filter(|sample| sample.container == container) {
            tried = true;
            for seed in 0..SEEDS {
                let (_, description) = faulty(container, &sample.bytes, seed);
                descriptions += &format!("; {description}\n");
            }
        }
        for (name, _) in faults_of(container) {
            let reached = descriptions.contains(&format!("; {name} ("));
            assert!(reached || !tried, "{container:?}: {name}");
        }
    }
}

#[test]
fn results_differ_and_stay_small() {
    for sample in samples() {
        for seed in 0..SEEDS {
            let (made, description) = faulty(sample.container, &sample.bytes, seed);
            assert!(made != sample.bytes, "seed {seed}: {description}");
            assert!(!description.starts_with("unchanged"), "seed {seed}: {description}");
            assert!(made.len() <= GROWTH_LIMIT * sample.bytes.len(), "{description}");
        }
    }
}

#[test]
fn input_without_structure_is_unchanged() {
    let inputs = [vec![], vec![0], vec![0; 7], vec![0xFF; 1000], vec![0x47; 187]];
    for container in CONTAINERS {
        for (input, seed) in inputs.iter().flat_map(|input| (0..100).map(move |seed| (input, seed))) {
            let (made, description) = faulty(container, input, seed);
            assert!(&made == input, "{container:?} seed {seed}: {description}");
            assert!(description.starts_with("unchanged"), "{container:?} seed {seed}: {description}");
        }
    }
}

#[test]
fn truncated_input_does_not_panic() {
    for sample in samples() {
        let len = sample.bytes.len();
        let ends = (0..600).chain((0..60).map(|step| len * step / 60)).chain(len - 60..len);
        for (seed, end) in ends.enumerate() {
            faulty(sample.container, &sample.bytes[..end], seed as u64);
        }
    }
}

#[test]
fn faulty_and_foreign_input_does_not_panic() {
    for sample in samples() {
        let mut bytes = sample.bytes.clone();
        for seed in 0..150 {
            let (made, _) = faulty(sample.container, &bytes, seed);
            let fits = made.len() > 1000 && made.len() < 4 * sample.bytes.len();
            bytes = if fits && seed % 10 != 0 { made } else { sample.bytes.clone() };
            for container in CONTAINERS {
                faulty(container, &bytes, seed);
            }
        }
    }
}

#[test]
fn damaged_fields_do_not_panic() {
    for sample in samples() {
        let mut draw = Draw::new(1, usize::MAX);
        for seed in 0..300 {
            let mut bytes = sample.bytes.clone();
            for _ in 0..40 {
                let at = draw.below(bytes.len().min(4000));
                bytes[at] = draw.next() as u8;
            }
            faulty(sample.container, &bytes, seed);
        }
    }
}

/// Counts the packets that `ffprobe` finds in a file.
fn packet_count(bytes: &[u8], suffix: &str) -> usize {
    let name = format!("faults-{}-probe.{suffix}", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, bytes).expect("the temporary folder takes a file");
    let output = Command::new("ffprobe")
        .args("-v quiet -show_entries packet=pts -of csv".split(' '))
        .arg(&path)
        .stderr(Stdio::null())
        .output()
        .expect("the ffprobe command runs");
    let _ = std::fs::remove_file(path);
    output.stdout.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).count()
}

#[test]
#[ignore = "runs ffprobe some hundred times"]
fn most_results_still_give_packets() {
    const TRIES: u64 = 60;
    for sample in samples() {
        let mut with_packets = 0;
        for seed in 0..TRIES {
            let (made, description) = faulty(sample.container, &sample.bytes, seed);
            let count = packet_count(&made, sample.suffix);
            with_packets += u64::from(count > 0);
            println!("{:?} seed {seed}: {count} packets, {description}", sample.container);
        }
        println!("{:?} {}: {with_packets} of {TRIES}", sample.container, sample.suffix);
        assert!(with_packets * 2 > TRIES, "{:?}: {with_packets}", sample.container);
    }
}

#[test]
pub(super) fn section_crc_has_the_check_value() {
    // The check value of CRC-32/MPEG-2 in common CRC catalogues.
    assert_eq!(transport_stream::section_crc(b"123456789"), 0x0376_E6E7);
}
