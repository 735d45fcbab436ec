"""`python -m zeromean` is `zeromean`."""

from zeromean.cli import main

if __name__ == "__main__":
    main(prog_name="zeromean")
