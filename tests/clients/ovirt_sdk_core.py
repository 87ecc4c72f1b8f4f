"""The unmodified oVirt SDK for Python, 4.6.3, against a running daemon with a real guest.

Environment: as in common.py; also STILLPOINT_CMDLINE (kernel options of the demo guest, whose vmlinuz and
initramfs.img lie in the daemon's boot folder).

Prints "ok NAME" per check and the count at the end; the first thing that does not hold ends it with a trace.
"""

import contextlib
import os
import ssl
import urllib.parse
import urllib.request
import uuid

import ovirtsdk4 as sdk
from common import CA, LONG, URL, connect, eventually, wait_gone, wait_records
from ovirtsdk4 import types
from ovirtsdk4.http import Request

BLANK = "00000000-0000-0000-0000-000000000000"
GIB = 1 << 30
PASSED = []


@contextlib.contextmanager
def check(name):
    yield
    PASSED.append(name)
    print(f"ok {name}", flush=True)


@contextlib.contextmanager
def refused(*codes, kind=sdk.Error):
    """The block must fail with one of these HTTP codes and say why."""
    try:
        yield
    except sdk.Error as error:
        assert error.code in codes, f"expected {codes}, got {error.code}: {error}"
        assert isinstance(error, kind), f"expected {kind.__name__}, got {type(error).__name__}: {error}"
        assert error.fault and error.fault.reason and error.fault.detail, f"no reason and detail in {error}"
        return
    raise AssertionError(f"was accepted, expected {codes}")


def end_token(token):
    """Logs a token out behind the back of the connection that uses it."""
    trust = ssl.create_default_context(cafile=CA)
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)
    )
    form = urllib.parse.urlencode({"token": token, "scope": "ovirt-app-api"}).encode()
    url = f"{URL}/ovirt-engine/services/sso-logout"
    with opener.open(url, form, timeout=LONG) as answer:
        assert answer.status == 200


def check_connection(connection):
    with check("test() of the connection"):
        assert connection.test(raise_exception=True)
    with check("the root has the version that clients read"):
        api = connection.system_service().get()
        version = api.product_info.version
        assert version.major == 4 and version.minor >= 4, f"{version.major}.{version.minor}"
        assert api.special_objects.blank_template.id == BLANK
    with check("a wrong password is an AuthError"):
        other = connect(password="wrong")
        try:
            other.test(raise_exception=True)
        except sdk.AuthError:
            pass
        else:
            raise AssertionError("was let in")
    with check("a token that was ended elsewhere is renewed, and the request sent again"):
        ended = connection.authenticate()
        end_token(ended)
        assert connection.system_service().clusters_service().list()
        assert connection.authenticate() != ended


def check_inventory(system):
    """Returns the cluster and the storage domain to use."""
    lists = {
        "data centers": system.data_centers_service(),
        "clusters": system.clusters_service(),
        "hosts": system.hosts_service(),
        "storage domains": system.storage_domains_service(),
        "templates": system.templates_service(),
    }
    found = {}
    for name, service in lists.items():
        with check(f"list of {name}"):
            found[name] = service.list()
            assert found[name], "it is empty"
            for item in found[name]:
                assert item.id and item.name and item.href, f"id {item.id}, name {item.name}, href {item.href}"
    with check("the Blank template"):
        assert system.templates_service().template_service(BLANK).get().name == "Blank"
    with check("search by name"):
        name = found["clusters"][0].name
        assert [c.name for c in system.clusters_service().list(search=f"name={name}")] == [name]
        assert system.clusters_service().list(search="name=there-is-no-such-cluster") == []
    domain = next(d for d in found["storage domains"] if d.type == types.StorageDomainType.DATA)
    with check("the data domain tells its space"):
        assert domain.available > 0 and domain.used is not None, f"{domain.available}, {domain.used}"
    return found["clusters"][0], domain


