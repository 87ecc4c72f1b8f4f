//! What a signed request says about itself: read and judged before its body is read and before any secret is.

use super::{ALGORITHM, SignatureError, WINDOW, canonical};
use jiff::{civil::DateTime, tz::TimeZone};
use stillpoint_types::Micros;

/// The longest public name of an access key, in bytes.
const ACCESS_MAX_BYTES: usize = 255;
/// The most headers that one signature may name; signers name about six.
const SIGNED_MAX: usize = 64;
/// Bytes of an HMAC of SHA-256.
const MAC_BYTES: usize = 32;

/// The head of a request, as it came.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// `GET`.
    pub method: &'a str,
    /// Percent-encoded, as on the wire.
    pub path: &'a str,
    /// The same, without the question mark; empty if there is none.
    pub query: &'a str,
    /// All headers, names in lower case.
    pub headers: &'a [(&'a str, &'a [u8])],
}

impl<'a> Head<'a> {
    /// The value of a header that was sent at most once, without the blanks around it.
    fn header(&self, name: &str) -> Result<Option<&'a [u8]>, SignatureError> {
        let mut values = self.headers.iter().filter(|(of, _)| *of == name);
        match (values.next(), values.next()) {
            (first, None) => Ok(first.map(|(_, value)| value.trim_ascii())),
            _ => Err(bad_header(name, "was sent twice")),
        }
    }
}

/// Somebody says that the key signed this request; nothing is proved yet.
pub struct Claim {
    access: String,
    signature: [u8; MAC_BYTES],
    date: String,
    payload_hash: Option<Vec<u8>>,
    is_change: bool,
    /// What was signed, up to the hash of the body.
    canonical_head: Vec<u8>,
}

impl std::fmt::Debug for Claim {
    /// Without what would let a reader of a log send the request again.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claim")
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

impl Claim {
    /// Whether an Authorization header is meant for this door: it names one of the signing algorithms, ours or another.
    #[must_use]
    pub fn is_meant(authorization: &[u8]) -> bool {
        let scheme = authorization.split(|byte| *byte == b' ').next().unwrap_or_default();
        let begins = |with: &str| {
            scheme
                .get(..with.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(with.as_bytes()))
        };
        begins("SDK-") || begins("V11-HMAC-")
    }

    /// Reads the claim of a request at that time.
    ///
    /// # Errors
    /// Everything but `Body`, `Wrong` and `Auth`.
    pub fn of(head: &Head<'_>, now: Micros) -> Result<Self, SignatureError> {
        let header = head
            .header("authorization")?
            .ok_or(SignatureError::Malformed("it is missing"))?;
        let Fields {
            access,
            signed,
            signature,
        } = fields(header)?;
        let names = names(signed)?;
        for name in ["host", "x-sdk-date", "x-project-id"] {
            let is_sent = head.header(name)?.is_some();
            if !names.contains(&name) && (is_sent || name != "x-project-id") {
                return Err(bad_header(name, "has to be signed"));
            }
        }
        let mut values = Vec::with_capacity(names.len());
        for name in &names {
            let value = head
                .header(name)?
                .ok_or_else(|| bad_header(name, "is signed, but was not sent"))?;
            values.push((*name, value));
        }
        let date = head.header("x-sdk-date")?.unwrap_or_default();
        let date = std::str::from_utf8(date).map_err(|_not_text| bad_header("x-sdk-date", MALFORMED_DATE))?;
        if now.abs_diff(instant(date)?) > u64::try_from(WINDOW.as_micros()).unwrap_or(u64::MAX) {
            return Err(SignatureError::Date);
        }
        let mut canonical_head = format!(
            "{}\n{}\n{}\n",
            head.method,
            canonical::path(head.path)?,
            canonical::query(head.query)?
        )
        .into_bytes();
        for (name, value) in values {
            canonical_head.extend([name.as_bytes(), b":", value, b"\n"].concat());
        }
        canonical_head.extend([b"\n", signed.as_bytes(), b"\n"].concat());
        Ok(Self {
            access: access.to_owned(),
            signature,
            date: date.to_owned(),
            payload_hash: head.header("x-sdk-content-sha256")?.map(<[u8]>::to_vec),
            is_change: !matches!(head.method, "GET" | "HEAD"),
            canonical_head,
        })
    }

