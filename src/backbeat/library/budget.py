"""A budget that parallel requests cannot exceed.

What a request may cost at most is set aside before it is sent, so that what was spent and what is set aside together
never exceed the limit. Where that leaves no room for one more, a thread waits for those that are under way, since most
cost less than their worst case; only when none is left that could give something back, the budget is used up.
"""

from __future__ import annotations

import datetime as dt
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

from backbeat.library.settings import ModelPrice
from backbeat.library.spend import Spend, append_spend, spent_on

MILLION = 1_000_000


@dataclass(frozen=True)
class Tokens:
    """What a request and its answer have."""

    input: int
    output: int


class Reservation:
    """What is set aside for a request. At the end of the block it stays booked unless it was settled or given back."""

    def __init__(self, budget: Budget, day: dt.date, usd: Decimal) -> None:
        self._budget, self.day, self.usd = budget, day, usd
        self._open = True

    def settle(self, cost_usd: Decimal, tokens: Tokens) -> None:
        """Record what an answered request did cost."""
        counts = {"unanswered": -1, "input_tokens": tokens.input, "output_tokens": tokens.output}
        self._end(Spend(self.day, self._budget.model, cost_usd - self.usd, **counts))

    def give_back(self) -> None:
        """Record that a request was refused, or never sent, and cost nothing."""
        self._end(Spend(self.day, self._budget.model, -self.usd, requests=-1, unanswered=-1))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._open:
            self._end(None)

    def _end(self, change: Spend | None) -> None:
        self._open = False
        self._budget.end(change)


class Budget:
    """What may still be spent by this run and on this day; shared by threads.

    Args:
        project: where spend is recorded.
        model: who is asked.
        run_usd: what this run may spend.
        day_usd: what a day may see spent, by all runs.
        today: tells the day in UTC.
    """

    def __init__(
        self, project: Path, model: str, run_usd: Decimal, day_usd: Decimal, today: Callable[[], dt.date]
    ) -> None:
        self._project, self.model = project, model
        self._run_usd, self._day_usd, self._today = run_usd, day_usd, today
        self._changed = threading.Condition()
        # With what is set aside.
        self._of_run = Decimal(0)
        self._of_day: dict[dt.date, Decimal] = {}
        self._under_way = 0
        self._sum: Spend = Spend(today(), model, Decimal(0))

    @property
    def spent(self) -> Spend:
        """What this run has spent, with the worst case of what has no known outcome."""
        return self._sum

    def reserve(self, worst_usd: Decimal) -> Reservation | None:
        """Set the worst case of a request aside, waiting for others if need be; None if the budget is used up.

        Raises:
            StorageError: if that cannot be recorded: then nothing may be sent.
        """
        with self._changed:
            while not self._fits(worst_usd):
                if not self._under_way:
                    return None
                self._changed.wait()
            reservation = Reservation(self, self._today(), worst_usd)
            self._book(Spend(reservation.day, self.model, worst_usd, requests=1, unanswered=1))
            self._under_way += 1
            return reservation

    def end(self, change: Spend | None) -> None:
        """Record what is known of a request that was under way, and let others have what it leaves."""
        with self._changed:
            try:
                if change is not None:
                    self._book(change)
            finally:
                self._under_way -= 1
                self._changed.notify_all()

    def _fits(self, usd: Decimal) -> bool:
        day = self._today()
        if day not in self._of_day:
            self._of_day[day] = spent_on(self._project, day)
        return self._of_run + usd <= self._run_usd and self._of_day[day] + usd <= self._day_usd

    def _book(self, change: Spend) -> None:
        append_spend(self._project, change)
        self._of_run += change.usd
        self._of_day[change.day] = self._of_day.get(change.day, Decimal(0)) + change.usd
        self._sum = replace(self._sum + change, day=self._sum.day)


def price_usd(price: ModelPrice, tokens: Tokens) -> Decimal:
    """Return what so many tokens cost, exactly."""
    return (tokens.input * price.input_usd_per_million + tokens.output * price.output_usd_per_million) / MILLION


def billed(price: ModelPrice, usage: Mapping[str, Any] | None) -> tuple[Decimal, Tokens] | None:
    """Return what an endpoint says that a request has cost; None if it does not say.

    Where it names an amount that is higher than that of the table (OpenRouter's `usage.cost`), that is billed.

    Args:
        price: of the model, from the table.
        usage: what the endpoint reports.
    """
    counts = [(usage or {}).get(name) for name in ("prompt_tokens", "completion_tokens")]
    if not all(type(count) is int and 0 <= count <= MILLION * MILLION for count in counts):
        return None
    tokens = Tokens(*(int(str(count)) for count in counts))
    cost = (usage or {}).get("cost")
    named = Decimal(0)
    if isinstance(cost, int | float) and not isinstance(cost, bool) and math.isfinite(cost):
        named = Decimal(str(cost))
    return max(price_usd(price, tokens), named), tokens
