"""The only door to the compiled core."""

import importlib.util
import sys
from pathlib import Path

if importlib.util.find_spec("pyfront.backend._core") is None:
    _folder = Path(__file__).parents[2]
    raise ImportError(
        f"pyfront in {_folder} is source, without a core compiled for "
        f"{sys.implementation.cache_tag}. If pyfront is installed, start Python in a folder that "
        f"does not hold this source. If not, build it: pip install {_folder}, or, to import it "
        f"from there, pip install --editable {_folder}"
    )
