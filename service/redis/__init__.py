"""A Redis client on trio: one server, Sentinel or Cluster. It knows nothing of gateways."""
