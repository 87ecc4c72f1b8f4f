//! Typed ids: a bare UUID never crosses a function boundary.
//!
//! Ids print as lower-case hyphenated UUIDs, which is what every dialect shows.

use data_encoding::{Encoding, Specification};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, sync::LazyLock};
use uuid::Uuid;

/// The text was no UUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a UUID")]
pub struct BadId(pub String);

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $new:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Makes a fresh id that no other call returns.
            #[must_use]
            pub fn fresh() -> Self {
                Self(Uuid::$new())
            }

            /// 26 characters of lower-case base32: short enough for a QEMU node name (31 at most) with a role letter.
            #[must_use]
            pub fn base32(&self) -> String {
                BASE32.encode(self.0.as_bytes())
            }

            /// The id that [`Self::base32`] was made from.
            #[must_use]
            pub fn from_base32(text: &str) -> Option<Self> {
                let bytes = BASE32.decode(text.as_bytes()).ok()?;
                Uuid::from_slice(&bytes).ok().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            /// Reads the hyphenated form, in either case, and nothing else.
            fn from_str(text: &str) -> Result<Self, BadId> {
                let bad = || BadId(text.chars().take(64).collect());
                if text.len() != 36 {
                    return Err(bad());
                }
                Uuid::try_parse(text).map(Self).map_err(|_not_hex| bad())
            }
        }
    )*};
}

ids! {
    /// A virtual machine; stable for its life.
    VmId = new_v4;
    /// A disk, what the VM sees; stable for its life. In oVirt also the id of its attachment.
    DiskId = new_v4;
    /// One image file of the tree; changes hands when images are merged.
    ImageId = new_v4;
    /// A VM snapshot; the active one takes a fresh id at every snapshot.
    SnapshotId = new_v4;
    /// A snapshot of one volume, as the volume APIs know it: one that they made, or a member of a VM snapshot.
    VolumeSnapshotId = new_v4;
    /// A type of volumes.
    VolumeTypeId = new_v4;
    /// A saved guest memory.
    MemoryId = new_v4;
    /// A network interface of a VM.
    NicId = new_v4;
    /// A storage domain: one directory.
    DomainId = new_v4;
    /// A project (tenant).
    ProjectId = new_v4;
    /// A user.
    UserId = new_v4;
    /// A durable job; ordered by the time of its making.
    JobId = now_v7;
    /// An image transfer; its job has the same UUID. Not a secret: the ticket is another id.
    TransferId = now_v7;
    /// A backup; its job has the same UUID. A client may choose it.
    BackupId = now_v7;
    /// A checkpoint: a moment of a VM since which changes are known. Never chosen by a client.
    CheckpointId = now_v7;
    /// A step of a job, as clients see it.
    StepId = new_v4;
}

/// The name in an image transfer's URL, and its whole secret: 122 random bits.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TicketId(pub Uuid);

impl fmt::Debug for TicketId {
    /// Without the secret: whoever reads a log must not be able to read a disk.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketId(..)")
    }
}

static BASE32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut spec = Specification::new();
    spec.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    spec.encoding()
        .expect("the alphabet above is a valid base32 specification")
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_text_and_base32() {
        let id = ImageId::fresh();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.base32().len(), 26);
        assert_eq!(ImageId::from_base32(&id.base32()), Some(id));
    }

    #[test]
    fn what_is_no_hyphenated_uuid_is_refused() {
        for text in [
            "",
            "x",
            "550e8400e29b41d4a716446655440000",
            "{550e8400-e29b-41d4-a716-446655440000}",
            "../../etc",
        ] {
            assert!(text.parse::<VmId>().is_err(), "{text}");
        }
        assert!("550E8400-E29B-41D4-A716-446655440000".parse::<VmId>().is_ok());
    }
}
