//! Configuration: the command line wins over the file, the file over the defaults. A member that is not known is an
//! error with its line.

use crate::{
    Failure,
    cli::{AccelChoice, ApiChoice, LogChoice, ServeOptions, SwitchChoice},
};
use serde::Deserialize;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

/// Where the daemon listens unless told otherwise.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// How TLS is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tls {
    Off,
    Auto,
    Files { certificate: PathBuf, key: PathBuf },
}

/// What the daemon runs by.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) data_dir: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) tls: Tls,
    /// Whether clients on this host are offered a unix socket for the data plane.
    pub(crate) local_images: bool,
    pub(crate) bootstrap: Option<PathBuf>,
    public_url: Option<String>,
    pub(crate) default_api: ApiChoice,
    accel: AccelChoice,
    pub(crate) log: LogChoice,
    pub(crate) boot_dirs: Vec<PathBuf>,
    /// How long a freeze lasts that a user asked for, if he does not thaw.
    pub(crate) user_freeze: Option<Duration>,
    /// Whether the catalogue of the volume API names a network service that answers 404: for tempest only.
    pub(crate) network_stub: bool,
}

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    data_dir: Option<PathBuf>,
    listen: Option<SocketAddr>,
    tls: Option<String>,
    local_images: Option<String>,
    bootstrap: Option<PathBuf>,
    public_url: Option<String>,
    default_api: Option<String>,
    accel: Option<String>,
    log: Option<String>,
    /// Directories from which VMs may boot kernels by absolute path, beside the data directory's `boot`.
    #[serde(default)]
    boot_dirs: Vec<PathBuf>,
    /// Seconds after which a guest is thawed that a user has frozen (60).
    user_freeze_seconds: Option<u32>,
    /// An entry `network` in the catalogue of the volume API, whose URL answers 404: tempest's dynamic credentials want one.
    #[serde(default)]
    network_stub: bool,
}

/// The data directory of whoever runs this.
pub(crate) fn default_data_dir() -> Result<PathBuf, Failure> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/stillpoint"));
    }
    let base = std::env::var_os("XDG_DATA_HOME")
        .filter(|dir| !dir.is_empty())
        .map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/share"));
    let base = base
        .or_else(home)
        .ok_or_else(|| Failure::new(2, "neither XDG_DATA_HOME nor HOME is set; give --data-dir"))?;
    Ok(base.join("stillpoint"))
}

