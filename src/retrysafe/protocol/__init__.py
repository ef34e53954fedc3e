"""The protocol, pure: no clock, socket, thread, log, random, framework or asyncio.

Read ``flows.py`` first: one page, in the order things happen.
"""
