"""The unmodified oVirt SDK 4.6.3 and the unmodified imageio client 2.5.1 back up a running VM whose guest writes.

What a backup script of the SDK's examples does: a full backup, then incremental ones from the newest checkpoint, each
disk downloaded as a qcow2 file over the one of the backup before. Beside each, the same ticket gives the whole disk of that
moment, which the chain of files has to equal.

Usage: backup.py DIRECTORY VM. Writes DIRECTORY/POINT-DISK.qcow2 and .raw and prints a JSON list of points, each a list
of the chain files of its disks, in device order.
Environment: as in common.py.
"""

import json
import subprocess
import sys

from common import CA, begin_transfer, connect, eventually, finish_transfer, wait_gone
from ovirt_imageio import client
from ovirtsdk4 import types

DIRECTORY, VM = sys.argv[1:]

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


def back_up(point, disks, checkpoint, before, **query):
    """One backup; the checkpoint that it made, and the files of its disks."""
    started = backups.add(
        types.Backup(disks=[types.Disk(id=disk) for disk in disks], from_checkpoint_id=checkpoint), query=query
    )
    service = backups.backup_service(started.id)
    ready = phase(service, types.BackupPhase.READY)
    modes = {disk.id: disk.backup_mode for disk in service.disks_service().list()}
    files = []
    for index, disk in enumerate(disks):
        wanted = types.DiskBackupMode.INCREMENTAL if checkpoint else types.DiskBackupMode.FULL
        assert modes[disk] == wanted, modes
        transfer_service, transfer = begin_transfer(
            connection,
            backup=types.Backup(id=started.id),
            disk=types.Disk(id=disk),
            direction=types.ImageTransferDirection.DOWNLOAD,
            format=types.DiskFormat.RAW,
        )
        file, whole = (f"{DIRECTORY}/{point}-{index}.{form}" for form in ("qcow2", "raw"))
        backing = {"backing_file": before[index], "backing_format": "qcow2"} if checkpoint else {}
        client.download(transfer.transfer_url, file, CA, incremental=bool(checkpoint), **backing)
        # One ticket: what changed, and the whole disk.
        client.download(transfer.transfer_url, whole, CA, fmt="raw")
        subprocess.run(["qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", file, whole], check=True)
        finish_transfer(transfer_service)
        files.append(file)
    service.finalize()
    phase(service, types.BackupPhase.SUCCEEDED)
    made = vm.checkpoints_service().list()[-1]
    assert made.id == ready.to_checkpoint_id, (made.id, ready.to_checkpoint_id)
    return made.id, files


disks = [attachment.disk.id for attachment in vm.disk_attachments_service().list()]
checkpoint, files = back_up(0, disks, None, None)
points = [files]
checkpoint, files = back_up(1, disks, checkpoint, files, require_consistency=True)
points.append(files)

snapshots = vm.snapshots_service()
snapshot = snapshots.add(types.Snapshot(description="meanwhile", persist_memorystate=False))
service = snapshots.snapshot_service(snapshot.id)
eventually("the snapshot", lambda: service.get().snapshot_status == types.SnapshotStatus.OK)
checkpoint, files = back_up(2, disks, checkpoint, files, use_active=True)
points.append(files)

service.remove()
wait_gone(service)
checkpoint, files = back_up(3, disks, checkpoint, files)
points.append(files)
print(json.dumps(points))
connection.close()
