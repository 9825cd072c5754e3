"""The operator's own app, in the gateway's process: it answers every HTTP route and WebSocket path that is not ours."""
