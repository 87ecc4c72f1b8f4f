"""The unmodified oVirt SDK 4.6.3 and the unmodified imageio client 2.5.1 back up a running VM whose guest writes.

What a backup script of the SDK's examples does: a full backup, then incremental ones from the newest checkpoint, each
disk downloaded as a qcow2 file over the one of the backup before. Beside each, the same ticket gives the whole disk of that
moment, which the chain of files has to equal.

Usage: backup.py DIRECTORY VM IMAGES, the last being the directory of the storage domain. Writes DIRECTORY/POINT-DISK.qcow2
and .raw and prints a JSON list of points, each a list of the chain files of its disks, in device order.
Environment: as in common.py.
"""

import json
import subprocess
import sys

from common import CA, begin_transfer, connect, eventually, finish_transfer, wait_gone, wait_records
from ovirt_imageio import client
from ovirtsdk4 import types

DIRECTORY, VM, IMAGES = sys.argv[1:]

connection = connect()
system = connection.system_service()
vm = system.vms_service().vm_service(VM)
backups = vm.backups_service()


def phase(service, wanted):
    def look():
        now = service.get()
        assert now.phase != types.BackupPhase.FAILED, now.description
        return now if now.phase == wanted else None

    return eventually(wanted, look)


def back_up(checkpoint, files, **query):
    """One backup of all disks: the checkpoint that it made, and the newest file of each disk."""
    disks = [attachment.disk.id for attachment in vm.disk_attachments_service().list()]
    started = backups.add(
        types.Backup(disks=[types.Disk(id=disk) for disk in disks], from_checkpoint_id=checkpoint), query=query
    )
    service = backups.backup_service(started.id)
    ready = phase(service, types.BackupPhase.READY)
    modes = {disk.id: disk.backup_mode for disk in service.disks_service().list()}
    new = {disk: download(started.id, disk, modes[disk], files.get(disk)) for disk in disks}
    service.finalize()
    phase(service, types.BackupPhase.SUCCEEDED)
    made = vm.checkpoints_service().list()[-1]
    assert made.id == ready.to_checkpoint_id, (made.id, ready.to_checkpoint_id)
    points.append(list(new.values()))
    return made.id, new


def download(backup, disk, mode, before):
    """What the backup holds of a disk, as a file upon that of the backup before; compared with the whole disk."""
    # Only a disk that no earlier backup had is backed up in full.
    assert (mode == types.DiskBackupMode.INCREMENTAL) == bool(before), (disk, mode, before)
    service, transfer = begin_transfer(
        connection,
        backup=types.Backup(id=backup),
        disk=types.Disk(id=disk),
        direction=types.ImageTransferDirection.DOWNLOAD,
        format=types.DiskFormat.RAW,
    )
    file, whole = (f"{DIRECTORY}/{len(points)}-{disk}.{form}" for form in ("qcow2", "raw"))
    backing = {"backing_file": before, "backing_format": "qcow2"} if before else {}
    client.download(transfer.transfer_url, file, CA, incremental=bool(before), **backing)
    # One ticket: what changed, and the whole disk.
    client.download(transfer.transfer_url, whole, CA, fmt="raw")
    subprocess.run(["qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", file, whole], check=True)
    finish_transfer(service)
    return file


def take_snapshot(description):
    made = snapshots.add(types.Snapshot(description=description, persist_memorystate=False))
    service = snapshots.snapshot_service(made.id)
    eventually("the snapshot", lambda: service.get().snapshot_status == types.SnapshotStatus.OK)
    return service


def start():
    vm.start()
    eventually("the VM to be up", lambda: vm.get().status == types.VmStatus.UP)
    wait_records(VM)


def stop():
    vm.stop()
    eventually("the VM to be down", lambda: vm.get().status == types.VmStatus.DOWN)


def extend(disk, size_bytes):
    vm.disk_attachments_service().attachment_service(disk).update(
        types.DiskAttachment(disk=types.Disk(provisioned_size=size_bytes))
    )
    disk_service = system.disks_service().disk_service(disk)
    eventually("the disk to be larger", lambda: (now := disk_service.get()).status == types.DiskStatus.OK
               and now.provisioned_size == size_bytes)


def write_at_rest(disk, at_mib):
    """As a guest would."""
    image = system.disks_service().disk_service(disk).get().image_id
    command = f"write -P 0x5a {at_mib}M 1M"
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", command, f"{IMAGES}/{image}.qcow2"],
                   check=True, stdout=subprocess.DEVNULL)


def add_disk():
    domain = next(d for d in system.storage_domains_service().list() if d.type == types.StorageDomainType.DATA)
    added = vm.disk_attachments_service().add(
        types.DiskAttachment(
            interface=types.DiskInterface.VIRTIO_SCSI,
            active=True,
            disk=types.Disk(
                name="added",
                format=types.DiskFormat.COW,
                provisioned_size=16 << 20,
                storage_domains=[types.StorageDomain(id=domain.id)],
            ),
        )
    ).disk.id
    eventually("the disk", lambda: system.disks_service().disk_service(added).get().status == types.DiskStatus.OK)
    return added


points = []
snapshots = vm.snapshots_service()
checkpoint, files = back_up(None, {})
data = list(files)[1]
checkpoint, files = back_up(checkpoint, files, require_consistency=True)

meanwhile = take_snapshot("meanwhile")
checkpoint, files = back_up(checkpoint, files, use_active=True)

meanwhile.remove()
wait_gone(meanwhile)
checkpoint, files = back_up(checkpoint, files)

to_restore = take_snapshot("to restore")
wait_records(VM, 20)
checkpoint, files = back_up(checkpoint, files)
stop()
checkpoint, files = back_up(checkpoint, files)

to_restore.restore()
eventually("the restore", lambda: to_restore.get().snapshot_status == types.SnapshotStatus.OK)
checkpoint, files = back_up(checkpoint, files)
start()
extend(data, 64 << 20)
checkpoint, files = back_up(checkpoint, files)

stop()
write_at_rest(data, 60)
write_at_rest(add_disk(), 10)
start()
checkpoint, files = back_up(checkpoint, files)
print(json.dumps(points))
connection.close()
