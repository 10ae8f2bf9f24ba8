"""The direct `Transport`: API calls on a connector's connections, without `ClientSession`."""

from __future__ import annotations

import logging
from typing import Any

from seedance_async.api.errors import ConfigurationError
from seedance_async.api.option_fields import takes
from seedance_async.api.options import TransportArguments
from seedance_async.api.transport.aiohttp_transport import AiohttpTransport, APICalls

_log = logging.getLogger(__name__)


class DirectTransport(AiohttpTransport):
    """`Transport` for thousands of jobs in flight: less CPU for each API call.

    It uses what aiohttp does not document. Where a release no longer has that, and where the
    environment names a proxy, it says so in the log, and is the default transport. It takes the
    options of `TransportOptions` except `proxy` and `http`. Media are fetched as by default. What
    mocks or traces `ClientSession` does not see its API calls.
    """

    @takes(TransportArguments)
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for name in ("proxy", "http"):
            if getattr(self._options, name) is not None:
                raise ConfigurationError(
                    f'{name} must not be given with the direct transport: use transport="aiohttp"'
                )
        self._direct = True
        if self._proxy is not None:
            self._fall_back("the environment names a proxy for the API")

    def _make_calls(self, seconds: float, *, fresh: bool) -> APICalls:
        if self._direct:
            try:
                return self._make_pool(seconds, fresh=fresh)
            except (ImportError, AttributeError, TypeError) as error:
                self._fall_back(f"this release of aiohttp lacks what it needs ({error})")
        return super()._make_calls(seconds, fresh=fresh)

    def _make_pool(self, seconds: float, *, fresh: bool) -> APICalls:
        from seedance_async.api.transport.direct.pool import ConnectionPool

        return ConnectionPool(
            self._endpoint.base_url,
            self._api_headers(),
            secrets=self._secrets(),
            reuse=not fresh,
            max_connections=self._options.max_connections,
            ssl=self._options.ssl,
            seconds=seconds,
            connect_seconds=self._options.timeouts.connect,
        )

    def _fall_back(self, reason: str) -> None:
        self._direct = False
        _log.warning("the direct transport is not used: %s. The default one is", reason)
