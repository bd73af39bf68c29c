"""The operator as `komputer serve operator` runs it, with shorter pauses: `-m tests.contract.operator.serve`."""

import sys
from datetime import timedelta
from functools import partial
from unittest import mock

from komputer import operator
from komputer.cli.main import main

RETRY_EVERY = timedelta(seconds=1)

if __name__ == "__main__":
    sys.argv[:] = ["komputer", "serve", "operator"]
    settings = partial(operator.OperatorSettings, retry_every=RETRY_EVERY)
    with mock.patch.object(operator, "OperatorSettings", settings):
        main()
