//! Short runs of `qemu-img`: explicit arguments, a cleared environment, a deadline, nothing shared with us.

use super::fail::{fault, said};
use std::{path::PathBuf, process::Stdio, time::Duration};
use stillpoint_engine::ports::{Driven, DriverErrorKind, Progress};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::Command,
};

/// Bytes of error text that are kept.
const TEXT_BYTES_MAX: u64 = 16 << 10;
/// Longest line of progress; a longer one is none.
const LINE_BYTES_MAX: usize = 64;

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
        self.run_telling(op, arguments, limit, &|_done, _total| {}).await
    }

    /// The same; what it prints about its progress (`-p`) is told in percents.
    pub(super) async fn run_telling(
        &self,
        op: &'static str,
        arguments: &[&str],
        limit: Duration,
        progress: Progress<'_>,
    ) -> Driven<()> {
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
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(lost)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let work = async {
            let said = async {
                let mut text = Vec::new();
                if let Some(stderr) = stderr {
                    stderr.take(TEXT_BYTES_MAX).read_to_end(&mut text).await?;
                }
                Ok(text)
            };
            let told = async {
                match stdout {
                    Some(stdout) => tell(stdout, progress).await,
                    None => Ok(()),
                }
            };
            let (text, ()) = tokio::try_join!(said, told)?;
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

/// Reads what a run prints to its end: `(12.34/100%)` again and again, each ended by a carriage return.
async fn tell(mut from: impl AsyncRead + Unpin, progress: Progress<'_>) -> std::io::Result<()> {
    let (mut buffer, mut line) = ([0; 256], Vec::new());
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        for byte in &buffer[..read] {
            if !matches!(byte, b'\r' | b'\n') && line.len() < LINE_BYTES_MAX {
                line.push(*byte);
                continue;
            }
            if let Some(percent) = percent(&line) {
                progress(percent, 100);
            }
            line.clear();
        }
    }
}

fn percent(line: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(line).ok()?.trim();
    let whole = text.strip_prefix('(')?.split('.').next()?;
    whole.parse().ok().filter(|percent| *percent <= 100)
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

    #[tokio::test]
    async fn a_run_tells_how_far_it_is() {
        let tool = QemuImg::new("sh".into());
        let told = std::sync::Mutex::new(Vec::new());
        let script = r"printf '    (0.00/100%%)\r    (41.99/100%%)\rnonsense (7\r    (100.00/100%%)\r\n'";
        let progress = |done, total| told.lock().unwrap().push((done, total));
        tool.run_telling("test", &["-c", script], Duration::from_secs(10), &progress)
            .await
            .unwrap();
        assert_eq!(*told.lock().unwrap(), [(0, 100), (41, 100), (100, 100)]);
    }
}
