"""Webhooks: events are posted to the operator's back end until it has them."""
