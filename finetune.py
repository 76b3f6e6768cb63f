"""Finetuning: a pretrained run becomes a model that talks (jaxgpt/finetuning.py).

python finetune.py --config configs/oasst.py
"""

from jaxgpt.entry import main
from jaxgpt.finetuning import finetune

if __name__ == "__main__":
    main(finetune)
