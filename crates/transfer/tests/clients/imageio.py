"""Drives the unmodified ovirt-imageio client against image tickets.

Usage: imageio.py DIRECTORY DOWNLOAD_URL INCREMENTAL_URL UPLOAD_URL
The directory holds source.qcow2 (what UPLOAD_URL is to hold in the end) and base.qcow2 (what the disk was when the
bitmap began). Writes full.qcow2, incremental.qcow2; prints one line for each check.
"""

import io
import json
import sys
import urllib.request

from ovirt_imageio import client

directory, download_url, incremental_url, upload_url = sys.argv[1:]


def path(name):
    return "{}/{}".format(directory, name)


def check(name, holds):
    if not holds:
        sys.exit("FAILED: " + name)
    print("ok " + name)


def get_json(url):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=60) as answer:
        return json.load(answer)


class Progress:
    size = None
    done = 0

    def update(self, n):
        self.done += n


with client.ImageioClient(download_url, None) as c:
    size = c.size()
    check("options: several readers and writers", (c.max_readers, c.max_writers) == (8, 8))
    extents = list(c.extents("zero"))
    check("extents cover the disk", sum(e.length for e in extents) == size)
    try:
        list(c.extents("dirty"))
        check("dirty extents are refused without a bitmap", False)
    except Exception as e:
        check("dirty extents are refused without a bitmap", "does not support dirty" in str(e))
    buf = bytearray(1000)
    c.read(size - 1000, buf)
    out = io.BytesIO()
    c.write_to(out, size - 1000, 1000)
    check("two ways of reading agree", bytes(buf) == out.getvalue())
    try:
        c.write(0, b"x")
        check("a read ticket does not write", False)
    except Exception as e:
        check("a read ticket does not write", "not allowed" in str(e))

progress = Progress()
client.download(download_url, path("full.qcow2"), None, progress=progress)
check("download is counted to the end", progress.done == progress.size == size)

client.download(
    incremental_url, path("incremental.qcow2"), None, incremental=True,
    backing_file=path("base.qcow2"), backing_format="qcow2")
print("ok incremental download")

with client.ImageioClient(incremental_url, None) as c:
    ours = [(e.start, e.length, e.dirty) for e in c.extents("dirty")]
    theirs = [(e.start, e.length, e.dirty) for e in client.extents(path("disk.qcow2"), bitmap="cp1")]

    def dirty(extents):
        ranges = []
        for start, length, is_dirty in extents:
            if not is_dirty:
                continue
            if ranges and ranges[-1][1] == start:
                ranges[-1][1] += length
            else:
                ranges.append([start, start + length])
        return ranges

    check("dirty extents are as imageio reads them", dirty(ours) == dirty(theirs) != [])

client.upload(path("source.qcow2"), upload_url, None)
print("ok upload")

algorithms = get_json(download_url + "/checksum/algorithms")["algorithms"]
check("the default algorithm is there", "blake2b" in algorithms)
for algorithm in algorithms:
    sizes = (4 * 1024**2, 1024**2 + 4096) if algorithm == "blake2b" else (4 * 1024**2,)
    for block_size in sizes:
        ours = get_json("{}/checksum?algorithm={}&block_size={}".format(download_url, algorithm, block_size))
        theirs = client.checksum(path("disk.qcow2"), block_size=block_size, algorithm=algorithm)
        check("checksum {} {}".format(algorithm, block_size), ours == theirs)
ours = get_json(download_url + "/checksum")
check("checksum by default", ours == client.checksum(path("disk.qcow2")))
