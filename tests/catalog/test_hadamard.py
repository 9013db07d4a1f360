"""Hadamard matrices: which orders there are, and that they are what they are called."""

import hashlib

import pytest
import torch

from protogen.catalog.algebra import hadamard

ORDERS = [order for order in range(1, 201) if hadamard.exists(order)]
# Of Paley's matrices over prime fields and their doubles, these are left out up to 200.
NOT_BY_PRIMES = {52, 92, 100, 116, 184}


def whole(order: int) -> torch.Tensor:
    index = torch.arange(order)
    return hadamard.entries(order, index[:, None], index)


@pytest.mark.parametrize("order", [*ORDERS, 244, 344, 368])  # 3^5 + 1, 7^3 + 1, 4 x 92
def test_rows_are_orthogonal(order: int) -> None:
    matrix = whole(order)
    assert matrix.dtype == torch.int64
    assert (matrix.abs() == 1).all()
    matrix = matrix.double()
    assert torch.equal(matrix @ matrix.T, order * torch.eye(order).double())
    index = torch.arange(order)
    assert torch.equal(hadamard.entries(order, index[-1:, None], index[:2]).double(), matrix[-1:, :2])


def test_a_product_of_two_is_theirs() -> None:
    # 1904 = 28 x 68: 1903, 951 and their like by halving are no prime powers.
    i, j = torch.randint(0, 1904, (2, 10_000), generator=torch.Generator().manual_seed(0))
    product = whole(28)[i // 68, j // 68] * whole(68)[i % 68, j % 68]
    assert torch.equal(hadamard.entries(1904, i, j), product)


def test_the_orders_are_all_products() -> None:
    top = 5000
    powers = {p**h for p in range(3, top, 2) if all(p % q for q in range(3, p, 2)) for h in range(1, 12) if p**h < top}
    paley = {q + 1 for q in powers if q % 4 == 3} | {2 * q + 2 for q in powers if q % 4 == 1}
    orders, factors = {1}, sorted({2, 92, 116} | paley)
    for factor in factors:
        for order in range(1, top // factor + 1):
            if order in orders:
                orders.add(order * factor)  # found again at once for the powers of the factor
    assert {order for order in range(1, top + 1) if hadamard.exists(order)} == orders
    assert {1, 2, *range(4, 201, 4)} - orders == {156, 172, 188}
    assert not hadamard.exists(0)
    with pytest.raises(AssertionError, match="156"):
        hadamard.entries(156, torch.arange(2), torch.arange(2))


def test_the_matrices_over_prime_fields_stay_as_they_are() -> None:
    # Files that are exact rest on them.
    digest = hashlib.sha256()
    for order in sorted(set(ORDERS) - NOT_BY_PRIMES - {200}):
        digest.update(whole(order).to(torch.int8).numpy().tobytes())
    assert digest.hexdigest() == "7f562a2fbed987fdd7cbb3c13de207f6229c5f4984861a2f18d12551093f6d82"
