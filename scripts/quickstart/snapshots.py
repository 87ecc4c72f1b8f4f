"""The story's first half: snapshots of the guest while it writes, and the way back to one."""

import time

from api import Trouble
from guest import JUDGE
from machine import DISKS, act, image_files, start, stop
from report import say, timed


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
