"""The commands that talk to a running service."""

from clients.commands.ask import ask
from clients.commands.images import delete, list_images, show
from clients.commands.ingest import ingest
from clients.commands.search import search

COMMANDS = (ingest, search, ask, list_images, show, delete)
