import sys

from komputer.runtime.main import main

sys.exit(main())
