"""The wiring of the multi-scale block: which way its second cascade runs.

It stands apart from the network so that what describes weights can name it without loading PyTorch.
"""

from typing import Literal

Wiring = Literal["bidirectional", "unidirectional"]
"""Direction of the multi-scale block's second cascade.

``bidirectional`` is the authors' corrected code of 2023-04-15 and what the paper describes; ``unidirectional``
is their first release of 2021. Both have the same keys and give different numbers.
"""
