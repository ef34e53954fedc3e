"""The command line: what a person at a terminal, or a script, asks of stores and applications.

It is the one place besides the gateway where the environment is read. Needs the extra ``retrysafe[cli]``.
"""
