"""What stores without SQL share: an operation is one document, and a verb is a function that changes one document.

- ``row.py`` is the document; ``attempts.py``, ``steps.py`` and ``upkeep.py`` are what verbs do to one: plain functions
  that change a row in place and nothing else. The memory store calls them on the rows of a dict.
- ``verbs.py``, on ``claims.py`` and ``ledger.py``, makes programs of them for stores that compare and set: load the
  document, change it, write it back if nobody else has written it meanwhile, else begin again.
- ``port.py`` is the little that such a store must be able to do, and what its indexes may get wrong;
  ``statements.py`` makes that the statements of programs.
"""
