"""The Python client programs that the suite runs: each is written as other people write theirs."""
