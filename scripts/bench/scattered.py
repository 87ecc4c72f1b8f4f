"""A fragmented incremental backup: 16384 changed ranges of 64 KiB with as much between any two, so that none touch.

What is the same on both sides: the changed ranges are written by one qemu-io script, into our disk's active image (its VM
is down) and into a qcow2 with a persistent bitmap that a qemu-nbd serves. 64 KiB is the grain of our maps of changes, of a
qcow2's clusters and of that bitmap: a guest's write of 4 KiB makes the same 64 KiB dirty on both sides.
"""

import http.client
import json
import os
import shutil
import socket
import ssl
import statistics
import struct
import subprocess
import urllib.parse

from plane import Transfer
from rig import LONG, Trouble, Vm, timed, wait_until

RUNS, RUN = 16 << 10, 64 << 10
SIZE = RUNS * RUN * 2
EXTENT_PAIRS, CLIENT_PAIRS = 3, 10  # so many times fewer pairs: each takes seconds
BITMAP = "qemu:dirty-bitmap:changes"
TEXT = (
    f"Scattered: {RUNS} changed ranges of {RUN >> 10} KiB with as much between any two, on a disk of {SIZE >> 30} GiB of a VM that is down. Extents: "
    "theirs is the same script's writes into a qcow2 with a bitmap of the same grain, served by `qemu-nbd` over a unix socket; ours is "
    "HTTPS and JSON, and tells of each changed range also whether it reads as zeroes. As commands: `curl` and `nbdinfo --map`; else "
    "over a connection that is open, until the last byte is there, not parsed.",
    "Clients, both over the unix socket that they are offered: the disk is extents, data and a qcow2 file; theirs is the call `ovirt_imageio.client.download(incremental=True)` alone, of a transfer "
    "that is open, in a Python that runs. All of the backup: ours is all of `stillpoint backup run --incremental`: its start, login, backup, disk, "
    "finalize with the server's merge, the file read again and compared, all durable; theirs is POST, transfer, the same call, and both "
    "finalized until `succeeded`. What ours writes goes past the page cache: its 1 GiB is with the storage when its time ends.",
)
DOWNLOAD = """
import sys, time
from ovirt_imageio import client
url, file, ca, below = sys.argv[1:]
began = time.perf_counter()
client.download(url, file, ca, incremental=True, backing_file=below, backing_format="qcow2")
print((time.perf_counter() - began) * 1e3)
"""


def change(image):
    lines = "".join(f"write -q -P {1 + k % 255} {k * 2 * RUN} {RUN}\n" for k in range(RUNS))

    def written():
        done = subprocess.run(["qemu-io", "-f", "qcow2", image], input=lines, capture_output=True, text=True, check=False)
        told = done.stdout[-500:] + done.stderr[-500:]
        if "lock" in told:  # a merge has it for a moment
            return False
        if done.returncode or "failed" in told:
            raise Trouble(f"qemu-io: {told}")
        return True

    wait_until("the image to be free", written, 0.05)


class Bitmap:
    """The bare side of the extents: a qcow2 with a bitmap, and a qemu-nbd."""

    def __init__(self, root):
        self.image, self.path = os.path.join(root, "bitmap.qcow2"), os.path.join(root, "bitmap.nbd")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", self.image, str(SIZE)], check=True)
        subprocess.run(["qemu-img", "bitmap", "--add", "-g", str(RUN), self.image, "changes"], check=True)
        change(self.image)
        words = ["qemu-nbd", "--socket", self.path, "--format", "qcow2", "--persistent", "--shared=8", "--read-only"]
        self.server = subprocess.Popen([*words, "--bitmap", "changes", "--export-name", "x", self.image])
        wait_until("qemu-nbd", lambda: os.path.exists(self.path))

    def command(self):
        words = ["nbdinfo", f"--map={BITMAP}", f"nbd+unix:///x?socket={self.path}"]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)

    def stop(self):
        self.server.terminate()
        self.server.wait(LONG)
        os.unlink(self.image)


