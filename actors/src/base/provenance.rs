//! Where a refresh token comes from, as it says itself: 16 random bytes, when it was issued (4), a check that anybody can
//! make (4), and a mark that only the secret makes (8).
//!
//! So a token of ours is told from noise by a store that does not know it. The mark is of the secret itself and not of the
//! installation's root, which is lost together with the store; the check tells our form where the secret is lost too.

use super::clock::Timestamp;

const RANDOM: usize = 16;
const TIME: usize = RANDOM + 4;
const CHECK: usize = TIME + 4;
const LEN: usize = 32;

/// Where a refresh token comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provenance {
    /// From this installation, at that time.
    Ours(Timestamp),
    /// From this program, under a secret that is not known here; or made up by somebody who knows the form.
    OurForm(Timestamp),
    /// Noise, a token of version 0.1.0, or one that was imported.
    Unmarked,
}

/// A token with these `random` bytes, issued at a time of which the second counts.
pub(super) fn issue(
    random: [u8; RANDOM],
    at: Timestamp,
    mark: impl Fn(&[u8]) -> [u8; LEN - CHECK],
) -> [u8; LEN] {
    let secs = u32::try_from(at.as_secs()).unwrap_or(u32::MAX);
    let mut token = [0; LEN];
    token[..RANDOM].copy_from_slice(&random);
    token[RANDOM..TIME].copy_from_slice(&secs.to_be_bytes());
    let checked = check(&token[..TIME]);
    token[TIME..CHECK].copy_from_slice(&checked);
    let marked = mark(&token[..CHECK]);
    token[CHECK..].copy_from_slice(&marked);
    token
}

/// What a token says; `is_marked` is asked for its mark.
pub(super) fn read(token: &[u8; LEN], is_marked: impl FnOnce(&[u8], &[u8]) -> bool) -> Provenance {
    let (told, mark) = token.split_at(CHECK);
    if told[TIME..] != check(&told[..TIME]) {
        return Provenance::Unmarked;
    }
    let secs = told[RANDOM..TIME].iter().fold(0, |secs, byte| secs << 8 | u64::from(*byte));
    let at = Timestamp::from_millis(secs * 1_000);
    if is_marked(told, mark) { Provenance::Ours(at) } else { Provenance::OurForm(at) }
}

fn check(told: &[u8]) -> [u8; CHECK - TIME] {
    let [a, b, c, d, ..] = blake3::derive_key("device-flow-proxy 2026 check of a refresh token", told);
    [a, b, c, d]
}
