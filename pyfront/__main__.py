"""`python -m pyfront`."""

import sys

if __name__ == "__main__":
    try:
        from pyfront.demo import main

        sys.exit(main())
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)
