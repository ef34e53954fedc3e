"""An emulator of DynamoDB as a process: ``python emulator.py PORT``.

It is moto's, which carries out requests in threads and looks at a condition before it writes, without a lock between
the two: of simultaneous conditional writes several can win, which is seen where threads take turns often enough
(``sys.setswitchinterval``). DynamoDB does not do that, so here one request is carried
out at a time.
"""

import sys
from collections.abc import Callable, Iterable
from threading import Lock
from typing import Any

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def one_at_a_time(application: Application) -> Application:
    """Let an application answer one request after the other."""
    turn = Lock()

    def answer(environment: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        with turn:
            return list(application(environment, start_response))

    return answer


def main(port: int) -> None:
    """Serve for ever."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, run_simple

    # Answers are small, and a client that waits for the rest of one waits 40 ms otherwise.
    WSGIRequestHandler.disable_nagle_algorithm = True
    application: Application = DomainDispatcherApplication(create_backend_app)
    run_simple("127.0.0.1", port, one_at_a_time(application), threaded=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
