"""Webhooks: where an application receives the server's callbacks."""

from seedance_async.webhooks.receiver import WebhookReceiver

__all__ = ["WebhookReceiver"]
