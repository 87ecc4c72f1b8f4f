"""Runs Cinder whole in one process: API, scheduler and volume manager, over SQLite, with its own driver that does nothing.

Called by volumes.py with the Python of Cinder's own virtual environment: cinder_peer.py STATE_DIR PORT. Nobody is asked for a
token (`noauth`), no image is made, messages go by memory: all that flatters it. Prints "ready" when it serves.
"""

import eventlet

eventlet.monkey_patch()

import os
import socket
import sys

from cinder import objects, service
from cinder.common import config as _config  # noqa: F401 (registers the options)
from cinder.db import migration
from oslo_config import cfg

CONF = cfg.CONF


def configure(state, port):
    file = os.path.join(state, "cinder.conf")
    with open(file, "w", encoding="utf-8") as out:
        out.write(
            f"""[DEFAULT]
state_path = {state}
auth_strategy = noauth
transport_url = fake://
api_paste_config = {os.path.join(sys.prefix, "etc", "cinder", "api-paste.ini")}
resource_query_filters_file = {os.path.join(sys.prefix, "etc", "cinder", "resource_filters.json")}
osapi_volume_listen = 127.0.0.1
osapi_volume_listen_port = {port}
osapi_volume_workers = 1
enabled_backends = nothing
default_volume_type = __DEFAULT__
service_down_time = 86400
scheduler_default_filters = AvailabilityZoneFilter
quota_volumes = -1
quota_snapshots = -1
quota_gigabytes = -1
debug = false
log_file = {state}/cinder.log
[nothing]
volume_driver = cinder.tests.fake_driver.FakeLoggingVolumeDriver
volume_backend_name = nothing
[database]
connection = sqlite:///{state}/cinder.db
[oslo_concurrency]
lock_path = {state}/locks
[coordination]
backend_url = file://{state}
"""
        )
    CONF(["--config-file", file], project="cinder")


def main():
    state, port = os.path.abspath(sys.argv[1]), int(sys.argv[2])
    configure(state, port)
    from cinder import rpc, version
    from oslo_log import log

    log.setup(CONF, "cinder")
    objects.register_all()
    migration.db_sync()
    rpc.init(CONF)
    host = socket.gethostname()
    manager = service.Service.create(host=f"{host}@nothing", binary="cinder-volume", service_name="nothing", coordination=True)
    scheduler = service.Service.create(host=host, binary="cinder-scheduler")
    manager.start()
    scheduler.start()
    api = service.WSGIService("osapi_volume")
    api.start()
    print("ready", version.version_string(), flush=True)
    while True:  # until it is killed
        eventlet.sleep(3600)


main()
