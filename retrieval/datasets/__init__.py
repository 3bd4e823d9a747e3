"""Data sets: one module a family.

- ``retrieval.datasets.sarees``: a synthetic saree catalogue, drawn offline, with planted faults
- ``retrieval.datasets.grocery``: the lists of the Grocery Store Dataset
"""
