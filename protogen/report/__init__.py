"""What is said of artifacts, closed forms and searches: records for machines, the same in lines for people."""

from .lines import artifact_lines, bound_lines, capacity_lines, entry_lines, listing_lines, megabytes, stats_lines
from .planned import plan_lines
from .record import compare, entry_of, listing, record_of

__all__ = [
    "artifact_lines",
    "bound_lines",
    "capacity_lines",
    "compare",
    "entry_lines",
    "entry_of",
    "listing",
    "listing_lines",
    "megabytes",
    "plan_lines",
    "record_of",
    "stats_lines",
]
