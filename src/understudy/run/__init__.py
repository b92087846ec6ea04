"""A recipe in, a finished run directory out; and what can be done with a run afterwards.

    DIR/
      config.yaml    the complete recipe          run.json      versions, machine, seed, state
      steps/         what each durable step left  result.json   what the run showed, for programs
      student/       a Hugging Face folder        report.html   the same, for people

    claim.py     the folder is this recipe's, or the run is refused
    training.py  the run itself: teacher, baseline, student
    prove.py     what it showed
    finished.py  what can be done with it afterwards
"""

from understudy.run.finished import evaluate_folder, predict, verify, write_report
from understudy.run.training import search_worker, teach, train

__all__ = ["evaluate_folder", "predict", "search_worker", "teach", "train", "verify", "write_report"]
