"""Vector indexes over the embeddings."""
