//! What this host's QEMU is and can do, found by trying it.

use crate::process::run_to_end;
use std::{ffi::OsStr, path::Path, time::Duration};
use stillpoint_engine::ports::{Driven, DriverError, DriverErrorKind};

const OP: &str = "probe QEMU";
/// A cold start from a slow disk, on a busy host.
const PROBE_LIMIT: Duration = Duration::from_secs(30);
/// The CPU that guests get under KVM: all that the host has.
pub(crate) const KVM_CPU: &str = "host";

/// Which accelerator machines shall use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Accel {
    /// KVM if it works, else TCG.
    #[default]
    Auto,
    /// KVM, or fail.
    Kvm,
    /// QEMU's own emulation.
    Tcg,
}

/// What was found.
#[derive(Debug, Clone)]
pub(crate) struct Probed {
    pub(crate) version: String,
    pub(crate) default_machine: String,
    /// `kvm` or `tcg`.
    pub(crate) accelerator: &'static str,
    /// For the log, one sentence.
    pub(crate) sentence: String,
}

/// Looks for the programs, QEMU's version and the accelerator.
///
/// # Errors
/// `NotFound` naming the Debian package of a missing program; `Unsupported` if KVM was demanded and does not work.
pub(crate) async fn probe(qemu: &Path, storage_daemon: &Path, accel: Accel) -> Driven<Probed> {
    // One after the other these would be half of the time that a daemon takes to start.
    let (version, daemon, image_tool, machines) = tokio::join!(
        version_of(qemu, "qemu-system-x86"),
        version_of(storage_daemon, "qemu-system-x86 or qemu-utils"),
        version_of(Path::new("qemu-img"), "qemu-utils"),
        text_of(qemu, &["-machine", "help"], ""),
    );
    let (version, _) = (version?, (daemon?, image_tool?));
    let machines = machines?;
    let default_machine = alias_target(&machines, "pc").ok_or_else(|| {
        DriverError::new(
            DriverErrorKind::Unsupported,
            OP,
            "QEMU lists no machine type behind the alias pc",
        )
    })?;
    let (accelerator, why) = match accel {
        Accel::Tcg => ("tcg", "as configured".to_owned()),
        Accel::Kvm => {
            try_kvm(qemu, &default_machine).await?;
            ("kvm", "as configured".to_owned())
        }
        Accel::Auto => match expect_hardware().and(try_kvm(qemu, &default_machine).await) {
            Ok(()) => ("kvm", "it works on this host".to_owned()),
            Err(error) => ("tcg", format!("KVM does not work here ({})", error.chain())),
        },
    };
    let sentence = format!("QEMU {version}, machine type {default_machine}, accelerator {accelerator}: {why}");
    Ok(Probed {
        version,
        default_machine,
        accelerator,
        sentence,
    })
}

async fn text_of(program: &Path, arguments: &[&str], input: &str) -> Driven<String> {
    let arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
    let output = run_to_end(program, &arguments, input, PROBE_LIMIT).await?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr)
            .chars()
            .take(300)
            .collect::<String>();
        let text = format!("{} ended with {}: {}", program.display(), output.status, text.trim());
        return Err(DriverError::new(DriverErrorKind::Unsupported, OP, text));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

async fn version_of(program: &Path, package: &str) -> Driven<String> {
    let text = text_of(program, &["--version"], "").await.map_err(|error| {
        if error.kind == DriverErrorKind::NotFound {
            let text = format!("{} is missing: install the Debian package {package}", program.display());
            DriverError::new(DriverErrorKind::NotFound, OP, text).caused_by(error)
        } else {
            error
        }
    })?;
    let number = text
        .split_ascii_whitespace()
        .skip_while(|word| *word != "version")
        .nth(1);
    number.map(str::to_owned).ok_or_else(|| {
        let text = format!("{} does not tell its version", program.display());
        DriverError::new(DriverErrorKind::Unsupported, OP, text)
    })
}

/// `pc   Standard PC (i440FX + PIIX, 1996) (alias of pc-i440fx-7.2)` gives the versioned name: an alias would mean
/// another machine after an upgrade, and saved memories would not fit.
fn alias_target(machines: &str, alias: &str) -> Option<String> {
    let line = machines
        .lines()
        .find(|line| line.split_ascii_whitespace().next() == Some(alias))?;
    let (_, rest) = line.split_once("(alias of ")?;
    Some(rest.split(')').next()?.trim().to_owned())
}

