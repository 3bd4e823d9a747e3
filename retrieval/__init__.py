"""Computation on images, tensors and tables; knows no catalogue.

Import from the room, not from here:

- ``retrieval.errors``: the tree of errors
- ``retrieval.manifest``: folder, CSV, Parquet or list → a table with a row an image
  (its kinds: ``retrieval.folders``, ``retrieval.tabular``; column roles and types: ``retrieval.columns``)
- ``retrieval.sources``: the bytes behind a row's uri
- ``retrieval.images``: bytes → pixels, the one decoder (with ``retrieval.formats``, ``retrieval.colour`` and
  ``retrieval.jpeg``)
- ``retrieval.neighbours``: exact nearest neighbours by similarity (with ``retrieval.scan`` and ``retrieval.shortlist``)
- ``retrieval.evaluation``: labelled vectors (``retrieval.labelled``) → a report (``retrieval.report``);
  ``retrieval.recognition``: the same of a classification
- ``retrieval.ranks``: where the right images stand in the whole ranking, exactly (with ``retrieval.full_ranking``,
  ``retrieval.rank_scan`` and ``retrieval.crowd_scan``)
- ``retrieval.metrics``: Recall@K, MAP@R and the others from these ranks; ``retrieval.classification``,
  ``retrieval.clustering``, ``retrieval.hierarchy``: further measures
- ``retrieval.uncertainty``: intervals, paired tests, what a test set can resolve
- ``retrieval.findings``: failures, hubs, pairs, a map (``retrieval.twins``, ``retrieval.projection``)
- ``retrieval.processes``: work shared out among processes with a GPU each
- ``retrieval.model_card``: what an embedder is, without loading it
- ``retrieval.backbones``, ``retrieval.pooling``, ``retrieval.embedder``: images → embeddings (torch)
- ``retrieval.runtimes`` and ``retrieval.runtime_choice``: what runs the network, how fast and how near to float32
  (``retrieval.network``; ``retrieval.torch_runtime``, ``retrieval.openvino_runtime``, ``retrieval.onnx_runtime``)
- ``retrieval.conversions``: converted networks, kept between runs; ``retrieval.machine``: what speed depends on here
- ``retrieval.coalescing``: concurrent requests become batches
- ``retrieval.frozen``: the same backbone with nothing trained
- ``retrieval.datasets``: data sets we draw or read; ``retrieval.datasets.protocols``: published benchmarks
"""
