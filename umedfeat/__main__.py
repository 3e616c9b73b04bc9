"""``python -m umedfeat``: the same as the ``umedfeat`` command."""

from umedfeat.cli import main

if __name__ == "__main__":
    main()
