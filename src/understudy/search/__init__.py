"""Architecture search: which student meets the budgets and learns best, found by short trials.

    space.py        the legal architectures, listed one by one        costs.py     what one of them costs before it is trained
    reward.py       quality and latency in one number                 pareto.py    who counts, who is beaten by nobody
    engines.py      who is tried next: random, TPE, NSGA-II, LSTM      controller.py  the LSTM that predicts rewards
    study.py        the durable study: workers, claims, retries       warm_start.py   a student cut out of its teacher
"""
