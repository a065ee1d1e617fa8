"""The commands that talk to a running service; `precis_client/cli.py` names them in its table."""
