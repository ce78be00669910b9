#!/usr/bin/env python3
"""Accounts of the broker with a user for each tenant, made offline: no server has to know of a new tenant.

    tenants.py init DIR                     makes all keys, and DIR/accounts.conf for the servers
    tenants.py add DIR ROLE NAME [--days N] makes a user: prints the path of its credentials file
    tenants.py revoke DIR ROLE NAME [--keep-newest]
                                            takes back what add gave to that name, all or all but the last
    tenants.py rekey DIR ROLE               gives a role a new signing key: all of its users end, and are added anew
    tenants.py refresh DIR                  writes DIR/accounts.conf anew, after a change in users/ or here

After revoke, rekey and refresh the servers need the new DIR/accounts.conf, and a reload. ROLE is one of

    router, operator, executor, gateway     with the rights of the file in users/
    tenant                                  NAME is the tenant: its decide subject alone
    tenant-executor                         NAME is the tenant: its assignments, acks and results alone

Each role has a signing key of its own in DIR/signing, to which the server binds the rights: a user's token names
none. So a role's key makes users of that role and no others, and rights are changed in one place. DIR/keys are needed
for init, revoke, rekey and refresh only: keep them apart. Needs PyNaCl (pip install pynacl).
"""

import argparse
import json
import os
import pathlib
import re
import sys
import time

from nats_jwt import Key, credentials, token

HERE = pathlib.Path(__file__).resolve().parent
NANOS = 1_000_000_000

# What the routers' account exports, by how it is called here: kind, subject, seconds for an answer. The server refuses
# exports of one kind that lie in each other.
EXPORTS = {
    "decide": ("service", "beamline.router.v1.decide", 30),
    "tenant decide": ("service", "beamline.router.v1.tenant.*.decide", 30),
    "shared answers": ("stream", "beamline.router.v1.decide.reply", None),
    "results": ("service", "caf.exec.result.v1", 30),
    "tenant results": ("service", "caf.exec.result.v1.*", 30),
    "acks": ("service", "caf.exec.assign.v1.ack", 1),
    "tenant acks": ("service", "caf.exec.assign.v1.ack.*", 1),
    "assignments": ("stream", "caf.exec.assign.>", None),
    "events": ("stream", "beamline.router.v1.events.>", None),
    "usage": ("stream", "beamline.usage.v1.metered", None),
}

# Account: its roles, and what it imports. Where tenants are bound it imports no literal subject, since an answer
# could be made to come there.
ACCOUNTS = {
    "BEAMLINE": (["router", "operator"], []),
    "EXECUTORS": (["executor"], ["results", "tenant results", "acks", "tenant acks", "assignments"]),
    "TENANT_EXECUTORS": (["tenant-executor"], ["tenant results", "tenant acks", "assignments"]),
    "TENANTS": (["tenant"], ["tenant decide"]),
    "GATEWAYS": (["gateway"], ["decide", "tenant decide", "shared answers"]),
    "SYS": ([], []),
}

# The server puts the user's name into these.
BOUND = {
    "tenant": {
        "sub": {"allow": ["_INBOX.{{name()}}.>"]},
        "pub": {"allow": ["beamline.router.v1.tenant.{{name()}}.decide"]},
    },
    "tenant-executor": {
        "sub": {"allow": ["_INBOX.{{name()}}.>", "caf.exec.assign.v1.{{name()}}"]},
        "pub": {"allow": ["caf.exec.assign.v1.ack.{{name()}}", "caf.exec.result.v1.{{name()}}"]},
    },
}

ROLES = {role: account for account, (roles, _) in ACCOUNTS.items() for role in roles}


def permissions(role):
    """The rights of a role, from users/ where they are not bound to a tenant."""
    if role in BOUND:
        return BOUND[role]
    text = re.sub(r"^\s*#.*$", "", (HERE / "users" / f"{role}.conf").read_text(), flags=re.MULTILINE)
    rights = {}
    for verb, key in (("subscribe", "sub"), ("publish", "pub")):
        found = re.search(rf"\b{verb}:\s*(\{{.*?\}}|\[.*?\]|\"[^\"]*\")", text, re.DOTALL).group(1)
        allowed, _, denied = found.partition("deny:")
        rights[key] = {"allow": re.findall(r'"([^"]+)"', allowed)}
        if denied:
            rights[key]["deny"] = re.findall(r'"([^"]+)"', denied)
    return rights


