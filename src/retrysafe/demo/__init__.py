"""The demo: a fake bank, a shop in three lanes, a client that loses answers, and ``kill -9``, again and again.

Everything is real and on this machine: uvicorn processes, sockets, signals, SQLite files. ``run.py`` is the way in.
"""
