"""Backup sessions against libvirt's pull backups and bare QEMU's, and what an incremental one costs by the size of its disk.

No answer of the API waits for a backup's phase, so ours is asked for every 2 ms, as a client would: what the asking costs
is in our numbers. Every backup is incremental, from the checkpoint of the one before, which is removed after each pair:
there is always one checkpoint, on every side.
"""

import http.client
import json
import os
import ssl
import statistics
import subprocess
import urllib.parse

import scattered
from plane import Transfer
from reference import Domain
from rig import LONG, Only, Trouble, Twin, Vm, monitor, timed, wait_until

PAUSE = 0.002  # seconds between two looks at a phase
EMPTY_MS = 500
DISKS = 1, 4
CHANGED, PIECE = 64 << 20, 1 << 20  # bytes, at even distances
SMALL, LARGE = 10 << 30, 1 << 40  # bytes of two sparse disks
SIZE_PAIRS = 3  # so many times fewer pairs: each takes seconds


class Backup:
    """One of ours, of all disks of a VM, begun and ready."""

    def __init__(self, vm, checkpoint=None, active=False):
        self.vm, self.api, self.since = vm, vm.api, checkpoint
        since = f"<from_checkpoint_id>{checkpoint}</from_checkpoint_id>" if checkpoint else ""
        disks = "".join(f'<disk id="{disk}"/>' for disk in vm.disks)
        asked = f"{vm.path}/backups{'?use_active=true' if active else ''}"
        self.id = self.api("POST", asked, f"<backup>{since}<disks>{disks}</disks></backup>").get("id")
        self.path = f"{vm.path}/backups/{self.id}"
        self.checkpoint = self.wait("ready").findtext("to_checkpoint_id")

    def wait(self, phase):
        def look():
            shown = self.api("GET", self.path)
            if shown.findtext("phase") == "failed":
                raise Trouble(f"the backup failed: {shown.findtext('comment')}")
            return shown if shown.findtext("phase") == phase else None

        return wait_until(f"a backup that is {phase}", look, PAUSE)

    def expect_incremental(self):
        modes = [disk.findtext("backup_mode") for disk in self.api("GET", f"{self.path}/disks")]
        if modes != ["incremental"] * len(self.vm.disks):
            raise Trouble(f"the backup of {self.vm.name} is {modes}")

    def finalize(self):
        self.api("POST", f"{self.path}/finalize", "<action/>")
        self.wait("succeeded")

    def forget_checkpoint_before(self):
        if self.since:
            forget_checkpoint(self.vm, self.since)


def forget_checkpoint(vm, ident):
    path = f"{vm.path}/checkpoints/{ident}"
    vm.api("DELETE", path)
    wait_until("the checkpoint to be gone", lambda: vm.api.gone(path))


def empty_backup(vm, checkpoint, active=False):
    backup = Backup(vm, checkpoint, active)
    backup.finalize()
    return backup


class Bare:
    """The same by QEMU's own means and nobody's management: bitmaps, and a scratch image that is made and opened before."""

    def __init__(self, twin):
        self.twin, self.qmp, self.count = twin, twin.qmp, 0
        place = {"type": "unix", "data": {"path": os.path.join(twin.root, "nbd")}}
        self.qmp.call("nbd-server-start", {"addr": place})
        for node in twin.tops:
            self.qmp.call("block-dirty-bitmap-add", {"node": node, "name": "p0", "persistent": True})

    def prepare(self):
        self.count += 1
        self.jobs = []
        for index, node in enumerate(self.twin.tops):
            path = os.path.join(self.twin.root, f"scratch{index}.qcow2")
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, str(1 << 30)], check=True)
            name = f"scratch{index}"
            self.qmp.call("blockdev-add", {"driver": "file", "filename": path, "node-name": f"{name}p"})
            self.qmp.call("blockdev-add", {"driver": "qcow2", "file": f"{name}p", "node-name": name, "backing": node})
            self.jobs.append((node, name))

    def run(self):
        """One transaction for all disks; exports with the changes; and all of it taken down again."""
        before, now, actions = f"p{self.count - 1}", f"p{self.count}", []
        for node, name in self.jobs:
            bitmap = {"node": node, "name": "changes", "disabled": True}
            merge = {"node": node, "target": "changes", "bitmaps": [before]}
            job = {"job-id": f"job-{name}", "device": node, "target": name, "sync": "none"}
            actions += [
                {"type": "block-dirty-bitmap-add", "data": bitmap},
                {"type": "block-dirty-bitmap-merge", "data": merge},
                {"type": "block-dirty-bitmap-add", "data": {"node": node, "name": now, "persistent": True}},
                {"type": "blockdev-backup", "data": job},
            ]
        self.qmp.call("transaction", {"actions": actions})
        for node, name in self.jobs:
            export = {"type": "nbd", "id": name, "node-name": name, "name": name, "bitmaps": [{"node": node, "name": "changes"}]}
            self.qmp.call("block-export-add", export)
        for node, name in self.jobs:
            start = self.qmp.mark()
            self.qmp.call("block-export-del", {"id": name, "mode": "hard"})
            self.qmp.event("BLOCK_EXPORT_DELETED", start)
            self.qmp.call("job-cancel", {"id": f"job-{name}"})
            self.qmp.event("BLOCK_JOB_CANCELLED", start)
            for bitmap in ("changes", before):
                self.qmp.call("block-dirty-bitmap-remove", {"node": node, "name": bitmap})
            self.qmp.call("blockdev-del", {"node-name": name})
            self.qmp.call("blockdev-del", {"node-name": f"{name}p"})


