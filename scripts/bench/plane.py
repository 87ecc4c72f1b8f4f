"""The data plane against ovirt-imageio 2.5.1: the same bytes of the same image, the same client, HTTPS on both sides.

The client is a bare one of our own (`Bare`), as it costs less than the servers do; curl costs more. Ours is a disk's image transfer through the API; theirs is the
imageio daemon, with qemu-nbd over the same qcow2 (as a host of oVirt runs it), or with its own backend over a raw file.
"""

import json
import os
import shutil
import socket
import ssl
import statistics
import subprocess
import threading
import time
import urllib.parse
import uuid

from rig import Api, Trouble, timed, wait_until

CONNECTIONS = 4
SIZE = 1 << 30  # of the disk, all of it data
PUT_BYTES = 256 << 20
RANGE = 64 << 10
RANGES = 2_000
RUN, RUNS = 4096, (8_000, 32_000)  # bytes, and how many ranges of that size
HEAD = "-sS", "--noproxy", "*", "--fail", "-o", "/dev/null"


def processor_s(pids):
    """CPU seconds that these processes have used."""
    ticks = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def resident_mib(pids):
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            total += next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))
    return total / 1024


class Side:
    """A server with a ticket: an URL, a CA, and the processes that serve it."""

    def __init__(self, url, ca, pids):
        self.url, self.ca, self.pids = url, ca, pids

    def each(self, work, pieces):
        """Does `work(connection, piece)` for each piece, in a process and over a connection of its own."""
        children = []
        for piece in pieces:
            if not (child := os.fork()):
                status = 1
                try:
                    work(Bare(self), piece)
                    status = 0
                finally:
                    os._exit(status)
            children.append(child)
        if any([os.waitpid(child, 0)[1] for child in children]):
            raise Trouble(f"a client failed on {self.url}")

    def read(self, connections=CONNECTIONS):
        part = SIZE // connections
        self.each(lambda bare, k: bare.get(k * part, part), range(connections))

    def write(self, files, part):
        self.each(lambda bare, piece: bare.put(piece[1], piece[0] * part, part), enumerate(files))

    def ranges(self, count, size):
        """One range a request, one connection, in order, at even distances."""
        step, bare = SIZE // count // 4096 * 4096, Bare(self)
        for k in range(count):
            bare.get(k * step, size)
        bare.link.close()


class Bare:
    """A client over one connection that costs little itself: curl takes 150 us of processor for a request, more than a server
    does, and would be measured in its place."""

    def __init__(self, side):
        parts = urllib.parse.urlsplit(side.url)
        link = socket.create_connection((parts.hostname, parts.port))
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.link = ssl.create_default_context(cafile=side.ca).wrap_socket(link, server_hostname=parts.hostname)
        self.place = f"{parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        self.buffer = bytearray(256 << 10)

    def receive(self, into):
        if not (came := self.link.recv_into(into)):
            raise Trouble("the server closed the connection")
        return came

    def answer(self, expected):
        """Reads the head of an answer; how many bytes of its body came with it."""
        came = self.receive(self.buffer)
        while (end := self.buffer.find(b"\r\n\r\n", 0, came)) < 0:
            came += self.receive(memoryview(self.buffer)[came:])
        head = bytes(self.buffer[:end]).lower()
        if not all(word in head for word in expected):
            raise Trouble(f"the server answered {head}")
        return came - end - 4

    def get(self, begin, length):
        self.link.sendall(f"GET {self.place}Range: bytes={begin}-{begin + length - 1}\r\n\r\n".encode())
        missing = length - self.answer((b"http/1.1 206", b"content-length: %d" % length))
        while missing:
            missing -= self.receive(self.buffer)

    def put(self, file, begin, length):
        words = f"Content-Range: bytes {begin}-{begin + length - 1}/*\r\nContent-Length: {length}"
        self.link.sendall(f"PUT {self.place}{words}\r\n\r\n".encode())
        with open(file, "rb", buffering=0) as data:
            while came := data.readinto(self.buffer):
                self.link.sendall(memoryview(self.buffer)[:came])
        self.answer((b"http/1.1 200",))


