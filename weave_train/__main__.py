"""`python -m weave_train`, also what torchrun and deepspeed start."""

from weave_train.cli import main

if __name__ == "__main__":
    main()
