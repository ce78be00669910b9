"""Asks for services as NATS ADR-32 has it, with nats-py and its own readers of the answers.

    discovery.py WORKERS

Sends a known number of requests of each kind, asks at all three levels of subjects, and checks each field
of each answer: its presence, its type, its value. Says what it found as one line of JSON.
"""

import asyncio
import json
import os
import re
import sys
import time
import uuid
from datetime import datetime, timezone

import nats
from nats.errors import NoRespondersError
from nats.micro.service import ServiceInfo, ServicePing, ServiceStats

NAME = "beamline-router"
SEMVER = re.compile(
    r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?$"
)
STANDARD = {"type": str, "name": str, "id": str, "version": str, "metadata": dict}
ENDPOINT = {"name": str, "subject": str, "queue_group": str}
FIELDS = {
    "PING": STANDARD,
    "INFO": STANDARD | {"description": str, "endpoints": list},
    "STATS": STANDARD | {"endpoints": list, "started": str},
}
FIELDS_OF_ENDPOINT = {
    "INFO": ENDPOINT | {"metadata": dict},
    "STATS": ENDPOINT
    | {
        "num_requests": int,
        "num_errors": int,
        "last_error": str,
        "data": dict,
        "processing_time": int,
        "average_processing_time": int,
    },
}
READERS = {"PING": ServicePing, "INFO": ServiceInfo, "STATS": ServiceStats}
ENDPOINTS = {
    "decide": "beamline.router.v1.decide",
    "tenant_decide": "beamline.router.v1.tenant.*.decide",
    "control": "beamline.router.control.v1.>",
}


def check(what, fields, told):
    assert told.keys() == fields.keys(), (what, sorted(told), sorted(fields))
    for field, kind in fields.items():
        assert type(told[field]) is kind, (what, field, told[field])


