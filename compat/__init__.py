"""The compatibility suite: existing client programs against a deployment. It shares no code with the gateway."""
