//! `OpenStack-API-Version: volume 3.N`: which form of Cinder's API a request speaks.

use crate::fault::Refused;
use http::HeaderMap;

/// The version header, asked and answered.
pub(crate) const HEADER: &str = "openstack-api-version";
/// The newest that is served.
pub(crate) const NEWEST: Microversion = Microversion(71);

/// The N of version 3.N.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Microversion(pub(crate) u16);

impl Microversion {
    /// Whether a form that came with 3.`minor` is spoken.
    pub(crate) fn at_least(self, minor: u16) -> bool {
        self.0 >= minor
    }

    /// As the header of an answer has it.
    pub(crate) fn header(self) -> String {
        format!("volume 3.{}", self.0)
    }

    /// What the request asks for; 3.0 if it does not say.
    ///
    /// # Errors
    /// 406 for a version that is not served, 400 for what is none, or if only other services are named.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Refused> {
        let mut is_there = false;
        for value in headers.get_all(HEADER) {
            let text = value
                .to_str()
                .map_err(|_not_text| Refused::bad_request("The version header is not readable"))?;
            for entry in text.split(',') {
                is_there = true;
                let mut words = entry.split_ascii_whitespace();
                if words
                    .next()
                    .is_some_and(|service| service.eq_ignore_ascii_case("volume"))
                {
                    return Self::asked(words.next().unwrap_or_default(), words.next());
                }
            }
        }
        if is_there {
            return Err(Refused::bad_request(
                "The version header names no version of the volume service",
            ));
        }
        Ok(Self::default())
    }

    fn asked(text: &str, more: Option<&str>) -> Result<Self, Refused> {
        if text.eq_ignore_ascii_case("latest") && more.is_none() {
            return Ok(NEWEST);
        }
        let number = |digits: &str| {
            let is_number = (1..=4).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
            digits.parse::<u16>().ok().filter(|_| is_number)
        };
        let parsed = text
            .split_once('.')
            .and_then(|(major, minor)| Some((number(major)?, number(minor)?)));
        match parsed {
            Some((3, minor)) if minor <= NEWEST.0 && more.is_none() => Ok(Self(minor)),
            Some((major, minor)) if more.is_none() => Err(Refused::version_not_served(major, minor, NEWEST)),
            _ => Err(Refused::bad_request(format!(
                "API version {:?} is not in the form 3.N",
                text.chars().take(32).collect::<String>()
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderValue, StatusCode};

    fn of(value: Option<&str>) -> Result<u16, StatusCode> {
        let mut headers = HeaderMap::new();
        if let Some(value) = value {
            headers.insert(HEADER, HeaderValue::from_str(value).unwrap());
        }
        Microversion::of(&headers)
            .map(|version| version.0)
            .map_err(|refused| refused.status(crate::Family::Cinder))
    }

    #[test]
    fn the_header_is_read_as_cinder_reads_it() {
        for (value, wanted) in [
            (None, Ok(0)),
            (Some("volume 3.0"), Ok(0)),
            (Some("volume 3.71"), Ok(71)),
            (Some("volume latest"), Ok(71)),
            (Some("compute 2.1,volume 3.45"), Ok(45)),
            (Some("compute 2.1, volume 3.45"), Ok(45)),
            (Some("volume 3.72"), Err(StatusCode::NOT_ACCEPTABLE)),
            (Some("volume 2.0"), Err(StatusCode::NOT_ACCEPTABLE)),
            (Some("volume banana"), Err(StatusCode::BAD_REQUEST)),
            (Some("volume 3"), Err(StatusCode::BAD_REQUEST)),
            (Some("volume 3.+1"), Err(StatusCode::BAD_REQUEST)),
            (Some("volume"), Err(StatusCode::BAD_REQUEST)),
            (Some("compute 2.1"), Err(StatusCode::BAD_REQUEST)),
            (Some(""), Err(StatusCode::BAD_REQUEST)),
        ] {
            assert_eq!(of(value), wanted, "{value:?}");
        }
    }
}