class Asker:
    """A bare client of NBD that can do nothing but ask for extents (the protocol's newstyle, structured replies)."""

    def __init__(self, path, contexts):
        self.link = socket.socket(socket.AF_UNIX)
        self.link.connect(path)
        self.stream = self.link.makefile("rb")
        self.stream.read(18)
        self.link.sendall(struct.pack(">I", 3))
        name = struct.pack(">I", 1) + b"x"
        self.option(8, b"")
        queries = b"".join(struct.pack(">I", len(one)) + one.encode() for one in contexts)
        self.contexts = self.option(10, name + struct.pack(">I", len(contexts)) + queries)
        if len(self.contexts) != len(contexts):
            raise Trouble(f"qemu-nbd does not have all of {contexts}")
        self.option(7, name + b"\0\0")

    def option(self, number, data):
        """Until it is acknowledged; what came before that."""
        self.link.sendall(b"IHAVEOPT" + struct.pack(">II", number, len(data)) + data)
        found = []
        while True:
            _, _, kind, length = struct.unpack(">QIII", self.stream.read(20))
            payload = self.stream.read(length)
            if kind == 1:
                return found
            if kind >= 1 << 31:
                raise Trouble(f"qemu-nbd refuses option {number}: {payload}")
            found.append(payload)

    def ask(self):
        """All extents of all contexts, as they come; how many."""
        at, count = 0, 0
        while at < SIZE:
            self.link.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 7, 1, at, SIZE - at))
            reach, is_last = [], False
            while not is_last:
                _, flags, kind, _, length = struct.unpack(">IHHQI", self.stream.read(20))
                payload, is_last = self.stream.read(length), bool(flags & 1)
                if kind >= 1 << 15:
                    raise Trouble(f"qemu-nbd: {payload}")
                if kind == 5:
                    lengths = [extent for extent, _ in struct.iter_unpack(">II", payload[4:])]
                    reach.append(sum(lengths))
                    count += len(lengths)
            at += min(reach)
        return count


class Extents:
    """Ours, over one open connection."""

    def __init__(self, url, ca):
        self.url, self.ca, parts = url, ca, urllib.parse.urlsplit(url)
        self.link = http.client.HTTPSConnection(parts.netloc, timeout=LONG, context=ssl.create_default_context(cafile=ca))
        self.path = f"{parts.path}/extents?context=dirty"

    def ask(self):
        self.link.request("GET", self.path)
        answer = self.link.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise Trouble(f"GET extents: {answer.status} {body[:200]}")
        return body

    def command(self):
        words = ["curl", "-sS", "--noproxy", "*", "--fail", "-o", "/dev/null", "--cacert", self.ca]
        subprocess.run([*words, f"{self.url}/extents?context=dirty"], check=True)

    def check(self):
        found = [(e["start"], e["length"]) for e in json.loads(self.ask()) if e["dirty"] and not e["zero"]]
        if found != [(k * 2 * RUN, RUN) for k in range(RUNS)]:
            raise Trouble(f"our extents are not the {RUNS} that were written: {len(found)}, {found[:3]}")


def alternate(pairs, ours, theirs):
    took = ([], [])
    for pair in range(-1, pairs):
        for into, work in zip(took, (ours, theirs)):
            _, ms = timed(work)
            if pair >= 0:
                into.append(ms)
    return took


def extents(place, daemon, vm, checkpoint, begin, pairs, say):
    backup = begin(vm, checkpoint)
    transfer = Transfer(daemon, vm.disks[0], "download", backup.id)
    ours, theirs = Extents(transfer.url, daemon.pki[0]), Bitmap(daemon.root)
    try:
        ours.check()
        alone, full = Asker(theirs.path, [BITMAP]), Asker(theirs.path, ["base:allocation", BITMAP])
        if (found := alone.ask()) != 2 * RUNS:
            raise Trouble(f"the bitmap has {found} extents, not {2 * RUNS}")
        took = alternate(pairs, ours.command, theirs.command)
        place.row(f"{RUNS} changed ranges listed: `curl`, against `nbdinfo --map` of the bitmap", *took, 3)
        say(f"extents: {statistics.median(took[0]):.0f} ms against {statistics.median(took[1]):.0f} ms")
        took = alternate(pairs, ours.ask, full.ask)
        place.row("the same, open connection, against the bitmap and what is allocated", *took, 3)
        place.row("the same, open connection, against the bitmap alone", *alternate(pairs, ours.ask, alone.ask))
    finally:
        theirs.stop()
    transfer.end()
    backup.finalize()
    return backup.checkpoint


