"""`python -m service` is `portico`."""

from service.cli import main

if __name__ == "__main__":
    main()
