"""One file per noun; each has a `router`. Routes read the request, call the room's work and shape the answer."""