/// Whether the host's CPU virtualises in hardware, as `/proc/cpuinfo` tells it; `true` where it tells no flags at all.
fn virtualises(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().find_map(|line| line.strip_prefix("flags"));
    flags.is_none_or(|flags| flags.split_ascii_whitespace().any(|flag| matches!(flag, "vmx" | "svm")))
}

/// A `/dev/kvm` of a CPU without hardware virtualisation is emulated in software: it starts machines, and then meets an
/// instruction that it cannot emulate somewhere in the guest's kernel. Nothing that is tried in a second finds that out.
fn expect_hardware() -> Driven<()> {
    // An unreadable file says nothing: then the try decides alone.
    match std::fs::read_to_string("/proc/cpuinfo") {
        Ok(text) if !virtualises(&text) => Err(DriverError::new(
            DriverErrorKind::Unsupported,
            OP,
            "the CPU has neither vmx nor svm, so its /dev/kvm is emulated in software",
        )),
        _ => Ok(()),
    }
}

/// `/dev/kvm` may be there and still not work (nested without support, a filter, rights), or open and then fail in the
/// first vCPU: only a start tells. The throw-away machine has the chipset and the CPU that guests get, and its vCPU runs.
async fn try_kvm(qemu: &Path, machine: &str) -> Driven<()> {
    if !Path::new("/dev/kvm").exists() {
        return Err(DriverError::new(
            DriverErrorKind::Unsupported,
            OP,
            "there is no /dev/kvm",
        ));
    }
    let machine = format!("{machine},accel=kvm");
    let arguments = [
        "-machine",
        &machine,
        "-cpu",
        KVM_CPU,
        "-m",
        "32",
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-qmp",
        "stdio",
    ];
    let commands = "{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"query-status\"}\n{\"execute\":\"quit\"}\n";
    text_of(qemu, &arguments, commands).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versioned_machine_type_is_read_from_the_list() {
        let list = "Supported machines are:\nmicrovm   microvm (i386)\n\
                    pc                   Standard PC (i440FX + PIIX, 1996) (alias of pc-i440fx-7.2)\n\
                    pc-i440fx-7.2        Standard PC (i440FX + PIIX, 1996) (default)\n";
        assert_eq!(alias_target(list, "pc").as_deref(), Some("pc-i440fx-7.2"));
        assert_eq!(alias_target(list, "q35"), None);
    }

    #[test]
    fn a_cpu_without_hardware_virtualisation_is_known() {
        assert!(virtualises("processor\t: 0\nflags\t\t: fpu vmx sse\n"));
        assert!(virtualises("flags : fpu svm\n"));
        assert!(!virtualises("model name : vmx\nflags\t\t: fpu sse hypervisor\n"));
        assert!(
            virtualises("processor : 0\n"),
            "nothing is told, so nothing is ruled out"
        );
    }

    #[tokio::test]
    async fn what_this_host_can_do_is_found_and_said() {
        let programs = (Path::new("qemu-system-x86_64"), Path::new("qemu-storage-daemon"));
        let probed = probe(programs.0, programs.1, Accel::Auto).await.unwrap();
        assert!(probed.default_machine.starts_with("pc-i440fx-"), "{probed:?}");
        assert!(probed.version.starts_with(|c: char| c.is_ascii_digit()), "{probed:?}");
        assert!(probed.sentence.contains(probed.accelerator), "{probed:?}");
        let forced = probe(programs.0, programs.1, Accel::Kvm).await;
        // Who demands KVM gets it where it starts, also where it is emulated.
        match forced {
            Ok(forced) => assert_eq!(forced.accelerator, "kvm"),
            Err(error) => {
                assert_eq!(error.kind, DriverErrorKind::Unsupported);
                assert_eq!(probed.accelerator, "tcg");
            }
        }
    }

    #[tokio::test]
    async fn a_missing_program_is_named_with_its_package() {
        let missing = Path::new("/nonexistent/qemu-system-x86_64");
        let error = probe(missing, missing, Accel::Tcg).await.unwrap_err();
        assert_eq!(error.kind, DriverErrorKind::NotFound);
        assert!(error.context.contains("qemu-system-x86"), "{error}");
    }
}
