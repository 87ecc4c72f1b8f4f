"""What both sides of a measurement need: clients of the daemon, of QEMU's monitor and of the guest agent; the console.

Completion is never learned by asking again and again where it counts: the daemon answers a POST with
"Expect: 201-created" when the snapshot is ok, libvirt's call returns, QEMU sends its events.
"""

import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse
import xml.etree.ElementTree as ElementTree
from xml.sax.saxutils import escape

LONG = 300  # seconds; every wait has an end
CREATED = {"Expect": "201-created"}


class Trouble(Exception):
    """Something did not happen, or is not as it must be."""


def wait_until(what, look, pause=0.01, limit=LONG):
    end = time.monotonic() + limit
    while not (found := look()):
        if time.monotonic() > end:
            raise Trouble(f"waited {limit} s for {what}")
        time.sleep(pause)
    return found


def timed(work):
    """Runs it; what it returned, and the milliseconds it took."""
    began = time.perf_counter()
    result = work()
    return result, (time.perf_counter() - began) * 1e3


class Api:
    """One open connection to the daemon, with a token, as an SDK has it."""

    def __init__(self, url, user, password, ca=None):
        self.address, self.used = urllib.parse.urlsplit(url).netloc, time.monotonic()
        if ca:
            self.link = http.client.HTTPSConnection(self.address, timeout=LONG, context=ssl.create_default_context(cafile=ca))
        else:
            self.link = http.client.HTTPConnection(self.address, timeout=LONG)
        form = {"grant_type": "password", "scope": "ovirt-app-api", "username": user, "password": password}
        self.headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
        status, body = self.send("POST", "/ovirt-engine/sso/oauth/token", urllib.parse.urlencode(form))
        if status != 200:
            raise Trouble(f"the login failed: {status} {body}")
        self.token = json.loads(body)["access_token"]
        self.headers = {"Authorization": f"Bearer {self.token}", "Version": "4", "Accept": "application/xml"}
        self.headers["Content-Type"] = "application/xml"

    def send(self, method, path, body=None, more=None):
        # The daemon ends connections that are idle for long, as while a guest boots.
        if time.monotonic() - self.used > 5:
            self.link.close()
        self.used = time.monotonic()
        self.link.request(method, path, body, {**self.headers, **(more or {})})
        answer = self.link.getresponse()
        return answer.status, answer.read().decode()

    def __call__(self, method, path, body=None, more=None):
        status, text = self.send(method, f"/ovirt-engine/api/{path}", body, more)
        if status not in (200, 201, 202):
            raise Trouble(f"{method} {path}: {status} {text}")
        return ElementTree.fromstring(text) if text else None

    def value(self, path, element):
        return self("GET", path).findtext(element)

    def gone(self, path):
        status, text = self.send("GET", f"/ovirt-engine/api/{path}")
        if status not in (200, 404):
            raise Trouble(f"GET {path}: {status} {text}")
        return status == 404


def snapshot_body(memory=False):
    keep = "true" if memory else "false"
    return f"<snapshot><description>bench</description><persist_memorystate>{keep}</persist_memorystate></snapshot>"


