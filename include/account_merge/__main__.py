"""`python -m account_merge`: the same operations without Airflow."""

import sys

from account_merge.cli.main import main

sys.exit(main())