def empty_ones(place, daemon, idle, pairs, say):
    vm = Vm(daemon, "empty", 1, 256, f"{idle} sp.disks=1")
    vm.start()
    twin = Twin(vm, os.path.join(daemon.root, "twin-empty"))
    try:
        vm.console.wait_records(3)
        twin.console.wait_records(3)
        bare, only, took = Bare(twin), Only(vm, twin), ([], [])
        checkpoint = empty_backup(vm, None).checkpoint
        for pair in range(-1, pairs):
            only.turn(vm)
            vm.warm()
            backup, ours = timed(lambda c=checkpoint: empty_backup(vm, c))
            backup.expect_incremental()
            backup.forget_checkpoint_before()
            checkpoint = backup.checkpoint
            only.turn(twin)
            bare.prepare()
            _, theirs = timed(bare.run)
            if pair >= 0:
                took[0].append(ours)
                took[1].append(theirs)
        only.all()
        place.row("1 disk, nothing to read: POST to `succeeded`, against bare QMP", *took, most_ms=EMPTY_MS)
        say(f"empty incremental backup: {statistics.median(took[0]):.0f} ms against {statistics.median(took[1]):.0f} ms of bare QMP")
    finally:
        twin.quit()
    vm.stop()
    vm.remove()


def against_libvirt(place, daemon, server, boot, machine_type, idle, pairs, say):
    for disks in DISKS:
        vm = Vm(daemon, f"begin{disks}", disks, 256, f"{idle} sp.disks={disks}")
        vm.start()
        cmdline = daemon.cmdline(f"{idle} sp.disks={disks}")
        domain = Domain(server, f"begin{disks}", disks, 256, boot, cmdline, machine_type(vm))
        vm.console.wait_records(3)
        domain.console.wait_records(3)
        checkpoint = empty_backup(vm, None, True).checkpoint
        domain.begin_backup()
        domain.end_backup()
        begin, end = ([], []), ([], [])
        for pair in range(-1, pairs):
            vm.warm()
            backup, our_begin = timed(lambda c=checkpoint: Backup(vm, c, True))
            backup.expect_incremental()
            _, our_end = timed(backup.finalize)
            backup.forget_checkpoint_before()
            checkpoint = backup.checkpoint
            _, their_begin = timed(domain.begin_backup)
            _, their_end = timed(domain.end_backup)
            domain.forget_checkpoint()
            if pair >= 0:
                for into, a, b in ((begin, our_begin, their_begin), (end, our_end, their_end)):
                    into[0].append(a)
                    into[1].append(b)
        title = f"{disks} disk{'s' if disks > 1 else ''}"
        place.row(f"{title}, `use_active`: POST to `ready`, against backup-begin", *begin, 0.5)
        place.row(f"{title}: finalize to `succeeded` (its merge in it), against domjobabort", *end)
        say(f"backup of {title} to ready: {statistics.median(begin[0]):.1f} ms against {statistics.median(begin[1]):.1f} ms")
        vm.stop()
        domain.destroy()
        vm.remove()


