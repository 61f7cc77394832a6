"""`python -m pyfront`."""

import os
import sys

if __name__ == "__main__":
    try:
        from pyfront.cli.main import main

        sys.exit(main())
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        # not sys.exit: where the interrupt has passed through an exec(), as inside an import, the
        # interpreter overrides the status and ends by the signal
        os._exit(130)
