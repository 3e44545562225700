"""Signatures with SSH keys, as `ssh-keygen -Y` makes and checks them.

The format is OpenSSH's PROTOCOL.sshsig. A signature is checked with what it says
of itself; whether its key is anybody's is told by `signers`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from cloudrun.errors import BadData

# What a signature is for: one of another purpose is none of a report.
NAMESPACE = "cloudrun-report"
MOST_BYTES = 16_384
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_MAGIC, _VERSION = b"SSHSIG", 1
_HASHES = {"sha256": hashlib.sha256, "sha512": hashlib.sha512}
# SHA-1, which an RSA key would take by itself, is broken.
_RSA_HASH = "rsa-sha2-512"
_WIDTH = 76


class Key(Protocol):
    """A private key, as paramiko has it: in a file, or in an agent."""

    def get_name(self) -> str: ...  # noqa: D102
    def asbytes(self) -> bytes: ...  # noqa: D102
    def sign_ssh_data(self, data: bytes, algorithm: str | None = None) -> Any: ...  # noqa: D102


class Signature(NamedTuple):
    """A signature that was read: the public key in SSH's format, the hash's name, the rest."""

    key: bytes
    namespace: str
    hash_name: str
    algorithm: str
    value: bytes


def sign(data: bytes, key: Key) -> bytes:
    """Sign what a file holds; gives what belongs into the file beside it."""
    algorithm = _RSA_HASH if key.get_name() == "ssh-rsa" else None
    made = key.sign_ssh_data(_to_sign(data, NAMESPACE, "sha512"), algorithm)
    # An agent gives bytes, a key of a file a message.
    value = made if isinstance(made, bytes) else made.asbytes()
    head = _MAGIC + struct.pack(">I", _VERSION)
    blob = head + _strings(key.asbytes(), NAMESPACE.encode(), b"", b"sha512", value)
    text = base64.b64encode(blob).decode()
    lines = [text[at : at + _WIDTH] for at in range(0, len(text), _WIDTH)]
    return "\n".join([_BEGIN, *lines, _END, ""]).encode()


def _to_sign(data: bytes, namespace: str, hash_name: str) -> bytes:
    digest = _HASHES[hash_name](data).digest()
    return _MAGIC + _strings(namespace.encode(), b"", hash_name.encode(), digest)


def _strings(*parts: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def read(armored: bytes, name: str) -> Signature:
    """Read a signature; `name` is what an error calls it.

    Raises:
        BadData: it is none, or one that this version does not know.
    """
    try:
        return _read(armored)
    except (ValueError, struct.error, binascii.Error, UnicodeDecodeError) as error:
        raise BadData(
            f"The signature {name} cannot be read.",
            f"{str(error).rstrip('.')}.",
            "Let it be made again: cloudrun report sign",
        ) from error


def _read(armored: bytes) -> Signature:
    if len(armored) > MOST_BYTES:
        raise ValueError("It is too large")
    lines = armored.decode("ascii").split()
    text = " ".join(lines)
    if not (text.startswith(_BEGIN) and text.endswith(_END)):
        raise ValueError("It does not begin and end as one")
    inner = text.removeprefix(_BEGIN).removesuffix(_END)
    blob = base64.b64decode(inner.replace(" ", ""), validate=True)
    if not blob.startswith(_MAGIC) or blob[6:10] != struct.pack(">I", _VERSION):
        raise ValueError("It is of another version")
    key, namespace, _, hash_name, signature = _parts(blob[10:], 5)
    algorithm, value = _parts(signature, 2)
    if hash_name.decode() not in _HASHES:
        raise ValueError("It is made with a hash that is not allowed")
    return Signature(key, namespace.decode(), hash_name.decode(), algorithm.decode(), value)


def _parts(blob: bytes, count: int) -> Sequence[bytes]:
    """The strings of SSH's format that a blob consists of."""
    parts = []
    for _ in range(count):
        (length,) = struct.unpack_from(">I", blob)
        if len(blob) < 4 + length:
            raise ValueError("It is cut off")
        parts.append(blob[4 : 4 + length])
        blob = blob[4 + length :]
    if blob:
        raise ValueError("There is more in it than belongs there")
    return parts


def check(data: bytes, signature: Signature, name: str) -> None:
    """Check that a signature is of these bytes, made with the key that it names.

    Raises:
        BadData: it is not, or is for another purpose, or of a kind of key that is not known.
    """
    if signature.namespace != NAMESPACE:
        raise BadData(
            f"The signature {name} is for '{signature.namespace[:60]}', not for a report.",
            "",
            f"Sign it with: ssh-keygen -Y sign -n {NAMESPACE}",
        )
    if not _is_of(_to_sign(data, NAMESPACE, signature.hash_name), signature):
        raise BadData(
            f"The signature {name} does not fit the report.",
            "One of the two was changed after it was signed.",
            "Take both anew from where they were made.",
        )


def _is_of(data: bytes, signature: Signature) -> bool:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    kind = key_type(signature.key)
    line = f"{kind} {base64.b64encode(signature.key).decode()}"
    try:
        _verify(load_ssh_public_key(line.encode()), kind, data, signature)
    except InvalidSignature:
        return False
    except (UnsupportedAlgorithm, ValueError, struct.error) as error:
        raise BadData(
            f"A signature was made with a key of the type '{kind[:60]}'.",
            "cloudrun cannot check that.",
            "Check it with: ssh-keygen -Y verify",
        ) from error
    return True


def _verify(public: Any, kind: str, data: bytes, signature: Signature) -> None:
    """Raise InvalidSignature, or ValueError where the kind of key is not known."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, utils

    if kind == "ssh-rsa":
        digest = {"rsa-sha2-512": hashes.SHA512(), "rsa-sha2-256": hashes.SHA256()}
        if signature.algorithm not in digest:
            raise InvalidSignature
        public.verify(signature.value, data, padding.PKCS1v15(), digest[signature.algorithm])
    elif signature.algorithm != kind:
        raise InvalidSignature
    elif kind == "ssh-ed25519":
        public.verify(signature.value, data)
    elif kind.startswith("ecdsa-sha2-nistp"):
        r, s = (int.from_bytes(part, "big") for part in _parts(signature.value, 2))
        size = public.curve.key_size
        digest_of = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}[size]
        public.verify(utils.encode_dss_signature(r, s), data, ec.ECDSA(digest_of))
    else:
        raise ValueError(kind)


def key_type(key: bytes) -> str:
    """The type that a public key says it is of: `ssh-ed25519`."""
    try:
        (length,) = struct.unpack_from(">I", key)
        return key[4 : 4 + length].decode("ascii")
    except (struct.error, UnicodeDecodeError):
        return "unknown"


def fingerprint(key: bytes) -> str:
    """A public key's fingerprint as `ssh-keygen -l` prints it: `SHA256:...`."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")
