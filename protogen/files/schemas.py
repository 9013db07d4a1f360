"""What a file of each schema says: the names in its records, for ever.

A new figure, fact or piece of provenance is a field with the default None in its record, and a name in a new
schema here. A file of an older schema then reads with None for it. A schema that was released never changes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from protogen.measuring.stats import AngleStats

from .facts import Facts
from .provenance import Provenance
from .records import from_json


@dataclass(frozen=True)
class Schema:
    """The names that the records of a file have; of `facts` those that are checked, beside any others."""

    stats: frozenset[str]
    facts: frozenset[str]
    provenance: frozenset[str]

    def read_stats(self, values: Any) -> AngleStats:
        """Read statistics. Raises ValueError on any others than `AngleStats.to_dict` gives."""
        return from_json(AngleStats, values, {AngleStats: self.stats})

    def read_facts(self, values: Any) -> Facts:
        """Read facts; those that the schema does not name are kept as they are. Raises ValueError."""
        if type(values) is not dict:
            raise ValueError(f"facts are {values!r}, needed is an object")
        known = {name: value for name, value in values.items() if name in self.facts}
        if None in known.values():
            raise ValueError("a fact is null, which is left out where it does not apply")
        more = {name: value for name, value in values.items() if name not in self.facts}
        facts = from_json(Facts, known, {Facts: known.keys(), AngleStats: self.stats})
        return facts.with_more(more)

    def read_provenance(self, values: Any) -> Provenance:
        """Read where a set comes from. Raises ValueError."""
        return from_json(Provenance, values, {Provenance: self.provenance})


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_FIRST = Schema(
    stats=_words(
        "pairs max_cos min_cos coherence min_angle_points_deg min_angle_lines_deg mean_deviation_deg mean_cos "
        "std_cos mean_nearest_cos_points mean_nearest_cos_lines frame_potential frame_potential_min uniformity_t2 "
        "duplicate_pairs antipodal_pairs error_bound histogram"
    ),
    facts=_words(
        "closed_form construction guaranteed_coherence guaranteed_max_cos outdone own_d phi phi_deg extended_n "
        "norms center_norms subcenter_norms within_class"
    ),
    provenance=_words("protogen torch python device threads steps seconds created status reproducible"),
)
_SECOND = Schema(_FIRST.stats, _FIRST.facts | {"jammed", "orbits", "group"}, _FIRST.provenance)
SCHEMAS: Mapping[int, Schema] = {1: _FIRST, 2: _SECOND}
SCHEMA = max(SCHEMAS)  # of the files that are written
