"""Tests of `make capacity`."""
