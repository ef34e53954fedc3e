"""The commands. Each keeps what is dear to import inside itself, so that help is quick."""

from __future__ import annotations

import click

from retrysafe.cli.complaints import Commands
from retrysafe.cli.demo import demo
from retrysafe.cli.doctor.command import doctor
from retrysafe.cli.explain import explain
from retrysafe.cli.migrate import migrate
from retrysafe.cli.ops import ops
from retrysafe.cli.store.command import store
from retrysafe.cli.terminal import colours
from retrysafe.cli.worker import worker


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="retrysafe", message="%(prog)s %(version)s")
@click.pass_context
def root(ctx: click.Context) -> None:
    """Make writes safe to send twice, and see what became of each.

    Exit codes: 0 all is well, 1 findings or failure, 2 the command was not understood. NO_COLOR is honoured.
    """
    ctx.color = colours()


for command in (demo, worker, ops, doctor, migrate, store, explain):
    root.add_command(command)
