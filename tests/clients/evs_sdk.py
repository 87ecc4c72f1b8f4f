"""Huawei's own EVS client for Python, huaweicloudsdkevs 3.1.219, unmodified, against a running daemon.

Environment: STILLPOINT_URL, EVS_AK, EVS_SK (a member's key), EVS_PROJECT (its id), EVS_REGION (its name), EVS_TOKEN (a token
of the same project).

Prints "ok ITEMS" per check; the first thing that does not hold ends it with a trace.
"""

import contextlib
import http.client
import json
import os
import time
import urllib.parse

from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkcore.http.http_config import HttpConfig
from huaweicloudsdkcore.region.region import Region
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer
from huaweicloudsdkevs import v2

URL = os.environ["STILLPOINT_URL"]
PROJECT = os.environ["EVS_PROJECT"]
SLOWEST = 60


@contextlib.contextmanager
def check(items):
    yield
    print(f"ok {items}", flush=True)


@contextlib.contextmanager
def refused(status, code):
    try:
        yield
    except ClientRequestException as error:
        assert (error.status_code, error.error_code) == (status, code), error
        assert error.request_id and error.request_id.startswith("req-"), error
        return
    raise AssertionError(f"was accepted, expected {status} {code}")


def config():
    made = HttpConfig.get_default_config()
    made.retry_times = 1
    made.timeout = (10, 60)
    return made


def client(credentials, **others):
    builder = v2.EvsClient.new_builder().with_http_config(config()).with_credentials(credentials)
    if others.get("region"):
        return builder.with_region(others["region"]).build()
    return builder.with_endpoint(URL).build()


def with_key(secret=None, access=None, project=PROJECT):
    return client(BasicCredentials(access or os.environ["EVS_AK"], secret or os.environ["EVS_SK"], project))


def with_region():
    credentials = BasicCredentials(os.environ["EVS_AK"], os.environ["EVS_SK"]).with_iam_endpoint(URL)
    return client(credentials, region=Region(os.environ["EVS_REGION"], URL))


def send_token(self, request):
    """Sends a token and no signature, as raw callers of the documents do."""
    request.header_params["X-Auth-Token"] = os.environ["EVS_TOKEN"]
    Signer.process_request_uri(request)
    return request


# The client looks at the name of the class.
TokenCredentials = type("BasicCredentials", (BasicCredentials,), {"sign_request": send_token})


def wait_job(evs, job_id):
    end = time.monotonic() + SLOWEST
    while True:
        job = evs.show_job(v2.ShowJobRequest(job_id=job_id))
        if job.status != "RUNNING":
            assert job.status == "SUCCESS", job
            return job
        assert time.monotonic() < end, job
        time.sleep(0.05)


def status_of(evs, volume):
    return evs.show_volume(v2.ShowVolumeRequest(volume_id=volume)).volume.status


def wait_snapshot(evs, snapshot, wanted="available"):
    end = time.monotonic() + SLOWEST
    while True:
        seen = evs.show_snapshot(v2.ShowSnapshotRequest(snapshot_id=snapshot)).snapshot
        if seen.status == wanted:
            return seen
        assert seen.status in ("creating", "rollbacking", "deleting") and time.monotonic() < end, seen
        time.sleep(0.05)


def snap(evs, volume, name, **others):
    option = v2.CreateSnapshotOption(volume_id=volume, name=name, **others)
    return evs.create_snapshot(v2.CreateSnapshotRequest(body=v2.CreateSnapshotRequestBody(snapshot=option))).snapshot


def make(evs, name, size=1, **others):
    option = v2.CreateVolumeOption(
        availability_zone="nova", volume_type="SSD", size=size, name=name, **others
    )
    request = v2.CreateVolumeRequest(body=v2.CreateVolumeRequestBody(volume=option))
    made = evs.create_volume(request)
    assert made.job_id and made.volume_ids, made
    job = wait_job(evs, made.job_id)
    return made, job


def check_login(evs):
    with check("E38"):
        for secret, access in [("wrong" * 8, None), (None, "NOSUCHKEY")]:
            with refused(401, "APIGW.0301"):
                with_key(secret, access).list_snapshots(v2.ListSnapshotsRequest())
    with check("E37"), refused(403, "EVS.0003"):
        with_key(project="d0000000000000000000000000000002").list_snapshots(v2.ListSnapshotsRequest())
    with check("E40"):
        assert with_region().list_snapshots(v2.ListSnapshotsRequest()).count is not None


