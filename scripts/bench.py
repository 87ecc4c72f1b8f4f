#!/usr/bin/python3
"""Measures live snapshots of a guest that writes without a break, through the public API. Called by ./bench.

For each kind: the time until the snapshot is ok, the longest silence of the guest (its pause, by our clock), the
longest stall of its writes (by its own clock), and the time to delete (merge) it while the guest writes on.
BENCH_ROUNDS (default 10) snapshots of each kind; minimum / median / maximum in ms.
"""

import os
import time

import quickstart
from quickstart import say


def spread(values):
    ordered = sorted(values)
    return f"{ordered[0]:8.0f} / {ordered[len(ordered) // 2]:.0f} / {ordered[-1]:.0f} ms"


def measure(api, data_dir):
    rounds = int(os.environ.get("BENCH_ROUNDS", "10"))
    quickstart.remove_leftovers(api)
    vm, disks = quickstart.make_vm(api, data_dir)
    path = f"vms/{vm}"
    console = quickstart.Console(os.path.join(data_dir, "run", "vm", vm, "console.log"))
    began = time.monotonic()
    quickstart.start(api, path)
    console.wait_record(200)
    say(f"boot until record 200: {(time.monotonic() - began) * 1e3:.0f} ms; {len(disks)} disks, {rounds} rounds of each kind")
    say(f"silence without a snapshot {spread([quickstart.usual_silence(console) for _ in range(5)])}")
    for kind, memory in (("without memory", "false"), ("with memory", "true")):
        taken = []
        for _ in range(rounds):
            taken.append(quickstart.snapshot(api, console, vm, kind, memory))
            console.wait_record(console.last() + 50)
        say(f"snapshot {kind}")
        say(f"  until ok      {spread([one[3] * 1e3 for one in taken])}")
        say(f"  pause         {spread([one[4] for one in taken])}")
        say(f"  write stall   {spread([one[5] for one in taken])}")
        merges = []
        for one in taken:
            began = time.monotonic()
            api("DELETE", f"{path}/snapshots/{one[0]}")
            api.wait_gone(f"{path}/snapshots/{one[0]}")
            merges.append((time.monotonic() - began) * 1e3)
        say(f"  live delete   {spread(merges)}")
    quickstart.stop(api, path)
    durable = console.last()
    end = quickstart.JUDGE.verify(quickstart.image_files(api, data_dir, disks), at_least=durable)
    say(f"after all of it: record {end} on all disks, every checksum right, none missing")
    quickstart.remove_leftovers(api)


if __name__ == "__main__":
    quickstart.run(quickstart.arguments(__doc__).parse_args(), measure)