class Folder:
    """All keys, and what was given to whom."""

    def __init__(self, path):
        self.path = pathlib.Path(path)

    def write(self, name, text):
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = path.with_name(path.name + ".new")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
        fresh.replace(path)
        return path

    def key(self, name):
        return Key.of_seed((self.path / name).read_text().strip())

    def state(self):
        return json.loads((self.path / "issued.json").read_text())

    def save(self, state):
        self.write("issued.json", json.dumps(state, indent=1) + "\n")

    def refresh(self):
        """accounts.conf: the operator's token, and one of each account with its roles, imports and revocations."""
        operator = self.key("keys/operator.nk")
        accounts = {name: self.key(f"keys/{name}.nk") for name in ACCOUNTS}
        revoked = {name: {} for name in ACCOUNTS}
        for user in self.state():
            # What has expired needs no revocation.
            if user.get("revoked") and (user.get("expires") or float("inf")) > time.time():
                revoked[ROLES[user["role"]]][user["public"]] = user["revoked"]
        tokens = {
            accounts[name].public: token(operator, accounts[name].public, name, self.claims(name, accounts, revoked[name]))
            for name in ACCOUNTS
        }
        signed = (self.path / "operator.jwt").read_text().strip()
        preload = "".join(f"  {public}: {jwt}\n" for public, jwt in tokens.items())
        return self.write("accounts.conf", f"# Made by tenants.py.\noperator: {signed}\n"
                          f"system_account: {accounts['SYS'].public}\nresolver: MEMORY\nresolver_preload: {{\n{preload}}}\n")

    def claims(self, name, accounts, revoked):
        roles, imports = ACCOUNTS[name]
        scopes = [
            {"kind": "user_scope", "role": role, "key": self.key(f"signing/{role}.nk").public,
             "template": {**permissions(role), "subs": -1, "data": -1, "payload": -1}}
            for role in roles
        ]
        everything = ("subs", "data", "payload", "imports", "exports", "conn", "leaf")
        limits = {**dict.fromkeys(everything, -1), "wildcards": True}
        if name == "BEAMLINE":
            limits |= dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)
        claims = {"type": "account", "limits": limits, "signing_keys": scopes, "revocations": revoked}
        if name == "BEAMLINE":
            claims["exports"] = [
                {"name": called, "subject": subject, "type": kind,
                 **({"response_type": "Singleton", "response_threshold": seconds * NANOS} if seconds else {})}
                for called, (kind, subject, seconds) in EXPORTS.items()
            ]
        if imports:
            claims["imports"] = [
                {"name": called, "subject": EXPORTS[called][1], "type": EXPORTS[called][0],
                 "account": accounts["BEAMLINE"].public}
                for called in imports
            ]
        return claims


def init(folder):
    if (folder.path / "issued.json").exists():
        sys.exit(f"tenants: {folder.path} has keys already")
    folder.write("keys/operator.nk", Key.new("operator").seed + "\n")
    for account in ACCOUNTS:
        folder.write(f"keys/{account}.nk", Key.new("account").seed + "\n")
        folder.write(f"account-ids/{account}", folder.key(f"keys/{account}.nk").public + "\n")
    operator, system = folder.key("keys/operator.nk"), folder.key("keys/SYS.nk")
    claims = {"type": "operator", "system_account": system.public}
    # Once and for all: the server takes no other operator's token at a reload.
    folder.write("operator.jwt", token(operator, operator.public, "beamline", claims) + "\n")
    for role in ROLES:
        folder.write(f"signing/{role}.nk", Key.new("account").seed + "\n")
    folder.save([])
    print(folder.refresh())


def add(folder, role, name, days):
    # A dot would end the token of a subject; a tenant "ack" would be named where acks are.
    if not re.fullmatch(r"[A-Za-z0-9_:-]{1,255}", name) or role in BOUND and name == "ack":
        sys.exit(f"tenants: {name!r} cannot be a user's name: want letters, digits, _ : -, and not \"ack\"")
    user, expires = Key.new("user"), int(time.time()) + days * 86_400 if days else None
    account = (folder.path / "account-ids" / ROLES[role]).read_text().strip()
    jwt = token(folder.key(f"signing/{role}.nk"), user.public, name, {"type": "user", "issuer_account": account}, expires)
    folder.save([*folder.state(), {"role": role, "name": name, "public": user.public, "expires": expires}])
    print(folder.write(f"creds/{role}/{name}.creds", credentials(jwt, user)))


def revoke(folder, role, name, keep_newest):
    state = folder.state()
    given = [user for user in state if (user["role"], user["name"]) == (role, name)]
    taken = [user for user in (given[:-1] if keep_newest else given) if not user.get("revoked")]
    if not taken:
        sys.exit(f"tenants: nothing of {role} {name} is left to revoke")
    for user in taken:
        user["revoked"] = int(time.time())
    folder.save(state)
    print(folder.refresh())


def rekey(folder, role):
    folder.write(f"signing/{role}.nk", Key.new("account").seed + "\n")
    # What the old key signed is no user any more, and needs no revocation.
    folder.save([user for user in folder.state() if user["role"] != role])
    print(folder.refresh())


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("init", "add", "revoke", "rekey", "refresh"):
        one = verbs.add_parser(verb)
        one.add_argument("folder", type=Folder)
        if verb in ("add", "revoke", "rekey"):
            one.add_argument("role", choices=ROLES)
        if verb in ("add", "revoke"):
            one.add_argument("name")
        if verb == "add":
            one.add_argument("--days", type=int, help="how long the credentials are good; without, for ever")
        if verb == "revoke":
            one.add_argument("--keep-newest", action="store_true", help="leave what was added last")
    given = vars(parser.parse_args(arguments))
    verb, folder = given.pop("verb"), given.pop("folder")
    if verb == "refresh":
        print(folder.refresh())
    else:
        {"init": init, "add": add, "revoke": revoke, "rekey": rekey}[verb](folder, **given)


if __name__ == "__main__":
    main(sys.argv[1:])
