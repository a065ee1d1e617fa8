"""`python -m precis_client`: the command `precis`."""

from precis_client.cli import main

if __name__ == "__main__":
    main(prog_name="precis")
