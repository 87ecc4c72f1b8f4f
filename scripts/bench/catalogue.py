"""How much a large catalogue costs: the same questions to a small store and to a large one, by the same binary in one run.

A store is filled through the API with one VM (a disk, a snapshot of its configuration), whose rows are then copied under
other ids while the daemon is down: 100,000 snapshots by POST would take an hour and measure something else.
"""

import os
import shutil
import sqlite3
import urllib.request
import uuid

from rig import Daemon, Trouble, Vm, snapshot_body, timed, wait_until

PAGE = 100
SLOWER = 1.11  # at least 0.9 times the rate is at most so many times the time
READY_MS, RESIDENT_MIB, PER_BYTE = 1000, 96, 1.5
ROUNDS = 40  # questions a measurement
FOLLOW = "vms?follow=disk_attachments.disk,snapshots"


def fresh():
    return str(uuid.uuid4())


def copies(row, renamed):
    """A row with other ids, in its JSON members, too."""

    def changed(value):
        if isinstance(value, str):
            for old, new in renamed.items():
                value = value.replace(old, new)
        return value

    return {name: changed(value) for name, value in row.items()}


def insert(db, table, row):
    db.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", list(row.values()))


def rows(db, table, where, *values):
    return [dict(row) for row in db.execute(f"SELECT * FROM {table} WHERE {where}", values)]


def multiply(daemon, vm, vms, snapshots):
    """Makes of the store's only VM, which has one snapshot, that many VMs with that many snapshots each."""
    db = sqlite3.connect(os.path.join(daemon.data, "stillpoint.db"))
    db.row_factory = sqlite3.Row
    [seed] = rows(db, "vm", "id = ?", vm.id)
    [attachment] = rows(db, "attachment", "vm_id = ?", vm.id)
    [disk] = rows(db, "disk", "id = ?", attachment["disk_id"])
    [image] = rows(db, "image", "disk_id = ?", disk["id"])
    regular, active = rows(db, "snapshot", "vm_id = ? ORDER BY seq", vm.id)
    images = os.path.join(daemon.data, "images")
    with db:
        for number in range(vms):
            if number:
                renamed = {vm.id: fresh(), disk["id"]: fresh(), image["id"]: fresh(), vm.name: f"{vm.name}-{number:05}"}
                for table, row in (("vm", seed), ("image", image), ("disk", disk), ("attachment", attachment)):
                    insert(db, table, copies(row, renamed))
                shutil.copy(os.path.join(images, f"{image['id']}.qcow2"), os.path.join(images, f"{renamed[image['id']]}.qcow2"))
                insert(db, "snapshot", {**copies(active, renamed), "id": fresh(), "seq": snapshots + 1})
                insert(db, "snapshot", {**copies(regular, renamed), "id": fresh(), "seq": 1})
            else:
                renamed = {}
                db.execute("UPDATE snapshot SET seq = ? WHERE id = ?", (snapshots + 1, active["id"]))
                db.execute("UPDATE snapshot SET seq = 1 WHERE id = ?", (regular["id"],))
            for seq in range(2, snapshots + 1):
                insert(db, "snapshot", {**copies(regular, renamed), "id": fresh(), "seq": seq})
    db.close()


class Store:
    """A daemon whose catalogue has that many VMs with that many snapshots each."""

    def __init__(self, binary, root, guest, vms, snapshots):
        self.daemon, self.vms, self.snapshots = Daemon(binary, root, guest), vms, snapshots
        self.daemon.start()
        self.vm = Vm(self.daemon, "seed", 1, 256, None, 1 << 20)
        body = snapshot_body().replace("</snapshot>", "<disk_attachments/></snapshot>")
        self.snapshot = self.daemon.api("POST", f"{self.vm.path}/snapshots", body, {"Expect": "201-created"}).get("id")
        wait_until("the snapshot to be ok", lambda: self.daemon.api.value(f"{self.vm.path}/snapshots/{self.snapshot}", "snapshot_status") == "ok")
        self.daemon.stop()
        multiply(self.daemon, self.vm, vms, snapshots)
        self.ready_ms = self.daemon.start()
        self.resident_mib = self.daemon.resident_mib()
        self.api = self.daemon.api

    def ask(self, path, count):
        """So many times; the answer's bytes."""
        size = 0
        for _ in range(count):
            status, text = self.api.send("GET", f"/ovirt-engine/api/{path}")
            if status != 200:
                raise Trouble(f"GET {path}: {status} {text[:200]}")
            size = len(text)
        return size

    def statements(self):
        url = f"http://{self.api.address}/metrics"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {self.api.token}"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith("stillpoint_store_statements_total "):
                    return int(line.split()[1])
        raise Trouble("the metrics do not tell the number of statements")

    def cost(self, path):
        """SQL statements of one question; what runs beside it can only add, so the least counts."""
        self.statements()
        empty, full = [], []
        for _ in range(5):
            before = self.statements()
            empty.append(self.statements() - before)
            before = self.statements()
            self.ask(path, 1)
            full.append(self.statements() - before)
        return min(full) - min(empty)


