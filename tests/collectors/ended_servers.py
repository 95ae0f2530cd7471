"""What a server that was ended in the middle of an answer leaves behind."""

import gc
import warnings


def forget_connections() -> None:
    """Collect its open connections now: their warnings belong to the test that ended it, not to a later one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
