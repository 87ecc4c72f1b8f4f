#!/usr/bin/python3
"""The story that ./quickstart tells, through the public oVirt REST API of a running daemon and its command line.

It makes a VM with three disks, lets its guest write numbered records on all of them without a break, takes a
snapshot without and one with memory, goes back to the latter, and proves with the records on the disks and
the counter in the guest's memory that disks and memory are back at one and the same moment. Then it backs the
guest up while it writes, in full and what changed since, restores both into new VMs, and compares every byte.

Everything it makes is called "quickstart..."; what an earlier run left under those names is removed first.
Only the standard library is used. Two things are looked up in the data directory, as no API shows them:
the guest's serial console, and the image files, whose names contain their image id.
"""

import argparse
import os
import sys
import time
import xml.etree.ElementTree as ElementTree

import backups
from api import Api, Trouble
from guest import JUDGE, Console
from machine import NAME, expect_alive, make_vm, remove_leftovers, start, stop
from report import say, timed
from snapshots import go_back, tell_snapshot


def tell(api, options):
    say("Stillpoint quickstart: one guest, three disks, two snapshots, one way back; two backups, two new VMs")
    data_dir = options.data_dir
    began = time.monotonic()
    remove_leftovers(api)
    vm, disks = make_vm(api, data_dir)
    timed("make the VM and its disks", time.monotonic() - began, f"VM {vm}")
    console = Console(os.path.join(data_dir, "run", "vm", vm, "console.log"), lambda: expect_alive(api, f"vms/{vm}"))
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
    program = backups.Program(options.program, options.url, options.user, options.password_file)
    backups.tell(api, console, data_dir, program, vm, disks, options.backup_dir)
    say(f"The VM {NAME} is down and keeps both snapshots; start it and it boots and writes on.")


def stop_vms(api, _options):
    for vm in api("GET", "vms"):
        stop(api, f"vms/{vm.get('id')}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--user", required=True)
    parser.add_argument("--password-file", required=True)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--backup-dir", required=True, help="for the points")
    parser.add_argument("--program", help="the stillpoint command")
    parser.add_argument("--stop-vms", action="store_true", help="only stop every VM that runs")
    options = parser.parse_args()
    if not options.stop_vms and not options.program:
        parser.error("--program is missing")
    with open(options.password_file, encoding="utf-8") as file:
        password = file.readline().rstrip("\n")
    try:
        (stop_vms if options.stop_vms else tell)(Api(options.url, options.user, password), options)
    except (Trouble, JUDGE.NotOneMoment, OSError, ElementTree.ParseError) as error:
        sys.exit(f"quickstart: {error}")
    except KeyboardInterrupt:
        sys.exit("quickstart: interrupted")


if __name__ == "__main__":
    main()
