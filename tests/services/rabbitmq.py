"""RabbitMQ, which comes from Debian: it has no wheel."""

from __future__ import annotations

import os
from collections.abc import Mapping

from tests.services import debian
from tests.services.service import Service, missing, says


def rabbitmq() -> Service:
    """A RabbitMQ with a node, a cookie and a port mapper of its own."""
    known = debian.PROGRAMS["rabbitmq-server"]
    program = known.path
    if program is None:
        missing("RabbitMQ", debian.install_line(known))

    def prepare(service: Service) -> None:
        (service.folder / ".erlang.cookie").write_text("tests-of-retrysafe")
        (service.folder / ".erlang.cookie").chmod(0o400)

    return Service(
        "rabbitmq",
        # The port mapper is a child like others, and not a daemon that is left over.
        command=lambda _: ["/bin/sh", "-c", f"epmd -address 127.0.0.1 & exec '{program}'"],
        url=lambda service: f"amqp://guest:guest@{service.address}/",
        answers=lambda service: says(service.port, b"AMQP\x00\x00\x09\x01", b"\x01\x00\x00"),
        prepare=prepare,
        environment=_environment,
        further_ports=2,
    )


def _environment(service: Service) -> Mapping[str, str]:
    folder = service.folder
    distribution, mapper = service.further_ports
    ours = {name: value for name, value in debian.environment().items() if not name.startswith(("RABBITMQ_", "ERL_"))}
    return ours | {
        "HOME": str(folder),
        "ERL_EPMD_PORT": str(mapper),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"tests-{service.port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(service.port),
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_BASE": str(folder),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "logs"),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_CONF_ENV_FILE": os.devnull,
        "RABBITMQ_CONFIG_FILE": str(folder / "none"),
        # One scheduler: by default there are as many as cores, and they spin for work.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none",
    }
