"""Points that are sections of the Leech lattice."""

from dataclasses import dataclass
from typing import ClassVar

from ..direct.sections import Sections


@dataclass(frozen=True)
class SectionPoints(Sections):
    """n points in R^d that are a section of the Leech lattice, whose largest cosine is lower than of other forms."""

    family: ClassVar[str] = "section-points"
    lines: ClassVar[bool] = False
