"""Numbers to Markdown: every ratio stands beside what it was measured against."""

import os
import platform
import statistics
import subprocess
import time


def spread(values):
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{low:.1f} / **{middle:.1f}** / {high:.1f}"


class Report:
    def __init__(self):
        self.targets, self.parts, self.missed = [], [], []

    def part(self, title, *text):
        self.parts.append(f"\n## {title}\n\n" + "\n\n".join(text) + "\n")
        self.parts.append("\n| what | ours | against | n | ratio of medians | target | |\n|---|---|---|---|---|---|---|\n")

    def row(self, what, ours, theirs, limit=None, most_ms=None):
        """`ours` and `theirs` in ms; what the project promises: `limit` is the highest ratio, `most_ms` our highest median."""
        ratio = statistics.median(ours) / statistics.median(theirs)
        found, most, unit = (ratio, limit, "") if most_ms is None else (statistics.median(ours), most_ms, " ms")
        verdict = "" if most is None else ("met" if found <= most else "**MISSED**")
        if most is not None and found > most:
            self.missed.append(f"{what}: {found:.2f} instead of {most}{unit}")
        target = "" if most is None else f"≤ {most}{unit}"
        self.parts.append(
            f"| {what} | {spread(ours)} | {spread(theirs)} | {len(ours)}, {len(theirs)} | **{ratio:.2f}** | {target} | {verdict} |\n"
        )

    def rate(self, what, ours, theirs, least=None):
        """`ours` and `theirs` in requests a second; `least`: the lowest ratio that the project promises."""
        ratio = statistics.median(ours) / statistics.median(theirs)
        verdict = "" if least is None else ("met" if ratio >= least else "**MISSED**")
        if least is not None and ratio < least:
            self.missed.append(f"{what}: {ratio:.2f} times the rate instead of {least}")
        target = "" if least is None else f"≥ {least}"
        self.parts.append(
            f"| {what} | {spread(ours)} /s | {spread(theirs)} /s | {len(ours)}, {len(theirs)} | **{ratio:.2f}** | {target} | {verdict} |\n"
        )

    def facts(self, title, rows, *text):
        """Numbers that are compared with nothing; `rows`: what, values, unit."""
        self.parts.append(f"\n## {title}\n\n" + "".join(f"{line}\n\n" for line in text))
        self.parts.append("| what | min / **median** / max | n |\n|---|---|---|\n")
        for what, values, unit in rows:
            self.parts.append(f"| {what} | {spread(values)} {unit} | {len(values)} |\n")

    def text(self, head):
        missed = "".join(f"* {line}\n" for line in self.missed)
        verdict = f"Targets missed in this run:\n\n{missed}" if missed else "Every target was met in this run.\n"
        return f"{head}\n{verdict}{''.join(self.parts)}"


def first_line(*words):
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} CPUs"


def machine(root, binary, libvirt_version, load):
    with open("/proc/meminfo", encoding="ascii") as file:
        memory = int(file.readline().split()[1]) // (1 << 20)
    file_system = first_line("stat", "-f", "-c", "%T", root)
    now = "/".join(f"{value:.1f}" for value in os.getloadavg())
    before = "/".join(f"{value:.1f}" for value in load)
    return "\n".join(
        [
            f"* Date: {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC",
            f"* Build: {os.path.basename(os.path.dirname(binary))}, sources at {first_line('git', 'describe', '--always', '--dirty')}",
            f"* Machine: {processor()}, {memory} GiB memory, {platform.system()} {platform.release()}",
            f"* Storage of all images on both sides: {file_system}, page cache on, but for our uploads into qcow2 images and the files of our backup client, which go past it",
            f"* {first_line('qemu-system-x86_64', '--version')}; libvirt {libvirt_version}; guests under TCG, 1 vCPU",
            f"* Load average (1/5/15 min) at the start {before}, at the end {now}",
        ]
    )
