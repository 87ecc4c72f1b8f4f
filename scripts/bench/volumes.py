"""Snapshots of volumes, against the real Cinder with a driver that does nothing, and against a smaller store of our own.

Both are asked by wrk over 8 open connections. The stores are filled through the API with one snapshot, whose row is then copied
under other ids while the server is down: 100,000 by POST would take an hour on one of the sides.
"""

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request

from catalogue import fresh, insert, rows
from rig import Daemon, Trouble, timed, wait_until

CINDER, HELPERS = "cinder==29.0.0", ("fixtures==4.3.2", "testtools==2.9.1", "oslotest==6.1.1", "ddt==1.7.2")
SMALL, LARGE, VOLUMES = 1_000, 100_000, 16
SHOW, PAGE, CREATE, SAME, RESIDENT = 60, 120, 200, 0.9, 0.35
SECONDS, BURST = 2, 10
HERE = os.path.dirname(os.path.abspath(__file__))


def ask(url, token, body=None, version=None, method=None):
    """An answer's JSON and headers."""
    more = {"X-Auth-Token": token, "Content-Type": "application/json"}
    if version:
        more["OpenStack-API-Version"] = f"volume {version}"
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), more, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=120) as answer:
            return json.load(answer), answer.headers
    except urllib.error.HTTPError as error:
        raise Trouble(f"{url}: {error.code} {error.read()[:300]}") from error


class Side:
    """A server of the volume API with one project."""

    base = token = path = None

    def __call__(self, path, body=None, version=None):
        return ask(f"{self.base}{self.path}/{path}", self.token, body, version)[0]

    def seed(self):
        """Volumes, and one snapshot; returns the snapshot's id."""
        self.volumes = [self("volumes", {"volume": {"size": 1, "name": f"v{n}"}})["volume"]["id"] for n in range(VOLUMES)]
        for volume in self.volumes:
            wait_until("a volume", lambda volume=volume: self(f"volumes/{volume}")["volume"]["status"] == "available")
        made = self("snapshots", {"snapshot": {"volume_id": self.volumes[0], "name": "seed"}})["snapshot"]["id"]
        wait_until("a snapshot", lambda: self(f"snapshots/{made}")["snapshot"]["status"] == "available")
        return made

    def wrk(self, name, lines, seconds, version=None):
        """Requests a second; any that is not answered well is a failure of the whole."""
        file = os.path.join(self.root, name)
        with open(file, "w", encoding="ascii") as out:
            out.writelines(f"{self.path}/{line}\n" for line in lines)
        words = ["wrk", "-t1", "-c8", f"-d{seconds}s", "--timeout", "120s", "-s", os.path.join(HERE, "requests.lua"), self.base]
        words += ["--", file, self.token, *([version] if version else [])]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        requests, micros, broken, refused = map(int, re.search(r"RESULT (\d+) (\d+) (\d+) (\d+)", done.stdout).groups())
        if broken or refused:
            raise Trouble(f"{name}: {broken} requests broke, {refused} were refused, of {requests}")
        return requests / micros * 1e6

    def show(self):
        return self.wrk("show", [f"snapshots/{i}" for i in self.some], SECONDS)

    def page(self):
        return self.wrk("page", [f"snapshots/detail?limit=100&marker={i}" for i in self.some], SECONDS)

    def first_page(self):
        return self.wrk("first", ["snapshots/detail?limit=100"], SECONDS)

    def count(self):
        return self.wrk("count", ["snapshots?limit=1&with_count=true"], SECONDS, "3.45")

    def of_volume(self):
        return self.wrk("volume", [f"snapshots?limit=10&volume_id={v}" for v in self.volumes[1:]], SECONDS)

    def burst(self):
        """Creates a second, and creates to `available` a second."""
        before = self("snapshots?limit=1&with_count=true", version="3.45")["count"]
        bodies = [json.dumps({"snapshot": {"volume_id": v, "force": False}}) for v in self.volumes]
        began = time.perf_counter()
        rate = self.wrk("create", [f"snapshots\t{body}" for body in bodies], BURST)
        wait_until(
            "every snapshot to be available",
            lambda: self("snapshots?status=creating&limit=1&with_count=true", version="3.45")["count"] == 0,
            pause=0.05,
            limit=1800,
        )
        took = time.perf_counter() - began
        made = self("snapshots?limit=1&with_count=true", version="3.45")["count"] - before
        good = self("snapshots?status=available&limit=1&with_count=true", version="3.45")["count"] - before
        if good != made:
            raise Trouble(f"{made - good} of {made} snapshots did not become available")
        return rate, made / took


