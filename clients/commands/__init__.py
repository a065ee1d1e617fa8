"""The commands that talk to a running service; `service/cli.py` names them in its table."""
