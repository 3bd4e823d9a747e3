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
- ``retrieval.pairing``: two reports of the same queries, paired
- ``retrieval.metrics``: Recall@K, MAP@R and the others from these ranks; ``retrieval.classification``,
  ``retrieval.clustering``, ``retrieval.hierarchy``: further measures
- ``retrieval.uncertainty``: intervals, paired tests, what a test set can resolve
- ``retrieval.findings``: failures, hubs, pairs, a map (``retrieval.twins``, ``retrieval.projection``)
- ``retrieval.processes``: work shared out among processes with a GPU each
- ``retrieval.model_card``: what an embedder is, without loading it
- ``retrieval.backbones``, ``retrieval.attention``, ``retrieval.pooling``, ``retrieval.heads``: parts of a network
  (torch); ``retrieval.architecture``: which of them, in words; ``retrieval.composition``: put together;
  ``retrieval.embedder``: images → embeddings
- ``retrieval.runtimes`` and ``retrieval.runtime_choice``: what runs the network, how fast and how near to float32
  (``retrieval.network``; ``retrieval.torch_runtime``, ``retrieval.openvino_runtime``, ``retrieval.onnx_runtime``)
- ``retrieval.conversions``: converted networks, kept between runs; ``retrieval.machine``: what speed depends on here
- ``retrieval.coalescing``: concurrent requests become batches
- ``retrieval.frozen``: the same backbone with nothing trained
- ``retrieval.training``: labelled pictures → an embedder, ``fit``; ``retrieval.recipe``: every choice of it;
  ``retrieval.choosing``: how choices are made that nobody made
- what it learns from: ``retrieval.held_out``, ``retrieval.lesson``, ``retrieval.picture_store``,
  ``retrieval.sampling``, ``retrieval.augmentation``, ``retrieval.feeding``, ``retrieval.preparing``
- what it makes small: ``retrieval.losses``, ``retrieval.mining``, ``retrieval.objective``
- how it runs: ``retrieval.running``, ``retrieval.fitting``, ``retrieval.optimisation``, ``retrieval.folding``,
  ``retrieval.timing``, ``retrieval.keeping``, ``retrieval.memory``; what it came to: ``retrieval.validation``,
  ``retrieval.course``; who is told: ``retrieval.listener``
- ``retrieval.answers``: pictures → labels with a confidence, from ``retrieval.evidence`` and ``retrieval.labels``
  (``retrieval.tree``, ``retrieval.prior``) with the numbers of ``retrieval.calibration`` (``retrieval.likelihood``);
  ``retrieval.openness``: none of these; ``retrieval.conformal``: sets; ``retrieval.label_evaluation`` and
  ``retrieval.few_shot``: how good they are; ``retrieval.suspects``: which given ones are wrong
- ``retrieval.regions``: where one picture lies in another
- ``retrieval.copies`` (``retrieval.bending``, ``retrieval.recolouring``): is one picture made from another, and how;
  ``retrieval.local_features``: what is compared (OpenCV); ``retrieval.grain``: which of two was made larger;
  ``retrieval.saved``: was it a coarser JPEG before; ``retrieval.views``: how copies are searched;
  ``retrieval.trimming``: what stands on an even ground; ``retrieval.grouping``: pairs → groups;
  ``retrieval.threshold``: from where on a pair is a copy, by copies that are planted (``retrieval.edits``)
- ``retrieval.datasets``: data sets we draw or read; ``retrieval.datasets.protocols``: published benchmarks
"""
