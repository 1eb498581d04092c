//! A link as a QR code for another screen: one path of an SVG, which the stylesheet colours.

use std::fmt::Write;

use qrcode::{Color, EcLevel, QrCode};

/// Light modules around the code, as ISO/IEC 18004 wants them.
const QUIET: usize = 4;

/// What a template draws.
pub(super) struct Qr {
    /// Width and height in modules, the quiet zone included.
    pub(super) size: usize,
    /// The dark modules, one rectangle for each run in a row.
    pub(super) path: String,
}

impl Qr {
    /// The code of a link; `None` if that is too long for one (2953 bytes).
    pub(super) fn of(link: &str) -> Option<Self> {
        let code = QrCode::with_error_correction_level(link, EcLevel::L).ok()?;
        let width = code.width();
        let mut path = String::new();
        for (y, row) in code.to_colors().chunks(width).enumerate() {
            let mut x = 0;
            for run in row.chunk_by(PartialEq::eq) {
                if run[0] == Color::Dark {
                    // Writing to a string cannot fail.
                    let _ = write!(path, "M{} {}h{}v1h-{2}z", x + QUIET, y + QUIET, run.len());
                }
                x += run.len();
            }
        }
        Some(Self { size: width + 2 * QUIET, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Paints the path, and compares every module.
    #[test]
    fn the_path_is_the_code() {
        let link = "https://linky.example.net/device?code=BCDF-GHJK";
        let qr = Qr::of(link).unwrap();
        let code = QrCode::with_error_correction_level(link, EcLevel::L).unwrap();
        let mut painted = vec![Color::Light; qr.size * qr.size];
        for run in qr.path.split('M').skip(1) {
            let numbers: Vec<usize> =
                run.split(|c: char| !c.is_ascii_digit()).filter_map(|it| it.parse().ok()).collect();
            let [x, y, length, 1, back] = numbers[..] else { panic!("{run}") };
            assert_eq!(length, back);
            painted[y * qr.size + x..][..length].fill(Color::Dark);
        }
        for y in 0..qr.size {
            for x in 0..qr.size {
                let is_inside = |at: usize| (QUIET..qr.size - QUIET).contains(&at);
                let wanted =
                    if is_inside(x) && is_inside(y) { code[(x - QUIET, y - QUIET)] } else { Color::Light };
                assert_eq!(painted[y * qr.size + x], wanted, "{x} {y}");
            }
        }
        assert!(Qr::of(&"a".repeat(2_954)).is_none());
    }
}
