"""What the demo guest says: on its console while it runs, and with its records on disks at rest."""

import importlib.machinery
import importlib.util
import os
import re
import sys
import threading
import time

from api import LONG, Trouble


def load_judge():
    """scripts/verify-records as a module; it has no .py at its end, as it is a command."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "verify-records")
    loader = importlib.machinery.SourceFileLoader("verify_records", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("verify_records", loader))
    sys.dont_write_bytecode = True
    loader.exec_module(module)
    return module


JUDGE = load_judge()


class Console:
    """The guest's serial console: a file that a start of the VM may truncate or append to.

    `alive` raises if the guest cannot write any more.
    """

    def __init__(self, path, alive=lambda: None):
        self.path, self.skipped, self.alive = path, 0, alive
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
        end, look = time.monotonic() + LONG, time.monotonic()
        while (last := self.last()) < number:
            if time.monotonic() > look:
                self.alive()  # says why, if it is not
                look += 2
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
