"""`python -m kinema` is the command line."""

from kinema.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