fn read(path: &Path) -> Result<File, Failure> {
    let told = |error: &dyn std::fmt::Display| Failure::new(2, format!("configuration {}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| told(&error))?;
    toml::from_str(&text).map_err(|error| told(&error))
}

fn choice<T: clap::ValueEnum>(name: &str, given: Option<T>, file: Option<&str>, default: T) -> Result<T, Failure> {
    match (given, file) {
        (Some(given), _) => Ok(given),
        (None, Some(text)) => {
            T::from_str(text, false).map_err(|error| Failure::new(2, format!("configuration: {name}: {error}")))
        }
        (None, None) => Ok(default),
    }
}

/// What the file's reader says about a text that has a key that it does not know.
#[cfg(test)]
pub(crate) fn unknown_key(text: &str) -> String {
    toml::from_str::<File>(text).map_or_else(|error| error.message().to_owned(), |file| format!("{file:?}"))
}

impl Config {
    /// Puts command line, file and defaults together, and refuses what would be unsafe.
    pub(crate) fn merge(options: ServeOptions) -> Result<Self, Failure> {
        let file = options.config.as_deref().map(read).transpose()?.unwrap_or_default();
        let data_dir = options.data_dir.or(file.data_dir).map_or_else(default_data_dir, Ok)?;
        let data_dir = std::path::absolute(&data_dir)?;
        let listen = options.listen.or(file.listen).unwrap_or(LISTEN);
        let tls = tls(options.tls.or(file.tls).as_deref(), listen.ip())?;
        Ok(Self {
            data_dir,
            listen,
            tls,
            local_images: choice(
                "local-images",
                options.local_images,
                file.local_images.as_deref(),
                SwitchChoice::On,
            )? == SwitchChoice::On,
            bootstrap: options.bootstrap.or(file.bootstrap),
            public_url: options
                .public_url
                .or(file.public_url)
                .map(|url| public_url(&url))
                .transpose()?,
            default_api: choice(
                "default-api",
                options.default_api,
                file.default_api.as_deref(),
                ApiChoice::V4,
            )?,
            accel: choice("accel", options.accel, file.accel.as_deref(), AccelChoice::Auto)?,
            log: choice("log", options.log, file.log.as_deref(), LogChoice::Text)?,
            boot_dirs: file.boot_dirs,
            user_freeze: file
                .user_freeze_seconds
                .map(|seconds| Duration::from_secs(u64::from(seconds))),
            network_stub: file.network_stub,
        })
    }

    pub(crate) fn accel(&self) -> stillpoint_qemu::Accel {
        match self.accel {
            AccelChoice::Kvm => stillpoint_qemu::Accel::Kvm,
            AccelChoice::Tcg => stillpoint_qemu::Accel::Tcg,
            AccelChoice::Auto => stillpoint_qemu::Accel::Auto,
        }
    }

    /// The URL that clients reach the daemon under.
    pub(crate) fn public_url(&self, address: SocketAddr, is_tls: bool) -> String {
        let scheme = if is_tls { "https" } else { "http" };
        self.public_url
            .clone()
            .unwrap_or_else(|| format!("{scheme}://{address}"))
    }

    /// Host of the public URL, for the certificate.
    pub(crate) fn public_host(&self) -> Option<String> {
        let rest = self.public_url.as_deref()?.split_once("://")?.1;
        let authority = rest.split('/').next()?;
        let host = match authority.strip_prefix('[') {
            Some(v6) => v6.split(']').next()?,
            None => authority.split(':').next()?,
        };
        (!host.is_empty()).then(|| host.to_owned())
    }
}

fn public_url(given: &str) -> Result<String, Failure> {
    let trimmed = given.trim_end_matches('/');
    let rest = trimmed
        .strip_prefix("http://")
        .or_else(|| trimmed.strip_prefix("https://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.contains(['/', ' ', '"', '<', '@']) => Ok(trimmed.to_owned()),
        _ => Err(Failure::new(
            2,
            format!("--public-url {given:?}: give a URL such as https://kvm1.example.com:8443"),
        )),
    }
}

fn tls(given: Option<&str>, ip: IpAddr) -> Result<Tls, Failure> {
    match given {
        None if ip.is_loopback() => Ok(Tls::Off),
        None | Some("auto") => Ok(Tls::Auto),
        Some("off") if ip.is_loopback() => Ok(Tls::Off),
        Some("off") => Err(Failure::new(
            2,
            format!("plain HTTP on {ip} would show passwords to the network: use --tls auto, or listen on 127.0.0.1"),
        )),
        Some(files) => match files.split_once(',') {
            Some((certificate, key)) if !certificate.is_empty() && !key.is_empty() => Ok(Tls::Files {
                certificate: certificate.into(),
                key: key.into(),
            }),
            _ => Err(Failure::new(2, format!("--tls {files:?}: give off, auto, or CERT,KEY"))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(args: &[&str]) -> Result<Config, Failure> {
        use clap::Parser;
        let args = ["stillpoint", "serve", "--data-dir", "d"].iter().chain(args);
        match crate::cli::Cli::parse_from(args).command {
            crate::cli::Command::Serve(options) => Config::merge(options),
            other => unreachable!("the arguments above say serve, and not {other:?}"),
        }
    }

    #[test]
    fn plain_http_is_served_on_loopback_only() {
        assert_eq!(with(&[]).unwrap().tls, Tls::Off);
        assert_eq!(with(&["--listen", "0.0.0.0:1"]).unwrap().tls, Tls::Auto);
        assert_eq!(with(&["--listen", "0.0.0.0:1", "--tls", "off"]).unwrap_err().code, 2);
        assert_eq!(with(&["--listen", "[::1]:1", "--tls", "off"]).unwrap().tls, Tls::Off);
        assert_eq!(with(&["--tls", "nonsense"]).unwrap_err().code, 2);
    }

    #[test]
    fn a_misspelt_member_of_the_file_is_refused_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(&path, "listen = \"127.0.0.1:9\"\nlitsen = 1\n").unwrap();
        let failure = with(&["--config", path.to_str().unwrap()]).unwrap_err();
        assert_eq!(failure.code, 2);
        assert!(
            failure.message.contains("litsen") && failure.message.contains("line 2"),
            "{}",
            failure.message
        );
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(
            &path,
            "listen = \"127.0.0.1:9\"\naccel = \"tcg\"\nlocal-images = \"off\"\n",
        )
        .unwrap();
        let mut args = vec!["--config", path.to_str().unwrap(), "--listen", "127.0.0.1:10"];
        let config = with(&args).unwrap();
        assert_eq!((config.listen.port(), config.accel), (10, AccelChoice::Tcg));
        assert!(!config.local_images);
        args.extend(["--local-images", "on"]);
        assert!(with(&args).unwrap().local_images);
    }

    #[test]
    fn the_host_of_the_public_url_is_taken_for_the_certificate() {
        for (url, host) in [
            ("https://kvm1.example.com:8443/", "kvm1.example.com"),
            ("http://10.0.0.1", "10.0.0.1"),
            ("https://[fd00::1]:1", "fd00::1"),
        ] {
            assert_eq!(
                with(&["--public-url", url]).unwrap().public_host().as_deref(),
                Some(host)
            );
        }
        for bad in ["kvm1", "ftp://x", "https://", "https://a/b", "https://a@b"] {
            assert!(with(&["--public-url", bad]).is_err(), "{bad}");
        }
    }
}
