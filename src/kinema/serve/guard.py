"""Between the network and the application: who may come in, how much they may send, how often; and what browsers must not do."""

import hashlib
import hmac
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kinema.errors import InputError
from kinema.media.files import whole_file

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
COOKIE = "kinema_key"  # the page's way to hand over a key
LOCAL = ("127.0.0.1", "localhost", "::1")
KNOWN_CLIENTS = 10_000


class Keys:
    """API keys, of which only SHA-256 hashes are kept: one line a key, `hash name`, and a priority where it may ask for one above 0."""

    def __init__(self, path: Path):
        self.path = path

    def add(self, name: str, priority: int = 0) -> str:
        """A new key for `name`; it is shown now and never again. Raises InputError for a name with blanks.

        priority: the highest that jobs of `name` may ask for.
        """
        if not name.isprintable() or not name.split() == [name]:
            raise InputError(f"name={name!r} must be one printable word")
        key = f"kn-{secrets.token_urlsafe(24)}"
        lines = [*self.lines(), f"{hash_of(key)} {name} {priority}".removesuffix(" 0")]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(self.path) as draft:
            draft.write_text("\n".join(lines) + "\n", encoding="utf-8")
        self.path.chmod(0o600)
        return key

    def user(self, key: str) -> str | None:
        """Whose key this is."""
        wanted, found = hash_of(key), None
        for line in self.lines():
            known, name = line.split(" ")[:2]
            if hmac.compare_digest(known, wanted):
                found = name
        return found

    def priority(self, name: str) -> int:
        """The highest that any key of `name` allows."""
        rows = [line.split(" ") for line in self.lines()]
        return max((int(row[2]) for row in rows if row[1] == name and len(row) > 2), default=0)

    def lines(self) -> list[str]:
        return self.path.read_text(encoding="utf-8").split("\n")[:-1] if self.path.exists() else []


def hash_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@dataclass
class Bucket:
    """Tokens that fill up again: so many requests at once, so many a second afterwards."""

    size: float
    rate: float
    held: "OrderedDict[str, tuple[float, float]]" = field(default_factory=OrderedDict)

    def take(self, client: str, now: float | None = None) -> float:
        """0 where the client may go on; otherwise the seconds to wait."""
        now = time.monotonic() if now is None else now
        tokens, before = self.held.pop(client, (self.size, now))
        tokens = min(self.size, tokens + (now - before) * self.rate)
        allowed = tokens >= 1
        self.held[client] = (tokens - allowed, now)
        while len(self.held) > KNOWN_CLIENTS:
            self.held.popitem(last=False)
        return 0.0 if allowed else (1 - tokens) / self.rate


class BodyTooLargeError(Exception):
    """A request's body is over the limit."""


class Guard:
    """ASGI middleware: limits the body while it streams, turns other sites' pages away, and adds the security headers."""

    def __init__(self, app: App, largest: int, local: bool):
        """local: answer only under this machine's own names, so that no site can point a name of its own here."""
        self.app, self.largest, self.local = app, largest, local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        taken, begun = 0, False

        async def counted() -> MutableMapping[str, Any]:
            nonlocal taken
            message = await receive()
            if message["type"] == "http.disconnect":
                return message
            taken += len(message.get("body", b""))
            if taken > self.largest:
                raise BodyTooLargeError
            return message

        async def secured(message: MutableMapping[str, Any]) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                present = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(each for each in HEADERS if each[0] not in present)]
            await send(message)

        try:
            if announced(scope) > self.largest:
                raise BodyTooLargeError
            if foreign(scope, self.local):
                return await refuse(secured, 403, "this request comes from another site's page, or under a name that is not this server's")
            return await self.app(scope, counted, secured)
        except BodyTooLargeError:
            if begun:
                raise
            return await refuse(secured, 413, f"the request is larger than {self.largest} bytes")


def announced(scope: Scope) -> int:
    """The length that the client announces; 0 where it says none, or nonsense."""
    length = dict(scope["headers"]).get(b"content-length", b"0")
    return int(length) if length.isdigit() else 0


def foreign(scope: Scope, local: bool) -> bool:
    """Whether a browser sends this for another site's page, or came here by a strange name."""
    headers = dict(scope["headers"])
    host, origin = (headers.get(name, b"").decode("latin-1") for name in (b"host", b"origin"))
    try:
        strange = local and urlsplit(f"//{host}").hostname not in LOCAL
        return strange or (bool(origin) and urlsplit(origin).netloc != host)
    except ValueError:  # not an address at all
        return True


async def refuse(send: Send, status: int, message: str) -> None:
    body = json.dumps({"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
