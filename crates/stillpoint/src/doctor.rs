//! `stillpoint doctor`: looks at the host, says what works and what to do about what does not.
//!
//! It starts nothing that stays and changes nothing. Exit code 0 when a daemon could run here, 1 when not.

use crate::client::print;
use crate::{Failure, cli::DoctorOptions, serve::default_data_dir};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};
use stillpoint_engine::ports::{Hypervisor, Images};
use stillpoint_qemu::{Accel, Qemu, images::LocalImages};

/// Free space below which guests soon stop, bytes.
const SPACE_WANTED_BYTES: u64 = 4 << 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    Note,
    Bad,
}

#[derive(Debug, Default)]
struct Report {
    bad: usize,
}

impl Report {
    fn say(&mut self, verdict: Verdict, what: &str, remedy: Option<&str>) {
        let mark = match verdict {
            Verdict::Good => "ok   ",
            Verdict::Note => "note ",
            Verdict::Bad => "BAD  ",
        };
        self.bad += usize::from(verdict == Verdict::Bad);
        let remedy = remedy.map_or_else(String::new, |remedy| format!("\n      {remedy}"));
        // Who has read enough is told no more; the exit code says the rest.
        if let Err(trouble) = print(&format!("{mark} {what}{remedy}")) {
            tracing::debug!(%trouble, "standard output cannot be written to");
        }
    }
}

pub(crate) async fn run(options: &DoctorOptions) -> Result<ExitCode, Failure> {
    let data_dir = options.data_dir.clone().map_or_else(default_data_dir, Ok)?;
    let mut report = Report::default();
    qemu(&mut report).await?;
    userfaultfd(&mut report);
    directory(&mut report, &data_dir).await;
    Ok(if report.bad == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn qemu(report: &mut Report) -> Result<(), Failure> {
    // A directory of its own: the doctor must not disturb a daemon that runs.
    let scratch = tempfile::Builder::new().prefix("spd").tempdir()?;
    match Qemu::new(stillpoint_qemu::Config::new(scratch.path().to_owned(), Accel::Auto)).await {
        Ok((qemu, sentence)) => {
            report.say(Verdict::Good, &format!("QEMU {}", qemu.version()), None);
            if qemu.accelerator() == "kvm" {
                report.say(Verdict::Good, &sentence, None);
            } else {
                let remedy = "Guests run about ten times slower. Load the module kvm_intel or kvm_amd, switch virtualisation \
                              on in the firmware, and give this user access to /dev/kvm (group kvm).";
                report.say(Verdict::Note, &sentence, Some(remedy));
            }
        }
        Err(error) => report.say(
            Verdict::Bad,
            &error.chain(),
            Some("apt-get install qemu-system-x86 qemu-utils"),
        ),
    }
    for tool in ["qemu-img", "qemu-storage-daemon"] {
        let found = ["/usr/local/bin", "/usr/bin", "/bin"]
            .iter()
            .map(|dir| Path::new(dir).join(tool))
            .find(|p| p.exists());
        match found {
            Some(path) => report.say(Verdict::Good, &format!("{tool}: {}", path.display()), None),
            None => report.say(
                Verdict::Bad,
                &format!("{tool} is missing"),
                Some("apt-get install qemu-utils qemu-system-common"),
            ),
        }
    }
    Ok(())
}

/// Saving a memory in the background needs userfaultfd write protection (qemu-mechanics section 5).
fn userfaultfd(report: &mut Report) {
    let allowed = rustix::process::geteuid().is_root()
        || std::fs::read_to_string("/proc/sys/vm/unprivileged_userfaultfd").is_ok_and(|text| text.trim() == "1");
    if allowed {
        report.say(
            Verdict::Good,
            "memory can be saved while guests run (userfaultfd)",
            None,
        );
    } else {
        let remedy = "Snapshots with memory stop the guest until its memory is written. Run as root, or: \
                      sysctl vm.unprivileged_userfaultfd=1";
        report.say(Verdict::Note, "userfaultfd is not allowed for this user", Some(remedy));
    }
}

async fn directory(report: &mut Report, data_dir: &Path) {
    let shown = data_dir.display();
    // The nearest directory that is there: the data directory may still have to be made.
    let there: Option<PathBuf> = data_dir.ancestors().find(|dir| dir.is_dir()).map(Path::to_owned);
    let Some(there) = there else {
        return report.say(
            Verdict::Bad,
            &format!("data directory {shown} cannot be made"),
            Some("choose another: --data-dir"),
        );
    };
    if rustix::fs::access(&there, rustix::fs::Access::WRITE_OK).is_err() {
        let remedy = "run as its owner, or choose another: --data-dir";
        report.say(
            Verdict::Bad,
            &format!("data directory {shown} is not writable"),
            Some(remedy),
        );
    }
    match LocalImages::new("qemu-img").space(&there).await {
        Ok(space) if space.available_bytes >= SPACE_WANTED_BYTES => {
            report.say(
                Verdict::Good,
                &format!("{} GiB free for {shown}", space.available_bytes >> 30),
                None,
            );
        }
        Ok(space) => {
            let text = format!("only {} MiB free for {shown}", space.available_bytes >> 20);
            report.say(
                Verdict::Note,
                &text,
                Some("guests stop when their storage is full: make room"),
            );
        }
        Err(error) => report.say(Verdict::Bad, &error.chain(), None),
    }
    match std::fs::read_to_string(data_dir.join("lock")) {
        Ok(pid) if Path::new("/proc").join(pid.trim()).exists() => {
            report.say(
                Verdict::Note,
                &format!("a daemon runs on {shown} (process {})", pid.trim()),
                None,
            );
        }
        _ => report.say(Verdict::Good, &format!("no daemon runs on {shown}"), None),
    }
}