class Sized:
    """A running VM without a system and with one sparse disk, written to through QEMU's second monitor as by its device."""

    def __init__(self, daemon, name, size):
        self.daemon, self.size = daemon, size
        self.vm = Vm(daemon, name, 1, 64, None, size)
        self.vm.start()
        with open(f"/proc/{self.vm.pid()}/cmdline", "rb") as file:
            words = [word for word in file.read().decode().split("\0") if word.startswith("{") and '"drive"' in word]
        self.device = f"/machine/peripheral/{json.loads(words[0])['id']}/virtio-backend"
        self.qmp = monitor(os.path.join(self.vm.run_dir, "qmp2"))
        self.checkpoint = empty_backup(self.vm, None).checkpoint
        self.pattern = 0

    def change(self):
        self.pattern = self.pattern % 255 + 1
        step, before = self.size * PIECE // CHANGED, self.writes()
        # Not the command that waits for its write: it holds QEMU's main loop, where a merge may wait for its finalize.
        for at in range(0, self.size, step):
            line = f'qemu-io -d {self.device} "aio_write -P {self.pattern} {at} {PIECE}"'
            if said := self.qmp.call("human-monitor-command", {"command-line": line}):
                raise Trouble(f"{line}: {said}")
        wait_until("the writes' end", lambda: self.writes() >= before + CHANGED // PIECE)

    def writes(self):
        """Writes that the device has ended."""
        [of] = [stats for stats in self.qmp.call("query-blockstats") if stats.get("qdev") == self.device]
        if of["stats"]["failed_wr_operations"]:
            raise Trouble(f"a write failed: {of}")
        return of["stats"]["wr_operations"]

    def back_up(self):
        """All of it: the changed extents listed, every changed byte downloaded."""
        backup = Backup(self.vm, self.checkpoint)
        transfer = Transfer(self.daemon, self.vm.disks[0], "download", backup.id)
        came = self.download(transfer.url)
        transfer.end()
        backup.finalize()
        if came != CHANGED:
            raise Trouble(f"{came} bytes had to be downloaded, not {CHANGED}")
        return backup

    def download(self, url):
        parts = urllib.parse.urlsplit(url)
        context = ssl.create_default_context(cafile=self.daemon.pki[0])
        link = http.client.HTTPSConnection(parts.netloc, timeout=LONG, context=context)

        def get(path, status, headers):
            link.request("GET", path, headers=headers)
            answer = link.getresponse()
            body = answer.read()
            if answer.status != status:
                raise Trouble(f"GET {path}: {answer.status} {body[:200]}")
            return body

        came = 0
        for extent in json.loads(get(f"{parts.path}/extents?context=dirty", 200, {})):
            if extent["dirty"] and not extent["zero"]:
                start, length = extent["start"], extent["length"]
                body = get(parts.path, 206, {"Range": f"bytes={start}-{start + length - 1}"})
                if body.count(self.pattern) != length:
                    raise Trouble(f"{length} bytes at {start} are not what was written")
                came += length
        link.close()
        return came

    def measure(self):
        self.change()
        self.vm.warm()
        backup, took = timed(self.back_up)
        backup.forget_checkpoint_before()
        self.checkpoint = backup.checkpoint
        return took

    def remove(self):
        self.qmp.link.close()
        self.vm.stop()
        self.vm.remove()


def by_size(place, daemon, pairs, say):
    """`daemon` serves TLS."""
    sides = [Sized(daemon, name, size) for name, size in (("large", LARGE), ("small", SMALL))]
    took = ([], [])
    for pair in range(-1, max(3, pairs // SIZE_PAIRS)):
        for into, side in zip(took, sides):
            ms = side.measure()
            if pair >= 0:
                into.append(ms)
    place.row(f"{CHANGED >> 20} MiB changed of a disk of {LARGE >> 40} TiB, against one of {SMALL >> 30} GiB, both ours", *took, 1.5)
    say(f"by size: {statistics.median(took[0]):.0f} ms of 1 TiB against {statistics.median(took[1]):.0f} ms of 10 GiB")
    for side in sides:
        side.remove()


def measure(place, daemon, tls, server, boot, machine_type, idle, python, pairs, say):
    place.part(
        "Incremental backups, against libvirt's, bare QEMU's, and ovirt-imageio's client",
        "Running guests without an agent that write a record every 0.1 s. Ours over an open connection; the phase is asked for every "
        f"{PAUSE * 1e3:.0f} ms. Libvirt: what `virsh backup-begin` asks for (pull mode, NBD over a unix socket, since the checkpoint "
        "before, with a new one), over an open connection, too. Bare QMP is a floor, no product: a QEMU with the very same command "
        "line, persistent bitmaps (which do not outlive a QEMU that is killed), a scratch image that is made and opened before the "
        "clock starts, then the transaction, the export, and both taken down; nothing is recorded, and nothing is made durable.",
        f"By size: running VMs without a system; {CHANGED >> 20} pieces of 1 MiB at even distances over the whole disk, written by the device; "
        "POST, transfer, changed extents, every changed byte over one HTTPS connection, both finalized, until `succeeded`.",
        *scattered.TEXT,
    )
    empty_ones(place, daemon, idle, pairs, say)
    against_libvirt(place, daemon, server, boot, machine_type, idle, pairs, say)
    by_size(place, tls, pairs, say)
    scattered.measure(place, tls, python, pairs, Backup, forget_checkpoint, say)
