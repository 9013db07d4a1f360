"""Which version a finished file gets in its folder, and when a published file is taken in its place."""

import contextlib
import itertools
from collections.abc import Collection, Iterable
from enum import Enum
from pathlib import Path

from protogen.errors import Damaged, IntegrityError, NotFound
from protogen.files.disk import link, settle, sync, temporary
from protogen.files.header import check_file, read_header
from protogen.files.names import artifact_path
from protogen.spec import Spec


class Existing(Enum):
    """Which published file of the same Spec is taken in the place of one that is to be published.

    ANY: whichever there is.
    SAME: one of the same content; beside other content the new file gets the next free version.
    ONLY_SAME: one of the same content; other content is an IntegrityError, since a formula gives one alone.
    """

    ANY = "any"
    SAME = "same"
    ONLY_SAME = "only same"


def first_that_serves(published: Iterable[Path], digest: str, take: Existing) -> Path | None:
    """Find the first of the published files of a Spec that is taken in the place of one of this content.

    Raises IntegrityError as `_serves`.
    """
    return next((path for path in published if _serves(path, digest, take)), None)


def give_version(
    unnamed: Path, root: Path, spec: Spec, first: int, others: Collection[int], digest: str, take: Existing
) -> Path:
    """Give a finished file of a store's folder its name, all at once; return the path that holds its content.

    - `unnamed`: the finished file, in the folder of its Spec under `root`; `digest` names its content.
    - `first`: the lowest version it may have. It gets the first from there that its key has, or may claim.
    - `others`: versions that files of other keys have.
    - `take`: which file, that another process publishes meanwhile, is taken instead.

    Raises IntegrityError as `_serves`, and OSError.
    """
    for version in itertools.count(first):
        path = root / artifact_path(spec, version)
        if version in others or not _claim(path.parent / ".claims", version, spec.key):
            continue
        if link(unnamed, path):
            return path
        settle(path)
        if _serves(path, digest, take):
            return path
    raise AssertionError("versions do not end")


def _serves(path: Path, digest: str, take: Existing) -> bool:
    """Whether a published file is taken in the place of one of this content; one that is gone meanwhile is not.

    Raises IntegrityError on other content where the same alone may be.
    """
    try:
        published = read_header(path).digest
    except (NotFound, IntegrityError):  # what is damaged hides nothing that is sound
        return False
    if take is Existing.ANY:
        return True
    if published == digest:
        with contextlib.suppress(NotFound, Damaged):  # gone meanwhile, or other bytes than the header says
            check_file(path)
            return True
    elif take is Existing.ONLY_SAME:
        raise IntegrityError(
            f"{path}: holds digest {published}, generated again it is {digest}",
            "a formula gives the same bytes everywhere: delete the file if it is not to be trusted, and report this",
        )
    return False


def _claim(claims: Path, version: int, key: str) -> bool:
    """Claim a version for a key, for ever; whether it is this key's, from now or from before."""
    claim = claims / str(version)
    if not claim.exists():
        with temporary(claims) as unnamed:
            unnamed.write_text(key)
            sync(unnamed)
            link(unnamed, claim)
        sync(claims)
    settle(claim)
    return claim.read_text() == key
