"""A nats-server under test, and connections as its users."""

import asyncio
import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

NATS = pathlib.Path(__file__).resolve().parent.parent
ROOT = NATS.parent.parent
sys.path.insert(0, str(ROOT / ".tools" / "python"))

import nats  # noqa: E402

WAIT = 10  # seconds, for anything that must come

USERS = {
    "router": "NATS_ROUTER_PASSWORD",
    "operator": "NATS_OPERATOR_PASSWORD",
    "executor": "NATS_EXECUTOR_PASSWORD",
    "gateway": "NATS_GATEWAY_PASSWORD",
    "acme": "NATS_TENANT_ACME_PASSWORD",
}


def by_password(passwords):
    """What makes a connection each of USERS, and each spy of with_spies()."""
    users = {user: {"user": user, "password": passwords[variable]} for user, variable in USERS.items()}
    spies = {spy: {"user": user, "password": "spy"} for spy, user in (
        ("spy", "SPY_BEAMLINE"), ("listener", "SPY_LISTENERS"))}
    return {**users, **spies}


class Fault(Exception):
    """Something is not as a table or a conversation wants it."""


def server_binary():
    """The server to test with: named by the environment, fetched by scripts/tools.py, or on PATH."""
    named = os.environ.get("NATS_SERVER_BIN")
    fetched = ROOT / ".tools" / "bin" / "nats-server"
    found = named or (str(fetched) if fetched.exists() else shutil.which("nats-server"))
    if not found:
        sys.exit("no nats-server; run scripts/tools.py test, or set NATS_SERVER_BIN")
    return found


def server_version(binary):
    out = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(int(n) for n in re.search(r"v(\d+)\.(\d+)\.(\d+)", out).groups())


@contextlib.contextmanager
def server(binary, config, variables):
    """Runs the server with the config under test; yields its URL."""
    with running(binary, config, variables) as (url, _):
        yield url


@contextlib.contextmanager
def running(binary, config, variables):
    """The same, and yields its process too."""
    with tempfile.TemporaryDirectory(prefix="beamline-nats-") as folder:
        log = pathlib.Path(folder, "log")
        with log.open("w") as sink:
            # Address, ports and folder are this test's; users and rights are the file's.
            process = subprocess.Popen(
                [binary, "-c", str(config), "-a", "127.0.0.1", "-p", "-1", "-m", "-1",
                 "--ports_file_dir", folder],
                stdout=sink, stderr=sink, env={**os.environ, **variables, "NATS_STORE_DIR": folder},
            )
        try:
            yield asyncio.run(wait_for_url(process, folder, log)), process
        finally:
            process.terminate()
            process.wait(WAIT)


async def wait_for_url(process, folder, log):
    for _ in range(WAIT * 50):
        if process.poll() is not None:
            raise Fault(f"nats-server did not start:\n{log.read_text()}")
        for ports in pathlib.Path(folder).glob("*.ports"):
            with contextlib.suppress(json.JSONDecodeError):
                return json.loads(ports.read_text())["nats"][0]
        await asyncio.sleep(0.02)
    raise Fault("nats-server named no port")


class Client:
    """A connection as one user, which collects the server's permission errors."""

    def __init__(self, url, name, inbox=None, **identity):
        self.url, self.user, self.identity = url, name, identity
        self.inbox = inbox or f"_INBOX.{name}"
        self.errors = []

    @classmethod
    def of(cls, url, user, identities, inbox=None):
        """One of the users, by what makes it that one."""
        return cls(url, user, inbox, **identities[user])

    async def __aenter__(self):
        async def on_error(error):
            self.errors.append(str(error))

        self.nc = await nats.connect(
            self.url, inbox_prefix=self.inbox, error_cb=on_error, allow_reconnect=False, connect_timeout=WAIT,
            **self.identity,
        )
        self.js = self.nc.jetstream(timeout=WAIT)
        return self

    async def __aexit__(self, *_):
        await self.nc.close()

    async def refusals(self):
        """The errors since the last call. The server answers in order, so a PONG comes after them; nats-py
        writes its PING before what is pending, so that only the second PONG speaks for it."""
        await self.nc.flush(WAIT)
        await self.nc.flush(WAIT)
        errors, self.errors = self.errors, []
        return errors

    async def must_be_clean(self, what):
        errors = await self.refusals()
        if errors:
            raise Fault(f"{what}: {self.user} was refused: {errors}")


def has_accounts(config):
    """Whether executors have an account of their own."""
    return "\n  EXECUTORS {\n" in config.read_text()


def with_spies(folder):
    """A copy of deploy/nats with one user more in each account, who may do everything there, and where there are
    accounts, one more that imports events and usage."""
    copy = pathlib.Path(folder, "nats")
    shutil.copytree(NATS, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for config in copy.glob("*.conf"):
        text, apart = config.read_text(), has_accounts(config)
        for account in re.findall(r"^  ([A-Z]+) \{$", text, re.MULTILINE):
            at = text.index("users: [", text.index(f"\n  {account} {{")) + len("users: [")
            text = f"{text[:at]}\n      {{ user: SPY_{account}, password: spy }}\n{text[at:]}"
        if apart:
            imports = ", ".join(f'{{ stream: {{ account: BEAMLINE, subject: "{subject}" }} }}' for subject in (
                "beamline.router.v1.events.>", "beamline.usage.v1.metered"))
            users = "users: [ { user: SPY_LISTENERS, password: spy } ]"
            text = text.replace("\naccounts {", f"\naccounts {{\n  LISTENERS {{ imports: [ {imports} ], {users} }}")
        config.write_text(text)
    return copy