class Vm:
    """A VM of the daemon whose guest writes records; without options it has no system, so that nothing writes unasked."""

    def __init__(self, daemon, name, disks, memory_mib, options, disk_bytes=1 << 30):
        self.daemon, self.api, self.name = daemon, daemon.api, name
        api, cluster = self.api, self.api("GET", "clusters")[0].get("id")
        domain = next(d for d in api("GET", "storagedomains") if d.findtext("type") == "data").get("id")
        system = ""
        if options is not None:
            system = "<os><kernel>vmlinuz</kernel><initrd>initramfs.img</initrd>"
            system += f"<cmdline>{escape(daemon.cmdline(options))}</cmdline></os>"
        self.id = api(
            "POST",
            "vms",
            f'<vm><name>{name}</name><cluster id="{cluster}"/>'
            '<template id="00000000-0000-0000-0000-000000000000"/>'
            f"<memory>{memory_mib << 20}</memory>{system}</vm>",
            CREATED,
        ).get("id")
        self.path, self.disks = f"vms/{self.id}", []
        wait_until(f"{name} to be down", lambda: api.value(self.path, "status") == "down")
        for index in range(disks):
            disk = api(
                "POST",
                "disks",
                f"<disk><name>{name}_{index}</name><provisioned_size>{disk_bytes}</provisioned_size>"
                f'<format>cow</format><storage_domains><storage_domain id="{domain}"/></storage_domains></disk>',
                CREATED,
            ).get("id")
            wait_until("a disk to be ok", lambda path=f"disks/{disk}": api.value(path, "status") == "ok")
            api(
                "POST",
                f"{self.path}/diskattachments",
                f"<disk_attachment><active>true</active><bootable>{str(index == 0).lower()}</bootable>"
                f'<interface>virtio</interface><disk id="{disk}"/></disk_attachment>',
            )
            self.disks.append(disk)
        self.run_dir = os.path.join(daemon.data, "run", "vm", self.id)
        self.console = Console(os.path.join(self.run_dir, "console.log"))

    def start(self):
        self.api("POST", f"{self.path}/start", "<action/>")
        wait_until(f"{self.name} to be up", lambda: self.api.value(self.path, "status") == "up")

    def stop(self):
        self.api("POST", f"{self.path}/stop", "<action/>")
        wait_until(f"{self.name} to be down", lambda: self.api.value(self.path, "status") == "down")

    def pid(self):
        with open(os.path.join(self.run_dir, "pid"), encoding="ascii") as file:
            return int(file.read())

    def active_image(self, disk):
        return os.path.join(self.daemon.data, "images", f"{self.api.value(f'disks/{disk}', 'image_id')}.qcow2")

    def warm(self):
        """Makes sure that the connection is open, as the other side's is."""
        self.api("GET", self.path)

    def snapshot(self, memory=False):
        """Returns when it is ok: no second request, no polling."""
        made = self.api("POST", f"{self.path}/snapshots", snapshot_body(memory), CREATED)
        if made.findtext("snapshot_status") != "ok":
            raise Trouble(f"the snapshot is {made.findtext('snapshot_status')} when the answer comes")
        return made.get("id")

    def delete_snapshot(self, ident):
        """Until it is gone, which no answer tells: asked every 5 ms."""
        path = f"{self.path}/snapshots/{ident}"
        self.api("DELETE", path)
        wait_until("the snapshot to be gone", lambda: self.api.gone(path), 0.005)

    def remove(self):
        self.api("DELETE", self.path)
        wait_until(f"{self.name} to be gone", lambda: self.api.gone(self.path))


class Daemon:
    """The release build in a directory of its own."""

    def __init__(self, binary, root, guest, tls=False):
        self.binary, self.root, self.guest = binary, root, guest
        # CA, certificate, key: made at the first start.
        self.pki = [os.path.join(root, "data", "keys", name) for name in ("ca.pem", "server.pem", "server.key")] if tls else None
        self.data = os.path.join(root, "data")
        self.bootstrap = os.path.join(root, "bootstrap.toml")
        os.makedirs(os.path.join(self.data, "boot"))
        os.chmod(self.data, 0o755)
        with open(self.bootstrap, "w", encoding="ascii", opener=lambda p, f: os.open(p, f, 0o600)) as file:
            file.write('[[project]]\nname = "bench"\n[[user]]\nname = "admin"\npassword = "bench-password"\nadmin = true\n')
        for name in ("vmlinuz", "initramfs.img"):
            subprocess.run(["cp", os.path.join(guest, name), os.path.join(self.data, "boot", name)], check=True)
        self.process = None

    def cmdline(self, options):
        with open(os.path.join(self.guest, "cmdline"), encoding="ascii") as file:
            return f"{file.read().strip()} {options}"

    def start(self):
        """Returns the milliseconds from exec until it serves."""
        began = time.perf_counter()
        words = [self.binary, "serve", "--data-dir", self.data, "--listen", "127.0.0.1:0"]
        words += ["--bootstrap", self.bootstrap, "--accel", "tcg", "--tls", "auto" if self.pki else "off"]
        with open(os.path.join(self.root, "daemon.log"), "ab") as log:
            self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True)
        line = self.process.stdout.readline()
        took = (time.perf_counter() - began) * 1e3
        if not line.startswith("stillpoint ready "):
            raise Trouble(f"the daemon is not ready: {line!r}; see {self.root}/daemon.log")
        self.api = Api(line.split()[2], "admin@internal", "bench-password", self.pki and self.pki[0])
        return took

    def stop(self):
        self.process.terminate()
        self.process.wait(LONG)

    def resident_mib(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1)) / 1024


