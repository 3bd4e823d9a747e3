"""Computation on images, tensors and tables; knows no catalogue.

Import from the room, not from here:

- ``retrieval.errors``: the tree of errors
- ``retrieval.manifest``: folder, CSV, Parquet or list → a table with a row an image
- ``retrieval.sources``: the bytes behind a row's uri
- ``retrieval.images``: bytes → pixels, the one decoder
- ``retrieval.neighbours``: exact nearest neighbours by cosine similarity
- ``retrieval.metrics`` and ``retrieval.evaluation``: Recall@K and what it rests on
- ``retrieval.backbones``, ``retrieval.pooling``, ``retrieval.embedder``: images → embeddings (torch)
- ``retrieval.datasets``: data sets we draw or read
"""
