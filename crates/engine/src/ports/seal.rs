//! What the file of a frozen image is, in facts that do not stay the same when somebody writes to it.

use serde::{Deserialize, Serialize};

/// Facts of a file. Two that are the same: nobody has written to it in between, unless he had the clock or the file
/// system itself in his hands.
///
/// Allocated blocks are not among them: file systems that allocate late, or more than was asked for, change them by
/// themselves (XFS, btrfs), and no write leaves the time of change as it was. Nor is the device's number, which is another
/// one after a restart of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// The inode: another file under the same name has another one.
    pub inode: u64,
    /// Length of the file in bytes.
    pub length_bytes: u64,
    /// Last write, nanoseconds since 1970. Anybody can set it back.
    pub modified_ns: i64,
    /// Last change of the file or of its inode. Nobody can set it back.
    pub changed_ns: i64,
    /// SHA-256 of its first 4 KiB, in hex: the header of a qcow2.
    pub head: String,
}

impl Seal {
    /// What is not as it was, for people; `None` if all is.
    #[must_use]
    pub fn difference(&self, now: &Self) -> Option<String> {
        if self == now {
            return None;
        }
        let told = if self.inode != now.inode {
            "it is another file".to_owned()
        } else if self.length_bytes != now.length_bytes {
            format!("it has {} bytes, and had {}", now.length_bytes, self.length_bytes)
        } else if self.head != now.head {
            "its header is another one".to_owned()
        } else if self.modified_ns != now.modified_ns {
            "it was written to".to_owned()
        } else {
            "its inode was changed".to_owned()
        };
        Some(told)
    }
}
