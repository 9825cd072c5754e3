"""`python -m service` is `portico`, where the gateway was copied and not installed (a container, say)."""

from service.cli import main

if __name__ == "__main__":
    main(prog_name="portico")
