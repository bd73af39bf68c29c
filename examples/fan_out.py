"""One question to several agents at once; their answers together."""

import os
from concurrent.futures import ThreadPoolExecutor

from komputer_ai.client import KomputerClient

QUESTIONS = {
    "critic-style": "Is the style clear?",
    "critic-facts": "Are the facts right?",
    "critic-length": "Is it short?",
}


def ask(komputer: KomputerClient, agent: str, question: str) -> str:
    komputer.create_agent(agent, question, role="worker")
    for event in komputer.watch_agent(agent):
        if event.type in ("task_completed", "task_cancelled", "error"):
            return event.payload.result or event.payload.error or event.payload.reason
    return "no answer"


with KomputerClient(os.environ.get("KOMPUTER_URL", "http://127.0.0.1:8080")) as komputer, ThreadPoolExecutor() as pool:
    answers = {agent: pool.submit(ask, komputer, agent, question) for agent, question in QUESTIONS.items()}
    for agent, answer in answers.items():
        print(f"{agent}: {answer.result()}")
    for agent in QUESTIONS:
        komputer.delete_agent(agent)
