"""libvirt with a configuration, sockets and a state of its own, without systemd: the other side of the comparison.

It runs as an unprivileged session daemon (as `nobody` when we are root, as libvirt has no private state for root): so
it sets up no cgroups and changes no owners, which is to its advantage.
"""

import os
import pwd
import subprocess
import time

import libvirt

from rig import LONG, Console, Trouble, wait_until

CONFIG = 'security_driver = "none"\nstdio_handler = "file"\nseccomp_sandbox = 0\n'


def quiet(_context, _error):
    """Errors come as exceptions; libvirt would print them, too."""


class Libvirt:
    def __init__(self, root):
        self.root = root
        os.makedirs(os.path.join(root, "config", "libvirt"))
        for name in ("run", "cache", "data", "disks"):
            os.makedirs(os.path.join(root, name))
        with open(os.path.join(root, "config", "libvirt", "qemu.conf"), "w", encoding="ascii") as file:
            file.write(CONFIG)
        self.owner = None
        if os.geteuid() == 0:
            self.owner = pwd.getpwnam("nobody")
            for place, _, files in os.walk(root):
                for path in [place] + [os.path.join(place, name) for name in files]:
                    os.chown(path, self.owner.pw_uid, self.owner.pw_gid)
        names = {"CONFIG_HOME": "config", "RUNTIME_DIR": "run", "CACHE_HOME": "cache", "DATA_HOME": "data"}
        environment = {**os.environ, "HOME": root, **{f"XDG_{k}": os.path.join(root, v) for k, v in names.items()}}
        user = {"user": self.owner.pw_uid, "group": self.owner.pw_gid, "extra_groups": []} if self.owner else {}
        self.log = open(os.path.join(root, "libvirtd.log"), "wb")
        self.process = subprocess.Popen(
            ["/usr/sbin/libvirtd", "-p", os.path.join(root, "pid")],
            env=environment, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, **user,
        )
        path = os.path.join(root, "run", "libvirt", "libvirt-sock")
        wait_until("libvirtd", lambda: os.path.exists(path))
        self.uri = f"qemu+unix:///session?socket={path}"
        libvirt.registerErrorHandler(quiet, None)
        self.link = wait_until("a connection to libvirtd", self.connect, 0.1)

    def connect(self):
        try:
            return libvirt.open(self.uri)
        except libvirt.libvirtError:
            if self.process.poll() is not None:
                raise Trouble(f"libvirtd ended; see {self.root}/libvirtd.log") from None
            return None

    def versions(self):
        def text(number):
            return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"

        return text(self.link.getLibVersion()), text(self.link.getVersion())

    def stop(self):
        self.link.close()
        self.process.terminate()
        self.process.wait(LONG)
        self.log.close()


class Domain:
    """A guest under libvirt of the same shape as ours: machine, memory, disks, no agent."""

    def __init__(self, server, name, disks, memory_mib, boot, cmdline, machine, disk_bytes=1 << 30):
        self.server, self.name, self.count, self.points = server, name, 0, 0
        self.console = Console(os.path.join(server.root, f"{name}.log"))
        self.bases = []
        for index in range(disks):
            path = os.path.join(server.root, "disks", f"{name}-{index}.qcow2")
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, str(disk_bytes)], check=True)
            if server.owner:
                os.chown(path, server.owner.pw_uid, server.owner.pw_gid)
            self.bases.append(path)
        devices = "".join(
            f"<disk type='file' device='disk'><driver name='qemu' type='qcow2' discard='unmap'/><source file='{path}'/>"
            f"<target dev='vd{chr(97 + index)}' bus='virtio'/></disk>"
            for index, path in enumerate(self.bases)
        )
        self.domain = server.link.createXML(
            f"<domain type='qemu'><name>{name}</name><memory unit='MiB'>{memory_mib}</memory><vcpu>1</vcpu>"
            f"<os><type arch='x86_64' machine='{machine}'>hvm</type><kernel>{boot}/vmlinuz</kernel>"
            f"<initrd>{boot}/initramfs.img</initrd><cmdline>{cmdline}</cmdline></os><features><acpi/></features><devices>"
            f"<emulator>/usr/bin/qemu-system-x86_64</emulator>{devices}<controller type='usb' model='none'/>"
            f"<serial type='file'><source path='{self.console.path}'/></serial><memballoon model='none'/></devices></domain>",
            0,
        )

    def snapshot(self):
        """What `virsh snapshot-create-as --disk-only --atomic` asks libvirtd for, over an open connection."""
        self.count += 1
        text = f"<domainsnapshot><name>s{self.count}</name></domainsnapshot>"
        flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC
        self.domain.snapshotCreateXML(text, flags)

    def virsh_words(self):
        """The command itself."""
        self.count += 1
        options = ["--disk-only", "--atomic"]
        return ["virsh", "-q", "-c", self.server.uri, "snapshot-create-as", self.name, f"s{self.count}", *options]

    def delete_snapshot(self):
        """Active commit of every disk, pivot, and the record removed."""
        commit = libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE | libvirt.VIR_DOMAIN_BLOCK_COMMIT_SHALLOW
        names = [f"vd{chr(97 + index)}" for index in range(len(self.bases))]
        tops = [path.rsplit(".", 1)[0] + f".s{self.count}" for path in self.bases]
        for name, base in zip(names, self.bases):
            self.domain.blockCommit(name, base, None, 0, commit)
        end = time.monotonic() + LONG
        for name in names:
            while True:
                try:
                    self.domain.blockJobAbort(name, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
                    break
                except libvirt.libvirtError:  # not ready yet
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.005)
        self.domain.snapshotLookupByName(f"s{self.count}").delete(libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)
        for path in tops:
            os.unlink(path)

    def begin_backup(self):
        """What `virsh backup-begin` asks for: all disks over NBD, incremental from the second on, and a new checkpoint."""
        self.points += 1
        since = f"<incremental>p{self.points - 1}</incremental>" if self.points > 1 else ""
        place = os.path.join(self.server.root, "run", f"{self.name}.nbd")
        self.domain.backupBegin(
            f"<domainbackup mode='pull'>{since}<server transport='unix' socket='{place}'/></domainbackup>",
            f"<domaincheckpoint><name>p{self.points}</name></domaincheckpoint>",
        )

    def end_backup(self):
        """What `virsh domjobabort` asks for, and until the job is gone, which no answer tells: asked every 5 ms."""
        self.domain.abortJob()
        wait_until("the backup to be gone", lambda: not self.has_backup(), 0.005)

    def has_backup(self):
        try:
            return bool(self.domain.backupGetXMLDesc())
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN_BACKUP:
                raise
            return False

    def forget_checkpoint(self):
        """Removes the checkpoint before the newest: there is always one, as on the other side."""
        if self.points > 1:
            self.domain.checkpointLookupByName(f"p{self.points - 1}").delete()

    def destroy(self):
        self.domain.destroy()
