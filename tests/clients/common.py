"""What the scripts of real clients have in common: whom they talk to, and how they wait.

Environment: STILLPOINT_URL (of the daemon, without /ovirt-engine/api), STILLPOINT_USER, STILLPOINT_PASSWORD,
STILLPOINT_CA (a file, for https), STILLPOINT_CONSOLES (folder of the guests' consoles, optional).
"""

import os
import pathlib
import time

import ovirtsdk4 as sdk
from ovirtsdk4 import types

os.environ["no_proxy"] = "*"  # the daemon is on loopback
LONG = 180  # seconds; every wait has an end
URL = os.environ["STILLPOINT_URL"].rstrip("/")
CA = os.environ.get("STILLPOINT_CA")


def connect(**changed):
    options = {
        "url": f"{URL}/ovirt-engine/api",
        "username": os.environ["STILLPOINT_USER"],
        "password": os.environ["STILLPOINT_PASSWORD"],
        "timeout": LONG,
    }
    if CA:
        options["ca_file"] = CA
    return sdk.Connection(**{**options, **changed})


def eventually(what, look):
    """Asks until the answer is true, and returns it."""
    end = time.monotonic() + LONG
    while not (seen := look()):
        assert time.monotonic() < end, f"waited {LONG} s for {what}"
        time.sleep(0.05)
    return seen


def wait_gone(service):
    def is_gone():
        try:
            service.get()
        except sdk.NotFoundError:
            return True

    eventually("it to be gone", is_gone)


def wait_records(vm_id, more=1):
    """Until the guest has written on; only when the consoles can be seen."""
    folder = os.environ.get("STILLPOINT_CONSOLES")
    if not folder:
        return
    console = pathlib.Path(folder) / vm_id / "console.log"

    def count():
        return console.read_bytes().count(b"\nREC ") if console.exists() else 0

    wanted = count() + more
    eventually("records on the guest's console", lambda: count() >= wanted)


def begin_transfer(connection, **of):
    """The service of an image transfer, and the transfer, once its data can be reached."""
    transfers = connection.system_service().image_transfers_service()
    service = transfers.image_transfer_service(transfers.add(types.ImageTransfer(**of)).id)

    def is_up():
        now = service.get()
        assert now.phase in (types.ImageTransferPhase.INITIALIZING, types.ImageTransferPhase.TRANSFERRING), now.phase
        return now if now.phase == types.ImageTransferPhase.TRANSFERRING else None

    return service, eventually("the transfer to begin", is_up)


def finish_transfer(service):
    service.finalize()
    eventually("the transfer to end", lambda: service.get().phase == types.ImageTransferPhase.FINISHED_SUCCESS)
