"""The dialects: what the gateway does with each message of each. They don't know one another."""
