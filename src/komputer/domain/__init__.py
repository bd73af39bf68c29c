"""The nouns: one file per kind, and the pure rules about them.

Here live the custom resources as pydantic models, the names of everything we label or own, our errors, what a pod and
the gateway say to each other, and options of the connections between parts. No input or output happens here: these
modules may be imported by every part, also by the runtime inside an agent's pod. The CRD manifests in `crds/` are
generated from these models.
"""
