"""What the gateway asks of others by HTTP: bounded in time and bytes, at addresses that were judged, signed."""
