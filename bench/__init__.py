"""What retrysafe costs on the machine at hand: ``python -m bench``, or ``make bench``.

Each section is measured by a module of its own: whole servers over loopback (``web.py``), beside other packages
(``peers.py``), one request alone (``alone.py``), stores (``pairs.py``), what a checkpoint takes (``memory.py``), tables
that grow (``growth.py``), recovery (``recovery.py``), and the protocol with its ASGI adapter alone (``overhead.py``).
All of them also check that what they timed was done, and done once. ``docs/reference/benchmarks.md`` describes the
method and shows the figures.
"""
