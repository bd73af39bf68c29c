"""Everything on one machine.

Here belongs what a cluster would bring and a laptop lacks: the Kubernetes API (`apiserver`), the kubelet, the start and
stop of the parts. Nothing outside this room knows that it exists; the seam is the Kubernetes API over HTTP.
"""
