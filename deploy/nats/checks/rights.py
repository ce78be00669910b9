"""Who may publish and subscribe where: the tables, and the try of each subject as each user."""

from .broker import USERS, Client, Fault

# Subject -> the users who may. Everyone else must be refused.
PUBLISH = {
    "beamline.router.v1.decide": {"gateway"},
    "beamline.router.v1.tenant.acme.decide": {"gateway", "acme"},
    "beamline.router.v1.tenant.globex.decide": {"gateway"},
    "beamline.router.v1.tenant.acme.other": set(),
    "beamline.router.v1.decide.reply": {"router"},
    "beamline.router.control.v1.policy.put": {"operator"},
    "beamline.router.control.v1.breaker.force": {"operator"},
    "beamline.router.v1.events.breaker.acme.openai": {"router"},
    "beamline.router.v1.log.policy": {"router"},
    "beamline.router.v1.log.claim.acme.openai": {"router"},
    "beamline.router.v1.other": set(),
    "beamline.usage.v1.metered": {"router"},
    "caf.exec.assign.v1": {"router"},
    "caf.exec.assign.gpu": {"router"},
    "caf.exec.assign.v1.acme": {"router"},
    "caf.exec.assign.v1.ack": {"router", "executor"},
    "caf.exec.assign.v1.ack.acme": {"router", "executor"},
    "caf.exec.result.v1": {"executor"},
    "caf.exec.result.v1.acme": {"executor"},
    "_INBOX.acme.x": {"router"},
    "_INBOX.executor.x": {"router"},
    "_R_.x": {"router"},
    "$KV.BEAMLINE_POLICIES.acme.default": {"router"},
    "$KV.BEAMLINE_FLAGS.global": {"router"},
    "$KV.OTHER.key": set(),
    "$KV.BEAMLINE_SNAPSHOTS.a.1.manifest": {"router"},
    "$KV.BEAMLINE_SNAPSHOTS.a.1.0": {"router"},
    "$SRV.PING": {"operator"},
    "$SRV.STATS.beamline-router": {"operator"},
    "$JS.API.INFO": {"router", "operator"},
    "$JS.API.STREAM.NAMES": {"router", "operator"},
    "$JS.API.STREAM.CREATE.BEAMLINE_LOG": {"router"},
    "$JS.API.STREAM.CREATE.KV_BEAMLINE_POLICIES": {"router"},
    "$JS.API.STREAM.CREATE.OTHER": set(),
    "$JS.API.STREAM.UPDATE.BEAMLINE_LOG": {"router"},
    "$JS.API.STREAM.INFO.BEAMLINE_LOG": {"router"},
    "$JS.API.STREAM.INFO.BEAMLINE_EVENTS": {"router", "operator"},
    "$JS.API.STREAM.DELETE.BEAMLINE_LOG": set(),
    "$JS.API.STREAM.PURGE.BEAMLINE_LOG": set(),
    "$JS.API.STREAM.PURGE.KV_BEAMLINE_POLICIES": set(),
    "$JS.API.STREAM.PURGE.KV_BEAMLINE_SNAPSHOTS": {"router"},
    "$JS.API.STREAM.MSG.DELETE.BEAMLINE_LOG": set(),
    "$JS.API.STREAM.MSG.GET.BEAMLINE_LOG": {"router"},
    "$JS.API.DIRECT.GET.KV_BEAMLINE_POLICIES.$KV.BEAMLINE_POLICIES.acme.default": {"router"},
    "$JS.API.CONSUMER.CREATE.BEAMLINE_LOG": {"router"},
    "$JS.API.CONSUMER.CREATE.BEAMLINE_LOG.name.caf.exec.result.v1": {"router"},
    "$JS.API.CONSUMER.DURABLE.CREATE.BEAMLINE_LOG.usage": {"router"},
    "$JS.API.CONSUMER.MSG.NEXT.BEAMLINE_LOG.usage": {"router"},
    "$JS.API.CONSUMER.DELETE.BEAMLINE_LOG.usage": {"router"},
    "$JS.API.CONSUMER.CREATE.BEAMLINE_EVENTS.name": {"router", "operator"},
    "$JS.API.CONSUMER.MSG.NEXT.BEAMLINE_USAGE.name": {"router", "operator"},
    "$JS.API.CONSUMER.CREATE.OTHER.name": set(),
    "$JS.API.ACCOUNT.PURGE.BEAMLINE": set(),
    "$JS.ACK.BEAMLINE_LOG.usage.1.1.1.1.0": {"router"},
    "$JS.ACK._.hash.BEAMLINE_LOG.usage.1.1.1.1.0": {"router"},
    "$JS.ACK.BEAMLINE_EVENTS.name.1.1.1.1.0": {"operator"},
    "$JS.FC.BEAMLINE_LOG.name.x": {"router"},
    "$JS.FC._.hash.BEAMLINE_LOG.name.x": {"router"},
    "$SYS.REQ.SERVER.PING": set(),
}

SUBSCRIBE = {
    ">": set(),
    "beamline.>": set(),
    "beamline.router.v1.decide": {"router"},
    "beamline.router.v1.tenant.*.decide": {"router"},
    "beamline.router.v1.tenant.acme.decide": {"router"},
    "beamline.router.v1.decide.reply": {"gateway"},
    "beamline.router.control.v1.>": {"router"},
    "beamline.router.v1.events.>": {"operator"},
    "beamline.router.v1.log.>": set(),
    "beamline.usage.v1.metered": {"operator"},
    "caf.exec.assign.>": {"executor"},
    "caf.exec.assign.v1": {"executor"},
    "caf.exec.assign.v1.acme": {"executor"},
    "caf.exec.assign.v1.ack": {"router"},
    "caf.exec.assign.v1.ack.*": {"router"},
    "caf.exec.assign.v1.ack.acme": {"router"},
    "caf.exec.result.v1": set(),
    "caf.exec.result.v1.acme": set(),
    "_INBOX.>": set(),
    "_INBOX.*": set(),
    "_INBOX.router.>": {"router"},
    "_INBOX.acme.>": {"acme"},
    "_INBOX.gateway.>": {"gateway"},
    "_INBOX.operator.>": {"operator"},
    "_INBOX.executor.>": {"executor"},
    "$KV.BEAMLINE_POLICIES.>": set(),
    "$SRV.>": {"router"},
    "$JS.EVENT.ADVISORY.>": set(),
    "$SYS.>": set(),
}


async def matrix(url, identities):
    """Every subject as every user. Returns how many pairs were tried."""
    faults, tried = [], 0
    for user in USERS:
        async with Client.of(url, user, identities) as client:
            for verb, table in (("publish", PUBLISH), ("subscribe", SUBSCRIBE)):
                for subject, allowed in table.items():
                    if verb == "publish":
                        await client.nc.publish(subject, b"")
                    else:
                        subscription = await client.nc.subscribe(subject)
                    errors = await client.refusals()
                    if verb == "subscribe":
                        await subscription.unsubscribe()
                    tried += 1
                    if bool(errors) != (user not in allowed):
                        got = "was refused" if errors else "was let through"
                        faults.append(f"{user} {got}: {verb} {subject}")
    if faults:
        raise Fault("\n  ".join(["rights differ from the table:", *faults]))
    return tried
