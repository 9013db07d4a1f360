"""What a search costs, in multiplications, and how many of these a word allows."""

from typing import Literal, get_args

Effort = Literal["low", "default", "high"]
EFFORTS = get_args(Effort)
BUDGETS = {"low": 6e9, "default": 8e10, "high": 4e11}  # multiplications; a core does about 2 10^9 a second
START_SHARE, KNOWN_SHARE = 0.15, 0.17  # of the effort, for random starts, and for those from closed forms
START_EVALUATIONS = 700  # that a start takes, about
MOST_STARTS, MOST_KNOWN, MOST_PAIRS = 512, 128, 2**23  # of a batch
# Multiplications that a core does while torch is called for one evaluation of a batch, which takes 1 to 1.5 ms. At half
# as much the smallest sizes took longest: lines (7, 18) twice as long, for the same set.
OVERHEAD = 2e6


def evaluation_cost(d: int, n: int) -> float:
    """Count the multiplications of one evaluation of n rows in R^d, and of the step that it leads to.

    The Gram matrix and the gradient take n^2 d each, the exponentials about as much as 12 a pair, and L-BFGS 40
    numbers a coordinate.
    """
    return n * n * (2.0 * d + 12) + 40.0 * n * d


def program_cost(d: int, n: int) -> float:
    """Count the multiplications of one linear program of a polish, as measured: 3 times the cube of its variables."""
    return 3.0 * float(n * (d - 1)) ** 3


def starts(d: int, n: int, effort: str) -> int:
    """How many random starts a search makes at once: what a share of the effort allows, at least one."""
    return sets_for(START_SHARE * BUDGETS[effort] / START_EVALUATIONS, d, n, MOST_STARTS)


def known_sets(d: int, n: int, effort: str) -> int:
    """How many sets are made of closed forms, where there are some."""
    return sets_for(KNOWN_SHARE * BUDGETS[effort] / START_EVALUATIONS, d, n, MOST_KNOWN)


def sets_for(allowed: float, d: int, n: int, most: int) -> int:
    """How many sets descend at once, where an evaluation of all may cost so much; at least one.

    They are also as many as cost no more than the calls of torch themselves.
    """
    each = evaluation_cost(d, n)
    afforded = int(max(allowed - OVERHEAD, OVERHEAD) / each)
    return max(1, min(afforded, most, MOST_PAIRS // (n * n)))


# What groups and symmetric sets take for each vector, as measured at lines (12, 200): groups are no larger for more.
SYMMETRIC_BYTES, MOST_SYMMETRIC = 6 * 2**20, 200


def search_bytes(d: int, n: int, effort: str) -> int:
    """Estimate the memory of a search.

    Of each set it holds the Gram matrix six times and the rows 36 times; programs and symmetric sets are beside.
    """
    sets = max(64 if 64 * n * n <= MOST_PAIRS else 1, starts(d, n, effort) + known_sets(d, n, effort))
    return 8 * sets * (6 * n * n + 36 * n * d) + 2**28 + SYMMETRIC_BYTES * min(n, MOST_SYMMETRIC)
