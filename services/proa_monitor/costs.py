"""What the calls of a window cost, from the ledger; asked once per window that is over."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from proa.http.clock import rfc3339
from proa.ledger.store import CallStore
from proa_monitor.windows import window_end, window_start

__all__ = ["WindowCosts"]

_KEPT: Final = 500


class WindowCosts:
    """Money and calls by model and window of the wall clock.

    Args:
        calls: the ledger's; None where there is no gateway.
    """

    def __init__(self, calls: CallStore | None) -> None:
        self._calls = calls
        self._known: OrderedDict[str, dict[str, tuple[float, int]]] = OrderedDict()

    def of(self, model: str, name: str) -> tuple[float, int] | None:
        """What a model's calls in a window cost, in units of the currency, and how many they were;
        None where nobody knows. Asks the database.
        """
        if self._calls is None:
            return None
        bill = self._known.get(name)
        if bill is None:
            since, until = rfc3339(window_start(name)), rfc3339(window_end(name))
            found = self._calls.costs(by="model", since=since, until=until)
            bill = {str(one.key): (one.cost_micro / 1e6, one.calls) for one in found}
            self._known[name] = bill
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return bill.get(model)