def multiply(file, table, ident, count, changed):
    """Copies of a row; returns some of their ids."""
    db = sqlite3.connect(file)
    db.row_factory = sqlite3.Row
    [seed] = rows(db, table, "id = ?", ident)
    some = []
    with db:
        for number in range(count):
            row = {**seed, "id": fresh(), **changed(seed, number)}
            insert(db, table, row)
            if number % max(1, count // 2000) == 0:
                some.append(row["id"])
    db.close()
    return some


class Ours(Side):
    def __init__(self, binary, root, guest, snapshots):
        self.root, self.daemon = root, Daemon(binary, root, guest)
        self.daemon.start()
        self.login()
        project = self.path.rsplit("/", 1)[1]
        unlimited = {"quota_set": {"volumes": -1, "snapshots": -1, "gigabytes": -1}}
        ask(f"{self.base}{self.path}/os-quota-sets/{project}", self.token, unlimited, method="PUT")
        made = self.seed()
        self.daemon.stop()
        earlier = lambda seed, number: {"created_at": seed["created_at"] - 1_000_000 * (number + 1)}
        self.some = multiply(os.path.join(self.daemon.data, "stillpoint.db"), "volume_snapshot", made, snapshots, earlier)
        self.daemon.start()
        self.login()

    def login(self):
        self.base = f"http://{self.daemon.api.address}"
        identity = {"methods": ["password"], "password": {"user": {"name": "admin", "password": "bench-password", "domain": {"id": "default"}}}}
        scope = {"project": {"name": "bench", "domain": {"id": "default"}}}
        answer, headers = ask(f"{self.base}/identity/v3/auth/tokens", "", {"auth": {"identity": identity, "scope": scope}})
        self.token, self.path = headers["X-Subject-Token"], f"/volume/v3/{answer['token']['project']['id']}"

    def resident_mib(self):
        return self.daemon.resident_mib()


class Cinder(Side):
    """Cinder, whole, in one process."""

    token, path = "bench:0123456789abcdef0123456789abcdef", "/v3/0123456789abcdef0123456789abcdef"

    def __init__(self, root, snapshots):
        self.root, self.venv = root, os.path.join(root, "venv")
        subprocess.run(["/usr/bin/python3", "-m", "venv", self.venv], check=True)
        pip = [os.path.join(self.venv, "bin", "pip"), "install", "--quiet", "--disable-pip-version-check", CINDER, *HELPERS]
        subprocess.run(pip, check=True, stdout=subprocess.DEVNULL)
        self.state = os.path.join(root, "state")
        os.makedirs(self.state)
        self.start()
        made = self.seed()
        self.stop()
        self.some = multiply(os.path.join(self.state, "cinder.db"), "snapshots", made, snapshots, lambda seed, number: {})
        self.start()

    def start(self):
        port = 18_776
        self.base = f"http://127.0.0.1:{port}"
        words = [os.path.join(self.venv, "bin", "python"), os.path.join(HERE, "cinder_peer.py"), self.state, str(port)]
        with open(os.path.join(self.root, "peer.log"), "ab") as log:
            self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("ready "):
            raise Trouble(f"Cinder is not ready: see {self.root}/peer.log and {self.state}/cinder.log")
        self.version = line.split()[1]
        up = lambda: "volume_types" in self("types")
        try:
            wait_until("Cinder", lambda: quiet(up))
        except Trouble as trouble:
            raise Trouble(f"{trouble}; see {self.state}/cinder.log") from trouble

    def stop(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def resident_mib(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1)) / 1024


def quiet(look):
    try:
        return look()
    except (OSError, Trouble, ValueError):
        return False


def measure(place, binary, root, guest, pairs, say):
    place.part(
        f"Snapshots of volumes, against {CINDER.replace('==', ' ')} with a driver that does nothing",
        f"Requests a second, 8 connections, {LARGE:,} snapshots in either store. Cinder runs whole in one process over SQLite, without "
        "token checks and without images, which flatters it; ours checks tokens and makes images. wrk runs on the same processors.",
        f"A create is durable before its 202; a burst of {BURST} s over {VOLUMES} volumes that nobody has attached.",
    )
    folder = lambda name: os.makedirs(os.path.join(root, name)) or os.path.join(root, name)
    pairs = max(3, min(pairs, 10))
    say("filling the stores of volume snapshots")
    large, small = Ours(binary, folder("volumes-large"), guest, LARGE), Ours(binary, folder("volumes-small"), guest, SMALL)
    peer = Cinder(folder("cinder"), LARGE)
    try:
        for what, ask_one, least in (("show", Side.show, SHOW), ("page of 100, anywhere", Side.page, PAGE)):
            say(f"volumes: {what}")
            taken = [(ask_one(large), ask_one(peer)) for _ in range(pairs)]
            place.rate(what, [ours for ours, _ in taken], [theirs for _, theirs in taken], least)
        resident = large.resident_mib(), peer.resident_mib()
        say("volumes: bursts of creates")
        bursts = [(large.burst(), small.burst(), peer.burst()) for _ in range(3)]
        place.rate("create", [ours[0] for ours, _, _ in bursts], [theirs[0] for _, _, theirs in bursts], CREATE)
        place.rate("create to `available`", [ours[1] for ours, _, _ in bursts], [theirs[1] for _, _, theirs in bursts])
        place.part(
            f"The same store with {LARGE:,} snapshots, against one with {SMALL:,}", "Requests a second, 8 connections; the same binary."
        )
        for what, ask_one in (
            ("show", Side.show),
            ("first page of 100", Side.first_page),
            ("page of 100, anywhere", Side.page),
            ("count", Side.count),
            ("of one volume", Side.of_volume),
        ):
            say(f"volumes: {what}, large and small")
            taken = [(ask_one(large), ask_one(small)) for _ in range(pairs)]
            place.rate(what, [ours for ours, _ in taken], [theirs for _, theirs in taken], SAME)
        place.rate("create", [ours[0] for ours, _, _ in bursts], [theirs[0] for _, theirs, _ in bursts], SAME)
        place.facts(
            "Memory of both daemons",
            [("ours", [resident[0]], "MiB resident"), (f"Cinder {peer.version}", [resident[1]], "MiB resident")],
            f"Promised: at most {RESIDENT} times; measured {resident[0] / resident[1]:.2f} times.",
        )
        if resident[0] > RESIDENT * resident[1]:
            place.missed.append(f"resident memory: {resident[0] / resident[1]:.2f} of Cinder's instead of {RESIDENT}")
    finally:
        peer.stop()
        large.daemon.stop()
        small.daemon.stop()
        shutil.rmtree(peer.venv, ignore_errors=True)
