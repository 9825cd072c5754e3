"""The load test, for Locust: `locust -f loadtest`. It runs on gevent, so nothing here may import trio."""
