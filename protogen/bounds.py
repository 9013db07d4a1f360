"""What no set of n unit vectors in R^d can beat: lower bounds on cosines, and upper bounds on n.

Lines are measured by their coherence, max |<w_i, w_j>|; points by their largest cosine, max <w_i, w_j>.
"""

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass

from .errors import BadRequest

LARGEST = 10**12  # of d and n; a limit on n that lies above it counts as none
TOLERANCE = 1e-6  # reached is coherence <= alpha + TOLERANCE, refused alpha < bound - TOLERANCE
SLACK = 1e-13  # up to which a cosine counts as known where a limit on n is asked for

_WELCH = "Welch 1974, Lower bounds on the maximum cross correlation of signals"
_ORTHOPLEX = "Conway, Hardin and Sloane 1996, Packing lines, planes, etc. (after Rankin 1955)"
_BUKH_COX = "Bukh and Cox 2020, Nearly orthogonal vectors and small antipodal spherical codes"
_RANKIN = "Rankin 1955, The closest packing of spherical caps in n dimensions"
_LEVENSHTEIN = "Levenshtein 1998, Universal bounds for codes and designs"
_ELEMENTARY = "elementary"


@dataclass(frozen=True)
class Bound:
    """A lower bound on a cosine: its name, the value, the range it is valid in, and the literature."""

    name: str
    value: float
    validity: str
    source: str


@dataclass(frozen=True)
class Limit:
    """An upper bound on n: its name, the value, the range it is valid in, and the literature."""

    name: str
    n: int
    validity: str
    source: str


def line_bounds(d: int, n: int) -> list[Bound]:
    """List the lower bounds on the coherence of n lines in R^d, the largest first.

    Valid for d and n from 1 to 10^12; for n <= d (a single line, which has no pair, among them) the one
    entry is the exact value 0. Raises BadRequest outside. Sources: see each entry.

    >>> import protogen
    >>> best = protogen.line_bounds(7, 28)[0]
    >>> best.name, round(best.value, 6)
    ('Welch', 0.333333)
    """
    _check("dimension d", d, 1, LARGEST)
    _check("number of lines n", n, 1, LARGEST)
    if n <= d:
        return [Bound("orthonormal", 0.0, "n <= d", _ELEMENTARY)]
    bounds = [Bound("Welch", math.sqrt((n - d) / (d * (n - 1))), "n > d", _WELCH)]
    if n > d * (d + 1) // 2:
        bounds.append(Bound("orthoplex", 1 / math.sqrt(d), "n > d(d+1)/2", _ORTHOPLEX))
    if n - d <= _bukh_cox_reach(d):
        bounds.append(Bound("Bukh-Cox", _bukh_cox(d, n - d), "n = d+k, k >= 1, k(k-1) < 2d", _BUKH_COX))
    bounds += _levenshtein_bounds(d, n, lines=True)
    return sorted(bounds, key=lambda bound: -bound.value)


def point_bounds(d: int, n: int) -> list[Bound]:
    """List the lower bounds on the largest cosine of n points on the sphere of R^d, the largest first.

    Valid for d and n from 1 to 10^12; a single point has no pair, and its one entry is -1. Raises
    BadRequest outside. Sources: see each entry.

    >>> import protogen
    >>> best = protogen.point_bounds(3, 4)[0]
    >>> best.name, round(best.value, 6)
    ('Rankin', -0.333333)
    """
    _check("dimension d", d, 1, LARGEST)
    _check("number of points n", n, 1, LARGEST)
    if n == 1:
        return [Bound("no pairs", -1.0, "n = 1", _ELEMENTARY)]
    if n <= d + 1:
        return [Bound("Rankin", -1 / (n - 1), "n <= d+1", _RANKIN)]
    if d == 1:
        return [Bound("pigeonhole", 1.0, "d = 1, n > 2", _ELEMENTARY)]
    bounds = [Bound("Rankin", 0.0, "n >= d+2, exact for n <= 2d", _RANKIN)]
    bounds += _levenshtein_bounds(d, n, lines=False)
    return sorted(bounds, key=lambda bound: -bound.value)


