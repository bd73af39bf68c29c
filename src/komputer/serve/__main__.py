import sys

from komputer.serve.main import main

sys.exit(main(sys.argv[1:]))
