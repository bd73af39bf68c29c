"""`python -m komputer.cli` is `komputer`."""

from komputer.cli.main import main

if __name__ == "__main__":
    main()
