"""`python -m loadtest._capacity`: what each way of deploying holds on this machine."""

import sys

from ._command import main

sys.exit(main())
