"""The VMs and disks: made, started, stopped, found, removed."""

import os
from xml.sax.saxutils import escape

from api import Trouble

NAME, DISKS, DISK_BYTES, MEMORY_BYTES = "quickstart", 3, 1 << 30, 256 << 20
# The VMs that are restored from the two points.
FULL, INCREMENTAL = f"{NAME}-full", f"{NAME}-incremental"
NAMES = NAME, FULL, INCREMENTAL
TRANSFER_ENDS = "finished_success", "finished_failure", "finished_cleanup", "cancelled"
# A line on the console per record: so a pause is seen from outside, to the length of one record.
GUEST_OPTIONS = f"sp.disks={DISKS} sp.pause=1000 sp.every=1 sp.memory=32"


def remove_leftovers(api):
    """What an earlier run made, and what it had open when it was cut off."""
    vms = [vm.get("id") for vm in api("GET", "vms") if vm.findtext("name") in NAMES]
    disks = {disk.get("id") for vm in vms for disk in api("GET", f"vms/{vm}/diskattachments")}
    for disk in api("GET", "disks"):
        if (disk.findtext("name") or "").startswith(tuple(f"{name}_" for name in NAMES)):
            disks.add(disk.get("id"))
    for transfer in api("GET", "imagetransfers"):
        if transfer.find("disk") is not None and transfer.find("disk").get("id") in disks:
            end(api, f"imagetransfers/{transfer.get('id')}", "cancel", "phase", TRANSFER_ENDS)
    for vm in vms:
        for backup in api("GET", f"vms/{vm}/backups"):
            end(api, f"vms/{vm}/backups/{backup.get('id')}", "finalize", "phase", ("succeeded", "failed"))
        stop(api, f"vms/{vm}")
        api.remove(f"vms/{vm}")
    for disk in disks:
        api.remove(f"disks/{disk}")


def make_vm(api, data_dir):
    domain = next(d for d in api("GET", "storagedomains") if d.findtext("type") == "data").get("id")
    cluster = api("GET", "clusters")[0].get("id")
    with open(os.path.join(data_dir, "boot", "cmdline"), encoding="ascii") as file:
        cmdline = f"{file.read().strip()} {GUEST_OPTIONS}"
    vm = api(
        "POST",
        "vms",
        f'<vm><name>{NAME}</name><cluster id="{cluster}"/>'
        '<template id="00000000-0000-0000-0000-000000000000"/>'
        f"<memory>{MEMORY_BYTES}</memory><os><kernel>vmlinuz</kernel><initrd>initramfs.img</initrd>"
        f"<cmdline>{escape(cmdline)}</cmdline></os></vm>",
    ).get("id")
    api.wait(f"vms/{vm}", "status", "down")
    disks = []
    for index in range(DISKS):
        disk = api(
            "POST",
            "disks",
            f"<disk><name>{NAME}_{index}</name><provisioned_size>{DISK_BYTES}</provisioned_size>"
            "<format>cow</format><storage_domains>"
            f'<storage_domain id="{domain}"/></storage_domains></disk>',
        ).get("id")
        api.wait(f"disks/{disk}", "status", "ok")
        api(
            "POST",
            f"vms/{vm}/diskattachments",
            f"<disk_attachment><active>true</active><bootable>{str(index == 0).lower()}</bootable>"
            f'<interface>virtio</interface><disk id="{disk}"/></disk_attachment>',
        )
        disks.append(disk)
    return vm, disks


def act(api, path, parameters=""):
    answer = api("POST", path, f"<action>{parameters}</action>")
    if answer.find("fault") is not None:
        raise Trouble(f"{path}: {answer.findtext('fault/detail')}")


def start(api, path):
    act(api, f"{path}/start")
    api.wait(path, "status", "up")


def expect_alive(api, path):
    """A guest whose CPU cannot go on is shown as paused, and an event says why."""
    if api("GET", path).findtext("status") != "paused":
        return
    vm = path.split("/")[-1]
    for event in api("GET", "events?max=20"):
        if event.findtext("severity") == "error" and event.find("vm") is not None and event.find("vm").get("id") == vm:
            raise Trouble(event.findtext("description"))


def stop(api, path):
    end(api, path, "stop", "status", ("down", "suspended"))


def end(api, path, action, element, ends):
    """Does the action until the element has one of the values, if it has not."""

    def has_ended():
        return not api.exists(path) or api("GET", path).findtext(element) in ends

    api.until(has_ended, "POST", f"{path}/{action}", "<action/>")


def image_files(api, data_dir, disks):
    """The active layer of each disk, in order."""
    paths = []
    for disk in disks:
        image = api("GET", f"disks/{disk}").findtext("image_id")
        found = []
        for directory, _, names in os.walk(data_dir):
            for name in names:
                path = os.path.join(directory, name)
                if image and image in name and os.path.isfile(path):
                    with open(path, "rb") as file:
                        if file.read(4) == b"QFI\xfb":
                            found.append(path)
        if len(found) != 1:
            raise Trouble(f"disk {disk}: {len(found)} files of image {image} in {data_dir}")
        paths += found
    return paths
