"""Pushes and logins: which connections get them, in which order, and what their publisher is told."""
