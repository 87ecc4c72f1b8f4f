//! Sizes as people write them.

use indicatif::BinaryBytes;

/// Bytes: a number, or one with K, M, G or T behind it (powers of 1024).
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size: write bytes, or a number with K, M, G or T, such as 10G");
    let lower = text.trim().to_ascii_lowercase();
    let number = lower.trim_end_matches("ib").trim_end_matches('b');
    let (number, shift) = match number.chars().last().ok_or_else(wrong)? {
        'k' => (&number[..number.len() - 1], 10),
        'm' => (&number[..number.len() - 1], 20),
        'g' => (&number[..number.len() - 1], 30),
        't' => (&number[..number.len() - 1], 40),
        _ => (number, 0),
    };
    let number: u64 = number.trim().parse().map_err(|_no_number| wrong())?;
    number
        .checked_mul(1 << shift)
        .filter(|bytes| *bytes > 0)
        .ok_or_else(wrong)
}

/// Whole GiB: what volumes have. What is between two is rounded up.
pub(crate) fn parse_gib(text: &str) -> Result<u64, String> {
    let bytes = parse(text)?;
    // OpenStack's own tools take a bare number for GiB.
    if text.trim().bytes().all(|byte| byte.is_ascii_digit()) && bytes < 1 << 20 {
        return Err(format!(
            "{text} is {bytes} bytes, and volumes have whole GiB: did you mean {text}G?"
        ));
    }
    Ok(bytes.div_ceil(1 << 30))
}

/// Bytes for people; a dash for none.
pub(crate) fn shown(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "-".to_owned(), |bytes| BinaryBytes(bytes).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_have_whole_gib_and_a_bare_number_is_none() {
        for (text, gib) in [("10G", 10), ("1.5G", 0), ("1536M", 2), ("1T", 1024), ("1073741824", 1)] {
            let parsed = parse_gib(text);
            assert_eq!(parsed.clone().unwrap_or_default(), gib, "{text}: {parsed:?}");
        }
        assert!(parse_gib("10").is_err_and(|text| text.contains("10G")));
    }

    #[test]
    fn sizes_are_powers_of_1024_and_what_is_none_is_said() {
        for (text, bytes) in [
            ("512", 512),
            ("4K", 4096),
            ("1GiB", 1 << 30),
            ("2t", 2 << 40),
            ("10 MB", 10 << 20),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in ["", "G", "-1G", "1.5G", "0", "99999999999T", "é"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
