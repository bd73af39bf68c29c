"""The handlers of requests, one file per subject. The rules for objects are in `objects`, not here."""
