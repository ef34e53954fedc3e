"""What retrysafe costs on the machine at hand: ``python -m bench``, or ``make bench``.

Three measurements, each in a module of its own: whole servers over loopback (``web.py``), the stores alone
(``pairs.py``), and the protocol with its ASGI adapter alone (``overhead.py``). Every one of them also checks that what
it timed was done, and done once. The method is described in ``docs/reference/benchmarks.md``.
"""
