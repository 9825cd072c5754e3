"""`python -m service.cli` is `portico`."""

from . import main

if __name__ == "__main__":
    main(prog_name="portico")
