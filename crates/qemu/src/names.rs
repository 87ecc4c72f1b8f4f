//! Names that QEMU knows our things by: each a role letter and the base32 of an id.
//!
//! Derived, never drawn at random: a step that runs twice finds its own earlier work, and an observed graph names the
//! recorded images without a map. QEMU refuses node names of 32 characters and more; these have 27.

use stillpoint_types::{DiskId, ImageId, NicId};

/// Format node of an image (qcow2 or raw).
pub(crate) fn format_node(image: ImageId) -> String {
    format!("n{}", image.base32())
}

/// Protocol node of an image (its file).
pub(crate) fn protocol_node(image: ImageId) -> String {
    format!("f{}", image.base32())
}

/// Second format node of an image, which shares what it stands on with a writer: see [`crate::merge`], `beside`.
pub(crate) fn shadow_node(image: ImageId) -> String {
    format!("s{}", image.base32())
}

/// Protocol node of that one.
pub(crate) fn shadow_protocol_node(image: ImageId) -> String {
    format!("p{}", image.base32())
}

/// Block job that merges `top` down; also the name of the filter node that the job puts into the graph.
pub(crate) fn merge_job(top: ImageId) -> String {
    format!("m{}", top.base32())
}

/// Device of a disk.
pub(crate) fn disk_device(disk: DiskId) -> String {
    format!("d{}", disk.base32())
}

/// Device of a network interface.
pub(crate) fn nic_device(nic: NicId) -> String {
    format!("e{}", nic.base32())
}

/// Host side of a network interface.
pub(crate) fn nic_peer(nic: NicId) -> String {
    format!("u{}", nic.base32())
}

/// What a node's name says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NodeRole {
    /// Format node of an image.
    Format(ImageId),
    /// Its second format node, while the layer above stands on that one.
    Shadow(ImageId),
    /// Protocol node of an image.
    Protocol(ImageId),
    /// Filter of our own merge job.
    MergeFilter,
    /// Not named by us.
    Foreign,
}

/// Reads a node's name.
pub(crate) fn node_role(name: &str) -> NodeRole {
    let role = name
        .strip_prefix(['n', 's', 'f', 'p', 'm'])
        .and_then(ImageId::from_base32);
    match (name.as_bytes().first(), role) {
        (Some(b'n'), Some(image)) => NodeRole::Format(image),
        (Some(b's'), Some(image)) => NodeRole::Shadow(image),
        (Some(b'f' | b'p'), Some(image)) => NodeRole::Protocol(image),
        (Some(b'm'), Some(_)) => NodeRole::MergeFilter,
        _ => NodeRole::Foreign,
    }
}

/// The disk that a device serves, from `qdev` of `query-block`.
///
/// That member is the device's id (`ide-hd`, `scsi-hd`) or the path of an inner object
/// (`/machine/peripheral/ID/virtio-backend`): seen with QEMU 7.2.
pub(crate) fn disk_of_device(qdev: &str) -> Option<DiskId> {
    let id = match qdev.strip_prefix("/machine/peripheral/") {
        Some(rest) => rest.split('/').next()?,
        None => qdev,
    };
    DiskId::from_base32(id.strip_prefix('d')?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_names_lead_back_to_their_image_and_foreign_ones_do_not() {
        let image = ImageId::fresh();
        assert_eq!(node_role(&format_node(image)), NodeRole::Format(image));
        assert_eq!(node_role(&shadow_node(image)), NodeRole::Shadow(image));
        for protocol in [protocol_node(image), shadow_protocol_node(image)] {
            assert_eq!(node_role(&protocol), NodeRole::Protocol(image));
        }
        assert_eq!(node_role(&merge_job(image)), NodeRole::MergeFilter);
        for foreign in ["", "n", "#block123", "nübel", "x", "naaaa"] {
            assert_eq!(node_role(foreign), NodeRole::Foreign, "{foreign}");
        }
    }

    #[test]
    fn devices_of_every_bus_lead_back_to_their_disk() {
        let disk = DiskId::fresh();
        let id = disk_device(disk);
        assert_eq!(disk_of_device(&id), Some(disk));
        assert_eq!(
            disk_of_device(&format!("/machine/peripheral/{id}/virtio-backend")),
            Some(disk)
        );
        assert_eq!(disk_of_device("/machine/unattached/device[3]"), None);
    }
}
