"""The `understudy` command, `python -m understudy`, and what torchrun starts."""

from understudy.base.memory import keep_memory
from understudy.cli import main as command


def main() -> None:
    keep_memory()
    command()


if __name__ == "__main__":
    main()