    /// The public name of the key.
    #[must_use]
    pub fn access(&self) -> &str {
        &self.access
    }

    pub(super) fn date(&self) -> &str {
        &self.date
    }

    pub(super) fn signature(&self) -> [u8; MAC_BYTES] {
        self.signature
    }

    /// Whether the request may change something.
    pub(super) fn is_change(&self) -> bool {
        self.is_change
    }

    pub(super) fn payload_hash(&self) -> Option<&[u8]> {
        self.payload_hash.as_deref()
    }

    pub(super) fn canonical_request(&self, body_hash: &str) -> Vec<u8> {
        [self.canonical_head.as_slice(), body_hash.as_bytes()].concat()
    }
}

const MALFORMED_DATE: &str = "is not of the form YYYYMMDDTHHMMSSZ";

fn bad_header(name: &str, what: &'static str) -> SignatureError {
    SignatureError::Header {
        name: name.to_owned(),
        what,
    }
}

struct Fields<'a> {
    access: &'a str,
    signed: &'a str,
    signature: [u8; MAC_BYTES],
}

/// `SDK-HMAC-SHA256 Access=.., SignedHeaders=.., Signature=..`, each once, in any order.
fn fields(header: &[u8]) -> Result<Fields<'_>, SignatureError> {
    let text = std::str::from_utf8(header).map_err(|_not_text| SignatureError::Malformed("it is not text"))?;
    let (algorithm, rest) = text.split_once(' ').unwrap_or((text, ""));
    if !algorithm.eq_ignore_ascii_case(ALGORITHM) {
        return Err(SignatureError::Algorithm);
    }
    let (mut access, mut signed, mut signature) = (None, None, None);
    for field in rest.split(',') {
        let malformed = SignatureError::Malformed("Access, SignedHeaders and Signature are wanted, each once");
        let Some((name, value)) = field.trim().split_once('=') else {
            return Err(malformed);
        };
        let place = match name {
            "Access" => &mut access,
            "SignedHeaders" => &mut signed,
            "Signature" => &mut signature,
            _ => return Err(malformed),
        };
        if value.is_empty() || place.replace(value).is_some() {
            return Err(malformed);
        }
    }
    let (Some(access), Some(signed), Some(signature)) = (access, signed, signature) else {
        return Err(SignatureError::Malformed(
            "Access, SignedHeaders and Signature are wanted, each once",
        ));
    };
    if access.len() > ACCESS_MAX_BYTES {
        return Err(SignatureError::Malformed("the access key is too long"));
    }
    let signature = mac(signature).ok_or(SignatureError::Malformed("the signature is not 64 hexadecimal digits"))?;
    Ok(Fields {
        access,
        signed,
        signature,
    })
}

fn mac(text: &str) -> Option<[u8; MAC_BYTES]> {
    let decoded = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?;
    decoded.try_into().ok()
}

/// The signed headers' names: tokens in lower case, no one twice.
fn names(signed: &str) -> Result<Vec<&str>, SignatureError> {
    let mut names = Vec::new();
    for name in signed.split(';') {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || !name.bytes().all(is_plain) {
            return Err(SignatureError::Malformed(
                "SignedHeaders are names in lower case, separated by ;",
            ));
        }
        if names.contains(&name) || names.len() == SIGNED_MAX {
            return Err(SignatureError::Malformed(
                "SignedHeaders are too many, or hold one name twice",
            ));
        }
        names.push(name);
    }
    Ok(names)
}

/// `20260102T030405Z`, and nothing looser.
fn instant(date: &str) -> Result<Micros, SignatureError> {
    let malformed = || bad_header("x-sdk-date", MALFORMED_DATE);
    let is_form = date.len() == 16
        && date.bytes().enumerate().all(|(at, byte)| match at {
            8 => byte == b'T',
            15 => byte == b'Z',
            _ => byte.is_ascii_digit(),
        });
    if !is_form {
        return Err(malformed());
    }
    let civil = DateTime::strptime("%Y%m%dT%H%M%SZ", date).map_err(|_no_such_day| malformed())?;
    let zoned = civil.to_zoned(TimeZone::UTC).map_err(|_out_of_range| malformed())?;
    Ok(zoned.timestamp().as_microsecond())
}
