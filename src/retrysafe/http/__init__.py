"""The vocabulary of HTTP, pure: keys, requests, recorded outcomes, replays and problems, as values.

Nothing here knows a server, a framework or a store.
"""
