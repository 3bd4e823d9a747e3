"""Keeping and finding; knows no HTTP.

Import from the room, not from here:

- ``indexer.catalogue``: ``Catalogue``, a folder that holds items, vectors and an embedder
- ``indexer.ingest``: read → decode → embed → commit (``indexer.decoding``, ``indexer.pipeline``); ``indexer.profile``:
  where its time went
- ``indexer.embeds``: what all of this asks of an embedder
- ``indexer.search``: pictures, vectors or ids → a table of hits
- ``indexer.index`` and ``indexer.faiss_index``: exact and FAISS indexes
- ``indexer.items``, ``indexer.vectors``, ``indexer.files``: what stands on disk and how
- ``indexer.evaluation``: measure a catalogue; ``indexer.measuring``: an embedder, by a published protocol;
  ``indexer.comparison``: evaluations beside each other
- ``indexer.report_page``, ``indexer.report_text``, ``indexer.report_files``: a report as a page, as text, on disk
- ``indexer.opening``: the embedder or the catalogue that a command names
- ``indexer.cli``, ``indexer.evaluation_cli``: the commands
"""
