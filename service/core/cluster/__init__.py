"""The cluster: the port to the other nodes, what nodes ask one another, and where clients are sent to connect."""
