"""The unmodified clients of OpenStack's volume API: python-cinderclient, openstacksdk and the `openstack` command.

Environment: STILLPOINT_URL, STILLPOINT_USER, STILLPOINT_PASSWORD, STILLPOINT_CA (for https). A warning fails a check.
"""

import json
import os
import pathlib
import subprocess
import sys
import time
import warnings

os.environ["no_proxy"] = "*"  # the daemon is on loopback
for name in [name for name in os.environ if name.startswith("OS_")]:
    del os.environ[name]
# Beside us there may be clouds.yaml: not in this directory.
os.chdir("/")

import cinderclient.client  # noqa: E402
import cinderclient.exceptions  # noqa: E402
import openstack  # noqa: E402
from keystoneauth1 import session  # noqa: E402
from keystoneauth1.identity import v3  # noqa: E402

URL = os.environ["STILLPOINT_URL"].rstrip("/")
CA = os.environ.get("STILLPOINT_CA")
LONG = 60  # seconds; every wait has an end
LOGIN = {
    "auth_url": f"{URL}/identity/v3",
    "username": os.environ["STILLPOINT_USER"],
    "password": os.environ["STILLPOINT_PASSWORD"],
    "project_name": "demo",
    "user_domain_name": "Default",
    "project_domain_name": "Default",
}
passed = 0


def check(what, holds=True, seen=None):
    global passed
    assert holds, f"{what}: {seen}"
    passed += 1
    print("ok", what, flush=True)


def eventually(what, look):
    end = time.monotonic() + LONG
    while not (seen := look()):
        assert time.monotonic() < end, f"waited {LONG} s for {what}"
        time.sleep(0.05)
    return seen


def wait_available(manager, thing):
    def look():
        now = manager.get(thing.id)
        assert now.status != "error", now.to_dict()
        return now if now.status == "available" else None

    return eventually("available", look)


def is_gone(manager, thing):
    try:
        manager.get(thing.id)
    except cinderclient.exceptions.NotFound:
        return True
    return False


def with_cinderclient(login, version):
    client = cinderclient.client.Client(version, session=login)
    volume = wait_available(client.volumes, client.volumes.create(1, name=f"c{version}", metadata={"a": "b"}))
    check(f"cinderclient {version}: a volume", volume.size == 1 and volume.metadata == {"a": "b"}, volume.to_dict())
    # Below 3.66 this client always says force=False, and nulls.
    made = client.volume_snapshots.create(volume.id, name="s1")
    check("a snapshot is creating", made.status == "creating", made.to_dict())
    snapshot = wait_available(client.volume_snapshots, made)
    check("show, progress", getattr(snapshot, "os-extended-snapshot-attributes:progress") == "100%")
    client.volume_snapshots.update(snapshot, name="s2", description="d")
    check("update", client.volume_snapshots.get(snapshot.id).name == "s2")
    client.volume_snapshots.set_metadata(snapshot, {"k": "v", "l": "w"})
    client.volume_snapshots.delete_metadata(snapshot, ["l"])
    check("metadata", client.volume_snapshots.get(snapshot.id).metadata == {"k": "v"})
    listed = client.volume_snapshots.list(search_opts={"volume_id": volume.id})
    check("list", [item.id for item in listed] == [snapshot.id], listed)
    second = wait_available(client.volume_snapshots, client.volume_snapshots.create(volume.id))
    paged = client.volume_snapshots.list(limit=1, search_opts={"volume_id": volume.id})
    check("pages are followed to their end", [item.id for item in paged] == [second.id], paged)
    copy = wait_available(client.volumes, client.volumes.create(1, snapshot_id=snapshot.id, name="copy"))
    check("a volume from a snapshot", copy.snapshot_id == snapshot.id)
    client.volumes.extend(copy, 2)
    wait_available(client.volumes, copy)
    check("extend", client.volumes.get(copy.id).size == 2)
    client.volumes.reserve(copy)
    client.volumes.unreserve(copy)
    client.volumes.attach(copy, volume.id, "/dev/vdz")
    check("in use", client.volumes.get(copy.id).status == "in-use")
    client.volumes.detach(copy)
    client.volume_snapshots.reset_state(second, "error")
    check("reset-state", client.volume_snapshots.get(second.id).status == "error")
    client.volume_snapshots.delete(second, force=True)
    eventually("the snapshot to be gone", lambda: is_gone(client.volume_snapshots, second))
    try:
        client.volumes.delete(volume)
        raise AssertionError("a volume with snapshots was removed")
    except cinderclient.exceptions.BadRequest as error:
        check("a volume with snapshots stays", "snapshot" in str(error), error)
    client.volumes.delete(volume, cascade=True)
    client.volumes.delete(copy)
    eventually("the volumes to be gone", lambda: is_gone(client.volumes, volume) and is_gone(client.volumes, copy))
    check("gone with its snapshots")
    limits = {limit.name: limit.value for limit in client.limits.get().absolute}
    check("limits", limits["maxTotalSnapshots"] > 0, limits)
    check("types", client.volume_types.default().name == "default")
    quota = client.quotas.get(login.get_project_id(), usage=True)
    check("quotas", quota.volumes["in_use"] >= 0, quota)


