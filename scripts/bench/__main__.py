"""Measures Stillpoint against libvirt, bare QEMU and ovirt-imageio, side by side in one run. Called by ./bench.

Every figure is a ratio of medians over interleaved pairs (ours, theirs, ours, theirs, ...), because what else runs on
the machine hits both sides alike; single times are comparable within one run only. Before each measurement both sides
have the same chains: every snapshot is deleted (merged down) again before the next pair.
The report goes to standard output, progress to standard error.
"""

import argparse
import http.client
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import libvirt

import backups
import catalogue
import plane
import report
import volumes
from reference import Domain, Libvirt
from rig import Beats, Daemon, Only, Trouble, Twin, Vm, agent, monitor, snapshot_body, timed, wait_until

# no_timer_check: a kernel that boots on an overloaded host would else panic over its timer.
CALM = "no_timer_check"
IDLE = f"{CALM} module_blacklist=virtio_console sp.pause=100000 sp.every=10"  # no port, so no agent
BUSY = f"{CALM} sp.pause=1000 sp.every=1"
TOUCHED_MIB, MEMORY_GUEST_MIB = 1024, 1280


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def curl_words(vm, body_file):
    headers = [f"Authorization: Bearer {vm.api.token}", "Version: 4", "Content-Type: application/xml", "Expect: 201-created"]
    words = ["curl", "-sS", "--noproxy", "*", "--fail", "--data-binary", f"@{body_file}"]
    for header in headers:
        words += ["-H", header]
    return [*words, f"http://{vm.api.address}/ovirt-engine/api/{vm.path}/snapshots"]


def newest_snapshot(vm):
    found = vm.api("GET", f"{vm.path}/snapshots")
    return next(s.get("id") for s in found if s.findtext("snapshot_type") == "regular")


def machine_type(vm):
    with open(f"/proc/{vm.pid()}/cmdline", "rb") as file:
        words = file.read().decode().split("\0")
    return words[words.index("-machine") + 1].split(",")[0]


def boot_files(daemon, server):
    """The demo guest, where libvirt's user may read it."""
    boot = os.path.join(server.root, "disks")
    for name in ("vmlinuz", "initramfs.img"):
        shutil.copy(os.path.join(daemon.guest, name), boot)
    return boot


def against_libvirt(place, daemon, server, counts, pairs):
    """Live snapshot without an agent, on both sides by an open connection and by a command."""
    place.part(
        "Live snapshot without an agent, against libvirt",
        "Ours: `POST /vms/ID/snapshots` with `Expect: 201-created` (the answer comes when the snapshot is `ok`). Libvirt: what "
        "`virsh snapshot-create-as --disk-only --atomic` does. Each once as a call over an open connection (Python "
        "on both sides) and once as a command that is started for it (`curl`, `virsh`). Times in ms.",
    )
    deletes, body_file, boot = [], os.path.join(daemon.root, "body.xml"), boot_files(daemon, server)
    with open(body_file, "w", encoding="ascii") as file:
        file.write(snapshot_body())
    for disks in counts:
        vm = Vm(daemon, f"plain{disks}", disks, 256, f"{IDLE} sp.disks={disks}")
        vm.start()
        domain = Domain(server, f"plain{disks}", disks, 256, boot, daemon.cmdline(f"{IDLE} sp.disks={disks}"), machine_type(vm))
        vm.console.wait_records(3)
        domain.console.wait_records(3)
        call, command, merge = ([], []), ([], []), ([], [])
        for pair in range(-1, pairs):  # pair -1 is a warm-up and does not count
            taken = []
            vm.warm()
            ident, ours = timed(vm.snapshot)
            merge[0].append(timed(lambda i=ident: vm.delete_snapshot(i))[1])
            _, theirs = timed(domain.snapshot)
            merge[1].append(timed(domain.delete_snapshot)[1])
            taken.append((call, ours, theirs))
            curl, virsh = curl_words(vm, body_file), domain.virsh_words()
            _, ours = timed(lambda w=curl: subprocess.run(w, check=True, stdout=subprocess.DEVNULL))
            vm.delete_snapshot(newest_snapshot(vm))
            _, theirs = timed(lambda w=virsh: subprocess.run(w, check=True, stdout=subprocess.DEVNULL))
            domain.delete_snapshot()
            taken.append((command, ours, theirs))
            if pair >= 0:
                for into, a, b in taken:
                    into[0].append(a)
                    into[1].append(b)
        title = f"{disks} disk{'s' if disks > 1 else ''}"
        place.row(f"{title}, open connection", *call, 0.5)
        place.row(f"{title}, command", *command, 0.5)
        say(f"{title}: {statistics.median(call[0]):.1f} ms against {statistics.median(call[1]):.1f} ms")
        deletes.append((f"{title}: live delete (merge), until it is gone", *merge))
        vm.stop()
        domain.destroy()
        vm.remove()
    return deletes


