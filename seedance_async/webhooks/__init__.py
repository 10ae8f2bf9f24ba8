"""Webhooks: where an application receives the server's callbacks."""

from seedance_async.webhooks.nonces import Nonces
from seedance_async.webhooks.passing_on import PassingOn
from seedance_async.webhooks.receiver import WebhookReceiver

__all__ = ["Nonces", "PassingOn", "WebhookReceiver"]
