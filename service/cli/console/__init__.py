"""`portico console`: commands to a running gateway, line by line, at a prompt or from a pipe."""
