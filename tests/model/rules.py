"""The rules that can be switched off, to see what each prevents."""

from typing import Final

RULES: Final = {
    "sticky": "wanted is spec.task until it has ended, whatever the manifest says; then the manifest's task, unless it "
    "has ended or spec.task.covers names its id",
    "create": "a creating POST writes spec.task too; the first manifestTask takes its id if covers is its digest",
    "test_mt": "the claim's JSON patch also tests status.manifestTask.id",
    "open": "busy also while the live hash shows an unended task; the end of another task leaves that hash alone",
    "guard": "the operator's status writes test what they were computed from",
    "memory": "status keeps the ids of several ended tasks, not of the last one only",
    "wait_start": "the prompt is given only after the log has accepted task_started",
    "exact": "the log takes events of the term it issued last, and of no other",
    "owe": "a runtime owes an end for each task of its ledger until the status accounts it, whoever ended it",
    "adopt": "hello names the log's open tasks; one that the ledger does not know is ended: workspace_lost",
    "fence": "a start and an operator's end carry a generation; the log refuses an older start than it has seen",
    "heard": "a completion says which message to its task was answered last; the log refuses it before a newer one was",
    "wanted": "a start is taken only while spec and status want its task; what an agent says of itself opens nothing",
    "silence": "a runtime that is silent loses its pod and the task is resumed; repeated silence ends it: runtime_lost",
    "alive": "silence counts only while a gateway is alive to hear",
    "uid": "a log belongs to one uid: a re-created agent begins anew, and the uid before it is dead",
}
