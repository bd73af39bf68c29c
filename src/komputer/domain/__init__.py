"""The domain model: the custom resources, and the pure decisions about them.

It contains the custom resources as Pydantic models, the names of labels, annotations and child objects, the errors,
object references (`ref.py`) and the decisions about tasks (`tasks.py`). Nothing here does I/O, so every program may
import it, including the runtime inside an agent's pod. The CRD manifests in `crds/` are generated from the models.
"""
