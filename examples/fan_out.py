"""Ask several agents one question each, and print their answers together."""

from concurrent.futures import ThreadPoolExecutor

from shared import connect, result

QUESTIONS = {
    "critic-style": "Is the style clear?",
    "critic-facts": "Are the facts right?",
    "critic-length": "Is it short?",
}

with connect() as komputer, ThreadPoolExecutor() as pool:
    answers = {
        agent: pool.submit(result, komputer, agent, question, role="worker") for agent, question in QUESTIONS.items()
    }
    for agent, answer in answers.items():
        print(f"{agent}: {answer.result()}")
    for agent in QUESTIONS:
        komputer.delete_agent(agent)
