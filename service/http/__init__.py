"""The HTTP API: one table of routes, whose handlers take a request and give an answer, whatever server runs them."""