class Line:
    """A unix socket that carries a JSON object a line; a thread reads it and notes when each came."""

    def __init__(self, path):
        self.link = socket.socket(socket.AF_UNIX)
        self.link.connect(path)
        self.came, self.news = [], threading.Condition()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        rest = b""
        while data := self.receive():
            now = time.perf_counter()
            *lines, rest = (rest + data).split(b"\n")
            with self.news:
                for line in lines:
                    if line := line.strip(b"\r\xff"):
                        self.came.append((now, json.loads(line)))
                self.news.notify_all()

    def receive(self):
        try:
            return self.link.recv(65536)
        except ConnectionResetError:
            return b""  # QEMU was killed: who still waits runs into the deadline

    def wait(self, what, accept, start=0):
        """The first message from place `start` on that is accepted, and when it came."""
        end = time.monotonic() + LONG
        with self.news:
            while True:
                for when, message in self.came[start:]:
                    if accept(message):
                        return when, message
                if not self.news.wait(end - time.monotonic()):
                    raise Trouble(f"waited {LONG} s for {what}")

    def mark(self):
        with self.news:
            return len(self.came)

    def call(self, command, arguments=None):
        start = self.mark()
        self.link.sendall(json.dumps({"execute": command, "arguments": arguments or {}}).encode() + b"\n")
        _, answer = self.wait(command, lambda m: "return" in m or "error" in m, start)
        if "error" in answer:
            raise Trouble(f"{command}: {answer['error']}")
        return answer["return"]

    def event(self, name, start):
        return self.wait(name, lambda m: m.get("event") == name, start)[0]


def monitor(path):
    line = Line(path)
    line.wait("the greeting", lambda m: "QMP" in m)
    line.call("qmp_capabilities")
    return line


def agent(path):
    line = Line(path)
    # The byte makes the agent drop half a command; it may complain about it first.
    line.link.sendall(b'\xff{"execute": "guest-sync-delimited", "arguments": {"id": 4711}}\n')
    line.wait("the agent", lambda m: m.get("return") == 4711)
    return line


class Console:
    """The guest's serial console, a file that grows."""

    def __init__(self, path):
        self.path = path

    def text(self, offset=0):
        try:
            with open(self.path, "rb") as file:
                file.seek(offset)
                return file.read().decode(errors="replace").replace("\r", "")
        except FileNotFoundError:
            return ""

    def size(self):
        return os.path.getsize(self.path) if os.path.exists(self.path) else 0

    def records(self, offset=0):
        return [(int(n), float(gap)) for n, gap in re.findall(r"^REC (\d+) \d+ ([\d.]+)$", self.text(offset), re.M)]

    def wait_records(self, count, offset=0):
        def look():
            if trouble := re.search(r".*(FAILED |LOAD CORRUPT|Kernel panic).*", self.text(offset)):
                raise Trouble(f"the guest says: {trouble.group(0)}")
            return len(self.records(offset)) >= count

        wait_until(f"{count} records on {self.path}", look, 0.02)

    def wait_text(self, text):
        wait_until(f"{text!r} on {self.path}", lambda: text in self.text(), 0.2)


class Beats:
    """When the console grew, by the host's clock, looked at every millisecond."""

    def __init__(self, console):
        self.path, self.beats, self.watching = console.path, [], True
        self.thread = threading.Thread(target=self.look, daemon=True)
        self.thread.start()

    def look(self):
        size = -1
        while self.watching:
            now = os.stat(self.path).st_size
            if now != size:
                size = now
                self.beats.append(time.perf_counter())
            time.sleep(0.001)

    def longest(self, start, end):
        """The longest silence in ms that touches [start, end]; ends the watch."""
        self.watching = False
        self.thread.join()
        pairs = list(zip(self.beats, self.beats[1:]))
        found = [(b - a) * 1e3 for a, b in pairs if b >= start and a <= end]
        if not found:
            raise Trouble("the console was silent")
        return max(found)


