"""`python -m understudy`, and what torchrun starts."""

from understudy.cli import main

if __name__ == "__main__":
    main()
