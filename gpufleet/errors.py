"""What can go wrong in the shell.

ShellError                  every message says what, why and what to do; the command line prints it and exits 2
+-- ConfigurationError      the configuration file cannot be used; lists every problem at once
+-- SecretUnavailable       a secret is named but cannot be read
+-- ModelSourceFailed       a server or the hub that was asked for a model did not give what it should
+-- ProcessFailed           a part of `gpufleet run` ended on its own
+-- OutputFailed            stdout cannot be written
    +-- OutputClosed        whoever read it, such as `head`, has enough; nothing is printed
"""


class ShellError(Exception):
    """Base of the shell's errors."""


class ConfigurationError(ShellError):
    """The configuration file cannot be used."""

    def __init__(self, origin: str, problems: list[str]) -> None:
        self.origin = origin
        self.problems = problems
        listed = "\n".join(f"  - {problem}" for problem in problems)
        super().__init__(f"{origin} cannot be used:\n{listed}")


class SecretUnavailable(ShellError):
    """A secret is named but cannot be read: going on without it would only fail later and less clearly."""


class ModelSourceFailed(ShellError):
    """A server or the hub that was asked for a model did not answer, refused, or said something else."""


class ProcessFailed(ShellError):
    """A part of `gpufleet run` ended on its own."""


class OutputFailed(ShellError):
    """Stdout cannot be written."""


class OutputClosed(OutputFailed):
    """Whoever read stdout no longer does; nothing to complain about."""
