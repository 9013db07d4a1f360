"""Files that someone forged: their headers are as nobody writes them; tests and bench_store.py read them."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

ROW = 64 * 16 * 4  # bytes of the prototypes that a forged table names


def joined(text: str, data: bytes) -> bytes:
    header = text.encode("utf-8", "surrogatepass")
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data


def outer(table: Any, inner: str) -> str:
    return json.dumps({"__metadata__": {"format": "pt", "protogen": inner}, **table}, separators=(",", ":"))


def forged(table: Any, meta: Any, data: bytes, right: bool = True) -> bytes:
    """A file with these trees as `encode` would write them, and a check that is right, if they have one."""
    if right:
        plain = {name: value for name, value in meta.items() if name != "check"}
        text = json.dumps([table, plain], sort_keys=True, separators=(",", ":"))
        meta = {**plain, "check": hashlib.sha256(text.encode()).hexdigest()}
    return joined(outer(table, json.dumps(meta, sort_keys=True, separators=(",", ":"))), data)


def filled(longest: int, most: int, head: str, unit: str, tail: str) -> bytes:
    """A file that is a header of this length alone, of one unit again and again, with so many values at most."""
    count = (longest - len(head) - len(tail)) // len(unit.replace("N", 6 * "0").encode())
    values = sum(map(unit.count, ("[", "{", ":", ",", r"\u005b", r"\u002c")))
    count = min(count, (most - 20) // values) if values else count
    many = unit * count if "N" not in unit else "".join(unit.replace("N", f"{i:06d}") for i in range(count))
    text = head + many + tail
    return joined(text + " " * (longest - len(text.encode())), b"")


def with_facts(longest: int, most: int) -> bytes:
    """A header that is right but for what is missing, with as many values as it may have."""
    table = {"prototypes": {"dtype": "F32", "shape": [64, 16], "data_offsets": [0, ROW]}}
    count = min(most - 100, longest // 18)
    words = ["\u4e16" * ((longest - 1000) // count // 7 - 1)] * count  # 7 bytes each, and twice 2 quotes and a comma
    return forged(table, {"facts": {"words": words}, "schema": 1}, bytes(ROW))


CHAIN, OURS = "[" * 900 + "]" * 900 + ",", '{"__metadata__":{"protogen":"'
FILLS: dict[str, tuple[str, str, str]] = {
    "nested lists": ("", "[", ""),
    "chains of lists": ("[", CHAIN, "0]"),
    "short lists": ("[", "[],", "0]"),
    "numbers": ("[", "257,", "0]"),
    "floats": ("[", "1.5,", "0]"),
    "one number": ("[", "9", "]"),
    "one float": ("[1.", "9", "]"),
    "one string": ('{"', "x", '":{}}'),
    "one wide string": ('{"', "\U0001f600", '":{}}'),
    "one string of line feeds": (OURS, r"\n", '"}}'),
    "short strings": ("[", '"\u4e16",', "0]"),
    "keys": ("{", '"N":0,', '"":0}'),
    "inner keys": (f"{OURS}{{", r"\"N\":0,", r'\"\":0}"}}'),
    "tensors": ("{", '"N":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},', '"__metadata__":{}}'),
    "one shape": ('{"x":{"dtype":"F32","data_offsets":[0,0],"shape":[', "9" * 18 + ",", "0]}}"),
    "inner chains": (f"{OURS}[", CHAIN, '0]"}}'),
    "inner chains in escapes": (f"{OURS}[", r"\u005b\u005d\u002c", '0]"}}'),
    "inner strings": (f"{OURS}[", r"\"ab\",", '0]"}}'),
    "inner string": (OURS + r"{\"schema\":\"", "x", r"\"}" + '"}}'),
}
HUGE: dict[str, Callable[[int, int], bytes]] = {
    **{name: lambda longest, most, fill=fill: filled(longest, most, *fill) for name, fill in FILLS.items()},
    "facts": with_facts,
}