def coherence_bound(d: int, n: int) -> Bound:
    """Return the best lower bound on the coherence of n lines in R^d, the first of `line_bounds`.

    The six diagonals of the icosahedron meet the bound of Welch:

    >>> coherence_bound(3, 6).name, round(coherence_bound(3, 6).value, 6)
    ('Welch', 0.447214)
    """
    return line_bounds(d, n)[0]


def max_cos_bound(d: int, n: int) -> Bound:
    """Return the best lower bound on the largest cosine of n points in R^d, the first of `point_bounds`.

    >>> max_cos_bound(3, 4)
    Bound(name='Rankin', value=-0.3333333333333333, validity='n <= d+1', source='Rankin 1955, ...')
    """
    return point_bounds(d, n)[0]


def may_meet_welch(d: int, n: int) -> bool:
    """Tell whether n > d lines in R^d may have all |cos| equal to the bound of Welch, as far as their numbers tell.

    An equiangular tight frame of n lines has another beside it, in R^(n-d). Neither has more lines than its dimension
    allows: n <= min(d (d+1)/2, (n-d)(n-d+1)/2). The frames in R^1 and R^(n-1), which always exist, are without that
    limit. Equiangular Basis Vectors, Section 3.3 and supplement, Eq. 2, print n < min(...), which would leave out the
    six diagonals of the icosahedron, and the simplex.

    >>> may_meet_welch(3, 6), may_meet_welch(3, 5), may_meet_welch(3, 4)
    (True, False, True)

    Raises BadRequest on sizes that none has. Source: Sustik, Tropp, Dhillon and Heath 2007.
    """
    _check("dimension d", d, 1, LARGEST)
    _check("number of lines n", n, 1, LARGEST)
    if n <= d:
        return False
    return d == 1 or n == d + 1 or n <= min(d * (d + 1) // 2, (n - d) * (n - d + 1) // 2)


def line_limits(d: int, mu: float) -> list[Limit]:
    """List the upper bounds on the number of lines of coherence at most mu in R^d, the smallest first.

    The bounds of `line_bounds` turned round, at mu + 1e-13 so that an exact mu that a float rounds down
    still gives its n. Those above 10^12 are left out, and there may be none. Valid for d from 1 to 10^12
    and 0 <= mu <= 1. Raises BadRequest outside. Sources: see each entry.
    """
    _check("dimension d", d, 1, LARGEST)
    _check("coherence mu", mu, 0, 1)
    cosine = mu + SLACK
    if cosine >= 1:
        return []
    limits = []
    if d * cosine**2 < 1:
        n = math.floor(d * (1 - cosine**2) / (1 - d * cosine**2))
        limits.append(Limit("Welch", n, "d mu^2 < 1", _WELCH))
        limits.append(Limit("orthoplex", d * (d + 1) // 2, "d mu^2 < 1", _ORTHOPLEX))
    reach = _bukh_cox_reach(d)
    k = bisect_right(range(1, reach + 1), cosine, key=lambda k: _bukh_cox(d, k))
    if k < reach:
        limits.append(Limit("Bukh-Cox", d + k, "n = d+k, k(k+1) < 2d", _BUKH_COX))
    return _smallest_first(limits + _levenshtein_limits(d, cosine, lines=True))


def point_limits(d: int, s: float) -> list[Limit]:
    """List the upper bounds on the number of points of largest cosine at most s in R^d, the smallest first.

    The bounds of `point_bounds` turned round, at s + 1e-13 so that an exact s that a float rounds down
    still gives its n. Those above 10^12 are left out, and there may be none. Valid for d from 1 to 10^12
    and -1 <= s <= 1. Raises BadRequest outside. Sources: see each entry.
    """
    _check("dimension d", d, 1, LARGEST)
    _check("largest cosine s", s, -1, 1)
    cosine = s + SLACK
    if cosine >= 1:
        return []
    if cosine < 0:
        n = min(math.floor(1 - 1 / cosine), d + 1)
        return _smallest_first([Limit("Rankin", n, "s < 0", _RANKIN)])
    if d == 1:
        return [Limit("pigeonhole", 2, "d = 1, s < 1", _ELEMENTARY)]
    limits = _levenshtein_limits(d, cosine, lines=False)
    if s <= SLACK:
        limits.append(Limit("Rankin", 2 * d, "s = 0", _RANKIN))
    return _smallest_first(limits)


def max_lines(d: int, mu: float) -> Limit | None:
    """Return the best upper bound on n, the first of `line_limits`, or None where n is unbounded.

    >>> max_lines(23, 0.2).n
    276
    """
    return next(iter(line_limits(d, mu)), None)


def max_points(d: int, s: float) -> Limit | None:
    """Return the best upper bound on n, the first of `point_limits`, or None where n is unbounded."""
    return next(iter(point_limits(d, s)), None)


def _check(what: str, value: float, least: int, most: int) -> None:
    kinds = int if most == LARGEST else int | float  # a size, or a cosine
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise BadRequest(f"{what} = {value!r}: must be a {'whole ' if most == LARGEST else ''}number")
    if not least <= value <= most:
        raise BadRequest(f"{what} = {value}: must be from {least} to {most}")


def _smallest_first(limits: list[Limit]) -> list[Limit]:
    """Sort the limits that count, which are at most LARGEST."""
    return sorted((limit for limit in limits if limit.n <= LARGEST), key=lambda limit: limit.n)


def _bukh_cox(d: int, k: int) -> float:
    """Bound the coherence of d + k real lines in R^d from below, k >= 1 (Bukh and Cox 2020)."""
    return k * (k + 1) / ((d + k) * (2 + (k - 1) * math.sqrt(k + 2)) - k * (k + 1))


def _bukh_cox_reach(d: int) -> int:
    """Return the largest k with k(k-1) < 2d: the bound increases up to it, and Welch is better beyond."""
    return (1 + math.isqrt(8 * d - 3)) // 2


def _levenshtein_bounds(d: int, n: int, *, lines: bool) -> list[Bound]:
    """Return Levenshtein's bound for n > d as a list of one, or of none at degree 1 and at d = 1.

    Levenshtein 1998 bounds n by a function that increases with the cosine and is made of pieces: that of
    degree 2k - 1 + e, e in {0, 1}, ends at the size `_end(d, degree)`, where the next begins. Degree 1 is
    Welch's bound for lines and Rankin's for points. The variable here is u = cos^2 for lines, (1 + cos)/2
    for points. With p_j the monic Jacobi polynomials of weight (1-u)^alpha u^beta on [0, 1], the u of n
    is the largest zero of p_k - f p_(k-1), where n gives f <= 0, and f = 0 at the end of the piece.
    """
    if d == 1 or (degree := _degree(d, n, lines=lines)) == 1:
        return []
    if d == 2:  # one closed form for all degrees, attained by the regular polygons
        cosine = math.cos((1 if lines else 2) * math.pi / n)
    else:
        k, alpha, beta = _jacobi(d, degree, lines=lines)
        end = _end(d, degree, lines=lines)
        bracket, unit = _at_end(k, alpha, beta)
        f = -unit * (end - n) / end * bracket / (n / end * bracket - 1)
        u = _largest_zero(k, alpha, beta, f)
        cosine = math.sqrt(u) if lines else 2 * u - 1
    return [Bound(f"Levenshtein {degree}", cosine, _piece(d, degree, lines=lines), _LEVENSHTEIN)]


def _levenshtein_limits(d: int, cosine: float, *, lines: bool) -> list[Limit]:
    """Return the n of Levenshtein's bound for 0 <= cosine < 1, or nothing at degree 1 and at d = 1.

    In the variables of `_levenshtein_bounds`: a piece ends at the largest zero of its p_k, so that u lies
    in the first piece whose p_k is not positive at u, and f = p_k / p_(k-1) gives n.
    """
    if d == 1:
        return []
    if d == 2:
        n = math.floor((1 if lines else 2) * math.pi / math.acos(cosine))
        degree = _degree(d, n, lines=lines)
    else:
        u = cosine**2 if lines else (1 + cosine) / 2
        last = _degree(d, LARGEST, lines=lines)
        degree, f = min(_first_not_positive(d, u, e, last, lines=lines) for e in (0, 1))
        if degree > last:
            return []
        bracket, unit = _at_end(*_jacobi(d, degree, lines=lines))
        n = math.floor(_end(d, degree, lines=lines) * (1 + (bracket - 1) / (1 - f / unit)) / bracket)
    if degree == 1:
        return []
    return [Limit(f"Levenshtein {degree}", n, _piece(d, degree, lines=lines), _LEVENSHTEIN)]


def _end(d: int, degree: int, *, lines: bool) -> int:
    """Return the largest n of the piece of this degree, which is the smallest of the next one."""
    if lines:
        return math.comb(d + degree, degree + 1)
    k, e = divmod(degree + 1, 2)
    return math.comb(d + k - 1, k) + math.comb(d + k - 2 + e, k - 1 + e)


def _degree(d: int, n: int, *, lines: bool) -> int:
    """Return the degree of the piece that n lies in, d >= 2."""
    top = 1
    while _end(d, top, lines=lines) < n:
        top *= 2
    return bisect_left(range(top), n, lo=1, key=lambda degree: _end(d, degree, lines=lines))


def _piece(d: int, degree: int, *, lines: bool) -> str:
    """Name the piece (k, e) of a degree and its range of n."""
    k, e = divmod(degree + 1, 2)
    return f"piece ({k},{e}), {_end(d, degree - 1, lines=lines)} <= n <= {_end(d, degree, lines=lines)}"


def _jacobi(d: int, degree: int, *, lines: bool) -> tuple[int, float, float]:
    """Return k and the exponents alpha, beta of the Jacobi weight that belong to a degree."""
    k, e = divmod(degree + 1, 2)
    return k, (d - 1) / 2, e - 0.5 if lines else e + (d - 3) / 2


def _at_end(k: int, alpha: float, beta: float) -> tuple[float, float]:
    """Return the bracket 1 - Q/Q of Levenshtein's function at a piece's end, and the scale of f there."""
    t = 2 * k + alpha + beta
    return 1 + alpha * t / (k * (k + beta)), k * (k + beta) / (t * (t - 1))


def _recurrence(j: int, alpha: float, beta: float) -> tuple[float, float]:
    """Return a and b of p_(j+1) = (u - a) p_j - b p_(j-1), free of cancellation, alpha + beta > 0."""
    s = alpha + beta
    t = 2 * j + s
    a = (2 * j * (j + s + 1) + s * (beta + 1)) / (t * (t + 2))
    return a, j * (j + alpha) * (j + beta) * (j + s) / (t * t * (t * t - 1)) if j else 0.0


def _first_not_positive(d: int, u: float, e: int, last: int, *, lines: bool) -> tuple[int, float]:
    """Return the lowest degree of this e with p_k(u) <= 0, and p_k / p_(k-1) there; stop above `last`."""
    degree, f = e - 1, 1.0
    while f > 0 and degree <= last:
        degree += 2
        k, alpha, beta = _jacobi(d, degree, lines=lines)
        a, b = _recurrence(k - 1, alpha, beta)
        f = u - a - b / f
    return degree, f


def _largest_zero(k: int, alpha: float, beta: float, f: float) -> float:
    """Return the largest zero of p_k - f p_(k-1), f <= 0, by Laguerre's method downwards from u = 1.

    All zeros are real, so that the steps are monotone and the convergence is cubic. The ratios
    r = p_j / p_(j-1) and their derivatives neither overflow nor cancel to the right of the zeros.
    """
    rows = [_recurrence(j, alpha, beta) for j in range(k)]
    rows[-1] = rows[-1][0] + f, rows[-1][1]
    u = 1.0
    while True:
        r, r1, r2 = 1.0, 0.0, 0.0
        slope, curvature = 0.0, 0.0  # the sums of 1 / (u - zero) and of its square
        for a, b in rows:
            q, x = b / r, r1 / r
            r, r1, r2 = u - a - q, 1 + q * x, q * (r2 / r - 2 * x * x)
            if r <= 0:  # rounding has taken u below the zero: a Newton step on the last ratio leads back
                return u - r / r1
            x = r1 / r
            slope += x
            curvature += x * x - r2 / r
        step = k / (slope + math.sqrt(max(0.0, (k - 1) * (k * curvature - slope * slope))))
        if u - step == u:
            return u
        u -= step
