//! Real-name id numbers: what is one, and how it is shown.

/// A valid id number in its one spelling. Does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct IdNumber(String);

impl std::fmt::Debug for IdNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdNumber(..)")
    }
}

impl IdNumber {
    /// Reads a Chinese resident id number (18 digits, the last may be X) or a passport number
    /// (6 to 12 letters and digits). Letters may be small, spaces around are dropped.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_uppercase();
        let is_passport = (6..=12).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase());
        (is_passport || is_resident(&text)).then_some(Self(text))
    }

    /// Returns the one spelling.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Shows so much of an id number that its owner knows which it is.
pub fn mask(id_number: &str) -> String {
    let chars: Vec<char> = id_number.chars().collect();
    let shown = if chars.len() >= 12 { 4 } else { 2 };
    let hidden = chars.len().saturating_sub(2 * shown);
    let part = |from: usize, to: usize| chars[from..to].iter().collect::<String>();
    if chars.len() <= 2 * shown {
        return "*".repeat(chars.len());
    }
    format!("{}{}{}", part(0, shown), "*".repeat(hidden), part(chars.len() - shown, chars.len()))
}

/// GB 11643-1999: place, date of birth, serial number and a check digit by ISO 7064 MOD 11-2.
fn is_resident(text: &str) -> bool {
    const WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    const CHECK: &[u8; 11] = b"10X98765432";
    let bytes = text.as_bytes();
    if bytes.len() != 18 || !bytes[..17].iter().all(u8::is_ascii_digit) || bytes[0] == b'0' {
        return false;
    }
    let sum: u32 = bytes.iter().zip(WEIGHTS).map(|(b, weight)| u32::from(b - b'0') * weight).sum();
    let is_date = text[6..14].parse::<u32>().is_ok_and(|n| {
        let part = |n: u32| i8::try_from(n % 100).unwrap_or(0);
        let year = i16::try_from(n / 10_000).unwrap_or(0);
        year >= 1800 && jiff::civil::Date::new(year, part(n / 100), part(n)).is_ok()
    });
    is_date && CHECK.get((sum % 11) as usize) == Some(&bytes[17])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resident_number_needs_its_check_digit_and_a_real_date() {
        for good in ["11010519491231002X", "440524188001010014", " 11010519491231002x "] {
            assert!(IdNumber::parse(good).is_some(), "{good}");
        }
        for bad in [
            "110105194912310021",
            "11010519491231002",
            "1101051949123100X2",
            "110105194913310028",
            "01010519491231002X",
            "１１０１０５１９４９",
            "",
        ] {
            assert!(IdNumber::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn every_single_wrong_digit_is_noticed() {
        let good = b"11010519491231002X";
        for at in 0..17 {
            for digit in b'0'..=b'9' {
                let mut text = *good;
                text[at] = digit;
                let text = std::str::from_utf8(&text).expect("ASCII");
                assert_eq!(IdNumber::parse(text).is_some(), digit == good[at], "{text}");
            }
        }
    }

    #[test]
    fn a_passport_has_one_spelling() {
        let number = IdNumber::parse("e1234567z").expect("a passport");
        assert_eq!(number.as_str(), "E1234567Z");
        for bad in ["E1234", "E123456789012", "E12-4567", "É1234567"] {
            assert!(IdNumber::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_masked_number_hides_the_date_of_birth() {
        assert_eq!(mask("11010519491231002X"), "1101**********002X");
        assert_eq!(mask("E1234567"), "E1****67");
        assert_eq!(mask("AB12"), "****");
        assert_eq!(format!("{:?}", IdNumber::parse("E1234567")), "Some(IdNumber(..))");
    }
}
