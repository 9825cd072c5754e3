"""Metrics: what the parts of a RedisBackplane count, and hold, as /metrics shows it."""

from collections.abc import Iterator

from service.core.counters import Metric

from .ingress import Ingress
from .plane import RedisBackplane


def backplane_metrics(plane: RedisBackplane) -> Iterator[Metric]:
    """Everything between this node, Redis and the other nodes."""
    subscription, commands, publisher = plane.subscription, plane.commands, plane.publisher
    following, membership = plane.following, plane.membership
    yield Metric("redis_connected", "1 while this node is in touch with the others.", int(plane.trouble is None))
    yield Metric(
        "redis_channels_wanted", "Channels of Redis that this node is to be subscribed to.", subscription.wanted
    )
    yield Metric(
        "redis_channels_subscribed", "Channels of Redis that this node is subscribed to.", subscription.subscribed
    )
    yield Metric("redis_canary_seconds", "How long the last message to itself took.", subscription.canary_seconds)
    yield Metric("redis_messages_heard", "Messages heard.", subscription.messages, True)
    yield Metric("redis_heard_bytes", "Bytes heard.", subscription.bytes, True)
    yield Metric("redis_messages_too_large", "Messages passed over for their size.", subscription.too_large, True)
    yield Metric("redis_messages_malformed", "Messages that made no sense.", plane.malformed, True)
    yield Metric(
        "redis_ordinary_dropped", "Notifications of other programs that were no events.", plane.ordinary_dropped, True
    )
    yield Metric(
        "redis_messages_failed", "Messages that met a bug of the gateway.", subscription.callback_failures, True
    )
    yield Metric(
        "redis_subscription_reconnects", "Times that the link was lost and came back.", subscription.reconnects, True
    )

    checks = plane.checks
    yield Metric("redis_evicted_keys", "Keys that Redis has thrown away for want of memory.", checks.evicted)
    yield Metric("redis_used_bytes", "Bytes of memory that Redis uses.", checks.used)
    yield Metric("redis_max_bytes", "Bytes of memory that Redis may use; 0: any number.", checks.most)
    yield Metric("redis_warnings", "Dangers about Redis that the log names.", len(checks.warnings))

    yield Metric("redis_commands_pending", "Commands that wait for Redis.", commands.pending)
    yield Metric("redis_commands_pending_bytes", "Bytes of these.", commands.pending_bytes)
    yield Metric(
        "redis_commands_refused", "Commands given up, too many or not answered in time.", commands.refused, True
    )
    yield Metric("redis_answers_late", "Answers to commands that were given up.", commands.late, True)
    yield Metric("redis_command_reconnects", "Times that the connection came back.", commands.reconnects, True)

    yield Metric("redis_pushes_underway", "Pushes that wait for their receipt.", publisher.underway)
    yield Metric("redis_pushes_published", "Pushes that this node published.", publisher.published, True)
    yield Metric("redis_pushes_refused", "Pushes that Redis did not take.", publisher.refused, True)
    yield Metric("redis_receipts_early", "Receipts given before every node had answered.", publisher.acks_late, True)
    yield Metric("redis_messages_untold", "Messages to other nodes that could not be sent.", plane.untold, True)

    yield Metric("streams_followed", "Streams that connections here belong to.", len(following))
    yield Metric("stream_gaps", "Gaps in a stream, seen by offsets.", following.gaps, True)
    yield Metric(
        "stream_resubscriptions",
        "Times that the link was whole again and streams were read.",
        following.resubscribed,
        True,
    )
    yield Metric("stream_events_replayed", "Events read from the history to close gaps.", following.replayed, True)
    yield Metric("stream_doubles_dropped", "Events that came twice, and were delivered once.", following.doubles, True)
    yield Metric("stream_losses", "Streams that could not be made whole.", following.lost, True)

    yield Metric("stream_pushes_outdated", "Pushes of an epoch that is over, not delivered.", following.outdated, True)
    yield Metric("history_bytes", "Bytes of durable events that are kept, in Redis.", plane.sweeper.bytes)
    yield Metric("history_streams", "Streams of which something is kept, in Redis.", plane.sweeper.streams)

    yield Metric("nodes", "Nodes that live.", len(membership.nodes()))
    yield Metric("nodes_with_other_settings", "Nodes of another deployment, perhaps.", membership.strangers)
    yield Metric("nodes_lost", "Nodes whose lease ran out, found by this one.", membership.nodes_lost, True)
    yield Metric("node_clients_left", "Who was connected to them.", membership.clients_left, True)


def ingress_metrics(ingress: Ingress) -> Iterator[Metric]:
    """What other programs have this node publish."""
    yield Metric("ingress_accepted", "Entries of the ingress stream that were published.", ingress.accepted, True)
    yield Metric("ingress_dead", "Entries that can never be published.", ingress.dead, True)
    yield Metric("ingress_postponed", "Entries that had to be tried again.", ingress.postponed, True)
    yield Metric("ingress_taken_over", "Entries of nodes that were gone.", ingress.taken_over, True)