def bare_window(twin):
    """Freeze, transaction, thaw: nothing less does what a consistent snapshot does."""
    actions = twin.prepare()

    def window():
        twin.agent.call("guest-fsfreeze-freeze")
        twin.qmp.call("transaction", actions)
        twin.agent.call("guest-fsfreeze-thaw")

    return timed(window)[1]


def stall(side, work):
    """Runs it among records; its result and the longest gap between two records, by the guest's own clock."""
    side.console.wait_records(10, side.console.size())
    side.warm()
    start = side.console.size()
    result = work()
    side.console.wait_records(5, side.console.size())
    return result, max(gap for _, gap in side.console.records(start))


def with_agent(place, daemon, counts, pairs):
    place.part(
        "Live snapshot with the guest agent, against bare freeze, transaction, thaw",
        "The bare side is a QEMU with the very same command line and guest; its overlays are made and opened before the "
        "clock starts, and its client does nothing but `guest-fsfreeze-freeze`, `transaction`, `guest-fsfreeze-thaw` over "
        "connections that are open and in step. Ours is the whole request over HTTP, until `ok`. Only one of the two guests runs at a "
        "time (the other is stopped by SIGSTOP). The stall is the longest gap between two durable writes, by the guest's "
        "clock. Times in ms.",
    )
    for disks in counts:
        vm = Vm(daemon, f"agent{disks}", disks, 256, f"{BUSY} sp.disks={disks}")
        vm.start()
        twin = Twin(vm, os.path.join(daemon.root, f"twin{disks}"))
        try:
            vm.console.wait_records(20)
            twin.console.wait_records(20)
            twin.agent = agent(os.path.join(twin.root, "agent"))
            only, took, stalls = Only(vm, twin), ([], []), ([], [])
            for pair in range(-1, pairs):
                only.turn(vm)
                (ident, ours), our_stall = stall(vm, lambda: timed(vm.snapshot))
                vm.delete_snapshot(ident)
                only.turn(twin)
                theirs, their_stall = stall(twin, lambda: bare_window(twin))
                twin.flatten()
                if pair >= 0:
                    took[0].append(ours)
                    took[1].append(theirs)
                    stalls[0].append(our_stall)
                    stalls[1].append(their_stall)
            only.all()
            title = f"{disks} disk{'s' if disks > 1 else ''}"
            place.row(f"{title}: request to ok", *took, 1.3)
            place.row(f"{title}: the guest's write stall", *stalls, 1.15)
            say(f"agent, {title}: {statistics.median(took[0]):.1f} ms against {statistics.median(took[1]):.1f} ms")
            frozen = [e.findtext("description") for e in daemon.api("GET", "events?max=50") if "frozen" in (e.findtext("description") or "")]
            if not frozen or "were not frozen" in frozen[0]:
                raise Trouble(f"our side did not freeze: {frozen[:1]}")
        finally:
            twin.quit()
        vm.stop()
        vm.remove()


def stop_and_save(twin, path):
    """What saves memory without Stillpoint: stop, transaction, migrate to a file, cont. STOP to RESUME, in ms."""
    actions, start = twin.prepare(), twin.qmp.mark()
    twin.qmp.call("stop")
    twin.qmp.call("transaction", actions)
    twin.qmp.call("migrate", {"uri": f"exec:cat > '{path}'"})
    twin.qmp.wait("the end of migration", lambda m: m.get("event") == "MIGRATION" and m["data"]["status"] == "completed", start)
    # The event comes a moment before QEMU takes a cont.
    wait_until("the end of finish-migrate", lambda: twin.qmp.call("query-status")["status"] != "finish-migrate", 0.001)
    twin.qmp.call("cont")
    return (twin.qmp.event("RESUME", start) - twin.qmp.event("STOP", start)) * 1e3


