"""Schema: the columns of flat rows as Apache Arrow has them; the one module of this package that needs pyarrow."""

from collections.abc import Mapping

import pyarrow


def schema(columns: Mapping[str, type]) -> pyarrow.Schema:
    """Return columns with their types, in their order.

    Args:
        columns: as ``manet.batch.records.Form`` has them.
    """
    kinds = {str: pyarrow.string(), int: pyarrow.int32(), float: pyarrow.float64()}
    return pyarrow.schema([(name, kinds[kind]) for name, kind in columns.items()])
