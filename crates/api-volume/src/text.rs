//! Ids and instants, as these dialects write them.

use stillpoint_types::Micros;
use uuid::Uuid;

/// 32 lower-case hex digits: ids of projects, users, roles and application credentials.
pub(crate) fn hex(id: Uuid) -> String {
    id.as_simple().to_string()
}

/// Reads what [`hex`] wrote, and nothing else.
pub(crate) fn from_hex(text: &str) -> Option<Uuid> {
    let is_hex = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    is_hex.then(|| Uuid::try_parse(text).ok())?
}

/// `YYYY-MM-DDTHH:MM:SS.ffffff`, UTC without a zone and always with six digits: the volume API's. Keystone's has a `Z` after it.
pub(crate) fn instant(at: Micros) -> String {
    // What jiff cannot hold is thousands of years away; the epoch is then as good as anything.
    let at = jiff::Timestamp::from_microsecond(at).unwrap_or_default();
    at.strftime("%Y-%m-%dT%H:%M:%S.%6f").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_instants_have_one_form() {
        let id = Uuid::try_parse("0123456789abcdef0123456789abcdef").unwrap();
        assert_eq!(from_hex(&hex(id)), Some(id));
        for bad in [
            "",
            "0123456789ABCDEF0123456789abcdef",
            "01234567-89ab-cdef-0123-456789abcdef",
        ] {
            assert_eq!(from_hex(bad), None, "{bad}");
        }
        assert_eq!(instant(0), "1970-01-01T00:00:00.000000");
        assert_eq!(instant(1_767_323_045_081_642), "2026-01-02T03:04:05.081642");
    }
}
