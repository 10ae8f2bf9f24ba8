"""The admin routes: they let another process inspect an emulator and set its faults."""

from collections.abc import Callable
from typing import Any

from aiohttp import web
from attrs import asdict

from seedance_async.emulator.faults import Fault
from seedance_async.emulator.state import State


class Admin:
    """GET ``/_emulator/ledger`` and ``/_emulator/stats``, POST ``/_emulator/faults``."""

    def __init__(self, state: State, stats: Callable[[], dict[str, Any]]) -> None:
        self._state, self._stats = state, stats

    def add_routes(self, app: web.Application) -> None:
        """Add the three routes."""
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
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            return web.json_response({"ok": False, "error": str(error)}, status=400)
        return web.json_response({"ok": True})

    def _apply(self, command: dict[str, Any]) -> None:
        faults = self._state.faults
        if command.get("clear"):
            faults.clear()
        if "rates" in command:
            faults.set_rates(command["operation"], command["rates"])
        if "fault" in command:
            fault = command["fault"]
            faults.script(
                command["operation"],
                Fault(**fault) if isinstance(fault, dict) else fault,
                times=command.get("times", 1),
                match=command.get("match"),
            )
