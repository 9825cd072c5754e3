"""What proves who a connection is: tokens, API keys from a file, the operator's connect hook."""
