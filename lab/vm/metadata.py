"""Stands in for a VM's metadata service and wire server, as far as cloud-init, agent and `install.sh` use them."""

import base64
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from ipaddress import IPv4Address, IPv4Network
from time import time
from typing import Any

from aiohttp import web

_GOAL = """<?xml version="1.0" encoding="utf-8"?>
<GoalState><Version>2012-11-30</Version><Incarnation>1</Incarnation>
 <Machine><ExpectedState>Started</ExpectedState></Machine>
 <Container><ContainerId>container</ContainerId><RoleInstanceList><RoleInstance><InstanceId>instance</InstanceId>
 <State>Started</State><Configuration/></RoleInstance></RoleInstanceList></Container></GoalState>
"""
_TOKEN_SECONDS = 86_400


@dataclass
class Metadata:
    """One VM, as both services describe it."""

    name: str
    host_name: str
    administrator: str
    ssh_public_key: str
    client_id: str
    """Client id of its identity."""
    address: IPv4Address
    subnet: IPv4Network
    mac: str
    user_data: str = ""
    location: str = "swedencentral"
    vm_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    tokens: Mapping[str, Callable[[], str]] = field(default_factory=dict)
    """Tokens by resource; other resources get an unsigned token."""
    events: list[dict[str, Any]] = field(default_factory=list)
    """The scheduled events; approved ones have started."""
    reported: list[str] = field(default_factory=list)
    """The health reports that the guest sent to the wire server."""

    def application(self) -> web.Application:
        """The web application of both services."""
        made = web.Application(middlewares=[self._guard])
        made.router.add_routes(
            [
                web.get("/metadata/instance", self._instance),
                web.get("/metadata/instance/compute/userData", self._user_data),
                web.get("/metadata/identity/oauth2/token", self._token),
                web.get("/metadata/scheduledevents", self._events),
                web.post("/metadata/scheduledevents", self._start),
                web.get("/machine/", self._goal),
                web.post("/machine", self._report),
            ]
        )
        return made

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.path.startswith("/metadata") and request.headers.get("Metadata", "").lower() != "true":
            return web.json_response({"error": "Bad request. Required metadata header not specified"}, status=400)
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _instance(self, _: web.Request) -> web.Response:
        address = {"privateIpAddress": str(self.address), "publicIpAddress": ""}
        within = {"address": str(self.subnet.network_address), "prefix": str(self.subnet.prefixlen)}
        return web.json_response(
            {
                "compute": {
                    "location": self.location,
                    "name": self.name,
                    "vmId": self.vm_id,
                    "osProfile": {
                        "adminUsername": self.administrator,
                        "computerName": self.host_name,
                        "disablePasswordAuthentication": "true",
                    },
                    "publicKeys": [
                        {
                            "keyData": self.ssh_public_key,
                            "path": f"/home/{self.administrator}/.ssh/authorized_keys",
                        }
                    ],
                    "userData": self.user_data,
                },
                "network": {
                    "interface": [
                        {
                            "ipv4": {"ipAddress": [address], "subnet": [within]},
                            "ipv6": {"ipAddress": []},
                            "macAddress": self.mac.replace(":", "").upper(),
                        }
                    ]
                },
            }
        )

    async def _user_data(self, _: web.Request) -> web.Response:
        return web.Response(text=self.user_data)

    async def _token(self, request: web.Request) -> web.Response:
        if (asked := request.query.get("client_id", self.client_id)) != self.client_id:
            return web.json_response({"error": "invalid_request", "error_description": asked}, status=400)
        resource = request.query["resource"].rstrip("/")
        made = self.tokens.get(resource, lambda: unsigned(resource))()
        return web.json_response(
            {
                "access_token": made,
                "client_id": self.client_id,
                "expires_in": str(_TOKEN_SECONDS),
                "expires_on": str(int(time()) + _TOKEN_SECONDS),
                "not_before": str(int(time())),
                "resource": resource,
                "token_type": "Bearer",
            }
        )

    def schedule(self, kind: str, seconds: float) -> None:
        """Announce an event of this VM, which starts after this number of seconds unless it is approved before."""
        self.events.append(
            {
                "EventId": str(uuid.uuid4()),
                "EventType": kind,
                "ResourceType": "VirtualMachine",
                "Resources": [self.name],
                "EventStatus": "Scheduled",
                "NotBefore": formatdate(time() + seconds, usegmt=True),
                "Description": "",
                "EventSource": "Platform",
                "DurationInSeconds": -1,
            }
        )

    async def _events(self, _: web.Request) -> web.Response:
        return web.json_response({"DocumentIncarnation": len(self.events), "Events": self.events})

    async def _start(self, request: web.Request) -> web.Response:
        asked = {each["EventId"] for each in (await request.json())["StartRequests"]}
        for each in self.events:
            if each["EventId"] in asked:
                each |= {"EventStatus": "Started", "NotBefore": ""}
        return web.Response()

    async def _goal(self, _: web.Request) -> web.Response:
        return web.Response(text=_GOAL, content_type="text/xml")

    async def _report(self, request: web.Request) -> web.Response:
        self.reported.append(await request.text())
        return web.Response()


def unsigned(resource: str) -> str:
    """An unsigned token for a resource in the form of Entra's, with audience and expiry."""
    now = int(time())
    claims = {
        "aud": resource,
        "iss": "https://sts.windows.net/00000000-0000-0000-0000-000000000000/",
        "iat": now,
        "nbf": now - 60,
        "exp": now + _TOKEN_SECONDS,
    }
    parts = [json.dumps(each).encode() for each in ({"typ": "JWT", "alg": "RS256"}, claims)]
    encoded = [base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (*parts, b"nobody")]
    return ".".join(encoded)
