"""`python -m builder` is the command `seqzarr`."""

from builder.cli import main

if __name__ == "__main__":
    main(prog_name="seqzarr")
