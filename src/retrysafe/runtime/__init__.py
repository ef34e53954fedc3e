"""The only place with clocks, threads and tasks: it performs what the protocol asks for."""
