"""One module for each kind of object, with its `router`. A route reads the request, calls a service and builds the
response."""