def with_cinderclient_latest(login):
    highest = cinderclient.client.get_highest_client_server_version(f"{URL}/volume/v3")
    check("the highest version of client and server", str(highest) == "3.71", highest)
    client = cinderclient.client.Client("3.71", session=login)
    volume = wait_available(client.volumes, client.volumes.create(1))
    client.volumes.attach(volume, volume.id, "/dev/vdz")
    snapshot = wait_available(client.volume_snapshots, client.volume_snapshots.create(volume.id))
    check("3.66: a volume in use needs no force", snapshot.consumes_quota is True, snapshot.to_dict())
    client.volumes.detach(volume)
    client.volumes.revert_to_snapshot(volume, snapshot)
    wait_available(client.volumes, volume)
    check("revert")
    services = client.services.list()
    check("services", {s.binary for s in services} == {"cinder-volume", "cinder-scheduler"}, services)
    check("pools", len(client.pools.list(detailed=True)) == 1)
    check("messages", client.messages.list() is not None)
    check("no backups", client.backups.list() == [])
    transfer = client.transfers.create(volume.id, "t")
    check("a transfer", client.volumes.get(volume.id).status == "awaiting-transfer")
    client.transfers.delete(transfer.id)
    client.volumes.delete(volume, cascade=True)
    eventually("the volume to be gone", lambda: is_gone(client.volumes, volume))


def with_sdk():
    cloud = openstack.connection.Connection(**LOGIN, region_name="RegionOne", cacert=CA)
    volume = cloud.block_storage.create_volume(size=1, name="sdk")
    volume = cloud.block_storage.wait_for_status(volume, "available", interval=0.1, wait=LONG)
    check("openstacksdk: a volume", volume.size == 1 and volume.host.endswith("@qcow2#default"), volume)
    snapshot = cloud.block_storage.create_snapshot(volume_id=volume.id, name="s", metadata={"a": "b"})
    snapshot = cloud.block_storage.wait_for_status(snapshot, "available", interval=0.1, wait=LONG)
    check("a snapshot", snapshot.metadata == {"a": "b"} and snapshot.progress == "100%", snapshot)
    found = cloud.block_storage.find_snapshot("s")
    check("found by name", found.id == snapshot.id, found)
    check("listed", [s.id for s in cloud.block_storage.snapshots(volume_id=volume.id)] == [snapshot.id])
    cloud.block_storage.set_snapshot_metadata(snapshot, c="d")
    check("metadata", cloud.block_storage.get_snapshot_metadata(snapshot).metadata == {"a": "b", "c": "d"})
    cloud.block_storage.reset_snapshot_status(snapshot, "error")
    check("reset", cloud.block_storage.get_snapshot(snapshot).status == "error")
    cloud.block_storage.delete_snapshot(snapshot, force=True)
    cloud.block_storage.wait_for_delete(snapshot, interval=0.1, wait=LONG)
    limits = cloud.block_storage.get_limits()
    check("limits", limits.absolute.max_total_snapshots > 0, limits)
    cloud.block_storage.delete_volume(volume)
    cloud.block_storage.wait_for_delete(volume, interval=0.1, wait=LONG)
    check("openstacksdk: gone")


def run(*words, shown=True):
    environment = dict(
        os.environ,
        **{f"OS_{name.upper()}": value for name, value in LOGIN.items()},
        OS_IDENTITY_API_VERSION="3",
        OS_VOLUME_API_VERSION="3",
        HOME="/nonexistent",
    )
    if CA:
        environment["OS_CACERT"] = CA
    program = pathlib.Path(sys.executable).parent / "openstack"
    done = subprocess.run(
        [program, *words, *(["-f", "json"] if shown else [])], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr.strip(), f"openstack {' '.join(words)}: {done.stdout}{done.stderr}"
    return json.loads(done.stdout) if shown else None


def with_command():
    volume = run("volume", "create", "--size", "1", "cli")
    eventually("the volume", lambda: run("volume", "show", volume["id"])["status"] == "available")
    made = run("volume", "snapshot", "create", "--volume", "cli", "--description", "d", "--property", "a=b", "snap")
    check("openstack volume snapshot create", made["name"] == "snap", made)
    shown = eventually("the snapshot", lambda: (s := run("volume", "snapshot", "show", "snap"))["status"] == "available" and s)
    check("show", shown["properties"] in ("a='b'", {"a": "b"}), shown)
    run("volume", "snapshot", "set", "--name", "other", "--property", "c=d", "snap", shown=False)
    run("volume", "snapshot", "unset", "--property", "a", "other", shown=False)
    listed = run("volume", "snapshot", "list")
    check("list", [item["Name"] for item in listed] == ["other"], listed)
    run("volume", "snapshot", "delete", "other", shown=False)
    eventually("the snapshot to be gone", lambda: run("volume", "snapshot", "list") == [])
    run("volume", "delete", "cli", shown=False)
    check("delete")


def main():
    warnings.simplefilter("error", UserWarning)
    login = session.Session(auth=v3.Password(**LOGIN), verify=CA or True)
    with_cinderclient(login, "3")
    with_cinderclient(login, "3.45")
    with_cinderclient_latest(login)
    with_sdk()
    with_command()
    print(f"{passed} checks passed")


if __name__ == "__main__":
    main()
