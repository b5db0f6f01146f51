"""`python -m twofold` is `twofold`."""

from twofold.cli.main import main

if __name__ == "__main__":
    main()
