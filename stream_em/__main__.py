"""`python -m stream_em`: the same as the command `stream-em`."""

from stream_em.cli import main

if __name__ == "__main__":
    main()