def raw(path, query=(), change=None, body=None, at=None):
    """Sends a request that the client's own signer has signed, after `change` has had its way with it."""
    netloc = urllib.parse.urlsplit(URL).netloc
    headers = {"Content-Type": "application/json;charset=UTF-8", "User-Agent": "signed", "X-Project-Id": PROJECT}
    if at is not None:
        headers["X-Sdk-Date"] = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
    request = SdkRequest(
        method="POST" if body else "GET", schema="http", host=netloc, resource_path=path, query_params=list(query),
        header_params=headers, body=body or "",
    )
    Signer(BasicCredentials(os.environ["EVS_AK"], os.environ["EVS_SK"], PROJECT)).sign(request)
    content = request.body or b""
    if change:
        content = change(request.header_params, content) or content
    link = http.client.HTTPConnection(netloc, timeout=SLOWEST)
    link.request(request.method, request.uri, content or None, request.header_params)
    answer = link.getresponse()
    return answer.status, json.loads(answer.read())


def check_signature():
    snapshots = f"/v2/{PROJECT}/cloudsnapshots"
    status, body = raw(snapshots + "/detail", [("name", "a b~*"), ("limit", "10"), ("status", "available")])
    assert status == 200 and body["count"] == 0, body

    def agent(headers, content):
        headers["User-Agent"] = "changed by a proxy"

    def content(headers, content):
        return content.replace(b"snap", b"snaq")

    asked = json.dumps({"snapshot": {"volume_id": PROJECT, "name": "snap"}})
    with check("E34 E36"):
        for change, sent in [(agent, None), (content, asked)]:
            status, body = raw(snapshots, change=change, body=sent)
            assert status == 401 and body["error_code"] == "APIGW.0301" and body["request_id"], body
        assert raw(snapshots, body=asked)[0] == 404, "the unchanged one gets in, to a volume that is not there"
    with check("E35"):
        for off in (-16 * 60, 16 * 60):
            status, body = raw(snapshots, at=time.time() + off)
            assert status == 401 and body["error_code"] == "APIGW.0301", body
        assert raw(snapshots, at=time.time() - 14 * 60)[0] == 200
    with check("E39"):
        status, body = raw("/v3/projects", [("name", os.environ["EVS_REGION"])])
        assert status == 200 and [one["id"] for one in body["projects"]] == [PROJECT], body
        status, body = raw("/volume/v3/" + PROJECT + "/snapshots")
        assert status == 200 and body == {"snapshots": []}, body


def check_volumes(evs):
    with check("E140"):
        made, job = make(evs, "disk")
        assert [job.entities.volume_id] == made.volume_ids, job
        assert job.job_type == "createVolume" and job.begin_time and job.end_time, job
        volume = made.volume_ids[0]
        shown = evs.show_volume(v2.ShowVolumeRequest(volume_id=volume)).volume
        assert (shown.size, shown.status, shown.service_type) == (1, "available", "EVS"), shown
    with check("a batch is one job, its volumes are numbered"):
        made, job = make(evs, "batch", count=3)
        assert len(made.volume_ids) == 3 and len(job.entities.sub_jobs) == 3, job
        listed = evs.list_volumes(v2.ListVolumesRequest(sort_key="name", sort_dir="asc", limit=2))
        assert listed.count == 4 and [one.name for one in listed.volumes] == ["batch-0000", "batch-0001"], listed
        assert listed.volumes_links, listed
        for one in made.volume_ids:
            wait_job(evs, evs.delete_volume(v2.DeleteVolumeRequest(volume_id=one)).job_id)
        assert evs.list_volumes(v2.ListVolumesRequest()).count == 1
    with check("a volume is renamed and grows"):
        body = v2.UpdateVolumeRequestBody(volume=v2.UpdateVolumeOption(name="renamed"))
        assert evs.update_volume(v2.UpdateVolumeRequest(volume_id=volume, body=body)).name == "renamed"
        body = v2.ResizeVolumeRequestBody(os_extend=v2.OsExtend(new_size=2))
        wait_job(evs, evs.resize_volume(v2.ResizeVolumeRequest(volume_id=volume, body=body)).job_id)
        assert evs.show_volume(v2.ShowVolumeRequest(volume_id=volume)).volume.size == 2
        with refused(400, "EVS.1015"):
            evs.resize_volume(v2.ResizeVolumeRequest(volume_id=volume, body=body))
    return volume