def checked(verb, body):
    told = json.loads(body)
    check(verb, FIELDS[verb], told)
    assert told["type"] == f"io.nats.micro.v1.{verb.lower()}_response", told["type"]
    assert told["name"] == NAME and re.fullmatch(r"[A-Za-z0-9_-]+", told["name"])
    assert SEMVER.match(told["version"]), told["version"]
    assert re.fullmatch(r"[A-Za-z0-9_-]+", told["id"]), told["id"]
    assert all(type(v) is str for v in told["metadata"].values()), told["metadata"]
    for endpoint in told.get("endpoints", []):
        check(verb, FIELDS_OF_ENDPOINT[verb], endpoint)
        assert endpoint["queue_group"] == "beamline-router", endpoint
        if verb == "STATS":
            requests, spent = endpoint["num_requests"], endpoint["processing_time"]
            assert endpoint["average_processing_time"] == (spent // requests if requests else 0), endpoint
            assert endpoint["num_errors"] <= requests and (spent > 0) == (requests > 0), endpoint
    if "endpoints" in told:
        assert {e["name"]: e["subject"] for e in told["endpoints"]} == ENDPOINTS, told["endpoints"]
    read = READERS[verb].from_dict(told)
    assert (read.id, read.name, read.version) == (told["id"], NAME, told["version"])
    return told


async def ask_all(nc, verb, subject, workers):
    """The answers of all workers, each once."""
    inbox = nc.new_inbox()
    answers = await nc.subscribe(inbox)
    await nc.publish(subject, b"", reply=inbox)
    told = {}
    for _ in range(workers):
        answer = checked(verb, (await answers.next_msg(timeout=20)).data)
        assert answer["id"] not in told, f"{answer['id']} answered twice"
        told[answer["id"]] = answer
    # What came late would come with the answer to this, from the same workers.
    for id in told:
        await nc.request(f"$SRV.PING.{NAME}.{id}", b"", timeout=20)
    assert answers.pending_msgs == 0, f"more than {workers} answers to {subject}"
    await answers.unsubscribe()
    return told


async def send(nc):
    """Requests of every kind: how many of each endpoint, how many of them are refused, and how last."""
    good = {"version": "1", "tenant_id": "acme", "task": {"type": "t", "payload_ref": "s3://x"}}

    async def decide(subject, body, code):
        answer = await nc.request(subject, json.dumps(body).encode(), timeout=20)
        headers = answer.headers or {}
        assert headers.get("Nats-Service-Error-Code") == code, (subject, answer.data, headers)

    plain, own = "beamline.router.v1.decide", "beamline.router.v1.tenant.acme.decide"
    asked = lambda **more: good | {"request_id": str(uuid.uuid4())} | more
    for _ in range(23):
        await decide(plain, asked(), None)
    for _ in range(4):
        await decide(plain, {"version": "1"}, "400")
    for _ in range(3):
        await decide(plain, asked(policy_id="none"), "404")
    for _ in range(7):
        await decide(own, asked(), None)
    for _ in range(2):
        await decide(own, asked(tenant_id="other"), "401")
    control = "beamline.router.control.v1."
    for _ in range(5):
        await nc.request(control + "policy.list", b"{}", timeout=20)
    for verb in ("breaker.get", "no.such.verb"):
        await nc.request(control + verb, b'{"tenant_id": "acme", "provider_id": "none"}', timeout=20)
    # Nobody can be answered there: not a request of the endpoint.
    await nc.publish(plain, json.dumps(asked()).encode(), reply="caf.exec.assign.v1")
    await nc.flush()
    return {"decide": (30, 7, "404:policy_not_found"), "tenant_decide": (9, 2, "401:unauthorized"),
            "control": (7, 2, "404:not_found")}


async def main(workers):
    nc = await nats.connect(os.environ["NATS_URL"])
    before = await ask_all(nc, "STATS", "$SRV.STATS", workers)
    sent = await send(nc)

    found = {}
    for verb in ("PING", "INFO", "STATS"):
        ids = {frozenset(await ask_all(nc, verb, s, workers)) for s in (f"$SRV.{verb}", f"$SRV.{verb}.{NAME}")}
        assert ids == {frozenset(before)}, ids
        for id in before:
            one = checked(verb, (await nc.request(f"$SRV.{verb}.{NAME}.{id}", b"", timeout=20)).data)
            assert one["id"] == id, one
            found.setdefault(id, {})[verb] = one
        for nobody in (f"$SRV.{verb}.other", f"$SRV.{verb}.{NAME}.nobody", f"$SRV.{verb.lower()}"):
            try:
                await nc.request(nobody, b"", timeout=20)
                raise AssertionError(f"{nobody} was answered")
            except NoRespondersError:
                pass

    total = {name: [0, 0] for name in ENDPOINTS}
    for id, one in found.items():
        assert one["PING"]["metadata"] == one["INFO"]["metadata"] == one["STATS"]["metadata"]
        assert one["STATS"]["started"] == before[id]["started"], "a start does not move"
        started = ServiceStats.from_dict(one["STATS"]).started.replace(tzinfo=timezone.utc)
        age = (datetime.now(timezone.utc) - started).total_seconds()
        assert 0 < age < 600, age
        for then, now in zip(before[id]["endpoints"], one["STATS"]["endpoints"]):
            total[now["name"]][0] += now["num_requests"] - then["num_requests"]
            total[now["name"]][1] += now["num_errors"] - then["num_errors"]
            wanted = sent[now["name"]][2]
            if workers == 1:
                assert now["last_error"] == wanted, now
    assert total == {name: [n, errors] for name, (n, errors, _) in sent.items()}, total
    workers = sorted(one["PING"]["metadata"]["worker"] for one in found.values())
    print(json.dumps({"workers": workers, "total": total}))
    await nc.close()


if __name__ == "__main__":
    asyncio.run(asyncio.wait_for(main(int(sys.argv[1])), 90))
