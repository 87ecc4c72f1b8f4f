//! `services/pki-resource`: the certificates that a client needs before it can trust the daemon.

use crate::{answer::Answer, call::Visit, fault::Refused};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::StatusCode;
use x509_parser::{
    pem::parse_x509_pem,
    public_key::PublicKey,
    x509::{SubjectPublicKeyInfo, X509Name},
};

/// Gives a certificate or a public key away.
pub(crate) async fn resource(visit: Visit) -> Result<Answer, Refused> {
    let params = &visit.params;
    let Some(certificates) = &visit.api.0.settings.certificates else {
        return Err(Refused::not_found("certificate: the daemon serves without TLS"));
    };
    let (pem, default) = match params.text("resource") {
        Some("ca-certificate") => (&certificates.ca_pem, "X509-PEM-CA"),
        Some("engine-certificate") => (&certificates.server_pem, "X509-PEM"),
        Some(_) => return Err(Refused::bad_parameter("resource is not known here")),
        None => return Err(Refused::bad_parameter("resource is mandatory")),
    };
    let (media_type, body) = match params.text("format").unwrap_or(default) {
        "X509-PEM-CA" => ("application/x-x509-ca-cert", pem.clone()),
        "X509-PEM" => ("application/x-x509-cert", pem.clone()),
        "OPENSSH-PUBKEY" => ("text/plain", openssh(pem)?),
        _ => return Err(Refused::bad_parameter("format is not known here")),
    };
    Ok(Answer::text(StatusCode::OK, media_type, body))
}

/// The public key of a certificate, as a line of an `authorized_keys` file (RFC 4253 6.6, RFC 5656 3.1, RFC 8709).
fn openssh(pem: &str) -> Result<String, Refused> {
    let unreadable = |what: String| Refused::internal(&format!("the server certificate: {what}"));
    let (_, pem) = parse_x509_pem(pem.as_bytes()).map_err(|error| unreadable(error.to_string()))?;
    let certificate = pem.parse_x509().map_err(|error| unreadable(error.to_string()))?;
    let (kind, blob) = ssh_blob(certificate.public_key()).ok_or_else(|| unreadable("unknown kind of key".into()))?;
    Ok(format!(
        "{kind} {} {}\n",
        STANDARD.encode(blob),
        comment(certificate.subject())
    ))
}

/// Kind and blob of a key.
fn ssh_blob(key: &SubjectPublicKeyInfo<'_>) -> Option<(&'static str, Vec<u8>)> {
    match key.parsed().ok()? {
        PublicKey::RSA(rsa) => Some((
            "ssh-rsa",
            fields(&[b"ssh-rsa", &unsigned(rsa.exponent), &unsigned(rsa.modulus)]),
        )),
        PublicKey::EC(point) => {
            let (kind, curve): (_, &[u8]) = match point.data().len() {
                65 => ("ecdsa-sha2-nistp256", b"nistp256"),
                97 => ("ecdsa-sha2-nistp384", b"nistp384"),
                133 => ("ecdsa-sha2-nistp521", b"nistp521"),
                _ => return None,
            };
            Some((kind, fields(&[kind.as_bytes(), curve, point.data()])))
        }
        PublicKey::Unknown(bytes) if bytes.len() == 32 => Some(("ssh-ed25519", fields(&[b"ssh-ed25519", bytes]))),
        _ => None,
    }
}

fn fields(parts: &[&[u8]]) -> Vec<u8> {
    let mut blob = Vec::new();
    for part in parts {
        // A key is a few hundred bytes: its length always fits.
        blob.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        blob.extend_from_slice(part);
    }
    blob
}

/// A number as SSH writes it: no leading zeros, but one where the first bit is set.
fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let digits: Vec<u8> = bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
    match digits.first() {
        Some(first) if first & 0x80 != 0 => [vec![0], digits].concat(),
        _ => digits,
    }
}

fn comment(name: &X509Name<'_>) -> String {
    let name = name
        .iter_common_name()
        .next()
        .and_then(|cn| cn.as_str().ok())
        .unwrap_or("stillpoint");
    name.chars().filter(|c| c.is_ascii_graphic()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_told_as_ssh_writes_it() {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["kvm1.example.com".into()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let line = openssh(&certificate.pem()).unwrap();
        let mut words = line.split(' ');
        assert_eq!(words.next(), Some("ecdsa-sha2-nistp256"));
        let blob = STANDARD.decode(words.next().unwrap()).unwrap();
        assert_eq!(&blob[..4], &19u32.to_be_bytes());
        assert!(blob.ends_with(key.public_key_raw()), "the point itself");
    }

    #[test]
    fn what_is_no_certificate_is_a_fault_of_our_own() {
        assert!(openssh("").is_err());
        assert!(openssh("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").is_err());
        assert_eq!(unsigned(&[0, 0, 0x80]), [0, 0x80]);
        assert_eq!(unsigned(&[1, 0, 1]), [1, 0, 1]);
    }
}
