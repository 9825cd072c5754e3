"""The protocol, without I/O: bytes in, messages out, and the other way round. Clients and the gateway both use it."""
