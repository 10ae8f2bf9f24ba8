"""Bytes to the API and from its media hosts, and back. The only importer of aiohttp's client.

It says of each failure whether the request can have been delivered. It knows nothing of the API's
fields and repeats no submit.
"""

from seedance_async.api.transport.client_session import AiohttpTransport
from seedance_async.api.transport.contract import MediaResponse, Transport

__all__ = ["AiohttpTransport", "MediaResponse", "Transport"]
