"""The behaviour of the Kubernetes API that we rely on, one test for each, run against any server given by a kubeconfig.

`pytest tests/contract/kubernetes --kubeconfig FILE` tests that server; without the option the local API server is
started and tested. The real server is the reference (`make test-kubernetes`): a test that fails there is wrong, a test
that fails on the local server only has found a defect of it.

`cluster.py` speaks HTTP to the server, `widgets.py` defines the kinds of the tests, `kubectl.py` finds every kubectl of
this machine. No test may know which server it runs against, except for `conftest.py`, which starts one.
"""
