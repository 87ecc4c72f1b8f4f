//! Short runs of `qemu-img`: explicit arguments, a cleared environment, a deadline, nothing shared with us.

use super::fail::{fault, said};
use std::{path::PathBuf, process::Stdio, time::Duration};
use stillpoint_engine::ports::{Driven, DriverErrorKind};
use tokio::{io::AsyncReadExt, process::Command};

/// Bytes of error text that are kept.
const TEXT_BYTES_MAX: u64 = 16 << 10;

/// The program.
#[derive(Debug, Clone)]
pub(super) struct QemuImg {
    program: PathBuf,
}

impl QemuImg {
    /// A program by its path, or by its name in `/usr/bin` or `/bin`.
    pub(super) fn new(program: PathBuf) -> Self {
        Self { program }
    }

    /// Runs it to its end; kills it at the deadline or when the caller goes away.
    pub(super) async fn run(&self, op: &'static str, arguments: &[&str], limit: Duration) -> Driven<()> {
        let lost = |error: std::io::Error| {
            let text = format!("running {}", self.program.display());
            fault(DriverErrorKind::Io, op, text).caused_by(error)
        };
        let mut child = Command::new(&self.program)
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(lost)?;
        let stderr = child.stderr.take();
        let work = async {
            let mut text = Vec::new();
            if let Some(stderr) = stderr {
                stderr.take(TEXT_BYTES_MAX).read_to_end(&mut text).await?;
            }
            Ok((child.wait().await?, text))
        };
        let ended = tokio::time::timeout(limit, work).await;
        let Ok(ended) = ended else {
            child.kill().await.map_err(lost)?;
            let text = format!("qemu-img did not end within {} s and was killed", limit.as_secs());
            return Err(fault(DriverErrorKind::Timeout, op, text));
        };
        let (status, text) = ended.map_err(lost)?;
        if status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&text);
        let (kind, remedy) = said(&text);
        Err(fault(kind, op, format_args!("{}{remedy}", text.trim())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[tokio::test]
    async fn a_run_that_hangs_is_killed_at_its_deadline() {
        let tool = QemuImg::new("sleep".into());
        let begun = Instant::now();
        let error = tool
            .run("test", &["1000"], Duration::from_millis(100))
            .await
            .unwrap_err();
        assert_eq!(error.kind, DriverErrorKind::Timeout);
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn a_run_sees_nothing_of_our_environment() {
        let tool = QemuImg::new("sh".into());
        let script = r#"test -z "$HOME$CARGO$USER" && test "$LC_ALL" = C && ! read line"#;
        tool.run("test", &["-c", script], Duration::from_secs(10))
            .await
            .unwrap();
        let full = "echo x: No space left on device >&2; exit 1";
        let error = tool
            .run("test", &["-c", full], Duration::from_secs(10))
            .await
            .unwrap_err();
        assert_eq!(error.kind, DriverErrorKind::NoSpace);
    }
}
