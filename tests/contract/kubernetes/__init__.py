"""What we rely on from the Kubernetes API, a test for each behaviour, run against any server given by a kubeconfig.

`pytest tests/contract/kubernetes --kubeconfig FILE` judges that server; without the option the local API server is
started and judged. The real one is the truth (`make test-kubernetes`): a test that fails there is wrong, a test that
fails only on the local one has found a fault of the local one.

`cluster.py` speaks to the server, `widgets.py` defines the kinds the tests use, `kubectl.py` finds every kubectl here.
Nothing in this folder may know which server it judges, except how `conftest.py` starts one.
"""
