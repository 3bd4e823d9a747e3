"""Keeping and finding; knows no HTTP.

Import from the room, not from here:

- ``indexer.catalogue``: ``Catalogue``, a folder that holds items, vectors and an embedder
- ``indexer.ingest``: read → decode → embed → commit (``indexer.decoding``, ``indexer.pipeline``, ``indexer.tuning``);
  ``indexer.profile`` and ``indexer.profile_picture``: where its time went
- ``indexer.embeds``: what all of this asks of an embedder; ``indexer.embedding``: vectors of pictures outside a
  catalogue
- ``indexer.search``: pictures, vectors or ids → a table of hits; ``indexer.hits_page``: hits as a page
- ``indexer.index`` and ``indexer.faiss_index``: exact and FAISS indexes (``indexer.index_input``: what goes into them);
  ``indexer.view``: the one a catalogue searches
- ``indexer.items``, ``indexer.vectors``, ``indexer.files``, ``indexer.place``: what stands on disk and how
- ``indexer.description``: what is in a catalogue; ``indexer.verification``: whether it is as it was written
- ``indexer.evaluation``: measure a catalogue; ``indexer.measuring``: an embedder, by a published protocol
  (``indexer.frozen_row``: the untrained one beside it); ``indexer.comparison``: evaluations beside each other
- ``indexer.report_page`` (``indexer.report_frame``, ``indexer.report_sections``, ``indexer.report_charts``,
  ``indexer.report_pictures``, ``indexer.report_style``, ``indexer.report_words``), ``indexer.report_text``,
  ``indexer.report_files``: a report as a page, as text, on disk
- ``indexer.training_source``: what is learned from and what is held out; ``indexer.training_options``: every choice as
  an option; ``indexer.training_run``: a training as its user sees it, into ``indexer.training_files``;
  ``indexer.training_account`` and ``indexer.training_report`` (``indexer.training_charts``): what it came to
- ``indexer.advising``: whether training is likely to pay
- ``indexer.voters``: what says labels in a catalogue; ``indexer.label_queries``: labelled pictures that it is asked of
- ``indexer.labelling``: what pictures are, by a catalogue; ``indexer.calibrating``: how sure that is;
  ``indexer.label_evaluating`` (``indexer.label_report_text``, ``indexer.label_report_page``): how good labels are
- ``indexer.auditing`` (``indexer.audit_page``): which labels are wrong; ``indexer.correcting``: putting them right
- ``indexer.duplicates``: the copies in a catalogue, by ``indexer.examining``: pictures looked at
  (``indexer.candidates``, ``indexer.layouts``, ``indexer.fingerprints``) and compared (``indexer.comparing``,
  ``indexer.known_pairs``), a line drawn
  (``indexer.planting``), groups made (``indexer.copy_groups``, ``indexer.copy_tables``,
  ``indexer.collages``), which to keep
  (``indexer.keep_best``, ``indexer.keep_facts``);
  ``indexer.duplicates_page``, ``indexer.duplicates_files`` (``indexer.spreadsheets``): as a page, on disk;
  ``indexer.duplicates_words``: what is said of them as a whole
- ``indexer.screening``: copies told while pictures come in (``indexer.arrivals``), beside what is there
  (``indexer.holdings``), the best of several taken (``indexer.incoming``); ``indexer.folder_catalogue``: folders
  without a catalogue
- ``indexer.quarantine``: duplicates moved aside, linked or forgotten (``indexer.deciding``, ``indexer.moving``,
  ``indexer.whereabouts``), with a ``indexer.journal``; ``indexer.undoing``: brought back
- ``indexer.opening``: the embedder or the catalogue that a command names
- ``indexer.cli``, ``indexer.evaluation_cli``, ``indexer.training_cli``, ``indexer.labelling_cli``,
  ``indexer.auditing_cli``, ``indexer.duplicates_cli``, ``indexer.options``: the commands
"""
