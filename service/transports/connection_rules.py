"""ConnectionRules: what every connection is held to, whichever transport serves it."""

from dataclasses import dataclass

from service.core.ports import MESSAGE_SECONDS, Headers


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectionRules:
    """The settings of one process's connections. All times are in seconds.

    `handshake_timeout`: within this a whole request head must have come. `ping_interval`: the longest time between a
    pong and the next ping, 80 % of it the shortest (0: no pings); `pong_timeout`: how long their answer may take.
    `message_timeout`: how long a message that has begun may take to be whole; looked at with the pings.
    `max_messages_per_second`, `max_bytes_per_second`: what one connection may send; 0: no bound.
    `compression`: agree to permessage-deflate where it is offered. `h2c`: HTTP/2 in cleartext.
    `https_headers`: what the transport's own answers have besides, where the connection is TLS.
    """

    handshake_timeout: float = 5.0
    ping_interval: float = 25.0
    pong_timeout: float = 10.0
    message_timeout: float = MESSAGE_SECONDS
    max_messages_per_second: float = 0
    max_bytes_per_second: float = 0
    compression: bool = False
    h2c: bool = False
    https_headers: Headers = ()