def check_snapshots(evs, volume):
    with check("E124"):
        first = snap(evs, volume, "first", description="before", metadata={"a": "b"})
        assert (first.name, first.description, first.volume_id, first.size) == ("first", "before", volume, 2), first
        assert first.status == "creating" and first.created_at == first.updated_at, first
        wait_snapshot(evs, first.id)
        second = snap(evs, volume, "second")
        wait_snapshot(evs, second.id)
    with check("E125"):
        page = evs.list_snapshots(v2.ListSnapshotsRequest(limit=1))
        assert page.count == 2 and len(page.snapshots) == 1 and page.snapshots_links, page
        assert page.snapshots[0].service_type == "EVS", page
        page = evs.list_snapshots(v2.ListSnapshotsRequest(limit=1, offset=1))
        assert page.count == 2 and len(page.snapshots) == 1 and not page.snapshots_links, page
        page = evs.list_snapshots(v2.ListSnapshotsRequest(name="first", status="available", volume_id=volume))
        assert [one.id for one in page.snapshots] == [first.id], page
    with check("E126"), refused(400, "EVS.2142"):
        evs.list_snapshots(v2.ListSnapshotsRequest(limit=1001))
    with check("E127"), refused(404, "EVS.5404"):
        evs.show_snapshot(v2.ShowSnapshotRequest(snapshot_id="5aa119a8-d25b-45a7-8d1b-88e127885635"))
    with check("a snapshot is renamed"):
        body = v2.UpdateSnapshotRequestBody(snapshot=v2.UpdateSnapshotOption(name="new", description="d"))
        changed = evs.update_snapshot(v2.UpdateSnapshotRequest(snapshot_id=first.id, body=body)).snapshot
        assert (changed.name, changed.description) == ("new", "d") and changed.updated_at > changed.created_at
    return first.id, second.id


def check_rollback(evs, volume, snapshots):
    def back(snapshot, target):
        option = v2.RollbackSnapshotOption(volume_id=target)
        body = v2.RollbackSnapshotRequestBody(rollback=option)
        return evs.rollback_snapshot(v2.RollbackSnapshotRequest(snapshot_id=snapshot, body=body))

    with check("E119"):
        assert back(snapshots[0], volume).rollback.volume_id == volume
        wait_snapshot(evs, snapshots[0])
        end = time.monotonic() + SLOWEST
        while status_of(evs, volume) == "rollbacking":
            assert time.monotonic() < end
            time.sleep(0.05)
        assert status_of(evs, volume) == "available"
        wait_snapshot(evs, snapshots[1])
    with check("E121"):
        made, _ = make(evs, "other")
        with refused(400, "EVS.5400"):
            back(snapshots[0], made.volume_ids[0])
    with check("a volume is offered and taken back"):
        option = v2.CreateVolumeTransferOption(name="gift", volume_id=made.volume_ids[0])
        body = v2.CinderCreateVolumeTransferRequestBody(transfer=option)
        offer = evs.cinder_create_volume_transfer(v2.CinderCreateVolumeTransferRequest(body=body)).transfer
        assert offer.auth_key and status_of(evs, made.volume_ids[0]) == "awaiting-transfer", offer
        listed = evs.cinder_list_volume_transfers(v2.CinderListVolumeTransfersRequest()).transfers
        assert [one.id for one in listed] == [offer.id], listed
        evs.cinder_delete_volume_transfer(v2.CinderDeleteVolumeTransferRequest(transfer_id=offer.id))
        assert status_of(evs, made.volume_ids[0]) == "available"
        wait_job(evs, evs.delete_volume(v2.DeleteVolumeRequest(volume_id=made.volume_ids[0])).job_id)


def check_odds(evs):
    with check("quotas, types and zones are read"):
        request = v2.CinderListQuotasRequest(target_project_id=PROJECT, usage="True")
        quota = evs.cinder_list_quotas(request).quota_set
        assert quota.volumes.in_use == 1 and quota.snapshots.in_use == 2 and quota.volumes_ssd.limit == -1, quota
        names = [one.name for one in evs.cinder_list_volume_types(v2.CinderListVolumeTypesRequest()).volume_types]
        assert {"SATA", "SAS", "SSD"} <= set(names), names
        zones = evs.cinder_list_availability_zones(v2.CinderListAvailabilityZonesRequest())
        assert [zone.zone_name for zone in zones.availability_zone_info] == ["nova"], zones
    with check("the fifth version is not served"), refused(404, "EVS.5404"):
        evs.list_snapshot_chains(v2.ListSnapshotChainsRequest(limit=1))
    with check("versions are told"):
        assert len(evs.list_versions(v2.ListVersionsRequest()).versions) == 3


def check_token(volume, snapshots):
    evs = client(TokenCredentials("no", "key", PROJECT))
    with check("a token does what a key does"):
        found = evs.list_snapshots(v2.ListSnapshotsRequest(volume_id=volume))
        assert {one.id for one in found.snapshots} == set(snapshots), found
        for snapshot in snapshots:
            evs.delete_snapshot(v2.DeleteSnapshotRequest(snapshot_id=snapshot))
        end = time.monotonic() + SLOWEST
        while evs.list_snapshots(v2.ListSnapshotsRequest()).count:
            assert time.monotonic() < end
            time.sleep(0.05)
        wait_job(evs, evs.delete_volume(v2.DeleteVolumeRequest(volume_id=volume)).job_id)


def main():
    evs = with_key()
    check_signature()
    check_login(evs)
    volume = check_volumes(evs)
    snapshots = check_snapshots(evs, volume)
    check_rollback(evs, volume, snapshots)
    check_odds(evs)
    check_token(volume, snapshots)


main()
