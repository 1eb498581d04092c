//! Owns the picture of a link for a terminal.

use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

/// `text` as a QR code of half-block characters, light modules drawn, as fits a dark terminal; scanners of today
/// read it inverted on a light one. A link of 80 characters takes 41 columns and 21 lines. `None` if it is too
/// long for a QR code (2953 bytes).
pub fn qr_code(text: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    let picture = code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
    Some(picture + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_fits_a_terminal() {
        let picture = qr_code("http://localhost:8080/device?code=BCDF-GHJK").expect("a picture");
        assert!(picture.lines().count() <= 22, "{}", picture.lines().count());
        assert!(picture.lines().all(|line| line.chars().count() <= 44));
        assert_eq!(qr_code(&"x".repeat(3000)), None);
    }
}
