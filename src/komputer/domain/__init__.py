"""The nouns: one module for each kind, and the pure decisions about them.

Here are the custom resources as Pydantic models, the names of everything that the platform labels or owns, the errors,
references (`ref.py`) and the decisions about tasks (`tasks.py`). Nothing here does input or output, so that every
program may import it, including the runtime inside an agent's pod. The CRD manifests in `crds/` are generated from the
models.
"""
