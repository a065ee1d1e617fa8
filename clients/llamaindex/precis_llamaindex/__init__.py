"""Précis as a retriever and a reader of LlamaIndex."""

from precis_llamaindex.reader import PrecisReader
from precis_llamaindex.retriever import PrecisRetriever

__all__ = ["PrecisReader", "PrecisRetriever"]
