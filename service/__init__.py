"""The gateway: an application, started by its entry points. Other programs import `portico` instead."""