class Twin:
    """A QEMU with the very command line of a VM of the daemon, but driven by nobody: the bare side."""

    def __init__(self, vm, root):
        self.root, self.count = root, 0
        os.makedirs(root)
        with open(f"/proc/{vm.pid()}/cmdline", "rb") as file:
            words = file.read().decode().rstrip("\0").split("\0")
        images = sorted({found for word in words for found in re.findall(r'"filename":"([^"]+)"', word)})
        renamed = {path: os.path.join(root, os.path.basename(path)) for path in images}
        for path, copy in renamed.items():
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", copy, str(1 << 30)], check=True)
        for path, copy in renamed.items():
            words = [word.replace(path, copy) for word in words]
        words = [word.replace(vm.run_dir, root) for word in words]
        self.tops = {}
        for word in words:
            if word.startswith("{") and '"drive"' in word:
                self.tops[json.loads(word)["drive"]] = None
        for word in words:
            if word.startswith("{") and json.loads(word).get("node-name") in self.tops:
                options = json.loads(word)
                file = next(json.loads(w) for w in words if w.startswith("{") and json.loads(w).get("node-name") == options["file"])
                self.tops[options["node-name"]] = file["filename"]
        if len(self.tops) != len(vm.disks) or None in self.tops.values():
            raise Trouble(f"the command line of {vm.name} is not understood: {words}")
        self.log = open(os.path.join(root, "qemu.log"), "wb")
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        self.console = Console(os.path.join(root, "console.log"))
        wait_until("the twin's socket", lambda: os.path.exists(os.path.join(root, "qmp")))
        self.qmp = monitor(os.path.join(root, "qmp"))
        self.agent = None

    def pid(self):
        return self.process.pid

    def warm(self):
        """As for a VM of the daemon; these connections stay open by themselves."""
        self.qmp.call("query-status")

    def prepare(self):
        """Overlays made and opened: the transaction's actions."""
        self.count += 1
        actions, self.overlays = [], []
        for index, (node, base) in enumerate(self.tops.items()):
            name, path = f"o{self.count}x{index}", os.path.join(self.root, f"o{self.count}x{index}.qcow2")
            words = ["qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", base, "-F", "qcow2", path, str(1 << 30)]
            subprocess.run(words, check=True)
            self.qmp.call("blockdev-add", {"driver": "file", "filename": path, "node-name": f"{name}p", "discard": "unmap"})
            options = {"driver": "qcow2", "file": f"{name}p", "node-name": name, "backing": None, "discard": "unmap"}
            self.qmp.call("blockdev-add", options)
            actions.append({"type": "blockdev-snapshot", "data": {"node": node, "overlay": name}})
            self.overlays.append((node, name, path))
        return {"actions": actions}

    def flatten(self):
        """Commits the overlays down again and removes them: the depth is what it was."""
        for node, name, path in self.overlays:
            start = self.qmp.mark()
            job = {"job-id": "flat", "device": name, "top-node": name, "base-node": node}
            self.qmp.call("block-commit", job)
            self.qmp.event("BLOCK_JOB_READY", start)
            self.qmp.call("job-complete", {"id": "flat"})
            self.qmp.event("BLOCK_JOB_COMPLETED", start)
            self.qmp.call("blockdev-del", {"node-name": name})
            self.qmp.call("blockdev-del", {"node-name": f"{name}p"})
            os.unlink(path)

    def quit(self):
        self.process.kill()
        self.process.wait(LONG)
        self.log.close()


class Only:
    """Lets only one of two guests run while it is measured: the other one is stopped by signal."""

    def __init__(self, *machines):
        self.machines = machines

    def turn(self, machine):
        for other in self.machines:
            os.kill(other.pid(), signal.SIGCONT if other is machine else signal.SIGSTOP)
        time.sleep(0.05)

    def all(self):
        for machine in self.machines:
            os.kill(machine.pid(), signal.SIGCONT)
