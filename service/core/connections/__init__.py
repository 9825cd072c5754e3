"""Connections: who is let in, who they are, and what becomes of two that claim the same name."""
