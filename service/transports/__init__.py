"""Transports: from sockets to sessions and back. They know the core's ports, and nothing of HTTP's routes or Redis."""
