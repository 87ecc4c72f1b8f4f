//! Every documented limit of the core, in one place, with its reason.

use crate::fault::Fault;
use stillpoint_types::FaultCode;

/// Characters of a name (oVirt's limit).
pub(crate) const NAME_MAX: usize = 255;
/// Characters of a description or comment (oVirt's limit for snapshots).
pub(crate) const TEXT_MAX: usize = 4000;
/// Characters of a kernel command line (the kernel's own limit on x86 is 2048 bytes).
pub(crate) const CMDLINE_MAX: usize = 2048;
/// Layers of a chain: opening costs grow with depth; 200 must work.
pub(crate) const CHAIN_MAX: usize = 256;
/// Largest disk, bytes: 64 TiB, beyond which a qcow2 L1 table of 64 KiB clusters becomes unreasonable.
pub(crate) const DISK_MAX_BYTES: u64 = 64 << 40;
/// Smallest guest RAM, bytes.
pub(crate) const MEMORY_MIN_BYTES: u64 = 32 << 20;
/// Largest guest RAM, bytes.
pub(crate) const MEMORY_MAX_BYTES: u64 = 4 << 40;
/// Virtual CPUs: what the `pc` machine allows.
pub(crate) const CPUS_MAX: u32 = 255;
/// Disks and interfaces on PCI: what the machine leaves free of bus 0.
pub(crate) const PCI_SLOTS: std::ops::RangeInclusive<u8> = 4..=31;
/// Image transfers under way at once: each has a storage daemon of its own, some 30 MiB of memory.
pub(crate) const TRANSFERS_MAX: u64 = 64;
/// Longest time that a client may ask to be idle, seconds: 30 days. (0: any time.)
pub(crate) const INACTIVITY_MAX_S: u64 = 30 * 24 * 3600;
/// Characters of a backup's description (oVirt's limit).
pub(crate) const BACKUP_TEXT_MAX: usize = 1024;
/// Jobs that clients may have added in a project at a time, ended ones that wait to be cleared among them.
pub(crate) const CLIENT_JOBS_MAX: u64 = 1000;
/// Steps of such a job.
pub(crate) const CLIENT_STEPS_MAX: u64 = 1000;
/// Events of clients that are kept in a project; the oldest go first.
pub(crate) const CLIENT_EVENTS_MAX: u32 = 10_000;
/// Free bytes below which a backup is given up: what the guest writes meanwhile takes new space.
pub(crate) const BACKUP_RESERVE_BYTES: u64 = RESERVE_BYTES / 2;
/// Free bytes that a domain keeps for itself: below it nothing new is begun, so that guests can go on writing.
pub(crate) const RESERVE_BYTES: u64 = 256 << 20;

/// Checks a text's length in characters, and that it has no character that XML cannot carry.
pub(crate) fn text(what: &str, value: &str, max: usize) -> Result<(), Fault> {
    let length = value.chars().count();
    if length > max {
        return Err(Fault::new(
            FaultCode::TooLong,
            format!("The {what} is {length} characters long; at most {max} are allowed."),
        ));
    }
    if value
        .chars()
        .any(|c| c.is_control() && !matches!(c, '\n' | '\t' | '\r') || matches!(c, '\u{FFFE}' | '\u{FFFF}'))
    {
        return Err(Fault::new(
            FaultCode::InvalidValue,
            format!("The {what} holds a control character; leave it out."),
        ));
    }
    Ok(())
}

/// Checks a name: not empty, not too long, no character that a file, a search or a command line would stumble over.
pub(crate) fn name(what: &str, value: &str) -> Result<(), Fault> {
    text(what, value, NAME_MAX)?;
    let good = |c: char| c.is_alphanumeric() || "-_. +@:()".contains(c);
    if value.trim() != value || value.is_empty() || !value.chars().all(good) {
        return Err(Fault::new(
            FaultCode::InvalidValue,
            format!(
                "The {what} {value:?} is not allowed: use letters and digits of any script and - _ . + @ : ( ) and \
                 inner spaces."
            ),
        ));
    }
    Ok(())
}

/// Checks a whole number against its limits.
pub(crate) fn range(what: &str, value: u64, min: u64, max: u64) -> Result<(), Fault> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Fault::new(
        FaultCode::OutOfRange,
        format!("The value {value} of attribute '{what}' is outside of range {min} to {max}."),
    ))
}
