"""The forms of messages, a module for each dialect. They don't know one another."""
