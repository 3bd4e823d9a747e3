"""Showing: a web application over a catalogue, and the root of the command line.

Import from the room, not from here:

- ``webui.app``: ``create_app(catalogue, **settings)``
- ``webui.settings``: every setting with its default, unit and help
- ``webui.data``: what a page and its JSON twin show
- ``webui.pages``, ``webui.api``, ``webui.uploads``, ``webui.thumbnails``, ``webui.gate``: what answers a request
- ``webui.server``: the application on a socket
- ``webui.cli``: the command ``lookalike``; its parts here: ``webui.serve``, ``webui.demo``, ``webui.doctor``
"""
