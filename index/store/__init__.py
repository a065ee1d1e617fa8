"""Token stores: where tokens, embeddings and metadata are kept."""
