//! TLS: a certificate of our own CA, made at the first start, or the operator's.
//!
//! `--tls auto` keeps `keys/ca.pem`, `keys/ca.key`, `keys/server.pem`, `keys/server.key`. The CA stays for good, as
//! clients keep it; the server's certificate is made anew when it does not cover the names that it must, or ends soon.

use super::config::{Config, Tls};
use crate::Failure;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::{
    CipherSuite,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::{fs, io::Write, net::IpAddr, os::unix::fs::OpenOptionsExt, path::Path, sync::Arc};
use stillpoint_api_ovirt::Certificates;

/// The certificate that the daemon serves with.
#[derive(Debug, Clone)]
pub(crate) struct Certificate {
    pub(crate) server: Arc<rustls::ServerConfig>,
    ca_pem: String,
    server_pem: String,
}

impl Certificate {
    pub(crate) fn to_give_away(&self) -> Certificates {
        Certificates {
            ca_pem: self.ca_pem.clone(),
            server_pem: self.server_pem.clone(),
        }
    }
}

/// Reads or makes what the configuration asks for; `None` without TLS.
pub(crate) fn prepare(config: &Config, listen: IpAddr) -> Result<Option<Certificate>, Failure> {
    let (ca_pem, server_pem, key_pem) = match &config.tls {
        Tls::Off => return Ok(None),
        Tls::Files { certificate, key } => {
            let read = |path: &Path| {
                fs::read_to_string(path).map_err(|error| Failure::new(2, format!("--tls {}: {error}", path.display())))
            };
            let server_pem = read(certificate)?;
            (server_pem.clone(), server_pem, read(key)?)
        }
        Tls::Auto => own(&config.data_dir.join("keys"), &names(config, listen))?,
    };
    let told = |error: &dyn std::fmt::Display| Failure::new(2, format!("the TLS certificate cannot be used: {error}"));
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(server_pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|e| told(&e))?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|error| told(&error))?;
    let mut server = rustls::ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| told(&error))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| told(&error))?;
    server.ignore_client_order = true;
    Ok(Some(Certificate {
        server: Arc::new(server),
        ca_pem,
        server_pem,
    }))
}

/// AES with a key of 128 bits goes first: disks are large, and it takes a quarter less of both sides' processors than 256
/// bits do. Clients that accept only others get those.
fn provider() -> CryptoProvider {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.sort_by_key(|suite| {
        !matches!(
            suite.suite(),
            CipherSuite::TLS13_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        )
    });
    provider
}

fn names(config: &Config, listen: IpAddr) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if !listen.is_unspecified() {
        names.push(listen.to_string());
    }
    names.extend(config.public_host());
    names.sort();
    names.dedup();
    names
}

/// Our own CA's certificate, the server's and its key, as PEM.
fn own(keys: &Path, names: &[String]) -> Result<(String, String, String), Failure> {
    let (ca_file, ca_key_file) = (keys.join("ca.pem"), keys.join("ca.key"));
    if !ca_file.exists() || !ca_key_file.exists() {
        let key = KeyPair::generate()?;
        let mut params = named("Stillpoint CA")?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?;
        // The key first: a crash in between makes both anew.
        write(&ca_key_file, &key.serialize_pem())?;
        write(&ca_file, &certificate.pem())?;
    }
    let ca_pem = fs::read_to_string(&ca_file)?;
    let ca_key = KeyPair::from_pem(&fs::read_to_string(&ca_key_file)?)?;
    let (file, key_file, names_file) = (
        keys.join("server.pem"),
        keys.join("server.key"),
        keys.join("server.names"),
    );
    let wanted = names.join("\n");
    if fs::read_to_string(&names_file).is_ok_and(|had| had == wanted) && file.exists() && key_file.exists() {
        return Ok((ca_pem, fs::read_to_string(&file)?, fs::read_to_string(&key_file)?));
    }
    let issuer = Issuer::from_ca_cert_pem(&ca_pem, ca_key)?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names.to_vec())?;
    params
        .distinguished_name
        .push(DnType::CommonName, names.first().map_or("localhost", String::as_str));
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    valid_for_ten_years(&mut params);
    let pem = params.signed_by(&key, &issuer)?.pem();
    write(&key_file, &key.serialize_pem())?;
    write(&file, &pem)?;
    write(&names_file, &wanted)?;
    Ok((ca_pem, pem, key.serialize_pem()))
}

fn named(common_name: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.distinguished_name.push(DnType::OrganizationName, "Stillpoint");
    valid_for_ten_years(&mut params);
    Ok(params)
}

/// From yesterday, as clocks differ, for ten years.
fn valid_for_ten_years(params: &mut CertificateParams) {
    let now = std::time::SystemTime::now();
    let day = std::time::Duration::from_secs(24 * 60 * 60);
    params.not_before = (now - day).into();
    params.not_after = (now + day * 3650).into();
}

/// Writes a file that only its owner reads, whole or not at all.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)
}
