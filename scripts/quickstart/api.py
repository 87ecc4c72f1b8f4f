"""A client for the few requests of the public oVirt REST API that the story needs."""

import json
import time
import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ElementTree

LONG = 180  # seconds; every wait has an end


class Trouble(Exception):
    """Something did not happen, or is not as it must be."""


class Api:
    """The few requests that are needed. Loopback: a proxy of the environment has no business here."""

    def __init__(self, url, user, password):
        self.base = url.rstrip("/")
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        form = {"grant_type": "password", "scope": "ovirt-app-api", "username": user, "password": password}
        headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
        status, body = self.send("POST", "/ovirt-engine/sso/oauth/token", urllib.parse.urlencode(form), headers)
        token = json.loads(body).get("access_token") if status == 200 else None
        if not token:
            raise Trouble(f"the login of {user} failed: {status} {body}")
        self.headers = {"Authorization": f"Bearer {token}", "Version": "4", "Accept": "application/xml"}

    def send(self, method, path, body=None, headers=None):
        data = None if body is None else body.encode()
        request = urllib.request.Request(self.base + path, data=data, method=method, headers=headers or {})
        try:
            with self.opener.open(request, timeout=LONG) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(errors="replace")

    def __call__(self, method, path, body=None, good=(200, 201, 202)):
        headers = dict(self.headers)
        if body is not None:
            headers["Content-Type"] = "application/xml"
        status, text = self.send(method, f"/ovirt-engine/api/{path}", body, headers)
        if status not in good:
            raise Trouble(f"{method} {path}: {status} {text}")
        return ElementTree.fromstring(text) if text else None

    def exists(self, path):
        status, text = self.send("GET", f"/ovirt-engine/api/{path}", None, self.headers)
        if status not in (200, 404):
            raise Trouble(f"GET {path}: {status} {text}")
        return status == 200

    def wait(self, path, element, *values):
        """Polls until the element has one of the values; returns the seconds waited."""
        start = time.monotonic()
        while (seen := self("GET", path).findtext(element)) not in values:
            if time.monotonic() - start > LONG:
                raise Trouble(f"{element} of {path} is {seen} after {LONG} s, not {' or '.join(values)}")
            time.sleep(0.05)
        return time.monotonic() - start

    def until(self, done, method, path, body=None):
        """Asks until it is done. What is at work on the thing still, as after a run that was cut off, may refuse that
        for a while."""
        end, asked, text = time.monotonic() + LONG, False, ""
        headers = {**self.headers, "Content-Type": "application/xml"}
        while not done():
            if not asked:
                status, text = self.send(method, f"/ovirt-engine/api/{path}", body, headers)
                if status not in (200, 201, 202, 204, 404, 409):
                    raise Trouble(f"{method} {path}: {status} {text}")
                asked = status != 409
            if time.monotonic() > end:
                raise Trouble(f"{method} {path} is not done after {LONG} s; the last answer: {text}")
            time.sleep(0.1)

    def remove(self, path):
        self.until(lambda: not self.exists(path), "DELETE", path)
