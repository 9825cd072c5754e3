"""The SDK: `Client`, `Worker` and `Requester`, and the connection that they share. Programs import from `portico`."""
