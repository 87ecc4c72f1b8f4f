//! The real clients for Python: where they are, and what they need before they start.

use anyhow::{Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use stillpoint_testkit::{Daemon, Password};

/// The Python that has the clients of `scripts/make-venv`.
#[must_use]
pub fn python() -> PathBuf {
    let by_hand = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/venv/bin/python");
    std::env::var_os("STILLPOINT_TEST_PYTHON").map_or(by_hand, PathBuf::from)
}

/// Fetches the CA certificate as backup tools do: without credentials and before they trust anything.
///
/// # Errors
/// What Python says.
pub fn fetch_ca(daemon: &Daemon) -> Result<PathBuf> {
    let file = daemon.data_dir().join("../ca-of-client.pem");
    let script = "import ssl, sys, urllib.request as u\n\
                  opener = u.build_opener(u.ProxyHandler({}), u.HTTPSHandler(context=ssl._create_unverified_context()))\n\
                  sys.stdout.buffer.write(opener.open(sys.argv[1], timeout=30).read())";
    let path = "/ovirt-engine/services/pki-resource?resource=ca-certificate&format=X509-PEM-CA";
    let done = Command::new(python())
        .args(["-c", script, &format!("{}{path}", daemon.url())])
        .output()?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    fs::write(&file, &done.stdout)?;
    Ok(file)
}

/// Requests for images since the daemon's start, by the way that they took: over TCP, and over the unix socket.
///
/// # Errors
/// What Python says.
pub fn images_asked(daemon: &Daemon) -> Result<(u64, u64)> {
    let script = "import base64, ssl, sys, urllib.request as u\n\
                  opener = u.build_opener(u.ProxyHandler({}), u.HTTPSHandler(context=ssl._create_unverified_context()))\n\
                  login = base64.b64encode(sys.argv[2].encode()).decode()\n\
                  asked = u.Request(sys.argv[1], headers={'Authorization': 'Basic ' + login})\n\
                  sys.stdout.buffer.write(opener.open(asked, timeout=30).read())";
    let login = format!("admin@internal:{}", Password::of("admin")?.0);
    let url = format!("{}/metrics", daemon.url());
    let done = Command::new(python()).args(["-c", script, &url, &login]).output()?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let told = String::from_utf8(done.stdout)?;
    let count = |family: &str| -> Result<u64> {
        let series = format!("stillpoint_http_requests_total{{family=\"{family}\",");
        let lines = told.lines().filter(|line| line.starts_with(&series));
        let counts = lines.map(|line| line.rsplit(' ').next().unwrap_or_default().parse::<u64>());
        Ok(counts.sum::<Result<_, _>>()?)
    };
    Ok((count("data")?, count("data_local")?))
}

/// A script of `tests/clients`, told where the daemon is and how its administrator logs in.
///
/// # Errors
/// When the password or the CA certificate is not to be had.
pub fn script(daemon: &Daemon, name: &str) -> Result<Command> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name);
    let mut command = Command::new(python());
    // Without compiled files beside the sources.
    command.arg("-B").arg(script);
    command.env("STILLPOINT_URL", daemon.url());
    command.env("STILLPOINT_USER", "admin@internal");
    command.env("STILLPOINT_PASSWORD", Password::of("admin")?.0);
    if daemon.url().starts_with("https:") {
        command.env("STILLPOINT_CA", fetch_ca(daemon)?);
    }
    Ok(command)
}