class Imageio:
    """The unmodified daemon, from PyPI."""

    def __init__(self, python, root, pki):
        self.root, self.children = root, []
        os.makedirs(os.path.join(root, "conf.d"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.ca, certificate, key = pki
        self.control = os.path.join(root, "control")
        with open(os.path.join(root, "conf.d", "bench.conf"), "w", encoding="ascii") as file:
            file.write(
                f"[daemon]\nrun_dir = {root}\ndrop_privileges = false\nsystemd_enable = false\n"
                f"[tls]\nkey_file = {key}\ncert_file = {certificate}\nca_file = {self.ca}\n"
                f"[remote]\nhost = 127.0.0.1\nport = {self.port}\n[local]\nenable = false\n"
                f"[control]\nsocket = {self.control}\n[profile]\nfilename = {root}/profile\n"
                "[logger_root]\nlevel = WARNING\nhandlers = stderr\n[handlers]\nkeys = stderr\n"
            )
        words = [os.path.join(os.path.dirname(python), "ovirt-imageio"), "-c", root]
        with open(os.path.join(root, "log"), "ab") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log)
        wait_until("imageio's control socket", lambda: os.path.exists(self.control))

    def ticket(self, url, size, ops):
        ident = str(uuid.uuid4())
        ticket = {"uuid": ident, "size": size, "url": url, "timeout": 3600, "inactivity_timeout": 3600, "ops": ops}
        words = ["curl", *HEAD, "--unix-socket", self.control, "-X", "PUT", "-d", json.dumps(ticket), f"http://x/tickets/{ident}"]
        subprocess.run(words, check=True)
        return f"https://localhost:{self.port}/images/{ident}"

    def over_qcow2(self, image, ops):
        """As a host of oVirt does: qemu-nbd, and imageio in front of it."""
        path = os.path.join(self.root, f"nbd{len(self.children)}")
        words = ["qemu-nbd", "--socket", path, "--format", "qcow2", "--persistent", "--shared=8", "--discard=unmap"]
        words += ["--export-name", "x", "--cache=writeback", *(["--read-only"] if ops == ["read"] else []), image]
        server = subprocess.Popen(words)
        self.children.append(server)
        wait_until("qemu-nbd", lambda: os.path.exists(path))
        return Side(self.ticket(f"nbd:unix:{path}:exportname=x", SIZE, ops), self.ca, [self.process.pid, server.pid])

    def over_raw(self, image, ops):
        return Side(self.ticket(f"file://{image}", SIZE, ops), self.ca, [self.process.pid])

    def stop(self):
        for process in [*self.children, self.process]:
            process.terminate()
            process.wait()


class Transfer:
    """Ours: a disk, perhaps as a backup holds it, and an image transfer of it."""

    def __init__(self, daemon, disk, direction, backup=None):
        self.api = daemon.api
        held = f'<backup id="{backup}"/>' if backup else ""
        made = self.api(
            "POST",
            "imagetransfers",
            f'<image_transfer>{held}<disk id="{disk}"/><direction>{direction}</direction><format>raw</format>'
            "<inactivity_timeout>3600</inactivity_timeout></image_transfer>",
        )
        self.path = f"imagetransfers/{made.get('id')}"
        wait_until("the transfer", lambda: self.api.value(self.path, "phase") == "transferring")
        self.url = self.api.value(self.path, "transfer_url")

    def pids(self, daemon):
        """The daemon, and the storage daemon that has the image open."""
        found = subprocess.run(["pgrep", "-f", f"qemu-storage-daemon.*{daemon.data}"], capture_output=True, text=True, check=False)
        return [daemon.process.pid, *map(int, found.stdout.split())]

    def end(self):
        self.api("POST", f"{self.path}/finalize", "<action/>")
        wait_until("the transfer's end", lambda: self.api.value(self.path, "phase").startswith("finished"))


def make_disk(daemon, name, format):
    domain = next(d for d in daemon.api("GET", "storagedomains") if d.findtext("type") == "data").get("id")
    disk = daemon.api(
        "POST",
        "disks",
        f"<disk><name>{name}</name><provisioned_size>{SIZE}</provisioned_size><format>{format}</format>"
        f'<sparse>true</sparse><storage_domains><storage_domain id="{domain}"/></storage_domains></disk>',
    ).get("id")
    wait_until("the disk", lambda: daemon.api.value(f"disks/{disk}", "status") == "ok")
    return disk, os.path.join(daemon.data, "images", f"{daemon.api.value(f'disks/{disk}', 'image_id')}.{'qcow2' if format == 'cow' else 'raw'}")


def both(ours, theirs, times, work):
    """Interleaved pairs: milliseconds, and CPU seconds of the servers."""
    took, used = ([], []), ([], [])
    for pair in range(-1, times):
        for index, side in enumerate((ours, theirs)):
            before = processor_s(side.pids)
            _, ms = timed(lambda s=side: work(s))
            if pair >= 0:
                took[index].append(ms)
                used[index].append(processor_s(side.pids) - before)
    return took, used


def growth(side):
    """How much more memory the server has while eight connections read, at most, in MiB."""
    before, most, going = resident_mib(side.pids), 0.0, True

    def look():
        nonlocal most
        while going:
            most = max(most, resident_mib(side.pids))
            time.sleep(0.01)

    watch = threading.Thread(target=look)
    watch.start()
    side.read(8)
    going = False
    watch.join()
    return max(most - before, 0.1)


def measure(place, daemon, python, pairs, say):
    """`daemon` serves TLS with a certificate of its own CA."""
    place.part(
        "Image transfers, against ovirt-imageio 2.5.1",
        f"One disk of {SIZE >> 30} GiB, all data; {CONNECTIONS} connections of a bare client over HTTPS with one CA, a process and one range each, unless said otherwise. Theirs: imageio's daemon and `qemu-nbd` over a copy of the same file. Times in ms; a target of 1.8 times as fast is a ratio of 0.56.",
    )
    theirs = Imageio(python, os.path.join(daemon.root, "imageio"), daemon.pki)
    try:
        disk, file = make_disk(daemon, "plane", "cow")
        data = os.path.join(daemon.root, "random")
        subprocess.run(["dd", "if=/dev/urandom", f"of={data}", "bs=1M", f"count={SIZE >> 20}", "status=none"], check=True)
        part = PUT_BYTES // CONNECTIONS
        parts = [f"{data}.{k}" for k in range(CONNECTIONS)]
        for k, path in enumerate(parts):
            subprocess.run(["dd", f"if={data}", f"of={path}", "bs=1M", f"skip={k * part >> 20}", f"count={part >> 20}", "status=none"], check=True)
        copy = os.path.join(daemon.root, "copy.qcow2")
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", data, copy], check=True)

        # Upload first: it fills ours.
        shutil.copy(copy, f"{copy}.w")
        up, peer = Transfer(daemon, disk, "upload"), theirs.over_qcow2(f"{copy}.w", ["read", "write"])
        ours = Side(up.url, daemon.pki[0], up.pids(daemon))
        ours.write([data], SIZE)
        took, _ = both(ours, peer, pairs, lambda side: side.write(parts, part))
        place.row(f"PUT of {PUT_BYTES >> 20} MiB into a qcow2", *took, 0.62)
        up.end()

        down, peer = Transfer(daemon, disk, "download"), theirs.over_qcow2(copy, ["read"])
        ours = Side(down.url, daemon.pki[0], down.pids(daemon))
        took, used = both(ours, peer, pairs, Side.read)
        place.row("GET of all of a qcow2", *took, 0.56)
        per_gb = [[seconds * 1e3 * 1e9 / SIZE for seconds in one] for one in used]
        place.row("its CPU time per GB, server's processes", *per_gb, 0.55)
        say(f"reads: {statistics.median(took[0]):.0f} ms against {statistics.median(took[1]):.0f} ms")
        took, _ = both(ours, peer, max(3, pairs // 3), lambda side: side.ranges(RANGES, RANGE))
        place.row(f"{RANGES} ranges of {RANGE >> 10} KiB, one connection", *took, 0.5)
        medians = []
        for runs in RUNS:
            took, _ = both(ours, peer, max(1, pairs // 10), lambda side, n=runs: side.ranges(n, RUN))
            place.row(f"{runs} ranges of {RUN >> 10} KiB (one GET a dirty run)", *took, 0.29)
            medians.append(statistics.median(took[0]) / runs)
        say(f"a range of {RUN} bytes: {medians[0] * 1e3:.0f} and {medians[1] * 1e3:.0f} us among {RUNS[0]} and {RUNS[1]}")
        grown = [[growth(side) for _ in range(3)] for side in (ours, peer)]
        place.row("growth of resident memory under 8 connections, MiB", *grown, 0.5)
        down.end()

        disk, file = make_disk(daemon, "plane-raw", "raw")
        with open(data, "rb") as source, open(file, "r+b") as into:
            shutil.copyfileobj(source, into, 1 << 20)
        down, peer = Transfer(daemon, disk, "download"), theirs.over_raw(file, ["read"])
        ours = Side(down.url, daemon.pki[0], [daemon.process.pid])
        took, used = both(ours, peer, pairs, Side.read)
        place.row("GET of all of a raw file", *took, 0.43)
        down.end()
    finally:
        theirs.stop()