def silence(side, work):
    side.console.wait_records(5, side.console.size())
    side.warm()
    beats, began = Beats(side.console), time.perf_counter()
    time.sleep(0.05)
    result = work()
    ended = time.perf_counter()
    side.console.wait_records(3, side.console.size())
    return result, beats.longest(began, ended)


def with_memory(place, daemon, pairs):
    place.part(
        f"Snapshot with memory, {TOUCHED_MIB} MiB touched, against stop and save",
        "The bare side is the same command line and guest, and a client that does `stop`, `transaction`, `migrate` to a file "
        "(bandwidth not limited), `cont`. The pause is taken twice, in the same way on both sides: between QEMU's events STOP and "
        "RESUME as a second monitor hears them, and as the longest silence of the console, which the guest writes to "
        "after every record, by the host's clock (1 ms steps). One of the guests runs at a time. Times in ms.",
    )
    options = f"{BUSY} sp.memory={TOUCHED_MIB} sp.dirty=20 sp.disks=1"
    vm = Vm(daemon, "memory", 1, MEMORY_GUEST_MIB, options)
    vm.start()
    twin = Twin(vm, os.path.join(daemon.root, "twinmem"))
    saved = os.path.join(twin.root, "memory")
    try:
        for side in (vm, twin):
            side.console.wait_text("LOAD ready")
        ear = monitor(os.path.join(vm.run_dir, "qmp2"))
        twin.qmp.call("migrate-set-parameters", {"max-bandwidth": 1 << 40})
        twin.qmp.call("migrate-set-capabilities", {"capabilities": [{"capability": "events", "state": True}]})
        only, events, quiet, whole = Only(vm, twin), ([], []), ([], []), ([], [])
        for pair in range(-1, pairs):
            only.turn(vm)
            start = ear.mark()
            (ident, ours), our_quiet = silence(vm, lambda: timed(lambda: vm.snapshot(True)))
            our_pause = (ear.event("RESUME", start) - ear.event("STOP", start)) * 1e3
            if vm.api.value(f"{vm.path}/snapshots/{ident}", "persist_memorystate") != "true":
                raise Trouble("the snapshot holds no memory")
            vm.delete_snapshot(ident)
            only.turn(twin)
            (their_pause, theirs), their_quiet = silence(twin, lambda: timed(lambda: stop_and_save(twin, saved)))
            size = os.path.getsize(saved)
            os.unlink(saved)
            twin.flatten()
            if size < TOUCHED_MIB << 20:
                raise Trouble(f"the saved memory has only {size} bytes")
            if pair >= 0:
                for into, a, b in ((events, our_pause, their_pause), (quiet, our_quiet, their_quiet), (whole, ours, theirs)):
                    into[0].append(a)
                    into[1].append(b)
        only.all()
        place.row("pause, STOP to RESUME", *events, 0.15)
        place.row("pause, the console's silence", *quiet, 0.15)
        place.row("the whole of it (ours: request to ok, file fsynced)", *whole)
        say(f"memory: {statistics.median(events[0]):.1f} ms against {statistics.median(events[1]):.1f} ms")
    finally:
        twin.quit()
    vm.stop()
    vm.remove()


def by_itself(place, daemon, times):
    """What has no target: start, memory, restore."""
    resident, ready = [], []
    daemon.stop()
    for _ in range(times):
        ready.append(daemon.start())
        resident.append(daemon.resident_mib())
        daemon.stop()
    daemon.start()
    vm, restores = Vm(daemon, "restore8", 8, 256, f"{IDLE} sp.disks=8"), []
    ident = vm.snapshot()
    for _ in range(times):
        body = "<action><restore_memory>false</restore_memory></action>"
        restores.append(timed(lambda: daemon.api("POST", f"{vm.path}/snapshots/{ident}/restore", body))[1])
    after = daemon.resident_mib()
    vm.remove()
    place.facts(
        "By itself",
        [
            ("start with 0 VMs: exec until the ready line", ready, "ms"),
            ("resident memory when ready", resident, "MiB"),
            ("resident memory after some work", [after], "MiB"),
            ("restore of 8 disks of a VM that is down, request to answer", restores, "ms"),
        ],
        "No targets; nothing to compare with.",
    )


