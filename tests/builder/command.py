"""Run the command `seqzarr` in this process."""

from collections.abc import Mapping

from click.testing import CliRunner, Result

from builder.cli import main


def seqzarr(*arguments: object, env: Mapping[str, str] | None = None) -> Result:
    """Run `seqzarr` with these arguments; exceptions other than an exit are raised."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], env=env)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result