def pairs_of(small, large, path_small, path_large, pairs, rounds=ROUNDS):
    taken = ([], [])
    for pair in range(-1, pairs):
        _, ours = timed(lambda: large.ask(path_large, rounds))
        _, theirs = timed(lambda: small.ask(path_small, rounds))
        if pair >= 0:
            taken[0].append(ours / rounds)
            taken[1].append(theirs / rounds)
    return taken


def measure(place, binary, root, guest, pairs, say):
    place.part(
        "A large catalogue, against a small one",
        "The same binary over two stores: 1,000 VMs with 100 snapshots each (ours), and 100 VMs of which each has 100 snapshots, "
        "too, so that answers have the same size (against). One open connection, times in ms for one answer. At least 0.9 times "
        "the rate is at most 1.11 times the time.",
    )
    stores = []
    try:
        say("filling a small store and one of 100,000 snapshots")
        small = Store(binary, os.path.join(root, "small"), guest, PAGE, PAGE)
        stores.append(small)
        large = Store(binary, os.path.join(root, "large"), guest, 1000, PAGE)
        stores.append(large)
        vm, snapshot = small.vm.path, f"{small.vm.path}/snapshots/{small.snapshot}"
        large_vm, large_snapshot = large.vm.path, f"{large.vm.path}/snapshots/{large.snapshot}"
        for what, ask_small, ask_large in (
            ("one VM by id", vm, large_vm),
            ("one snapshot by id", snapshot, large_snapshot),
            ("the 100 snapshots of a VM", f"{vm}/snapshots", f"{large_vm}/snapshots"),
            ("a page of 100 VMs", f"vms?max={PAGE}", f"vms?max={PAGE}"),
            ("a page of 100 VMs, the last", f"vms?max={PAGE}", f"vms?max={PAGE}&search=page%2010"),
            ("a page of 100 disks", f"disks?max={PAGE}", f"disks?max={PAGE}"),
            ("a VM by name", "vms?search=name%3Dseed", "vms?search=name%3Dseed"),
        ):
            taken = pairs_of(small, large, ask_small, ask_large, pairs)
            place.row(what, *taken, SLOWER)
            say(f"{what}: {sorted(taken[0])[len(taken[0]) // 2]:.2f} ms")
        working = large.daemon.resident_mib()
        place.facts(
            "The store of 100,000 snapshots by itself",
            [
                ("exec until the ready line (goal 1000)", [large.ready_ms], "ms"),
                ("resident memory when ready (goal 96)", [large.resident_mib], "MiB"),
                ("resident memory after these questions (goal 96)", [working], "MiB"),
            ],
        )
        place.part(
            "What is followed, against the plain list",
            f"`GET {FOLLOW}` against `GET vms`, over 1,000 VMs with one disk and two snapshots each. Time by MiB of the answer, in ms.",
        )
        say("filling a store of 1,000 VMs with two snapshots each")
        wide = Store(binary, os.path.join(root, "wide"), guest, 1000, 2)
        stores.append(wide)
        taken = ([], [])
        for pair in range(-1, min(pairs, 10)):
            size, ours = timed(lambda: wide.ask(FOLLOW, 1))
            plain, theirs = timed(lambda: wide.ask("vms", 1))
            if pair >= 0:
                taken[0].append(ours / size * (1 << 20))
                taken[1].append(theirs / plain * (1 << 20))
        place.row("time by MiB of the answer", *taken, PER_BYTE)
        ten = Store(binary, os.path.join(root, "ten"), guest, 10, 2)
        stores.append(ten)
        place.facts(
            "SQL statements of that question",
            [
                ("over 1,000 VMs", [wide.cost(FOLLOW)], "statements"),
                ("over 10 VMs", [ten.cost(FOLLOW)], "statements"),
                ("the plain list over 1,000 VMs", [wide.cost("vms")], "statements"),
            ],
            "Counted by the daemon (`/metrics`), those that begin and end a transaction among them.",
        )
    finally:
        for store in stores:
            store.daemon.stop()
