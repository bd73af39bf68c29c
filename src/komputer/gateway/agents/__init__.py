"""The calls of runtimes: identifies the pod, answers its hello, sends assignments, and accepts its events."""
