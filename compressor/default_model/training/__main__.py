"""`precis train` for machines that have what training needs, and not the service."""

from compressor.default_model.training.cli import train

train(prog_name="python -m compressor.default_model.training")
