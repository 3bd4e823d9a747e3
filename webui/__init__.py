"""Showing: a web application over a catalogue, and the root of the command line.

Import from the room, not from here:

- ``webui.app``: ``create_app(catalogue, **settings)``
- ``webui.settings``: every setting with its default, unit and help
- ``webui.data``: what a page and its JSON twin show
- ``webui.cli``: the command ``lookalike``
"""