def add_vm(system, cluster):
    vms = system.vms_service()
    with check("add of a VM with kernel, initrd and cmdline"):
        vm = vms.add(
            types.Vm(
                name="sdk-core",
                cluster=types.Cluster(name=cluster.name),
                template=types.Template(name="Blank"),
                memory=GIB // 4,
                os=types.OperatingSystem(
                    kernel="vmlinuz", initrd="initramfs.img", cmdline=os.environ["STILLPOINT_CMDLINE"]
                ),
            )
        )
        service = vms.vm_service(vm.id)
        eventually("the VM to be down", lambda: service.get().status == types.VmStatus.DOWN)
        seen = service.get()
        assert (seen.name, seen.memory) == ("sdk-core", GIB // 4)
        assert (seen.os.kernel, seen.os.cmdline) == ("vmlinuz", os.environ["STILLPOINT_CMDLINE"])
    with check("a second VM of that name is refused"), refused(409):
        vms.add(types.Vm(name="sdk-core", cluster=types.Cluster(id=cluster.id), template=types.Template(id=BLANK)))
    with check("search of the VM"):
        assert [v.id for v in vms.list(search="name=sdk-core")] == [vm.id]
    with check("a new VM has exactly the active snapshot"):
        snapshots = service.snapshots_service().list()
        assert [s.snapshot_type for s in snapshots] == [types.SnapshotType.ACTIVE]
    return vm, service


def add_disks(system, vm_service, domain):
    disks, attachments = system.disks_service(), vm_service.disk_attachments_service()
    with check("add of a disk"):
        disk = disks.add(
            types.Disk(
                name="sdk-core-0",
                format=types.DiskFormat.COW,
                provisioned_size=GIB,
                storage_domains=[types.StorageDomain(id=domain.id)],
            )
        )
        service = disks.disk_service(disk.id)
        eventually("the disk to be ok", lambda: service.get().status == types.DiskStatus.OK)
        seen = service.get()
        assert (seen.provisioned_size, seen.format, seen.alias) == (GIB, types.DiskFormat.COW, "sdk-core-0")
        assert seen.image_id and [d.id for d in seen.storage_domains] == [domain.id]
    with check("attach of an existing disk"):
        added = attachments.add(
            types.DiskAttachment(
                disk=types.Disk(id=disk.id), interface=types.DiskInterface.VIRTIO, bootable=True, active=True
            )
        )
        assert added.id == disk.id, "an attachment's id is its disk's"
    with check("an attachment that makes its disk"):
        added = attachments.add(
            types.DiskAttachment(
                disk=types.Disk(
                    name="sdk-core-1",
                    format=types.DiskFormat.COW,
                    provisioned_size=GIB,
                    storage_domains=[types.StorageDomain(name=domain.name)],
                ),
                interface=types.DiskInterface.VIRTIO,
                active=True,
            )
        )
        second = disks.disk_service(added.disk.id)
        eventually("the second disk to be ok", lambda: second.get().status == types.DiskStatus.OK)
        assert {a.id for a in attachments.list()} == {disk.id, added.disk.id}
    with check("follow_link of an attachment's disk"):
        connection = vm_service._connection
        assert connection.follow_link(attachments.list()[0].disk).provisioned_size == GIB
    return [disk.id, added.disk.id]


def start(vm_service):
    vm_service.start()
    eventually("the VM to be up", lambda: vm_service.get().status == types.VmStatus.UP)


def stop(vm_service):
    vm_service.stop()
    eventually("the VM to be down", lambda: vm_service.get().status == types.VmStatus.DOWN)


def take(vm_service, description, memory):
    snapshots = vm_service.snapshots_service()
    snapshot = snapshots.add(
        types.Snapshot(description=description, persist_memorystate=memory), headers={"Correlation-Id": f"sdk-{description}"}
    )
    assert snapshot.id and snapshot.snapshot_type == types.SnapshotType.REGULAR
    service = snapshots.snapshot_service(snapshot.id)
    service.get()  # must be visible at once, even while it is locked
    return snapshot.id, service


def wait_ok(service):
    eventually("the snapshot to be ok", lambda: service.get().snapshot_status == types.SnapshotStatus.OK)


def check_snapshots(system, vm, vm_service, disk_ids):
    """Returns the services of the snapshots without and with memory."""
    snapshots = vm_service.snapshots_service()
    with check("snapshot without memory"):
        plain_id, plain = take(vm_service, "plain", False)
        wait_ok(plain)
        assert plain.get().persist_memorystate is False
    with check("snapshot with memory, and a second one meanwhile is refused with 409"):
        memory_id, memory = take(vm_service, "memory", True)
        with refused(409):
            take(vm_service, "meanwhile", False)
        wait_ok(memory)
        assert memory.get().persist_memorystate is True
    with check("list of snapshots"):
        listed = snapshots.list()
        regular = [s.id for s in listed if s.snapshot_type == types.SnapshotType.REGULAR]
        assert regular == [plain_id, memory_id], "oldest first"
        assert sum(s.snapshot_type == types.SnapshotType.ACTIVE for s in listed) == 1
        assert all(s.vm.name == vm.name and s.date for s in listed if s.id in regular)
    with check("list with follow=disks"):
        followed = next(s for s in snapshots.list(follow="disks") if s.id == plain_id)
        assert {d.id for d in followed.disks} == set(disk_ids)
    with check("list with all_content carries the OVF, without it does not"):
        full = next(s for s in snapshots.list(all_content=True) if s.id == plain_id)
        configuration = full.initialization.configuration
        assert configuration.type == types.ConfigurationType.OVF and "Envelope" in configuration.data
        bare = next(s for s in snapshots.list() if s.id == plain_id)
        assert not (bare.initialization and bare.initialization.configuration)
    with check("disks of a snapshot"):
        disks = plain.disks_service().list()
        assert {d.id for d in disks} == set(disk_ids)
        assert all(d.image_id and d.snapshot.id == plain_id for d in disks)
    with check("disk snapshots"):
        owner = system.disks_service().disk_service(disk_ids[0]).disk_snapshots_service()
        volumes = owner.list()
        assert {v.snapshot.id for v in volumes} == {plain_id, memory_id}
        assert all(v.disk.id == disk_ids[0] for v in volumes)
        assert len(owner.list(include_active=True)) == len(volumes) + 1
    with check("a snapshot without description is refused"), refused(400):
        snapshots.add(types.Snapshot(persist_memorystate=False))
    with check("restore of a running VM is refused"), refused(409):
        plain.restore()
    with check("delete of the active snapshot is refused"), refused(409):
        active = next(s for s in listed if s.snapshot_type == types.SnapshotType.ACTIVE)
        snapshots.snapshot_service(active.id).remove()
    return plain, memory


def check_unknown(system, vm_service):
    nobody = str(uuid.uuid4())
    services = {
        "VM": system.vms_service().vm_service(nobody),
        "disk": system.disks_service().disk_service(nobody),
        "snapshot": vm_service.snapshots_service().snapshot_service(nobody),
        "job": system.jobs_service().job_service(nobody),
        "storage domain": system.storage_domains_service().storage_domain_service(nobody),
    }
    for name, service in services.items():
        with check(f"unknown {name} is a NotFoundError"), refused(404, kind=sdk.NotFoundError):
            service.get()
    with check("an id that is none is a NotFoundError"), refused(404, kind=sdk.NotFoundError):
        system.vms_service().vm_service("not-an-id").get()
    with check("delete of an unknown snapshot is a NotFoundError"), refused(404, kind=sdk.NotFoundError):
        services["snapshot"].remove()


def check_put(connection, vm, snapshot_id):
    with check("PUT of a snapshot is refused"):
        request = Request(
            method="PUT",
            path=f"/vms/{vm.id}/snapshots/{snapshot_id}",
            body="<snapshot><description>changed</description></snapshot>",
        )
        answer = connection.wait(connection.send(request))
        assert answer.code == 405, f"{answer.code}: {answer.body}"


def check_books(system, vm):
    with check("job of a correlation id"):
        jobs = system.jobs_service().list(search="correlation_id=sdk-plain")
        assert len(jobs) == 1, f"{len(jobs)} jobs"
        job = system.jobs_service().job_service(jobs[0].id)
        eventually("the job to be finished", lambda: job.get().status == types.JobStatus.FINISHED)
        assert job.get().end_time and job.steps_service().list()
    with check("events of a correlation id, and after an index"):
        events = system.events_service().list(search="correlation_id=sdk-plain")
        assert events and all(e.correlation_id == "sdk-plain" for e in events)
        assert any(e.vm and e.vm.id == vm.id for e in events)
        newest = system.events_service().list(max=1)[0]
        assert system.events_service().list(from_=int(newest.id)) == []


def check_restore_and_delete(vm_service, plain, memory):
    with check("restore with memory, and the start resumes it"):
        stop(vm_service)
        memory.restore(restore_memory=True)
        wait_ok(memory)
        start(vm_service)
    with check("delete of a snapshot while the VM runs"):
        memory.remove()
        wait_gone(memory)
        assert vm_service.get().status == types.VmStatus.UP
    with check("restore without memory"):
        stop(vm_service)
        plain.restore(restore_memory=False)
        wait_ok(plain)
        start(vm_service)
        stop(vm_service)
    with check("delete of a snapshot while the VM is down, and once more"):
        plain.remove()
        wait_gone(plain)
        with refused(404, kind=sdk.NotFoundError):
            plain.remove()


def remove_all(system, vm_service, disk_ids):
    disks = [system.disks_service().disk_service(i) for i in disk_ids]
    with check("detach keeps the disk"):
        vm_service.disk_attachments_service().attachment_service(disk_ids[1]).remove()
        assert disks[1].get().id == disk_ids[1]
        disks[1].remove()
        wait_gone(disks[1])
    with check("remove of the VM takes its disks along"):
        vm_service.remove()
        wait_gone(vm_service)
        wait_gone(disks[0])


def main():
    connection = connect()
    system = connection.system_service()
    check_connection(connection)
    cluster, domain = check_inventory(system)
    vm, vm_service = add_vm(system, cluster)
    disk_ids = add_disks(system, vm_service, domain)
    with check("start until the VM is up"):
        start(vm_service)
        wait_records(vm.id)
    plain, memory = check_snapshots(system, vm, vm_service, disk_ids)
    check_unknown(system, vm_service)
    check_put(connection, vm, plain.get().id)
    check_books(system, vm)
    check_restore_and_delete(vm_service, plain, memory)
    remove_all(system, vm_service, disk_ids)
    with check("close"):
        connection.close()
    print(f"{len(PASSED)} checks passed")


if __name__ == "__main__":
    main()
