"""Dispatch: which worker gets a request, on this node or another, and what becomes of the request."""
