//! Inputs that nobody would write: a corpus and what seeded mutation makes of it.
//!
//! Runs on the stable toolchain, without knowledge of which branches an input takes. `PGRELAY_FUZZ_SECONDS` makes a run longer.

use std::time::Duration;

use tokio::time::Instant;

/// Mutated inputs of a run without further wishes.
const RUNS: u64 = 20_000;
/// Longer inputs are cut.
const BYTES_MAX: usize = 16 * 1024;
/// What parsers stumble over.
const WORDS: [&[u8]; 24] = [
    b"\0",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"{}",
    b"[]",
    b"[[[[[[[[[[",
    b"null",
    b"-0",
    b"1e400",
    b"18446744073709551616",
    b",",
    b".",
    b"=",
    b"(",
    b")",
    b"not.",
    b"in.(",
    b"\xff\xfe",
    b"\xe2\x80\xa8",
    b"%",
    b":",
    b"'",
];

/// SplitMix64: a run is its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap()
    }
}

/// Hands `target` every line of `corpus` (written as byte strings of Rust are) and many mutations of them. A panic of it is
/// reported with the input that brought it about, to be added to the corpus.
///
/// # Panics
/// When `target` does, or when the corpus is empty.
pub fn fuzz(corpus: &str, target: impl Fn(&[u8]) + std::panic::RefUnwindSafe) {
    let lines = corpus.lines().filter(|line| !line.starts_with('#'));
    let seeds: Vec<Vec<u8>> = lines.map(unescape).collect();
    assert!(!seeds.is_empty(), "the corpus is empty");
    let check = |input: &[u8]| {
        let started = Instant::now();
        if let Err(panic) = std::panic::catch_unwind(|| target(input)) {
            eprintln!("the input was: {}", input.escape_ascii());
            std::panic::resume_unwind(panic);
        }
        // Far beyond what any input of this size may take, even here.
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "took {:?}: {}",
            started.elapsed(),
            input.escape_ascii()
        );
    };
    seeds.iter().for_each(|seed| check(seed));
    let seconds = seconds();
    let (start, mut run) = (Instant::now(), 0);
    while run < RUNS || start.elapsed() < seconds {
        check(&mutated(&seeds, &mut Random(run)));
        run += 1;
    }
    println!("{} inputs and {run} mutations of them", seeds.len());
}

/// One input with some things done to it.
fn mutated(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(6) {
        let at = random.below(input.len() + 1);
        let end = at + random.below(input.len() + 1 - at).min(64);
        match random.below(8) {
            0 => drop(input.drain(at..end)),
            1 => {
                let again = input[at..end].repeat(1 + random.below(40));
                input.splice(at..at, again);
            }
            2 => {
                let word = WORDS[random.below(WORDS.len())];
                input.splice(at..at, word.iter().copied());
            }
            3 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len() + 1);
                input.splice(at..end, other[from..].iter().copied());
            }
            4 if at < input.len() => input[at] ^= 1 << random.below(8),
            5 if at < input.len() => input[at] = u8::try_from(random.below(256)).unwrap(),
            6 => input.truncate(at),
            _ => input[at..end].reverse(),
        }
    }
    input.truncate(BYTES_MAX);
    input
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test's environment, not the product's"
)]
fn seconds() -> Duration {
    let text = std::env::var("PGRELAY_FUZZ_SECONDS").unwrap_or_default();
    Duration::from_secs(text.parse().unwrap_or(0))
}

/// The bytes of a line of a corpus.
fn unescape(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = line.as_bytes();
    while let Some((&first, mut after)) = rest.split_first() {
        let byte = match (first, after.first().copied()) {
            (b'\\', Some(b'x')) => {
                let text = std::str::from_utf8(&after[1..3]).unwrap();
                after = &after[3..];
                u8::from_str_radix(text, 16).unwrap()
            }
            (b'\\', Some(letter)) => {
                after = &after[1..];
                match letter {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    other => other,
                }
            }
            _ => first,
        };
        bytes.push(byte);
        rest = after;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        for input in [&b"a\\b\"'\n\0\xff"[..], b"", "\u{2028}".as_bytes()] {
            assert_eq!(unescape(&input.escape_ascii().to_string()), input);
        }
    }

    #[test]
    fn a_panic_is_found() {
        let found = std::panic::catch_unwind(|| {
            fuzz("{\"a\":1}", |input| assert!(!input.contains(&0xff)));
        });
        assert!(found.is_err());
    }
}
