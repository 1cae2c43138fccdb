"""`python -m spectromer_cli` is the same program as `spectromer`."""

from spectromer_cli.cli.app import main

if __name__ == "__main__":
    main()
