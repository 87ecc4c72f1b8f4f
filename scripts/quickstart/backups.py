"""The story's second half: a full and an incremental backup of the writing guest, and a VM restored from each.

*Why the comparison cannot pass on wrong data.* A backup's moment is, on the server, an image per disk that the guest
does not write to any more: the one below the disk's active image, which stays as it is until the next backup
(docs/adr/0012). After each backup QEMU's own tool reads those images, with all that is below them, as whole disks into
raw copies. Beyond the images, that way shares nothing with the one that the bytes took: not the extents or changed
blocks that the server told, not the data plane, not the point's files, not the upload into the restored VM's disks.
At the end of each way stands all of a disk, and every byte of both is compared. So a block that a backup missed or took
from another moment, or that a restore put elsewhere, makes them differ. What could be wrong on both ways at once is the
moment itself: the guest's records say that the copies are one moment of all disks, that it lies within the time of the
backup, and that nothing that was durable before is lost. As the guest writes between the backups, the two moments
differ, and one cannot stand for the other.
"""

import json
import os
import shlex
import shutil
import subprocess
import time

from api import LONG, Trouble
from guest import JUDGE
from machine import DISK_BYTES, DISKS, FULL, INCREMENTAL, NAME, image_files, start, stop
from report import say, size, table, timed

WRITES = 300  # records between the two backups


class Program:
    """The `stillpoint` command, as a user calls it. Each call is shown, so that it can be repeated."""

    def __init__(self, program, url, user, password_file):
        self.program = program
        self.shown = {"STILLPOINT_URL": url, "STILLPOINT_USER": user, "STILLPOINT_PASSWORD": f"$(cat {shlex.quote(password_file)})"}
        with open(password_file, encoding="utf-8") as file:
            password = file.readline().rstrip("\n")
        self.environment = {**os.environ, **self.shown, "STILLPOINT_PASSWORD": password}

    def show_environment(self):
        say("      export " + " ".join(f'{name}="{value}"' for name, value in self.shown.items()))

    def __call__(self, *words):
        """Its standard output, and the seconds that it took."""
        command = [self.program, "backup", *words]
        say(f"      {shlex.join(command)}")
        began = time.monotonic()
        pipe = subprocess.PIPE
        running = subprocess.Popen(command, env=self.environment, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True)
        try:
            out, problems = running.communicate(timeout=LONG)
        except subprocess.TimeoutExpired:
            raise Trouble(f"stillpoint backup {words[0]} takes longer than {LONG} s") from None
        finally:
            if running.poll() is None:  # also when this script is interrupted: it closes what it has open on the server
                running.terminate()
                running.communicate(timeout=LONG)
        if running.returncode != 0:
            raise Trouble(f"stillpoint backup {words[0]}: exit code {running.returncode}: {problems.strip()}")
        return out, time.monotonic() - began


class Moment:
    """All disks at one moment, read without the daemon; raw files in a directory of their own."""

    def __init__(self, api, data_dir, disks, directory):
        os.makedirs(directory)
        self.copies = []
        for number, active in enumerate(image_files(api, data_dir, disks), 1):
            shown = json.loads(JUDGE.run("qemu-img", "info", "-U", "--output=json", active))
            frozen, form = shown.get("full-backing-filename"), shown.get("backing-filename-format")
            if not (frozen and form):
                raise Trouble(f"{active} has nothing below it, so no backup was taken of its disk")
            self.copies.append(os.path.join(directory, f"disk{number}.raw"))
            JUDGE.run("qemu-img", "convert", "-U", "-f", form, "-O", "raw", frozen, self.copies[-1])
            if os.path.getsize(self.copies[-1]) != DISK_BYTES:
                raise Trouble(f"{frozen} holds {os.path.getsize(self.copies[-1])} bytes, not {DISK_BYTES}")

    def compare(self, images):
        """Every byte of every disk; where one side has a hole, the other must read as zeroes."""
        for copy, image in zip(self.copies, images, strict=True):
            JUDGE.run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", copy, image)


