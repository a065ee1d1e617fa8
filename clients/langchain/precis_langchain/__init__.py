"""Précis as a retriever and a document loader of LangChain."""

from precis_langchain.loader import PrecisLoader
from precis_langchain.retriever import PrecisRetriever

__all__ = ["PrecisLoader", "PrecisRetriever"]