HEAD = """# Benchmarks

Made by `./bench{arguments}`; this is the report of one run, as it was printed. It repeats by the same command.

* Each row: minimum / **median** / maximum of each side, the number n of measurements on each side, and the ratio of the two medians.
* The pairs are interleaved (ours, theirs, ours, theirs, ...), so the load of the machine hits both sides alike; a ratio means more than a time.
* Every snapshot is deleted (merged down) before the next, on both sides: all chains have one layer before and two after.
* Completion is an answer or an event on both sides, never found by polling, except for the end of a delete (asked every 5 ms on both sides) and where it is said.
* One warm-up pair before each series is not counted.
{machine}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True, help="the release build")
    parser.add_argument("--guest", required=True, help="directory of the demo guest")
    parser.add_argument("--python", required=True, help="a Python environment with ovirt-imageio")
    parser.add_argument("--quick", action="store_true", help="5 pairs instead of 30: shows that it works, no more")
    parser.add_argument("--pairs", type=int, help="another number of pairs")
    parser.add_argument("--only", choices=("libvirt", "agent", "memory", "plane", "backups", "catalogue", "volumes", "itself"), help="only this part")
    options = parser.parse_args()
    pairs = options.pairs or (5 if options.quick else 30)
    place, load = report.Report(), os.getloadavg()
    root = tempfile.mkdtemp(prefix="spb-")
    os.chmod(root, 0o755)
    wanted = lambda part: options.only in (None, part)
    daemon, server, versions = Daemon(options.binary, os.path.join(root, "s"), options.guest), None, "not used"
    good = False
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that it cleans up
    try:
        daemon.start()
        if wanted("libvirt") or wanted("backups"):
            server = Libvirt(os.path.join(root, "l"))
            versions = server.versions()[0]
        if wanted("libvirt"):
            deletes = against_libvirt(place, daemon, server, (1, 4, 8), pairs)
            place.part("Live delete, against libvirt's active commit and pivot of every disk", "No target. Times in ms.")
            for row in deletes:
                place.row(*row)
        if wanted("agent"):
            with_agent(place, daemon, (1, 4), pairs)
        if wanted("memory"):
            with_memory(place, daemon, pairs)
        if wanted("plane") or wanted("backups"):
            tls = Daemon(options.binary, os.path.join(root, "t"), options.guest, tls=True)
            try:
                tls.start()
                if wanted("plane"):
                    plane.measure(place, tls, options.python, pairs, say)
                if wanted("backups"):
                    boot = boot_files(daemon, server)
                    backups.measure(place, daemon, tls, server, boot, machine_type, IDLE, options.python, pairs, say)
            finally:
                tls.stop()
        if wanted("catalogue"):
            catalogue.measure(place, options.binary, root, options.guest, pairs, say)
        if wanted("volumes"):
            volumes.measure(place, options.binary, root, options.guest, pairs, say)
        if wanted("itself"):
            by_itself(place, daemon, pairs)
        arguments = "".join(f" {word}" for word in sys.argv[1:] if word not in (options.binary, options.guest, options.python, "--binary", "--guest", "--python"))
        print(place.text(HEAD.format(arguments=arguments, machine=report.machine(root, options.binary, versions, load))))
        good = True
    except (Trouble, OSError, libvirt.libvirtError, subprocess.SubprocessError, http.client.HTTPException) as error:
        say(f"{type(error).__name__}: {error}; kept: {root}")
    finally:
        clean_up(daemon, server, root, good)
    sys.exit(0 if good else 1)


def clean_up(daemon, server, root, good):
    """Ends what outlives its parent by design: every process whose command line names our directory."""
    for side in (daemon, server):
        if side and side.process and side.process.poll() is None:
            side.process.terminate()
            side.process.wait()
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                if name.isdigit() and int(name) != os.getpid() and f"{root}/".encode() in file.read():
                    os.kill(int(name), 9)
        except OSError:
            continue  # not a process, or gone
    if good:
        wait_until("the directory to be free", lambda: shutil.rmtree(root, ignore_errors=True) or not os.path.exists(root))


if __name__ == "__main__":
    main()
