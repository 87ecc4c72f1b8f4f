#!/usr/bin/python3
"""The story that ./quickstart tells, through the public oVirt REST API of a running daemon.

It makes a VM with three disks, lets its guest write numbered records on all of them without a break, takes a
snapshot without and one with memory, goes back to the latter, and proves with the records on the disks and
the counter in the guest's memory that disks and memory are back at one and the same moment.

Everything it makes is called "quickstart..."; what an earlier run left under that name is removed first.
Only the standard library is used. Two things are looked up in the data directory, as no API shows them:
the guest's serial console, and the image files, whose names contain their image id.
"""

import argparse
import importlib.machinery
import importlib.util
import json
import os
import re
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ElementTree
from xml.sax.saxutils import escape

NAME, DISKS, DISK_BYTES, MEMORY_BYTES = "quickstart", 3, 1 << 30, 256 << 20
LONG = 180  # seconds; every wait has an end
# A line on the console per record: so a pause is seen from outside, to the length of one record.
GUEST_OPTIONS = f"sp.disks={DISKS} sp.pause=1000 sp.every=1 sp.memory=32"


class Trouble(Exception):
    """Something did not happen, or is not as it must be."""


def load_judge():
    """scripts/verify-records as a module; it has no .py at its end, as it is a command."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "verify-records")
    loader = importlib.machinery.SourceFileLoader("verify_records", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("verify_records", loader))
    sys.dont_write_bytecode = True
    loader.exec_module(module)
    return module


JUDGE = load_judge()


class Api:
    """The few requests that are needed. Loopback: a proxy of the environment has no business here."""

    def __init__(self, url, user, password):
        self.base = url.rstrip("/")
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        form = {"grant_type": "password", "scope": "ovirt-app-api", "username": user, "password": password}
        headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
        status, body = self.send("POST", "/ovirt-engine/sso/oauth/token", urllib.parse.urlencode(form), headers)
        token = json.loads(body).get("access_token") if status == 200 else None
        if not token:
            raise Trouble(f"the login of {user} failed: {status} {body}")
        self.headers = {"Authorization": f"Bearer {token}", "Version": "4", "Accept": "application/xml"}

    def send(self, method, path, body=None, headers=None):
        data = None if body is None else body.encode()
        request = urllib.request.Request(self.base + path, data=data, method=method, headers=headers or {})
        try:
            with self.opener.open(request, timeout=LONG) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(errors="replace")

    def __call__(self, method, path, body=None, good=(200, 201, 202)):
        headers = dict(self.headers)
        if body is not None:
            headers["Content-Type"] = "application/xml"
        status, text = self.send(method, f"/ovirt-engine/api/{path}", body, headers)
        if status not in good:
            raise Trouble(f"{method} {path}: {status} {text}")
        return ElementTree.fromstring(text) if text else None

    def exists(self, path):
        status, text = self.send("GET", f"/ovirt-engine/api/{path}", None, self.headers)
        if status not in (200, 404):
            raise Trouble(f"GET {path}: {status} {text}")
        return status == 200

    def wait(self, path, element, *values):
        """Polls until the element has one of the values; returns the seconds waited."""
        start = time.monotonic()
        while (seen := self("GET", path).findtext(element)) not in values:
            if time.monotonic() - start > LONG:
                raise Trouble(f"{element} of {path} is {seen} after {LONG} s, not {' or '.join(values)}")
            time.sleep(0.05)
        return time.monotonic() - start

    def wait_gone(self, path):
        end = time.monotonic() + LONG
        while self.exists(path):
            if time.monotonic() > end:
                raise Trouble(f"{path} is still there after {LONG} s")
            time.sleep(0.1)


class Console:
    """The guest's serial console: a file that a start of the VM may truncate or append to."""

    def __init__(self, path):
        self.path, self.skipped = path, 0
        self.beats, self.watching = [], False

    def text(self):
        try:
            with open(self.path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return ""
        if len(data) < self.skipped:
            self.skipped = 0  # a new start truncated it
        return data[self.skipped : data.rfind(b"\n") + 1].decode(errors="replace").replace("\r", "")

    def forget(self):
        """From here on only what comes anew counts."""
        try:
            self.skipped = os.path.getsize(self.path)
        except FileNotFoundError:
            self.skipped = 0

    def records(self):
        return [(int(n), float(gap)) for n, gap in re.findall(r"^REC (\d+) \d+ ([\d.]+)$", self.text(), re.M)]

    def memories(self):
        found = re.findall(r"^MEMORY ([0-9a-f]+) (\d+) (\d+)$", self.text(), re.M)
        return [(boot, int(count), int(number)) for boot, count, number in found]

    def last(self):
        return max((number for number, _ in self.records()[-1:]), default=0)

    def wait_record(self, number):
        end = time.monotonic() + LONG
        while (last := self.last()) < number:
            trouble = re.search(r".*(FAILED |LOAD CORRUPT|Kernel panic).*", self.text())
            if trouble or time.monotonic() > end:
                said = trouble.group(0) if trouble else self.text()[-500:]
                raise Trouble(f"the guest did not write record {number} (last: {last}); it says: {said}")
            time.sleep(0.05)
        return last

    def watch(self):
        """Notes when the console grows, to see from outside how long the whole guest stands still."""

        def look():
            size = -1
            while self.watching:
                now = os.path.getsize(self.path)
                if now != size:
                    size = now
                    self.beats.append(time.monotonic())
                time.sleep(0.001)

        self.beats, self.watching = [], True
        self.thread = threading.Thread(target=look, daemon=True)
        self.thread.start()

    def longest_silence(self, start, end):
        """In ms, between two signs of life around [start, end]; ends the watch."""
        self.watching = False
        self.thread.join()
        pairs = list(zip(self.beats, self.beats[1:]))
        return max(((b - a) * 1e3 for a, b in pairs if b >= start and a <= end), default=float("nan"))


def say(text):
    print(text, flush=True)


def timed(text, seconds, more=""):
    say(f"  {text:<44} {seconds * 1e3:8.0f} ms  {more}".rstrip())


def remove_leftovers(api):
    for vm in api("GET", f"vms?search=name%3D{NAME}"):
        path = f"vms/{vm.get('id')}"
        stop(api, path)
        api("DELETE", path)
        api.wait_gone(path)
    for disk in api("GET", f"disks?search=name%3D{NAME}_*"):
        path = f"disks/{disk.get('id')}"
        if (disk.findtext("name") or "").startswith(f"{NAME}_") and api.exists(path):
            api("DELETE", path)
            api.wait_gone(path)


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


def stop(api, path):
    if api("GET", path).findtext("status") not in ("down", "suspended"):
        act(api, f"{path}/stop")
        api.wait(path, "status", "down")


def usual_silence(console):
    """How long the console is silent without any snapshot, in ms: what to compare with."""
    console.watch()
    time.sleep(1)
    return console.longest_silence(0, float("inf"))


def snapshot(api, console, vm, description, memory):
    """Takes one while the guest writes. Returns its id, the last record reported before it and one after it,
    the seconds until it was ok, and in ms the longest silence of the guest and its longest write stall."""
    before = console.last()
    console.watch()
    time.sleep(0.1)  # a beat or two before it
    began = time.monotonic()
    body = f"<snapshot><description>{description}</description><persist_memorystate>{memory}</persist_memorystate></snapshot>"
    ident = api("POST", f"vms/{vm}/snapshots", body).get("id")
    api.wait(f"vms/{vm}/snapshots/{ident}", "snapshot_status", "ok")
    ended = time.monotonic()
    after = console.wait_record(console.last() + 2)  # it writes on
    silence = console.longest_silence(began, ended)
    stall = max((gap for number, gap in console.records() if before < number <= after), default=float("nan"))
    return ident, before, after, ended - began, silence, stall


def tell_snapshot(api, console, vm, description, memory):
    usual = usual_silence(console)
    taken = snapshot(api, console, vm, description, memory)
    _, before, after, seconds, silence, stall = taken
    timed(f"snapshot {description}", seconds, f"between record {before} and {after}")
    say(f"      pause of the guest   {silence:8.0f} ms  its longest silence, by our clock; {usual:.0f} ms without a snapshot")
    say(f"      stall of its writes  {stall:8.0f} ms  the longest, by its own clock, which stands while it is paused")
    return taken


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


def go_back(api, console, data_dir, vm, disks, taken):
    """Restores the snapshot with memory, and proves that it is that moment."""
    path = f"vms/{vm}"
    ident, before, after = taken[:3]
    boot, _, newest = console.memories()[-1]
    began = time.monotonic()
    stop(api, path)
    timed("stop", time.monotonic() - began, f"the guest had written record {newest}")
    began = time.monotonic()
    act(api, f"{path}/snapshots/{ident}/restore", "<restore_memory>true</restore_memory>")
    api.wait(f"{path}/snapshots/{ident}", "snapshot_status", "ok")
    api.wait(path, "status", "down", "suspended")
    timed("restore", time.monotonic() - began)
    on_disk = JUDGE.verify(image_files(api, data_dir, disks), at_least=before, at_most=min(after, newest - 1))
    say(f"      proof 1: all {DISKS} disks end at record {on_disk}, every checksum right, none missing")

    console.forget()
    began = time.monotonic()
    start(api, path)
    timed("start, which resumes the memory", time.monotonic() - began)
    console.wait_record(on_disk + 100)
    first_boot, first_count, first = console.memories()[0]
    if "GUEST UP" in console.text() or first_boot != boot:
        raise Trouble("the guest was started anew: its memory is not back")
    # The record in flight at that moment, or one that was written but not yet reported.
    if not on_disk <= first <= on_disk + 1:
        raise Trouble(f"the guest's memory goes on with record {first}, its disks end at {on_disk}")
    say(f"      proof 2: no reboot; the counter in memory goes on at {first_count}, with record {first}")
    console.wait_record(on_disk + 200)
    stop(api, path)
    durable = console.last()
    end = JUDGE.verify(image_files(api, data_dir, disks), at_least=durable)
    say(f"      proof 3: it wrote on to record {end} on all disks, without a hole or a double one")


def tell(api, data_dir):
    say("Stillpoint quickstart: one guest, three disks, two snapshots, one way back")
    began = time.monotonic()
    remove_leftovers(api)
    vm, disks = make_vm(api, data_dir)
    timed("make the VM and its disks", time.monotonic() - began, f"VM {vm}")
    console = Console(os.path.join(data_dir, "run", "vm", vm, "console.log"))
    began = time.monotonic()
    start(api, f"vms/{vm}")
    timed("start", time.monotonic() - began)
    number = console.wait_record(200)
    timed("until the guest writes", time.monotonic() - began, f"record {number}")
    tell_snapshot(api, console, vm, "without memory", "false")
    console.wait_record(console.last() + 100)
    taken = tell_snapshot(api, console, vm, "with memory", "true")
    console.wait_record(taken[2] + 300)
    go_back(api, console, data_dir, vm, disks, taken)
    say(f"The VM {NAME} is down and keeps both snapshots; start it and it boots and writes on.")


def arguments(description):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--user", required=True)
    parser.add_argument("--password-file", required=True)
    parser.add_argument("--data-dir", required=True)
    return parser


def run(options, story):
    """Logs in and tells the story; trouble ends the program with a message and exit code 1."""
    with open(options.password_file, encoding="utf-8") as file:
        password = file.read().rstrip("\n")
    try:
        story(Api(options.url, options.user, password), options.data_dir)
    except (Trouble, JUDGE.NotOneMoment, OSError, ElementTree.ParseError) as error:
        sys.exit(f"quickstart: {error}")


def stop_vms(api, _data_dir):
    for vm in api("GET", "vms"):
        stop(api, f"vms/{vm.get('id')}")


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--stop-vms", action="store_true", help="only stop every VM that runs")
    options = parser.parse_args()
    run(options, stop_vms if options.stop_vms else tell)
