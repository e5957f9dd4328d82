"""The orders that the demo sends, and the trace that each of them has to make; data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from asynctrace.cli.demo.compare import Expected

SLOW: Final = 0.25
"""Seconds from which a span of the demo is marked as slow; moving a piano takes longer."""

_GOODS: Final = ("book", "lamp", "chair")


@dataclass(frozen=True, slots=True)
class Order:
    """One request to the gateway."""

    number: int
    item: str

    @property
    def path(self) -> str:
        return f"/checkout/{self.number}"

    @property
    def fails(self) -> bool:
        return self.item == "unicorn"

    @property
    def status(self) -> int:
        """The HTTP status that the gateway has to answer."""
        return 500 if self.fails else 201

    def __str__(self) -> str:
        return f"order {self.number} ({self.item})"


def orders(count: int) -> list[Order]:
    """`count` orders: the second is slow, the third fails, the others succeed."""
    special = {2: "piano", 3: "unicorn"}
    return [
        Order(number, special.get(number, _GOODS[number % len(_GOODS)]))
        for number in range(1, count + 1)
    ]


def expected_trace(order: Order) -> Expected:
    """What the services are to make of the order: who calls whom, and what fails."""
    fails = order.fails
    reserve = Expected("inventory", "SERVER", "PUT /stock/{item}/{order}", failed=fails)
    call_inventory = Expected("orders", "CLIENT", "PUT", failed=fails, children=(reserve,))
    pack = Expected("orders", "CONSUMER", "process parcels")
    place = Expected(
        "orders",
        "SERVER",
        "PUT /orders/{order}",
        failed=fails,
        children=(call_inventory,) if fails else (call_inventory, pack),
    )
    call_orders = Expected("gateway", "CLIENT", "PUT", failed=fails, children=(place,))
    return Expected(
        "gateway", "SERVER", "POST /checkout/{order}", failed=fails, children=(call_orders,)
    )
