"""Addresses of files: their parts, and what of them may be seen by others."""

import re
from pathlib import PurePath
from urllib.parse import unquote

HTTP = ("http", "https")
PROTOCOLS = ("file", *HTTP, "s3", "gs", "hf")

_ADDRESS = re.compile(r"\w[\w+.-]*://[^\s'\"<>]+")
_QUERY = re.compile(r"\?[^\s'\"<>()?]*=[^\s'\"<>()]*")  # of an address of which the begin is missing


def protocol_of(url: str) -> str:
    """Say the protocol of a URL; a path is a file's."""
    return url.partition("://")[0] if "://" in url else "file"


def trimmed(url: str) -> str:
    """A URL whose path ends in no slash."""
    place, mark, query = _cut(url)
    return place.rstrip("/") + mark + query


def with_path(url: str, name: str) -> str:
    """Go on in the path of a URL; what stands behind the path of an http address, as a signature, stays behind it."""
    place, mark, query = _cut(url)
    return f"{place.rstrip('/')}/{name}{mark}{query}"


def path_of(url: str) -> PurePath:
    """The URL as a path, whose last parts are those of a store."""
    return PurePath(_cut(url)[0])


def place_of(url: str, parts: int) -> str:
    """The URL without the last parts of its path."""
    place, mark, query = _cut(url)
    return re.sub(rf"(/+[^/]+){{{parts}}}$", "", place) + mark + query


def shown(url: str) -> str:
    """A URL without what others may not see: user and password, and whatever stands behind the path.

    A password with characters that none may have in an address, as / # ? @, is recognised by the @ behind it.

    >>> shown("https://me:a/b?c@host/x?X-Amz-Signature=0123")
    'https://...@host/x'
    """
    protocol, mark, rest = url.partition("://")
    if not mark or protocol == "file":
        return url
    if owner := user_of(url):
        rest = rest[len(owner) + 1 :]
        rest = rest if re.fullmatch(r"[^/?#@]*", owner) else f"...@{rest}"
    return re.split(r"[?#]" if protocol in HTTP else r"\?[^?]*=", f"{protocol}://{rest}", maxsplit=1)[0]


def scrubbed(text: str, url: str) -> str:
    """What a library or a server says, without what `shown` leaves out, of this URL and of any in the text."""
    text = text.replace(url, shown(url))
    text = _QUERY.sub("?...", _ADDRESS.sub(lambda found: shown(found[0]), text))
    owner, query = user_of(url), _cut(url)[2]
    password = owner.partition(":")[2]
    secrets = {owner, password, *re.split(r"[/?#@]", password), query}
    secrets |= {value for part in query.split("&") if len(value := part.partition("=")[2]) > 3}
    for secret in sorted(filter(None, secrets | set(map(unquote, secrets))), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "...", text)
    return text


def user_of(url: str) -> str:
    """User and password in a URL, or nothing."""
    rest = url.partition("://")[2]
    host = re.sub(r"\[[^\]]*\]", "", re.split(r"[/?#]", rest, maxsplit=1)[0])
    return rest.rpartition("@")[0] if "@" in host or ":" in host else ""


def _cut(url: str) -> tuple[str, str, str]:
    """Cut an http address before its query or fragment: what is before, the mark, what is behind."""
    match = re.search(r"[?#]", url) if protocol_of(url) in HTTP else None
    return (url[: match.start()], match[0], url[match.end() :]) if match else (url, "", "")