def back_up(api, console, data_dir, program, disks, points, moment_dir, mode):
    """Makes a point while the guest writes; its manifest, the seconds it took, and its moment."""
    before = console.last()
    out, seconds = program("run", NAME, "--to", points, *(["--incremental"] if mode == "incremental" else []), "--json")
    after = console.wait_record(console.last() + 2)  # it writes on
    made = json.loads(out)
    point = made["point"]
    modes = [disk["mode"] for disk in point["disks"]]
    if made["warnings"] or modes != [mode] * DISKS or [disk["id"] for disk in point["disks"]] != disks:
        raise Trouble(f"point {point['number']} is not {mode} for all {DISKS} disks: {modes}, {made['warnings']}")
    moment = Moment(api, data_dir, disks, moment_dir)
    number = JUDGE.verify(moment.copies, at_least=before, at_most=after)
    timed(f"{mode} backup", seconds, f"between record {before} and {after}; the guest wrote on")
    say(f"      proof: at its moment all {DISKS} disks end at record {number}, every checksum right, none missing")
    return point, seconds, moment


def restore(api, data_dir, program, points, point, moment, name):
    """Makes a VM of the point, and compares its disks with the moment; the seconds and the bytes that were written."""
    out, seconds = program("restore", points, "--as", name, "--at", str(point["number"]), "--json")
    made = json.loads(out)
    vm, disks = made["vm"]["id"], [disk["id"] for disk in made["disks"]]
    shown, attached = api("GET", f"vms/{vm}"), api("GET", f"vms/{vm}/diskattachments")
    if (shown.findtext("name"), shown.findtext("status")) != (name, "down"):
        raise Trouble(f"VM {vm} is {shown.findtext('name')} and {shown.findtext('status')}, not {name} and down")
    if len(disks) != DISKS or {attachment.find("disk").get("id") for attachment in attached} != set(disks):
        raise Trouble(f"VM {vm} does not have the disks {disks}")
    # The comparison takes what one side has beyond the other's end for equal, if it is zero.
    sizes = [int(api("GET", f"disks/{disk}").findtext("provisioned_size")) for disk in disks]
    if sizes != [DISK_BYTES] * DISKS:
        raise Trouble(f"the disks of VM {vm} have {sizes} bytes, not {DISK_BYTES}")
    moment.compare(image_files(api, data_dir, disks))
    timed(f"restore into VM {name}", seconds, f"VM {vm}, down")
    say(f"      proof: all {DISKS} disks are the same as at the moment of point {point['number']}, byte for byte")
    return seconds, sum(disk["written_bytes"] for disk in made["disks"])


def indented(text):
    return "\n".join(f"      {line}" for line in text.rstrip().splitlines())


def tell(api, console, data_dir, program, vm, disks, backup_dir):
    """The VM is down before and after. Points of an earlier run are replaced."""
    points, moments = os.path.join(backup_dir, "points"), os.path.join(backup_dir, "moments")
    for left in (points, moments):
        if os.path.exists(left):
            shutil.rmtree(left)
    path = f"vms/{vm}"
    console.forget()
    began = time.monotonic()
    start(api, path)
    number = console.wait_record(1)
    timed("start, until the guest writes", time.monotonic() - began, f"record {number}")
    say("  The commands that follow can be repeated (restore: with another --as) after:")
    program.show_environment()
    try:
        taken = []
        for mode, name in (("full", FULL), ("incremental", INCREMENTAL)):
            console.wait_record(console.last() + WRITES)
            made = back_up(api, console, data_dir, program, disks, points, os.path.join(moments, mode), mode)
            taken.append((mode, name, *made))
        stop(api, path)
        say(indented(program("list", points)[0]))
        say(indented(program("verify", points)[0]))
        rows, written = [], []
        for mode, name, point, seconds, moment in taken:
            read = sum(disk["data_bytes"] for disk in point["disks"])
            rows.append((f"{mode} backup", f"{seconds:.1f} s", size(read)))
            seconds, sent = restore(api, data_dir, program, points, point, moment, name)
            written.append((f"restore of the {mode} point", f"{seconds:.1f} s", size(sent)))
    finally:
        shutil.rmtree(moments, ignore_errors=True)
    say("")
    table((f"{DISKS} disks, {size(DISKS * DISK_BYTES)} in all", "time", "bytes moved"), rows + written)
    say("")
    say(f"The VMs {FULL} and {INCREMENTAL} are down, as they were restored; the points are in {points}.")
