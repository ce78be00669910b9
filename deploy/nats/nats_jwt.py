"""Keys and tokens of NATS: nkeys (Ed25519), JWTs, credentials files. The formats are those of nsc.

Needs PyNaCl, which "scripts/tools.py test" fetches; by hand: pip install pynacl.
"""

import base64
import binascii
import hashlib
import json
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / ".tools" / "python"))

import nacl.signing  # noqa: E402

# The first byte of a public key says whose it is; the first two of a seed, too, so that it begins with SO, SA or SU.
PREFIXES = {"operator": 14 << 3, "account": 0, "user": 20 << 3}
SEED = 18 << 3


def base32(data):
    """With the checksum that nkeys end with, and without padding."""
    checked = data + binascii.crc_hqx(data, 0).to_bytes(2, "little")
    return base64.b32encode(checked).decode().rstrip("=")


def base64url(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Key:
    """A key pair."""

    def __init__(self, kind, raw):
        prefix = PREFIXES[kind]
        self.signing = nacl.signing.SigningKey(raw)
        self.public = base32(bytes([prefix]) + bytes(self.signing.verify_key))
        self.seed = base32(bytes([SEED | prefix >> 5, (prefix & 31) << 3]) + raw)

    @classmethod
    def new(cls, kind):
        return cls(kind, bytes(nacl.signing.SigningKey.generate()))

    @classmethod
    def of_seed(cls, seed):
        data = base64.b32decode(seed + "=" * (-len(seed) % 8))
        if binascii.crc_hqx(data[:-2], 0) != int.from_bytes(data[-2:], "little"):
            raise ValueError("the seed's checksum is wrong")
        prefix = (data[0] & 7) << 5 | data[1] >> 3
        return cls(next(kind for kind, value in PREFIXES.items() if value == prefix), data[2:-2])

    def sign(self, data):
        return self.signing.sign(data).signature


def token(issuer, subject, name, claims, expires=None):
    """A JWT that the issuer's key signs for the subject, a public key."""
    body = {"iat": int(time.time()), "iss": issuer.public, "name": name, "sub": subject, "nats": {**claims, "version": 2}}
    if expires:
        body["exp"] = int(expires)
    body["jti"] = base32(hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest())
    parts = [{"typ": "JWT", "alg": "ed25519-nkey"}, body]
    signed = ".".join(base64url(json.dumps(part, separators=(",", ":")).encode()) for part in parts)
    return f"{signed}.{base64url(issuer.sign(signed.encode()))}"


def credentials(jwt, key):
    """A credentials file, as every NATS client reads it."""
    return f"""-----BEGIN NATS USER JWT-----
{jwt}
------END NATS USER JWT------

Keep this file secret: who has the seed is this user.

-----BEGIN USER NKEY SEED-----
{key.seed}
------END USER NKEY SEED------
"""


def identity(text):
    """What nats.connect() of nats-py takes in place of a credentials file, for which it wants the package nkeys."""
    lines = text.splitlines()
    after = lambda head: lines[lines.index(f"-----BEGIN {head}-----") + 1]
    jwt, key = after("NATS USER JWT"), Key.of_seed(after("USER NKEY SEED"))
    sign = lambda nonce: base64.b64encode(key.sign(nonce.encode()))
    return {"user_jwt_cb": lambda: jwt.encode(), "signature_cb": sign}
