"""Schema: the columns of flat rows as Apache Arrow has them; the one module of this package that needs pyarrow."""

from collections.abc import Sequence

import pyarrow

from manet.bulk.records import columns
from manet.labels import Expression


def schema(classes: Sequence[Expression]) -> pyarrow.Schema:
    """Return the columns of ``manet.bulk.records.flat`` with their types, in their order."""
    kinds = {str: pyarrow.string(), int: pyarrow.int32(), float: pyarrow.float64()}
    return pyarrow.schema([(name, kinds[kind]) for name, kind in columns(classes).items()])
