"""The admin routes: own the view and the control of an emulator from another process."""

from collections.abc import Callable
from typing import Any

from aiohttp import web
from attrs import asdict

from .faults import Fault
from .state import State


class Admin:
    """GET ``/_emulator/ledger`` and ``/_emulator/stats``, POST ``/_emulator/faults``."""

    def __init__(self, state: State, stats: Callable[[], dict[str, Any]]) -> None:
        self._state, self._stats = state, stats

    def add_routes(self, app: web.Application) -> None:
        """The three routes."""
        app.router.add_get("/_emulator/ledger", self._ledger)
        app.router.add_get("/_emulator/stats", self._show_stats)
        app.router.add_post("/_emulator/faults", self._change_faults)

    async def _ledger(self, request: web.Request) -> web.Response:
        ledger = self._state.ledger
        return web.json_response(
            {
                "entries": [asdict(entry) for entry in ledger],
                "refunds": [asdict(refund) for refund in ledger.refunds],
            }
        )

    async def _show_stats(self, request: web.Request) -> web.Response:
        return web.json_response(self._stats())

    async def _change_faults(self, request: web.Request) -> web.Response:
        """``{"clear": true}``, ``{"operation", "rates"}`` or ``{"operation", "fault", …}``."""
        try:
            self._apply(await request.json())
        except (ValueError, TypeError, KeyError, AttributeError) as mistake:
            return web.json_response({"ok": False, "error": str(mistake)}, status=400)
        return web.json_response({"ok": True})

    def _apply(self, wanted: dict[str, Any]) -> None:
        faults = self._state.faults
        if wanted.get("clear"):
            faults.clear()
        if "rates" in wanted:
            faults.set_rates(wanted["operation"], wanted["rates"])
        if "fault" in wanted:
            fault = wanted["fault"]
            faults.script(
                wanted["operation"],
                Fault(**fault) if isinstance(fault, dict) else fault,
                times=wanted.get("times", 1),
                match=wanted.get("match"),
            )
