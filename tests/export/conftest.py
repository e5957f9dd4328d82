"""The guards, as these tests need them."""

from tests.support.guards import handlers_may_write

__all__ = ["handlers_may_write"]
