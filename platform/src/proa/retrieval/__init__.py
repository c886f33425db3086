"""Retrieval: documents to chunks, chunks to one index file, a question to the passages it gets."""
