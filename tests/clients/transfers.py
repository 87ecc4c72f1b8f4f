"""The unmodified oVirt SDK 4.6.3 and the unmodified imageio client 2.5.1 move a disk into a running daemon and out again.

Usage: transfers.py DIRECTORY, which holds source.qcow2 (64 MiB). Writes out.qcow2 and again.qcow2 there.
Environment: as in common.py.
"""

import sys

from common import CA, URL, begin_transfer, connect, eventually, finish_transfer
from ovirt_imageio import client
from ovirtsdk4 import types

SIZE, DATA = 64 << 20, 3 << 20  # bytes of the disk, and of what is not zero in it
DIRECTORY = sys.argv[1]

connection = connect()
system = connection.system_service()
disks = system.disks_service()
domain = next(d for d in system.storage_domains_service().list() if d.type == types.StorageDomainType.DATA)


def status(disk):
    return disks.disk_service(disk.id).get().status


def download(name, disk):
    service, transfer = begin_transfer(
        connection,
        disk=types.Disk(id=disk.id), direction=types.ImageTransferDirection.DOWNLOAD, format=types.DiskFormat.RAW
    )
    assert status(disk) == types.DiskStatus.LOCKED
    client.download(transfer.transfer_url, f"{DIRECTORY}/{name}", CA)
    # The client reads what is not zero, and no more.
    assert DATA <= service.get().transferred < SIZE, service.get().transferred
    finish_transfer(service)
    assert status(disk) == types.DiskStatus.OK


for format in (types.DiskFormat.COW, types.DiskFormat.RAW):
    disk = disks.add(
        types.Disk(
            name=f"moved-{format.value}",
            format=format,
            sparse=True,
            provisioned_size=SIZE,
            storage_domains=[types.StorageDomain(id=domain.id)],
        )
    )
    eventually("the disk", lambda: status(disk) == types.DiskStatus.OK)
    service, transfer = begin_transfer(
        connection,
        disk=types.Disk(id=disk.id), direction=types.ImageTransferDirection.UPLOAD, format=types.DiskFormat.RAW
    )
    assert transfer.transfer_url.startswith(URL), transfer.transfer_url
    client.upload(f"{DIRECTORY}/source.qcow2", transfer.transfer_url, CA)
    finish_transfer(service)
    eventually("the disk after its upload", lambda: status(disk) == types.DiskStatus.OK)
    download(f"{format.value}.qcow2", disk)
    print(f"ok {format.value}: uploaded and downloaded")

service, transfer = begin_transfer(
    connection,
    disk=types.Disk(id=disk.id), direction=types.ImageTransferDirection.DOWNLOAD, format=types.DiskFormat.RAW
)
with client.ImageioClient(transfer.transfer_url, CA) as open_client:
    open_client.read(0, bytearray(4096))
    service.cancel()
    eventually("the cancelled transfer", lambda: service.get().phase == types.ImageTransferPhase.FINISHED_FAILURE)
    try:
        open_client.read(0, bytearray(4096))
        sys.exit("a cancelled ticket still reads")
    except Exception as error:
        assert "403" in str(error) or "No such ticket" in str(error) or "404" in str(error), error
eventually("the disk after the cancel", lambda: status(disk) == types.DiskStatus.OK)
print("ok cancelled: the ticket is refused, the disk is free")