class Command:
    """`stillpoint backup run` of one VM."""

    def __init__(self, daemon, vm, directory):
        self.directory = directory
        self.words = [daemon.binary, "backup", "run", vm.name, "--to", directory, "--json"]
        given = {"URL": f"https://{daemon.api.address}", "CA": daemon.pki[0], "USER": "admin@internal", "PASSWORD": "bench-password"}
        self.environment = {**os.environ, **{f"STILLPOINT_{name}": value for name, value in given.items()}, "no_proxy": "*"}

    def __call__(self, *more):
        done = subprocess.run([*self.words, *more], env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Trouble(f"stillpoint backup run: {done.stderr.strip()}")
        made = json.loads(done.stdout)
        if made["warnings"]:
            raise Trouble(f"stillpoint backup run: {made['warnings']}")
        return made["point"]

    def file(self, point):
        return os.path.join(self.directory, point["point"], point["disks"][0]["file"])


def begun_transfer(daemon, vm, point, begin):
    backup = begin(vm, point["checkpoint_id"])
    return backup, Transfer(daemon, vm.disks[0], "download", backup.id)


def clients(place, daemon, vm, first, begin, forget_checkpoint, run, python, pairs, say):
    whole, disk = ([], []), ([], [])
    theirs = os.path.join(daemon.root, "theirs.qcow2")
    for pair in range(-1, pairs):
        # So that the merge of what changed is in our time, as it would be.
        change(vm.active_image(vm.disks[0]))
        point, ours = timed(lambda: run("--incremental"))
        if point["disks"][0]["data_bytes"] != RUNS * RUN:
            raise Trouble(f"our client read {point['disks'][0]['data_bytes']} bytes, not {RUNS * RUN}")
        (backup, transfer), begun = timed(lambda: begun_transfer(daemon, vm, first, begin))
        words = [python, "-c", DOWNLOAD, transfer.url, theirs, daemon.pki[0], run.file(first)]
        told = float(subprocess.run(words, env=run.environment, capture_output=True, text=True, check=True).stdout)
        _, ended = timed(lambda: (transfer.end(), backup.finalize()))
        if pair < 0:
            subprocess.run(["qemu-img", "compare", "-q", "-f", "qcow2", "-F", "qcow2", run.file(point), theirs], check=True)
        else:
            for into, mine, other in ((whole, ours, begun + told + ended), (disk, point["disks"][0]["milliseconds"], told)):
                into[0].append(mine)
                into[1].append(other)
        # The next ones build on the first point again.
        shutil.rmtree(os.path.join(run.directory, point["point"]))
        for ident in (point["checkpoint_id"], backup.checkpoint):
            forget_checkpoint(vm, ident)
        os.unlink(theirs)
    place.row(f"{RUNS} runs of {RUN >> 10} KiB, the disk: our client, against imageio's", *disk, 0.125)
    place.row("the same, all of the backup: `stillpoint backup run --incremental`, against imageio's client in one", *whole, 0.125)
    say(f"fragmented incremental: {statistics.median(whole[0]):.0f} ms against {statistics.median(whole[1]):.0f} ms")


def measure(place, daemon, python, pairs, begin, forget_checkpoint, say):
    """`daemon` serves TLS; `begin(vm, checkpoint)` gives a backup of ours that is ready."""
    vm = Vm(daemon, "scattered", 1, 64, None, SIZE)
    run = Command(daemon, vm, os.path.join(daemon.root, "points"))
    first = run()
    change(vm.active_image(vm.disks[0]))
    made = extents(place, daemon, vm, first["checkpoint_id"], begin, max(3, pairs // EXTENT_PAIRS), say)
    forget_checkpoint(vm, made)
    clients(place, daemon, vm, first, begin, forget_checkpoint, run, python, max(2, pairs // CLIENT_PAIRS), say)
    vm.remove()
